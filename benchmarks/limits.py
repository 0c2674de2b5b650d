"""How fully a cluster uses a provider's limits, and how seldom it crosses them: real workers, a strict stand-in.

What counts is what the stand-in saw. `python -m benchmarks.limits declared` measures one part.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import LIGHTFAST, ROOT, show
from sandbox.cluster import BUCKET, Cluster, cluster
from sandbox.launch import Box

WORKERS = 4
PROVIDER = "maxapi.io"
MINUTE = 60.0
#: Seconds that a new worker gets, and that are left out after a kill.
SETTLED = 5.0
TASKS = {"takes": {"default": [0.6, 1.5]}, "pictures": {"tiny": True}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the stand-in saw of submits."""

    submits: list[dict[str, Any]]
    began: float

    def taken(self, since: float, until: float, prompt: str = "") -> int:
        """How many it accepted between two moments, in seconds from the first."""
        return sum(bool(each["task_id"]) for each in self._between(since, until) if prompt in (each["prompt"] or ""))

    def refused(self, since: float, until: float) -> int:
        """How many it answered with 429."""
        return sum(each["status"] == 429 for each in self._between(since, until))

    def refused_part(self, since: float, until: float) -> str:
        """That as a part of all."""
        return f"{self.refused(since, until) / max(1, len(self._between(since, until))):.2%}"

    def _between(self, since: float, until: float) -> list[dict[str, Any]]:
        return [each for each in self.submits if since <= each["at"] - self.began < until]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A cluster at work."""

    running: Cluster
    box: Box
    folder: Path

    def submit(self, name: str, rows: int, *options: str) -> None:
        """Records a batch for the workers."""
        file = self.folder / f"{name}.csv"
        file.write_text("prompt,provider\n" + "".join(f"{name} {row},{PROVIDER}\n" for row in range(rows)))
        command = [LIGHTFAST, "submit", str(file), "--to", f"s3://{BUCKET}", "--yes", "--quiet", *options]
        subprocess.run(command, cwd=self.folder, env=dict(self.running.environment), check=True)

    def seen(self) -> Seen:
        """Everything until now."""
        submits = [each for each in self.box.submits() if each["provider"] == PROVIDER]
        return Seen(submits=submits, began=min((each["at"] for each in submits), default=time.time()))

    def until(self, seconds: float) -> None:
        """Returns so many seconds after the first submit."""
        while not self.box.stats()["providers"][PROVIDER]["submits"]:
            time.sleep(0.2)
        time.sleep(max(0.0, self.seen().began + seconds - time.time()))


@contextlib.contextmanager
def _stage(limits: Mapping[str, float], declared: str, **scenario: object) -> Iterator[Stage]:
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="lightfast-limits-") as name:
        folder = Path(name)
        (folder / "scenario.json").write_text(json.dumps({**TASKS, "limits": {PROVIDER: limits}, **scenario}))
        formation = {"worker": WORKERS, "beat": 1}
        with cluster(
            folder=folder, formation=formation, say=lambda _: None, scenario=folder / "scenario.json", limits=declared
        ) as running:
            yield Stage(running=running, box=Box(running.stand_in.url, None), folder=folder)  # type: ignore[arg-type]


def declared() -> list[tuple[str, str]]:
    """20 a second declared, a bucket of 21: a minute, and another in which a worker is killed."""
    lines = "submits_per_second = 20.0\nmax_in_flight = 400\n"
    with _stage({"submits_per_second": 21, "burst": 21}, lines) as stage:
        stage.submit("declared", 3_000)
        kill_at = SETTLED + MINUTE + MINUTE / 2
        stage.until(kill_at)
        stage.running.workers[0].kill()
        stage.until(SETTLED + 2 * MINUTE + SETTLED)
        seen = stage.seen()
        again = kill_at + SETTLED
    calm, after = seen.taken(SETTLED, SETTLED + MINUTE), seen.taken(again, again + MINUTE / 2)
    before = seen.taken(SETTLED + MINUTE, kill_at)
    return [
        ("allowance used in a minute", f"{calm / (20 * MINUTE):.1%}"),
        ("429s in it", str(seen.refused(0, SETTLED + MINUTE))),
        ("used before and after a kill -9, less 5 s", f"{(before + after) / (20 * MINUTE):.1%}"),
        ("429s in all", str(seen.refused(0, 1e9))),
    ]


def undeclared() -> list[tuple[str, str]]:
    """12 a second and 40 at once, not told; from 125 s on 6 a second."""
    limits = {"submits_per_second": 12, "burst": 12, "in_flight": 40}
    with _stage(limits, "") as stage:
        stage.submit("undeclared", 3_000)
        stage.until(2 * MINUTE + SETTLED)
        stage.box.arrange({**TASKS, "limits": {PROVIDER: {**limits, "submits_per_second": 6, "burst": 6}}})
        changed = time.time()
        stage.until(3 * MINUTE + SETTLED + 15)
        seen = stage.seen()
    change = changed - seen.began
    return [
        *(
            (f"accepted a second, {at:.0f} to {at + 15:.0f} s", f"{seen.taken(at, at + 15) / 15:.1f}")
            for at in (0.0, 15.0, 30.0, 45.0)
        ),
        ("used in the second minute", f"{seen.taken(MINUTE, 2 * MINUTE) / (12 * MINUTE):.1%}"),
        ("429s in it", seen.refused_part(MINUTE, 2 * MINUTE)),
        ("halved: accepted a second, first 15 s", f"{seen.taken(change, change + 15) / 15:.1f}"),
        ("halved: used from the 15th second on", f"{seen.taken(change + 15, change + 60) / (6 * 45):.1%}"),
        (
            "halved: 429s, first 15 s, then",
            f"{seen.refused(change, change + 15)}, {seen.refused_part(change + 15, change + 60)}",
        ),
    ]


def shared() -> list[tuple[str, str]]:
    """A batch of 3,000 rows is at work, one of 100 comes, and one of 200 with twice the priority."""
    with _stage({}, "submits_per_second = 20.0\nmax_in_flight = 400\n") as stage:
        stage.submit("long", 3_000)
        stage.until(SETTLED)
        stage.submit("short", 100)
        stage.until(SETTLED + 20)
        stage.submit("twice", 200, "--priority", "2")
        stage.until(SETTLED + 45)
        seen = stage.seen()
    parts = [("short", 100), ("twice", 200)]
    return [(f"share of {name} ({rows} rows) while it had work", _share(seen, name)) for name, rows in parts]


def _share(seen: Seen, name: str) -> str:
    times = [each["at"] - seen.began for each in seen.submits if name in (each["prompt"] or "")]
    first, last = min(times), max(times)
    return f"{seen.taken(first, last, name) / max(1, seen.taken(first, last)):.0%}"


PARTS: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "declared": declared,
    "undeclared": undeclared,
    "shared": shared,
}


def measure(*names: str) -> list[tuple[str, str]]:
    """All parts, or those named."""
    return [(f"{name}: {line}", value) for name in names or PARTS for line, value in PARTS[name]()]


def main() -> None:
    """Prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without")
    show(f"Limits ({WORKERS} workers, PostgreSQL, Valkey)", measure(*parser.parse_args().parts))


if __name__ == "__main__":
    main()
