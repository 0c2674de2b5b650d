"""What is wrong with rows, and which of them have the same thing wrong, so that it is told once. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobs.formatting import count
from jobs.manifest.cells import shown
from jobs.manifest.raw_rows import WHOLE_ROW

#: Problems, causes and changed rows that are kept by name; all are counted.
NAMED = 100
#: Rows of one cause that are named after its first one.
_ALSO = 3
#: What differs from row to row and makes no other cause: paths, numbers of lines, counts.
_OF_THE_ROW = re.compile(r"\S*[/\\]\S*|\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """What is wrong with one row: where, and what is legal."""

    line: int
    key: str
    column: str
    value: str
    legal: str
    unit: str = "line"  # what `line` counts: "line", "row" of a sheet, "item" of a list
    is_repeat: bool = False  # an earlier row has the same value

    def __str__(self) -> str:
        """An option that no row can be made with is said once, without its rows."""
        return self.what if self.is_option else f"{self.unit} {self.line}, key {self.key or '(none)'}, {self.what}"

    @property
    def is_option(self) -> bool:
        """Whether the value is not the row's own."""
        return self.column.startswith("--")

    @property
    def what(self) -> str:
        """Without the place: `column ratio: "7:5". gpt-image-2 takes 1:1 3:2 …`."""
        if self.is_option:
            return f"{self.column}: {shown(self.value)}. {self.legal}"
        if self.column == WHOLE_ROW:
            return self.legal
        return f"column {self.column}{f': {shown(self.value)}.' if self.value else ' is empty:'} {self.legal}"


@dataclass(slots=True)
class Cause:
    """What is wrong in the same way with one row or many."""

    first: RowProblem
    rows: int = 1
    also: list[RowProblem] = field(default_factory=list)  # the next few

    @property
    def more(self) -> str:
        """The other rows in short: ` (and 132 more rows: line 3, line 4 "7:4", line 5 …)`; empty where it is one."""
        if self.rows == 1 or self.first.is_option:
            return ""
        lines = [
            f"{each.unit} {each.line}{f' {shown(each.value)}' if self._differs(each) else ''}" for each in self.also
        ]
        rest = " …" if self.rows - 1 > len(self.also) else ""
        return f" (and {count(self.rows - 1, 'more row')}: {', '.join(lines)}{rest})"

    def __str__(self) -> str:
        return f"{self.first}{self.more}"

    def _differs(self, other: RowProblem) -> bool:
        return other.value != self.first.value


@dataclass(slots=True)
class Problems:
    """What is wrong with the rows of a manifest, counted while they are read."""

    first: list[RowProblem] = field(default_factory=list)  # in the manifest's order; a row may have several
    _causes: dict[tuple[str, str], Cause] = field(default_factory=dict)

    def add(self, problems: Iterable[RowProblem]) -> None:
        """Counts what is wrong with one row."""
        for problem in problems:
            if len(self.first) < NAMED:
                self.first.append(problem)
            legal = problem.legal.replace(problem.value, "") if problem.value else problem.legal
            alike = (problem.column, _OF_THE_ROW.sub("0", legal))
            cause = self._causes.get(alike)
            if cause is not None:
                cause.rows += 1
                cause.also.extend([problem] * (len(cause.also) < _ALSO))
            elif len(self._causes) < NAMED:
                self._causes[alike] = Cause(problem)

    def causes(self) -> tuple[Cause, ...]:
        """The different things that are wrong, in the order in which they came up first."""
        return tuple(self._causes.values())
