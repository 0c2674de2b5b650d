"""Messages on their way: written with the change they tell of, sent by one process, and counted until they are told."""

from __future__ import annotations

import contextlib
import threading

import pytest

from jobs.ledger import open_ledger
from jobs.ledger.accounts.condition_values import Condition, ConditionChange
from jobs.ledger.accounts.outbox import KEPT, KEPT_SENT, LEASE, OVERDUE
from jobs.ledger.accounts.outbox_values import NewMessage
from tests.support.patience import AT_LAST
from tests.support.stocked_ledger import NOW

PAUSED = Condition(name="account", subject="main", state="bad_key")
BEGUN = ConditionChange(before=None, after=PAUSED)
BOTH = ("slack 1", "webhook")


def write(ledger, *, channels=BOTH, change=BEGUN, now=NOW):
    return ledger.conditions.change(
        [change], now, lambda _change: [NewMessage(type="account.paused", payloads=dict.fromkeys(channels, "{}"))]
    )


def test_of_two_processes_that_find_a_change_one_writes_what_is_told_of_it(ledger, ledger_url):
    with contextlib.closing(open_ledger(ledger_url)) as second:
        together = threading.Barrier(2)

        def find(by):
            together.wait(AT_LAST)
            write(by)

        finders = [threading.Thread(target=find, args=(by,)) for by in (ledger, second)]
        for finder in finders:
            finder.start()
        for finder in finders:
            finder.join()

    assert [one.channel for one in ledger.outbox.take(BOTH, NOW)] == ["slack 1", "webhook"]
    assert ledger.outbox.take(BOTH, NOW) == []


def test_a_change_whose_message_cannot_be_written_is_not_made_either(ledger):
    def breaks(_change):
        raise RuntimeError("killed here")

    with pytest.raises(RuntimeError):
        ledger.conditions.change([BEGUN], NOW, breaks)

    assert write(ledger) == [BEGUN]
    assert len(ledger.outbox.take(BOTH, NOW)) == 2


def test_a_message_has_one_id_for_all_its_channels_and_for_each_try(ledger):
    write(ledger)
    first = ledger.outbox.take(BOTH, NOW)
    again = ledger.outbox.take(BOTH, NOW + LEASE)

    (webhook_id,) = {one.webhook_id for one in [*first, *again]}
    assert webhook_id.startswith("msg_")


def test_of_two_processes_one_takes_a_message_and_what_it_leaves_is_free_after_a_minute(ledger, ledger_url):
    write(ledger, channels=("webhook",))
    with contextlib.closing(open_ledger(ledger_url)) as second:
        together, taken = threading.Barrier(2), []

        def take(by):
            together.wait(AT_LAST)
            taken.extend(by.outbox.take(("webhook",), NOW))

        takers = [threading.Thread(target=take, args=(by,)) for by in (ledger, second)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
        (first,) = taken

        assert second.outbox.take(("webhook",), NOW + LEASE - 1) == []
        (later,) = second.outbox.take(("webhook",), NOW + LEASE)
    assert (later.id, later.tries) == (first.id, 2)

    ledger.outbox.failed(first, "no answer within 15 s", None, NOW + LEASE + 1)
    assert ledger.outbox.next_due(("webhook",)) == NOW + 2 * LEASE, "who came late changes nothing of another's try"
    ledger.outbox.sent(first, NOW + LEASE + 2)
    assert ledger.outbox.next_due(("webhook",)) is None, "but that it was sent is true, whoever says it"


def test_channels_are_taken_by_those_who_know_them(ledger):
    write(ledger)

    assert [one.channel for one in ledger.outbox.take(("webhook",), NOW)] == ["webhook"]
    assert ledger.outbox.next_due(("slack 1",)) == NOW


def test_what_was_not_told_is_counted_with_its_last_problem_until_it_is_told(ledger):
    write(ledger)
    assert ledger.outbox.untold(NOW) == [], "what has just been written is on its way"

    for one in ledger.outbox.take(BOTH, NOW):
        if one.channel == "webhook":
            ledger.outbox.failed(one, "it answered 500", NOW + 300, NOW)
        else:
            ledger.outbox.failed(one, "it answered 410", None, NOW)
    slack, webhook = ledger.outbox.untold(NOW)
    assert (slack.channel, slack.waiting, slack.given_up, slack.problem) == ("slack 1", 0, 1, "it answered 410")
    assert (webhook.channel, webhook.waiting, webhook.given_up, webhook.problem) == ("webhook", 1, 0, "it answered 500")

    (again,) = ledger.outbox.take(("webhook",), NOW + 300)
    ledger.outbox.sent(again, NOW + 300)
    assert [one.channel for one in ledger.outbox.untold(NOW + 300)] == ["slack 1"]


def test_a_message_that_nobody_tries_is_counted_after_an_hour(ledger):
    write(ledger, channels=("anna",))

    assert ledger.outbox.untold(NOW + OVERDUE) == []
    (one,) = ledger.outbox.untold(NOW + OVERDUE + 1)
    assert (one.channel, one.waiting, one.problem) == ("anna", 1, None)


def test_a_channel_that_works_again_after_a_message_was_given_up_is_said_to(ledger):
    write(ledger, channels=("webhook",))
    (first,) = ledger.outbox.take(("webhook",), NOW)
    ledger.outbox.failed(first, "it answered 410", None, NOW)
    assert [one.works_again for one in ledger.outbox.untold(NOW)] == [False]

    write(ledger, channels=("webhook",), change=ConditionChange(before=PAUSED, after=None), now=NOW + 5)
    (second,) = ledger.outbox.take(("webhook",), NOW + 5)
    ledger.outbox.sent(second, NOW + 5)
    assert [one.works_again for one in ledger.outbox.untold(NOW + 5)] == [True]


def test_old_messages_go_sent_ones_after_a_week_and_others_after_three_months(ledger):
    write(ledger)
    for one in ledger.outbox.take(("webhook",), NOW):
        ledger.outbox.sent(one, NOW)

    ledger.outbox.clear(NOW + KEPT_SENT + 1)
    assert ledger.outbox.next_due(BOTH) == NOW, "what was not sent is kept"
    ledger.outbox.clear(NOW + KEPT + 1)
    assert ledger.outbox.next_due(BOTH) is None
