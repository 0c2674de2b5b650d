"""What every report does: open the ledger that is there, find the batch, and print a page or a document."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cli.flow.settings import NOWHERE, SCHEMA, _standin, read_settings, sandbox_mark
from cli.output import terminal
from jobs.errors import BadInput
from jobs.formatting import day_and_minute, plain
from jobs.results.sentences import STAND_IN

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.archived import Archive
    from jobs.settings.model import Settings


class LedgerSession(NamedTuple):
    """What a report reads from."""

    ledger: Ledger
    settings: Settings


@contextmanager
def open_session(config: Path | None, *, sandbox: bool, works: bool = False) -> Iterator[LedgerSession]:
    """The ledger of these settings; it is not created. `works`: with --sandbox the stand-in runs meanwhile."""
    if works:
        from cli.flow.environment import settings_for

        with settings_for(config, sandbox=sandbox) as settings, session_of(settings) as session:
            yield session
        return
    with session_of(read_settings(config, sandbox_url=NOWHERE if sandbox else None)) as session:
        yield session


@contextmanager
def session_of(settings: Settings) -> Iterator[LedgerSession]:
    """The same, for settings that are read already."""
    from jobs.ledger import open_ledger

    path = settings.database_path
    if path is not None and not path.exists():
        hint = _of_the_demo(path) if settings.is_sandbox else " A ledger of the stand-in is read with --sandbox."
        raise BadInput(
            f"There is no ledger at {path}: no batch was run or submitted, and no schedule added, from here.{hint}"
        )
    ledger = open_ledger(settings.database_url)
    ledger.reports.archives = _opened_archive
    try:
        yield LedgerSession(ledger, settings)
    finally:
        ledger.close()


@contextmanager
def opened_or_made(settings: Settings) -> Iterator[LedgerSession]:
    """The ledger; made where there is none, by what may come before the first batch."""
    from jobs.ledger import open_ledger

    with closing(open_ledger(settings.database_url)) as ledger:
        yield LedgerSession(ledger, settings)


def now_of(session: LedgerSession) -> float:
    """Seconds since 1970 by the ledger's clock."""
    return time.time() + session.ledger.clock_offset()


def put_on_log(
    session: LedgerSession, action: str, subject: str | None = None, detail: Mapping[str, object] | None = None
) -> None:
    """Puts what was done here beside what was done by tokens: `lightfast token log`. By the API's names for actions."""
    from jobs.ledger.access.values import NewLogEntry
    from worker.runtime.who import who

    entry = NewLogEntry(who=who(), action=action, subject=subject, detail=detail)
    session.ledger.access.note(entry, now_of(session))


def _opened_archive(address: str) -> Archive:
    from worker.archives.reading import ArchiveReader

    return ArchiveReader(address)


def bring_back(ledger: Ledger, batch: Batch) -> None:
    """Brings the rows of an archived batch back into the ledger, and says so; nothing where they are there."""
    if batch.archive is None:
        return
    from worker.archives.restore import bring_back as restore

    note(f"{batch.name} was archived {day_and_minute(batch.archived_at or 0.0)}: its rows are brought back first …")
    restore(ledger, batch.name)


def _of_the_demo(path: Path) -> str:
    folder = path.parent / "demo-output"
    return f" The demo's is in {folder.name}: cd {folder.name} first." if (folder / path.name).exists() else ""


def find_batch(ledger: Ledger, name: str) -> Batch:
    """The batch of this name; near misses are named."""
    from jobs.results.rows import near

    batch = ledger.batches.find(name)
    if batch is None:
        names = [known.name for known in ledger.batches.all()]
        raise BadInput(f"There is no batch {name!r} in this ledger. {near(name, names)}")
    return batch


#: Keys looked through for near misses.
KEYS_LOOKED_AT = 10_000


def demand_key(ledger: Ledger, batches: Sequence[str], key: str) -> None:
    """Raises `BadInput` if none of these batches has a row with this key; names similar keys."""
    from jobs.results.rows import near

    if any(ledger.reports.story(batch, key) for batch in batches):
        return
    keys: list[str] = []
    for result in chain.from_iterable(map(ledger.reports.results, batches)):
        if result.key == key:
            return
        keys += [result.key] * (len(keys) < KEYS_LOOKED_AT)
    where = f"batch {batches[0]}" if len(batches) == 1 else "this ledger"
    raise BadInput(f"There is no key {key!r} in {where}. {near(key, keys)}")


def show(lines: Iterable[tuple[str, str]], *, sandbox: bool = False, stderr: bool = False) -> None:
    """Prints lines with a style each ("" for none), on stdout unless told; styles are seen at a terminal only."""
    from rich.console import Console
    from rich.text import Text

    class Calm(Console):
        def on_broken_pipe(self) -> None:
            """Keeps the command's exit code; rich would end the process with 1."""
            let_go_of_stdout()

    terminal.end_tally()
    console = Calm(highlight=False, stderr=stderr)
    width = terminal.width_of(sys.stderr if stderr else sys.stdout)
    if sandbox:
        console.print(Text(STAND_IN, style="black on yellow"))
    for line, style in lines:
        for each in terminal.fitted(plain(line), width):
            console.print(Text(each, style=style), soft_wrap=True)


def let_go_of_stdout() -> None:
    """Sends further output to nowhere: a reader that stops early (`| head`) is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_json(document: Mapping[str, object]) -> None:
    """Prints one document on stdout; it says `sandbox` as the screens do."""
    import orjson

    head = {"schema": SCHEMA, "sandbox": _standin.get()}
    text = orjson.dumps({**head, **document}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    terminal.end_tally()
    sys.stdout.write(plain(text.decode()) if sys.stdout.isatty() else text.decode())


def note(text: str) -> None:
    """Writes a line to stderr, so that stdout holds data only."""
    terminal.put(sandbox_mark() + text)
