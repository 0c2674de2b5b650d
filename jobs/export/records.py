"""What is written of each sample: which columns, under which names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.errors import BadInput
from jobs.export.findings import PictureFinding
from jobs.export.options import ExportOptions
from jobs.export.samples import COSTS, DUPLICATE_OF, PROMPT, PROVENANCE, ImageSample
from jobs.manifest.raw_rows import OWN_PREFIX
from jobs.results.rows import Column, Type, Values, near
from jobs.results.writers import arrow_value, as_text, with_own_types

#: Names that training scripts and the libraries that load data sets take for something: an own column gives way.
_TAKEN = frozenset({"image", "text"})
_FILE_NAME = re.compile(r"(?<![^_])file_name(?=s?$)")

#: What columns of provenance hold; text, if nothing is said.
_TYPES = {
    "index": Type.INTEGER, "width": Type.INTEGER, "height": Type.INTEGER, "flags": Type.TEXTS,
    "price_usd": Type.OWN_NUMBER, "cost_usd": Type.OWN_NUMBER,
}  # fmt: skip
_PARQUET_TYPES = {**_TYPES, "time": Type.TIME}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordShape:
    """The columns of every record, in order: the same ones, so that a data set is one table."""

    columns: tuple[Column, ...]
    own_names: Mapping[str, str]  # of all own columns: the names that they have here
    own: frozenset[str]  # the latter
    shape: str  # of the data set
    states_types: bool = False  # of an image folder: its metadata says them, as `datasets` would guess others

    @property
    def typed(self) -> bool:
        """Whether every value is of its column's type; else own values are as they stand."""
        return self.shape != "webdataset"

    def record(
        self, sample: ImageSample, *, sha256: str, finding: PictureFinding, pixels: tuple[int, int] | None = None
    ) -> dict[str, object]:
        """What is written of a sample. `sha256` and `pixels`: of the exported picture; None: as on record."""
        flags = sorted({*sample.flags, *finding.flags})
        said = {**sample.facts, "sha256": sha256, "flags": flags, DUPLICATE_OF: finding.duplicate_of}
        if self.shape != "parquet":  # the one that has a type for it
            said["time"] = as_text(Type.TIME, said["time"]) or None
        if pixels is not None:
            said["width"], said["height"] = pixels
        values = {each.name: (sample.own if each.name in self.own else said).get(each.source) for each in self.columns}
        if self.typed:
            values = {each.name: arrow_value(each.type, each.type, values[each.name]) for each in self.columns}
        if self.shape == "parquet":
            return values
        texts = (Type.TEXT, Type.OWN) if self.typed else (Type.TEXT,)
        for each in self.columns:
            if (value := values[each.name]) is None or isinstance(value, list):  # few are, and this is done a lot
                values[each.name] = _loadable(value, each.type, texts)
        return values


def record_shape(own: Iterable[str], options: ExportOptions, lines: Iterable[Values] = ()) -> RecordShape:
    """The columns of the records. `own`: those of all batches. `lines`: rows with them, read as far as types need it.

    Raises:
        BadInput: A column that is asked for, in the options or in the caption, is not there.
    """
    own = dict.fromkeys(own)
    _demand_known(own, options)
    mine = _own_columns(own)
    types = _PARQUET_TYPES if options.shape == "parquet" else _TYPES
    everything = mine + [
        Column(name=f"{OWN_PREFIX}{name}" if name in own else name, source=name, type=types.get(name, Type.TEXT))
        for name in PROVENANCE
        if (options.with_cost or name not in COSTS) and (options.near_duplicates == "flag" or name != DUPLICATE_OF)
    ]
    chosen = everything if options.columns is None else _chosen(options.columns, mine, everything)
    names = {each.source: each.name for each in mine}
    shape = RecordShape(columns=tuple(chosen), own_names=names, own=frozenset(names.values()), shape=options.shape)
    return replace(shape, columns=_with_types(chosen, mine, lines)) if shape.typed else shape


#: Text that `datasets` takes for a time where every row has such text.
_LIKE_A_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}.*)?", re.ASCII | re.DOTALL)


def has_to_state_types(shape: RecordShape, samples: Iterable[ImageSample]) -> bool:
    """Whether `datasets` may guess other types from records in JSON than their columns have.

    It looks at some megabytes of each split at a time. Where this is False, it guesses the same from any of them:
    no text looks like a time, but for `time` itself, and no number is missing.
    """
    return any(
        _LIKE_A_TIME.fullmatch(sample.caption) or any(_is_guessed_wrong(shape, sample, each) for each in shape.columns)
        for sample in samples
    )


def _is_guessed_wrong(shape: RecordShape, sample: ImageSample, column: Column) -> bool:
    is_own = column.name in shape.own
    value = (sample.own if is_own else sample.facts).get(column.source)
    if column.type in {Type.TEXT, Type.OWN} and (is_own or column.source != "time"):
        return isinstance(value, str) and _LIKE_A_TIME.fullmatch(value) is not None
    return value is None and column.type is not Type.TEXTS


def _loadable(value: object, kind: Type, texts: Sequence[Type]) -> object:
    """`datasets` takes the first records for the types of all: no empty list, no text (of `texts`) that is nothing."""
    if kind is Type.TEXTS and isinstance(value, list):
        return ", ".join(value)
    return "" if value is None and kind in texts else value


def _own_columns(own: Iterable[str]) -> list[Column]:
    """Each under a name of its own: one that gives way takes none that is there."""
    names = list(own)
    taken = {name for name in names if _given_way(name) == name}
    found = []
    for name in names:
        shown = given = _given_way(name)
        number = 2
        while shown != name and shown in taken:
            shown, number = f"{given}_{number}", number + 1
        taken.add(shown)
        found.append(Column(name=shown, source=name, type=Type.OWN))
    return found


def _given_way(name: str) -> str:
    if _FILE_NAME.search(name):  # whatever stands before it, `datasets` loads a picture of that name
        return f"own_{_FILE_NAME.sub('filename', name)}"
    return f"own_{name}" if name in _TAKEN else name


def _chosen(names: Sequence[str], mine: Sequence[Column], everything: Sequence[Column]) -> list[Column]:
    by_name = {each.name: each for each in everything} | {each.source: each for each in mine}
    if problems := [
        f'--columns: there is no column "{name}".{_costs(name)} {near(name, by_name)}'
        for name in names
        if name not in by_name
    ]:
        raise BadInput(problems)
    return [by_name[name] for name in names]


def _with_types(chosen: Sequence[Column], mine: Sequence[Column], lines: Iterable[Values]) -> tuple[Column, ...]:
    """An own column is of numbers, or of true and false, where every row says so; else of text."""
    wanted = [each for each in chosen if each in mine]
    types = {each.name: each.type for each in with_own_types(wanted, lines, mixes_numbers=True)}
    return tuple(replace(each, type=types.get(each.name, each.type)) for each in chosen)


def _costs(name: str) -> str:
    return " It is there with --with-cost." if name in COSTS else ""


def _demand_known(own: Iterable[str], options: ExportOptions) -> None:
    known = list(own)
    asked = [("--caption", each.name) for each in options.caption.fields if each.name != PROMPT]
    asked += [("--split-by", options.split_by)] if options.split_by is not None else []
    if problems := [
        f'{option}: there is no column "{name}". {near(name, [*known, *([PROMPT] * (option == "--caption"))])}'
        for option, name in asked
        if name not in known and not any(name.startswith(f"{head}.") for head in known)
    ]:
        raise BadInput(problems)
