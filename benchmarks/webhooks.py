"""How late a finished provider task is found, with callbacks and without: found minus ended at the stand-in.

On one machine (`lightfast serve` beside `lightfast run` on SQLite), and with `--cluster` on the Procfile's processes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.house import house
from benchmarks.measure import LIGHTFAST, show
from jobs.ledger import open_ledger
from sandbox.cluster import BUCKET, cluster
from sandbox.launch import Box, running

LONGEST = 300.0  # seconds a batch may take
SCENARIO = {"takes": {"default": [5.0, 20.0]}, "pictures": {"tiny": True}, "answer_seconds": {"default": [0.05, 0.2]}}
HOW = {True: "callbacks", False: "polls only"}
#: Of the cluster's account, which declares a cadence: polls as seldom as a user would have them beside callbacks.
SELDOM = {"FIRST_POLL_AFTER": "22", "POLL_EVERY": "10"}
LIMITS = {"submits_per_second": 20.0, "max_in_flight": 100}


def measure(images: int, *, with_cluster: bool = False) -> list[tuple[str, str]]:
    """Lateness and polls, with and without."""
    found = []
    for hooks in (True, False):
        found += _told(f"run and serve, SQLite, {HOW[hooks]}", *_local(images, hooks=hooks))
    for hooks in (True, False) if with_cluster else ():
        found += _told(f"2 workers, PostgreSQL, {HOW[hooks]}", *_cluster(images, hooks=hooks))
    return found


def _told(name: str, late: Sequence[float], polls: float) -> Iterator[tuple[str, str]]:
    cuts = statistics.quantiles(late, n=20)
    yield name, f"median {statistics.median(late):.2f} s, 95 % {cuts[-1]:.2f} s, worst {max(late):.2f} s"
    yield "... polls an image", f"{polls:.2f}"


def _local(images: int, *, hooks: bool) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory() as name, running(SCENARIO) as box:
        folder = Path(name)
        with house(folder, box.url, LIMITS, hooks=hooks) as here:
            run = here.start("run", str(_manifest(folder, images)), "--to", "images", "--yes", "--quiet")
            if run.wait(LONGEST):
                raise RuntimeError(here.said())
        return _lateness(f"sqlite:///{folder}/lightfast.db", box), _polls(box, images)


def _cluster(images: int, *, hooks: bool) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scenario.json").write_text(json.dumps(SCENARIO))
        with (
            _polled_seldom(),
            (folder / "cluster.log").open("w") as log,
            cluster(
                folder=folder,
                say=lambda line: print(line, file=log, flush=True),
                scenario=folder / "scenario.json",
                callbacks=hooks,
            ) as house_,
        ):
            command = [LIGHTFAST, "submit", str(_manifest(folder, images)), "--to", f"s3://{BUCKET}"]
            subprocess.run(
                [*command, "--yes", "--quiet", "--wait"],
                env=dict(house_.environment),
                cwd=folder,
                check=True,
                timeout=LONGEST,
            )
            box = Box(house_.stand_in.url, None)  # type: ignore[arg-type]  the cluster ends its process
            return _lateness(house_.database.url, box), _polls(box, images)


@contextlib.contextmanager
def _polled_seldom() -> Iterator[None]:
    """The cluster's processes get what this process has."""
    ours = {f"LIGHTFAST_ACCOUNTS__MAXAPI_IO__{name}": value for name, value in SELDOM.items()}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _manifest(folder: Path, images: int) -> Path:
    path = folder / "lamps.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "prompt", "provider"])
        rows.writerows((f"lamp-{number:05}", f"photo of lamp {number}", "maxapi.io") for number in range(images))
    return path


def _lateness(url: str, box: Box) -> list[float]:
    """Of each task: when the ledger was told minus when it ended."""
    ended = {task["id"]: task["ends_at"] for task in box.tasks()}
    with contextlib.closing(open_ledger(url)) as ledger:
        lines = list(ledger.reports.audit())
    return [line.finished_at - ended[line.task_id] for line in lines if line.finished_at and line.task_id in ended]


def _polls(box: Box, images: int) -> float:
    return float(box.stats()["total"]["polls"]) / images


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=300)
    options.add_argument("--cluster", action="store_true")
    given = options.parse_args()
    show("Lateness of finding (tasks take 5 to 20 s)", measure(given.images, with_cluster=given.cluster))


if __name__ == "__main__":
    main()
