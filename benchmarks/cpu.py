"""CPU per image of a real `lightfast run` on SQLite, beside a bare loop that makes the same requests.

Both write to a bucket, or to a folder (`--to`). The total has the start in it; the marginal cost is what one image more
costs: a long run less a short one, divided by the difference. Both sides take turns, and the medians of all rounds are
told, since other work on the machine disturbs each.
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
from statistics import median

from benchmarks import cadence
from benchmarks.bare import KEYS
from benchmarks.measure import LIGHTFAST, ROOT, Findings, Took, python, run, show


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


#: Bytes of an image.
SIZE = 200_000
#: Where each side puts its images.
DESTINATIONS = ("s3", "folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a run works with: the server, its own folder, and where its images go (a folder or `s3://bucket/…`)."""

    url: str
    folder: Path
    to: str


Side = Callable[[int, Place], Took]  # by images


def measure(few: int, many: int, *, rounds: int = 5, to: str = "s3") -> Findings:
    """Both sides in turns, few images and many, at one server."""
    sides = {"bare": _bare, "lightfast": _lightfast}
    costs: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in sides}
    with server(SIZE) as url:
        for _ in range(rounds):
            for name, side in sides.items():
                costs[name].append((_cost(side, few, url, to), _cost(side, many, url, to)))
    return Findings(
        lines=[line for name, pairs in costs.items() for line in _told(name, pairs)] + _ratios(costs),
        numbers={f"{name}_ms": median(map(marginal, pairs)) for name, pairs in costs.items()},
    )


def marginal(pair: tuple[Cost, Cost]) -> float:
    """Milliseconds one image more costs, by a short run and a long one."""
    short, long = pair
    return (long.took.cpu - short.took.cpu) / (long.images - short.images) * 1000


def _told(name: str, pairs: list[tuple[Cost, Cost]]) -> Iterator[tuple[str, str]]:
    longs = [long for _, long in pairs]
    yield f"{name}: CPU an image, of {longs[0].images:,}, with the start", f"{median(x.each for x in longs):.2f} ms"
    yield f"{name}: CPU of one image more", f"{median(map(marginal, pairs)):.2f} ms"
    pace = median(long.images / long.took.wall for long in longs)
    yield f"{name}: polls an image, images a second", f"{median(long.polls for long in longs):.2f}, {pace:.0f}"


def _ratios(costs: dict[str, list[tuple[Cost, Cost]]]) -> list[tuple[str, str]]:
    rounds = list(zip(costs["bare"], costs["lightfast"], strict=True))
    total = [ours[1].each / bare[1].each for bare, ours in rounds]
    more = [marginal(ours) / marginal(bare) for bare, ours in rounds]
    return [("ratio, with the start", spread(total)), ("ratio of one image more", spread(more))]


def spread(ratios: list[float]) -> str:
    """The median, and the least and the most."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _cost(side: Side, images: int, url: str, to: str) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder)
        place = Place(url=url, folder=own, to=f"s3://bucket/{own.name}" if to == "s3" else str(own / "images"))
        asked(url, "counts")
        took = side(images, place)
        made = asked(url, "window")["images"] if to == "s3" else len(list(Path(place.to).rglob("*.png")))
        if made != images:
            sys.exit(f"{made} images of {images} were made")
        return Cost(images=images, took=took, requests=asked(url, "counts"))


def _bare(images: int, place: Place) -> Took:
    return run(python("benchmarks.bare", str(manifest(place.folder, images)), place.url, place.to), folder=place.folder)


def _lightfast(images: int, place: Place) -> Took:
    (place.folder / "lightfast.toml").write_text(settings(place.url), encoding="utf-8")
    rows = manifest(place.folder, images)
    command = [LIGHTFAST, "run", str(rows), "--to", place.to, "--yes", "--quiet"]
    return run(command, folder=place.folder, env={**KEYS, "AWS_ENDPOINT_URL": place.url})


def settings(url: str) -> str:
    """Lightfast's settings, for the stand-in at a URL."""
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


def manifest(folder: Path, images: int, name: str = "lamps") -> Path:
    """A manifest of so many rows, in a folder; no two of different names ask for the same image."""
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "prompt"])
        rows.writerows((f"lamp-{number:05}", f"Lifestyle photo of lamp {number} of {name}") for number in range(images))
    return path


@contextmanager
def server(size: int) -> Iterator[str]:
    """The stand-in with its bucket, images of `size` bytes; its URL."""
    command = python("benchmarks.heavy", str(size))
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def asked(url: str, what: str) -> dict[str, int]:
    """What the stand-in counted."""
    with urllib.request.urlopen(f"{url}/{what}") as answer:
        told: dict[str, int] = json.load(answer)
        return told


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--few", type=int, default=500)
    options.add_argument("--many", type=int, default=2500)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--to", choices=DESTINATIONS, default="s3")
    given = options.parse_args()
    title = f"CPU per image (SQLite, 200 kB images, {given.to}), medians of {given.rounds} rounds"
    show(title, measure(given.few, given.many, rounds=given.rounds, to=given.to).lines)


if __name__ == "__main__":
    main()
