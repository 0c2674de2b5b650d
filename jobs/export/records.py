"""What is written of each sample: which columns, under which names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.errors import BadInput
from jobs.export.options import ExportOptions
from jobs.export.samples import COSTS, PROMPT, PROVENANCE, ImageSample
from jobs.manifest.raw_rows import OWN_PREFIX
from jobs.results.rows import near

#: Names that the libraries that load data sets, or training scripts, take for something: an own column gives way.
TAKEN = frozenset({"image", "text", "file_name"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordColumn:
    """One column of the records."""

    name: str
    source: str  # the own column's, or that of `PROVENANCE`
    is_own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordShape:
    """The columns of every record, in order: the same ones, so that a data set is one table."""

    columns: tuple[RecordColumn, ...]

    def record(self, sample: ImageSample, *, sha256: str, flags: Sequence[str]) -> dict[str, object]:
        """What is written of a sample. `sha256`: of the exported bytes; `flags`: all that are known by now."""
        said = {**sample.facts, "sha256": sha256, "flags": sorted(flags)}
        return {
            each.name: sample.own.get(each.source) if each.is_own else said.get(each.source) for each in self.columns
        }


def record_shape(own: Iterable[str], options: ExportOptions) -> RecordShape:
    """The columns of the records. `own`: those of all batches.

    Raises:
        BadInput: A column that is asked for, in the options or in the caption, is not there.
    """
    own = dict.fromkeys(own)
    _demand_known(own, options)
    mine = [RecordColumn(name=f"own_{name}" if name in TAKEN else name, source=name, is_own=True) for name in own]
    mine += [
        RecordColumn(name=f"{OWN_PREFIX}{name}" if name in own else name, source=name, is_own=False)
        for name in PROVENANCE
        if options.with_cost or name not in COSTS
    ]
    if options.columns is None:
        return RecordShape(columns=tuple(mine))
    by_name = {each.name: each for each in mine} | {each.source: each for each in mine if each.is_own}
    if problems := [
        f'--columns: there is no column "{name}".{_costs(name)} {near(name, by_name)}'
        for name in options.columns
        if name not in by_name
    ]:
        raise BadInput(problems)
    return RecordShape(columns=tuple(by_name[name] for name in options.columns))


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
