"""A local run ends when the batch has, or when only a person can help; and leaves nothing unsaid."""

from __future__ import annotations

import asyncio
import dataclasses
from types import SimpleNamespace

import pytest

from cli.output.endings import message
from jobs.errors import LedgerBusy, StoreError
from jobs.states import BatchState, JobState
from providers.types import MICROS
from tests.support.worker_world import PRICE, Provider, answer, no_answer, row, stock, world
from worker.lanes import liveness
from worker.lanes import worker as worker_module
from worker.local.run import Reason, StopSignal, run_batch

pytestmark = pytest.mark.virtual_time


def rows(count, **changes):
    return [row(number, **changes) for number in range(count)]


def files(tmp_path):
    return sorted(str(path.relative_to(tmp_path / "dest")) for path in (tmp_path / "dest").rglob("*.png"))


async def test_every_row_is_made_once_under_its_own_key_and_again_costs_nothing(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    stock(services, tmp_path, [*rows(20), row(20, n=3, max_n=1), row(21, n=4)])

    first = await run_batch(services, "b")
    again = await run_batch(services, "b")

    assert (first.exit_code, first.reason) == (0, Reason.DONE)
    assert first.progress.jobs == {JobState.DONE: 22}
    assert again.exit_code == 0
    assert sum(provider.submits.values()) == 24
    assert provider.submits["lamp 20"] == 3
    assert len(files(tmp_path)) == 27
    assert set(files(tmp_path)) >= {"b/k20/0.png", "b/k20/1.png", "b/k20/2.png", "b/k21/3.png"}
    for task, wanted in provider.tasks.items():
        number = wanted["prompt"].removeprefix("lamp ")
        if int(number) < 20:
            stored = (tmp_path / "dest/b" / f"k{number}" / "0.png").read_bytes()
            assert stored == provider.picture(f"https://cdn.test/{task}/0.png")


async def test_what_nobody_can_know_is_held_and_not_sent_again(tmp_path):
    provider = Provider(on_submit=lambda wanted: no_answer(sent=True) if wanted["prompt"] == "lamp 1" else None)
    services = world(tmp_path, provider)
    stock(services, tmp_path, rows(3))

    ending = await run_batch(services, "b")

    assert (ending.exit_code, ending.reason) == (3, Reason.ROWS_NEED_YOU)
    assert ending.progress.jobs == {JobState.DONE: 2, JobState.HELD: 1}
    assert provider.submits["lamp 1"] == 1


async def test_ctrl_c_finishes_the_submits_in_the_air_and_leaves_no_unknown(tmp_path):
    provider, stop = Provider(), StopSignal()

    async def slow(wanted):
        if not stop.first.is_set():
            stop.interrupt()
        await asyncio.sleep(20)
        return provider.accept(wanted)

    provider.on_submit = slow
    services = world(tmp_path, provider)
    stock(services, tmp_path, rows(300))

    ending = await run_batch(services, "b", stop=stop)

    assert (ending.exit_code, ending.unknown) == (130, 0)
    assert ending.progress.images_unknown == 0
    assert 0 < sum(provider.submits.values()) < 300
    assert max(provider.submits.values()) == 1
    accepted = ending.progress.images_in_flight + ending.progress.images_stored + ending.progress.images_generated
    assert accepted == sum(provider.submits.values())


async def test_a_second_ctrl_c_quits_at_once_and_counts_what_became_unknown(tmp_path):
    stop = StopSignal()

    async def never(_):
        stop.interrupt()
        stop.interrupt()
        await asyncio.sleep(3600)

    services = world(tmp_path, Provider(on_submit=never), max_in_flight=5)
    stock(services, tmp_path, rows(20))

    ending = await run_batch(services, "b", stop=stop)

    open_submits = sum(services.http.submits.values())
    assert ending.exit_code == 130
    assert (ending.unknown, ending.money) == (open_submits, open_submits * PRICE)
    assert len(services.ledger.unknowns.all()) == open_submits
    assert f"${open_submits * 0.02:.2f}" in message(ending)


async def test_sigterm_drains_within_its_seconds_however_often_it_comes(tmp_path):
    stop = StopSignal()

    async def never(_):
        stop.terminate()
        stop.terminate()
        await asyncio.sleep(3600)

    services = world(tmp_path, Provider(on_submit=never), max_in_flight=1)
    services = dataclasses.replace(services, settings=services.settings.model_copy(update={"drain_seconds": 25.0}))
    stock(services, tmp_path, rows(3))

    began = services.clock.boot()
    ending = await run_batch(services, "b", stop=stop)

    assert (ending.exit_code, ending.unknown) == (143, 1)
    assert services.clock.boot() - began < 30


async def test_an_empty_account_fails_nothing_and_ends_with_four(tmp_path):
    provider = Provider(on_submit=lambda _: None if provider.submits.total() <= 3 else broke)
    broke = answer({"code": 402, "msg": "insufficient points"}, 402)
    services = world(tmp_path, provider, max_in_flight=1)
    stock(services, tmp_path, rows(8))

    ending = await run_batch(services, "b", max_stall=3.0)

    assert (ending.exit_code, ending.reason) == (4, Reason.ACCOUNT_PAUSED)
    assert ending.progress.jobs == {JobState.DONE: 3, JobState.READY: 5}
    assert provider.submits.total() == 4
    assert "maxapi.io" in message(ending)


async def test_a_used_budget_ends_with_four_and_is_never_crossed(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, rows(10), budget=PRICE * 4 + PRICE // 2, allow_partial=True)

    ending = await run_batch(services, "b")

    assert (ending.exit_code, ending.reason) == (4, Reason.BUDGET_USED)
    assert ending.progress.jobs == {JobState.DONE: 4, JobState.READY: 6}
    assert services.http.submits.total() == 4


async def test_a_used_daily_budget_ends_with_four_and_says_when_it_begins_anew(tmp_path):
    services = world(tmp_path, Provider(), daily_budget=PRICE * 4.5 / MICROS)
    stock(services, tmp_path, rows(10))

    ending = await run_batch(services, "b", max_stall=3.0)

    assert (ending.exit_code, ending.reason) == (4, Reason.DAY_BUDGET_USED)
    assert ending.progress.jobs == {JobState.DONE: 4, JobState.READY: 6}
    assert "daily budget of account main is used, $0.08 of $0.09; it begins anew at 2" in message(ending)


async def test_a_run_that_may_wait_goes_on_by_itself_on_the_next_day(tmp_path):
    services = world(tmp_path, Provider(), daily_budget=PRICE * 4 / MICROS)
    stock(services, tmp_path, rows(10))
    ahead = [0.0]
    services.ledger.clock_offset = lambda: ahead[0]

    def sleep_over(progress, _accounts):
        if progress.day_limits and not progress.images_in_flight and not progress.images_generated:
            services.clock.offset = ahead[0] = ahead[0] + 86_400

    ending = await run_batch(services, "b", on_progress=sleep_over)

    assert (ending.exit_code, ending.progress.jobs) == (0, {JobState.DONE: 10})
    assert ahead == [2 * 86_400]


async def test_of_two_used_budgets_the_one_that_needs_a_person_is_named(tmp_path):
    services = world(tmp_path, Provider(), daily_budget=PRICE * 4 / MICROS)
    stock(services, tmp_path, rows(10), budget=PRICE * 4, allow_partial=True)

    assert (await run_batch(services, "b", max_stall=9)).reason is Reason.BUDGET_USED


async def test_a_batch_most_of_whose_rows_fail_alike_pauses_itself(tmp_path):
    refusal = answer({"code": 400, "msg": "bad"}, 400)
    services = world(tmp_path, Provider(on_submit=lambda _: refusal), submits_per_second=80)
    stock(services, tmp_path, rows(400))

    ending = await run_batch(services, "b", max_stall=3.0)

    assert (ending.exit_code, ending.reason) == (4, Reason.BATCH_PAUSED)
    assert ending.progress.batch.state is BatchState.PAUSED
    assert ending.progress.jobs[JobState.READY] > 100


async def test_a_bucket_that_refuses_stops_submits_until_it_takes_again(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider, max_in_flight=2)
    store = services.destinations.store(str(tmp_path / "dest"))
    put_new, refused = store.put_new, []

    def refuse(*args, **kwargs):
        if len(refused) < 4:
            refused.append(provider.submits.total())
            raise StoreError(code="denied", message="403", retryable=False, denied=True)
        return put_new(*args, **kwargs)

    store.put_new = refuse
    stock(services, tmp_path, rows(30))

    ending = await run_batch(services, "b")

    assert ending.exit_code == 0
    assert refused[-1] - refused[0] <= 2  # what was on its way when the first write was refused
    assert len(files(tmp_path)) == 30


async def test_time_given_is_kept(tmp_path):
    services = world(tmp_path, Provider(on_poll=lambda _: answer({"code": 0, "data": {"status": "PENDING"}})))
    stock(services, tmp_path, rows(2))

    ending = await run_batch(services, "b", stop_after=10.0)

    assert (ending.exit_code, ending.reason) == (4, Reason.STOP_AFTER)
    assert ending.progress.images_in_flight == 2


async def test_one_run_at_a_time_works_on_a_ledger(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, rows(1))

    with services.ledger.hold(services.clock.now()), pytest.raises(LedgerBusy):
        await run_batch(services, "b")


async def test_a_failed_provider_task_is_tried_again_and_a_moderated_one_never(tmp_path):
    provider = Provider()
    said = {"lamp 0": "null", "lamp 1": '"CONTENT_MODERATION"'}

    def fail(task):
        reason = said[provider.tasks[task]["prompt"]]
        return answer(b'{"code":0,"data":{"status":"FAILURE","failure_reason":%s}}' % reason.encode())

    provider.on_poll = fail
    services = world(tmp_path, provider)
    stock(services, tmp_path, rows(2))

    stop, rests = StopSignal(), []

    def stop_when_both_have_failed(progress, _accounts):
        if provider.submits.total() == 2 and progress.errors and progress.jobs[JobState.READY] == 1:
            rests.append("lamp 0")
            stop.interrupt()

    ending = await run_batch(services, "b", stop=stop, on_progress=stop_when_both_have_failed)

    assert provider.submits["lamp 1"] == 1
    assert ending.progress.errors == {"moderation": 1}
    assert rests, "a row rests before its next try"


async def test_a_cancelled_batch_ends_when_what_is_paid_is_stored(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider, max_in_flight=1)
    stock(services, tmp_path, rows(3))
    provider.on_submit = lambda _: services.ledger.batches.cancel("b") and None

    ending = await run_batch(services, "b")

    assert (ending.exit_code, ending.progress.jobs) == (3, {JobState.DONE: 1, JobState.CANCELLED: 2})


async def test_a_run_touches_the_heartbeat_file_while_its_lanes_look_and_not_when_one_hangs(tmp_path, monkeypatch):
    touched, ill, said = asyncio.Event(), asyncio.Event(), []
    touch = SimpleNamespace(touch=touched.set)
    monkeypatch.setattr(liveness, "Path", lambda file: touch if file == "beat" else None)

    def emit(name, **fields):
        if name == "worker_unhealthy":
            said.append((fields["problem"], touched.is_set()))
            ill.set()

    async def on_submit(_wanted):
        await touched.wait()
        monkeypatch.setattr(worker_module.Worker, "since_looks", lambda _: {"copy": 130.0})
        touched.clear()
        await ill.wait()

    monkeypatch.setattr(liveness, "emit", emit)
    services = world(tmp_path, Provider(on_submit=on_submit))
    services.settings.__dict__["heartbeat_file"] = "beat"
    stock(services, tmp_path, rows(1))

    ended = await run_batch(services, "b")

    assert ended.exit_code == 0
    assert said[0] == ("no look for work came back, though the ledger answers others: copy for 130 s", False)


async def test_a_run_that_nobody_watches_counts_less_while_images_come_and_ends_as_soon(tmp_path):
    counts, took = {}, {}
    for is_watched in (True, False):
        folder = tmp_path / str(is_watched)
        folder.mkdir()
        services = world(folder, Provider(), submits_per_second=4.0)
        stock(services, folder, rows(60))
        count, counts[is_watched] = services.ledger.reports.progress, 0
        began = services.clock.boot()

        def counted(*given, watched=is_watched, count=count):
            counts[watched] += 1
            return count(*given)

        services.ledger.reports.progress = counted
        ending = await run_batch(services, "b", is_watched=is_watched)
        took[is_watched] = services.clock.boot() - began
        assert ending.progress.jobs == {JobState.DONE: 60}

    assert counts[False] < counts[True] / 2
    assert took[False] < took[True] + 1.0
