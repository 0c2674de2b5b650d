"""What so many images a day need is arithmetic on what one costs."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import figures, scale
from benchmarks.scale import Costs, Load, Model

COSTS = Costs(
    run_ms=6.0,
    worker_ms=10.0,
    postgresql_ms=4.0,
    transactions=1.25,
    wal_bytes=10_000.0,
    ledger_bytes=2_000.0,
    account_ms=2.0,
    batch_ms=2.5,
    claims_ms=0.5,
    recorded=5_000.0,
    of_least=1.0,
)
loads = st.builds(
    Load,
    images_per_day=st.floats(1.0, 1e10),
    hours=st.floats(0.5, 24.0),
    seconds_per_image=st.floats(0.1, 600.0),
    bytes=st.floats(1e3, 1e8),
    copy_seconds=st.floats(0.01, 60.0),
    prune_days=st.floats(1.0, 400.0),
    remember_days=st.floats(1.0, 4_000.0),
)


def machines(load):
    model = Model(load, COSTS)
    return (model.processes, model.worker_machines, model.ledgers, model.places)


@given(loads, st.floats(1.0, 1e4))
def test_more_images_never_need_fewer_machines(load, times):
    more = replace(load, images_per_day=load.images_per_day * times)

    assert all(few <= many for few, many in zip(machines(load), machines(more), strict=True))


@given(loads, st.floats(1.0, 100.0), st.sampled_from(["seconds_per_image", "bytes", "copy_seconds"]))
def test_dearer_images_never_need_fewer_machines(load, times, what):
    dearer = replace(load, **{what: getattr(load, what) * times})

    assert all(cheap <= dear for cheap, dear in zip(machines(load), machines(dearer), strict=True))


@given(loads)
def test_what_is_needed_carries_the_load(load):
    model = Model(load, COSTS)

    assert model.is_one_process or model.processes * model.worker.carries >= load.per_second * (1 - 1e-9)
    assert model.is_one_process or all(
        model.ledgers * bound.carries >= load.per_second * (1 - 1e-9) for bound in model.ledger
    )
    assert all(value for _, value in model.lines())


def test_a_hundred_images_a_second_by_hand():
    model = Model(Load(images_per_day=8_640_000.0), COSTS)
    told = dict(model.lines())

    assert (model.places, model.processes, model.worker_machines, model.ledgers) == (3_000, 4, 1, 1)
    assert told["their cores, in use"] == "1.0"
    assert told["cores of PostgreSQL, in use"] == "0.40"
    assert told["WAL"] == "1.0 MB/s, 86 GB a day"
    assert told["network, in and out each"] == "20 MB/s"
    # 2,000 bytes for 7 days and 800 for 23, of 8.64 million images a day: 280 GB of 2 TB.
    assert told["binds first"] == "nothing (next the batch's row, 25 % used)"


def test_few_images_need_one_process_and_no_server():
    told = dict(Model(Load(images_per_day=1e5), COSTS).lines())

    assert (told["worker processes"], told["ledger"]) == ("one `lightfast run`", "SQLite")


def test_the_command_prints_what_is_needed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scale", "--images-per-day", "10e6", "--seconds-per-image", "60"])

    scale.main()

    printed = capsys.readouterr().out
    assert "10,000,000 images a day" in printed
    assert f"{math.ceil(10e6 / 86_400 * 60 * Costs.measured(figures.load()).of_least):,}" in printed


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0.0, "0"),
        (0.00631, "0.0063"),
        (1.157, "1.2"),
        (11.57, "12"),
        (115.7, "120"),
        (11_574.0, "12,000"),
        (9.96, "10"),
    ],
)
def test_figures_that_are_computed_have_two_that_count(number, told):
    assert scale._short(number) == told
