"""Samples: the stored images of result lines, with name, split, caption and what is known of each. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from jobs.export.findings import FOUND_FLAGS
from jobs.export.options import ExportOptions, split_of
from jobs.formatting import usd
from jobs.manifest.nested import TemplateColumns
from jobs.manifest.raw_rows import ROW_COLUMN
from jobs.results.rows import own_values
from jobs.states import ImageState

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Result, StoredImage

PROMPT = "prompt"  # in captions: the finished prompt
DUPLICATE_OF = "duplicate_of"  # only where near duplicates are flagged
#: What is told of each image beside the row's own columns, in this order; the last three only where they are asked for.
PROVENANCE = (
    "batch", "key", "index", "model", "provider", PROMPT, "request", "width", "height", "time", "sha256",
    "source_sha256", "flags", DUPLICATE_OF, "price_usd", "cost_usd",
)  # fmt: skip
COSTS = frozenset({"price_usd", "cost_usd"})

#: Bytes of a batch's name or a key that stand in a sample's name.
_LONGEST_PART = 100
#: Between the parts of a name; stands in none of them.
_BETWEEN = "__"
#: Before the hash of a part that was changed; stands in no other part.
_CHANGED = "--"
_ENDINGS = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSample:
    """One image of a data set, before its bytes are read."""

    name: str  # without ending; unique within the data set
    ending: str  # "png", as the image is stored
    split: str
    row: str  # what the variations of one row have in common, in whatever batch
    caption: str
    own: Mapping[str, object]  # the row's own columns
    facts: Mapping[str, object]  # `PROVENANCE`, without what only the exported bytes say; times as Unix seconds
    batch: str
    key: str
    index: int
    dest: str  # where the image lies
    path: str
    sha256: str | None  # on record of the stored bytes
    size: int  # bytes on record; 0: not known
    flags: tuple[str, ...]  # without `found_before`
    found_before: tuple[str, ...]  # by earlier exports that looked at it: no part of what is written
    image_id: int | None  # in the ledger; None: not known
    price: int | None  # micro-dollars, list price; None: not known

    @property
    def identity(self) -> bytes:
        """What makes it this sample, as bytes: changes whenever something that is written of it would."""
        said = [self.name, self.split, self.caption, self.sha256, self.own, self.facts, self.flags]
        return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def samples_of(batch: Batch, result: Result, options: ExportOptions, names: SampleNames) -> Iterator[ImageSample]:
    """A row's stored images of its newest revision. `names`: those of earlier rows; this one's is added.

    Raises:
        Missing: A field of the caption without a default is empty.
    """
    stored = [image for image in result.images if image.state == ImageState.STORED and image.path]
    if not stored:
        return
    prompt = result.request.prompt if result.request else ""
    own = own_values(result)
    row = str(result.carried.get(ROW_COLUMN, result.key))
    caption = options.caption.render({**_texts(options, own), PROMPT: prompt})
    split = split_of(_split_value(row, own, options.split_by), options.splits)
    name = names.of(batch.name, result.key)
    for image in stored:
        yield ImageSample(
            name=f"{name}{_BETWEEN}{image.slot}",
            ending=_ENDINGS.get(image.format or "", image.format or "bin"),
            split=split,
            row=row,
            caption=caption,
            own=own,
            facts=_facts(batch, result, image, with_cost=options.with_cost),
            batch=batch.name,
            key=result.key,
            index=image.slot,
            dest=image.dest or batch.dest,
            path=image.path or "",
            sha256=image.sha256,
            size=image.bytes or 0,
            flags=tuple(flag for flag in image.flags if flag not in FOUND_FLAGS),
            found_before=tuple(flag for flag in image.flags if flag in FOUND_FLAGS),
            image_id=image.image_id,
            price=image.cost,
        )


class SampleNames:
    """Names of rows in one data set, `BATCH__KEY`: safe in every file system, without dots, and no two alike.

    A name gets a hash where an earlier row has the same one to a file system that overlooks case.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()  # what each looks like, in 8 bytes: there may be a million

    def of(self, batch: str, key: str) -> str:
        """The name of the next row. The same rows in the same order have the same names."""
        name = _BETWEEN.join((_safe(batch), _safe(key)))
        if (looks := _looks(name)) in self._taken:
            return _marked(name, f"{batch}\0{key}")
        self._taken.add(looks)
        return name


def _looks(name: str) -> int:
    """The same number for names that differ in case alone, or in how Unicode composes a character."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest())


def _safe(text: str) -> str:
    """A part of a name. One that had to be changed ends with a hash, behind what no unchanged part has in it."""
    clean = re.sub(r"[^\w-]+|_{2,}", "-", text).strip("_")
    cut = re.sub(f"{_CHANGED}+", "-", clean.encode()[:_LONGEST_PART].decode(errors="ignore"))
    return cut if cut == text else _marked(cut.strip("-_"), text)


def _marked(name: str, text: str) -> str:
    return f"{name}{_CHANGED}{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _texts(options: ExportOptions, own: Mapping[str, object]) -> dict[str, str]:
    columns = TemplateColumns(own)
    return {each.name: columns.get(each.name, "") for each in options.caption.fields if each.name != PROMPT}


def _split_value(row: str, own: Mapping[str, object], column: str | None) -> str:
    """A row's key alone, without its batch: another batch of the same manifest splits it alike."""
    return row if column is None else TemplateColumns(own).get(column, "")


def _facts(batch: Batch, result: Result, image: StoredImage, *, with_cost: bool) -> dict[str, object]:
    request = orjson.loads(result.request.to_json()) if result.request else {}
    rest = {name: value for name, value in request.items() if name not in {PROMPT, "model"}}
    facts: dict[str, object] = {
        "batch": batch.name,
        "key": result.key,
        "index": image.slot,
        "model": request.get("model"),
        "provider": image.provider or result.provider,
        PROMPT: request.get(PROMPT),
        "request": orjson.dumps(rest).decode(),
        "width": image.width,
        "height": image.height,
        "time": image.stored_at,
        "source_sha256": image.sha256,
    }
    return facts | ({"price_usd": usd(image.cost), "cost_usd": usd(result.cost)} if with_cost else {})
