"""Sessions of people at a browser: a signed cookie that names the token, never the token itself.

The cookie is signed with a key that follows from the ledger's secret, so each process of a cluster takes it. It says
whose token it is; whether that token still opens anything is looked up at each request. A session ends `IDLE` seconds
after its last page, `LONGEST` seconds after the log-in, when its token is revoked, and at the log-out, which is on
record: a cookie that somebody copied opens nothing any more, at any process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import Response
from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer
from starlette.requests import HTTPConnection

from jobs.ledger import Ledger

#: Seconds without a page after which a session ends, and after which it ends in any case.
IDLE, LONGEST = 12 * 3600, 7 * 24 * 3600
#: Seconds after which the cookie of a session in use is written anew.
RENEWED_EVERY = 300
PURPOSE = "sessions of browsers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What the cookie says."""

    id: str  # random; another one from the log-in on, so that nobody can give a visitor a session he knows
    began_at: float
    token_id: int | None = None  # None: nobody is logged in, or by the one-time link
    opened_by: str | None = None  # which one-time link opened it


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSession:
    """A session that a browser has, and when its cookie was written."""

    session: Session
    written_at: float


class Sessions:
    """Reads and writes the cookie. Safe to call from any thread."""

    def __init__(self, ledger: Callable[[], Ledger], clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._clock = ledger, clock
        self._signed: tuple[bytes, URLSafeTimedSerializer] | None = None

    def begin(self, *, token_id: int | None = None, opened_by: str | None = None) -> Session:
        """A new session, with an id that nobody has seen."""
        return Session(id=secrets.token_urlsafe(16), began_at=self._clock(), token_id=token_id, opened_by=opened_by)

    def read(self, request: HTTPConnection) -> ReadSession | None:
        """The session of a request; None: it has none, or a forged one, or one that is over. Asks the ledger."""
        cookie = request.cookies.get(self._name(request))
        if cookie is None:
            return None
        try:
            said, written = self._serializer().loads(cookie, max_age=IDLE, return_timestamp=True)
            session = Session(**said)
        except (BadData, TypeError):
            return None
        if self._clock() - session.began_at > LONGEST or self._ledger().access.is_ended(session.id):
            return None
        return ReadSession(session=session, written_at=written.timestamp())

    def write(self, request: HTTPConnection, response: Response, session: Session) -> None:
        """Gives the browser its cookie."""
        signed = self._serializer().dumps(asdict(session))
        response.set_cookie(self._name(request), str(signed), **_attributes(request))

    def renew(self, request: HTTPConnection, response: Response, read: ReadSession) -> None:
        """Writes the cookie of a session in use anew, now and then."""
        if self._clock() - read.written_at > RENEWED_EVERY:
            self.write(request, response, read.session)

    def end(self, request: HTTPConnection, response: Response, session: Session) -> None:
        """The session opens nothing any more. Asks the ledger."""
        self._ledger().access.end_session(session.id, self._clock(), LONGEST)
        response.delete_cookie(self._name(request), **_attributes(request))

    def form_token(self, session: Session) -> str:
        """What each form of a session's pages carries: other sites cannot know it."""
        return hmac.new(self._key(), f"form {session.id}".encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, session: Session, text: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(self.form_token(session).encode(), text.encode("utf-8", "replace"))

    def _name(self, request: HTTPConnection) -> str:
        """Browsers share cookies among the ports of a host: two ledgers on one machine need two names."""
        name = f"lightfast_{self._ledger().ledger_id[:8]}"
        return f"__Host-{name}" if is_secure(request) else name

    def _key(self) -> bytes:
        return self._ledger().access.signing_key(PURPOSE)

    def _serializer(self) -> URLSafeTimedSerializer:
        key = self._key()
        if self._signed is None or self._signed[0] != key:
            self._signed = (key, _serializer(key, self._clock))
        return self._signed[1]


def _serializer(key: bytes, clock: Callable[[], float]) -> URLSafeTimedSerializer:
    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(clock())

    return URLSafeTimedSerializer(key, salt=b"session", signer=Signer, signer_kwargs={"digest_method": hashlib.sha256})


def is_secure(request: HTTPConnection) -> bool:
    """Whether the browser speaks TLS with us, or with a proxy that we were told to trust."""
    return str(request.scope["scheme"]) == "https"  # `request.url` would be put together for each request


def _attributes(request: HTTPConnection) -> dict[str, Any]:
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": is_secure(request)}
