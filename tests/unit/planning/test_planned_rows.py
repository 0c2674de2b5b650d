"""A manifest is planned once: what was shown is kept in a temporary file, and is what is recorded."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from jobs.errors import BadInput, LightfastError
from jobs.ledger import open_ledger
from jobs.ledger.batches.values import NewBatch
from jobs.ledger.database.schema import batches, earlier_requests, events, images, jobs
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.intake import Intake, _planner, files_to_bring, record, survey
from jobs.planning.planned_rows import PlannedRows
from jobs.planning.planner import Planner, PlanOptions
from jobs.planning.variations import Variations, read_variations
from jobs.policy.reuse import Reuse
from providers.catalog.models import Catalog
from tests.support.ledger_files import new_ledger
from tests.support.manifest_world import MAIN, NOW, finish
from tests.support.worker_world import png
from worker.references import Files

TABLES = (batches, jobs, images, earlier_requests, events)


@contextlib.contextmanager
def ledger_in(folder, name="lightfast.db"):
    with contextlib.closing(open_ledger(new_ledger(folder / name))) as opened:
        opened.accounts.sync([MAIN])
        yield opened


def intake_of(ledger, path, *, planned=None, prompt=None, mapping=None, vary=(), **asked):
    varied = {name: asked.pop(name) for name in ("repeat", "sample", "seed", "dedup") if name in asked}
    variations = Variations(options=read_variations(vary, **varied))
    limit, name = asked.pop("limit", None), asked.pop("name", "spring")
    options = PlanOptions(
        batch=name, prompt=prompt, mapping=mapping or {}, configured=frozenset({"maxapi.io"}), limit=limit
    )
    manifest = variations.on(open_manifest(path, name=path.name, options=ReadOptions()))
    given_with = {"catalog": Catalog.load(), "ledger": ledger, "skip_bad": True, **asked}
    return Intake(
        manifest=manifest,
        options=options,
        variations=variations,
        references=Files(path.parent),
        planned=planned,
        **given_with,
    )


def recorded(ledger, intake):
    """Surveys and records, as `run` does; how many rows were planned in order to be recorded."""
    name = intake.options.batch
    batch = ledger.batches.find(name)
    seen = survey(intake, batch, [MAIN])
    again, plan = [], Planner.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Planner, "plan", lambda planner, raw: (again.append(raw.line), plan(planner, raw))[1])
        brought = sorted(files_to_bring(intake, batch, seen))
        bound = {"dest": f"/d/{name}", "path": intake.options.path, "columns": seen.columns, "source": "m"}
        record(intake, seen, NewBatch(name=name, **bound), NOW)
    return len(again), brought


def content(ledger):
    """Every column of what a manifest is recorded in."""
    with ledger._database.reading() as tx:
        return {table.name: [tuple(row) for row in tx.execute(select(table).order_by(*table.primary_key))]
                for table in TABLES}  # fmt: skip


def both_ways(folder, manifests, *, finished=False):
    """Each manifest with its options, one after the other, into a ledger from the rows kept, into one planned again."""
    found = []
    for colour, name in enumerate(("lamp.png", "vase.png")):
        (folder / name).write_bytes(png(colour=colour))
    for keeps in (True, False):
        with ledger_in(folder, f"{keeps}.db") as ledger:
            brought = []
            for number, (text, options) in enumerate(manifests):
                path = folder / f"m{number}{options.get('ending', '.csv')}"
                path.write_text(text)
                asked = {name: value for name, value in options.items() if name != "ending"}
                with PlannedRows() if keeps else contextlib.nullcontext() as planned:
                    again, files = recorded(ledger, intake_of(ledger, path, planned=planned, **asked))
                assert (again == 0) is keeps, "what was kept is not planned again"
                brought.append(files)
                if finished:
                    finish(ledger, asked.get("name", "spring"), most=2)
            found.append((content(ledger), brought))
    kept, planned_again = found
    assert kept == planned_again
    return kept


CSV = (
    'key,prompt,n,ratio,note\na,red lamp,1,1:1,x\nb,blue lamp,2,16:9,"é, 灯"\n'
    "c,,1,1:1,\na,again,1,1:1,y\nd,lamp,two,,z\n"
)
MORE = "key,prompt,n,ratio,note\na,other lamp,1,1:1,x\nb,blue lamp,2,16:9,new\nc,now there,1,1:1,\ne,lamp,1,1:1,\n"
FILES = "key,prompt,image_urls\na,lamp,lamp.png\nb,vase,vase.png|https://example.com/x.png\nc,vase,gone.png\n"
JSONL = "\n".join(
    json.dumps({"key": f"k{n}", "prompt": "lamp", "tags": [n, None], **({"n": 2} if n == 1_050 else {})})
    for n in range(1_100)
)
KINDS = {
    "bad rows and repeated keys": [(CSV, {})],
    "a template": [(CSV, {"prompt": "Photo of {prompt} in {note|grey}", "mapping": {"ratio": ""}})],
    "variations": [
        (CSV, {"vary": ("style=oil|photo",), "prompt": "{prompt}, {style}", "repeat": 2, "sample": 2, "seed": 3}),
    ],
    "requests once": [(CSV + "f,red lamp,1,1:1,w\n", {"dedup": True})],
    "the first rows": [(CSV, {"limit": 2})],
    "references": [(FILES, {})],
    "JSON with a column that comes late": [(JSONL, {"ending": ".jsonl"})],
    "keys that are numbers": [("prompt\nlamp\nvase\n", {}), ("prompt\nlamp\nvase\nrug\n", {})],
    "the same rows again": [(CSV, {}), (CSV, {})],
    "appended rows": [(CSV, {}), (MORE, {"append": True, "changed": "keep"})],
    "appended rows of a new batch": [(CSV, {"append": True})],
    "changed rows that are kept": [(CSV, {}), (MORE, {"changed": "keep"})],
    "changed rows that are made anew, and back": [
        (CSV, {}), (MORE, {"changed": "redo"}), (CSV, {"changed": "redo"}),
    ],
    "reused images": [(CSV, {}), (CSV.replace("\nb,", "\nnew,"), {"name": "summer", "reuse": Reuse.COPY})],
}  # fmt: skip


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_recorded_as_if_it_were_planned_again(tmp_path, kind, finished):
    found, _ = both_ways(tmp_path, KINDS[kind], finished=finished)

    assert found["jobs"]


def test_files_that_rows_are_made_from_are_brought_for_the_rows_kept(tmp_path):
    _, brought = both_ways(tmp_path, [(FILES, {})])

    assert [words.partition("#")[0].rpartition("/")[2][:4] for words in brought[0]] == ["lamp", "vase"]


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
_ROW = st.fixed_dictionaries(
    {"key": st.sampled_from("abcdef"), "prompt": _TEXT},
    optional={
        "n": st.sampled_from([1, 2, 3, 99]),
        "ratio": st.sampled_from(["1:1", "16:9", "7:5", ""]),
        "size": st.sampled_from(["1024x1024", "XL"]),
        "quality": st.sampled_from(["high", "none such"]),
        "options": st.dictionaries(_TEXT, st.integers(-9, 9) | st.floats(allow_nan=False) | _TEXT, max_size=2),
        "image_urls": st.sampled_from([["https://example.com/a.png"], ["lamp.png", "vase.png"], ["no.png"]]),
        "own": st.recursive(st.none() | _TEXT | st.integers(-(2**53), 2**53), lambda each: st.lists(each, max_size=2)),
    },
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    manifests=st.lists(st.lists(_ROW, min_size=1, max_size=6), min_size=1, max_size=3),
    changed=st.sampled_from(["keep", "redo"]),
    append=st.booleans(),
    repeat=st.integers(1, 2),
    finished=st.booleans(),
)
def test_any_rows_are_recorded_as_if_they_were_planned_again(manifests, changed, append, repeat, finished):
    how = {"ending": ".jsonl", "changed": changed, "append": append, "repeat": repeat}
    texts = ["\n".join(map(json.dumps, rows)) for rows in manifests]
    with tempfile.TemporaryDirectory() as folder:
        both_ways(Path(folder), [(text, how) for text in texts], finished=finished)


@given(st.lists(_ROW, min_size=1, max_size=3))
@settings(deadline=None)
def test_a_row_is_the_same_after_it_was_kept(rows):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "m.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        intake = intake_of(None, path)
        planned = [Planner.plan(_planner(intake), raw).row for raw in intake.manifest.rows()]

    with PlannedRows() as kept:
        kept.begin()
        kept.add(planned)
        kept.end()
        assert [row for rows in kept for row in rows] == planned
        assert [row for rows in kept for row in rows] == planned, "as often as it is asked for"


# -- the temporary file --------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files; empty."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def shop(tmp_path):
    with ledger_in(tmp_path) as ledger:
        path = tmp_path / "m.csv"
        path.write_text("key,prompt\n" + "".join(f"k{number},lamp {number}\n" for number in range(700)))
        yield ledger, path


class FullDisk(io.BytesIO):
    """A file on a disk that takes only so many bytes; at the end, like one whose writes are buffered."""

    def __init__(self, most, *, at_flush):
        super().__init__()
        self.most, self.at_flush = most, at_flush

    def write(self, data):
        if not self.at_flush and self.tell() + len(data) > self.most:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)

    def flush(self):
        if self.at_flush:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        self.closed_by_us = True
        if self.at_flush:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().close()


@pytest.mark.parametrize("disk", [FullDisk(60_000, at_flush=False), FullDisk(0, at_flush=True)])
def test_where_the_temporary_disk_is_full_the_rows_are_planned_again_and_recorded(shop, monkeypatch, disk):
    ledger, path = shop
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: disk)

    with PlannedRows() as planned:
        again, _ = recorded(ledger, intake_of(ledger, path, planned=planned))

    assert disk.closed_by_us, "what it took is given back at once"
    assert again == 2 * 700, "once for the files to be brought, once to be recorded"
    assert len(list(ledger.reports.results("spring"))) == 700


def test_where_no_temporary_file_can_be_made_the_rows_are_planned_again_and_recorded(shop, monkeypatch):
    ledger, path = shop
    monkeypatch.setattr(tempfile, "tempdir", str(path.parent / "not there"))

    with PlannedRows() as planned:
        again, _ = recorded(ledger, intake_of(ledger, path, planned=planned))

    assert again
    assert len(list(ledger.reports.results("spring"))) == 700


@pytest.mark.parametrize("kept", [0, 1_000, -1])
def test_a_temporary_file_that_cannot_be_read_again_stops_the_recording_and_nothing_is_kept(shop, kept):
    ledger, path = shop
    with PlannedRows() as planned:
        intake = intake_of(ledger, path, planned=planned)
        seen = survey(intake, None, [MAIN])
        os.ftruncate(planned._file.fileno(), kept if kept >= 0 else os.fstat(planned._file.fileno()).st_size - 1)

        with pytest.raises(LightfastError, match="cannot be read again"):
            record(intake, seen, NewBatch(name="spring", dest="/d", path="p", columns=(), source="m"), NOW)

    assert ledger.batches.all() == []


def test_nothing_lies_in_the_folder_for_temporary_files_while_rows_are_kept(shop, temporary):
    ledger, path = shop

    with PlannedRows() as planned:
        survey(intake_of(ledger, path, planned=planned), None, [MAIN])

        assert planned.are_whole
        assert list(temporary.iterdir()) == []
    assert not planned.are_whole


def test_rows_kept_of_an_earlier_pass_are_none_of_a_later_one(shop):
    ledger, path = shop
    with PlannedRows() as planned:
        survey(intake_of(ledger, path, planned=planned), None, [MAIN])
        path.write_text("key,prompt\nz,lamp\n")
        survey(intake_of(ledger, path, planned=planned), None, [MAIN])

        assert [row.key for rows in planned for row in rows] == ["z"]


def test_bad_rows_that_nobody_agreed_to_leave_out_are_not_recorded(shop):
    ledger, path = shop
    path.write_text("key,prompt\na,lamp\nb,\n")
    with PlannedRows() as planned:
        intake = replace(intake_of(ledger, path, planned=planned), skip_bad=False)
        seen = survey(intake, None, [MAIN])

        with pytest.raises(BadInput, match="line 3, key b, column prompt"):
            record(intake, seen, NewBatch(name="spring", dest="/d", path="p", columns=(), source="m"), NOW)

    assert ledger.batches.all() == []
