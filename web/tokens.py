"""Who asks: the token of a request, looked up anew each time, so that a revocation holds at once.

Wrong tokens are answered late, and few of them at a time: nobody guesses 32 random bytes, and nobody keeps the ledger
busy by trying. Right ones are neither delayed nor counted, so nobody is locked out by what others try.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import HTTPException, Request

from jobs.ledger import Ledger
from jobs.ledger.access.values import Token
from jobs.policy.access import Role, is_token

#: Seconds until a wrong token is answered, and how many wait for that at most; more are turned away at once.
WRONG_AFTER = 1.0
WRONG_AT_ONCE = 20
#: Seconds that a look into the ledger may take.
PATIENCE = 5.0
#: Of the ledger's connections, those that look tokens up.
LOOKERS = 2

UNAUTHORIZED, FORBIDDEN, TOO_MANY, AWAY = 401, 403, 429, 503
_SCHEME = "Bearer"
T = TypeVar("T")


class TokenCheck:
    """Whose token a request has; belongs to one event loop."""

    def __init__(self, ledger: Callable[[], Ledger], clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._clock = ledger, clock
        self._threads = ThreadPoolExecutor(LOOKERS, thread_name_prefix="tokens")
        self._notes = ThreadPoolExecutor(1, thread_name_prefix="token-uses")
        self._noting: set[int] = set()
        self._wrong = 0  # requests with wrong tokens that wait for their answer

    async def holder(self, request: Request, *roles: Role) -> Token:
        """The token of a request that is for these roles.

        Raises:
            HTTPException: It has none (401), a wrong or revoked one (401, or 429 where many try), one of another role
                (403), or the ledger does not answer (503).
        """
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != _SCHEME.lower() or not text:
            raise _refused("this needs a token: Authorization: Bearer lf_…")
        token = await self.named(text.strip())
        if token.role not in roles:
            raise HTTPException(FORBIDDEN, f"this is not for a {token.role.value}'s token")
        return token

    async def named(self, text: str) -> Token:
        """Whose token a text is.

        Raises:
            HTTPException: Nobody's, or a revoked one (401, or 429 where many try), or the ledger does not answer (503).
        """
        token = await self.ask(self._look, text) if is_token(text) else None  # else without a look into the ledger
        if token is None:
            await self.make_wait()
            raise _refused("this token is wrong, or revoked")
        return token

    async def ask(self, look: Callable[..., T], *about: object) -> T:
        """The answer to a short question to the ledger.

        Raises:
            HTTPException: It does not answer (503).
        """
        looking = asyncio.get_running_loop().run_in_executor(self._threads, look, *about)
        try:
            return await asyncio.wait_for(asyncio.shield(looking), PATIENCE)
        except Exception as error:  # whatever the database does; strangers are not told
            raise HTTPException(AWAY, "the ledger does not answer") from error

    def of_id(self, token_id: int) -> Token | None:
        """The token of that id, as long as it is not revoked. Blocks: to be called by `ask`."""
        return self._used(self._ledger().access.holder_of(token_id))

    def _look(self, text: str) -> Token | None:
        return self._used(self._ledger().access.holder(text))

    def _used(self, token: Token | None) -> Token | None:
        """Has its use noted, by a thread that nobody waits for: a ledger that takes no writes now can be read."""
        if token is not None and not token.is_use_noted(self._clock()) and token.id not in self._noting:
            self._noting.add(token.id)
            self._notes.submit(self._note, token)
        return token

    def _note(self, token: Token) -> None:
        with contextlib.suppress(Exception):  # whatever the database does: the next use is noted
            self._ledger().access.note_use(token, self._clock())
        self._noting.discard(token.id)

    async def make_wait(self) -> None:
        """Keeps somebody waiting who named a wrong secret.

        Raises:
            HTTPException: Many wait already (429).
        """
        if self._wrong >= WRONG_AT_ONCE:
            raise HTTPException(TOO_MANY, "too many wrong tokens", headers={"Retry-After": "5"})
        self._wrong += 1
        try:
            await _wait(WRONG_AFTER)
        finally:
            self._wrong -= 1

    def close(self) -> None:
        """Looks nothing up any more."""
        for each in (self._threads, self._notes):
            each.shutdown(wait=False, cancel_futures=True)


async def _wait(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _refused(why: str) -> HTTPException:
    return HTTPException(UNAUTHORIZED, why, headers={"WWW-Authenticate": _SCHEME})
