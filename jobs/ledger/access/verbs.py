"""The ledger's verbs on who may do what. Each is one transaction."""

from __future__ import annotations

import hashlib
import hmac

from jobs.ledger.access import answers, holds, log, log_outs, tokens
from jobs.ledger.access.values import KeptAnswer, LogEntry, NewLogEntry, NewToken, Token
from jobs.ledger.accounts.daily_budgets import day_of
from jobs.ledger.database.engine import Database
from jobs.policy.access import VISIBLE, is_same, is_token


class AccessVerbs:
    """`ledger.access`: tokens, what they hold of their days, and who did what."""

    def __init__(self, database: Database, secret: str) -> None:
        self._database = database
        self._secret = secret

    def signing_key(self, purpose: str) -> bytes:
        """A key that every process of this ledger has, and nobody else; each purpose has its own."""
        return hmac.new(self._secret.encode(), purpose.encode(), hashlib.sha256).digest()

    def add(self, new: NewToken, now: float) -> bool:
        """Puts a token on record; False: there is, or was, one of that name."""
        return self._database.write(tokens.add, new, now)

    def all(self) -> list[Token]:
        """Every token, revoked ones too, by name."""
        return self._database.read(tokens.every)

    def revoke(self, name: str, now: float) -> Token | None:
        """When it returns, the token opens nothing any more. None: there is none of that name."""
        return self._database.write(tokens.revoke, name, now)

    def holder(self, secret: str) -> Token | None:
        """Whose token a text is; None: nobody's, or revoked. Read anew each time, so a revocation holds at once."""
        if not is_token(secret):
            return None
        found = self._database.read(tokens.find_by_prefix, secret[:VISIBLE])
        is_known = is_same(secret, found.digest if found else None)
        return found if found is not None and is_known and found.revoked_at is None else None

    def holder_of(self, token_id: int) -> Token | None:
        """The token of that id; None: there is none, or it is revoked. Read anew each time, as by `holder`."""
        found = self._database.read(tokens.find_by_id, token_id)
        return found if found is not None and found.revoked_at is None else None

    def is_any(self) -> bool:
        """Whether a token is on record, revoked or not."""
        return self._database.read(tokens.is_any)

    def end_session(self, session_id: str, now: float, kept: float) -> None:
        """A browser's session is over. `kept`: seconds for which that is remembered."""
        self._database.write(log_outs.end, session_id, now, kept)

    def is_ended(self, session_id: str) -> bool:
        """Whether a browser's session was ended by a log-out, at any process."""
        return self._database.read(log_outs.is_ended, session_id)

    def note_use(self, token: Token, now: float) -> None:
        """When it was last used, give or take a minute. Writes."""
        self._database.write(tokens.note_use, token.id, now)

    def held_today(self, token: Token, now: float) -> int:
        """Micro-dollars that its batches hold of this UTC day."""
        return self._database.read(holds.held, token.id, day_of(now))

    def note(self, entry: NewLogEntry, now: float) -> None:
        """Puts an action on record."""
        self._database.write(log.note, entry, now)

    def log(self, most: int, before: int | None = None) -> list[LogEntry]:
        """Who did what, the newest first; `before`: older than the entry of that id."""
        return self._database.read(log.newest, most, before)

    def answer_to(self, token: Token, key: str) -> KeptAnswer | None:
        """What the request with this Idempotency-Key was answered; None: there was none."""
        return self._database.read(answers.find, token.id, key)

    def keep_answer(self, token: Token, key: str, answer: KeptAnswer, now: float) -> None:
        """A request with this Idempotency-Key that comes again is answered so; the first answer stays."""
        self._database.write(answers.keep, token.id, key, answer, now)
