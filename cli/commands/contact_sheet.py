"""Writes the contact sheet of a batch, with addresses that the pictures are found at."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from cli.flow.outputs import (
    LONGEST_PRESIGN,
    OutputOptions,
    Written,
    address_of,
    is_opened_for_us,
    opened,
    presigned,
    target_of,
)
from cli.flow.session import LedgerSession, note
from cli.output.terminal import tally
from jobs.errors import BadInput, LightfastError
from jobs.results import contact_sheet
from jobs.results.rows import Address, bare_address, image_values, plain_address, row_values, slots_of, words_of
from jobs.states import JobState
from worker.registration.destination import is_folder

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Result, StoredImage
    from worker.storage.base import Store

#: Of small copies, beside the sheet; in Lightfast's own folder, so that nothing else counts them as images.
FOLDER = ".lightfast/thumbnails"


def write_sheet(session: LedgerSession, batch: Batch, wish: OutputOptions) -> Written:
    """Writes the sheet: one page, or several beside each other when the batch is long."""
    where = target_of(wish, "index.html")
    address, notes = _pictures(session, batch, wish, where)
    small = _small_copies(batch, wish, where)
    for text in notes:
        note(f"note: {text}")

    def cards() -> Iterator[contact_sheet.Card]:
        wanted = _wanted(session.ledger.reports.results(batch.name), wish)
        unseen: frozenset[JobState] = frozenset() if wish.lines and wish.lines.only else contact_sheet.UNSEEN
        told = {"sandbox": batch.sandbox, "thumbnail": small.address} if small else {"sandbox": batch.sandbox}
        return contact_sheet.cards(wanted, address, batch.name, unseen=unseen, **told)

    made_by, count = _count(cards())
    head = contact_sheet.head_of(session.ledger.reports.progress(batch.name), made_by, now=time.time())
    # Stdout is one stream, so it is one page.
    size = contact_sheet.CARDS_A_PAGE if where else None
    lines, files = 0, []
    with contextlib.ExitStack() as stack:
        search = None
        for page in contact_sheet.pages(cards(), where or "index.html", count=count, size=size):
            if small:
                small.make(page.cards)
            target = _beside(where, page.links[page.number - 1])
            with opened(target, wish.format, overwrite=wish.overwrite) as file:
                file.writelines(piece.encode("utf-8", "replace") for piece in contact_sheet.html(head, page))
            if page.search and search is None:
                search = stack.enter_context(opened(_beside(where, page.search), "js", overwrite=wish.overwrite))
            if search:
                search.writelines(contact_sheet.search_lines(page))
            lines += len(page.cards)
            files += [target] if target else []
    return Written(lines=lines, files=tuple(files))


def _count(cards: Iterable[contact_sheet.Card]) -> tuple[Counter[str], int]:
    """Stored images of each provider, and how many cards there are."""
    made_by: Counter[str] = Counter()
    count = 0
    for count, card in enumerate(cards, 1):  # noqa: B007  the last is the number of all
        if card.picture:
            made_by[card.picture.image.provider or ""] += 1
    return made_by, count


# -- small copies of the pictures ------------------------------------------------------------------------------------


class _SmallCopies:
    """The sheet's thumbnails, in a folder beside it."""

    def __init__(self, batch: Batch, where: str, *, is_told: bool) -> None:
        from worker.images.thumbnails import Thumbnails

        self._is_told = is_told
        self._folder = Path(where).absolute().parent / FOLDER
        self._kept = Thumbnails(self._folder)
        self._dest = batch.dest
        self._stores: dict[str, Store] = {}

    def address(self, image: StoredImage) -> str | None:
        """Relative to the page."""
        return f"{FOLDER}/{self._kept.name(image.sha256)}" if image.sha256 else None

    def make(self, cards: Sequence[contact_sheet.Card]) -> None:
        """Makes those that these cards lack. A picture without one is shown itself."""
        pictures = [each for card in cards for each in (card.picture, card.replaced) if each]
        lacking = {
            each.image.sha256: each.image
            for each in pictures
            if each.image.sha256 and self._kept.missing(each.image.sha256)
        }
        wanted = [(self._kept.name(sha256), functools.partial(self._read, image)) for sha256, image in lacking.items()]
        self._kept.make(wanted, functools.partial(self._told, len(wanted)))

    def _told(self, of: int, through: int) -> None:
        if self._is_told:
            tally(f"{through:,} of {of:,} small copies of pictures")

    def _read(self, image: StoredImage) -> bytes | None:
        from worker.storage.opening import open_store

        dest = image.dest or self._dest
        if dest not in self._stores:
            self._stores[dest] = open_store(dest)
        return self._stores[dest].read(image.path or "")


def _small_copies(batch: Batch, wish: OutputOptions, where: str | None) -> _SmallCopies | None:
    """None: the page shows the pictures themselves."""
    here = where is not None and "://" not in where and not is_opened_for_us(where)
    if wish.thumbnails and not here:
        raise BadInput("--thumbnails: they lie beside the sheet, so it is written to a file: -o FILE.html")
    wanted = is_folder(batch.dest) if wish.thumbnails is None else wish.thumbnails
    return _SmallCopies(batch, str(where), is_told=wish.progress and sys.stderr.isatty()) if wanted and here else None


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
        if not wish.lines or wish.lines.takes(_words(result)):
            yield result


def _words(result: Result) -> set[str]:
    of_images = (words_of(image_values(result, image, bare_address)) for image in slots_of(result))
    return words_of(row_values(result, bare_address)).union(*of_images)


def _beside(where: str | None, name: str) -> str | None:
    return None if where is None else f"{where.removesuffix(where.rpartition('/')[2])}{name}"
