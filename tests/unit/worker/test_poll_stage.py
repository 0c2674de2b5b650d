"""A poll finds results early and fails nothing by itself."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.facts import SubmitAccepted, SubmitUnclear, TaskFailed
from jobs.ledger.claims.values import DuePoll
from jobs.policy.doubts import Doubt, Doubted
from jobs.policy.retry import FIRST_WAIT
from jobs.states import JobState
from providers.types import Kind, Link, Route
from tests.support.worker_world import PRICE, Provider, answer, no_answer, row, stock, world
from worker.http.client import FetchError
from worker.polling.schedule import DEADLINE, wait_until_next
from worker.runtime.timings import Timings
from worker.stages import poll as stage
from worker.stages.copy import copy
from worker.stages.delivered_images import LONGEST_LIFE, made_of
from worker.stages.hint import look_into
from worker.stages.poll import is_forgotten, poll

pytestmark = pytest.mark.virtual_time

TIMINGS = Timings()
ROUTE = Route(provider="p", model="m", provider_model="m", pixels=None, max_n=1, price=None, poll_every=5.0)


async def accepted(services, tmp_path, *, ago: float = 0.0, n: int = 1):
    """A running attempt whose poll is due now."""
    stock(services, tmp_path, [row(0, n=n)])
    now = services.clock.now()
    (intent,) = services.ledger.claims.submits("main", now, lease=900.0).intents
    services.ledger.facts.record(
        [SubmitAccepted(attempt_id=intent.attempt_id, at=now - ago, task_id="t", poll_path=None, next_poll_at=now)]
    )
    return due(services)


def due(services, *, later: float = 0.0):
    ((found,), _) = services.ledger.claims.polls("main", services.clock.now() + later, lease=stage.LEASE)
    return found


def next_poll(services):
    """Seconds until the next poll."""
    _, next_at = services.ledger.claims.polls("main", services.clock.now(), lease=stage.LEASE)
    return next_at - services.clock.now()


def jobs(services):
    return services.ledger.reports.progress("b").jobs


DAY, WEEK = 86_400.0, 604_800.0


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"updated_at": -3 * DAY}, WEEK - 3 * DAY),
        ({"updated_at": 900.0}, WEEK),
        ({}, WEEK - 5 * DAY),
    ],
    ids=["counted from its making", "never from a clock that is ahead", "else from the task's beginning"],
)
async def test_an_image_dies_when_its_link_does(tmp_path, told, expected):
    url = "https://cdn.test/t/0.png"
    provider = Provider()
    services = world(tmp_path, provider)
    now = services.clock.now()
    when = {name: round(now + seconds) for name, seconds in told.items()}
    provider.on_poll = lambda _: answer({"code": 0, "data": {"status": "SUCCESS", "result": {"urls": [url]}, **when}})

    await poll(services, await accepted(services, tmp_path, ago=5 * DAY))

    ((image,), _) = services.ledger.claims.copies(services.clock.now(), holder="me", lease=60, at_most=5)
    assert image.expires_at == pytest.approx(now + expected, abs=5)


async def test_the_providers_own_word_on_a_links_death_counts_and_where_nobody_says_a_day(tmp_path):
    services = world(tmp_path, Provider())
    now = services.clock.now()
    links = [Link(url="https://cdn.test/0.png", expires_at=now + 1_000), Link(url="https://cdn.test/1.png")]

    known = await made_of(services, 1, links, life=600.0, made_at=now - 500)
    unknown = await made_of(services, 1, links, life=0.0, made_at=now - 500)

    assert [image.expires_at - now for image in known] == pytest.approx([1_000.0, 100.0], abs=2)
    assert [image.expires_at - now for image in unknown] == pytest.approx([1_000.0, DAY - 500], abs=2)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (-50 * 365 * DAY, 600.0),  # a length, and no moment
        (-3 * 3_600.0, 600.0),
        (70 * 365 * DAY, LONGEST_LIFE),
    ],
    ids=["seconds", "a clock that is behind", "for ever"],
)
async def test_a_links_death_that_cannot_be_true_is_not_believed(tmp_path, told, expected):
    services = world(tmp_path, Provider())
    now = services.clock.now()
    link = Link(url="https://cdn.test/0.png", expires_at=now + told)

    (made,) = await made_of(services, 1, [link], life=600.0, made_at=now)

    assert made.expires_at - now == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("behind", [2, 30], ids=["hours", "more than a day"])
@pytest.mark.parametrize("said", [b"<html>", FetchError("download_failed", "cdn answered 503", retryable=True)])
async def test_a_provider_whose_clock_is_behind_loses_no_image_at_the_first_trouble_of_its_cdn(tmp_path, behind, said):
    provider = Provider(on_download=lambda _: said)
    services = world(tmp_path, provider)
    link = {"url": "https://cdn.test/t/0.png", "expires_at": round(services.clock.now() - behind * 3600)}
    provider.on_poll = lambda _: answer({"code": 0, "data": {"status": "SUCCESS", "result": {"images": [link]}}})
    await poll(services, await accepted(services, tmp_path))
    ((due,), _) = services.ledger.claims.copies(services.clock.now(), holder="me", lease=60, at_most=5)

    await copy(services, due)

    (row_of_it,) = services.ledger.reports.results("b")
    assert row_of_it.images[0].state == "generated"


@pytest.mark.parametrize(
    "said",
    [
        no_answer(sent=True),
        answer(b"<html>502</html>", 502),
        answer({"code": 0, "data": {"status": "GARGLING"}}),
        answer({"code": 404, "msg": "task not found"}, 404),
        answer({"code": 401, "msg": "bad key"}, 401),
        answer({"code": 429, "msg": "slow down"}, 429),
        answer({"code": 0, "data": {"status": "PROCESSING"}}),
    ],
    ids=["cut off", "502", "new status", "404", "401", "429", "running"],
)
async def test_nothing_a_poll_meets_fails_the_attempt(tmp_path, said):
    services = world(tmp_path, Provider(on_poll=lambda _: said))

    await poll(services, await accepted(services, tmp_path, ago=3 * 86_400))

    assert jobs(services) == {JobState.WORKING: 1}


async def test_a_task_is_forgotten_only_after_a_day_of_saying_so(tmp_path):
    services = world(tmp_path, Provider(on_poll=lambda _: answer({"code": 404, "msg": "no such task"}, 404)))
    now = services.clock.now()
    first = dataclasses.replace(await accepted(services, tmp_path), answered_at=now - 3600)

    await poll(services, dataclasses.replace(first, not_found_since=now - TIMINGS.forgotten_after + 60))
    assert jobs(services) == {JobState.WORKING: 1}

    await poll(services, dataclasses.replace(first, not_found_since=now - TIMINGS.forgotten_after))
    progress = services.ledger.reports.progress("b")
    assert progress.errors == {"task_forgotten": 1}
    assert progress.lost_money  # it may have been paid


@pytest.mark.parametrize(
    ("days", "answered", "forgotten"),
    [(0.9, 0.1, False), (1.1, 0.1, True), (1.1, None, False), (3, 1.5, False), (3, 0.5, True), (8, None, True)],
)
def test_not_found_is_believed_after_a_day_while_others_are_answered_and_when_no_link_could_live(
    days, answered, forgotten
):
    now, day = 1_800_000_000.0, 86_400.0
    asked = {"attempt_id": 1, "account": "main", "job_id": 1, "provider_model": "m", "task_id": "t", "poll_path": None}
    due_now = DuePoll(
        **asked,
        n=1,
        accepted_at=now - 9 * day,
        polls=100,
        not_found_since=now - days * day,
        answered_at=None if answered is None else now - answered * day,
    )

    assert is_forgotten(due_now, now, TIMINGS) is forgotten


@pytest.mark.parametrize(("retry_after", "least", "most"), [("77", 70, 77), ("864000", 500, 600), ("1e300", 500, 600)])
async def test_retry_after_is_kept_unless_the_images_link_could_die_meanwhile(tmp_path, retry_after, least, most):
    said = answer({"code": 429, "msg": "slow down"}, 429)
    said = dataclasses.replace(said, response=dataclasses.replace(said.response, headers={"retry-after": retry_after}))
    services = world(tmp_path, Provider(on_poll=lambda _: said))

    await poll(services, await accepted(services, tmp_path))

    assert least < next_poll(services) <= most


async def test_a_wish_for_the_next_century_does_not_let_a_paid_tasks_links_die(tmp_path):
    said = answer({"code": 429, "msg": "slow down"}, 429)
    said = dataclasses.replace(said, response=dataclasses.replace(said.response, headers={"retry-after": "1e12"}))
    services = world(tmp_path, Provider(on_poll=lambda _: said))

    await poll(services, await accepted(services, tmp_path))

    assert next_poll(services) <= stage.LONGEST_WISH


async def test_a_bug_in_reading_delays_the_answer_and_does_not_lose_it(tmp_path):
    services = world(tmp_path, Provider())
    found = await accepted(services, tmp_path)

    await poll(dataclasses.replace(services, dialects={}), found)

    assert jobs(services) == {JobState.WORKING: 1}
    assert next_poll(services) > 50


def said_before(services, due, doubt, *, ago: float, answers: int):
    """The poll as it is due once its task was said to be so for a while."""
    return dataclasses.replace(due, doubted=Doubted(code=doubt, since=services.clock.now() - ago, answers=answers))


async def test_fewer_images_than_asked_leave_their_slots_to_be_filled_again_once_that_is_believed(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    provider.on_poll = lambda task: provider.finished(task, count=3)
    first = await accepted(services, tmp_path, n=4)

    await poll(services, first)
    asked_on = services.ledger.reports.progress("b")
    await poll(services, said_before(services, dataclasses.replace(first, came=3), Doubt.SHORT, ago=60.0, answers=3))

    progress = services.ledger.reports.progress("b")
    assert (asked_on.images_generated, asked_on.images_in_flight, asked_on.jobs) == (3, 1, {JobState.WORKING: 1})
    assert (progress.images_generated, progress.jobs) == (3, {JobState.READY: 1})
    (entry,) = services.ledger.reports.money()
    assert (entry.money.charged, entry.money.in_flight, entry.money.closes) == (3 * PRICE, 0, True)


@pytest.mark.parametrize("signed", ["sig=1", "sig=2"], ids=["same links", "signed anew"])
async def test_the_images_an_answer_left_out_are_taken_from_the_next_and_none_is_paid_twice(tmp_path, signed):
    provider = Provider()
    services = world(tmp_path, provider)
    provider.on_poll = lambda task: provider.finished(task, count=3)
    await poll(services, await accepted(services, tmp_path, n=4))
    urls = [f"https://cdn.test/t/{place}.png?{signed}" for place in (3, 0, 1, 2)]
    provider.on_poll = lambda _: answer({"code": 0, "data": {"status": "SUCCESS", "result": {"urls": urls}}})

    await poll(services, due(services, later=10.0))

    (found,) = services.ledger.reports.results("b")
    ((copies), _) = services.ledger.claims.copies(services.clock.now(), holder="me", lease=60, at_most=9)
    assert sorted(copy.url.partition("?")[0] for copy in copies) == [
        f"https://cdn.test/t/{place}.png" for place in range(4)
    ]
    assert (len(found.images), found.cost) == (4, 4 * PRICE)
    (entry,) = services.ledger.reports.money()
    assert (entry.money.charged, entry.money.surplus, entry.money.in_flight) == (4 * PRICE, 0, 0)


async def test_what_came_is_kept_and_paid_for_when_its_task_says_later_that_it_failed(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    provider.on_poll = lambda task: provider.finished(task, count=3)
    await poll(services, await accepted(services, tmp_path, n=4))
    failure = {"status": "FAILURE", "failure_reason": "CONTENT_MODERATION"}
    provider.on_poll = lambda _: answer({"code": 0, "data": failure})

    await poll(services, due(services, later=10.0))

    (entry,) = services.ledger.reports.money()
    assert (entry.money.charged, entry.money.waiting, entry.money.closes) == (3 * PRICE, 3 * PRICE, True)
    assert services.ledger.reports.progress("b").images_generated == 3


@pytest.mark.parametrize("result", [{"urls": []}, None, {"urls": ["no link"]}, "absent"])
async def test_a_picture_that_comes_with_the_next_answer_is_stored_and_paid_once(tmp_path, result):
    provider = Provider()
    services = world(tmp_path, provider)
    told = {} if result == "absent" else {"result": result}
    provider.on_poll = lambda _: answer({"code": 0, "data": {"status": "SUCCESS", **told}})
    await poll(services, await accepted(services, tmp_path))
    provider.on_poll = None

    await poll(services, due(services, later=10.0))

    progress = services.ledger.reports.progress("b")
    assert (progress.images_generated, progress.errors) == (1, {})
    (entry,) = services.ledger.reports.money()
    assert (entry.money.charged, entry.money.undelivered) == (PRICE, 0)


async def test_how_often_a_task_was_called_done_without_an_image_outlives_a_restart(tmp_path):
    empty = answer({"code": 0, "data": {"status": "SUCCESS", "result": {"urls": []}}})
    services = world(tmp_path, Provider(on_poll=lambda _: empty))
    first = await accepted(services, tmp_path)
    await poll(services, first)
    await poll(services, due(services, later=10.0))
    since = due(services, later=60.0).doubted.since
    services.ledger.close()

    again = world(tmp_path, Provider(on_poll=lambda _: answer(b"<html>502</html>", 502)))
    await poll(again, due(again, later=120.0))

    assert due(again, later=1000.0).doubted == Doubted(code=Doubt.EMPTY, since=since, answers=2)


async def test_a_task_that_is_said_to_run_again_was_called_done_too_early_and_is_counted_anew(tmp_path):
    said = iter([{"status": "SUCCESS"}, {"status": "PROCESSING"}])
    services = world(tmp_path, Provider(on_poll=lambda _: answer({"code": 0, "data": next(said)})))
    await poll(services, await accepted(services, tmp_path))
    await poll(services, due(services, later=10.0))

    assert due(services, later=60.0).doubted == Doubted()


async def test_a_task_whose_answers_contradict_each_other_for_days_ends_and_its_place_is_free_again(tmp_path):
    said = itertools.cycle([{"status": "FAILURE", "failure_reason": None}, {"status": "PROCESSING"}])
    services = world(tmp_path, Provider(on_poll=lambda _: answer({"code": 0, "data": next(said)})))
    task = await accepted(services, tmp_path, ago=4 * DAY)
    polls = 0
    while task is not None:
        polls += 1
        await poll(services, task)
        (found, _) = services.ledger.claims.polls("main", services.clock.now() + 700.0 * polls, lease=stage.LEASE)
        task = found[0] if found and polls < 300 else None

    assert 100 <= polls < 110
    assert services.ledger.reports.in_flight("b") == {}


@pytest.mark.parametrize("state", ["FAILURE", "TIMEOUT", "CANCELLED"])
async def test_a_failure_for_no_reason_that_the_next_answer_takes_back_buys_nothing(tmp_path, state):
    provider = Provider()
    services = world(tmp_path, provider)
    provider.on_poll = lambda _: answer({"code": 0, "data": {"status": state, "failure_reason": None}})
    await poll(services, await accepted(services, tmp_path))
    doubted = jobs(services)
    provider.on_poll = None

    await poll(services, due(services, later=10.0))

    assert doubted == {JobState.WORKING: 1}
    assert services.ledger.reports.progress("b").images_generated == 1


async def test_a_failure_that_is_said_twice_is_believed_and_the_row_waits_no_longer_for_it(tmp_path):
    provider = Provider(on_poll=lambda _: answer({"code": 0, "data": {"status": "FAILURE", "failure_reason": None}}))
    services = world(tmp_path, provider, poll_every=5.0)
    first = await accepted(services, tmp_path)
    now = services.clock.now()

    await poll(services, first)
    again_in = next_poll(services)
    await poll(services, due(services, later=10.0))

    assert again_in < FIRST_WAIT  # the row waits as long before its next attempt anyway
    assert services.ledger.reports.progress("b").next_at == pytest.approx(now + FIRST_WAIT, abs=2)


@pytest.mark.parametrize("reason", ["CONTENT_MODERATION", "INVALID_PARAMETERS", "INSUFFICIENT_POINTS"])
async def test_a_failure_with_a_reason_is_believed_at_once(tmp_path, reason):
    told = {"status": "FAILURE", "failure_reason": reason}
    services = world(tmp_path, Provider(on_poll=lambda _: answer({"code": 0, "data": told})))

    await poll(services, await accepted(services, tmp_path))

    assert JobState.WORKING not in jobs(services)


async def test_images_of_a_task_that_was_called_failed_are_kept_and_told(tmp_path):
    services = world(tmp_path, provider := Provider())
    late = await accepted(services, tmp_path)
    now = services.clock.now()
    failed = TaskFailed(attempt_id=late.attempt_id, at=now, kind=Kind.TRANSIENT, code="provider_failed", message="no")
    services.ledger.facts.record([failed])
    provider.on_poll = None

    await poll(services, late)

    (entry,) = services.ledger.reports.money()
    assert (entry.money.charged, entry.money.surplus, entry.money.closes) == (PRICE, PRICE, True)


@given(age=st.floats(0, 30 * 86_400))
def test_polling_slows_with_age_and_never_stops(age):
    wait = wait_until_next(ROUTE, age, TIMINGS.slowest_poll)

    assert ROUTE.poll_every <= wait <= TIMINGS.slowest_poll
    assert wait <= wait_until_next(ROUTE, age + 1, TIMINGS.slowest_poll) + 1e-9
    assert wait <= 30.0 or age > DEADLINE


async def test_a_task_called_done_without_an_image_for_minutes_counts_as_charged(tmp_path):
    empty = answer({"code": 0, "data": {"status": "SUCCESS", "result": {"urls": []}}})
    services = world(tmp_path, Provider(on_poll=lambda _: empty))
    first = await accepted(services, tmp_path, n=2)

    await poll(services, said_before(services, first, Doubt.EMPTY, ago=290.0, answers=9))
    await poll(services, said_before(services, first, Doubt.EMPTY, ago=400.0, answers=2))
    assert jobs(services) == {JobState.WORKING: 1}  # neither often nor long alone is enough
    await poll(services, said_before(services, first, Doubt.EMPTY, ago=300.0, answers=4))

    (entry,) = services.ledger.reports.money()
    assert (entry.money.undelivered, entry.money.charged, entry.money.in_flight) == (2 * PRICE, 2 * PRICE, 0)
    assert services.ledger.reports.progress("b").errors == {"no_images": 1}


@pytest.mark.parametrize(
    "told",
    [
        {"status": "SUCCESS", "result": {"type": "image", "urls": ["https://cdn.example/another.png"]}},
        {"status": "FAILURE", "failure_reason": None},
    ],
    ids=["done", "failed"],
)
async def test_an_answer_about_another_task_stores_nothing_and_frees_nothing(tmp_path, told):
    services = world(tmp_path, Provider(on_poll=lambda _: answer({"code": 0, "data": {"taskId": "another", **told}})))
    found = await accepted(services, tmp_path)

    await poll(services, found)

    assert jobs(services) == {JobState.WORKING: 1}
    assert "the answer is about another" in str(services.ledger.reports.story("b", "k0"))


async def test_a_task_whose_answers_write_its_id_without_the_prefix_is_ours(tmp_path):
    data = {"taskId": "T", "status": "FAILURE", "failure_reason": "CONTENT_MODERATION"}
    services = world(tmp_path, Provider(on_poll=lambda _: answer({"code": 0, "data": data})))
    found = await accepted(services, tmp_path)

    await poll(services, dataclasses.replace(found, task_id="task_t"))

    assert jobs(services) == {JobState.FAILED: 1}


async def test_a_hint_is_not_refuted_by_an_answer_about_another_task(tmp_path):
    echo = {"prompt": "lamp 0", "model": "gpt-image-2/text-to-image", "n": 1}
    answers = iter(["another", "lost"])
    services = world(tmp_path, provider := Provider())
    begun = datetime.fromtimestamp(services.clock.now(), UTC).isoformat()
    told = {"status": "PROCESSING", "created_at": begun, "input": echo}
    provider.on_poll = lambda _: answer({"code": 0, "data": {**told, "taskId": next(answers)}})
    stock(services, tmp_path, [row(0)])
    ledger, now = services.ledger, services.clock.now()
    (intent,) = ledger.claims.submits("main", now, lease=900.0).intents
    ledger.facts.record([SubmitUnclear(attempt_id=intent.attempt_id, at=now, code="outcome_unknown", message="cut")])
    ledger.hints.hear(ledger.hints.token(intent.attempt_id), "lost", now)

    for hours in (1, 2):
        for heard in ledger.hints.claim("main", now + hours * 3600, lease=30):
            await look_into(services, heard)

    assert jobs(services) == {JobState.WORKING: 1}
