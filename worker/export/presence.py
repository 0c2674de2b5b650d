"""Whether what an export wrote still lies at its destination, as far as a store tells it without giving bytes.

A file is lost where it is gone, or has another size than it was written with. Of the pictures of an image folder, which
are listed and not asked for one by one, only those that are gone are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import orjson

from jobs.export.samples import ImageSample
from worker.export.state import FinishedPart, forget, lines_name
from worker.storage.base import Store

#: Files that are asked for at once.
_LOOKS = 16


def lost_files(store: Store, sizes: Mapping[str, int | None]) -> Iterator[dict[str, str]]:
    """Which files are lost, and why. `sizes`: bytes of each; None: any."""
    with ThreadPoolExecutor(_LOOKS, thread_name_prefix="export-look") as threads:
        for path, found in zip(sizes, threads.map(store.look, sizes), strict=True):
            size = sizes[path]
            if found is None:
                yield {"file": path, "reason": "gone"}
            elif size is not None and found.size != size:
                yield {"file": path, "reason": f"of {found.size:,} bytes, and was written with {size:,}"}


def lost_pictures(store: Store, samples: Iterable[ImageSample], left_out: frozenset[str]) -> Iterator[dict[str, str]]:
    """Which pictures of an image folder are gone. `left_out`: names of samples that it never had."""
    there: dict[str, frozenset[int]] = {}
    for sample in samples:
        if sample.split not in there:
            there[sample.split] = _pictures(store, sample.split)
        if hash(sample.name) not in there[sample.split] and sample.name not in left_out:
            yield {"file": f"{sample.split}/{sample.name}", "reason": "gone"}


def names_in(store: Store, path: str) -> frozenset[str]:
    """The names of samples in a list of those that were left out."""
    return frozenset(orjson.loads(line)["name"] for line in (store.read(path) or b"").splitlines())


def keep_intact(store: Store, parts: list[FinishedPart]) -> list[FinishedPart]:
    """The parts before the first one of which something is lost. The others are forgotten, and so made again."""
    lost = {each["file"] for each in lost_files(store, {part.file: part.file_bytes for part in parts})}
    there: dict[str, frozenset[int]] = {}
    for number, part in enumerate(parts):
        if part.file == lines_name(part.number) and part.split not in there:
            there[part.split] = _pictures(store, part.split)
        if part.file in lost or not _has_pictures(store, part, there):
            forget(store, parts[number:])
            return parts[:number]
    return parts


def _has_pictures(store: Store, part: FinishedPart, there: Mapping[str, frozenset[int]]) -> bool:
    """Whether all pictures that the lines of a part of an image folder name are there; any other part has none."""
    if part.file != lines_name(part.number):
        return True
    lines = (store.read(part.file) or b"").splitlines()
    return all(hash(PurePosixPath(orjson.loads(line)["file_name"]).stem) in there[part.split] for line in lines)


def _pictures(store: Store, split: str) -> frozenset[int]:
    """Names of the pictures of a split without their endings, as hashes: there may be a million."""
    paths = map(PurePosixPath, store.objects(split))
    return frozenset(hash(path.stem) for path in paths if path.parent.as_posix() == split)
