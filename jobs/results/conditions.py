"""What people are told of the state of things: what holds now, what of it is new, and which event tells of that. Pure.

Everything is read off the ledger again and again, so a trouble that comes and goes between two looks is not told, and
one that many processes meet is told once. Rests of seconds, which the search for a limit makes all the time, are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any

from jobs.errors import MOVED
from jobs.formatting import money, usd, utc
from jobs.ledger.accounts.condition_values import Condition, ConditionChange
from jobs.ledger.accounts.values import Account, DayLimit
from jobs.ledger.accounts.worker_values import DestinationTrouble, EmergencyStop, WorkerProcess
from jobs.ledger.reports.values import DyingLinks, Progress
from jobs.ledger.schedules.values import Firing, MissedTimes
from jobs.log_events import NEWS, Level
from jobs.policy.firing import MADE, SPENT, STOPPED_WITH, UNTOLD, has_shrunk, is_up_to_its_budget
from jobs.policy.liveness import SEEN_WITHIN
from jobs.results.budgets import month_words
from jobs.results.completion import Reason, RunState, goes_on_by_itself, is_over, waits_for
from jobs.results.nights import Night
from jobs.results.progress import rows_in_need
from jobs.states import FIRING_OPEN, BatchState, FiringState, JobState, TroubleKind
from providers.dialects.answers import ACCOUNT_CODES

#: Seconds without an accepted submit after which any other trouble of an account is told.
LASTING = 60.0
#: A learnt limit is told when it has grown to this many times the figure that was told last, or shrunk to this part of
#: it, and not more often than every so many seconds.
RAISED, CUT, LIMIT_EVERY = 1.5, 2 / 3, 300.0
#: Links are about to die when they have no longer to live than this, in seconds, and their images have waited for their
#: copies for so long that it is no matter of seconds any more: many links live an hour from the beginning.
DIES_WITHIN, WAITED = 12 * 3_600.0, 15 * 60.0
#: Seconds for which times that nobody saw are told, after that was found.
MISSED_TOLD_FOR = 86_400.0
#: Characters of a provider's or a store's own words that are told.
WORDS = 300
#: The reason of a batch that a person has paused.
ON_YOUR_WORD = "on your word"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntFigure:
    """A limit that nobody declared, as far as it is learnt."""

    account: str
    limit: str  # "submits_per_second", "max_in_flight"
    value: float
    is_met: bool  # a 429 has shown where it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How everything stands at one moment, as the ledger tells it."""

    now: float
    batches: Sequence[Progress] = ()  # those that may have changed
    accounts: Sequence[Account] = ()
    budgets: Sequence[DayLimit] = ()
    figures: Sequence[LearntFigure] = ()
    troubles: Sequence[DestinationTrouble] = ()
    workers: Sequence[WorkerProcess] = ()  # all that are listed, silent ones too
    stop: EmergencyStop | None = None
    moved: bool = False
    firings: Sequence[tuple[str, Firing]] = ()  # each schedule's name, and its newest time that was acted on
    settled: Mapping[str, Firing] = field(default_factory=dict)  # of these, the newest that has ended or stopped
    missed: Mapping[str, MissedTimes] = field(default_factory=dict)  # by the schedule's name
    nights: Mapping[str, Night] = field(default_factory=dict)  # of the batches that are over, by their names
    dying: Sequence[DyingLinks] = ()  # as `DIES_WITHIN` and `WAITED` say
    sandbox: bool = False  # the batches are the stand-in's
    schedules_notify: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what each names with --notify


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One line of the log."""

    name: str
    level: Level
    fields: Mapping[str, Any] = field(default_factory=dict)


def _event(name: str, *, level: Level | None = None, **fields: Any) -> LogEvent:
    """At its usual level. What is not known is left out."""
    known = {key: value for key, value in fields.items() if value is not None}
    return LogEvent(name=name, level=level or NEWS[name].levels[0], fields=known)


# -- what holds ----------------------------------------------------------------------------------------------------

Told = Mapping[tuple[str, str], Condition]  # by name and subject


def changed(standing: Standing, told: Iterable[Condition]) -> list[ConditionChange]:
    """What is new: it holds and was not told, is another than was told, or was told and holds no more.

    A batch is left as it was told where `standing` does not have it.
    """
    before = {(one.name, one.subject): one for one in told}
    now = {(one.name, one.subject): one for one in _holding(standing, before)}
    gone = [one for key, one in before.items() if key not in now and one.name != "batch"]
    return [
        *(
            ConditionChange(before=before.get(key), after=one)
            for key, one in now.items()
            if key not in before or before[key].state != one.state
        ),
        *(ConditionChange(before=one, after=None) for one in gone),
    ]


def _holding(standing: Standing, told: Told) -> Iterator[Condition]:
    now = standing.now
    for progress in standing.batches:
        yield _batch(progress, standing, told.get(("batch", progress.batch.name)))
    for account in standing.accounts:
        if in_lasting_trouble(account, now):
            yield Condition(name="account", subject=account.name, state=account.paused_code or "", detail=_why(account))
    yield from _budgets_reached(standing, told)
    yield from (_figure(one, told, now) for one in standing.figures)
    for trouble in standing.troubles:
        words = {"code": trouble.code, "problem": trouble.message[:WORDS]}
        yield Condition(name=f"destination {trouble.kind}", subject=trouble.dest, state=trouble.kind, detail=words)
    for worker in standing.workers:
        if now - worker.seen_at > SEEN_WITHIN:
            detail = {"seconds": round(now - worker.seen_at)}
            yield Condition(name="worker", subject=worker.name, state="silent", detail=detail)
    if standing.stop is not None:
        yield Condition(
            name="emergency stop", subject="", state=utc(standing.stop.since), detail={"by": standing.stop.by}
        )
    if standing.moved:
        yield Condition(name="ledger moved", subject="", state="moved")
    yield from _schedules(standing, told)
    yield from starmap(_missed, standing.missed.items())
    for links in standing.dying:
        dies = {"images": links.images, "usd": usd(links.money), "first_dies_at": utc(links.first_dies_at)}
        yield Condition(name="links", subject=links.batch, state="dying", detail={"dest": links.dest, **dies})


def _schedules(standing: Standing, told: Told) -> Iterator[Condition]:
    """Those whose newest time failed, needs a person, used its budget, or found half of its rows or more gone.

    Each such time is told, also where the next one has come by the time of the look. It holds until a later time has
    ended well, and not just begun.
    """
    for name, newest in standing.firings:
        before = told.get(("schedule", name))
        firing = standing.settled.get(name, newest) if newest.state in FIRING_OPEN else newest
        is_partial = is_up_to_its_budget(firing.exit_code, firing.detail)
        if is_partial or firing.state in (FiringState.FAILED, FiringState.STOPPED):
            if is_partial and not firing.detail.get(MADE) and before and before.state.startswith("partial"):
                yield before  # nothing was bought since, as in the rest of a month whose budget is used
                continue
            made, charged = firing.detail.get(MADE), firing.detail.get(SPENT)
            about = {"at": utc(firing.at), "batch": firing.batch, "code": firing.code, "problem": firing.message}
            sums = {
                "time_images": made,
                "time_charged_usd": usd(charged),
                **_of_those_before(*firing.detail.get(UNTOLD, (0, 0, 0))),
            }
            # One that goes on, buys more and stops again is told again.
            state = f"{'partial' if is_partial else firing.state.value} {utc(firing.at)}{f' {made}' if made else ''}"
            yield Condition(name="schedule", subject=name, state=state, detail={**about, **sums})
        elif has_shrunk(firing.detail):
            counts = {"rows": firing.detail["rows"], "rows_before": firing.detail["rows_before"]}
            detail = {"at": utc(firing.at), "batch": firing.batch, **counts}
            yield Condition(name="schedule", subject=name, state=f"shrunk {utc(firing.at)}", detail=detail)
        elif before and (firing.state in FIRING_OPEN or (firing is not newest and firing.exit_code == STOPPED_WITH)):
            yield before  # a later time goes on with the rows of one that had stopped


def _missed(name: str, missed: MissedTimes) -> Condition:
    detail = {"times": missed.count, "first_at": utc(missed.first), "last_at": utc(missed.last)}
    return Condition(name="schedule missed", subject=name, state=utc(missed.last), detail=detail)


def in_lasting_trouble(account: Account, now: float) -> bool:
    """Whether an account's trouble is worth telling: it needs a person, or no submit was accepted for a minute."""
    if account.paused_code is None:
        return False
    lasts = account.troubled_since is not None and now - account.troubled_since >= LASTING
    return lasts or account.paused_code in ACCOUNT_CODES


def _why(account: Account) -> dict[str, Any]:
    until = account.paused_until
    return {
        "provider": account.provider,
        "until": utc(until) if until is not None and math.isfinite(until) else None,
        "problem": (account.paused_message or "")[:WORDS] or None,
    }


def _budgets_reached(standing: Standing, told: Told) -> Iterator[Condition]:
    """Those that hold up a batch; and one that did holds on until its day ends or somebody changes it."""
    holding_up = {limit.account for progress in standing.batches for limit in progress.day_limits}
    for limit in standing.budgets:
        before = told.get(("daily budget", limit.account or ""))
        state = f"{money(limit.budget)} of {utc(limit.again_at)}"
        if limit.account in holding_up or (before is not None and before.state == state):
            detail = {"budget": limit.budget, "spent": limit.spent, "again_at": utc(limit.again_at)}
            yield Condition(name="daily budget", subject=limit.account or "", state=state, detail=detail)


def _figure(figure: LearntFigure, told: Told, now: float) -> Condition:
    """A learnt limit, as it was told last where it is not much different."""
    subject = f"{figure.account} {figure.limit}"
    before = told.get(("limit", subject))
    value = round(figure.value, 2) if figure.limit == "submits_per_second" else int(figure.value)
    fresh = Condition(
        name="limit",
        subject=subject,
        state=f"{value:g}{' met' if figure.is_met else ''}",
        detail={"account": figure.account, "limit": figure.limit, "value": value, "is_met": figure.is_met},
    )
    if before is None:
        return fresh
    last = before.detail["value"]
    is_new = figure.is_met and not before.detail["is_met"]
    is_other = (value >= RAISED * last or value <= CUT * last) and now - before.since >= LIMIT_EVERY
    return fresh if is_new or is_other else before


# -- batches -------------------------------------------------------------------------------------------------------


def _batch(progress: Progress, standing: Standing, before: Condition | None) -> Condition:
    state, reason = batch_state(progress, standing.accounts, standing.now)
    night = standing.nights.get(progress.batch.name)
    of_time = _finished_for(night, before) if state == "finished" else None
    told = night.told if night is not None else told_of_times(before)
    return Condition(
        name="batch",
        subject=progress.batch.name,
        state=" ".join(filter(None, (state, reason or of_time))),
        detail={"reason": reason, **_figures(progress, standing, reason), **({TOLD: told} if told else {})},
    )


#: In what was told of a batch: what of its schedule's times.
TOLD = "told_of_times"


def told_of_times(before: Condition | None) -> Mapping[str, Any] | None:
    """What was told of a batch's times when its end was told last; None: nothing yet."""
    return before.detail.get(TOLD) if before is not None else None


def _finished_for(night: Night | None, before: Condition | None) -> str | None:
    """The schedule's time that the batch has finished for, so that each one that made something is told.

    The batch of `--into same` has finished before, and may do so again between two looks.
    """
    if night is not None and night.goes_on:
        return utc(night.at)
    state, _, of_time = before.state.partition(" ") if before is not None else ("", "", "")
    return of_time if state == "finished" else None


def batch_state(progress: Progress, accounts: Sequence[Account], now: float) -> tuple[str, Reason | None]:
    """A batch as the log and the metrics tell of it: "going", "waits", "needs", "paused", "finished", "cancelled".

    With "waits" (it goes on by itself) and "needs" (a person must help) what for.
    """
    if is_over(progress):
        return ("cancelled" if progress.batch.state is BatchState.CANCELLED else "finished"), None
    if progress.batch.state is BatchState.PAUSED:
        return ("paused", None) if progress.batch.reason == ON_YOUR_WORD else ("needs", Reason.BATCH_PAUSED)
    reason = _held_up_by(progress, accounts, now)
    if reason is None:
        return "going", None
    return ("waits" if _ends_by_itself(reason, progress, accounts, now) else "needs"), reason


def _held_up_by(progress: Progress, accounts: Sequence[Account], now: float) -> Reason | None:
    """As a run tells it, but that probes of what is in trouble, and rests of seconds, change nothing."""
    if progress.jobs.get(JobState.READY, 0):
        if progress.failing:
            return Reason.NOTHING_STORED
        if progress.stop is None and not progress.moved and _troubled(progress, accounts, now):
            return Reason.ACCOUNT_PAUSED
    reason = waits_for(RunState(progress=progress, accounts=accounts, now=now))
    return None if reason is Reason.ACCOUNT_PAUSED else reason


def _troubled(progress: Progress, accounts: Sequence[Account], now: float) -> list[Account]:
    """The accounts of its rows' providers, if every one of them is in trouble."""
    own = [one for one in accounts if progress.waits_at is None or one.provider in progress.waits_at]
    return own if all(in_lasting_trouble(one, now) for one in own) else []


def _ends_by_itself(reason: Reason, progress: Progress, accounts: Sequence[Account], now: float) -> bool:
    if reason is Reason.ACCOUNT_PAUSED:
        return any(one.paused_code not in ACCOUNT_CODES for one in _troubled(progress, accounts, now))
    return goes_on_by_itself(progress, reason)


def _figures(progress: Progress, standing: Standing, reason: Reason | None) -> dict[str, Any]:
    """All that any event of a batch tells."""
    batch, rows = progress.batch, progress.jobs
    night = standing.nights.get(batch.name)
    states = (JobState.DONE, JobState.PARTIAL, JobState.FAILED, JobState.HELD, JobState.LOST, JobState.CANCELLED)
    return {
        "rows": sum(rows.values()),
        **{state.value: rows.get(state, 0) for state in states},
        "rows_waiting": rows.get(JobState.READY, 0),
        "images": progress.images_stored,
        "images_wanted": progress.images_total,
        "at_most_usd": usd(progress.remaining_money),
        "in_all_usd": usd(progress.remaining_money + batch.reserved + batch.charged),
        "budget_usd": usd(batch.budget),
        "charged_usd": usd(batch.charged),
        "unknown_usd": usd(progress.unknown_money),
        "lost_usd": usd(progress.lost_money),
        "need_you": rows_in_need(progress),
        "seconds": round(standing.now - batch.created_at),
        "source": batch.source,
        "dest": batch.dest,
        "problem": problem_of(progress, standing, reason),
        "schedule": night and night.schedule,
        "at": night and utc(night.at),
        "time_images": night and night.images,
        "time_charged_usd": night and usd(night.charged),
        "times_before": None,
        "images_before": None,
        "charged_before_usd": None,
        **(_of_those_before(night.times_before, night.images_before, night.charged_before) if night else {}),
    }


def _of_those_before(times: int, images: int, charged: int) -> dict[str, Any]:
    """What times before the one that is told made untold; nothing where there are none."""
    if not times:
        return {}
    return {"times_before": times, "images_before": images, "charged_before_usd": usd(charged)}


def problem_of(progress: Progress, standing: Standing, reason: Reason | None) -> str | None:
    """What a batch waits for, in words; None: they say no more than the reason does."""
    batch, stop = progress.batch, progress.stop
    paused = _troubled(progress, standing.accounts, standing.now) if reason is Reason.ACCOUNT_PAUSED else ()
    told = {
        Reason.ACCOUNT_PAUSED: [
            f"account {one.name} ({one.provider}): {(one.paused_message or one.paused_code or '')[:WORDS]}"
            for one in paused
        ],
        Reason.BUDGET_USED: [f"{money(batch.charged)} of the budget of {money(batch.budget or 0)} is spent"],
        Reason.MONTH_BUDGET_USED: [month_words(progress)],
        Reason.NOTHING_STORED: [one.message[:WORDS] for one in progress.failing[:1]],
        Reason.BUCKET_REFUSES: [one.message[:WORDS] for one in progress.troubles],
        Reason.ALL_PAUSED: [f"all submits are stopped by {stop.by}"] if stop is not None else [],
        Reason.AFTER_RESTORE: [MOVED],
    }
    if batch.state is BatchState.PAUSED:
        return batch.reason
    return "; ".join(told.get(reason, ())) or None if reason is not None else None


# -- telling -------------------------------------------------------------------------------------------------------


def events_of(change: ConditionChange, standing: Standing) -> list[LogEvent]:
    """The events that tell of a change; none where it is not worth a line."""
    return list(_EVENTS[change.name](change, standing))


def _batch_events(change: ConditionChange, _standing: Standing) -> Iterator[LogEvent]:
    after = change.after
    if after is None:
        return
    facts, name = after.detail, change.subject

    def told(event: str, *names: str, level: Level | None = None) -> LogEvent:
        return _event(event, level=level, batch=name, **{field: facts[field] for field in names})

    if change.before is None:
        first = _event(
            "batch_begun",
            batch=name,
            rows=facts["rows"],
            images=facts["images_wanted"],
            at_most_usd=facts["in_all_usd"],
            **{field: facts[field] for field in ("budget_usd", "source", "dest")},
        )
        yield first
    state, held_up = after.state.partition(" ")[0], ("reason", "rows_waiting", "at_most_usd", "problem")
    counts = ("rows", "done", "partial", "failed", "held", "lost", "cancelled", "images", "charged_usd")
    if state == "going":
        if change.before is not None:
            yield _event(
                "batch_goes_on",
                batch=name,
                was=_as_it_was(change.before.state),
                rows_waiting=facts["rows_waiting"],
                at_most_usd=facts["at_most_usd"],
            )
    elif state == "finished":
        level: Level = "warning" if facts["need_you"] else "info"
        yield told("batch_finished", *counts, "unknown_usd", "lost_usd", "seconds", *_OF_TIME, level=level)
    elif state == "cancelled":
        yield told("batch_cancelled", *counts, *_OF_TIME)
    else:
        names = {"waits": "batch_waits", "needs": "batch_needs_person", "paused": "batch_paused"}
        yield told(names[state], *held_up)


_OF_TIME = (
    *("schedule", "at", "time_images", "time_charged_usd"),
    *("times_before", "images_before", "charged_before_usd"),
)


def _as_it_was(state: str) -> str:
    """A batch's state with what it waited for; which schedule's time it had finished for is no matter."""
    name, _, reason = state.partition(" ")
    if name in ("finished", "again"):  # the second: rows of it were begun again since
        return "finished"
    return f"{name}: {reason}" if reason else name


def _account_events(change: ConditionChange, standing: Standing) -> Iterator[LogEvent]:
    if change.after is not None:
        code = change.after.state
        level: Level = "error" if code in ACCOUNT_CODES else "warning"
        yield _event("account_paused", level=level, account=change.subject, code=code, **change.after.detail)
    elif change.before is not None and change.subject in {one.name for one in standing.accounts}:
        was, since = change.before.state, round(standing.now - change.before.since)
        provider = change.before.detail.get("provider")
        yield _event("account_works_again", account=change.subject, provider=provider, was=was, seconds=since)


def _budget_events(change: ConditionChange, _standing: Standing) -> Iterator[LogEvent]:
    account = change.subject or "all together"
    if change.after is None:
        yield _event("daily_budget_allows_again", account=account)
        return
    detail = change.after.detail
    yield _event(
        "daily_budget_reached",
        account=account,
        budget_usd=usd(detail["budget"]),
        spent_usd=usd(detail["spent"]),
        again_at=detail["again_at"],
    )


def _limit_events(change: ConditionChange, _standing: Standing) -> Iterator[LogEvent]:
    before, after = change.before, change.after
    if before is None or after is None:
        return  # a figure that was just begun with, or is declared from now on
    was, now = before.detail["value"], after.detail["value"]
    about = {name: after.detail[name] for name in ("account", "limit", "value")}
    if now <= CUT * was:
        yield _event("limit_cut", **about, was=was)
    elif after.detail["is_met"] and not before.detail["is_met"]:
        yield _event("limit_learnt", **about)
    elif now > was:
        yield _event("limit_raised", **about, was=was)


def _refusal_events(change: ConditionChange, standing: Standing) -> Iterator[LogEvent]:
    yield _of_destination(change, standing, "destination_refuses", "destination_takes_again")


def _pace_events(change: ConditionChange, standing: Standing) -> Iterator[LogEvent]:
    yield _of_destination(change, standing, "copies_fall_behind", "copies_keep_up_again")


def _of_destination(change: ConditionChange, standing: Standing, begun: str, ended: str) -> LogEvent:
    if change.after is not None:
        known = {name: change.after.detail[name] for name in NEWS[begun].fields if name in change.after.detail}
        return _event(begun, dest=change.subject, **known)
    return _event(ended, dest=change.subject, seconds=_lasted(change, standing))


def _lasted(change: ConditionChange, standing: Standing) -> int:
    return round(standing.now - change.before.since) if change.before is not None else 0


def _worker_events(change: ConditionChange, standing: Standing) -> Iterator[LogEvent]:
    if change.after is not None:
        yield _event("worker_silent", worker=change.subject, **change.after.detail)
    elif change.subject in {worker.name for worker in standing.workers}:
        yield _event("worker_back", worker=change.subject)


def _stop_events(change: ConditionChange, standing: Standing) -> Iterator[LogEvent]:
    if change.after is not None:
        yield _event("emergency_stop_begun", by=change.after.detail["by"])
    elif change.before is not None:
        yield _event("emergency_stop_lifted", seconds=_lasted(change, standing))


def _moved_events(change: ConditionChange, standing: Standing) -> Iterator[LogEvent]:
    if change.after is not None:
        yield _event("ledger_moved")
    else:
        yield _event("ledger_trusted", seconds=_lasted(change, standing))


def _schedule_events(change: ConditionChange, standing: Standing) -> Iterator[LogEvent]:
    if change.after is not None:
        state = change.after.state.partition(" ")[0]
        yield _event(f"schedule_{state}", schedule=change.subject, **change.after.detail)
    elif change.subject in {name for name, _ in standing.firings}:
        yield _event("schedule_works_again", schedule=change.subject)


def _missed_events(change: ConditionChange, _standing: Standing) -> Iterator[LogEvent]:
    if change.after is not None:
        yield _event("schedule_times_missed", schedule=change.subject, **change.after.detail)


def _link_events(change: ConditionChange, _standing: Standing) -> Iterator[LogEvent]:
    if change.after is not None:
        yield _event("links_about_to_die", batch=change.subject, **change.after.detail)
    else:
        yield _event("no_links_about_to_die", batch=change.subject)


_EVENTS = {
    "batch": _batch_events,
    "account": _account_events,
    "daily budget": _budget_events,
    "limit": _limit_events,
    f"destination {TroubleKind.REFUSES}": _refusal_events,
    f"destination {TroubleKind.BEHIND}": _pace_events,
    "worker": _worker_events,
    "emergency stop": _stop_events,
    "ledger moved": _moved_events,
    "schedule": _schedule_events,
    "schedule missed": _missed_events,
    "links": _link_events,
}
