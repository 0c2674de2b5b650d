"""Recording a manifest, as `lightfast run` and `submit` do after consent: rows a second, peak memory, bytes a row.

The survey before it, which plans the rows and keeps them for it, is no part of it. Of several times the quickest is
told: what else the machine does makes one slower, and none quicker. `--postgresql`: on its own server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.manifests import PROMPT, SETTINGS, manifest
from benchmarks.measure import Findings, Took, python, run, show
from sandbox.servers import postgres

MB = 1_000_000
TIMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A manifest that was recorded in a ledger of its own; seconds of that stage alone."""

    rows: int
    wall: float
    cpu: float
    whole: Took  # with the start and the survey before it
    size: int  # bytes of the ledger's file; 0: it has none

    def lines(self) -> Iterator[tuple[str, str]]:
        """Lines of a table."""
        yield f"{self.rows:,} rows: wall", f"{self.wall:.1f} s, {self.rows / self.wall:,.0f} rows a second"
        yield f"{self.rows:,} rows: CPU", f"{self.cpu:.1f} s, {self.rows / self.cpu:,.0f} rows a second"
        yield f"{self.rows:,} rows: peak memory", f"{self.whole.peak / MB:.0f} MB"
        if self.size:
            yield f"{self.rows:,} rows: ledger", f"{self.size / self.rows:.0f} bytes a row"


def measure(few: int, many: int, *, postgresql: bool = False) -> Findings:
    """Each manifest into new ledgers."""
    recorded = []
    for rows in (few, many):
        tries = [_recorded(rows, postgresql=postgresql) for _ in range(TIMES)]
        recorded.append(min(tries, key=lambda one: one.wall))
    return Findings(
        lines=[line for each in recorded for line in each.lines()],
        numbers={"rows_per_second": recorded[-1].rows / recorded[-1].wall},
    )


def _recorded(rows: int, *, postgresql: bool) -> Recorded:
    with tempfile.TemporaryDirectory() as name, _database(postgresql=postgresql) as url:
        folder = Path(name)
        (folder / "lightfast.toml").write_text(f"{url}{SETTINGS}", encoding="utf-8")
        return fill(manifest(folder, rows), folder, rows)


@contextlib.contextmanager
def _database(*, postgresql: bool) -> Iterator[str]:
    """A line of the settings that names the ledger; "" for a file beside them."""
    with postgres() if postgresql else contextlib.nullcontext() as server:
        yield f'database_url = "{server.url}"\n' if server else ""


def fill(file: Path, folder: Path, rows: int) -> Recorded:
    """Records it in the ledger that the folder's settings name."""
    whole = run(python("benchmarks.fill", str(file), PROMPT, str(folder / "images")), folder=folder)
    took = json.loads((folder / "out.log").read_text())
    ledger = folder / "lightfast.db"
    size = ledger.stat().st_size if ledger.exists() else 0
    return Recorded(rows=rows, wall=took["wall"], cpu=took["cpu"], whole=whole, size=size)


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--few", type=int, default=100_000)
    options.add_argument("--many", type=int, default=1_000_000)
    options.add_argument("--postgresql", action="store_true")
    given = options.parse_args()
    where = "PostgreSQL" if given.postgresql else "SQLite"
    found = measure(given.few, given.many, postgresql=given.postgresql)
    show(f"Recording ({where}, CSV of five columns, a template prompt)", found.lines)


if __name__ == "__main__":
    main()
