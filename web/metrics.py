"""What the ledger counts, as Prometheus reads it. Read from the ledger: no process holds a number of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobs.errors import CODES
from jobs.formatting import usd
from jobs.ledger import Ledger
from jobs.ledger.accounts.values import Account, Use
from jobs.ledger.accounts.worker_values import WorkerProcess
from jobs.ledger.reports.values import Progress
from jobs.policy.copy_headroom import least_slack, pace
from jobs.policy.liveness import LISTED_FOR, SEEN_WITHIN
from jobs.results.completion import Reason
from jobs.results.conditions import batch_state
from jobs.results.progress import rows_in_need

BATCHES = 50  # the newest; a label for each batch that ever was would grow for ever
#: Every reason is told, most of them as 0: an alert on a series that is not there yet would never fire.
NEEDS = (
    Reason.ACCOUNT_PAUSED,
    Reason.AFTER_RESTORE,
    Reason.ALL_PAUSED,
    Reason.BATCH_PAUSED,
    Reason.BUCKET_REFUSES,
    Reason.BUDGET_USED,
    Reason.MONTH_BUDGET_USED,
    Reason.NOTHING_STORED,
    Reason.ROWS_NEED_YOU,
)
WAITS = (Reason.ACCOUNT_PAUSED, Reason.BUDGET_USED, Reason.DAY_BUDGET_USED, Reason.MONTH_BUDGET_USED)


class LedgerMetrics(Collector):
    """Reads the ledger when it is scraped."""

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        self._ledger = ledger

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not need the ledger."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        ledger = self._ledger()
        now = time.time() + ledger.clock_offset()
        newest = sorted(ledger.batches.all(), key=lambda batch: batch.created_at)[-BATCHES:]
        progresses = [ledger.reports.progress(batch.name, now) for batch in newest]
        yield from _jobs(progresses)
        yield from _failed(progresses)
        yield from _money(progresses)
        older = set(ledger.conditions.batches_to_tell_of()) - {batch.name for batch in newest}
        yield from _held_up(ledger, [*progresses, *(ledger.reports.progress(name, now) for name in older)], now)
        yield from _accounts(ledger, now)
        yield from _daily_budgets(ledger, now)
        yield from _workers(ledger.workers.seen(now, LISTED_FOR), now)
        yield from _risk(ledger, now)
        yield from _destinations(ledger, now)
        told = "1 while the ledger takes writes; 0 while it can only be read."
        yield GaugeMetricFamily("lightfast_ledger_writable", told, value=float(ledger.unwritable() is None))
        told = "1 while all submits are stopped by `pause --all`."
        yield GaugeMetricFamily("lightfast_stopped", told, value=float(ledger.emergency_stop.current() is not None))


def _jobs(progresses: list[Progress]) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("lightfast_jobs", "Jobs of a batch, by state.", labels=["batch", "state"])
    images = GaugeMetricFamily("lightfast_images", "Images of a batch, by state.", labels=["batch", "state"])
    for progress in progresses:
        for state, count in progress.jobs.items():
            jobs.add_metric([progress.batch.name, str(state)], count)
        for kind in ("stored", "generated", "in_flight", "unknown", "lost"):
            images.add_metric([progress.batch.name, kind], getattr(progress, f"images_{kind}"))
    yield from (jobs, images)


def _failed(progresses: list[Progress]) -> Iterator[Metric]:
    told = "Rows of the newest batches that ended without all of their images, by error code."
    failed = GaugeMetricFamily("lightfast_failed_rows", told, labels=["code"])
    counted: Counter[str] = Counter()
    for progress in progresses:
        for code, rows in progress.errors.items():
            counted[code if code in CODES else "other"] += rows  # a label for each word of a provider has no bound
    for code, rows in sorted(counted.items()):
        failed.add_metric([code], rows)
    yield failed


def _held_up(ledger: Ledger, progresses: list[Progress], now: float) -> Iterator[Metric]:
    """Batches that go on only when a person helps, and those that wait for what ends by itself; as the log tells it."""
    accounts = ledger.accounts.all()
    found: Counter[tuple[str, str]] = Counter()
    for progress in progresses:
        state, reason = batch_state(progress, accounts, now)
        if state == "finished" and rows_in_need(progress):
            state, reason = "needs", Reason.ROWS_NEED_YOU
        found[state, reason or ""] += 1
    for name, told, kind, reasons in (
        ("batches_need_person", "Batches that a person must help, by reason.", "needs", NEEDS),
        ("batches_wait", "Batches whose submits wait and go on by themselves, by reason.", "waits", WAITS),
    ):
        family = GaugeMetricFamily(f"lightfast_{name}", told, labels=["reason"])
        for reason in reasons:
            family.add_metric([reason], found[kind, reason])
        yield family


def _daily_budgets(ledger: Ledger, now: float) -> Iterator[Metric]:
    """An empty account stands for all accounts together."""
    told = "A daily budget; an empty label means all accounts together."
    budget = GaugeMetricFamily("lightfast_daily_budget_usd", told, labels=["account"])
    told = "What a daily budget still allows before the UTC day ends."
    left = GaugeMetricFamily("lightfast_daily_budget_left_usd", told, labels=["account"])
    for limit in ledger.accounts.daily_budgets(now):
        budget.add_metric([limit.account or ""], usd(limit.budget))
        left.add_metric([limit.account or ""], usd(limit.left))
    yield from (budget, left)


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
            money.add_metric([batch.name, kind], usd(micros))
    yield money


def _accounts(ledger: Ledger, now: float) -> Iterator[Metric]:
    accounts, uses = ledger.accounts.all(), ledger.accounts.usage(now)
    for name, told, of in _OF_ACCOUNTS:
        family = GaugeMetricFamily(f"lightfast_{name}", told, labels=["account"])
        for account in accounts:
            family.add_metric([account.name], of(account, uses[account.name], now))
        yield family
    told = "1 while no submit of it was taken since it was refused or in trouble, with the code of the last."
    trouble = GaugeMetricFamily("lightfast_account_trouble", told, labels=["account", "code"])
    for account in accounts:
        if account.paused_code is not None:
            code = account.paused_code if account.paused_code in CODES else "other"
            trouble.add_metric([account.name, code], 1)
    yield trouble
    # Not by account: any of the provider's may take them, and in a sum over its accounts they would be counted again.
    waiting = GaugeMetricFamily("lightfast_waiting_rows", "Rows that could be sent to a provider.", labels=["provider"])
    for provider, rows in {account.provider: uses[account.name].waiting for account in accounts}.items():
        waiting.add_metric([provider], rows)
    yield waiting
    for name, told, count in _COUNTED:
        counter = CounterMetricFamily(f"lightfast_{name}", told, labels=["account"])
        for account in accounts:
            counter.add_metric([account.name], count(account))
        yield counter


def _rest(account: Account, now: float) -> float:
    """Seconds an account still rests; infinite until a person helps."""
    return (account.cooldown_until(now) or now) - now


_OF_ACCOUNTS: Sequence[tuple[str, str, Callable[[Account, Use, float], float]]] = (
    ("submits_per_second", "Submits an account may send, declared or learnt.", lambda a, _u, _n: a.submits_per_second),
    ("submits_last_minute", "Submits it sent in the last minute.", lambda _a, u, _n: u.sent),
    ("in_flight", "Open attempts of an account.", lambda a, _u, _n: a.in_flight),
    ("max_in_flight", "Open attempts an account may have.", lambda a, _u, _n: a.max_in_flight),
    ("account_paused", "1 while no submit of it is sent.", lambda a, _u, n: float(_rest(a, n) > 0)),
    ("cool_down_seconds", "Until it sends again; +Inf until a person helps.", lambda a, _u, n: _rest(a, n)),
)
_COUNTED: Sequence[tuple[str, str, Callable[[Account], float]]] = (
    ("throttled", "Answers of 429 so far.", lambda a: a.throttled),
    ("polls", "Requests that asked about provider tasks.", lambda a: a.polls_made),
    ("tasks_found", "Provider tasks that were found done.", lambda a: a.tasks_found),
    ("lateness_seconds", "From the ends of these to our finding them, in all.", lambda a: a.lateness_sum),
)


def _workers(workers: list[WorkerProcess], now: float) -> Iterator[Metric]:
    seen = GaugeMetricFamily(
        "lightfast_worker_seen_seconds", "Since a worker last told that it lives.", labels=["worker"]
    )
    looked = GaugeMetricFamily(
        "lightfast_worker_looked_seconds", "Since the laziest of its lanes last looked for work.", labels=["worker"]
    )
    for worker in workers:
        seen.add_metric([worker.name], now - worker.seen_at)
        if worker.looked_at is not None:
            looked.add_metric([worker.name], now - worker.looked_at)
    alive = sum(now - worker.seen_at <= SEEN_WITHIN for worker in workers)
    yield GaugeMetricFamily("lightfast_workers", "Workers seen in the last minute.", value=alive)
    yield from (seen, looked)


def _risk(ledger: Ledger, now: float) -> Iterator[Metric]:
    images, micros = ledger.reports.at_risk()
    told = "Images in flight, unknown, or paid and not yet stored."
    yield GaugeMetricFamily("lightfast_at_risk_images", told, value=images)
    yield GaugeMetricFamily("lightfast_at_risk_usd", "What they cost.", value=usd(micros))
    if (first := ledger.reports.first_death()) is not None:
        left = first - now
        yield GaugeMetricFamily("lightfast_least_link_seconds", "Until the first uncopied link dies.", value=left)


def _destinations(ledger: Ledger, now: float) -> Iterator[Metric]:
    waits = GaugeMetricFamily(
        "lightfast_submits_wait", "1 while nothing new is sent for a destination.", labels=["dest", "kind"]
    )
    for trouble in ledger.destinations.troubles(now):
        waits.add_metric([trouble.dest, trouble.kind.value], 1)
    failing = GaugeMetricFamily(
        "lightfast_unstored_in_a_row",
        "Paid images that failed one after the other to be stored, where submits wait for it.",
        labels=["account", "provider_model", "dest"],
    )
    for each in ledger.claims.failing(now):
        failing.add_metric([each.account or "", each.provider_model or "", each.dest or ""], each.images)
    slack = GaugeMetricFamily(
        "lightfast_least_slack_seconds", "What the tightest uncopied image has to spare.", labels=["dest"]
    )
    for dest, backlog in ledger.destinations.backlogs(now).items():
        a_second = pace(backlog, 0.0)
        spare = least_slack(backlog, a_second, now) if a_second else None
        if spare is not None:
            slack.add_metric([dest], spare)
    yield from (waits, failing, slack)
