"""What an image costs while many are on record: CPU of a run on ledgers of several sizes, and of each claim.

A ledger is filled by copying the rows of one batch, which was really made, inside the database; a run beside it then
makes new images. Ledgers take turns, since other work on the machine disturbs each. `--postgresql`: on a server of its
own, whose CPU counts. `--memory`: what a run of many rows holds.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from sqlalchemy import BigInteger, Connection, Integer, Table, Text, cast, func, insert, literal, select, text, update

from benchmarks.bare import KEYS
from benchmarks.cpu import SIZE, manifest, server, settings, spread
from benchmarks.measure import LIGHTFAST, cpu_below, run, show
from jobs.ledger import Ledger, open_ledger
from jobs.ledger.database.schema import accounts, attempts, batches, images, jobs
from sandbox import servers

SEED = 1_000  # rows that are really made, and copied
FEW, MANY = 300, 1_500  # images of a short run and of a long one
SMALL = 2_000  # bytes of an image where only memory is looked at
CLAIMS = 30  # of each kind, of which the median is told

Costs = dict[int, list[float]]  # by rows on record: milliseconds of CPU of one image more, a round each


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A ledger with many rows on record."""

    rows: int
    folder: Path  # with its settings
    url: str  # of the ledger
    provider: str  # the stand-in's URL, with its bucket
    server: int | None = None  # PostgreSQL's process

    def spent(self) -> float:
        """CPU seconds of its server so far."""
        return cpu_below([self.server]) if self.server is not None else 0.0


def measure(sizes: Sequence[int], *, rounds: int, postgresql: bool = False) -> list[tuple[str, str]]:
    """The least size is what the others are compared with."""
    with server(SIZE) as url, contextlib.ExitStack() as stack:
        ledgers = [stack.enter_context(grown(size, url, postgresql=postgresql)) for size in sorted(sizes)]
        costs: Costs = {one.rows: [] for one in ledgers}
        for number in range(rounds):
            for one in ledgers:
                costs[one.rows].append(more(one, number))
        lines = [line for one in ledgers for line in _told(one, costs)]
        return [*lines, *(line for one in ledgers for line in _claims(one))]


def memory(few: int, many: int) -> list[tuple[str, str]]:
    """Peak memory of a run of few images and of many, small ones into a folder."""
    peaks = []
    for images_ in (few, many):
        with server(SMALL) as url, tempfile.TemporaryDirectory(prefix="lightfast-growth-") as name:
            folder = Path(name)
            (folder / "lightfast.toml").write_text(settings(url), encoding="utf-8")
            rows = manifest(folder, images_)
            took = run([LIGHTFAST, "run", str(rows), "--to", str(folder / "out"), "--yes", "--quiet"], folder=folder)
            peaks.append(took.peak)
    return [
        *(
            (f"a run of {number:,} images: peak memory", f"{peak / 1e6:.0f} MB")
            for number, peak in zip((few, many), peaks, strict=True)
        ),
        ("... ratio", f"{peaks[1] / peaks[0]:.2f}"),
    ]


def _told(one: Grown, costs: Costs) -> Iterator[tuple[str, str]]:
    least = costs[min(costs)]
    yield f"{one.rows:,} rows on record: CPU of one image more", f"{median(costs[one.rows]):.2f} ms"
    if one.rows != min(costs):
        ratios = [ours / theirs for ours, theirs in zip(costs[one.rows], least, strict=True)]
        yield f"... beside {min(costs):,} rows", spread(ratios)


def more(one: Grown, number: int, *, with_server: bool = True) -> float:
    """Milliseconds of CPU that one image more of a run costs, and its database. `number`: which run it is."""
    took = []
    for images_ in (FEW, MANY):
        rows = manifest(one.folder, images_, f"new-{number}-{images_}-{one.rows}")
        before = one.spent()
        to = f"s3://bucket/{one.folder.name}/{rows.stem}"
        command = [LIGHTFAST, "run", str(rows), "--to", to, "--yes", "--quiet"]
        ran = run(command, folder=one.folder, env=_environment(one.provider))
        took.append(ran.cpu + (one.spent() - before if with_server else 0.0))
    return (took[1] - took[0]) / (MANY - FEW) * 1000


def _environment(provider: str) -> dict[str, str]:
    return {**KEYS, "AWS_ENDPOINT_URL": provider}


# -- claims ----------------------------------------------------------------------------------------------------------


def _claims(one: Grown) -> Iterator[tuple[str, str]]:
    """As many rows wait as are on record: what a claim of 64 of them takes, of wall time."""
    ledger = open_ledger(one.url)
    with ledger._database.writing() as tx:  # noqa: SLF001  rows are made as no command makes them
        tx.execute(update(jobs).values(state="ready"))
        tx.execute(update(images).values(state="missing", attempt_id=None))
        tx.execute(update(batches).values(state="active"))
        tx.execute(update(accounts).values(max_in_flight=10_000_000, submits_per_second=1_000_000.0))
    now = time.time()
    found = {
        "a claim of 64 submits": _each(lambda: ledger.claims.submits("main", time.time(), lease=60.0, at_most=64)),
        "a claim of polls": _each(lambda: ledger.claims.polls("main", now, lease=60.0, at_most=64)),
        "counting a batch": _each(lambda: ledger.reports.progress("seed", now), times=3),
    }
    for name, milliseconds in found.items():
        yield f"{one.rows:,} rows wait: {name}", f"{milliseconds:.1f} ms"
    ledger.close()


def _each(work: Any, *, times: int = CLAIMS) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took) * 1000


# -- many rows -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def grown(rows: int, url: str, *, postgresql: bool) -> Iterator[Grown]:
    """A ledger with so many rows on record, made at the stand-in at `url`."""
    with tempfile.TemporaryDirectory(prefix="lightfast-growth-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        database = stack.enter_context(servers.postgres(durable=True)) if postgresql else None
        ledger_url = database.url if database else f"sqlite:///{folder}/lightfast.db"
        file = f'database_url = "{ledger_url}"\n{settings(url)}'
        (folder / "lightfast.toml").write_text(file, encoding="utf-8")
        pid = database.pid if database else None
        made = manifest(folder, SEED, "seed")
        run([LIGHTFAST, "run", str(made), "--to", f"s3://bucket/{folder.name}/seed", "--yes", "--quiet"],
            folder=folder, env=_environment(url))  # fmt: skip
        ledger = open_ledger(ledger_url)
        _multiply(ledger, rows // SEED - 1)
        ledger.close()
        if database:  # by its own driver: the ledger's connections begin a transaction, in which this is not allowed
            with psycopg.connect(database.url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
        yield Grown(rows=rows, folder=folder, url=ledger_url, provider=url, server=pid)


def _multiply(ledger: Ledger, times: int) -> None:
    """Copies every row so many times, each with a key, a number and a request of its own.

    A ledger in SQLite is not looked at by ANALYZE: nobody's is.
    """
    database = ledger._database  # noqa: SLF001  rows are made as no command makes them
    indexes = [index for table in (jobs, attempts, images) for index in table.indexes]
    with database.writing() as tx:
        for index in indexes:  # made anew in one go: much sooner than row by row
            index.drop(tx)
    for start in range(0, times, 1_000):
        with database.writing() as tx:
            for table in (jobs, attempts, images):
                _copy(tx, table, start + 1, min(times, start + 1_000))
    with database.writing() as tx:
        made = SEED * (times + 1)
        tx.execute(update(batches).values(jobs_made=made))
        tx.execute(update(accounts).values(attempts_made=made))
        if not database.is_sqlite:
            tx.execute(text("SELECT setval(pg_get_serial_sequence('images', 'id'), (SELECT max(id) FROM images))"))
        for index in indexes:
            index.create(tx)


def _copy(tx: Connection, table: Table, first: int, last: int) -> None:
    numbers = _numbers(first, last)
    nth = numbers.c.nth
    moved: dict[str, Any] = {"id": table.c.id + nth * SEED}
    if table is jobs:
        moved["key"] = table.c.key + literal("-") + cast(nth, Text)
        moved["position"] = table.c.position + nth * SEED
        moved["request_hash"] = func.substr(table.c.request_hash, 1, 52) + cast(
            nth + literal(100_000_000_000, BigInteger), Text
        )
    if table is attempts:
        moved["job_id"] = table.c.job_id + nth * SEED
        moved["task_id"] = table.c.task_id + literal("-") + cast(nth, Text)
    if table is images:
        moved["job_id"] = table.c.job_id + nth * SEED
        moved["attempt_id"] = table.c.attempt_id + nth * SEED
    names = [each.name for each in table.c]
    # Of the rows that were made alone: their numbers are the least.
    seed = select(table.c.id).order_by(table.c.id).limit(SEED).scalar_subquery()
    wanted = select(*[moved.get(name, table.c[name]) for name in names]).select_from(
        table.join(numbers, literal(1) == 1)
    )
    tx.execute(insert(table).from_select(names, wanted.where(table.c.id.in_(seed.element))))


def _numbers(first: int, last: int) -> Any:
    start = select(literal(first, Integer).label("nth")).cte("numbers", recursive=True)
    return start.union_all(select(start.c.nth + 1).where(start.c.nth < last))


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--postgresql", action="store_true")
    options.add_argument(
        "--memory", action="store_true", help="peak memory of runs of 10,000 and 100,000 images instead"
    )
    given = options.parse_args()
    if given.memory:
        show("Peak memory of a run (SQLite, a folder)", memory(10_000, 100_000))
        return
    kind = "PostgreSQL" if given.postgresql else "SQLite"
    title = f"Growth ({kind}, 200 kB images, S3), medians of {given.rounds} rounds"
    show(title, measure(given.rows, rounds=given.rounds, postgresql=given.postgresql))


if __name__ == "__main__":
    main()
