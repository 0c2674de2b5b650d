"""Writes the contact sheet of a batch, with addresses that the pictures are found at."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from cli.flow.outputs import (
    LONGEST_PRESIGN,
    OutputOptions,
    Written,
    address_of,
    is_folder,
    opened,
    presigned,
    target_of,
)
from cli.flow.session import LedgerSession, note
from jobs.errors import LightfastError
from jobs.results import contact_sheet
from jobs.results.rows import Address, bare_address, image_values, plain_address, row_values, slots_of, words_of
from jobs.states import JobState

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Result


def write_sheet(session: LedgerSession, batch: Batch, wish: OutputOptions) -> Written:
    """Writes the sheet: one page, or several beside each other when the batch is long."""
    where = target_of(wish, "index.html")
    head = _head(session, batch)
    address, notes = _pictures(session, batch, wish, where)
    for text in notes:
        note(f"note: {text}")
    wanted = _wanted(session.ledger.reports.results(batch.name), wish)
    unseen: frozenset[JobState] = frozenset() if wish.only else contact_sheet.UNSEEN
    cards = contact_sheet.cards(wanted, address, batch.name, unseen=unseen, sandbox=batch.sandbox)
    lines, files = 0, []
    # Stdout is one stream, so it is one page.
    for name, page in contact_sheet.pages(
        cards, where or "index.html", size=contact_sheet.CARDS_A_PAGE if where else None
    ):
        target = _beside(where, name)
        with opened(target, wish.format, overwrite=wish.overwrite) as file:
            file.writelines(piece.encode("utf-8", "replace") for piece in contact_sheet.html(head, page))
        lines += len(page.cards)
        files += [target] if target else []
    return Written(lines=lines, files=tuple(files))


def _head(session: LedgerSession, batch: Batch) -> contact_sheet.Head:
    made_by = Counter(
        image.provider or ""
        for result in session.ledger.reports.results(batch.name)
        for image in result.images
        if contact_sheet.has_picture(image)
    )
    return contact_sheet.head_of(session.ledger.reports.progress(batch.name), made_by, now=time.time())


def _pictures(
    session: LedgerSession, batch: Batch, wish: OutputOptions, where: str | None
) -> tuple[Address, list[str]]:
    """Addresses that a browser can open, and notes about them."""
    if wish.presign or session.settings.storage.public_url:
        return address_of(session, batch, wish.presign), []
    notes: dict[str, None] = {}
    of_dest: dict[str, Callable[[str], str]] = {}

    def address(path: str, elsewhere: str = batch.dest) -> str:
        if elsewhere not in of_dest:
            of_dest[elsewhere], told = _at(elsewhere, where)
            notes.update(dict.fromkeys(told))
        return of_dest[elsewhere](path)

    address("probe")
    return address, list(notes)


def _at(dest: str, where: str | None) -> tuple[Callable[[str], str], list[str]]:
    """Addresses below a destination: the batch's own, or that of another batch whose images it reuses."""
    if is_folder(dest):
        return _beside_the_page(dest, where), []
    try:
        signed = presigned(dest, LONGEST_PRESIGN)
        signed("probe")  # signing needs credentials, which a reader of the ledger may not have
    except LightfastError as error:
        return plain_address(dest), [f"no picture will show: {dest} could not sign addresses ({error})."]
    return signed, ["the sheet's pictures are signed addresses: whoever has the page can see them, for 7 days."]


def _beside_the_page(dest: str, where: str | None) -> Callable[[str], str]:
    """Relative links if the page is a file on this machine too, so that the folder can be moved or sent."""
    folder = Path(unquote(urlsplit(dest).path) if dest.startswith("file://") else dest).absolute()
    if where is None or "://" in where:
        return lambda path: (folder / path).as_uri()
    base = os.path.relpath(folder, Path(where).absolute().parent)
    return lambda path: quote(Path(base, path).as_posix())


def _wanted(results: Iterable[Result], wish: OutputOptions) -> Iterator[Result]:
    """A row is on the sheet when one of its images is wanted."""
    for result in results:
        if not wish.only or wish.only & _words(result):
            yield result


def _words(result: Result) -> set[str]:
    of_images = (words_of(image_values(result, image, bare_address)) for image in slots_of(result))
    return words_of(row_values(result, bare_address)).union(*of_images)


def _beside(where: str | None, name: str) -> str | None:
    return None if where is None else f"{where.removesuffix(where.rpartition('/')[2])}{name}"
