"""The contact sheet: a batch as one page of pictures that opens anywhere, without a server and without the network.

Pure: ledger values and addresses in, HTML out. Long batches become several pages, each written as it comes.
"""

from __future__ import annotations

import functools
import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from jobs.errors import REFUSED_AGAIN
from jobs.formatting import count, listed, money, option, size, utc
from jobs.ledger.reports.values import Progress, Result, StoredImage
from jobs.results.progress import counted_by, spent
from jobs.results.rows import (
    Address,
    error_of,
    flags_of,
    image_status,
    is_stuck,
    listed_images,
    message_of,
    place_of,
)
from jobs.states import ImageState, JobState

#: Cards of one page: a browser still scrolls and filters this many with ease.
CARDS_A_PAGE = 2_000

#: Characters of a card's words that other pages search.
SEARCHED = 300

#: Rows that have nothing to show: they are counted in the header, and shown when `--only` asks for them.
UNSEEN = frozenset({JobState.READY, JobState.SKIPPED})

#: Rows whose earlier picture is all there is to show, until they are made anew.
_HAS_TIME = frozenset({JobState.READY, JobState.WORKING, JobState.CANCELLED})

#: The size a card is drawn at before its picture's own size is known.
UNKNOWN_PIXELS = (1024, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetPicture:
    """A stored image, and where a page finds it."""

    image: StoredImage
    address: str
    thumbnail: str | None = None  # address of a small copy; None: the page shows the image itself

    @property
    def width(self) -> int:
        """In pixels, as it is shown."""
        return self.image.width or UNKNOWN_PIXELS[0]

    @property
    def height(self) -> int:
        """In pixels, as it is shown."""
        return self.image.height or UNKNOWN_PIXELS[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One picture, or one row that has none and why."""

    key: str
    line: int
    prompt: str
    status: str
    key_option: str  # as redo, retry and others take it, quoted for the shell
    anchor: str  # of the card in its page
    place: str = ""  # "2 of 4", where a row has several images
    picture: SheetPicture | None = None
    replaced: SheetPicture | None = None  # what this one was made anew for
    pixels: str = ""  # width and height
    size: str = ""  # "1.4 MB"
    provider: str = ""
    model: str = ""
    provider_model: str = ""
    price: str = ""
    error: str = ""
    message: str = ""
    flags: tuple[str, ...] = ()
    done_at: str = ""
    advice: str = ""
    command: str = ""
    words: str = ""  # what the search looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the header."""

    label: str
    value: str
    note: str = ""
    tone: str = ""  # "bad", "warn" or nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every page says of the batch."""

    name: str
    dest: str
    source: str
    made_at: str
    sandbox: bool
    redo: str  # the command that makes rows anew, before its keys
    figures: tuple[Figure, ...]
    unseen: str = ""  # "8,405 rows were skipped …"
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of the sheet, and the relative links to all of them."""

    number: int
    cards: Sequence[Card]
    links: tuple[str, ...]
    search: str | None = None  # relative link to the cards of all pages, where there are several

    @property
    def near(self) -> list[int]:
        """The numbers that its row of links shows: the first, the last, and those around it; 0 is a gap."""
        last = len(self.links)
        shown = sorted({1, last, *range(max(1, self.number - 2), min(last, self.number + 2) + 1)})
        return [
            each
            for at, number in enumerate(shown)
            for each in ([0, number] if at and number - shown[at - 1] > 1 else [number])
        ]


# -- pages ---------------------------------------------------------------------------------------------------------


def pages(cards: Iterable[Card], name: str, *, count: int, size: int | None = CARDS_A_PAGE) -> Iterator[Page]:
    """The sheet's pages: `name`, then `name-2`, `name-3` and so on. `size` None: one page.

    `count`: of the cards, from a first pass. Cards that have come since are on the last page.
    """
    cards = iter(cards)
    number_of_pages = max(1, -(-count // size)) if size else 1
    links = tuple(page_name(name, number) for number in range(1, number_of_pages + 1))
    search = search_name(name) if number_of_pages > 1 else None
    for number in range(1, number_of_pages + 1):
        group = list(itertools.islice(cards, size if number < number_of_pages else None))
        yield Page(number=number, cards=group, links=links, search=search)


def search_name(name: str) -> str:
    """index-search.js: what is searched when the page itself has too few."""
    return f"{Path(name).stem}-search.js"


def search_lines(page: Page) -> Iterator[bytes]:
    """The page's cards as the script of another page searches them; the first page begins the list."""
    if page.number == 1:
        yield b"window.lightfastCards = [];\n"
    for card in page.cards:
        told = [page.number, card.anchor, card.key, card.status, card.words[:SEARCHED]]
        yield b"lightfastCards.push(" + orjson.dumps(told) + b");\n"


def page_name(name: str, number: int) -> str:
    """index.html, index-2.html, index-3.html."""
    path = Path(name)
    return path.name if number == 1 else f"{path.stem}-{number}{path.suffix}"


def html(head: Head, page: Page) -> Iterator[str]:
    """The page, piece by piece."""
    pieces: Iterator[str] = _template().generate(head=head, page=page)
    return pieces


@functools.cache
def _template() -> Any:
    import jinja2  # noqa: PLC0415  only a sheet needs it

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("contact_sheet.html.j2")


# -- the header ----------------------------------------------------------------------------------------------------


def head_of(progress: Progress, providers: Mapping[str, int], *, now: float, notes: Sequence[str] = ()) -> Head:
    """The header. `providers`: stored images of each."""
    batch = progress.batch
    return Head(
        name=batch.name,
        dest=batch.dest,
        source=batch.source,
        made_at=utc(now),
        sandbox=batch.sandbox,
        redo=f"lightfast redo {_named(batch.name, sandbox=batch.sandbox)}",
        figures=(*_counts(progress, providers), *_money(progress), *trouble_figures(progress)),
        unseen=_unseen(progress),
        notes=tuple(notes),
    )


def _counts(progress: Progress, providers: Mapping[str, int]) -> Iterator[Figure]:
    yield Figure(
        label="rows", value=f"{sum(progress.jobs.values()):,}", note=f"{progress.jobs.get(JobState.DONE, 0):,} done"
    )
    note = f"of {progress.images_total:,}, {size(progress.bytes_stored)}"
    yield Figure(label="images", value=f"{progress.images_stored:,}", note=note)
    if providers:
        note = ", ".join(f"{name} {count:,}" for name, count in sorted(providers.items()))
        yield Figure(label="providers", value=f"{len(providers)}", note=note)


def _money(progress: Progress) -> Iterator[Figure]:
    batch = progress.batch
    prices = counted_by(progress)
    note = prices if batch.budget is None else f"of budget {money(batch.budget)}, {prices}"
    yield Figure(label="spent", value=spent(progress), note=note)


def trouble_figures(progress: Progress) -> Iterator[Figure]:
    """What went wrong, and what that costs."""
    failed = sum(progress.jobs.get(state, 0) for state in (JobState.FAILED, JobState.PARTIAL, JobState.INVALID))
    held = progress.jobs.get(JobState.HELD, 0)
    lost = progress.images_lost
    if failed:
        yield Figure(label="failed", value=f"{failed:,}", note=listed(progress.errors), tone="bad")
    if held:
        unknown = f"outcome unknown, at most {money(progress.unknown_money)}"
        stuck = f"{count(progress.images_stuck, 'paid image')} not stored without you, {money(progress.stuck_money)}"
        note = ", ".join(
            [stuck] * bool(progress.images_stuck)
            + [unknown] * bool(progress.unknown_money or not progress.images_stuck)
        )
        yield Figure(label="held", value=f"{held:,}", note=note, tone="warn")
    if lost:
        yield Figure(label="lost", value=f"{lost:,}", note=money(progress.lost_image_money), tone="bad")
    if beside := progress.lost_money - progress.lost_image_money:
        note = "counted as paid, and no image came or is wanted any more"
        yield Figure(label="paid for nothing", value=money(beside), note=note, tone="bad")


def _unseen(progress: Progress) -> str:
    words = {JobState.READY: "still to be made", JobState.SKIPPED: "skipped"}
    told = [f"{progress.jobs[state]:,} rows {word}" for state, word in words.items() if progress.jobs.get(state)]
    told += [f"{progress.rows_out:,} rows that are no longer in the manifest"] * bool(progress.rows_out)
    return f"Not shown: {', '.join(told)}." if told else ""


# -- cards ---------------------------------------------------------------------------------------------------------


Thumbnail = Callable[[StoredImage], str | None]


def cards(
    results: Iterable[Result],
    address: Address,
    batch: str,
    *,
    unseen: frozenset[JobState] = UNSEEN,
    sandbox: bool = False,
    thumbnail: Thumbnail = lambda _: None,
) -> Iterator[Card]:
    """Every picture, and a card for what a row still lacks. `thumbnail`: the address of an image's small copy."""
    told = _named(batch, sandbox=sandbox)
    for result in results:
        pictures = [image for image in listed_images(result) if has_picture(image)]
        if result.state in unseen and not pictures:
            continue
        yield from (_picture(result, image, address, thumbnail) for image in pictures)
        lacking = [image for image in result.images or (None,) if not has_picture(image)]
        if lacking and not (result.before and result.state in _HAS_TIME):
            yield _gap(result, lacking, told)


def has_picture(image: StoredImage | None) -> bool:
    """Whether the image is in the destination."""
    return image is not None and image.state == ImageState.STORED


def _named(batch: str, *, sandbox: bool) -> str:
    return shlex.quote(batch) + (" --sandbox" if sandbox else "")


def _picture(result: Result, image: StoredImage, address: Address, thumbnail: Thumbnail) -> Card:
    def at(shown: StoredImage | None) -> SheetPicture | None:
        if shown is None or shown.path is None:
            return None
        return SheetPicture(image=shown, address=place_of(shown, address, shown.path), thumbnail=thumbnail(shown))

    return Card(
        **_common(result, image),
        status=image_status(result, image),
        place=f"{image.slot + 1} of {len(shown)}" if len(shown := listed_images(result)) > 1 else "",
        picture=at(image),
        replaced=at(next((older for older in result.replaced if older.slot == image.slot), None)),
        pixels=f"{image.width} × {image.height}" if image.width else "",  # noqa: RUF001  the sign for pixels
        size=size(image.bytes or 0),
        price=money(image.cost) if image.cost is not None else "price not known",
        flags=tuple(sorted({*image.flags} | flags_of(result))),
        done_at=utc(image.stored_at) if image.stored_at else "",
    )


def _gap(result: Result, lacking: Sequence[StoredImage | None], told: str) -> Card:
    first = next((image for image in lacking if image and image.error_code), lacking[0])
    status = image_status(result, first) if first else result.state.value
    error = (first.error_code if first else None) or error_of(result) or ""
    advice, command = help_for(result, status, error, told)
    return Card(
        **_common(result, first),
        status=status,
        place=f"{len(lacking)} of {len(result.images)} images" if len(result.images) > 1 else "",
        error=error,
        message=(first.message if first else None) or message_of(result) or "",
        advice=advice,
        command=command,
    )


def _common(result: Result, image: StoredImage | None) -> dict[str, Any]:
    request = result.request
    prompt = request.prompt if request else result.texts.get("prompt", "")
    model = request.model if request else result.texts.get("model", "")
    made_by = (image.provider if image else None) or result.provider or ""
    provider_model = (image.provider_model if image else None) or result.provider_model or ""
    return {
        "key": result.key,
        "key_option": option("--key", result.key),
        "anchor": f"row-{result.position}" + (f"-{image.slot}" if image and image.slot else ""),
        "line": result.line,
        "prompt": prompt,
        "provider": made_by,
        "model": model,
        "provider_model": provider_model if provider_model != model else "",
        "words": f"{result.key} {prompt} {error_of(result) or ''}".lower(),
    }


def help_for(result: Result, status: str, error: str, batch: str) -> tuple[str, str]:
    """What a person can do about a row without its image: a sentence, and the command (either may be empty)."""
    key = option("--key", result.key)
    if status == JobState.HELD and any(map(is_stuck, result.images)):
        return (
            "Fix what it says, then run the same command; or end it unstored:",
            f"lightfast give-up {batch} {key}",
        )
    if status == JobState.HELD:
        return (
            "Look in the provider's dashboard, then",
            f"lightfast unknown {batch} {key}",
        )
    if error in REFUSED_AGAIN:
        what = "prompt" if error == "moderation" else "request"
        return f"The same {what} is refused again: change it in line {result.line} of the manifest, then run again.", ""
    if status == JobState.INVALID:
        return f"Fix line {result.line} of the manifest, then run again.", ""
    if status in {JobState.FAILED, JobState.LOST}:
        return "To pay for a new try:", f"lightfast retry {batch} {key}"
    return "", ""
