"""What was measured last, by benchmark: `docs/performance.json`. Each set has its own date and machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine
from benchmarks.measure import ROOT, Findings

FILE = ROOT / "docs" / "performance.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureSet:
    """What one benchmark found, when and where."""

    title: str
    on: date
    machine: Machine
    findings: Findings

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> FigureSet:
        """From its JSON."""
        lines = [(name, value) for name, value in told["lines"]]
        return cls(
            title=told["title"],
            on=date.fromisoformat(told["date"]),
            machine=Machine(**told["machine"]),
            findings=Findings(lines=lines, numbers=told["numbers"]),
        )

    def document(self) -> dict[str, Any]:
        """Its JSON."""
        return {
            "title": self.title,
            "date": self.on.isoformat(),
            "machine": dataclasses.asdict(self.machine),
            "lines": self.findings.lines,
            "numbers": self.findings.numbers,
        }


Figures = dict[str, FigureSet]  # by the benchmark's name, in the order of the page


def load(file: Path = FILE) -> Figures:
    """Everything on record."""
    return {name: FigureSet.read(told) for name, told in json.loads(file.read_text(encoding="utf-8")).items()}


def save(figures: Figures, file: Path = FILE) -> None:
    """Writes everything anew."""
    told = {name: figure_set.document() for name, figure_set in figures.items()}
    file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
