"""What people and programs are sent of a change that the log tells of: sentences with the command that helps, and JSON.

A message is made of a log event, so that both say the same; `data` has the event's fields (docs/reference/messages.md).
Only what needs a person, or is what somebody waits for, is sent at all. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.command_lines import command
from jobs.formatting import count, duration, money, usd, utc
from jobs.ledger.accounts.condition_values import ConditionChange
from jobs.ledger.accounts.outbox_values import NewMessage
from jobs.policy.firing import LEFT_TO_THE_NEXT
from jobs.results.budgets import month_words, raise_budget, raise_month
from jobs.results.completion import Reason
from jobs.results.conditions import LogEvent, Standing, events_of
from providers.dialects.answers import ACCOUNT_CODES
from providers.types import MICROS


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearer:
    """A channel, as far as it matters for what it hears."""

    channel: str
    hears_all: bool  # False: of what names it, and of `batch`
    batch: str | None = None
    is_program: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent of one change."""

    type: str
    at: float
    title: str
    text: str  # sentences, and commands on lines of their own
    data: Mapping[str, Any]
    batch: str | None = None
    also: tuple[str, ...] = ()  # channels that hear of it by name


def outgoing(change: ConditionChange, standing: Standing, hearers: Sequence[Hearer]) -> list[NewMessage]:
    """The messages of a change, written for those who hear of it."""
    told = (_addressed(message, hearers) for message in messages_of(change, standing)) if hearers else ()
    return [message for message in told if message.payloads]


def message_for_test(now: float, *, sandbox: bool) -> Message:
    """One that tells of nothing."""
    text = "This is a test: what Lightfast has to tell comes here."
    return _message("test", Standing(now=now, sandbox=sandbox), title="Lightfast: a test", text=[text], data={})


def for_program(message: Message) -> str:
    """The body of a webhook's request."""
    body = {"type": message.type, "timestamp": utc(message.at), "data": dict(message.data)}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def for_people(message: Message) -> str:
    """What a person gets: `title` and `text`, as JSON."""
    return json.dumps({"title": message.title, "text": message.text}, ensure_ascii=False)


def _addressed(message: Message, hearers: Sequence[Hearer]) -> NewMessage:
    by_name = dict.fromkeys(message.also, for_people(message))
    for one in hearers:
        if one.hears_all or (one.batch is not None and one.batch == message.batch):
            by_name[one.channel] = for_program(message) if one.is_program else for_people(message)
    return NewMessage(type=message.type, payloads=by_name)


# -- of a change ---------------------------------------------------------------------------------------------------


def messages_of(change: ConditionChange, standing: Standing) -> list[Message]:
    """What is sent of a change; nothing of most."""
    return [
        message
        for event in events_of(change, standing)
        if event.name in _TELLERS and (message := _TELLERS[event.name](event, change, standing)) is not None
    ]


def _message(  # noqa: PLR0913  each is given by its name
    type_: str,
    standing: Standing,
    *,
    title: str,
    text: Iterable[str],
    data: Mapping[str, Any],
    batch: str | None = None,
    also: tuple[str, ...] = (),
) -> Message:
    """`text`: its lines. What the stand-in's batches tell is marked."""
    return Message(
        type=type_,
        at=standing.now,
        title=f"{'SANDBOX ' if standing.sandbox else ''}{title}",
        text="\n".join(text),
        data={**data, "sandbox": standing.sandbox},
        batch=batch,
        also=also,
    )


def _of_batch(type_: str, event: LogEvent, standing: Standing, title: str, text: Iterable[str], **more: Any) -> Message:
    name = event.fields["batch"]
    found = next((one.batch for one in standing.batches if one.batch.name == name), None)
    return _message(
        type_,
        standing,
        title=f"{name}: {title}",
        text=text,
        data=more.get("data", event.fields),
        batch=name,
        also=found.notify if found else (),
    )


def _finished(event: LogEvent, change: ConditionChange, standing: Standing) -> Message:
    told, name = event.fields, event.fields["batch"]
    needy = change.after.detail["need_you"] if change.after else 0
    bad = [f"{told[state]:,} {state}" for state in ("partial", "failed", "held", "lost", "cancelled") if told[state]]
    help_ = [command("results", name, sandbox=standing.sandbox)]
    if told["held"]:
        help_.append(command("unknown", name, sandbox=standing.sandbox))
    if told["failed"] or told["lost"] or told["partial"]:
        help_.append(command("retry", name, sandbox=standing.sandbox))
    stored = f"{count(told['images'], 'image')} stored, {_usd(told['charged_usd'])} charged{_more_money(told)}."
    done = f"{told['done']:,} of {count(told['rows'], 'row')} are done{', ' if bad else ''}{', '.join(bad)}"
    if "time_images" in told:
        made = f"{count(told['time_images'], 'image')} made for {_usd(told['time_charged_usd'])}"
        at = f"at the time {told['at']} of schedule {told['schedule']}{_made_before(told)}"
        text = (f"{made} {at}. In all {done}; {stored}", *help_)
    else:
        text = (f"{done}, after {duration(told['seconds'])}. {stored}", *help_)
    title = f"finished, {count(needy, 'row')} need{'s' if needy == 1 else ''} you" if needy else "finished"
    return _of_batch("batch.finished", event, standing, title, text)


def _made_before(told: Mapping[str, Any]) -> str:
    """What times before it had made that no message has told: each image is told once."""
    if "times_before" not in told:
        return ""
    made = f"{count(told['images_before'], 'image')} for {_usd(told['charged_before_usd'])}"
    return f", and {made} at {count(told['times_before'], 'time')} before it, not told until now"


def _more_money(told: Mapping[str, Any]) -> str:
    unknown = f", unknown at most {_usd(told['unknown_usd'])}" if told["unknown_usd"] else ""
    return unknown + (f", lost {_usd(told['lost_usd'])}" if told["lost_usd"] else "")


def _cancelled(event: LogEvent, _change: ConditionChange, standing: Standing) -> Message | None:
    told = event.fields
    reasons = {one.batch.name: one.batch.reason for one in standing.batches}
    if reasons.get(told["batch"]) == LEFT_TO_THE_NEXT:
        return None  # the time that it was made for is told
    text = (
        (
            f"{told['done']:,} of {count(told['rows'], 'row')} are done, {told['cancelled']:,} cancelled. "
            f"{count(told['images'], 'image')} stored, {_usd(told['charged_usd'])} charged."
        ),
    )
    return _of_batch("batch.cancelled", event, standing, "cancelled", text)


def _needs_person(event: LogEvent, change: ConditionChange, standing: Standing) -> Message | None:
    told, name, reason = event.fields, event.fields["batch"], event.fields["reason"]
    if reason == Reason.ALL_PAUSED or change.after is None:
        return None  # a person has just stopped everything, and need not be told so by each batch
    waits = f"{count(told['rows_waiting'], 'row')} wait, at most {_usd(told['at_most_usd'])}."
    if reason in (Reason.BUDGET_USED, Reason.MONTH_BUDGET_USED):
        return _budget_used(event, change.after.detail, standing, waits)
    why = told.get("problem") or reason.replace("_", " ")
    helps = {
        Reason.BATCH_PAUSED: command("resume", name, sandbox=standing.sandbox),
        Reason.ACCOUNT_PAUSED: command("accounts", sandbox=standing.sandbox),
        Reason.AFTER_RESTORE: command("resume", "--after-restore", sandbox=standing.sandbox),
    }
    text = (f"{why}. {waits}", helps.get(Reason(reason), command("status", name, sandbox=standing.sandbox)))
    return _of_batch("batch.needs_person", event, standing, f"needs you ({reason.replace('_', ' ')})", text)


def _budget_used(event: LogEvent, facts: Mapping[str, Any], standing: Standing, waits: str) -> Message:
    """A batch's own budget is used, or that of the month of its schedule."""
    name = event.fields["batch"]
    progress = next(one for one in standing.batches if one.batch.name == name)
    rows = {"rows_waiting": facts["rows_waiting"], "at_most_usd": facts["at_most_usd"]}
    schedule = progress.schedule
    if event.fields["reason"] == Reason.MONTH_BUDGET_USED and schedule is not None and schedule.month is not None:
        month = {
            "scope": "month",
            "batch": name,
            "schedule": schedule.name,
            "budget_usd": usd(schedule.month.budget),
            "spent_usd": usd(schedule.month.spent),
            "again_at": utc(schedule.month.again_at),
        }
        text = (f"{month_words(progress)}. {waits}", *raise_month(progress))
        title = f"the monthly budget of schedule {schedule.name} is used"
        return _of_batch("budget.reached", event, standing, title, text, data=month | rows)
    own = {
        "scope": "batch",
        "batch": name,
        "budget_usd": facts["budget_usd"],
        "spent_usd": facts["charged_usd"],
    }
    text = (f"{_usd(facts['charged_usd'])} of {_usd(facts['budget_usd'])} is spent. {waits}", raise_budget(progress))
    return _of_batch("budget.reached", event, standing, "its budget is used", text, data=own | rows)


def _daily_budget(event: LogEvent, change: ConditionChange, standing: Standing) -> Message:
    told, whose = event.fields, f"account {change.subject}" if change.subject else "all accounts together"
    text = (
        (
            f"{_usd(told['spent_usd'])} of {_usd(told['budget_usd'])} is spent today by {whose}. Submits go on by "
            f"themselves at {told['again_at']}; a higher daily_budget in the settings lets them go on sooner."
        ),
    )
    data = {
        "scope": "day",
        "account": change.subject or None,
        **{name: told[name] for name in ("budget_usd", "spent_usd", "again_at")},
    }
    title = f"the daily budget of {whose} is reached"
    return _message("budget.reached", standing, title=title, text=text, data=data)


def _account(event: LogEvent, _change: ConditionChange, standing: Standing) -> Message | None:
    told = event.fields
    if told["code"] not in ACCOUNT_CODES:
        return None  # it works again by itself, perhaps in a minute, and then not again
    text = (
        f"{told.get('problem') or told['code']}. Nothing is sent with it until that is mended; then try it at once:",
        command("accounts", "--probe", told["account"], sandbox=standing.sandbox),
    )
    title = f"account {told['account']} ({told['provider']}) is paused: {told['code'].replace('_', ' ')}"
    return _message("account.paused", standing, title=title, text=text, data=told)


def _links(event: LogEvent, _change: ConditionChange, standing: Standing) -> Message:
    told, name = event.fields, event.fields["batch"]
    (links,) = (one for one in standing.dying if one.batch == name)
    left = duration(links.first_dies_at - standing.now)
    text = (
        (
            f"{count(links.images, 'paid image')} ({money(links.money)}) wait to be copied to {links.dest}. The first "
            f"link dies at {told['first_dies_at']}, in {left}; then that image is lost."
        ),
        command("status", name, sandbox=standing.sandbox),
    )
    return _message(
        "links.dying",
        standing,
        title=f"{name}: links of {count(links.images, 'paid image')} die soon",
        text=text,
        data=told,
        batch=name,
        also=links.notify,
    )


def _schedule(event: LogEvent, _change: ConditionChange, standing: Standing) -> Message:
    told, name = event.fields, event.fields["schedule"]
    verb = {
        "schedule_failed": "failed",
        "schedule_stopped": "has stopped and needs you",
        "schedule_partial": "has bought what its budget allowed",
    }[event.name]
    problem = told.get("problem") or told.get("code") or verb
    if event.name == "schedule_stopped" and told.get("time_images"):
        problem = f"{count(told['time_images'], 'image')} made for {_usd(told['time_charged_usd'])}. {problem}"
    if before := _made_before(told).removeprefix(", and "):
        problem = f"{problem}. Besides, {before}"
    return _message(
        f"schedule.{event.name.removeprefix('schedule_')}",
        standing,
        title=f"schedule {name}: its time {told['at']} {verb}",
        text=(
            problem,
            command("schedule", "show", name, sandbox=standing.sandbox),
        ),
        data=told,
        batch=told.get("batch"),
        also=standing.schedules_notify.get(name, ()),
    )


def _missed(event: LogEvent, _change: ConditionChange, standing: Standing) -> Message:
    told, name = event.fields, event.fields["schedule"]
    when = told["last_at"] if told["times"] == 1 else f"{told['first_at']} to {told['last_at']}"
    text = (
        (
            f"{count(told['times'], 'time')} passed unseen ({when}): no worker was there, or no `schedule serve`. "
            "What was missed is not made up, but the newest time, with --catch-up last."
        ),
        command("schedule", "show", name, sandbox=standing.sandbox),
    )
    return _message(
        "schedule.missed",
        standing,
        title=f"schedule {name}: {count(told['times'], 'time')} missed",
        text=text,
        data=told,
        also=standing.schedules_notify.get(name, ()),
    )


def _shrunk(event: LogEvent, _change: ConditionChange, standing: Standing) -> Message:
    told, name = event.fields, event.fields["schedule"]
    text = (
        (
            f"The manifest has {count(told['rows'], 'row')}, and had {told['rows_before']:,} the time before. The "
            "others cost nothing and keep their images, and the time goes on. If the file was not whole, mend it and "
            "run:"
        ),
        command("schedule", "run-now", name, sandbox=standing.sandbox),
    )
    return _message(
        "schedule.shrunk",
        standing,
        title=f"schedule {name}: half of the rows or more are gone from its manifest",
        text=text,
        data=told,
        batch=told.get("batch"),
        also=standing.schedules_notify.get(name, ()),
    )


def _usd(amount: float | None) -> str:
    return money(round((amount or 0) * MICROS))


Teller = Callable[[LogEvent, ConditionChange, Standing], Message | None]

_TELLERS: Mapping[str, Teller] = {
    "batch_finished": _finished,
    "batch_cancelled": _cancelled,
    "batch_needs_person": _needs_person,
    "daily_budget_reached": _daily_budget,
    "account_paused": _account,
    "links_about_to_die": _links,
    "schedule_failed": _schedule,
    "schedule_stopped": _schedule,
    "schedule_partial": _schedule,
    "schedule_shrunk": _shrunk,
    "schedule_times_missed": _missed,
}
