"""Finds the images of a lost ledger at a destination, and reads them: what they are is told by their own bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from jobs.errors import BadInput, StoreError
from jobs.ledger.batches.adopted_values import AdoptedImage, AdoptedRow
from jobs.planning.adoption import (
    IMAGE,
    Found,
    FoundRow,
    Inventory,
    Paths,
    at_place,
    by_metadata,
    by_path,
    by_sidecar,
    inventory,
    path_of,
    paths_of,
)
from jobs.planning.planner import DEFAULT_PATH
from worker.images.check import BadImage, check
from worker.images.sidecar import sidecar_path
from worker.runtime.executors import side_by_side
from worker.storage import ownership_mark
from worker.storage.base import METADATA_LIMIT, OWN, Store

#: Objects asked about at once, and images read at once: each is in memory whole.
LOOKS, READS = 32, 8

Tell = Callable[[int], None]  # how many so far


@dataclass(slots=True, kw_only=True)
class FoundObjects:
    """What was found at a destination."""

    found: Inventory
    marks: Mapping[str, ownership_mark.OwnershipMark]  # by batch
    deeper: Sequence[str] = ()  # folders below that have marks of their own


@dataclass(slots=True, kw_only=True)
class Reading:
    """Rows whose images were read, and objects that could not be."""

    rows: list[AdoptedRow] = field(default_factory=list)
    images: int = 0
    unreadable: list[str] = field(default_factory=list)  # "path: reason"


def look(store: Store, only: str | None = None, tell: Tell | None = None) -> FoundObjects:
    """Everything of ours at a destination; `only`: of that batch."""
    marks = {name: found for name in _marked(store) if (found := ownership_mark.look(store, name))}
    readers = [_reader(name, found.path) for name, found in marks.items()]
    everything = list(store.objects())
    deeper = sorted({path.partition(f"/{OWN}/")[0] for path in everything if _is_deeper_mark(path)})
    if deeper:
        return FoundObjects(found=inventory(()), marks=marks, deeper=deeper)
    paths = [path for path in everything if f"/{OWN}/" not in f"/{path}" and not path.endswith(".json")]
    asked = side_by_side(lambda path: _whose(store, path, [each for each in readers if each]), iter(paths), LOOKS)
    mine = (each for each in _counted(asked, tell) if each is None or only in (None, each.batch, *each.others))
    return FoundObjects(found=inventory(mine), marks=marks)


def _reader(batch: str, template: str) -> Paths | None:
    try:
        return paths_of(batch, template or DEFAULT_PATH)
    except BadInput:  # a damaged mark must not keep the other batches from being found
        return paths_of(batch, DEFAULT_PATH)


def _is_deeper_mark(path: str) -> bool:
    name = path.partition(f"/{OWN}/")[2]
    return name.endswith(".json") and "/" not in name


def _marked(store: Store) -> list[str]:
    below = [path.removeprefix(f"{OWN}/") for path in store.objects(OWN)]
    return [name.removesuffix(".json") for name in below if name.endswith(".json") and "/" not in name]


def _counted(items: Iterator[Found | None], tell: Tell | None) -> Iterator[Found | None]:
    for count, each in enumerate(items, 1):
        if tell:
            tell(count)
        yield each


def _whose(store: Store, path: str, readers: Sequence[Paths]) -> Found | None:
    if not IMAGE.search(path):
        return None
    seen = store.look(path)
    found = by_metadata(path, seen.metadata, METADATA_LIMIT) if seen else None
    if found:
        return at_place(found, filter(None, (each.find(path) for each in readers)))
    return _by_sidecar(store, path) or by_path(path, readers)


def _by_sidecar(store: Store, path: str) -> Found | None:
    content = store.read(sidecar_path(path))
    try:
        told = orjson.loads(content) if content else None
    except orjson.JSONDecodeError:
        return None
    return by_sidecar(path, told) if isinstance(told, dict) else None


# -- reading -------------------------------------------------------------------------------------------------------


def read(store: Store, rows: Sequence[FoundRow], now: float, tell: Tell | None = None) -> Reading:
    """Reads every image of these rows. One that cannot be read is left out, with its reason."""
    reading = Reading()
    for row, images in side_by_side(lambda row: (row, _read_row(store, row, now)), iter(rows), READS):
        good = tuple(each for each in images if isinstance(each, AdoptedImage))
        reading.unreadable += [each for each in images if isinstance(each, str)]
        reading.images += len(good)
        if any(each.revision == row.revision and not each.surplus for each in good):
            reading.rows.append(_adopted(row, good))
        if tell:
            tell(reading.images)
    reading.rows.sort(key=lambda each: each.key)
    return reading


def _adopted(row: FoundRow, images: tuple[AdoptedImage, ...]) -> AdoptedRow:
    own = next(each for each in row.images if each.revision == row.revision)
    return AdoptedRow(
        key=row.key, request_hash=row.request_hash, revision=row.revision, path=path_of(own), images=images
    )


def _read_row(store: Store, row: FoundRow, now: float) -> list[AdoptedImage | str]:
    return [_read(store, each, now) for each in row.images]


def _read(store: Store, found: Found, now: float) -> AdoptedImage | str:
    try:
        seen, content = store.look(found.path), store.read(found.path)
        checked = check(content or b"")
    except BadImage as bad:
        return f"{found.path}: no whole image: {bad.message}"
    except StoreError as error:
        return f"{found.path}: {error.message} ({error.code})"
    return AdoptedImage(
        slot=found.slot,
        revision=found.revision,
        surplus=found.surplus,
        path=found.path,
        sha256=checked.sha256,
        bytes=checked.size,
        width=checked.width,
        height=checked.height,
        format=checked.format,
        stored_at=seen.modified if seen else now,
    )
