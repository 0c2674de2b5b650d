"""Files of OpenAI's API on record; their bytes lie in a folder or a bucket."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, update

from jobs.ledger.database.schema import openai_files
from jobs.ledger.openai.values import FilePurpose, NewFile, RemoteFile
from providers.types import clean


def add(tx: Connection, new: NewFile, now: float) -> RemoteFile:
    """Puts a file on record."""
    tx.execute(
        insert(openai_files).values(
            name=new.name,
            token_id=new.token_id,
            purpose=new.purpose.value,
            filename=clean(new.filename),
            bytes=new.bytes,
            place=new.place,
            parts=new.parts,
            expires_at=new.expires_at,
            created_at=now,
        )
    )
    return _as_file(tx.execute(select(openai_files).where(openai_files.c.name == new.name)).one())


def find(tx: Connection, name: str, of_token: int | None) -> RemoteFile | None:
    """A file that is there; `of_token`: as that token sees it."""
    wanted = select(openai_files).where(openai_files.c.name == name, openai_files.c.deleted_at.is_(None))
    row = tx.execute(wanted if of_token is None else wanted.where(openai_files.c.token_id == of_token)).first()
    return None if row is None else _as_file(row)


def page(
    tx: Connection,
    most: int,
    *,
    after: int | None,
    of_token: int | None,
    purpose: str | None = None,
    oldest_first: bool = False,
) -> list[RemoteFile]:
    """Files that are there, the newest first; `after`: those behind the one of that number."""
    files = openai_files.c
    wanted = select(openai_files).where(files.deleted_at.is_(None)).limit(most)
    wanted = wanted.order_by(files.id if oldest_first else files.id.desc())
    if after is not None:
        wanted = wanted.where(files.id > after if oldest_first else files.id < after)
    if of_token is not None:
        wanted = wanted.where(files.token_id == of_token)
    if purpose is not None:
        wanted = wanted.where(files.purpose == purpose)
    return [_as_file(row) for row in tx.execute(wanted)]


def delete(tx: Connection, name: str, now: float) -> None:
    """It is not there any more; whoever says so removes its bytes."""
    tx.execute(update(openai_files).where(openai_files.c.name == name).values(deleted_at=now))


def expired(tx: Connection, now: float, most: int) -> list[RemoteFile]:
    """Files whose time is over."""
    over = (openai_files.c.deleted_at.is_(None), openai_files.c.expires_at <= now)
    return [_as_file(row) for row in tx.execute(select(openai_files).where(*over).limit(most))]


def _as_file(row: Any) -> RemoteFile:
    return RemoteFile(
        id=row.id,
        name=row.name,
        token_id=row.token_id,
        purpose=FilePurpose(row.purpose),
        filename=row.filename,
        bytes=row.bytes,
        place=row.place,
        parts=row.parts,
        expires_at=row.expires_at,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
    )
