"""One request about many tasks: read by ids wherever they stand, and given up where it does not work."""

from __future__ import annotations

import dataclasses

import orjson
import pytest

from cli.output.endings import message
from jobs.facts import SubmitAccepted
from jobs.states import JobState
from providers.registry import MANY_TASKS
from providers.types import Kind, Running, Succeeded
from tests.support.dialect_shapes import answer as said
from tests.support.worker_world import Provider, answer, no_answer, row, settings, stock, world
from worker.local.run import run_batch
from worker.polling.batching import OFF, TRIES
from worker.runtime.limits import limits_of
from worker.services import build
from worker.stages import poll as single
from worker.stages.poll_batch import poll_batch

URL = "https://cdn.test/0.png"
RUNS = {"task_id": "task_a", "status": "processing", "progress": 40}
DONE = {"task_id": "task_b", "status": "completed", "result": {"images": [{"url": [URL]}]}}
FAILED = {"task_id": "task_b", "status": "failed", "error": {"message": "no"}}
AM = MANY_TASKS["apimaster"]


def read(body, status=200, ids=("task_a", "task_b")):
    return AM.read_many(said(body, status), ids)


# -- the dialect ---------------------------------------------------------------------------------------------------


def test_many_tasks_are_asked_about_by_their_ids():
    call = AM.poll_many(["task_a", "task_b"])

    assert (call.method, call.path) == ("POST", "/v1/tasks/batch")
    assert orjson.loads(call.body) == {"task_ids": ["task_a", "task_b"]}


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "data": [RUNS, DONE]},
        {"code": 200, "data": [DONE, RUNS]},
        {"data": [DONE, {"task_id": "task_else", "status": "failed"}, RUNS]},
        [RUNS, DONE],
        {"code": 200, "data": {"tasks": [RUNS, DONE]}},
        {"code": "200", "data": {"items": [RUNS], "more": [DONE]}},
        {"tasks": [{"code": 200, "data": RUNS}, {"code": 200, "data": DONE}]},
        {"code": 200, "data": {"task_a": {"status": "processing"}, "task_b": {**DONE, "task_id": None}}},
        {"task_a": {"code": 200, "data": RUNS}, "task_b": {"code": 200, "data": DONE}},
        {"results": [{**RUNS, "id": "task_a", "task_id": None}, DONE]},
    ],
)
def test_entries_are_known_by_their_ids_wherever_they_stand(body):
    told = read(body)

    assert told.offered
    assert isinstance(told.tasks["task_a"], Running)
    assert isinstance(told.tasks["task_b"], Succeeded)
    assert told.tasks["task_b"].links[0].url == URL


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {"task_id": "task_b"},
        {"task_id": "task_b", "error": {"code": "task_not_found", "message": "no such task"}},
        {"task_id": "task_b", "code": 404, "status": "error"},
        {"code": 500, "data": DONE},
        FAILED,
        {"task_id": "task_b", "status": "completed"},  # without any image
        {"task_id": "task_bb", "status": "completed", "result": DONE["result"]},
        "task_b",
    ],
)
def test_whoever_is_not_told_to_run_or_to_have_images_is_left_to_a_question_of_its_own(entry):
    told = read({"code": 200, "data": [RUNS, entry]})

    assert set(told.tasks) == {"task_a"}
    assert told.offered


def test_of_two_entries_about_one_task_none_is_believed():
    assert set(read({"code": 200, "data": [RUNS, DONE, {**DONE, "status": "processing"}]}).tasks) == {"task_a"}


def test_entries_are_never_matched_by_position():
    assert not read({"code": 200, "data": [{"status": "processing"}, {"status": "completed", **DONE["result"]}]}).tasks


@pytest.mark.parametrize("status", [400, 404, 405, 422, 501])
def test_a_question_that_is_not_there_is_not_offered(status):
    assert not read({"error": {"message": "no"}}, status).offered


@pytest.mark.parametrize("body", [b"<html>", b"{", "done", {"object": "list"}, {"code": 200, "data": "two tasks"}])
def test_an_answer_nobody_understands_is_not_offered(body):
    assert not read(body).offered


def test_an_answer_that_knows_none_of_them_yet_is_understood():
    told = read({"code": 200, "data": []})

    assert (told.offered, told.tasks, told.trouble) == (True, {}, None)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"error": {"message": "slow down"}}, 429, Kind.THROTTLED),
        ({"code": 429, "message": "slow down"}, 200, Kind.THROTTLED),
        ({"error": {"message": "bad key"}}, 401, Kind.ACCOUNT),
        (b"busy", 503, Kind.TRANSIENT),
    ],
)
def test_trouble_that_may_pass_is_no_reason_to_give_up(body, status, kind):
    told = read(body, status)

    assert told.offered
    assert told.trouble.kind is kind


# -- the stage -----------------------------------------------------------------------------------------------------


class Many(Provider):
    """APIMaster: `says` answers a question about many tasks."""

    says = None
    asked: list[list[str]]

    async def get(self, call, **_):
        if call.method == "GET":
            name = call.path.rpartition("/")[2].partition("?")[0]
            return answer({"code": 200, "data": {**DONE, "task_id": name}})
        ids = orjson.loads(call.body)["task_ids"]
        self.asked = [*getattr(self, "asked", []), ids]
        return self.says(ids)


def at_apimaster(place):
    return dataclasses.replace(row(place), provider="apimaster", provider_model="gpt-image-2", pixels=None)


def running(tmp_path, http, count=3, **changes):
    """Services with attempts whose polls are due now."""
    services = world(tmp_path, http, provider="apimaster", **changes)
    rows = [at_apimaster(place) for place in range(count)]
    stock(services, tmp_path, rows)
    now = services.clock.now()
    intents = services.ledger.claims.submits("main", now, lease=900.0).intents
    told = {"at": now - 60, "poll_path": None, "next_poll_at": now - 1}
    facts = [SubmitAccepted(attempt_id=i.attempt_id, task_id=f"task_{i.attempt_id}", **told) for i in intents]
    services.ledger.facts.record(facts)
    return services


def claim(services, **terms):
    return services.ledger.claims.polls("main", services.clock.now(), lease=single.LEASE, **terms)[0]


def done(ids):
    return answer({"code": 200, "data": [{**DONE, "task_id": name} for name in reversed(ids)]})


async def test_an_answer_about_many_finds_each_of_them(tmp_path):
    http = Many()
    http.says = done
    services = running(tmp_path, http)

    await poll_batch(services, claim(services, together=20))

    assert services.ledger.reports.progress("b").images_generated == 3


async def test_whoever_is_left_out_is_due_at_once_and_asked_about_alone(tmp_path):
    http = Many()
    http.says = lambda ids: done(ids[1:])
    services = running(tmp_path, http)
    due = claim(services, together=20)

    await poll_batch(services, due)

    assert services.ledger.reports.progress("b").images_generated == 2
    assert services.poll_batching.alone == {due[0].attempt_id}
    (again,) = claim(services, together=20, alone=services.poll_batching.alone)
    await single.poll(services, again)
    assert services.ledger.reports.progress("b").images_generated == 3


@pytest.mark.parametrize("body", [answer({"error": {}}, 404), answer(b"<html>"), answer({}, 405)])
async def test_where_it_does_not_work_tasks_are_asked_about_one_by_one_for_a_good_while(tmp_path, body):
    http = Many()
    http.says = lambda _: body
    services = running(tmp_path, http)

    await poll_batch(services, claim(services, together=services.poll_batching.most("main")))

    assert services.poll_batching.most("main") == 1
    assert len(claim(services)) == 3  # due at once
    services.poll_batching._off_until["main"] -= OFF
    assert services.poll_batching.most("main") == 20


@pytest.mark.parametrize("body", [answer({"error": {}}, 503), answer({"error": {}}, 429), no_answer(sent=True)])
async def test_trouble_delays_and_gives_up_only_when_it_stays(tmp_path, body):
    http = Many()
    http.says = lambda _: body
    services = running(tmp_path, http, poll_every=5.0)
    due = claim(services, together=20)

    await poll_batch(services, due)

    assert services.ledger.reports.progress("b").jobs == {JobState.WORKING: 3}
    assert claim(services, together=20) == []
    assert services.poll_batching.most("main") == 20
    for _ in range(TRIES - 1):
        await poll_batch(services, due)
    assert services.poll_batching.most("main") == 1


async def test_other_providers_are_asked_one_by_one(tmp_path):
    services = world(tmp_path, Provider())

    assert services.poll_batching.most("main") == 1


# -- against the stand-in ------------------------------------------------------------------------------------------


async def made(tmp_path, sandbox, how):
    """A run of 60 images at a stand-in that answers so; what it counted."""
    sandbox.play(takes={"default": [0.5, 2.0]}, pictures={"tiny": True}, apimaster_batch=how)
    place = {"provider": "apimaster", "base_url": f"{sandbox.url}/apimaster", "api_key": "sandbox-key"}
    here = settings(tmp_path, **place, first_poll_after=0.4, poll_every=0.3, polls_per_second=60.0)
    services = build(here.model_copy(update={"allow_private_hosts": True}))
    services.ledger.accounts.sync(limits_of(services.settings))
    rows = [at_apimaster(place) for place in range(60)]
    stock(services, tmp_path, rows)
    try:
        ending = await run_batch(services, "b", max_stall=20.0)
        assert ending.exit_code == 0, message(ending)
        assert services.ledger.reports.progress("b").images_stored == 60
        return sandbox.stats()["providers"]["apimaster"]["polls"], services.poll_batching.most("main")
    finally:
        await services.close()


@pytest.mark.parametrize("how", ["whole", "shuffled"])
async def test_polling_together_takes_far_fewer_requests_than_images(tmp_path, sandbox, how):
    requests, most = await made(tmp_path, sandbox, how)

    assert requests < 60
    assert most == 20


@pytest.mark.parametrize(("how", "most"), [("some", 20), ("404", 1), ("garbage", 1)])
async def test_everything_is_found_where_batches_leave_out_some_or_do_not_work(tmp_path, sandbox, how, most):
    assert (await made(tmp_path, sandbox, how))[1] == most
