"""A worker asks when what was learnt suggests it, unless the settings say when."""

from __future__ import annotations

import dataclasses
import random

import pytest

from jobs.ledger.accounts.durations import TaskKind
from jobs.ledger.accounts.values import PollRoom
from jobs.policy.poll_schedule import Durations, Span, learn
from providers.types import Route
from tests.support.worker_world import Provider, world
from worker.polling.schedule import PollScheduler

KIND = TaskKind(account="main", provider_model="m", resolution="1k")
ROUTE = Route(provider="p", model="m", provider_model="m", pixels=None, max_n=1, price=None, first_poll_after=8.0)
UNDECLARED = {"first_poll_after": None, "poll_every": None}


def known(low: float, high: float, *, count: int = 400) -> Durations:
    rng = random.Random(1)
    drawn = [rng.uniform(low, high) for _ in range(count)]
    return learn(Durations(), [Span(low=each, high=each) for each in drawn], told=True)


class Told:
    """A ledger that knows this."""

    def __init__(self, durations: Durations, room: PollRoom | None = None) -> None:
        self.told = durations
        self.rooms = {"main": room} if room else {}
        self.accounts = self.hints = self

    def poll_rooms(self):
        return self.rooms

    def durations(self):
        return {KIND: self.told}


def paced(tmp_path, durations: Durations, room: PollRoom | None = None, **changes) -> PollScheduler:
    services = world(tmp_path, Provider(), **{**UNDECLARED, **changes})
    return dataclasses.replace(services.poll_scheduler, ledger=Told(durations, room))


def polls_of_one_that_takes(seconds: float, poll_scheduler: PollScheduler, number: int = 1) -> list[float]:
    """The ages at which it is asked about."""
    ages = [poll_scheduler.first_wait(number, KIND, ROUTE)]
    while ages[-1] < seconds:
        ages.append(ages[-1] + poll_scheduler.next_wait(number, KIND, ROUTE, ages[-1]))
    return ages


@pytest.mark.parametrize(
    ("room", "setting", "least", "most"),
    [
        ({}, "prompt", 6, 16),
        ({"per_second": 20.0, "is_learnt": False}, "prompt", 4.0, 5.2),
        ({"in_flight": 1_000}, "prompt", 2.2, 2.7),
        ({"is_full": False}, "prompt", 2.2, 2.7),
        ({}, "thrifty", 1.4, 1.8),
    ],
    ids=["every place is taken", "few polls are allowed", "few for so many tasks", "places are free", "thrifty"],
)
async def test_tasks_that_hold_the_last_places_are_asked_about_as_often_as_the_account_may(
    tmp_path, room, setting, least, most
):
    usual = {"per_second": 100.0, "is_learnt": True, "in_flight": 50, "is_full": True}
    poll_scheduler = paced(tmp_path, known(5, 20), PollRoom(**{**usual, **room}), polling=setting)
    await poll_scheduler.refresh()

    durations = [5 + 15 * number / 100 for number in range(100)]
    polls = [len(polls_of_one_that_takes(each, poll_scheduler, number)) for number, each in enumerate(durations)]

    assert least < sum(polls) / len(polls) < most


async def test_the_first_poll_comes_when_recent_durations_suggest_it(tmp_path):
    poll_scheduler = paced(tmp_path, known(30, 40))
    before = poll_scheduler.first_wait(1, KIND, ROUTE)

    await poll_scheduler.refresh()

    assert before < 10
    assert 30 < poll_scheduler.first_wait(1, KIND, ROUTE) < 42


async def test_thrifty_asks_later_than_prompt(tmp_path):
    prompt, thrifty = (paced(tmp_path, known(5, 20), polling=name) for name in ("prompt", "thrifty"))
    await prompt.refresh()
    await thrifty.refresh()

    assert thrifty.first_wait(1, KIND, ROUTE) > prompt.first_wait(1, KIND, ROUTE)


@pytest.mark.parametrize("declared", [{"first_poll_after": 3.0}, {"poll_every": 2.0}])
async def test_what_the_settings_declare_is_kept_to(tmp_path, declared):
    poll_scheduler = paced(tmp_path, known(30, 40), **declared)

    await poll_scheduler.refresh()

    assert poll_scheduler.first_wait(1, KIND, ROUTE) < 10


async def test_another_kind_of_task_is_asked_about_by_the_catalogue(tmp_path):
    poll_scheduler = paced(tmp_path, known(30, 40))
    await poll_scheduler.refresh()

    assert poll_scheduler.first_wait(1, dataclasses.replace(KIND, resolution="4k"), ROUTE) < 10


async def test_a_task_that_outlives_all_others_is_asked_about_ever_more_slowly(tmp_path):
    poll_scheduler = paced(tmp_path, known(5, 6))
    await poll_scheduler.refresh()

    waits = [poll_scheduler.next_wait(1, KIND, ROUTE, age) for age in (8.0, 60.0, 1_000.0, 40_000.0)]

    assert waits == sorted(waits)
    assert 1.0 < waits[0] < 1.5  # the kind is quick: sooner than the catalogue says
    assert waits[-1] > 400


async def test_where_nobody_tells_durations_a_few_first_polls_come_early(tmp_path):
    told = known(30, 40)
    poll_scheduler = paced(tmp_path, dataclasses.replace(told, told=0.0))
    await poll_scheduler.refresh()

    early = sum(poll_scheduler.first_wait(number, KIND, ROUTE) < 29 for number in range(2_000))

    assert 20 < early < 150


async def test_a_plan_follows_what_was_learnt_meanwhile(tmp_path):
    poll_scheduler = paced(tmp_path, known(5, 6))
    await poll_scheduler.refresh()
    assert len(polls_of_one_that_takes(30.0, poll_scheduler)) > 8

    poll_scheduler.ledger.told = learn(
        poll_scheduler.ledger.told, [Span(low=each, high=each) for each in [30.0] * 60], told=True
    )
    poll_scheduler._look_at = 0.0  # as after a few seconds
    await poll_scheduler.refresh()

    assert len(polls_of_one_that_takes(30.0, poll_scheduler)) < 5


class CalledBack(Told):
    """The same, and whose callbacks came through at what time."""

    def __init__(self, durations: Durations, at: dict[str, float]) -> None:
        super().__init__(durations)
        self.at = at

    def called_back(self, since):
        return {name for name, at in self.at.items() if at >= since}


async def test_polls_are_late_and_few_while_callbacks_come_through_and_as_before_when_they_stop(tmp_path):
    poll_scheduler = paced(tmp_path, known(5, 20), webhook_base_url="https://hooks.example")
    poll_scheduler.ledger = CalledBack(known(5, 20), {"main": poll_scheduler.clock.now()})
    await poll_scheduler.refresh()
    relied_on = poll_scheduler.first_wait(1, KIND, ROUTE)

    poll_scheduler.ledger.at = {"main": poll_scheduler.clock.now() - 3600}
    poll_scheduler._look_at = 0.0
    await poll_scheduler.refresh()

    assert relied_on > 15
    assert poll_scheduler.first_wait(1, KIND, ROUTE) < relied_on - 5


async def test_where_many_share_a_request_each_is_asked_about_more_often(tmp_path):
    alone, shared = (paced(tmp_path, known(5, 20), provider="apimaster") for _ in range(2))
    for _ in range(50):
        shared.poll_batching.note("main", 20, 1)
    await alone.refresh()
    await shared.refresh()

    assert len(polls_of_one_that_takes(20, shared)) > len(polls_of_one_that_takes(20, alone))
