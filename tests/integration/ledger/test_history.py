"""How a batch came along, as charts show it: each stored image once, at its price, when it was stored."""

from __future__ import annotations

from jobs.results.charts import MOST, History, points
from tests.support.stocked_ledger import NOW, PRICE, make, rows, stock


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
