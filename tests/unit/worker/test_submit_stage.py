"""A submit ends as exactly one fact, whatever happens to it, and is never sent twice."""

from __future__ import annotations

import asyncio
import dataclasses

import orjson
import pytest
from sqlalchemy.exc import OperationalError

from jobs.states import JobState
from providers.types import Kind
from tests.support.worker_world import PRICE, Provider, answer, no_answer, row, stock, world
from worker.http.client import FetchError
from worker.runtime.clock import SystemClock
from worker.stages import submit as stage
from worker.stages.submit import ClaimedSubmit, submit

pytestmark = pytest.mark.virtual_time


@dataclasses.dataclass
class Moved(SystemClock):
    """The machine slept: only the boot clock tells."""

    slept: float = 0.0

    def boot(self) -> float:
        return SystemClock.boot(self) + self.slept


async def one(services, tmp_path, **changes):
    """Claims one row's submit, and does what the worker does with it."""
    stock(services, tmp_path, [row(0)])
    boot, now = services.clock.boot(), services.clock.now()
    lease = stage.lease_for(services, "main")
    (intent,) = services.ledger.claims.submits("main", now, lease=lease).intents
    attempt = ClaimedSubmit(intent=intent, boot_until=boot + lease)
    for name, value in changes.items():
        setattr(attempt, name, value)
    return attempt


def state(services):
    ((found, _),) = services.ledger.reports.progress("b").jobs.items()
    return found


async def test_a_request_that_never_left_frees_its_slots_and_rests_the_account(tmp_path):
    services = world(tmp_path, Provider(on_submit=lambda _: no_answer(sent=False)))
    attempt = await one(services, tmp_path)
    attempt.sent_flag.sent = False

    fact = await submit(services, attempt)

    assert (fact.kind, fact.code) == (Kind.TRANSIENT, "unreachable")
    assert state(services) is JobState.READY
    assert services.ledger.accounts.all()[0].paused_code == "unreachable"


async def test_a_request_without_an_answer_is_held_with_its_money(tmp_path):
    services = world(tmp_path, Provider(on_submit=lambda _: no_answer(sent=True)))

    await submit(services, await one(services, tmp_path))

    assert state(services) is JobState.HELD
    (unknown,) = services.ledger.unknowns.all()
    assert unknown.money == PRICE


@pytest.mark.parametrize("late", ["wall", "boot"])
async def test_a_lease_that_does_not_outlive_the_submit_sends_nothing(tmp_path, late):
    provider = Provider()
    services = world(tmp_path, provider)
    attempt = await one(services, tmp_path)
    clock = Moved(slept=3600.0) if late == "boot" else SystemClock(offset=3600.0)

    fact = await submit(dataclasses.replace(services, clock=clock), attempt)

    assert fact.code == "not_sent"
    assert not provider.submits
    assert state(services) is JobState.READY


async def test_what_a_stopping_worker_has_not_sent_stays(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)

    fact = await submit(services, await one(services, tmp_path, stopped=True))

    assert fact.code == "not_sent"
    assert not provider.submits


@pytest.mark.parametrize(("method", "expected"), [("submit", JobState.READY), ("read_submit", JobState.HELD)])
async def test_a_bug_before_the_mark_is_not_sent_and_after_it_unknown(tmp_path, method, expected):
    services = world(tmp_path, Provider())
    attempt = await one(services, tmp_path)

    class Broken:
        provider = "maxapi.io"

        def __getattr__(self, name):
            if name == method:
                raise ZeroDivisionError
            return getattr(services.dialects["maxapi.io"], name)

    await submit(dataclasses.replace(services, dialects={"maxapi.io": Broken()}), attempt)

    assert state(services) is expected


async def test_images_in_the_answer_itself_are_on_disk_before_they_are_on_record(tmp_path):
    """APIMaster may answer a submit with base64 and nothing to fetch it again with."""
    services = world(tmp_path, Provider(), provider="apimaster")
    body = {"code": 200, "data": [{"b64_json": "aGVsbG8="}]}
    services.http.on_submit = lambda _: answer(body)
    wanted = dataclasses.replace(row(0), provider="apimaster", provider_model="gpt-image-2")
    stock(services, tmp_path, [wanted])
    now, boot = services.clock.now(), services.clock.boot()
    (intent,) = services.ledger.claims.submits("main", now, lease=900.0).intents
    services.http.send = _plain_send(body)

    await submit(services, ClaimedSubmit(intent=intent, boot_until=boot + 900.0))

    (due,), _ = services.ledger.claims.copies(services.clock.now(), holder="me", lease=60, at_most=5)
    assert due.spool
    assert [file.read_bytes() for file in services.staging.folder.iterdir()] == [b"hello"]


def _plain_send(body):
    async def send(call, *, sent_flag=None, **_):
        sent_flag.sent = True
        return answer(body)

    return send


async def test_a_reference_that_cannot_be_read_fails_the_row_and_costs_nothing(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider, provider="maxapi.dev")
    with_reference = dataclasses.replace(row(0).request, references=("https://example.com/gone.png",), ratio="1:1")
    wanted = dataclasses.replace(
        row(0), request=with_reference, provider="maxapi.dev", provider_model="openai/gpt-image-2-beta"
    )
    stock(services, tmp_path, [wanted])

    async def gone(_url, **_):
        raise FetchError("reference_unreachable", "404", dead_link=True)

    provider.fetch_reference = gone
    (intent,) = services.ledger.claims.submits("main", services.clock.now(), lease=900.0).intents

    await submit(services, ClaimedSubmit(intent=intent, boot_until=services.clock.boot() + 900.0))

    assert state(services) is JobState.FAILED
    assert services.ledger.reports.progress("b").errors == {"reference_unreachable": 1}
    assert not provider.submits


async def test_a_bad_text_in_one_answer_costs_no_other_attempt_its_record(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(number) for number in range(4)])
    lease = stage.lease_for(services, "main")
    intents = services.ledger.claims.submits("main", services.clock.now(), lease=lease).intents
    bad = [b'{"code":400,"msg":"a\\u0000b"}', b'{"code":400,"msg":"\\ud800"}', orjson.dumps({"msg": "x" * 10_000_000})]
    answers = {f"lamp {number}": answer(body, 400) for number, body in enumerate(bad)}
    services.http.on_submit = lambda wanted: answers.get(wanted["prompt"])

    boot = services.clock.boot() + lease
    await asyncio.gather(*(submit(services, ClaimedSubmit(intent=intent, boot_until=boot)) for intent in intents))

    progress = services.ledger.reports.progress("b")
    assert progress.jobs == {JobState.FAILED: 3, JobState.WORKING: 1}
    assert progress.images_in_flight == 1


async def test_what_is_claimed_when_all_is_stopped_is_given_back_and_not_sent(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    attempt = await one(services, tmp_path)
    services.ledger.emergency_stop.begin(services.clock.now(), "mia@shop")

    fact = await submit(services, attempt)

    assert (fact.code, fact.message) == ("not_sent", stage.STOPPED)
    assert not provider.submits
    assert state(services) is JobState.READY
    assert services.ledger.emergency_stop.fates([attempt.intent.attempt_id]).given_back == 1


async def test_a_stop_that_comes_while_a_submit_connects_keeps_it_here(tmp_path):
    services = world(tmp_path, Provider())
    attempt = await one(services, tmp_path)

    async def connect(call, *, sent_flag, **_):
        services.stop_check.is_stopped = True  # another submit has just seen it
        sent_flag.too_late = not sent_flag.may_leave()
        return no_answer(sent=False)

    services.http.send = connect

    fact = await submit(services, attempt)

    assert (fact.code, fact.message) == ("not_sent", stage.STOPPED)


async def test_nothing_is_sent_while_the_ledger_cannot_say_whether_all_is_stopped(tmp_path, monkeypatch):
    provider = Provider()
    services = world(tmp_path, provider)
    attempt = await one(services, tmp_path)
    monkeypatch.setattr(services.ledger.emergency_stop, "current", _away)

    fact = await submit(services, attempt)

    assert fact.code == "not_sent"
    assert "ledger" in fact.message
    assert not provider.submits


def _away():
    raise OperationalError("SELECT", None, OSError("gone"))
