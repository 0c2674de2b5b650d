"""All benchmarks: measures, prints, keeps the figures in docs/performance.json, and puts them into the pages.

About half an hour on two idle cores. `--only` measures those named and keeps the others' figures; `--render` measures
nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks import (
    cluster_cpu,
    copying,
    cpu,
    doors,
    export,
    figures,
    flood,
    growth,
    locks,
    pages,
    place_bound,
    plan,
    polling,
    recording,
    start,
    webhooks,
)
from benchmarks.figures import Figures, FigureSet
from benchmarks.machine import this_machine
from benchmarks.measure import Findings, Lines, show


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One that `make bench` runs."""

    title: str
    measure: Callable[[], Findings | Lines]

    def figures(self) -> FigureSet:
        """Measures. Date and load are those of the beginning."""
        on, machine = datetime.now(UTC).date(), this_machine()
        found = self.measure()
        findings = found if isinstance(found, Findings) else Findings(lines=found)
        return FigureSet(title=self.title, on=on, machine=machine, findings=findings)


#: By name, in the order of the page.
ALL = {
    "start": Benchmark("Start (median of 10)", lambda: start.measure(10)),
    "cpu_s3": Benchmark(
        "CPU per image (SQLite, 200 kB images, S3)", lambda: cpu.measure(500, 2_500, rounds=3, to="s3")
    ),
    "cpu_folder": Benchmark(
        "CPU per image (SQLite, 200 kB images, a folder)", lambda: cpu.measure(500, 2_500, rounds=3, to="folder")
    ),
    "cluster_cpu": Benchmark(
        "CPU per image (two Celery workers, PostgreSQL, Redis counted, S3)",
        lambda: cluster_cpu.measure(500, 2_500, rounds=3),
    ),
    "place_bound": Benchmark("A batch that waits for its places (400 images, 50 places)", place_bound.measure),
    "polling": Benchmark("Polling (1,000 images in virtual time)", lambda: polling.measure(1_000, 1)),
    "webhooks": Benchmark("Lateness of finding, tasks of 5 to 20 s (SQLite)", lambda: webhooks.measure(200)),
    "copying": Benchmark(
        "Copying (64 images of 25 MB due at once, S3)", lambda: copying.measure(copying.IMAGES, copying.SIZE)
    ),
    "plan": Benchmark("Planning (CSV of five columns, a template prompt)", lambda: plan.measure(100_000, 1_000_000)),
    "recording": Benchmark(
        "Recording (SQLite, CSV of five columns, a template prompt; the quickest of three)",
        lambda: recording.measure(100_000, 500_000),
    ),
    "recording_postgresql": Benchmark(
        "Recording (PostgreSQL, the same)", lambda: recording.measure(20_000, 100_000, postgresql=True)
    ),
    "growth": Benchmark("Growth (SQLite, 200 kB images, S3)", lambda: growth.measure([10_000, 1_000_000], rounds=3)),
    "growth_postgresql": Benchmark(
        "Growth (PostgreSQL counted, 200 kB images, S3)",
        lambda: growth.measure([10_000, 1_000_000], rounds=3, postgresql=True),
    ),
    "memory": Benchmark("Peak memory of a run (SQLite, a folder)", lambda: growth.memory(10_000, 100_000)),
    "locks": Benchmark("Locks of one account and of one batch (PostgreSQL)", locks.measure),
    "export": Benchmark("Export (100,000 images of 10 kB, folder to folder)", lambda: export.measure(100_000)),
    "doors": Benchmark("Pages and the API at 1,000,000 rows (SQLite)", lambda: doors.measure(1_000_000)),
    "doors_postgresql": Benchmark(
        "Pages and the API at 1,000,000 rows (PostgreSQL)", lambda: doors.measure(1_000_000, postgresql=True)
    ),
    "flood": Benchmark("Wrong callbacks, 1,000 a second beside a run (SQLite)", lambda: flood.measure(10.0, 600)),
}


def measure(names: Sequence[str], known: Figures, keep: Callable[[Figures], None]) -> None:
    """Runs them one after the other, since they would disturb each other. Each is kept as soon as it is there."""
    found = dict(known)
    for name in names:
        print(f"measuring: {ALL[name].title} ...", flush=True)
        found[name] = ALL[name].figures()
        keep({each: found[each] for each in ALL if each in found})
        show(f"{found[name].title}\n{found[name].machine}", found[name].findings.lines)


def _keep(found: Figures) -> None:
    figures.save(found)
    pages.write(found)


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=list(ALL), nargs="+", metavar="NAME", help=f"of {', '.join(ALL)}")
    options.add_argument("--render", action="store_true", help="the pages from the figures on record")
    given = options.parse_args()
    if given.render:
        pages.write(figures.load())
    else:
        measure(given.only or list(ALL), figures.load(), _keep)


if __name__ == "__main__":
    main()
