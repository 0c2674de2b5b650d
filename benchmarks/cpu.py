"""CPU per image of a real `lightfast run` on SQLite, beside a bare loop that makes the same requests.

Both write to a folder. The total has the start in it; the marginal cost is what one image more costs: a long run less
a short one, divided by the difference.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cadence
from benchmarks.measure import LIGHTFAST, ROOT, Took, python, run, show


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a number of images took; seconds of CPU."""

    images: int
    took: Took
    requests: dict[str, int]  # as the server counted them

    @property
    def each(self) -> float:
        """Milliseconds an image, the start included."""
        return self.took.cpu / self.images * 1000

    @property
    def polls(self) -> float:
        """Polls an image."""
        return self.requests["polls"] / self.images


Side = Callable[[int, str, Path], Took]  # images, server's URL, folder


def measure(few: int, many: int) -> list[tuple[str, str]]:
    """Both sides, few images and many, at one server."""
    with _standin() as url:
        costs = {
            name: [_cost(side, images, url) for images in (few, many)]
            for name, side in (("bare", _bare), ("lightfast", _lightfast))
        }
    return [line for name, (short, long) in costs.items() for line in _told(name, short, long)] + _ratios(costs)


def marginal(short: Cost, long: Cost) -> float:
    """Milliseconds one image more costs."""
    return (long.took.cpu - short.took.cpu) / (long.images - short.images) * 1000


def _told(name: str, short: Cost, long: Cost) -> Iterator[tuple[str, str]]:
    yield f"{name}: CPU an image, of {long.images:,}, with the start", f"{long.each:.2f} ms"
    yield f"{name}: CPU of one image more", f"{marginal(short, long):.2f} ms"
    yield f"{name}: polls an image, images a second", f"{long.polls:.2f}, {long.images / long.took.wall:.0f}"


def _ratios(costs: dict[str, list[Cost]]) -> list[tuple[str, str]]:
    bare, ours = costs["bare"], costs["lightfast"]
    total, more = ours[1].each / bare[1].each, marginal(*ours) / marginal(*bare)
    return [("ratio, with the start", f"{total:.2f}"), ("ratio of one image more", f"{more:.2f}")]


def _cost(side: Side, images: int, url: str) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        _requests(url)
        took = side(images, url, Path(folder))
        made = len(list(Path(folder, "images").rglob("*.png")))
        if made != images:
            sys.exit(f"{made} images of {images} were made")
        return Cost(images=images, took=took, requests=_requests(url))


def _bare(images: int, url: str, folder: Path) -> Took:
    return run(python("benchmarks.bare", str(_manifest(folder, images)), url, str(folder / "images")), folder=folder)


def _lightfast(images: int, url: str, folder: Path) -> Took:
    (folder / "lightfast.toml").write_text(_settings(url), encoding="utf-8")
    manifest = _manifest(folder, images)
    return run([LIGHTFAST, "run", str(manifest), "--to", str(folder / "images"), "--yes", "--quiet"], folder=folder)


def _settings(url: str) -> str:
    return f"""
        allow_private_hosts = true
        [accounts.main]
        provider = "maxapi.io"
        api_key = "key"
        base_url = "{url}"
        submits_per_second = {cadence.SUBMITS_PER_SECOND}
        polls_per_second = {cadence.POLLS_PER_SECOND}
        max_in_flight = {cadence.IN_FLIGHT}
        first_poll_after = {cadence.FIRST_POLL_AFTER}
        poll_every = {cadence.POLL_EVERY}
    """


def _manifest(folder: Path, images: int) -> Path:
    path = folder / "lamps.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "prompt"])
        rows.writerows((f"lamp-{number:05}", f"Lifestyle photo of lamp {number}") for number in range(images))
    return path


@contextmanager
def _standin() -> Iterator[str]:
    with subprocess.Popen(
        python("benchmarks.standin"), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def _requests(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/counts") as answer:
        counts: dict[str, int] = json.load(answer)
        return counts


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--few", type=int, default=500)
    options.add_argument("--many", type=int, default=2500)
    given = options.parse_args()
    show("CPU per image (SQLite, 200 kB images, a folder)", measure(given.few, given.many))


if __name__ == "__main__":
    main()
