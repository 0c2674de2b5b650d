"""All benchmarks, and a table of what they found. About twenty-one minutes on two cores."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import cluster_cpu, copying, cpu, export, flood, plan, polling, recording, start, webhooks
from benchmarks.measure import show

ALL: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "Start (median of 10)": lambda: start.measure(10),
    "CPU per image (SQLite, 200 kB images, S3)": lambda: cpu.measure(500, 2_500, rounds=3, to="s3"),
    "CPU per image (SQLite, 200 kB images, a folder)": lambda: cpu.measure(500, 2_500, rounds=3, to="folder"),
    "CPU per image (two Celery workers, PostgreSQL, Redis counted, S3)": lambda: cluster_cpu.measure(
        200, 1_200, rounds=3
    ),
    "Copying (64 images of 25 MB, S3)": lambda: copying.measure(copying.IMAGES, copying.SIZE),
    "Export (100,000 images of 10 kB, folder to folder)": lambda: export.measure(100_000),
    "Wrong callbacks, 1,000 a second beside a run (SQLite)": lambda: flood.measure(10.0, 600),
    "Lateness of finding, tasks of 5 to 20 s (SQLite)": lambda: webhooks.measure(200),
    "Polling (1,000 images in virtual time; alone it tells more)": lambda: polling.measure(1_000, 1),
    "Planning (CSV of five columns, a template prompt)": lambda: plan.measure(100_000, 1_000_000),
    "Recording (SQLite, CSV of five columns, a template prompt)": lambda: recording.measure(100_000, 500_000),
}


def main() -> None:
    """Runs them one after the other, since they would disturb each other."""
    found = {}
    for title, measure in ALL.items():
        print(f"measuring: {title} ...", flush=True)
        found[title] = measure()
    for title, lines in found.items():
        show(title, lines)


if __name__ == "__main__":
    main()
