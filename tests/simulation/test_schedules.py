"""Nights by the clock, in virtual time: each time fires once, pays for what is new, and says what became of it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from cli.output.schedules import history_lines, table
from jobs.policy.firing import CatchUp, Into, OverlapPolicy
from jobs.settings.model import modified as modified_at
from jobs.states import FiringState, JobState
from providers.types import MICROS
from tests.simulation.nights import (
    NIGHT,
    OFTEN,
    TO_NINE,
    calm,
    catalogue,
    edited,
    heard,
    history,
    minutes,
    modified,
    nights,
    read_one,
    scheduled,
    spoil,
    states,
    stored,
    while_it_records,
    write,
)
from tests.support.virtual_time import skip
from tests.support.worker_world import Provider, answer, stock
from worker.lanes import maintenance
from worker.lanes.news import News
from worker.scheduling import reading
from worker.scheduling.clock import fall_due, read_taken
from worker.scheduling.documents import as_of_now
from worker.scheduling.reading import read
from worker.scheduling.words import style

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("looks_seldom")]


# -- only what changed ---------------------------------------------------------------------------------------------


def as_it_stands(services, schedule, night):
    """A night as screens show it now."""
    sandbox = services.settings.is_sandbox
    return as_of_now(services.ledger, schedule, night, services.clock.now(), sandbox=sandbox)


async def test_a_night_pays_for_what_is_new_or_changed_and_the_next_one_for_nothing(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(20))
    scheduled(services)

    await nights(services)
    assert sum(provider.submits.values()) == 20

    write({key: prompt for key, prompt in catalogue(23, k3="a blue lamp", k4="a red lamp").items() if key != "k7"})
    await nights(services)
    assert sum(provider.submits.values()) == 25
    assert (provider.submits["a blue lamp"], provider.submits["lamp 22"], provider.submits["lamp 3"]) == (1, 1, 1)
    second = history(services)[1]
    assert {name: second.detail[name] for name in ("new", "changed", "gone", "images")} == {
        "new": 3,
        "changed": 2,
        "gone": 1,
        "images": 5,
    }

    await nights(services, 3)
    assert sum(provider.submits.values()) == 25
    assert [(each.state, each.exit_code) for each in history(services)] == [(FiringState.ENDED, 0)] * 5
    assert history(services)[-1].message.startswith("nothing is new")


async def test_a_manifest_that_is_as_it_was_is_not_read_again(tmp_path):
    services = calm(tmp_path, Provider())
    write(catalogue(3))
    scheduled(services)
    await nights(services)
    spoil()

    await nights(services)

    assert [(each.state, each.exit_code) for each in history(services)] == [(FiringState.ENDED, 0)] * 2


async def test_an_unchanged_manifest_is_read_again_after_another_was_recorded_for_its_batch(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(3))
    scheduled(services)
    await nights(services)
    batch = services.ledger.batches.find("nightly")
    # As `lightfast run other.csv --batch nightly` does: the three rows are not listed any more.
    stock(services, tmp_path, [], name="nightly", dest=batch.dest, path=batch.path, columns=batch.columns)
    assert [row.listed for row in services.ledger.batches.rows_on_record(batch.id)] == [False] * 3

    await nights(services)

    assert [row.listed for row in services.ledger.batches.rows_on_record(batch.id)] == [True] * 3
    assert sum(provider.submits.values()) == 3


@pytest.mark.parametrize("into", list(Into))
async def test_a_night_with_most_rows_gone_goes_on_and_says_so_and_whole_again_it_pays_for_none(
    tmp_path, monkeypatch, into
):
    lines = []
    monkeypatch.setattr("worker.lanes.news.emit", lambda event, **fields: lines.append((event, fields)))
    provider = Provider()
    services = calm(tmp_path, provider)
    scheduled(services, into=into, options={"reuse": "copy", "changed": "redo" if into is Into.SAME else "error"})

    for rows in (60, 16, 60):
        write(catalogue(rows))
        await nights(services)

    assert [(each.exit_code, each.detail.get("rows_before")) for each in history(services)] == [
        (0, None),
        (0, 60),
        (0, 16),
    ]
    (shrunk,) = [fields for event, fields in lines if event == "schedule_shrunk"]
    assert (shrunk["level"], shrunk["rows"], shrunk["rows_before"]) == ("warning", 16, 60)
    assert sum(provider.submits.values()) == 60


async def test_rows_that_failed_wait_for_a_person_and_are_not_paid_again_each_night(tmp_path):
    refuse = {"code": 400, "msg": "content policy violation"}
    provider = Provider(on_submit=lambda wanted: answer(refuse, status=400) if wanted["prompt"] == "lamp 1" else None)
    services = calm(tmp_path, provider)
    write(catalogue(3))
    scheduled(services)

    await nights(services)
    write(catalogue(4))
    await nights(services)

    assert [(each.state, each.exit_code) for each in history(services)] == [(FiringState.ENDED, 3)] * 2
    assert provider.submits["lamp 1"] == 1
    assert provider.submits["lamp 3"] == 1

    await nights(services)
    unchanged = history(services)[-1]
    assert (unchanged.state, unchanged.exit_code, unchanged.code) == (FiringState.ENDED, 3, "rows_need_you")
    assert unchanged.message == "nothing is new: the manifest is as it was, and 1 row of it needs you"


@pytest.mark.parametrize("is_made_elsewhere", [False, True])
async def test_a_night_with_rows_that_needed_a_person_is_told_as_done_once_a_retry_has_them(
    tmp_path, is_made_elsewhere
):
    refuse = {"code": 400, "msg": "content policy violation"}
    provider = Provider(on_submit=lambda wanted: answer(refuse, status=400) if wanted["prompt"] == "lamp 1" else None)
    services = calm(tmp_path, provider)
    write(catalogue(3))
    options = {"reuse": "copy", "changed": "error"}
    scheduled(services, into=Into.NEW, options=options)
    await nights(services, 0.2)
    (night,) = history(services)
    ledger = services.ledger
    assert as_it_stands(services, ledger.schedules.find("nightly"), night) == night
    assert (night.exit_code, style(night)) == (3, "yellow")
    provider.on_submit = None
    if is_made_elsewhere:
        assert ledger.schedules.fire_by_hand("nightly", services.clock.now()) is None
        await nights(services, 0.2)
    ledger.batches.retry(night.batch, services.clock.now())
    await nights(services, 0.1)

    schedule = ledger.schedules.find("nightly")
    ((first, *_),) = [
        [each for each in ledger.schedules.history(schedule.id, with_charges=True) if each.id == night.id]
    ]
    now = as_it_stands(services, schedule, first)
    lines = list(table([schedule], {schedule.id: now}))
    assert lines[-1] == ("nightly, 2027-01-15 09:00Z: done; 1 row made after its end", "")
    assert {style for _, style in lines[1:]} == {""}
    ((line, colour),) = history_lines([now])
    assert colour == ""
    assert "  done (3 new, 3 images" in line
    assert line.endswith(": 1 row made after its end")
    assert ("1 more image for $0.02 after its end" in line) is not is_made_elsewhere


async def test_a_night_whose_batch_a_person_cancelled_is_not_told_as_made_afterwards(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, max_in_flight=1)
    write(catalogue(3))
    scheduled(services)

    def cancel(_wanted):
        if sum(provider.submits.values()) == 1:
            services.ledger.batches.cancel("nightly", "on your word")

    provider.on_submit = cancel
    await nights(services, 0.2)

    (night,) = history(services)
    assert services.ledger.reports.progress("nightly").jobs[JobState.CANCELLED] > 0
    assert night.exit_code == 3
    assert as_it_stands(services, services.ledger.schedules.find("nightly"), night) == night


async def test_each_night_that_made_something_is_told_with_the_rows_that_failed_and_an_unchanged_one_is_not(
    tmp_path, monkeypatch
):
    lines = []
    monkeypatch.setattr("worker.lanes.news.emit", lambda event, **fields: lines.append((event, fields)))
    refuse = {"code": 400, "msg": "content policy violation"}
    provider = Provider(on_submit=lambda wanted: answer(refuse, status=400) if wanted["prompt"] == "lamp 1" else None)
    services = calm(tmp_path, provider)
    scheduled(services)

    told = []
    for rows in (3, 4, 4, 5):
        if len(told) != 2:  # the third finds the manifest as it was
            write(catalogue(rows))
        assert services.ledger.schedules.fire_by_hand("nightly", services.clock.now()) is None
        await minutes(services, 10)
        names = ("done", "failed", "time_images", "time_charged_usd")
        told.append([tuple(one[name] for name in names) for event, one in lines if event == "batch_finished"])
        lines.clear()

    assert told == [[(2, 1, 2, 0.04)], [(3, 1, 1, 0.02)], [], [(4, 1, 1, 0.02)]]
    assert [each.exit_code for each in history(services)] == [3] * 4


async def test_after_a_broken_export_the_old_prompts_have_their_images_back_and_are_not_paid_again(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(3))
    scheduled(services)
    await nights(services)
    write(catalogue(3, k0="#REF!1", k1="#REF!2", k2="#REF!3"))
    await nights(services)

    write(catalogue(3))
    await nights(services)

    assert set(provider.submits.values()) == {1}
    assert sum(provider.submits.values()) == 6
    (*_, last) = history(services)
    assert (last.state, last.exit_code, last.detail["images"]) == (FiringState.ENDED, 0, 0)
    assert (last.detail["changed"], last.detail["reused"]) == (3, 3)
    for result in services.ledger.reports.results("nightly"):
        (image,) = result.images
        folder = Path("dest/nightly", result.key)
        assert "reused" in image.flags
        assert (folder / "0.r3.png").read_bytes() == (folder / "0.png").read_bytes()


async def test_a_new_batch_each_night_takes_what_was_made_before(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(4))
    scheduled(services, into=Into.NEW, options={"reuse": "copy", "changed": "error"})

    await nights(services)
    write(catalogue(4, k2="a blue lamp"))
    await nights(services)

    first, second = (each.batch for each in history(services))
    assert (first, second) == ("nightly-20270115T0900Z", "nightly-20270116T0900Z")
    assert sum(provider.submits.values()) == 5
    assert history(services)[1].detail["reused"] == 3
    assert stored(second) == ["k0", "k1", "k2", "k3"]


# -- times ---------------------------------------------------------------------------------------------------------


async def test_of_many_workers_one_fires_a_time_and_one_reads_its_manifest(tmp_path):
    first = calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(first)
    second, third = calm(tmp_path, Provider()), calm(tmp_path, Provider())
    await asyncio.sleep(2 * 3600)

    for services in (first, second, third, first):
        await fall_due(services)
    assert len(history(first)) == 1

    read = [await read_one(services) for services in (second, first, third)]
    assert read == [True, False, False]
    assert [each.state for each in history(first)] == [FiringState.WORKING]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp.LAST, ["missed", "missed", "ended", "ended"]),
        (CatchUp.NONE, ["missed", "missed", "missed", "ended"]),
    ],
)
async def test_of_times_that_nobody_saw_the_last_is_made_up_or_none(tmp_path, catch_up, expected):
    services = calm(tmp_path, Provider(), looks=OFTEN)
    write(catalogue(2))
    scheduled(services, catch_up=catch_up)
    await asyncio.sleep(3 * NIGHT)

    await nights(services)

    assert [each.state.value for each in history(services)] == expected


async def test_times_that_nobody_saw_are_told_once_and_stand_in_the_list(tmp_path, monkeypatch):
    sent = heard(monkeypatch)
    services = calm(tmp_path, Provider(), looks=OFTEN)
    write(catalogue(2))
    scheduled(services)
    await nights(services)
    sent.clear()
    await asyncio.sleep(3 * NIGHT)

    await nights(services, 1.5)

    assert [title for type_, title, _ in sent if type_ == "schedule.missed"] == ["schedule nightly: 2 times missed"]
    ledger = services.ledger
    every, missed = ledger.schedules.all(), ledger.schedules.missed(services.clock.now() - 7 * NIGHT)
    listed = [line for line, _ in table(every, ledger.schedules.newest(services.clock.now()), missed)]
    assert "nightly, 2 times missed since 2027-01-16 09:00Z: nobody was there to see them" in listed


async def test_times_before_a_resume_and_while_all_is_stopped_are_not_made_up(tmp_path):
    services = calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(services)
    ledger = services.ledger
    ledger.schedules.pause("nightly", services.clock.now())
    await nights(services, 2)
    assert history(services) == []
    ledger.schedules.resume("nightly", services.clock.now())

    ledger.emergency_stop.begin(services.clock.now(), "me@here")
    await nights(services)
    ledger.schedules.fall_due(services.clock.now())
    ledger.emergency_stop.lift()
    await nights(services)

    assert [(each.state, each.message) for each in history(services)] == [
        (FiringState.SKIPPED, "all submits were stopped (pause --all)"),
        (FiringState.ENDED, None),
    ]


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (OverlapPolicy.SKIP, ["ended", "skipped", "skipped", "ended"]),
        (OverlapPolicy.QUEUE, ["ended", "skipped", "ended", "ended"]),
    ],
)
async def test_a_night_that_takes_longer_than_its_interval(tmp_path, overlap, expected):
    running = answer({"code": 0, "data": {"status": "RUNNING"}})
    provider = Provider(on_poll=lambda _task: running)
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services, cron="*/10 * * * *", overlap=overlap)

    await minutes(services, 30)
    write(catalogue(3))
    provider.on_poll = None
    for _ in range(3):  # it looks at its end, too
        await minutes(services, 3)

    assert [each.state.value for each in history(services)] == expected
    assert sum(provider.submits.values()) == 3
    skipped = [each.message for each in history(services) if each.state is FiringState.SKIPPED]
    assert set(skipped) <= {"the time before it is not over", "a newer time took its place in the queue"}


async def test_a_batch_a_night_is_skipped_while_the_one_before_waits_for_a_person(tmp_path):
    provider = Provider(on_submit=lambda _wanted: answer({"code": 401, "msg": "invalid api key"}, status=401))
    services = calm(tmp_path, provider, looks=OFTEN)
    write(catalogue(2))
    scheduled(services, into=Into.NEW, options={"buy_again": True, "changed": "error"})

    await nights(services, 2)
    stopped, skipped = history(services)
    assert (stopped.state, stopped.exit_code, skipped.state) == (FiringState.STOPPED, 4, FiringState.SKIPPED)
    assert "has stopped, and its batch waits: account main" in skipped.message

    provider.on_submit = None
    await nights(services, 2)
    assert states(services) == ["ended", "skipped", "ended", "ended"]
    assert history(services)[0].exit_code == 0


async def test_a_schedule_that_is_paused_buys_nothing_of_the_times_that_wait(tmp_path):
    running = answer({"code": 0, "data": {"status": "RUNNING"}})
    provider = Provider(on_poll=lambda _task: running)
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services, cron="*/10 * * * *", overlap=OverlapPolicy.QUEUE)
    await minutes(services, 15)
    assert states(services) == [FiringState.WORKING, FiringState.QUEUED]

    services.ledger.schedules.pause("nightly", services.clock.now())
    write(catalogue(5))
    provider.on_poll = None
    await minutes(services, 60)
    await minutes(services, 3)

    assert sum(provider.submits.values()) == 2
    assert [(each.state, each.message) for each in history(services)] == [
        (FiringState.ENDED, None),
        (FiringState.SKIPPED, "the schedule was paused (schedule pause)"),
    ]


async def test_a_schedule_that_is_paused_is_still_fired_by_hand(tmp_path):
    services = calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(services)
    services.ledger.schedules.pause("nightly", services.clock.now())
    assert services.ledger.schedules.fire_by_hand("nightly", services.clock.now()) is None
    services.ledger.schedules.pause("nightly", services.clock.now())

    await nights(services)

    assert [(each.by_hand, each.state) for each in history(services)] == [(True, FiringState.ENDED)]


async def test_a_budget_that_is_cut_while_the_manifest_is_read_counts_for_that_time(tmp_path, monkeypatch):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(3))
    scheduled(services)
    while_it_records(monkeypatch, lambda: edited(services, budget=1))

    await nights(services)

    assert sum(provider.submits.values()) == 0
    assert "this time may spend $0.000001 (--budget)" in history(services)[0].message


async def test_what_is_asked_for_otherwise_while_the_manifest_is_read_is_what_is_made(tmp_path, monkeypatch):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services)
    words = {"prompt": "a drawing of a {prompt}"}
    while_it_records(monkeypatch, lambda: edited(services, budget=MICROS, options=words))

    await nights(services, 2)

    assert provider.submits == {"a drawing of a lamp 0": 1, "a drawing of a lamp 1": 1}


async def test_a_schedule_that_is_paused_while_its_manifest_is_read_buys_nothing(tmp_path, monkeypatch):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services)
    while_it_records(monkeypatch, lambda: services.ledger.schedules.pause("nightly", services.clock.now()))

    await nights(services)

    assert sum(provider.submits.values()) == 0
    assert states(services) == [FiringState.SKIPPED]


async def test_a_time_fired_by_hand_is_one_more(tmp_path):
    services = calm(tmp_path, Provider(), looks=OFTEN)
    write(catalogue(2))
    scheduled(services)
    assert services.ledger.schedules.fire_by_hand("nightly", services.clock.now()) is None
    assert (
        services.ledger.schedules.fire_by_hand("nightly", services.clock.now()).why == "the time before it is not over"
    )

    await nights(services)

    assert [(each.by_hand, each.state.value) for each in history(services)] == [(True, "ended"), (False, "ended")]


async def test_what_became_of_a_time_is_kept_for_more_than_a_year(tmp_path):
    services = calm(tmp_path, Provider())
    write(catalogue(1))
    scheduled(services, catch_up=CatchUp.NONE)
    for _ in range(2):
        skip(390 * NIGHT)
        await fall_due(services)
        assert history(services)[0].at > services.clock.now() - 400 * NIGHT


# -- what goes wrong -----------------------------------------------------------------------------------------------


async def test_a_night_without_its_manifest_fails_and_the_next_one_runs(tmp_path):
    services = calm(tmp_path, Provider())
    scheduled(services)
    await nights(services)
    write({"a": "A lamp", "b": ""})
    await nights(services)
    write({"a": "A lamp", "b": "A vase"})
    await nights(services)

    gone, bad, good = history(services)
    assert (gone.state, bad.state, good.state) == (FiringState.FAILED, FiringState.FAILED, FiringState.ENDED)
    assert "cat.csv" in gone.message
    assert "1 row is bad" in bad.message


async def test_a_schedule_whose_account_is_gone_says_so(tmp_path):
    services = calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(services, options={"provider": "apimaster"})

    await nights(services)

    assert "--provider apimaster: it has no account" in history(services)[0].message


async def test_a_night_that_fails_under_older_settings_than_the_file_has_says_so_and_the_log_once(
    tmp_path, monkeypatch
):
    lines = []
    monkeypatch.setattr("worker.lanes.maintenance.emit", lambda event, **_: lines.append(event))
    file = tmp_path / "lightfast.toml"
    file.write_text("retries = 2\n")
    services = calm(tmp_path, Provider())
    known = {"sandbox": False, "proxies": services.settings.proxies, "files": {file: modified_at(file)}}
    services = dataclasses.replace(services, settings=services.settings.placed(file, tmp_path, **known))
    scheduled(services)  # without its manifest
    await nights(services)
    assert "lightfast.toml" not in history(services)[-1].message
    assert "settings_changed" not in lines

    os.utime(file, ns=(1, 1))
    await nights(services, 2)

    told = "lightfast.toml has changed since this process began, which reads settings once: start it again"
    assert history(services)[-1].message.endswith(told)
    assert lines.count("settings_changed") == 1


async def test_a_file_that_is_just_being_written_is_read_when_it_is_whole(tmp_path, monkeypatch):
    services = calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(services)
    now = [modified() + 1.0]
    monkeypatch.setattr("worker.scheduling.reading.time.time", lambda: now[0])

    asyncio.get_running_loop().call_later(TO_NINE + 60, lambda: now.append(now.pop() + 100.0))
    await nights(services)

    (firing,) = history(services)
    assert (firing.state, firing.tries > 1) == (FiringState.ENDED, True)


async def test_a_manifest_that_comes_in_slowly_is_read_once_and_holds_up_no_other_schedule(tmp_path, monkeypatch):
    services = calm(tmp_path, Provider(), looks=OFTEN)
    write(catalogue(2))
    scheduled(services, name="slow")
    scheduled(services, name="quick")
    began = []

    async def trickles(services, taken, stopped):
        began.append(taken[0].name)
        if taken[0].name == "slow":
            await services.clock.sleep(2 * 3600)
        await read_taken(services, taken, stopped)

    monkeypatch.setattr(maintenance, "read_taken", trickles)

    await minutes(services, 120)

    assert began == ["slow", "quick"]
    (quick,), (slow,) = history(services, "quick"), history(services, "slow")
    assert (quick.state, quick.at) == (FiringState.ENDED, slow.at)
    assert quick.ended_at < slow.at + 3600


async def test_a_process_that_died_while_it_read_is_taken_over_and_cannot_record_any_more(tmp_path):
    first = calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(first)
    await asyncio.sleep(2 * 3600)
    await fall_due(first)
    schedule, firing = first.ledger.schedules.take(first.holder, first.clock.now())

    second = calm(tmp_path, Provider())
    assert not await read_one(second)
    await asyncio.sleep(120)
    assert await read_one(second)
    assert [each.state for each in history(second)] == [FiringState.WORKING]

    await asyncio.to_thread(read, first, schedule, firing, lambda: False)
    assert [(each.state, each.message) for each in history(second)] == [(FiringState.WORKING, None)]


async def test_a_full_disk_fails_the_night_with_that_reason_and_the_next_one_runs(tmp_path, monkeypatch):
    services = calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(services)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(reading, "record", fail)
        await nights(services)
    await nights(services)

    assert [(each.state, each.message) for each in history(services)] == [
        (FiringState.FAILED, "No space left on device"),
        (FiringState.ENDED, None),
    ]


async def test_what_a_process_left_while_the_ledger_was_away_it_reads_again_itself(tmp_path, monkeypatch):
    services, other = calm(tmp_path, Provider()), calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(services)
    await asyncio.sleep(2 * 3600)
    await fall_due(services)

    def is_away(*_, **__):
        raise OperationalError("UPDATE …", {}, Exception("the connection is lost"))

    with monkeypatch.context() as away:
        away.setattr(reading, "record", is_away)
        away.setattr(services.ledger.schedules, "put_off", is_away)
        with pytest.raises(OperationalError):
            await read_one(services)
    await asyncio.sleep(120)
    services.ledger.workers.touch(services.holder, services.clock.now(), services.clock.now())  # it lives

    assert not await read_one(other)
    assert await read_one(services)
    assert states(services) == [FiringState.WORKING]


async def test_a_failed_night_is_logged_once_and_so_is_the_good_one_after_it(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("worker.lanes.news.emit", lambda event, **fields: lines.append((event, fields)))
    services = calm(tmp_path, Provider())
    scheduled(services)

    await nights(services)
    await News(services).tell()
    assert [event for event, _ in lines] == ["schedule_failed"]
    assert lines[0][1]["schedule"] == "nightly"

    lines.clear()
    write(catalogue(1))
    await nights(services)
    assert "schedule_works_again" in [event for event, _ in lines]


async def test_a_retry_that_begins_and_ends_between_two_looks_is_told(tmp_path, monkeypatch):
    sent = heard(monkeypatch)
    refuse = {"code": 400, "msg": "content policy violation"}
    provider = Provider(on_submit=lambda wanted: answer(refuse, status=400) if wanted["prompt"] == "lamp 1" else None)
    services = calm(tmp_path, provider)
    write(catalogue(3))
    scheduled(services)
    await nights(services, 0.5)
    (before,) = sent
    provider.on_submit = None
    services.ledger.batches.retry("nightly", services.clock.now())
    sent.clear()
    with monkeypatch.context() as unseen:
        unseen.setattr(News, "tell", nothing_told)
        await minutes(services, 10)
    assert not sent
    await nights(services, 0.2)

    assert before[:2] == ("batch.finished", "nightly: finished, 1 row needs you")
    ((type_, title, text),) = sent
    assert (type_, title) == ("batch.finished", "nightly: finished")
    assert text.startswith(
        "3 images made for $0.06 at the time 2027-01-15T09:00:00Z of schedule nightly. In all 3 of 3"
    )


async def nothing_told(*_):
    """Nobody looks."""
