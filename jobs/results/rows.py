"""What became of each manifest row, as lines of named, typed values.

A line is the row's own columns, untouched, and then `lf_` columns. Pure: ledger values in, values out; how a line looks
in CSV, JSONL or Parquet is `result_files`' matter. Money is micro-dollars and times are Unix seconds until then.
"""

from __future__ import annotations

import csv
import difflib
import enum
import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from itertools import count as count_from
from pathlib import Path
from urllib.parse import quote

from jobs.errors import UNREADABLE_ROW, BadInput
from jobs.facts import CHARGE_ESTIMATED
from jobs.formatting import count, option
from jobs.ledger.reports.values import Result, StoredImage
from jobs.manifest.names import clean_name
from jobs.manifest.nested import MISSING, reach
from jobs.states import ImageState, JobState


class Type(enum.Enum):
    """What a column holds. None is possible in each but the lists."""

    TEXT = enum.auto()
    INTEGER = enum.auto()
    MONEY = enum.auto()  # micro-dollars
    TIME = enum.auto()  # Unix seconds
    TEXTS = enum.auto()
    INTEGERS = enum.auto()
    OWN = enum.auto()  # a manifest's own: text, or of JSON whatever was there
    OWN_INTEGER = enum.auto()  # of a manifest's own columns, in Parquet: those whose values are all of one kind
    OWN_NUMBER = enum.auto()
    OWN_TRUTH = enum.auto()


Value = object  # a plain JSON value
Values = Mapping[str, Value]
#: Where the object at a path below the destination can be found; or below another one, which is named then.
Address = Callable[..., str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the output: the name it is shown under, and the one its value is kept under."""

    name: str
    source: str
    type: Type
    instead_of: str | None = None  # the row's own column whose place it takes: kept where there is no new value

    def of(self, line: Values) -> tuple[Type, Value]:
        """What a line has in this column, and what it is."""
        value = line.get(self.source)
        if value is None and "." in self.source and (found := reach(line, self.source)) is not MISSING:
            value = found
        if self.instead_of is not None and value in (None, "", []):
            return Type.OWN, line.get(self.instead_of)
        return self.type, value


class ReplacedValues:
    """Counts the manifest's own values whose place other ones take, in lines that pass by."""

    def __init__(self, columns: Iterable[Column], own: Sequence[str]) -> None:
        self._columns = [column for column in columns if column.instead_of is not None]
        self._free = free_column(own)
        self._counts: Counter[str] = Counter()

    def watch(self, lines: Iterable[Values]) -> Iterator[Values]:
        """The same lines."""
        for line in lines:
            for column in self._columns:
                own = line.get(column.name)
                if own not in (None, "", []) and column.of(line)[1] != own:
                    self._counts[column.name] += 1
            yield line

    @property
    def notes(self) -> Iterator[str]:
        """For a person: a line for each column, with what keeps its values."""
        for column in self._columns:
            if number := self._counts[column.name]:
                values, verb = count(number, "value"), "is" if number == 1 else "are"
                beside = option("--columns", f"*,-lf_*,{as_term(f'{self._free}={column.source}')}")
                yield (
                    f'{values} of your column "{column.name}" {verb} replaced by {column.source}. '
                    f"A name that no column has keeps them and puts it beside them: {beside}"
                )


class UnreadableLines:
    """Counts, in lines that pass by and do not show it, those that could not be read and may be shifted."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self._is_shown = any(column.source in ("lf_status", "lf_error", "lf_message") for column in columns)
        self._count = 0
        self._first: Value = None

    def watch(self, lines: Iterable[Values]) -> Iterator[Values]:
        """The same lines."""
        for line in lines:
            if line["lf_error"] == UNREADABLE_ROW:
                self._first = self._first or line["lf_line"]
                self._count += 1
            yield line

    @property
    def notes(self) -> Iterator[str]:
        """For a person; none where there is nothing to tell."""
        if self._count and not self._is_shown:
            one = self._count == 1
            yield (
                f"{count(self._count, 'line')} of the manifest could not be read, and {'stands' if one else 'stand'} "
                f"here as far as {'it was' if one else 'they were'}, with cells in wrong columns perhaps (the first: "
                f"line {self._first}). --except {UNREADABLE_ROW} leaves {'it' if one else 'them'} out"
            )


#: One line a row: its images as lists of equal length, in the order of their slots.
ROW_TYPES: dict[str, Type] = {
    "lf_key": Type.TEXT,
    "lf_status": Type.TEXT,
    "lf_images": Type.INTEGER,
    "lf_urls": Type.TEXTS,
    "lf_width": Type.INTEGERS,
    "lf_height": Type.INTEGERS,
    "lf_bytes": Type.INTEGERS,
    "lf_sha256": Type.TEXTS,
    "lf_provider": Type.TEXT,
    "lf_model": Type.TEXT,
    "lf_cost_usd": Type.MONEY,
    "lf_error": Type.TEXT,
    "lf_message": Type.TEXT,
    "lf_flags": Type.TEXTS,
    "lf_done_at": Type.TIME,
}

#: One line an image: `lf_index` and `lf_url`, and plain values instead of lists.
IMAGE_TYPES: dict[str, Type] = {
    "lf_key": Type.TEXT,
    "lf_status": Type.TEXT,
    "lf_index": Type.INTEGER,
    "lf_url": Type.TEXT,
    "lf_width": Type.INTEGER,
    "lf_height": Type.INTEGER,
    "lf_bytes": Type.INTEGER,
    "lf_sha256": Type.TEXT,
    "lf_provider": Type.TEXT,
    "lf_model": Type.TEXT,
    "lf_cost_usd": Type.MONEY,
    "lf_error": Type.TEXT,
    "lf_message": Type.TEXT,
    "lf_flags": Type.TEXTS,
    "lf_done_at": Type.TIME,
}

#: Not shown unless `--columns` asks for them. `lf_url` and `lf_path` of a row are its first image's.
EXTRA_TYPES: dict[str, Type] = {
    "lf_url": Type.TEXT,
    "lf_path": Type.TEXT,  # below the destination
    "lf_prompt": Type.TEXT,
    "lf_provider_model": Type.TEXT,
    "lf_line": Type.INTEGER,
    "lf_revision": Type.INTEGER,
}


#: A held row's code (docs/reference/errors.md) and what is said of it.
HELD_CODE = "outcome_unknown"
HELD_MESSAGE = "Sent, and no readable answer came: it may be paid, and is not sent again by itself."


#: What a row waits for that has not ended.
TURN_MESSAGE = "Waits for its turn to be sent."
MADE_MESSAGE = "Sent: the provider is making it."
COPIED_MESSAGE = "Made: it is being copied to the destination."
_SAID = {JobState.HELD: HELD_MESSAGE, JobState.READY: TURN_MESSAGE, JobState.WORKING: MADE_MESSAGE}


# -- lines ---------------------------------------------------------------------------------------------------------


def row_lines(results: Iterable[Result], address: Address) -> Iterator[Values]:
    """One line a manifest row."""
    return (own_values(result) | row_values(result, address) for result in results)


def image_lines(results: Iterable[Result], address: Address) -> Iterator[Values]:
    """One line an image slot; a row that asks for none (skipped, invalid) still has its one line."""
    for result in results:
        own = own_values(result)
        for image in slots_of(result):
            yield own | image_values(result, image, address)


def own_values(result: Result) -> dict[str, Value]:
    """The row's own columns; an `lf_` column of an earlier result file is not its own."""
    return {name: value for name, value in result.carried.items() if not name.startswith("lf_")}


def row_values(result: Result, address: Address) -> dict[str, Value]:
    """Every `lf_` value of a row."""
    stored = stored_images(result)
    urls = [place_of(image, address, image.path) for image in stored if image.path]
    return {
        **_common(result),
        "lf_status": result.state.value,
        "lf_images": len(stored),
        "lf_urls": urls,
        "lf_url": urls[0] if urls else None,
        "lf_path": _first(image.path for image in stored),
        "lf_width": [image.width for image in stored],
        "lf_height": [image.height for image in stored],
        "lf_bytes": [image.bytes for image in stored],
        "lf_sha256": [image.sha256 or "" for image in stored],
        "lf_provider": _joined(image.provider for image in stored) or result.provider,
        "lf_provider_model": _joined(image.provider_model for image in stored) or result.provider_model,
        "lf_cost_usd": result.cost,
        "lf_error": error_of(result) or _first(image.error_code for image in result.images),
        "lf_message": message_of(result) or _first(image.message for image in result.images),
        "lf_flags": sorted({flag for image in listed_images(result) for flag in image.flags} | flags_of(result)),
        "lf_done_at": result.done_at,
    }


def flags_of(result: Result) -> set[str]:
    """What all images of the row share."""
    told = {"kept": result.kept or result.before, CHARGE_ESTIMATED: result.estimated}
    return {flag for flag, is_so in told.items() if is_so}


def image_values(result: Result, image: StoredImage | None, address: Address) -> dict[str, Value]:
    """Every `lf_` value of one image; None stands for the only line of a row without images."""
    if image is None:
        return _line_without_image(result)
    stored = image.state == ImageState.STORED
    is_done = stored and image.revision == result.revision
    return {
        **_common(result),
        "lf_status": image_status(result, image),
        "lf_index": image.slot,
        "lf_url": place_of(image, address, image.path) if stored and image.path else None,
        "lf_path": image.path if stored else None,
        "lf_width": image.width if stored else None,
        "lf_height": image.height if stored else None,
        "lf_bytes": image.bytes if stored else None,
        "lf_sha256": image.sha256 if stored else None,
        "lf_provider": image.provider or result.provider,
        "lf_provider_model": image.provider_model or result.provider_model,
        "lf_cost_usd": image.cost,
        "lf_error": image.error_code or (None if is_done else error_of(result)),
        "lf_message": image.message or (None if is_done else message_of(result)),
        "lf_flags": sorted({*image.flags} | flags_of(result)),
        "lf_done_at": image.stored_at,
    }


def image_status(result: Result, image: StoredImage) -> str:
    """The image's own status if it has ended, else its row's."""
    if image.revision != result.revision:
        return result.state.value
    if image.state == ImageState.STORED:
        return JobState.DONE.value
    if image.state == ImageState.LOST:
        return JobState.LOST.value
    if image.state == ImageState.GENERATED:
        return (JobState.HELD if is_stuck(image) else JobState.WORKING).value
    # A missing image of a row that ended in part has failed; "partial" is said of rows.
    return JobState.FAILED.value if result.state in {JobState.PARTIAL, JobState.LOST} else result.state.value


def is_stuck(image: StoredImage) -> bool:
    """Whether it is paid, and copied again only on a person's word."""
    return image.state == ImageState.GENERATED and image.next_copy_at is None


def error_of(result: Result) -> str | None:
    """The row's stable code. Held rows have `HELD_CODE`: the ledger keeps the reason with the attempt."""
    return result.error_code or (HELD_CODE if result.state is JobState.HELD else None)


def message_of(result: Result) -> str | None:
    """What is said of the row."""
    of_images = (image.message for image in result.images if image.state == ImageState.GENERATED)
    said = result.message or (_first(of_images) if result.state is JobState.WORKING else None)
    if said or result.state not in _SAID:
        return said
    made = [image for image in result.images if image.state == ImageState.GENERATED]
    if made and result.state is JobState.WORKING:
        return _first(image.message for image in made) or COPIED_MESSAGE
    return _SAID[result.state]


def stored_images(result: Result) -> list[StoredImage]:
    """The images that are in the destination, by slot."""
    return [image for image in listed_images(result) if image.state == ImageState.STORED]


def listed_images(result: Result) -> Sequence[StoredImage]:
    """The row's slots; until an image of a row that is made anew is stored, those that it was given before."""
    return result.before or result.images


def slots_of(result: Result) -> Sequence[StoredImage | None]:
    """The row's slots, or one None where it has none."""
    return listed_images(result) or (None,)


def _common(result: Result) -> dict[str, Value]:
    request = result.request
    return {
        "lf_key": result.key,
        "lf_model": request.model if request else None,
        "lf_prompt": request.prompt if request else None,
        "lf_line": result.line,
        "lf_revision": result.revision,
    }


def _line_without_image(result: Result) -> dict[str, Value]:
    values = row_values(result, address=bare_address)
    values.update(dict.fromkeys(("lf_width", "lf_height", "lf_bytes", "lf_sha256", "lf_index")))
    return values


def _joined(names: Iterable[str | None]) -> str | None:
    return "|".join(dict.fromkeys(name for name in names if name)) or None


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)


# -- which columns -------------------------------------------------------------------------------------------------


def choose_columns(asked: str | None, own: Sequence[str], *, per_image: bool = False) -> tuple[Column, ...]:
    """The columns of the output. `asked` as in `--columns`; None means `*`: the row's own, then `lf_`."""
    shown = _shown(own, IMAGE_TYPES if per_image else ROW_TYPES)
    known = EXTRA_TYPES | shown
    picked: dict[str, Column] = {}
    problems: list[str] = []
    for term in _terms(asked or "*"):
        try:
            _apply(term, picked, shown, known)
        except BadInput as wrong:
            problems.extend(wrong.problems)
    if problems:
        raise BadInput(problems)
    if not picked:
        raise BadInput(f"--columns {asked!r} leaves no column.")
    return tuple(picked.values())


def _shown(own: Sequence[str], types: Mapping[str, Type]) -> dict[str, Type]:
    return {name: Type.OWN for name in own if not name.startswith("lf_")} | dict(types)


def _terms(asked: str) -> list[str]:
    return [term.strip() for term in next(csv.reader([asked], skipinitialspace=True)) if term.strip()]


def free_column(own: Collection[str], wanted: str = "New Image") -> str:
    """The wanted name, or with a number the first one that no column has, however it is written: `New Image 2`."""
    taken = {clean_name(name).casefold() for name in own}
    numbered = (f"{wanted} {number}" for number in count_from(2))
    return next(name for name in chain([wanted], numbered) if name.casefold() not in taken)


def as_term(name: str) -> str:
    """A name as it stands in `--columns`."""
    return '"' + name.replace('"', '""') + '"' if '"' in name or "," in name else name


def _apply(term: str, picked: dict[str, Column], shown: Mapping[str, Type], known: Mapping[str, Type]) -> None:
    if term in known:
        picked[term] = Column(name=term, source=term, type=known[term])
    elif _leads_into(term, known):
        picked[term] = Column(name=term, source=term, type=Type.OWN)
    elif term.startswith("-"):
        for name in _matching(term[1:], picked):
            del picked[name]
    elif "=" in term:
        name, _, source = (part if part in known else clean_name(part) for part in term.partition("="))
        is_dotted = _leads_into(source, known)
        source = source if source in known or is_dotted else _matching(source, known)[0]
        mine = name if known.get(name) is Type.OWN and name != source else None
        picked[name] = Column(name=name, source=source, type=known.get(source, Type.OWN), instead_of=mine)
    else:
        picked.update({name: Column(name=name, source=name, type=shown[name]) for name in _matching(term, shown)})


def _leads_into(name: str, known: Mapping[str, Type]) -> bool:
    """Whether it is no column, but a dotted name of what stands in an own one."""
    heads = (name[: dot.start()] for dot in re.finditer(r"\.", name))
    return name not in known and any(known.get(head) is Type.OWN for head in heads)


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    clean = clean_name(pattern)
    matching = [name for name in names if name == pattern or clean_name(name) == clean] or [
        name for name in names if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(clean_name(name), clean)
    ]
    if not matching:
        raise BadInput(f"--columns: no column {pattern!r}. {near(pattern, names)}")
    return matching


#: Names listed where none is a near miss.
MOST_NAMED = 20


def near(word: str, names: Iterable[str]) -> str:
    """Names the near misses of a mistyped name, or all names when there are few."""
    names = list(dict.fromkeys(names))
    if close := difflib.get_close_matches(word, names, n=3, cutoff=0.5):
        return f"Did you mean {', '.join(close)}?"
    more = f" … ({len(names):,} in all)" if len(names) > MOST_NAMED else ""
    return f"There are: {', '.join(names[:MOST_NAMED])}{more}." if names else "There is none."


# -- which lines ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The statuses, error codes and flags of which a line must have one, and of which it must have none."""

    only: frozenset[str] = frozenset()  # empty: any
    without: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.only or self.without)

    def takes(self, words: set[str]) -> bool:
        """Whether a line of these words is wanted."""
        return (not self.only or not self.only.isdisjoint(words)) and self.without.isdisjoint(words)


def chosen(lines: Iterable[Values], choice: Choice | None) -> Iterator[Values]:
    """The lines that are wanted."""
    return (line for line in lines if choice.takes(words_of(line))) if choice else iter(lines)


def words_of(line: Values) -> set[str]:
    """The words that `--only` and `--except` compare: status, code and flags."""
    flags = line["lf_flags"]
    words = {str(flag) for flag in flags} if isinstance(flags, list) else set()
    return words | {str(line["lf_status"]), str(line["lf_error"])}


def check_words(name: str, asked: Sequence[str], codes: Iterable[str]) -> frozenset[str]:
    """The words of `--only` or `--except`, each a status or a stable code. `name`: the option's."""
    known = {*(state.value for state in JobState), *codes}
    words = frozenset(word.strip() for part in asked for word in part.split(",") if word.strip())
    problems = [f"{name}: no status or code {word!r}. {near(word, sorted(known))}" for word in sorted(words - known)]
    if problems:
        raise BadInput(problems)
    return words


# -- addresses -----------------------------------------------------------------------------------------------------


def place_of(image: StoredImage, address: Address, path: str) -> str:
    """The image's address. One that a row has from another batch may lie at that one's destination."""
    return address(path) if image.dest is None else address(path, image.dest)


def bare_address(path: str, elsewhere: str = "") -> str:  # noqa: ARG001  as every address
    """Returns the path alone, for callers that do not need addresses."""
    return path


def plain_address(dest: str) -> Address:
    """Objects named as the destination names them: `s3://bucket/prefix/path`, or `file:///folder/path`."""

    def address(path: str, elsewhere: str = dest) -> str:
        root = elsewhere if "://" in elsewhere else Path(elsewhere).absolute().as_uri()
        # Only a file URL is a URL in the strict sense; s3:// and its kin take the key as it is, as their tools do.
        said = quote if root.startswith("file:") else str
        return f"{root.rstrip('/')}/{said(path)}"

    return address


def public_address(public_url: str, dest: str, public_root: str = "") -> Address:
    """Objects behind `[storage] public_url`: the address of `public_root` (`[storage] to`), or of the batch's DEST."""

    def address(path: str, elsewhere: str = dest) -> str:
        below = _below(elsewhere, public_root) if public_root else ""
        parts = [part for part in (public_url, below) if part]
        root = "/".join(part.strip("/") if at else part.rstrip("/") for at, part in enumerate(parts))
        return f"{root}/{quote(path)}"

    return address


def _below(dest: str, root: str) -> str:
    inside = f"{dest.rstrip('/')}/".startswith(f"{root.rstrip('/')}/")
    return quote(dest.rstrip("/")[len(root.rstrip("/")) :]) if inside else ""
