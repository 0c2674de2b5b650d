"""The one-time link that `serve` prints while no token is on record: by it, who sits at this machine opens the pages.

It is for a listener that only this machine reaches and that takes no callbacks. A look at the link uses nothing up
(chat programs and mail scanners look at links); the button on its page does. A token on record ends all of it.
"""

from __future__ import annotations

import hmac
import secrets
from threading import Lock

from pydantic import SecretStr

PATH = "/open"


class OneTimeLink:
    """A code that opens one session."""

    def __init__(self) -> None:
        self.id = secrets.token_urlsafe(8)  # by which the session knows who opened it: this process, by this link
        self.code = SecretStr(secrets.token_urlsafe(32))
        self._lock = Lock()
        self._used = False

    def path(self) -> str:
        """The link, without the server's address. Whoever has it opens the pages."""
        return f"{PATH}?code={self.code.get_secret_value()}"

    @property
    def is_used(self) -> bool:
        """Whether it opens nothing any more."""
        return self._used

    def use(self, code: str) -> bool:
        """Whether this is the code, and nobody was before."""
        with self._lock:
            if self._used or not hmac.compare_digest(code.encode(), self.code.get_secret_value().encode()):
                return False
            self._used = True
            return True
