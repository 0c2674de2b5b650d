"""Hints from callbacks: somebody says that an attempt has a provider task. A hint changes nothing by itself.

The callback's address carries the attempt's number and a signature, so a forged one is turned away without looking
anything up, and an attempt remembers a few hints at most: callbacks cannot make the ledger grow.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from jobs.ledger.claims.values import DueHint
from jobs.ledger.database.schema import accounts, attempts, hints, jobs
from providers.types import Request, clean

#: Different provider tasks that callbacks may name for one attempt before the rest is ignored.
MOST_HINTS = 3
#: Seconds before a hint is looked into: mostly the submit's own answer has named the task by then.
PATIENCE = 2.0
#: Looks after which a hint that nobody confirmed is looked into no more.
MOST_LOOKS = 8
_LONGEST_TASK_ID = 200
#: Seconds for which it is not noted again that callbacks come through.
CALLED_EVERY = 60.0


def token(secret: str, attempt_id: int) -> str:
    """What an attempt's callback address ends with; nobody else can make it."""
    signed = hmac.new(secret.encode(), str(attempt_id).encode(), hashlib.sha256).digest()[:18]
    return f"{attempt_id}.{base64.urlsafe_b64encode(signed).decode()}"


def attempt_of(secret: str, given: str) -> int | None:
    """The attempt a token was made for; None where it was not made by us."""
    number = given.partition(".")[0]
    if not number.isascii() or not number.isdigit() or len(number) > 19:  # noqa: PLR2004  digits of a BIGINT
        return None
    genuine = hmac.compare_digest(token(secret, int(number)).encode(), given.encode("utf-8", "replace"))
    return int(number) if genuine else None


def hear_all(tx: Connection, heard: Sequence[tuple[int, str]], now: float) -> set[str]:
    """Keeps hints, (attempt, task id) each; the lanes that have something to do now."""
    named = select(attempts.c.account_id).where(attempts.c.id.in_({number for number, _ in heard}))
    # Their accounts first, as everybody locks them: else a group of facts and a group of hints wait for each other.
    tx.execute(
        select(accounts.c.id).where(accounts.c.id.in_(named)).order_by(accounts.c.id).with_for_update(key_share=True)
    )
    lanes = (hear(tx, attempt_id, task_id, now) for attempt_id, task_id in heard)
    return {lane for lane in lanes if lane is not None}


def hear(tx: Connection, attempt_id: int, task_id: str, now: float) -> str | None:
    """Keeps a hint; the lane that has something to do now, or None."""
    if not task_id or len(task_id) > _LONGEST_TASK_ID or clean(task_id) != task_id:
        return None
    joined = attempts.join(accounts, accounts.c.id == attempts.c.account_id)
    found = (
        select(attempts, accounts.c.name, accounts.c.called_back_at)
        .select_from(joined)
        .where(attempts.c.id == attempt_id)
    )
    row = tx.execute(found).first()
    if row is None:
        return None
    if row.task_id == task_id:
        _note_call(tx, row, now)
    is_news = _ask_now(tx, row.id, now) if row.task_id == task_id else _keep(tx, row, task_id, now)
    return f"poll:{row.name}" if is_news else None


def _note_call(tx: Connection, row: Any, now: float) -> None:
    """Callbacks come through: polls may be few. Rarely written, for claims wait for the account's row."""
    if now - (row.called_back_at or 0.0) > CALLED_EVERY:
        tx.execute(update(accounts).where(accounts.c.id == row.account_id).values(called_back_at=now))


def called_back(tx: Connection, since: float) -> set[str]:
    """Accounts that were called back since then."""
    return set(tx.execute(select(accounts.c.name).where(accounts.c.called_back_at >= since)).scalars())


def _ask_now(tx: Connection, attempt_id: int, now: float) -> bool:
    """The task we know of has something to tell: its next poll is due."""
    later = (attempts.c.id == attempt_id, attempts.c.next_poll_at > now)
    return tx.execute(update(attempts).where(*later).values(next_poll_at=now, hinted_at=now)).rowcount > 0


def _keep(tx: Connection, row: Any, task_id: str, now: float) -> bool:
    mine = select(hints.c.task_id).where(hints.c.attempt_id == row.id)
    heard = set(tx.execute(mine).scalars())
    if task_id in heard or len(heard) >= MOST_HINTS or _is_known(tx, row.account_id, task_id):
        return False
    values = {"attempt_id": row.id, "task_id": task_id, "account_id": row.account_id}
    tx.execute(insert(hints).values(**values, heard_at=now, next_look_at=now + PATIENCE))
    return True


def _is_known(tx: Connection, account_id: int, task_id: str) -> bool:
    mine = (attempts.c.account_id == account_id, attempts.c.task_id == task_id)
    return tx.execute(select(attempts.c.id).where(*mine).limit(1)).first() is not None


def claim(tx: Connection, account: str, now: float, *, lease: float, at_most: int) -> list[DueHint]:
    """Hints of an account to be looked into now. Where the submit itself has named the task since, a poll is due."""
    joined = (
        hints.join(attempts, attempts.c.id == hints.c.attempt_id)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .join(accounts, accounts.c.id == hints.c.account_id)
    )
    named = (hints.c.task_id.label("hinted"), hints.c.looks, jobs.c.request, attempts)
    overtaken = attempts.c.task_id == hints.c.task_id
    due = (
        select(*named).select_from(joined).where(accounts.c.name == account, (hints.c.next_look_at <= now) | overtaken)
    )
    rows = tx.execute(due.order_by(hints.c.next_look_at).limit(at_most)).all()
    return [_due(row, account) for row in rows if _is_to_be_looked_into(tx, row, now, lease)]


def _is_to_be_looked_into(tx: Connection, row: Any, now: float, lease: float) -> bool:
    if row.task_id == row.hinted:
        _ask_now(tx, row.id, now)
    if _is_known(tx, row.account_id, row.hinted):
        drop(tx, [(row.id, row.hinted)])
        return False
    is_old = row.looks >= MOST_LOOKS
    mine = (hints.c.attempt_id == row.id, hints.c.task_id == row.hinted)
    next_look_at = math.inf if is_old else now + lease * 2.0**row.looks
    tx.execute(update(hints).where(*mine).values(next_look_at=next_look_at, looks=hints.c.looks + 1))
    return not is_old


def _due(row: Any, account: str) -> DueHint:
    return DueHint(
        attempt_id=row.id,
        account=account,
        task_id=row.hinted,
        provider_model=row.provider_model,
        request=Request.from_json(row.request),
        n=row.n,
        intended_at=row.created_at,
        price=row.price,
    )


def drop(tx: Connection, settled: Sequence[tuple[int, str]]) -> None:
    """Hints that came true."""
    for attempt_id, task_id in settled:
        tx.execute(delete(hints).where(hints.c.attempt_id == attempt_id, hints.c.task_id == task_id))


def refute(tx: Connection, settled: Sequence[tuple[int, str]]) -> None:
    """Hints that turned out wrong: they stay, as some of the few that their attempts may have."""
    for attempt_id, task_id in settled:
        mine = (hints.c.attempt_id == attempt_id, hints.c.task_id == task_id)
        tx.execute(update(hints).where(*mine).values(next_look_at=math.inf))


def waiting(tx: Connection) -> int:
    """Hints that nobody has looked into yet."""
    return tx.execute(select(func.count()).where(hints.c.next_look_at < math.inf)).scalar_one()
