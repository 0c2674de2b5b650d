"""CPU per image of a cluster of two Celery workers, beside a naive Celery worker (`benchmarks.naive_celery`).

Counted is what a side needs: workers, beat, PostgreSQL, Redis (Valkey), and the command that hands in the rows; the
stand-in is not. PostgreSQL tells what an image adds to it: transactions, WAL, size. Each round starts both sides anew,
one after the other, and gives each three batches: a short one to warm up, a short one and a long one. The cost of one
image more is the long one less the second, over the difference. PostgreSQL syncs its commits to disk, as it does by
default. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg

from benchmarks import naive_celery
from benchmarks.bare import KEYS
from benchmarks.cpu import SIZE, asked, manifest, server, settings, spread
from benchmarks.measure import LIGHTFAST, Findings, Lines, Took, clean_environment, cpu_below, python, run, show
from sandbox import servers
from sandbox.cluster import Member, members

WORKERS = 2
#: Seconds until workers take messages; after the last put, in which what is known about images is recorded.
STARTED, SETTLED = 5.0, 3.0
LONGEST = 1_800.0  # seconds a batch may take

#: What is read from PostgreSQL: its transactions, bytes of WAL, bytes of the database.
WRITTEN = {
    "transactions": "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()",
    "wal_bytes": "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')",
    "ledger_bytes": "SELECT pg_database_size(current_database())",
}

#: The naive worker's pool and concurrency: what costs least CPU an image here, of those in `CHOICES`.
NAIVE_POOL = ("threads", 8)
CHOICES = (NAIVE_POOL, ("threads", 16), ("prefork", 2), ("prefork", 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side, running: the processes of each part, and the command that hands in a manifest."""

    parts: Mapping[str, set[int]]  # process ids; all below them count, too
    hand_in: Callable[[Path], Took]
    database: str | None = None  # its URL, where there is one

    def spent(self) -> dict[str, float]:
        """CPU seconds of each part until now."""
        return {name: cpu_below(pids) for name, pids in self.parts.items()}

    def written(self) -> dict[str, float]:
        """What the database has counted until now, by the names in `WRITTEN`."""
        if self.database is None:
            return {}
        with psycopg.connect(self.database, autocommit=True) as connection:
            return {name: float(connection.execute(query).fetchone()[0]) for name, query in WRITTEN.items()}  # type: ignore[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a batch took."""

    images: int
    cpu: Mapping[str, float]  # seconds, by part
    wall: float  # seconds, from the first message to the last put
    polls: int
    written: Mapping[str, float]


Rounds = list[tuple[Cost, Cost]]  # each round's short and long batch
Start = Callable[[str, Path], contextlib.AbstractContextManager[Side]]  # by the stand-in's URL and a folder


def measure(few: int, many: int, *, rounds: int = 3) -> Findings:
    """Both sides in turns."""
    costs: dict[str, Rounds] = {"naive": [], "lightfast": []}
    sides: dict[str, Start] = {"naive": naive, "lightfast": lightfast}
    with server(SIZE) as url:
        for _ in range(rounds):
            for name, start in sides.items():
                costs[name].append(_round(start, url, few, many))
    ratios = [_marginal(theirs) / _marginal(ours) for theirs, ours in zip(*costs.values(), strict=True)]
    written = {name: median(_written(pair, name) for pair in costs["lightfast"]) for name in WRITTEN}
    # Of a whole batch, not of one image more: the more images there are at once, the more share a transaction.
    written["transactions"] = median(long.written["transactions"] / long.images for _, long in costs["lightfast"])
    lines = [
        *(line for name, found in costs.items() for line in _told(name, found)),
        ("images per CPU second, lightfast / naive", spread(ratios)),
        ("lightfast: transactions an image", f"{written['transactions']:.2f}"),
        ("lightfast: WAL an image", f"{written['wal_bytes'] / 1000:.1f} kB"),
        ("lightfast: growth of the database an image", f"{written['ledger_bytes'] / 1000:.1f} kB"),
    ]
    return Findings(lines=lines, numbers={**_numbers(costs), **written})


def _numbers(costs: Mapping[str, Rounds]) -> dict[str, float]:
    """The rest: Redis, beat, and the command that hands in."""
    ours = costs["lightfast"]
    parts = {part: median(_marginal(pair, part) for pair in ours) for part in ours[0][0].cpu}
    return {
        "naive_ms": median(map(_marginal, costs["naive"])),
        "naive_per_second": _pace(costs["naive"]),
        "workers_ms": parts.pop("workers"),
        "postgresql_ms": parts.pop("PostgreSQL"),
        "rest_ms": sum(parts.values()),
        "per_second": _pace(ours),
    }


def choose(few: int, many: int, *, rounds: int) -> Lines:
    """The naive worker alone, in turns with each pool and concurrency that its author would try."""
    costs: dict[str, Rounds] = {f"{pool}, {concurrency} each": [] for pool, concurrency in CHOICES}
    with server(SIZE) as url:
        for _ in range(rounds):
            for found, (pool, concurrency) in zip(costs.values(), CHOICES, strict=True):
                start = functools.partial(naive, pool=pool, concurrency=concurrency)
                found.append(_round(start, url, few, many))
    return [(name, f"{_spread_of(found)}, {_pace(found):.0f} a second") for name, found in costs.items()]


def _round(start: Start, url: str, few: int, many: int) -> tuple[Cost, Cost]:
    with tempfile.TemporaryDirectory(prefix="lightfast-cpu-") as name, start(url, Path(name)) as side:
        time.sleep(STARTED)
        _warm_up, short, long = (
            _batch(side, url, manifest(Path(name), images, f"batch-{number}"), images)
            for number, images in enumerate((few, few, many))
        )
    return short, long


def _batch(side: Side, url: str, rows: Path, images: int) -> Cost:
    asked(url, "counts")
    began, before, written = time.monotonic(), side.spent(), side.written()
    handing_in = side.hand_in(rows)
    while asked(url, "made")["images"] < images:
        if time.monotonic() > began + LONGEST:
            sys.exit(f"{images} images took longer than {LONGEST:.0f} s")
        time.sleep(0.2)
    wall = time.monotonic() - began
    time.sleep(SETTLED)
    cpu = {name: spent - before[name] for name, spent in side.spent().items()}
    counts, made = asked(url, "counts"), asked(url, "window")["images"]
    if (made, counts["submits"]) != (images, images):
        sys.exit(f"{images} images were wanted, {made} made, {counts['submits']} paid for")
    return Cost(
        images=images,
        cpu={**cpu, "handing in": handing_in.cpu},
        wall=wall,
        polls=counts["polls"],
        written={name: count - written[name] for name, count in side.written().items()},
    )


def _marginal(pair: tuple[Cost, Cost], part: str = "") -> float:
    """Milliseconds one image more costs, in one part or all."""
    short, long = ({name: cpu for name, cpu in cost.cpu.items() if part in ("", name)} for cost in pair)
    return (sum(long.values()) - sum(short.values())) / (pair[1].images - pair[0].images) * 1000


def _written(pair: tuple[Cost, Cost], name: str) -> float:
    """What one image more adds to the database."""
    short, long = pair
    return (long.written[name] - short.written[name]) / (long.images - short.images)


def _spread_of(rounds: Rounds) -> str:
    each = [_marginal(pair) for pair in rounds]
    return f"{median(each):.2f} ms ({min(each):.2f} to {max(each):.2f})"


def _pace(rounds: Rounds) -> float:
    return median(long.images / long.wall for _, long in rounds)


def _told(name: str, rounds: Rounds) -> Iterator[tuple[str, str]]:
    yield f"{name}: CPU of one image more", _spread_of(rounds)
    for part in rounds[0][0].cpu:
        yield f"{name}: ... {part}", f"{median(_marginal(pair, part) for pair in rounds):.2f} ms"
    polls = median(long.polls / long.images for _, long in rounds)
    yield f"{name}: polls an image, images a second", f"{polls:.2f}, {_pace(rounds):.0f}"


@contextmanager
def lightfast(url: str, folder: Path) -> Iterator[Side]:
    """The Procfile's workers and beat, with a PostgreSQL and a Valkey of their own."""
    with servers.valkey() as redis, servers.postgres(durable=True) as database:
        file = folder / "lightfast.toml"
        file.write_text(
            f'database_url = "{database.url}"\nredis_url = "{redis.url}"\n{settings(url)}', encoding="utf-8"
        )
        more = {**KEYS, "AWS_ENDPOINT_URL": url, "LIGHTFAST_CONFIG": str(file)}
        run([LIGHTFAST, "migrate"], folder=folder, env=more)
        processes = members(_environment(more), {"worker": WORKERS, "beat": 1}, _tell)
        with _running(processes):
            yield Side(
                parts={
                    "workers": {each.pid for each in processes if each.name.startswith("worker.")},
                    "beat": {each.pid for each in processes if each.name.startswith("beat.")},
                    "PostgreSQL": {database.pid},
                    "Redis": {redis.pid},
                },
                hand_in=lambda rows: run(
                    [
                        LIGHTFAST,
                        "submit",
                        str(rows),
                        "--to",
                        f"s3://bucket/{folder.name}/{rows.stem}",
                        "--yes",
                        "--quiet",
                    ],
                    folder=folder,
                    env=more,
                ),
                database=database.url,
            )


@contextmanager
def naive(url: str, folder: Path, pool: str = NAIVE_POOL[0], concurrency: int = NAIVE_POOL[1]) -> Iterator[Side]:
    """As many naive workers, with a Valkey of their own."""
    with servers.valkey() as redis:
        more = {**KEYS, "AWS_DEFAULT_REGION": KEYS["AWS_REGION"], naive_celery.URL: url, naive_celery.BROKER: redis.url}
        command = f"celery --quiet -A benchmarks.naive_celery worker --pool {pool} --concurrency {concurrency}"
        processes = [
            Member(
                name=f"worker.{number}",
                command=f"{command} --without-gossip --without-mingle --without-heartbeat --hostname {number}@%h",
                environment=_environment(more),
                say=_tell,
            )
            for number in range(WORKERS)
        ]
        with _running(processes):
            yield Side(
                parts={"workers": {each.pid for each in processes}, "Redis": {redis.pid}},
                hand_in=lambda rows: run(
                    python("benchmarks.naive_celery", str(rows), f"{folder.name}/{rows.stem}"), folder=folder, env=more
                ),
            )


@contextmanager
def _running(processes: list[Member]) -> Iterator[None]:
    try:
        for each in processes:
            each.start()
        yield
        if again := [each.name for each in processes if each.starts != 1]:
            sys.exit(f"ended and was started again: {', '.join(again)}")
    finally:
        for each in processes:
            each.begin_stop()
        for each in processes:
            each.finish_stop()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = clean_environment({**more, "PYTHONWARNINGS": "ignore"})
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}"}


def _tell(line: str) -> None:
    """Problems are shown; what goes well is not."""
    if any(word in line.lower() for word in ("error", "warning", "traceback", "ended with")):
        print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--few", type=int, default=500)
    options.add_argument("--many", type=int, default=2500)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--choose", action="store_true", help="the naive worker's pools and concurrencies instead")
    given = options.parse_args()
    if given.choose:
        show("CPU of one image more of the naive worker", choose(given.few, given.many, rounds=given.rounds))
        return
    title = f"CPU per image (two Celery workers, 200 kB images, S3), medians of {given.rounds} rounds"
    show(title, measure(given.few, given.many, rounds=given.rounds).lines)


if __name__ == "__main__":
    main()
