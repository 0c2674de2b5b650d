"""The ledger's verbs on files and batches of OpenAI's API. Each is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jobs.ledger.database.engine import Database
from jobs.ledger.openai import batches, files
from jobs.ledger.openai.values import (
    LineError,
    NewFile,
    NewRemoteBatch,
    RemoteBatch,
    RemoteEnding,
    RemoteFile,
    RemoteState,
)


class OpenAIFileVerbs:
    """`ledger.openai_files`: what programs have sent, and what batches have written for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: NewFile, now: float) -> RemoteFile:
        """Puts a file on record."""
        return self._database.write(files.add, new, now)

    def find(self, name: str, of_token: int | None = None) -> RemoteFile | None:
        """A file that is there; `of_token`: as that token sees it."""
        return self._database.read(files.find, name, of_token)

    def page(
        self,
        most: int,
        *,
        after: int | None = None,
        of_token: int | None = None,
        purpose: str | None = None,
        oldest_first: bool = False,
    ) -> list[RemoteFile]:
        """Files that are there, the newest first; `after`: those behind the one of that number."""
        read = self._database.read
        return read(files.page, most, after=after, of_token=of_token, purpose=purpose, oldest_first=oldest_first)

    def delete(self, name: str, now: float) -> None:
        """It is not there any more; whoever says so removes its bytes."""
        self._database.write(files.delete, name, now)

    def expired(self, now: float, most: int) -> list[RemoteFile]:
        """Files whose time is over."""
        return self._database.read(files.expired, now, most)


class OpenAIBatchVerbs:
    """`ledger.openai_batches`: what was asked for by OpenAI's API, and how it went."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, new: NewRemoteBatch, now: float) -> RemoteBatch:
        """Puts what is asked for on record; the batch there is, where the same was asked for before."""
        return self._database.write(batches.ask, new, now)

    def find(self, name: str, of_token: int | None = None) -> RemoteBatch | None:
        """A batch by its name; `of_token`: as that token sees it."""
        return self._database.read(batches.find, name, of_token)

    def same(self, token_id: int, fingerprint: str) -> RemoteBatch | None:
        """The batch that such a request of the token is answered with."""
        return self._database.read(batches.same, token_id, fingerprint)

    def page(self, most: int, *, after: int | None = None, of_token: int | None = None) -> list[RemoteBatch]:
        """The newest first; `after`: those that are older than the one of that number."""
        return self._database.read(batches.page, most, after=after, of_token=of_token)

    def due(self, now: float, most: int, besides: Collection[int] = ()) -> list[RemoteBatch]:
        """Batches that somebody has to do something for, and that nobody is at; not of these tokens."""
        return self._database.read(batches.due, now, most, besides)

    def taken(self) -> list[RemoteBatch]:
        """Batches that are not over, and that a process is at, or was."""
        return self._database.read(batches.taken)

    def in_progress(self) -> list[RemoteBatch]:
        """Batches of which something is still to be sent or on its way."""
        return self._database.read(batches.in_progress)

    def take(self, number: int, holder: str, now: float, until: float) -> RemoteBatch | None:
        """The batch is the holder's until then; None: it is over, or somebody is at it."""
        return self._database.write(batches.take, number, holder, now, until)

    def keep(self, number: int, holder: str, until: float) -> bool:
        """The holder goes on; False: it is somebody else's by now, or was cancelled before it was on record."""
        return self._database.write(batches.keep, number, holder, until)

    def leave(self, number: int, holder: str, until: float, *, failed: bool = False) -> None:
        """The holder is done with it for now; nobody takes it before `until`. `failed`: it is to be tried again."""
        self._database.write(batches.leave, number, holder, until, failed=failed)

    def fail(self, number: int, errors: Sequence[LineError], now: float) -> None:
        """Nothing is made of it, and why."""
        self._database.write(batches.fail, number, errors, now)

    def cancel(self, number: int, now: float) -> None:
        """Nothing new is sent for it; the caller cancels our batch. What is not on record yet ends here."""
        self._database.write(batches.cancel, number, now)

    def end(self, number: int, state: RemoteState, now: float) -> None:
        """It ends as `state` when nothing is on its way any more."""
        self._database.write(batches.end, number, state, now)

    def is_going_on(self, number: int) -> bool:
        """Whether something of its batch may still be sent by itself, or is on its way."""
        return self._database.read(batches.is_going_on, number)

    def finish(self, number: int, holder: str, ending: RemoteEnding, now: float) -> bool:
        """Its files are written, and it is over. False: somebody else was at it."""
        return self._database.write(batches.finish, number, holder, ending, now)
