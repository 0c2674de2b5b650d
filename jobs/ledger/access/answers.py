"""Answers to requests with an Idempotency-Key: the same request gets the same answer, and does nothing again."""

from __future__ import annotations

from sqlalchemy import Connection, delete, exists, insert, select

from jobs.ledger.access.values import KeptAnswer
from jobs.ledger.database.schema import kept_answers
from providers.types import clean

#: Seconds for which an answer is kept.
KEPT = 7 * 86_400.0


def find(tx: Connection, token_id: int, key: str) -> KeptAnswer | None:
    """What the request with this key was answered."""
    mine = (kept_answers.c.token_id == token_id, kept_answers.c.key == clean(key))
    row = tx.execute(select(kept_answers).where(*mine)).first()
    return None if row is None else KeptAnswer(fingerprint=row.fingerprint, status=row.status, body=row.body)


def keep(tx: Connection, token_id: int, key: str, answer: KeptAnswer, now: float) -> None:
    """Keeps an answer, unless there is one, and lets go of the oldest."""
    tx.execute(delete(kept_answers).where(kept_answers.c.created_at < now - KEPT))
    there = (kept_answers.c.token_id == token_id, kept_answers.c.key == clean(key))
    if not tx.execute(select(exists().where(*there))).scalar():
        values = {"fingerprint": answer.fingerprint, "status": answer.status, "body": answer.body, "created_at": now}
        tx.execute(insert(kept_answers).values(token_id=token_id, key=clean(key), **values))
