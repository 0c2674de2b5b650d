"""What objects tell of the ledger they came from: a row's key, which of its images, and what it was asked for. Pure.

A bucket's objects say so in their metadata; files in a folder in their sidecars, and else only by their paths.
"""

from __future__ import annotations

import enum
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from jobs.manifest.templates import Field, bad_key, from_name, parse

#: What stored images end with, and what a path ends with that may be an image of ours.
EXTENSIONS = "png|jpg|webp|gif|bmp|tiff|avif|heic"
IMAGE = re.compile(rf"(?:~(?P<twin>\d+))?\.(?P<ext>{EXTENSIONS})$")
#: Images of a row, and its revisions: far more than anybody asked for, and numbers that a database holds.
MOST = 1_000_000
_HASH = re.compile(r"[0-9a-f]{32}")
_SURPLUS = re.compile(r"surplus-\d+")


class SaidBy(enum.StrEnum):
    """Who says what an object is."""

    METADATA = "metadata"
    SIDECAR = "sidecar"
    PATH = "path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object that is an image of ours."""

    batch: str
    key: str
    slot: int
    revision: int = 1
    surplus: bool = False
    request_hash: str | None  # None: nothing tells
    path: str
    by: SaidBy
    others: tuple[str, ...] = ()  # batches it may be of just as well

    @property
    def twin(self) -> int:
        """1, or the number after ~ of an image that found its place taken."""
        match = IMAGE.search(self.path)
        return int(match["twin"] or 1) if match else 1


def by_metadata(path: str, told: Mapping[str, str], longest: int) -> Found | None:
    """From what was put with the object. A key as long as metadata can be may have been cut: it tells nothing."""
    batch, key, index = (told.get(f"lightfast-{name}", "") for name in ("batch", "key", "index"))
    if not (batch and key and index.isdecimal()) or len(key.encode()) * 3 >= longest:
        return None
    revision = re.search(rf"(?<!\d){index}\.r(\d+)(?!\d)", path)
    return Found(
        batch=batch,
        key=key,
        slot=int(index),
        revision=int(revision[1]) if revision else 1,
        surplus=bool(_SURPLUS.search(path)),
        request_hash=_as_hash(told.get("lightfast-request")),
        path=path,
        by=SaidBy.METADATA,
    )


def _is_possible(found: Found) -> bool:
    """Whether a ledger can have said so: names are bytes on a disk, and a sidecar may be anybody's."""
    try:
        found.path.encode()
        found.key.encode()
    except UnicodeEncodeError:
        return False
    return not bad_key(found.key) and 0 <= found.slot <= MOST and 1 <= found.revision <= MOST


def at_place(found: Found, placed: Iterable[Found]) -> Found:
    """Metadata say whose an object is, the batch's template which of its images: a key may read like a revision."""
    mine = (each for each in placed if (each.batch, each.key) == (found.batch, found.key))
    told = next(mine, found)
    return replace(found, revision=told.revision, surplus=told.surplus)


def by_sidecar(path: str, told: Mapping[str, object]) -> Found | None:
    """From the JSON beside an image."""
    batch, key, slot, revision = (told.get(name) for name in ("batch", "key", "index", "revision"))
    if not (isinstance(batch, str) and isinstance(key, str) and isinstance(slot, int) and isinstance(revision, int)):
        return None
    if told.get("file") not in (path, None):
        return None
    return Found(
        batch=batch,
        key=key,
        slot=slot,
        revision=revision,
        surplus=told.get("surplus") is True,
        request_hash=_as_hash(told.get("request_hash")),
        path=path,
        by=SaidBy.SIDECAR,
    )


def _as_hash(value: object) -> str | None:
    return value if isinstance(value, str) and _HASH.fullmatch(value) else None


@dataclass(frozen=True, slots=True)
class Paths:
    """Reads paths of one batch, by its template."""

    batch: str
    pattern: re.Pattern[str]
    names_batch: bool  # its paths say of which batch they are

    def find(self, path: str) -> Found | None:
        """Whose image lies there, as far as the path tells."""
        match = self.pattern.fullmatch(IMAGE.sub(r".\g<ext>", path))
        if match is None:
            return None
        told = match.groupdict()
        index = told.get("index") or "0"
        return Found(
            batch=self.batch,
            key=from_name(told["key"]),
            slot=0 if index.startswith("surplus") else int(index),
            revision=int(told.get("revision") or 1),
            surplus=index.startswith("surplus"),
            request_hash=None,
            path=path,
            by=SaidBy.PATH,
        )


def paths_of(batch: str, template: str) -> Paths | None:
    """A reader for paths of this template; None when they do not tell a row's key."""
    seen: set[str] = set()
    parts = parse(template, "--path").parts
    pattern = "".join(_pattern(part, batch, seen) for part in parts)
    names_batch = any(isinstance(part, Field) and part.name == "batch" for part in parts)
    return Paths(batch, re.compile(pattern), names_batch) if "key" in seen else None


def by_path(path: str, readers: Iterable[Paths]) -> Found | None:
    """Whose image lies there by its path alone. One that names its batch is believed before one that does not."""
    placed = [(reader, found) for reader in readers if (found := reader.find(path))]
    told = [found for reader, found in placed if reader.names_batch] or [found for _, found in placed]
    return replace(told[0], others=tuple(each.batch for each in told[1:])) if told else None


def _pattern(part: str | Field, batch: str, seen: set[str]) -> str:
    if isinstance(part, str):
        return re.escape(part)
    if part.name == "batch":
        return re.escape(batch)
    patterns = {"key": "[^/]+", "index": r"surplus-\d+|\d+", "ext": EXTENSIONS}
    if part.name not in patterns:
        return "[^/]*?"
    if part.name in seen:
        return f"(?P={part.name})"
    seen.add(part.name)
    own = f"(?P<{part.name}>{patterns[part.name]})"
    return own + r"(?:\.r(?P<revision>\d+))?" if part.name == "index" else own


# -- rows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """A row as its objects tell of it; its newest revision is the one that stands."""

    key: str
    request_hash: str | None
    revision: int
    images: tuple[Found, ...]  # of all revisions, surplus ones last


@dataclass(slots=True, kw_only=True)
class Inventory:
    """What lies at a destination."""

    rows: dict[str, list[FoundRow]] = field(default_factory=dict)  # by batch
    by: Counter[SaidBy] = field(default_factory=Counter)  # images, by who says what they are
    foreign: int = 0  # objects that are none of ours
    doubles: int = 0  # objects for a place that another has
    mixed: int = 0  # rows whose images say different things of their request
    unclear: list[Found] = field(default_factory=list)  # images that may be of several batches


def inventory(found: Iterable[Found | None]) -> Inventory:
    """The rows that objects belong to; None stands for a stranger's, and so does what cannot be ours."""
    counted = Inventory()
    grouped: dict[tuple[str, str], dict[tuple[int, int, str], Found]] = defaultdict(dict)
    for each in found:
        if each is None or not _is_possible(each):
            counted.foreign += 1
            continue
        if each.others:
            counted.unclear.append(each)
            continue
        counted.by[each.by] += 1
        _place(counted, grouped[each.batch, each.key], each)
    for (batch, key), places in sorted(grouped.items()):
        counted.rows.setdefault(batch, []).append(_row(counted, key, list(places.values())))
    return counted


def _place(counted: Inventory, places: dict[tuple[int, int, str], Found], each: Found) -> None:
    """Of two for one place the later: what stood there before was taken for another's when it was put."""
    place = (each.revision, each.slot, each.path if each.surplus else "")
    before = places.get(place)
    counted.doubles += before is not None
    if before is None or before.twin < each.twin:
        places[place] = each


def _row(counted: Inventory, key: str, images: list[Found]) -> FoundRow:
    own = [each for each in images if not each.surplus] or images
    newest = max(each.revision for each in own)
    hashes = Counter(each.request_hash for each in own if each.revision == newest)
    counted.mixed += len(hashes) > 1
    ordered = sorted(images, key=lambda each: (each.surplus, each.revision, each.slot, each.path))
    return FoundRow(key=key, request_hash=hashes.most_common(1)[0][0], revision=newest, images=tuple(ordered))


def path_of(image: Found) -> str:
    """The row's path with index and extension left open, as far as one object tells; the next manifest says better."""
    escaped = image.path.replace("{", "{{").replace("}", "}}")
    plain = IMAGE.sub(".{ext}", escaped)
    index = f"{image.slot}.r{image.revision}" if image.revision > 1 else str(image.slot)
    before, found, after = plain.rpartition(index)
    return f"{before}{{index}}{after}" if found else plain
