"""What so many images a day need: workers, PostgreSQL, network, places at the provider, and what binds first.

Arithmetic alone. What an image costs is read from what was measured last (`docs/performance.json`); what a machine, a
database or a bucket carries is assumed, and every assumption is an option.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import figures
from benchmarks.figures import Figures
from benchmarks.measure import show
from worker.runtime.timings import Timings

MB, GB, DAY = 1e6, 1e9, 86_400.0
#: Bytes of ledger that an image takes on SQLite once it is stored, and the part that `lightfast prune` leaves of them.
SQLITE_BYTES, SLIM_PART = 1_330.0, 0.4
#: Copies that one process makes at once.
COPIES_AT_ONCE = Timings().copies_at_once


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What an image costs, as measured. Milliseconds are of CPU, but for locks, which are of time."""

    run_ms: float  # `lightfast run` on SQLite, into S3
    worker_ms: float
    postgresql_ms: float
    transactions: float  # of PostgreSQL
    wal_bytes: float
    ledger_bytes: float  # of PostgreSQL, with indexes
    account_ms: float  # for which the account's row is locked, 64 images in a transaction
    batch_ms: float  # the same of the batch's row
    claims_ms: float  # of that, by claims of submits, which lock all batches of the provider
    recorded: float  # rows a second that one `submit` records in PostgreSQL
    of_least: float  # time of a batch that waits for places, relative to the least possible

    @classmethod
    def measured(cls, known: Figures) -> Costs:
        """From what is on record."""
        cluster, locks = known["cluster_cpu"].findings.numbers, known["locks"].findings.numbers
        return cls(
            run_ms=known["cpu_s3"].findings.numbers["lightfast_ms"],
            worker_ms=cluster["workers_ms"],
            postgresql_ms=cluster["postgresql_ms"],
            transactions=cluster["transactions"],
            wal_bytes=cluster["wal_bytes"],
            ledger_bytes=cluster["ledger_bytes"],
            account_ms=locks["account_ms_64"],
            batch_ms=locks["batch_ms_64"],
            claims_ms=locks["claims_ms_64"],
            recorded=known["recording_postgresql"].findings.numbers["rows_per_second"],
            of_least=known["place_bound"].findings.numbers["of_least"],
        )


def _option(default: float, told: str) -> float:
    found: float = field(default=default, metadata={"told": told})
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked for, and what is assumed."""

    images_per_day: float
    hours: float = _option(24.0, "hours of the day in which they are made")
    seconds_per_image: float = _option(30.0, "seconds that the provider takes for an image")
    bytes: float = _option(200e3, "bytes of an image")
    copy_seconds: float = _option(0.5, "seconds of one copy: download, check and put")
    cores: float = _option(16.0, "cores of a machine, of workers or of PostgreSQL")
    busy: float = _option(0.6, "part of a core, and of a network, that is planned to be used")
    network_gbit: float = _option(10.0, "Gbit a second of a worker machine, each way")
    transactions: float = _option(2_000.0, "durable transactions a second of one PostgreSQL")
    wal_mb: float = _option(100.0, "MB of WAL a second of one PostgreSQL")
    ledger_tb: float = _option(2.0, "TB that one PostgreSQL shall hold at most")
    prune_days: float = _option(7.0, "days after which batches are pruned")
    remember_days: float = _option(30.0, "days after which a ledger is put away and a new one begun")
    puts: float = _option(3_500.0, "puts a second below one prefix of the bucket")

    @property
    def per_second(self) -> float:
        """Images a second while they are made."""
        return self.images_per_day / (self.hours * 3_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One thing that carries only so much."""

    name: str
    carries: float  # images a second

    def needed(self, per_second: float) -> int:
        """How many of it."""
        return math.ceil(per_second / self.carries)


@dataclass(frozen=True, slots=True)
class Model:
    """What a load needs, by what an image costs."""

    load: Load
    costs: Costs

    @property
    def process(self) -> Bound:
        """One `lightfast run` on SQLite."""
        return Bound(name="one `lightfast run`", carries=min(1000 * self.load.busy / self.costs.run_ms, self._copies))

    @property
    def worker(self) -> Bound:
        """One worker process of a cluster: at most one core, and so many copies at once."""
        return Bound(name="a worker process", carries=min(1000 * self.load.busy / self.costs.worker_ms, self._copies))

    @property
    def worker_machine(self) -> Sequence[Bound]:
        """What binds a machine of workers."""
        network = self.load.network_gbit * 1e9 / 8 * self.load.busy
        cores = 1000 * self.load.busy * self.load.cores
        return (
            Bound(name="a worker machine's cores", carries=cores / self.costs.worker_ms),
            Bound(name="a worker machine's network", carries=network / self.load.bytes),
        )

    @property
    def ledger(self) -> Sequence[Bound]:
        """What binds one PostgreSQL."""
        load, costs = self.load, self.costs
        kept = min(load.prune_days, load.remember_days)
        size = costs.ledger_bytes * (kept + SLIM_PART * (load.remember_days - kept))  # of one image a day
        return (
            Bound(name="PostgreSQL's cores", carries=1000 * load.busy * load.cores / costs.postgresql_ms),
            Bound(name="PostgreSQL's transactions", carries=load.transactions / costs.transactions),
            Bound(name="PostgreSQL's WAL", carries=load.wal_mb * MB / costs.wal_bytes),
            Bound(name="claims at one provider", carries=1000 / costs.claims_ms),
            Bound(name="the ledger's size", carries=load.ledger_tb * 1e12 / size / (load.hours * 3_600)),
        )

    @property
    def rows(self) -> Sequence[Bound]:
        """What binds one account, one batch, one prefix of a bucket, one command that hands in."""
        return (
            Bound(name="the account's row", carries=1000 / self.costs.account_ms),
            Bound(name="the batch's row", carries=1000 / self.costs.batch_ms),
            Bound(name="puts below one prefix of the bucket", carries=self.load.puts),
            Bound(name="one `submit` that records", carries=self.costs.recorded),
        )

    @property
    def first(self) -> Bound:
        """What binds first of a cluster with one of each, as many worker processes as it takes."""
        return min((*self.ledger, *self.rows, *self.worker_machine), key=lambda bound: bound.carries)

    @property
    def is_one_process(self) -> bool:
        """Whether `lightfast run` is enough."""
        return self.load.per_second <= self.process.carries

    @property
    def places(self) -> int:
        """Provider tasks at once."""
        return math.ceil(self.load.per_second * self.load.seconds_per_image * self.costs.of_least)

    @property
    def processes(self) -> int:
        """Of workers, or the one run."""
        return 1 if self.is_one_process else self.worker.needed(self.load.per_second)

    @property
    def worker_machines(self) -> int:
        """All in use alike."""
        return 1 if self.is_one_process else self._most(self.worker_machine)

    @property
    def ledgers(self) -> int:
        """PostgreSQL servers; none where the ledger is a file."""
        return 0 if self.is_one_process else self._most(self.ledger)

    @property
    def _copies(self) -> float:
        """Images a second that a process copies."""
        return COPIES_AT_ONCE / self.load.copy_seconds

    def _most(self, bounds: Sequence[Bound]) -> int:
        return max(bound.needed(self.load.per_second) for bound in bounds)

    def lines(self) -> Iterator[tuple[str, str]]:
        """What is needed, as a table."""
        load, costs, pace = self.load, self.costs, self.load.per_second
        account, batch, prefix, _ = (bound.needed(pace) for bound in self.rows)
        yield "images a second", _short(pace)
        yield "places at the provider", f"{self.places:,}"
        yield "worker processes", "one `lightfast run`" if self.is_one_process else f"{self.processes:,}"
        milliseconds = costs.run_ms if self.is_one_process else costs.worker_ms
        yield "their cores, in use", _short(pace * milliseconds / 1000)
        yield "worker machines", f"{self.worker_machines:,}"
        yield "ledger", "SQLite" if self.is_one_process else f"{self.ledgers:,} PostgreSQL"
        if self.is_one_process:
            yield from ((name, "none") for name in ("cores of PostgreSQL, in use", "transactions a second", "WAL"))
        else:
            yield "cores of PostgreSQL, in use", _short(pace * costs.postgresql_ms / 1000)
            yield "transactions a second", _short(pace * costs.transactions)
            wal = pace * costs.wal_bytes
            yield "WAL", f"{_short(wal / MB)} MB/s, {_short(load.images_per_day * costs.wal_bytes / GB)} GB a day"
        ledger_bytes = SQLITE_BYTES if self.is_one_process else costs.ledger_bytes
        yield "the ledger grows by", f"{_short(load.images_per_day * ledger_bytes / GB)} GB a day"
        yield "network, in and out each", f"{_short(pace * load.bytes / MB)} MB/s"
        yield "accounts, batches at once, prefixes, at least", f"{account:,}, {batch:,}, {prefix:,}"
        yield "binds first", self._binds()

    def _binds(self) -> str:
        if self.is_one_process:
            return f"nothing (the process at {_short(self.process.carries)} images a second)"
        part = self.load.per_second / self.first.carries
        if part <= 1:
            return f"nothing (next {self.first.name}, {100 * part:.0f} % used)"
        return f"{self.first.name} ({_short(part)} times what one carries)"


def carries(costs: Costs) -> list[tuple[str, ...]]:
    """What one of each carries with the usual assumptions; the first row is the head."""
    model = Model(Load(images_per_day=1.0), costs)
    bounds = (model.process, model.worker, *model.worker_machine, *model.ledger, *model.rows)
    head = ("one of these carries", "images a second", "millions a day")
    return [head, *((bound.name, _short(bound.carries), _short(bound.carries * DAY / 1e6)) for bound in bounds)]


def sizes(costs: Costs, days: Sequence[float] = (1e5, 1e6, 1e7, 1e8, 1e9)) -> list[tuple[str, ...]]:
    """The same table for several numbers of images a day, side by side; the first row is its head."""
    columns = [dict(Model(Load(images_per_day=each), costs).lines()) for each in days]
    head = ("images a day", *(f"{each:,.0f}" for each in days))
    return [head, *((name, *(column[name] for column in columns)) for name in columns[0])]


def _short(number: float) -> str:
    """Two figures that count, and no more."""
    number = float(f"{number:.2g}")
    digits = max(0, 1 - math.floor(math.log10(number))) if number else 0
    return f"{number:,.{digits}f}"


def main() -> None:
    """Prints what is needed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images-per-day", type=float, required=True, help="10e6: ten million")
    for one in dataclasses.fields(Load):
        if told := one.metadata.get("told"):
            name = "--" + one.name.replace("_", "-")
            options.add_argument(name, type=float, default=one.default, help=f"{told} (%(default)g)")
    load = Load(**vars(options.parse_args()))
    show(f"{load.images_per_day:,.0f} images a day", list(Model(load, Costs.measured(figures.load())).lines()))


if __name__ == "__main__":
    main()
