"""What the ledger counts, as Prometheus reads it. Made anew at each scrape: no process holds a number of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobs.ledger import Ledger
from jobs.ledger.values import Account, Progress

MICROS = 1_000_000
WORKER_SEEN = 60.0  # seconds since a worker last touched the ledger
BATCHES = 50  # the newest; a label for each batch that ever was would grow for ever


class Counts(Collector):
    """Reads the ledger when it is scraped."""

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        self._ledger = ledger

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not need the ledger."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        ledger = self._ledger()
        newest = sorted(ledger.batches(), key=lambda batch: batch.created_at)[-BATCHES:]
        progresses = [ledger.progress(batch.name) for batch in newest]
        yield from _jobs(progresses)
        yield from _money(progresses)
        yield from _accounts(ledger.accounts())
        yield from _risk(ledger, progresses)


def _jobs(progresses: list[Progress]) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("lightfast_jobs", "Jobs of a batch, by state.", labels=["batch", "state"])
    images = GaugeMetricFamily("lightfast_images", "Images of a batch, by state.", labels=["batch", "state"])
    for progress in progresses:
        for state, count in progress.jobs.items():
            jobs.add_metric([progress.batch.name, str(state)], count)
        for kind in ("stored", "generated", "in_flight", "unknown", "lost"):
            images.add_metric([progress.batch.name, kind], getattr(progress, f"images_{kind}"))
    yield from (jobs, images)


def _money(progresses: list[Progress]) -> Iterator[Metric]:
    money = GaugeMetricFamily("lightfast_money_usd", "Money of a batch at list prices.", labels=["batch", "kind"])
    for progress in progresses:
        batch = progress.batch
        kinds = {
            "charged": batch.charged,
            "reserved": batch.reserved,
            "unknown": progress.unknown_money,
            "lost": progress.lost_money,
        }
        for kind, micros in kinds.items():
            money.add_metric([batch.name, kind], micros / MICROS)
    yield money


def _accounts(accounts: list[Account]) -> Iterator[Metric]:
    now = time.time()
    in_flight = GaugeMetricFamily("lightfast_in_flight", "Open attempts of an account.", labels=["account"])
    cap = GaugeMetricFamily("lightfast_max_in_flight", "Open attempts an account may have.", labels=["account"])
    paused = GaugeMetricFamily("lightfast_account_paused", "1 while no submit of it is sent.", labels=["account"])
    throttled = CounterMetricFamily("lightfast_throttled", "Answers of 429 so far.", labels=["account"])
    for account in accounts:
        in_flight.add_metric([account.name], account.in_flight)
        cap.add_metric([account.name], account.max_in_flight)
        paused.add_metric([account.name], float((account.paused_until or 0) > now))
        throttled.add_metric([account.name], account.throttled)
    yield from (in_flight, cap, paused, throttled)


def _risk(ledger: Ledger, progresses: list[Progress]) -> Iterator[Metric]:
    images, micros = ledger.at_risk()
    yield GaugeMetricFamily("lightfast_at_risk_images", "Paid images not yet stored, or unknown.", value=images)
    yield GaugeMetricFamily("lightfast_at_risk_usd", "What they cost.", value=micros / MICROS)
    seen = ledger.workers_seen(time.time(), WORKER_SEEN)
    yield GaugeMetricFamily("lightfast_workers", "Workers seen in the last minute.", value=seen)
    deaths = [progress.least_expiry for progress in progresses if progress.least_expiry is not None]
    if deaths:
        left = min(deaths) - time.time()
        yield GaugeMetricFamily("lightfast_least_link_seconds", "Until the first uncopied link dies.", value=left)
