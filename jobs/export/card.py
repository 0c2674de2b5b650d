"""The data set's card: README.md, with a head that the Hugging Face Hub and `datasets` read. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from jobs.export.options import ExportOptions
from jobs.export.records import RecordShape
from jobs.export.survey import SampleSurvey
from jobs.export.totals import Totals
from jobs.formatting import count, money

#: Where the files of a split are.
FILES: Mapping[str, str] = {
    "imagefolder": "{split}/**",
    "webdataset": "{split}-*.tar",
    "parquet": "data/{split}-*.parquet",
}
#: The Hub's words for sizes: each is for fewer images than its number.
_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSplit:
    """A split as the card tells it."""

    name: str
    files: str  # a pattern
    images: int
    bytes: int


def card(survey: SampleSurvey, shape: RecordShape, totals: Totals, sizes: Mapping[str, int]) -> bytes:
    """The card; the same bytes for the same data set. `sizes`: bytes of each split."""
    options = survey.options
    files = FILES[options.shape]
    splits = [
        CardSplit(
            name=each.name,
            files=files.format(split=each.name),
            images=totals.splits[each.name],
            bytes=sizes.get(each.name, 0),
        )
        for each in options.splits
        if totals.splits[each.name]
    ]
    text = _template().render(
        batches=[each.name for each in survey.batches],
        sandbox=any(each.sandbox for each in survey.batches),
        license=options.license,
        size=next((name for least, name in _SIZES if totals.images < least), "n>10M"),
        splits=splits,
        totals=totals,
        caption=options.caption.source,
        pictures_sentence=_pictures_sentence(options),
        split_sentence=_split_sentence(options, shape),
        with_cost=options.with_cost,
        price=money(totals.price),
        columns=_columns(shape),
        rows_without=survey.rows_without,
        rows_partial=survey.rows_partial,
        images_lacking=survey.images_lacking,
        rows_going_on=survey.rows_going_on,
        own_names=shape.own_names,
        near_duplicates=options.near_duplicates,
    )
    return str(text).encode()


def _pictures_sentence(options: ExportOptions) -> str:
    quality = "" if options.format == "png" else f" (quality {options.quality})"
    became = f" are converted to {options.format}{quality}" if options.format else ""
    smaller = f" have at most {options.max_side:,} pixels a side" if options.max_side else ""
    return f"Pictures{' and'.join(each for each in (became, smaller) if each)}. " if became or smaller else ""


def _split_sentence(options: ExportOptions, shape: RecordShape) -> str:
    if len(options.splits) == 1:
        return ""
    shares = ", ".join(f"{each.name} {float(each.share):g} %" for each in options.splits)
    if options.split_by is None:
        how = (
            "the key of the manifest's row, whatever the batch: all images of a row and its variations are in one split"
        )
    else:
        column = shape.own_names.get(options.split_by, options.split_by)
        how = f"the column `{_code(column)}`: all images with one value of it are in one split"
    return f"Splits ({shares}) are made by a hash of {how}."


def _columns(shape: RecordShape) -> Sequence[str]:
    return [each.name for each in shape.columns]


@functools.cache
def _template() -> Any:
    import jinja2  # noqa: PLC0415  only a card needs it

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    made = jinja2.Environment(  # noqa: S701  Markdown, whose cells are escaped one by one
        loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    made.filters |= {
        "json": lambda value: orjson.dumps(value).decode(),
        "count": lambda number, one, many=None: f"{number:,} {many}" if many and number != 1 else count(number, one),
        "cell": _cell,
        "code": _code,
        "tick": lambda name: f"`{_code(name)}`",
        "escape_md": _cell,
    }
    return made.get_template("card.md.j2")


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())


def _cell(text: str) -> str:
    """A value in a table: nothing in it is taken for Markdown or HTML."""
    line = " ".join(text.split())
    for special in "\\`*_{}[]<>|#":
        line = line.replace(special, f"\\{special}")
    return line
