"""Each benchmark runs, with numbers too small to mean anything."""

from __future__ import annotations

import re

import pytest

from benchmarks import (
    cluster_cpu,
    copying,
    cpu,
    export,
    flood,
    locks,
    place_bound,
    plan,
    polling,
    recording,
    start,
    webhooks,
)


@pytest.mark.long
def test_planning_is_measured_with_a_new_ledger_and_a_filled_one():
    found = dict(plan.measure(20, 60))

    assert {name for name in found if "60 rows" in name} == {"plan: 60 rows", "plan again: 60 rows"}


@pytest.mark.long
@pytest.mark.parametrize("postgresql", [False, True])
def test_recording_is_measured_by_wall_and_by_cpu(postgresql):
    found = dict(recording.measure(20, 600, postgresql=postgresql).lines)

    assert {"20 rows: CPU", "600 rows: wall", "600 rows: peak memory"} <= found.keys()


@pytest.mark.long
@pytest.mark.parametrize("to", cpu.DESTINATIONS)
def test_both_sides_of_the_comparison_make_the_same_requests(to):
    found = dict(cpu.measure(2, 6, rounds=1, to=to).lines)

    assert [value.split(",")[0] for name, value in found.items() if "polls an image" in name] == ["2.00", "2.00"]
    assert re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", found["ratio, with the start"])


@pytest.mark.long
def test_a_cluster_and_a_naive_worker_make_the_same_requests():
    findings = cluster_cpu.measure(2, 6, rounds=1)
    found = dict(findings.lines)

    assert [value.split(",")[0] for name, value in found.items() if "polls an image" in name] == ["2.00", "2.00"]
    assert {"naive: ... workers", "lightfast: ... PostgreSQL"} <= set(found)
    assert {"workers_ms", "postgresql_ms", "rest_ms", "naive_ms", *cluster_cpu.WRITTEN} <= set(findings.numbers)


@pytest.mark.long
def test_starts_are_measured():
    assert [name for name, _ in start.measure(1)] == ["python -c pass", "lightfast --help", "lightfast status"]


@pytest.mark.long
def test_copying_is_measured_beside_a_bare_download_and_put():
    found = dict(copying.measure(2, 1_000_000))

    assert found["images due at once"] == "2 of 1 MB"
    assert re.fullmatch(r"\d+\.\d\d", found["ratio of their times"])


@pytest.mark.long
def test_a_flood_of_wrong_callbacks_is_measured_beside_a_run():
    found = dict(flood.measure(0.3, 3))

    assert found["the run beside it ended with"] == "0"
    assert found["complaints in both logs"] == "none"


@pytest.mark.long
def test_the_lateness_of_finding_is_measured(monkeypatch):
    monkeypatch.setitem(webhooks.SCENARIO, "takes", {"default": [0.5, 1.0]})

    found = dict(webhooks.measure(3))

    assert [name for name in found if "SQLite" in name] == [
        "run and serve, SQLite, callbacks",
        "run and serve, SQLite, polls only",
    ]


@pytest.mark.long
def test_polls_and_lateness_are_measured_for_each_kind_of_durations():
    found = dict(polling.measure(20, 1))

    assert len(found) == 4 * len(polling.DURATIONS) + 1
    assert all(re.match(r"\d+\.\d\d polls, \d+\.\d% late", line) for line in found.values())


@pytest.mark.long
def test_locks_are_measured_by_how_many_images_share_a_transaction():
    findings = locks.measure(8, (1, 4))

    assert {"account_ms_1", "batch_ms_4", "claims_ms_4"} <= set(findings.numbers)
    assert all(number > 0 for number in findings.numbers.values())


@pytest.mark.long
def test_the_time_of_a_batch_that_waits_for_its_places_is_measured(monkeypatch):
    monkeypatch.setattr(place_bound, "FEW_POLLS", 20.0)

    findings = place_bound.measure(12, 6, seeds=1)

    assert len(findings.lines) == len(polling.DURATIONS) + 2
    assert all(number >= 1.0 for number in findings.numbers.values())


def test_the_bound_is_that_of_the_schedule_anybody_can_work_out():
    uniform = [5 + 15 * (place + 0.5) / 200 for place in range(200)]

    assert polling.least_late([12.0] * 50, 1.0) == pytest.approx(0.0, abs=0.01)
    assert polling.least_late(uniform, 1.0) == pytest.approx(0.6, abs=0.01)  # one poll, when the last has ended: 7.5 s
    assert 0.25 < polling.least_late(uniform, 1.5) < 0.3  # one in the middle, too, makes 3.75 s; a mixture less


@pytest.mark.long
def test_an_export_is_measured_beside_a_bare_read_and_tar():
    found = dict(export.measure(20))

    assert re.fullmatch(r"\d+\.\d\d", found["ratio of their times"])
    assert found["export: peak memory"].endswith(" MB")
