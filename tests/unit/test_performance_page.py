"""What the pages tell of measurements is what is on record."""

from __future__ import annotations

from dataclasses import replace

import pytest

import benchmarks.__main__ as bench
from benchmarks import figures, pages, plot
from benchmarks.measure import Findings

KNOWN = figures.load()


@pytest.mark.parametrize("file", pages.render(KNOWN), ids=lambda file: file.name)
def test_a_page_shows_the_figures_on_record(file):
    told = pages.render(KNOWN)[file]

    assert file.read_text("utf-8") == told, "python -m benchmarks --render  writes the page anew"


def test_every_set_on_record_is_of_a_benchmark_and_in_its_order():
    assert list(KNOWN) == [name for name in bench.ALL if name in KNOWN]
    assert {name: each.title for name, each in KNOWN.items()} == {name: bench.ALL[name].title for name in KNOWN}


def test_figures_are_kept_as_they_are(tmp_path):
    figures.save(KNOWN, tmp_path / "figures.json")

    assert figures.load(tmp_path / "figures.json") == KNOWN


def test_one_benchmark_replaces_its_own_figures_alone(monkeypatch, capsys):
    monkeypatch.setitem(bench.ALL, "start", replace(bench.ALL["start"], measure=lambda: [("a | b", "1 ms")]))
    kept = []

    bench.measure(["start"], KNOWN, kept.append)

    (found,) = kept
    assert found["start"].findings == Findings(lines=[("a | b", "1 ms")])
    assert found["start"].machine.cores >= 1
    assert {**found, "start": None} == {**KNOWN, "start": None}
    assert r"| a \| b | 1 ms |" in pages.render(found)[pages.DOCS / "performance.md"]
    assert "a | b" in capsys.readouterr().out


def test_a_page_that_has_lost_its_marks_is_told(tmp_path):
    (tmp_path / "performance.md").write_text("# Performance\n", "utf-8")

    with pytest.raises(ValueError, match="one pair of marks"):
        pages.render(KNOWN, tmp_path)


def test_the_plot_leaves_out_what_was_not_measured():
    assert "Recording a manifest" in plot.drawn(KNOWN)
    assert "Recording a manifest" not in plot.drawn({"start": KNOWN["start"]})
