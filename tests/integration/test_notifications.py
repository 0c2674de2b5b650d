"""Messages arrive at a real HTTP receiver: signed, once, after it was away, and whatever else hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from dataclasses import dataclass

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from jobs.ledger import open_ledger
from jobs.ledger.accounts.condition_values import Condition, ConditionChange
from jobs.ledger.accounts.outbox import LEASE
from jobs.results.conditions import Standing
from jobs.results.messages import outgoing
from jobs.settings.model import Settings
from jobs.settings.notifications import WebhookSettings
from tests.support.patience import soon, until
from tests.support.receiver import SECRET, Receiver
from worker.http.client import Http
from worker.lanes.worker_thread import WorkerThread
from worker.notifications import sending
from worker.notifications.channels import channels_of
from worker.notifications.sender import Sender
from worker.runtime.executors import ThreadedExecutors
from worker.services import build

HOUR = 3_600.0
PERSON = "/people/tok3nsecret"
PROGRAM = "/hook/t0kensecret"
SECRETS = ("tok3nsecret", "t0kensecret", "pa55word", SECRET.removeprefix("whsec_"))


@dataclass
class Moved:
    """A clock that is moved by hand."""

    at: float
    offset: float = 0.0

    def now(self):
        return self.at


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def open_sender(sqlite_ledger_url):
    """Opens processes that send: each with a ledger of its own on the same file, and a clock that starts now."""
    async with contextlib.AsyncExitStack() as opened:
        at_work = {}

        async def kill(sender):
            await ended(at_work[sender])
            await sender.close()

        async def open_one(*, notify=(), webhook=None, clock=None):
            ledger, executors = open_ledger(sqlite_ledger_url), ThreadedExecutors(writers=1)
            opened.callback(ledger.close)
            opened.callback(executors.close)
            http = Http(allow_private_hosts=False)
            opened.push_async_callback(http.close)
            settings = Settings(
                notify=[SecretStr(each) for each in notify],
                webhook=webhook and WebhookSettings(url=SecretStr(webhook), secret=SecretStr(SECRET)),
            )
            sender = Sender(
                channels=channels_of(settings),
                ledger=ledger,
                executors=executors,
                http=http,
                clock=clock or Moved(time.time()),
                rng=random.Random(1),
            )
            opened.push_async_callback(sender.close)
            at_work[sender] = work = asyncio.create_task(sender.send_for_ever())
            opened.push_async_callback(ended, work)
            return sender

        open_one.kill = kill
        yield open_one


async def ended(work):
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def person(receiver, path=PERSON):
    return f"json://mia:pa55word@127.0.0.1:{receiver.port}{path}"


_names = iter(range(1_000_000))


def tell(sender):
    """A schedule's time has failed; the message is written with that change."""
    at, change = Standing(now=sender.clock.now()), failed_time(f"night-{next(_names)}")
    sender.ledger.conditions.change([change], at.now, lambda one: outgoing(one, at, sender.hearers))
    sender.wake()
    return change.subject


def failed_time(schedule):
    detail = {"at": "2026-11-26T03:00:00Z", "batch": None, "code": "bad_input", "problem": "no such file: rows.csv"}
    after = Condition(name="schedule", subject=schedule, state="failed", detail=detail)
    return ConditionChange(before=None, after=after)


def on_record(ledger):
    return ledger.path.read_bytes() + b"".join(each.read_bytes() for each in ledger.path.parent.glob("*.db-wal"))


async def test_a_program_gets_json_that_the_library_verifies_and_a_person_sentences_each_once(receiver, open_sender):
    sender = await open_sender(notify=[person(receiver)], webhook=receiver.url + PROGRAM)

    name = tell(sender)
    await soon(lambda: len(receiver.got) == 2 and sender.ledger.outbox.next_due(["json 1", "webhook"]) is None)

    (program,), (human,) = receiver.at(PROGRAM), receiver.at(PERSON)
    told = Webhook(SECRET).verify(program.body, program.headers)
    assert (told["type"], told["data"]["schedule"], told["data"]["code"]) == ("schedule.failed", name, "bad_input")
    assert told["timestamp"].endswith("Z")
    assert human.json["title"] == f"schedule {name}: its time 2026-11-26T03:00:00Z failed"
    assert f"no such file: rows.csv\nlightfast schedule show {name}" in human.json["message"]


async def test_of_several_processes_one_sends_each_message(receiver, open_sender):
    clock = Moved(time.time())
    senders = [await open_sender(webhook=receiver.url + PROGRAM, clock=clock) for _ in range(3)]

    names = [tell(senders[0]) for _ in range(10)]
    for sender in senders:
        sender.wake()
    await soon(lambda: senders[0].ledger.outbox.next_due(["webhook"]) is None)

    assert sorted(one.json["data"]["schedule"] for one in receiver.got) == sorted(names)


async def test_a_receiver_that_is_down_for_an_hour_gets_its_messages_afterwards(receiver, open_sender):
    receiver.status = lambda _path: 503
    sender = await open_sender(webhook=receiver.url + PROGRAM)
    began = sender.clock.at

    name = tell(sender)
    while sender.clock.at < began + HOUR:
        sender.clock.at = await soon(lambda: is_later(sender))
        if sender.clock.at >= began + HOUR:
            receiver.status = lambda _path: 200
        sender.wake()
    await soon(lambda: sender.ledger.outbox.next_due(["webhook"]) is None)

    assert {one.json["data"]["schedule"] for one in receiver.got} == {name}
    assert len({one.headers["webhook-id"] for one in receiver.got}) == 1, "a receiver may know what it had already"
    assert receiver.got[-1].is_signed(sender.clock.at)
    assert len(receiver.got) == 5, "at once, after 5 s, 5 min, 30 min, 2 h"
    assert sender.ledger.outbox.untold(sender.clock.at) == []


def is_later(sender):
    """When the message is tried again, once that is decided: not the minute for which a try has it."""
    next_at, now = sender.ledger.outbox.next_due(["webhook"]), sender.clock.at
    return next_at if next_at is not None and next_at > now and next_at != now + LEASE else None


async def test_a_message_that_nobody_takes_for_a_day_is_given_up_and_stays_on_record(receiver, open_sender):
    receiver.status = lambda _path: 500
    sender = await open_sender(webhook=receiver.url + PROGRAM)

    tell(sender)
    while (found := await soon(lambda: given_up_or_later(sender))) != "given up":
        sender.clock.at = found
        sender.wake()

    (one,) = sender.ledger.outbox.untold(sender.clock.at)
    assert (one.given_up, one.waiting, one.problem) == (1, 0, "it answered 500")
    assert len(receiver.got) == 8


def given_up_or_later(sender):
    given_up = any(one.given_up for one in sender.ledger.outbox.untold(sender.clock.at))
    return "given up" if given_up else is_later(sender)


async def test_a_receiver_that_is_gone_for_good_is_asked_once(receiver, open_sender):
    receiver.status = lambda _path: 410
    sender = await open_sender(webhook=receiver.url + PROGRAM)

    tell(sender)
    await soon(lambda: sender.ledger.outbox.next_due(["webhook"]) is None)

    (one,) = sender.ledger.outbox.untold(sender.clock.at)
    assert (one.given_up, one.problem, len(receiver.got)) == (1, "it answered 410", 1)


async def test_receivers_that_hang_hold_up_nobody_else_and_no_end(receiver, open_sender):
    receiver.hung = {PROGRAM, PERSON}
    sender = await open_sender(notify=[person(receiver), person(receiver, "/well")], webhook=receiver.url + PROGRAM)

    for _ in range(3):
        tell(sender)
    await soon(lambda: len(receiver.at("/well")) == 3)
    await soon(lambda: receiver.at(PROGRAM) and receiver.at(PERSON))

    assert len(receiver.at(PROGRAM)) == 1, "the next waits for the one that hangs"
    await sender.finish(0.0)
    await sender.close()


async def test_a_program_that_never_answers_is_tried_again_later(receiver, open_sender, monkeypatch):
    monkeypatch.setattr(sending, "PROGRAM_WAIT", 0.2)
    receiver.hung = {PROGRAM}
    sender = await open_sender(webhook=receiver.url + PROGRAM)

    tell(sender)
    await soon(lambda: is_later(sender))

    (one,) = sender.ledger.outbox.untold(sender.clock.at)
    assert one.problem == "no answer within 0.2 s"


async def test_a_sender_that_was_killed_over_a_message_leaves_it_to_the_next_with_the_same_id(receiver, open_sender):
    clock = Moved(time.time())
    receiver.hung = {PROGRAM}
    killed = await open_sender(webhook=receiver.url + PROGRAM, clock=clock)
    tell(killed)
    await soon(lambda: receiver.got)
    await open_sender.kill(killed)
    receiver.hung = set()
    clock.at += LEASE

    nxt = await open_sender(webhook=receiver.url + PROGRAM, clock=clock)
    nxt.wake()
    await soon(lambda: nxt.ledger.outbox.next_due(["webhook"]) is None)

    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


@pytest.mark.parametrize("status", [200, 403])
async def test_no_secret_is_in_the_ledger_the_log_or_a_problem(receiver, open_sender, status, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    receiver.status = lambda _path: status
    sender = await open_sender(notify=[person(receiver)], webhook=receiver.url + PROGRAM)

    tell(sender)
    channels = ["json 1", "webhook"]
    count = 0 if status == 200 else 2
    await soon(lambda: len(receiver.got) == 2 and len(sender.ledger.outbox.untold(sender.clock.at)) == count)
    await soon(
        lambda: all(due is None or due > sender.clock.at + 1 for due in [sender.ledger.outbox.next_due(channels)])
    )

    seen = on_record(sender.ledger).decode("latin-1") + caplog.text + "".join(capfd.readouterr())
    seen += repr(sender.ledger.outbox.untold(sender.clock.at)) + repr(sender)
    assert "schedule.failed" in seen
    assert [secret for secret in SECRETS if secret in seen] == []


async def test_a_receiver_that_cannot_be_reached_is_told_of_without_its_address(open_sender):
    dead = "127.0.0.1:9"
    sender = await open_sender(notify=[f"json://mia:pa55word@{dead}{PERSON}"], webhook=f"http://{dead}{PROGRAM}")

    tell(sender)
    both = await soon(lambda: len(found := sender.ledger.outbox.untold(sender.clock.at)) == 2 and found)

    assert both[0].problem == "no connection, or no answer"
    assert both[1].problem.endswith(f"({dead})")
    assert not [secret for secret in SECRETS if secret in json.dumps([one.problem for one in both])]


def test_a_worker_of_a_cluster_sends_what_another_has_written(receiver, ledger_url):
    webhook = WebhookSettings(url=SecretStr(receiver.url + PROGRAM), secret=SecretStr(SECRET))
    settings = Settings(database_url=ledger_url, webhook=webhook)
    with contextlib.closing(open_ledger(ledger_url)) as other:
        at, change = Standing(now=time.time()), failed_time("night")
        other.conditions.change([change], at.now, lambda one: outgoing(one, at, [channels_of(settings)[0].hearer]))
        worker = WorkerThread(lambda: build(settings))
        until(lambda: other.outbox.next_due(["webhook"]) is None)
        worker.drain(1.0)

    assert [one.json["data"]["schedule"] for one in receiver.got] == ["night"]
