"""Tokens on record. A revoked one stays, since the log names it; its name is not used again."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, bindparam, exists, insert, or_, select, update

from jobs.ledger.access.values import NOTED_EVERY, NewToken, Token
from jobs.ledger.database.schema import access_tokens
from jobs.ledger.database.statements import fetch_first
from jobs.policy.access import Role


def add(tx: Connection, new: NewToken, now: float) -> bool:
    """Puts a token on record; False: there is, or was, one of that name."""
    if tx.execute(select(exists().where(access_tokens.c.name == new.name))).scalar():
        return False
    tx.execute(
        insert(access_tokens).values(
            name=new.name,
            role=new.role.value,
            prefix=new.prefix,
            digest=new.digest,
            daily_budget=new.daily_budget,
            writes_to=new.writes_to,
            reads=json.dumps(new.reads),
            created_at=now,
        )
    )
    return True


def find_by_prefix(tx: Connection, prefix: str) -> Token | None:
    """The token that begins so, revoked or not."""
    row = fetch_first(tx, _BY_PREFIX, {"begins": prefix})
    return None if row is None else _as_token(row)


_BY_PREFIX = select(access_tokens).where(access_tokens.c.prefix == bindparam("begins"))


def find_by_id(tx: Connection, token_id: int) -> Token | None:
    """The token of that id, revoked or not."""
    row = fetch_first(tx, _BY_ID, {"of_token": token_id})
    return None if row is None else _as_token(row)


_BY_ID = select(access_tokens).where(access_tokens.c.id == bindparam("of_token"))


def is_any(tx: Connection) -> bool:
    """Whether there is one, revoked or not."""
    return bool(tx.execute(_IS_ANY).scalar())


_IS_ANY = select(exists(select(access_tokens.c.id)))


def every(tx: Connection) -> list[Token]:
    """All of them, by name."""
    return [_as_token(row) for row in tx.execute(select(access_tokens).order_by(access_tokens.c.name))]


def revoke(tx: Connection, name: str, now: float) -> Token | None:
    """From the commit of this transaction on it opens nothing; the token, or None where there is none of that name."""
    mine = access_tokens.c.name == name
    tx.execute(update(access_tokens).where(mine, access_tokens.c.revoked_at.is_(None)).values(revoked_at=now))
    row = tx.execute(select(access_tokens).where(mine)).first()
    return None if row is None else _as_token(row)


def note_use(tx: Connection, token_id: int, now: float) -> None:
    """When it was last used, give or take a minute."""
    lately = or_(access_tokens.c.used_at.is_(None), access_tokens.c.used_at < now - NOTED_EVERY)
    tx.execute(update(access_tokens).where(access_tokens.c.id == token_id, lately).values(used_at=now))


def _as_token(row: Any) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        prefix=row.prefix,
        digest=row.digest,
        daily_budget=row.daily_budget,
        writes_to=row.writes_to,
        reads=tuple(json.loads(row.reads)),
        created_at=row.created_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )
