"""One row's history, as a person would tell it and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from jobs.command_lines import command, keyed
from jobs.errors import REFUSED_AGAIN
from jobs.facts import CHARGE_ESTIMATED
from jobs.formatting import count, day_and_time, duration, here, money, size, usd, utc
from jobs.results.progress import prices_of
from jobs.results.rows import is_stuck, place_of, plain_address, row_values
from jobs.states import AttemptState, ImageState, JobState

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import AttemptStory, Event, Result, StoredImage, Story
    from providers.types import Request

Line = tuple[str, str]
Moment = tuple[float, str, str]  # when, what, style

#: Events that an attempt's own line tells already.
TOLD_BY_ATTEMPT = frozenset({"submit_refused", "outcome_unknown", "task_failed", "task_forgotten"})
EVENTS: dict[str, str] = {
    "late_answer_accepted": "the provider's answer came late: the attempt is known again",
    "poll_not_understood": "an answer about the task could not be used",
    "charge_estimated": "what it cost was not told; what was set aside counts as charged",
    "charged_above": "the provider's usage came to more than was set aside",
    "delivered_short": "fewer images came than were asked for",
    "moved": "it goes to another provider; nothing was paid at the first",
    "late_fact": "a late word from the provider changed nothing",
    "copied_again": "copied again: what was stored is not there as it was",
    "redo": "made anew on your word",
    "given_up": "given up on your word; it is paid, and lost",
    "resolved": "on a person's word",
    "retry": "tried again on your word",
    "reuse_gone": "its image could not be taken from where it was; nothing was paid",
}
#: How a submit's outcome came to be unknown, by its code.
UNCLEAR: dict[str, str] = {
    "no_task_id": "the answer named no task",
    "outcome_unknown": "the connection broke before a whole answer came",
    "process_died": "the process that sent it died before the answer was on record",
    "provider_timeout": "the provider ran out of time while it was asked",
    "server_error": "the provider broke down over it",
    "task_id_taken": "the answer named a task that is another row's",
    "unexpected_code": "the answer bore a code that nobody documents",
    "unreadable_answer": "the answer made no sense",
}
#: What a person decided about an unknown outcome.
RESOLVED = {
    "give-up": "it counts as given up",
    "pay-again": "its images are made again and paid again",
    "found": "the provider's task was found",
}
TEENS = range(11, 14)
#: Characters of a machine's own words in a story.
MOST_SAID = 160


def tell(story: Story, batch: Batch, *, waits: bool = False) -> list[Line]:
    """The head, what happened and when, the money, and what happens next."""
    return [
        *_head(story.result, batch),
        *_history(story, batch),
        *_money(story, batch),
        *(_next(story, batch) if not waits else [("  next      it waits, since nothing can be stored:", "red")]),
    ]


def _head(result: Result, batch: Batch) -> Iterator[Line]:
    style = {
        JobState.DONE: "bold green",
        JobState.HELD: "bold yellow",
        JobState.FAILED: "bold red",
        JobState.LOST: "bold red",
    }
    yield (
        f"{result.key}: {result.state}  ({where(result, batch)}, batch {batch.name})",
        style.get(result.state, "bold"),
    )
    if result.error_code:
        yield f"  because   {result.error_code}: {result.message or ''}".rstrip(": "), "red"
    request = result.request
    if request is None:
        return
    yield f"  asked     {asked(request)}", ""
    yield f"  prompt    {request.prompt}", ""
    if result.revision > 1:
        yield f"  revision  {result.revision}", ""


def asked(request: Request) -> str:
    """What was asked for, but for its prompt."""
    parts = [count(request.n, "image"), request.model, request.ratio, request.resolution, request.quality]
    if request.size:
        parts.append(f"{request.size[0]}x{request.size[1]}")
    if request.references:
        parts.append(f"from {count(len(request.references), 'reference')}")
    return ", ".join(part for part in parts if part)


def where(result: Result, batch: Batch) -> str:
    """Which line of which manifest it is."""
    listed = result.position >= 0
    return f"line {result.line} of {batch.source}" if listed else "no longer in the manifest"


def _history(story: Story, batch: Batch) -> Iterator[Line]:
    found = sorted(moments(story, batch), key=lambda moment: moment[0])
    if not found and story.result.request is not None:
        yield "  It was not sent yet.", ""
    for at, text, style in found:
        yield f"  {day_and_time(at)}  {text}", style


def moments(story: Story, batch: Batch) -> Iterator[Moment]:
    """What happened: when, in words, and in which colour; in no order."""
    for number, attempt in enumerate(story.attempts, start=1):
        yield from _of_attempt(attempt, f"attempt {number}", _unknown_since(story, attempt))
    numbers = {attempt.attempt_id: number for number, attempt in enumerate(story.attempts, start=1)}
    prompt = story.result.request.prompt if story.result.request else ""
    yield from (_of_event(event, numbers, prompt) for event in story.events if event.name not in TOLD_BY_ATTEMPT)
    for (_, slot), source in story.taken_from.items():
        yield source.at, f"image {slot}: taken from row {source.key} of batch {source.batch}, for nothing", ""
    address = plain_address(batch.dest)
    for image in [*story.older, *story.result.images]:
        if image.state == ImageState.STORED and image.stored_at and image.path:
            newest = image.revision == story.result.revision
            # Times are shown in seconds: images of one second stand at its end, by slot.
            yield (
                int(image.stored_at) + 0.999,
                _stored(image, place_of(image, address, image.path)),
                "green" if newest else "",
            )


def _stored(image: StoredImage, where: str) -> str:
    flags = f", {', '.join(image.flags)}" if image.flags else ""
    what = f"{image.width}x{image.height} {image.format}, {size(image.bytes or 0)}{flags}"
    which = f" of revision {image.revision}" if image.revision > 1 else ""
    failed = f" at the copy's {_th(image.tries)} try" if image.tries > 1 else ""
    return f"image {image.slot}{which} stored{failed}: {what} -> {where}"


def _th(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in TEENS else "th"
    return f"{number:,}{ending}"


def _of_attempt(attempt: AttemptStory, name: str, unknown_since: float | None) -> Iterator[Moment]:
    whom = f"{attempt.provider} (account {attempt.account}, {attempt.provider_model})"
    reserved = f", {money(attempt.reserved)} reserved" if attempt.reserved else ""
    audited = f" (attempt {attempt.attempt_id} in `lightfast audit`)"
    yield attempt.created_at, f"{name}: on its way to {whom} for {_images(attempt.slots)}{reserved}{audited}", ""
    if attempt.accepted_at is not None:
        took = duration(attempt.accepted_at - attempt.created_at)
        yield (
            attempt.accepted_at,
            f"{name}: accepted after {took} as provider task {attempt.task_id or '(not named)'}",
            "",
        )
    if unknown_since is not None:
        yield unknown_since, f"{name}: nobody can know whether it was accepted: {_unclear(attempt)}", "yellow"
    if attempt.finished_at is not None:
        yield attempt.finished_at, f"{name}: {_ending(attempt)}", _ENDING_STYLES.get(attempt.state, "")


def _images(slots: Sequence[int]) -> str:
    *others, last = map(str, slots)
    return f"images {', '.join(others)} and {last}" if others else f"image {last}"


def _unclear(attempt: AttemptStory) -> str:
    """What happened in plain words, with the recorded message in brackets."""
    words, own = UNCLEAR.get(attempt.code or ""), _short(attempt.message or attempt.code or "no readable answer")
    return f"{words} ({own})" if words else own


def _short(said: str) -> str:
    """A message cut to `MOST_SAID` characters; --json has all of it."""
    return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}…"


def _unknown_since(story: Story, attempt: AttemptStory) -> float | None:
    """When the attempt's outcome became unknown, in seconds since 1970; None if it did not."""
    said = (e.at for e in story.events if e.name == "outcome_unknown" and e.attempt_id == attempt.attempt_id)
    return next(said, attempt.created_at if attempt.state == AttemptState.UNKNOWN else None)


_ENDING_STYLES = {
    AttemptState.FAILED.value: "red",
    AttemptState.LOST.value: "red",
    AttemptState.REFUSED.value: "yellow",
}


def _ending(attempt: AttemptStory) -> str:
    error = _short(": ".join(part for part in (attempt.code, attempt.message) if part))
    polls = f" and {count(attempt.polls, 'poll')}" if attempt.polls else ""
    since = attempt.finished_at - (attempt.accepted_at or attempt.created_at) if attempt.finished_at else 0
    charge = f"{money(attempt.charged)} charged" if attempt.price_known else "charged, price not known"
    aside = f"{charge}: what was set aside, for nobody told ({CHARGE_ESTIMATED})"
    free = aside if attempt.charged else "nothing charged"
    return {
        AttemptState.SUCCEEDED.value: f"made after {duration(since)}{polls}; {charge}",
        AttemptState.FAILED.value: (
            f"the provider's task failed after {duration(since)}{polls}: {error.rstrip('.')}; {free}"
        ),
        AttemptState.LOST.value: f"the provider no longer knows the task: {error}; {charge}",
        AttemptState.REFUSED.value: f"certainly not accepted: {error}; nothing charged",
        AttemptState.ABANDONED.value: f"given up without knowing; {charge}, for it may be",
        AttemptState.SURPLUS.value: f"turned out to be paid after all; {charge}",
    }.get(attempt.state, f"{attempt.state} {error}".strip())


def _of_event(event: Event, numbers: Mapping[int, int], prompt: str) -> Moment:
    number = numbers.get(event.attempt_id or 0)
    whose = f"attempt {number}: " if number else ""
    words = EVENTS.get(event.name, event.name.replace("_", " "))
    told = {name.replace("_", " "): value for name, value in event.detail.items() if value not in (None, "")}
    times, last = told.pop("times", 1), told.pop("last at", None)
    often = f", {times:,} times, the last {day_and_time(float(str(last)))}" if last is not None else ""
    told.pop("raw", None)  # an answer as it came; --json has it
    told.pop("shape before", None)  # for estimates
    before = told.pop("prompt before", prompt)
    if before != prompt:
        told["the prompt was"] = f'"{before}"'
    if event.name == "resolved":
        words = f"{words} {RESOLVED.get(str(told.get('how')), told.get('how'))}"
        told.pop("how", None)
    code, message = told.pop("code", None), told.pop("message", None)
    said = [": ".join(_short(str(part)) for part in (code, message) if part)] if code or message else []
    detail = ", ".join([*said, *(f"{name} {value}" for name, value in told.items())])
    return event.at, f"{whose}{words}{often}{f' ({detail})' if detail else ''}", ""


def _money(story: Story, batch: Batch) -> Iterator[Line]:
    if words := money_words(story, batch):
        yield f"  money     {words}", ""


def money_words(story: Story, batch: Batch) -> str:
    """What its attempts have cost, and what is set aside for them; "": it had none."""
    charged = sum(attempt.charged for attempt in story.attempts)
    reserved = sum(attempt.reserved for attempt in story.attempts)
    unpriced = any(not attempt.price_known for attempt in story.attempts)
    if not story.attempts:
        return ""
    waits = f", {money(reserved)} reserved" if reserved else ""
    some = ", some prices not known" if unpriced else ""
    return f"{money(charged)} charged at {prices_of(batch)}{waits}{some}"


def _next(story: Story, batch: Batch) -> Iterator[Line]:
    yield f"  next      {next_words(story, batch)}", ""


def next_words(story: Story, batch: Batch) -> str:
    """What happens next by itself, or who has to do what."""
    running = any(attempt.state in {AttemptState.RUNNING, AttemptState.SUBMITTING} for attempt in story.attempts)
    return _what_next(story, batch.name, running=running, sandbox=batch.sandbox)


def _what_next(story: Story, batch: str, *, running: bool, sandbox: bool) -> str:
    result, key = story.result, keyed(story.result.key)
    again = command("retry", batch, *key, sandbox=sandbox)
    look = command("unknown", batch, *key, sandbox=sandbox)
    if result.state is JobState.READY:
        return (
            f"it is sent again from {day_and_time(story.next_try_at)}{here(story.next_try_at)} on"
            if story.next_try_at
            else "it is sent when its turn comes"
        )
    if result.state is JobState.WORKING and any(attempt.state is AttemptState.SUBMITTING for attempt in story.attempts):
        return "the provider's answer to the submit is waited for"
    if result.state is JobState.WORKING:
        end = command("give-up", batch, *key, sandbox=sandbox)
        return "the provider's task is asked about until it ends" if running else _copying(result, end)
    held = f"nothing by itself. Look in the provider's dashboard, then  {look}"
    stuck = next((image for image in result.images if is_stuck(image)), None)
    if stuck is not None:
        end = command("give-up", batch, *key, sandbox=sandbox)
        held = (
            f"nothing by itself: image {stuck.slot} is paid, and no time will help. Fix what its last answer says and "
            f"run the same command, or end it unstored:  {end}"
        )
    words: dict[JobState, str] = {
        JobState.DONE: "nothing; it is done",
        JobState.HELD: held,
        JobState.CANCELLED: "nothing; the batch was cancelled",
        JobState.SKIPPED: "nothing; the row was left out on your word",
        JobState.INVALID: f"fix line {result.line} of the manifest, then run again",
    }
    if result.error_code == "wrong_pixels":
        redo = command("redo", batch, *key, sandbox=sandbox)
        return f"nothing by itself: its images are kept. To pay for new ones:  {redo}"
    if result.error_code in REFUSED_AGAIN:
        what = "prompt" if result.error_code == "moderation" else "request"
        return f"nothing by itself: the same {what} is refused again. Change line {result.line}, then run again"
    return words.get(result.state, f"nothing by itself. To pay for a new try:  {again}")


def _copying(result: Result, end: str) -> str:
    """What an image that is paid and not stored yet waits for."""
    waiting = [image for image in result.images if image.state == ImageState.GENERATED]
    failing = next((image for image in waiting if image.error_code), None)
    if failing is None:
        return "its image is copied before the link dies"
    dies = (
        f"; its link dies {day_and_time(failing.link_expires_at)}{here(failing.link_expires_at)}"
        if failing.link_expires_at
        else ""
    )
    again = (
        f", the next {day_and_time(failing.next_copy_at)}{here(failing.next_copy_at)}" if failing.next_copy_at else ""
    )
    said = f"{failing.error_code}: {failing.message or ''}".rstrip(": ")
    tried = "once" if failing.tries == 1 else f"{failing.tries:,} times"
    return f"image {failing.slot} is copied; tried {tried}{again}, last answer {said}{dies}. To end it unstored:  {end}"


# -- as a document -------------------------------------------------------------------------------------------------


def document(story: Story, batch: Batch) -> dict[str, object]:
    """The same for programs; docs/reference/json.md."""
    values = row_values(story.result, plain_address(batch.dest))
    cost = story.result.cost
    return {
        "key": story.result.key,
        "line": story.result.line,
        "in_manifest": story.result.position >= 0,
        "status": story.result.state.value,
        "revision": story.result.revision,
        "request": _request(story.result),
        "urls": values["lf_urls"],
        "error": values["lf_error"],
        "message": values["lf_message"],
        "cost_usd": usd(cost),
        "attempts": [_attempt(attempt) for attempt in story.attempts],
        "events": [
            {"at": utc(event.at), "name": event.name, "attempt": event.attempt_id, **event.detail}
            for event in story.events
        ],
        "taken_from": [
            {"revision": revision, "index": slot, "batch": source.batch, "key": source.key}
            for (revision, slot), source in story.taken_from.items()
        ],
        "next_try_at": utc(story.next_try_at) if story.next_try_at else None,
    }


def _request(result: Result) -> object:
    return orjson.loads(result.request.to_json()) if result.request else None


def _attempt(attempt: AttemptStory) -> dict[str, object]:
    return {
        "attempt": attempt.attempt_id,
        "account": attempt.account,
        "provider": attempt.provider,
        "provider_model": attempt.provider_model,
        "state": attempt.state,
        "images": list(attempt.slots),
        "revision": attempt.revision,
        "task_id": attempt.task_id,
        "created_at": utc(attempt.created_at),
        "accepted_at": utc(attempt.accepted_at) if attempt.accepted_at is not None else None,
        "finished_at": utc(attempt.finished_at) if attempt.finished_at is not None else None,
        "polls": attempt.polls,
        "reserved_usd": usd(attempt.reserved),
        "charged_usd": usd(attempt.charged) if attempt.price_known else None,
        "code": attempt.code,
        "message": attempt.message,
        "answer": attempt.raw,
    }
