"""How a batch came along, as charts show it: each stored image once, at its price, when it was stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.ledger.accounts.values import AccountMinute
from jobs.results.charts import MOST, History, account_history, points
from tests.support.stocked_ledger import NOW, PRICE, make, rows, stock

DAY = 86_400


def test_images_and_money_come_in_the_stretch_they_were_stored_in(ledger):
    batch = stock(ledger, rows(6))
    for at, number in ((NOW, 1), (NOW + 7.9, 2), (NOW + 8, 1), (NOW + 100, 2)):
        make(ledger, at, number)

    assert ledger.reports.stored_span(batch.id) == (NOW, NOW + 100)
    found = ledger.reports.stored_by_time(batch.id, NOW, 8.0)
    assert [(each.number, each.images, each.money) for each in found] == [
        (0, 3, 3 * PRICE),
        (1, 1, PRICE),
        (12, 2, 2 * PRICE),
    ]
    later = ledger.reports.stored_by_time(batch.id, NOW + 8, 8.0)
    assert [(each.number, each.images) for each in later] == [(0, 1), (11, 2)]


def test_a_batch_without_an_image_has_no_history(ledger):
    batch = stock(ledger, rows(1))

    assert ledger.reports.stored_span(batch.id) is None
    assert ledger.reports.stored_by_time(batch.id, NOW, 2.0) == []


def test_a_history_that_is_read_on_and_grows_coarser_counts_every_image_once(ledger):
    batch = stock(ledger, rows(12))
    history, made = None, 0
    for at in (0.0, 1.0, 3.0, 50.0, 230.0, 600.0):
        make(ledger, NOW + at, 2)
        made += 2
        first, last = ledger.reports.stored_span(batch.id)
        history = history or History.spanning(first, last)
        while last >= history.start + MOST * history.width:
            history = history.coarser()
        since = history.start + max(0, len(history.images) - 1) * history.width
        history = history.with_newer(since, ledger.reports.stored_by_time(batch.id, since, history.width))

        assert sum(history.images) == made
        assert history.in_all()[-1] == made * PRICE
        assert len(history.images) <= MOST
        assert history.end > last


def test_a_line_goes_from_the_floor_to_the_top():
    assert points([0, 5, 10], 100, 50) == "0.0,50.0 50.0,25.0 100.0,0.0"
    assert points([3], 100, 50) == "0.0,0.0 100.0,0.0"
    assert points([0, 0], 100, 50) == "0.0,50.0 100.0,50.0"


def minute(at, made, *, throttled=0, in_flight=0, allowed=1.0, places=10):
    return AccountMinute(
        at=at,
        attempts_made=made,
        throttled=throttled,
        in_flight=in_flight,
        submits_per_second=allowed,
        max_in_flight=places,
    )


def test_how_accounts_stand_is_noted_once_a_minute_while_something_changes(ledger):
    stock(ledger, rows(3))
    at = NOW - NOW % 60 + 600
    ledger.accounts.note_minute(at)
    ledger.accounts.note_minute(at + 30)
    ledger.claims.submits("main", at + 61, lease=90, at_most=2)
    ledger.accounts.note_minute(at + 62)
    ledger.claims.submits("main", at + 90, lease=90, at_most=1)
    ledger.accounts.note_minute(at + 100)
    ledger.accounts.note_minute(at + 400)

    (minutes,) = ledger.accounts.minutes(at + 400).values()
    assert [(each.at - at, each.attempts_made, each.in_flight) for each in minutes] == [(0, 0, 0), (60, 3, 3)]


def test_minutes_are_kept_for_a_day(ledger):
    stock(ledger, rows(2))
    ledger.accounts.note_minute(NOW)
    ledger.claims.submits("main", NOW, lease=90, at_most=1)
    ledger.accounts.note_minute(NOW + 2 * DAY)

    (minutes,) = ledger.accounts.minutes(NOW + 2 * DAY).values()
    assert [each.attempts_made for each in minutes] == [1]


def test_submits_belong_to_the_minute_in_which_they_were_noted_and_a_standstill_is_none():
    told = account_history(
        [minute(0, 5), minute(60, 20, in_flight=9), minute(300, 50, throttled=3, in_flight=4, allowed=2.0, places=6)],
        400,
    )

    assert (told.submits, told.refused) == ((0, 15, 0, 0, 0, 30, 0), (0, 0, 0, 0, 0, 3, 0))
    assert told.in_flight == (0, 9, 9, 9, 9, 4, 4)
    assert told.allowed == (60, 60, 60, 60, 60, 120, 120)
    assert told.places == (10, 10, 10, 10, 10, 6, 6)


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 900)), min_size=2, max_size=50), st.integers(0, 90_000))
def test_a_charts_submits_are_all_that_were_made_whatever_its_width(steps, idle):
    at = made = 0
    minutes = [minute(0.0, 0)]
    for wait, more in steps:
        at, made = at + 60 * wait, made + more
        minutes.append(minute(float(at), made))

    told = account_history(minutes, at + idle)

    assert sum(told.submits) == made
    assert len(told.submits) <= MOST
    assert len({len(line) for line in (told.submits, told.refused, told.allowed, told.in_flight, told.places)}) == 1


def test_an_account_that_did_nothing_has_no_chart():
    assert account_history([minute(0.0, 0)], 600.0) is None
