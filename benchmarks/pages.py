"""Puts what is on record into the pages: the tables of docs/performance.md and its plot, and those of docs/scale.md.

A page keeps its own words; what stands between two marks of a name is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import plot, scale
from benchmarks.figures import Figures, FigureSet
from benchmarks.measure import ROOT

DOCS = ROOT / "docs"
HEAD = ("", "")


def render(figures: Figures, docs: Path = DOCS) -> dict[Path, str]:
    """What each file that shows figures shall hold."""
    costs = scale.Costs.measured(figures)
    parts = {
        docs / "performance.md": {"figures": "\n\n".join(map(_section, figures.values()))},
        docs / "scale.md": {"limits": table(scale.carries(costs)), "sizes": table(scale.sizes(costs))},
    }
    pages = {page: _filled(page.read_text(encoding="utf-8"), named) for page, named in parts.items()}
    return {**pages, docs / "performance.svg": plot.drawn(figures)}


def write(figures: Figures) -> None:
    """Writes them."""
    for file, text in render(figures).items():
        file.write_text(text, encoding="utf-8")


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; its first row is the head."""
    head, *body = (_row(row) for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _row(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {_cell(each)} |" if each else " |" for each in cells)


def _cell(said: str) -> str:
    return said.replace("|", "\\|")


def _section(figure_set: FigureSet) -> str:
    when = f"{figure_set.on.day} {figure_set.on:%B %Y}; {figure_set.machine}."
    return "\n\n".join((f"## {figure_set.title}", when, table([HEAD, *figure_set.findings.lines])))


def _filled(page: str, named: dict[str, str]) -> str:
    for name, text in named.items():
        begin, end = _marks(name)
        pattern = re.compile(f"({re.escape(begin)}\n).*?(\n{re.escape(end)})", re.DOTALL)
        page, count = pattern.subn(lambda found, text=text: f"{found[1]}\n{text}\n{found[2]}", page)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the page needs one pair of marks {begin} … {end}, and has {count}")
    return page


def _marks(name: str) -> Iterator[str]:
    yield f"<!-- {name}: written by `make bench`, not by hand -->"
    yield f"<!-- end of {name} -->"
