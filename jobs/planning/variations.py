"""Rows made of rows: repeats left out, a sample, every combination of values, each of these several times. Pure.

In this order, whatever the order of the options: `--dedup`, `--sample`, `--vary`, `--repeat`. Rows stream; what is kept
of each is a hash, and only where `--dedup` or `--sample` needs it.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jobs.errors import BadInput
from jobs.formatting import count
from jobs.manifest.names import clean_name
from jobs.manifest.raw_rows import OWN_PREFIX, RawRow, Variation
from jobs.manifest.reader import Manifest
from jobs.states import JobState

if TYPE_CHECKING:
    from jobs.planning.planner import Planner

#: Rows that one row may become; more is rather a slip of the hand.
MOST_OF_A_ROW = 10_000
#: Characters of a value that stand in a key; a longer one is cut and told apart by a hash.
_LONGEST_PART = 48
#: Stands for each value of a column that is varied, where a key's template names it.
_ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariedColumn:
    """A column that every row gets, and its values: a row becomes one row for each."""

    name: str
    values: tuple[str, ...]
    parts: tuple[str, ...]  # of the key, one for each value


@dataclass(frozen=True, slots=True, kw_only=True)
class VariationOptions:
    """What becomes of the manifest's rows before they are planned."""

    columns: tuple[VariedColumn, ...] = ()
    repeat: int = 1
    sample: int | None = None  # rows; None: all
    seed: int = 0
    dedup: bool = False

    @property
    def any(self) -> bool:
        """Whether any row would be made or left out."""
        return bool(self.columns) or self.repeat > 1 or self.sample is not None or self.dedup

    @property
    def of_a_row(self) -> int:
        """Rows that one row becomes."""
        rows = self.repeat
        for column in self.columns:
            rows *= len(column.values)
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class VariationCounts:
    """Rows of the manifest in one pass, before they were multiplied."""

    rows: int = 0  # of the manifest
    repeated: int = 0  # left out by --dedup
    not_sampled: int = 0  # left out by --sample
    of_a_row: int = 1  # rows that each of the others became


def read_variations(
    texts: Sequence[str], *, repeat: int = 1, sample: int | None = None, seed: int | None = None, dedup: bool = False
) -> VariationOptions:
    """The options as they are written: `texts` are those of --vary, such as "style=watercolor|oil on canvas".

    Raises:
        BadInput: All that is wrong, at once.
    """
    problems: list[str] = []
    columns: dict[str, VariedColumn] = {}
    for text in texts:
        try:
            column = _read_column(text)
        except ValueError as wrong:
            problems.append(f'--vary "{text}": {wrong}')
            continue
        if column.name in columns:
            problems.append(f'--vary "{text}": {column.name} is given twice; name all of its values in one --vary')
        columns[column.name] = column
    if seed is not None and sample is None:
        problems.append("--seed: it says which rows --sample takes: give --sample N, or leave it out")
    options = VariationOptions(
        columns=tuple(columns.values()), repeat=repeat, sample=sample, seed=seed or 0, dedup=dedup
    )
    if options.of_a_row > MOST_OF_A_ROW:
        problems.append(
            f"--vary and --repeat would make {options.of_a_row:,} rows of each row; at most {MOST_OF_A_ROW:,}"
        )
    if problems:
        raise BadInput(problems)
    return options


def _read_column(text: str) -> VariedColumn:
    name, has_values, rest = text.partition("=")
    name = clean_name(name)
    values = tuple(each.strip() for each in rest.split("|"))
    if not (name and has_values and rest.strip()):
        raise ValueError("expected COLUMN=VALUE|VALUE, such as style=watercolor|photo")
    if set("{}|") & set(name) or name.startswith(OWN_PREFIX) or name == "key":
        raise ValueError(f"{name} cannot be such a column; give it another name")
    if not all(values):
        raise ValueError("a value is empty; between two | there is one")
    parts = tuple(map(_key_part, values))
    seen: dict[str, str] = {}
    for value, part in zip(values, parts, strict=True):
        if not part:
            raise ValueError(f'"{value}" has no letter or digit, which the key of its rows needs')
        if (other := seen.setdefault(part.casefold(), value)) != value or values.count(value) > 1:
            same = "is there twice" if other == value else f'and "{other}" would make the same key'
            raise ValueError(f'"{value}" {same}')
    return VariedColumn(name=name, values=values, parts=parts)


def _key_part(value: str) -> str:
    """A value as a key has it: readable, the same for ever, and safe in paths and in names of samples (no dots)."""
    part = re.sub(r"[^\w]+", "-", value).strip("-_")
    if len(part) <= _LONGEST_PART:
        return part
    return f"{part[:_LONGEST_PART].rstrip('-_')}-{hashlib.sha256(value.encode()).hexdigest()[:6]}"


@dataclass(slots=True, kw_only=True)
class Variations:
    """Makes the rows to be planned of those of a manifest. Each pass makes the same."""

    options: VariationOptions = field(default_factory=VariationOptions)
    _highest: bytes | None = None  # the rank of the sample's last row
    _rows: int = 0
    _repeated: int = 0
    _not_sampled: int = 0

    @property
    def counts(self) -> VariationCounts | None:
        """Of the newest pass; None: the manifest's rows are taken as they are."""
        if not self.options.any:
            return None
        return VariationCounts(
            rows=self._rows,
            repeated=self._repeated,
            not_sampled=self._not_sampled,
            of_a_row=self.options.of_a_row,
        )

    def on(self, manifest: Manifest) -> Manifest:
        """The manifest with the columns that are varied, in which each row has their first values.

        Raises:
            BadInput: It has such a column already.
        """
        first = {column.name: column.values[0] for column in self.options.columns}
        if there := [name for name in first if manifest.has(name)]:
            raise BadInput(
                [f"--vary {name}=…: {manifest.name} has a column {name} already. Give another name." for name in there]
            )
        return replace(manifest, added=first)

    def rows(self, read: Callable[[], Iterator[RawRow]], planner: Planner) -> Iterator[RawRow]:
        """The rows to be planned. `read`: a pass over the rows of `on`'s manifest."""
        if not self.options.any:
            yield from read()
            return
        position = 0
        combinations = self._combinations(planner)
        if self.options.sample is not None and self._highest is None:
            self._highest = self._last_of_sample(read, planner)
        self._rows = self._repeated = self._not_sampled = 0
        for raw, is_whole in self._distinct(read, planner):
            self._rows += 1
            if is_whole is None:
                self._repeated += 1
                continue
            if is_whole and self._highest is not None and self._rank(planner.key_of(raw)) > self._highest:
                self._not_sampled += 1
                continue
            key = self._row(raw, planner) if is_whole else ""
            # What cannot be read or is skipped is told once, not for each of its variations.
            for values, suffix, repeat in combinations if is_whole else combinations[:1]:
                variation = Variation(number=raw.position, suffix=suffix if is_whole else "", repeat=repeat, row=key)
                yield raw.with_cells(values)._replace(position=position, variation=variation)
                position += 1

    def _row(self, raw: RawRow, planner: Planner) -> str:
        """What all that is made of a row has in common, whatever values it gets later; "": nothing is made of it."""
        options = self.options
        if not options.columns and options.repeat == 1:
            return ""
        return planner.key_of(raw.with_cells({column.name: _ANY for column in options.columns}))

    def unused(self, planner: Planner) -> list[str]:
        """Columns that are varied and change no request."""
        named = {each.name for each in planner.prompt.fields} if planner.prompt else set()
        return [each.name for each in self.options.columns if each.name not in {*named, *planner.owns.values()}]

    def _combinations(self, planner: Planner) -> list[tuple[dict[str, str], str, int]]:
        """Values, what they add to the key, and which of the repeats it is, from 0."""
        in_key = {each.name for each in planner.key.fields} if planner.key else set()
        columns = self.options.columns
        found = []
        for at in itertools.product(*(range(len(column.values)) for column in columns)):
            values = {column.name: column.values[n] for column, n in zip(columns, at, strict=True)}
            named = "".join(f"-{c.parts[n]}" for c, n in zip(columns, at, strict=True) if c.name not in in_key)
            # The first of several keeps the key that it has without --repeat, so that more can be added later.
            found += [(values, f"{named}-{n + 1}" if n else named, n) for n in range(self.options.repeat)]
        return found

    def _distinct(self, read: Callable[[], Iterator[RawRow]], planner: Planner) -> Iterator[tuple[RawRow, bool | None]]:
        """Each row, with whether it is one that can be made; None: an earlier row asks for the same."""
        if not self.options.dedup:
            yield from ((raw, planner.is_taken(raw)) for raw in read())
            return
        seen: set[int] = set()
        for raw in read():
            # With the first values: two rows that ask for the same with these ask for the same with all.
            row = planner.plan(raw).row
            request = hash(row.request_hash)
            if row.state is not JobState.READY:
                yield raw, planner.is_taken(raw)
            elif request in seen:
                yield raw, None
            else:
                seen.add(request)
                yield raw, True

    def _last_of_sample(self, read: Callable[[], Iterator[RawRow]], planner: Planner) -> bytes:
        ranks = (self._rank(planner.key_of(raw)) for raw, is_whole in self._distinct(read, planner) if is_whole)
        return max(heapq.nsmallest(self.options.sample or 0, ranks), default=b"")

    def _rank(self, key: str) -> bytes:
        """Where a row comes in every sample of this seed: the same however many are taken."""
        return hashlib.sha256(f"{self.options.seed}\0{key}".encode()).digest()[:16]


def made_of(counts: VariationCounts, options: VariationOptions) -> str:
    """How the manifest's rows became those of the plan, for a person."""
    parts = [f"{count(counts.rows, 'row')} in the manifest"]
    parts += [f"{counts.repeated:,} ask for the same as an earlier one (--dedup)"] if options.dedup else []
    parts += [f"{counts.not_sampled:,} not in the sample (--sample)"] if options.sample is not None else []
    by = [f"{count(len(column.values), 'value')} of {column.name}" for column in options.columns]
    by += [f"{options.repeat:,} of each (--repeat)"] if options.repeat > 1 else []
    each = "each of the others" if len(parts) > 1 else "each"
    return "; ".join([", ".join(parts), *([f"{each} x {' x '.join(by)}"] if by else [])])
