"""`lightfast export`: what it says, its exit codes and its document."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3

import pytest
from PIL import Image
from sqlalchemy.exc import OperationalError

from cli.output import terminal
from cli.output.export_progress import ExportProgress
from jobs.errors import BadInput
from jobs.ledger import open_ledger
from jobs.ledger.batches.verbs import ImageVerbs
from tests.support.picture_ledger import NOW, open_pictures, row, store
from tests.support.shop_ledger import call, document


@pytest.fixture
def shop(tmp_path):
    ledger = open_pictures(tmp_path)
    store(ledger, tmp_path / "out", [row(n, f"k{n}", style="oil") for n in range(5)], refused=("k4",))
    ledger.close()
    return tmp_path


def test_a_person_reads_what_was_exported_and_what_was_not(shop):
    done = call("export", "b", "--as", "webdataset", "--to", "ds", "--split", "train=50,test=50")
    again = call("export", "b", "--as", "webdataset", "--to", "ds", "--split", "train=50,test=50")

    assert "4 images as webdataset -> ds" in done.stdout
    assert "1 row without a stored image: not in it" in done.stdout
    assert "lacking" not in done.stdout
    assert "4 blank images flagged" in done.stdout
    assert "ds holds this very export already: nothing was written." in again.stdout


@pytest.mark.parametrize(
    ("shape", "split", "told"),
    [
        ("imagefolder", "train=50,holdout=50", True),
        ("parquet", "a=50,b=50", True),
        ("parquet", "train=50,dev=50", False),
        ("webdataset", "a=50,b=50", False),
    ],
)
def test_the_way_to_load_splits_that_only_the_card_names_is_told(shop, shape, split, told):
    done = call("export", "b", "--as", shape, "--to", "ds", "--split", split)

    assert ('load it with datasets.load_dataset("ds"): data_dir= overlooks' in done.stdout) == told


def test_missing_pictures_are_named_and_end_with_3(shop):
    (shop / "out/b/2.png").unlink()

    done = call("export", "b", "--as", "webdataset", "--to", "ds", code=3)

    assert "warning: 1 image is not in ds; missing.jsonl there names each." in done.stderr
    assert "b k1 0: b/2.png is gone" in done.stderr
    assert "what helps:" in done.stderr
    assert "verify b --repair" in done.stderr
    assert "then:  the same export to another, empty place, as nothing is added to ds" in done.stderr


def test_a_picture_that_is_there_again_needs_an_export_to_another_place(shop):
    lost = shop / "out/b/2.png"
    data = lost.read_bytes()
    lost.unlink()
    call("export", "b", "--as", "webdataset", "--to", "ds", code=3)
    lost.write_bytes(data)

    again = call("export", "b", "--as", "webdataset", "--to", "ds", code=3)
    elsewhere = call("export", "b", "--as", "webdataset", "--to", "other")

    assert "ds holds this very export already: nothing was written." in again.stdout
    assert "then:  the same export to another, empty place, as nothing is added to ds" in again.stderr
    assert "4 images as webdataset -> other" in elsewhere.stdout


def test_files_that_are_lost_since_an_export_was_done_are_named_and_end_with_3(shop):
    words = ("export", "b", "--as", "webdataset", "--to", "ds")
    call(*words)
    (shop / "ds/train-000000.tar").unlink()

    done, told = call(*words, code=3), document(*words, code=3)

    assert "ds held this very export, and has lost files of it: nothing was written." in done.stdout
    assert "warning: 1 file of this export is no longer in ds as written:" in done.stderr
    assert "  train-000000.tar is gone" in done.stderr
    assert "what helps:  the same export to another, empty place" in done.stderr
    assert (told["lost"], told["first_lost"], told["exit_code"]) == (
        1,
        [{"file": "train-000000.tar", "reason": "gone"}],
        3,
    )


def test_an_export_of_a_batch_that_goes_on_and_a_split_without_an_image_are_told(shop):
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        assert ledger.batches.retry("b", NOW, error="moderation") == 1

    done = call("export", "b", "--as", "webdataset", "--to", "ds", "--split", "train=99.9,test=0.1")

    assert "warning: b is not finished: 1 row may still get images, which are not in here." in done.stderr
    assert "It was made while 1 row could still get images" in (shop / "ds/README.md").read_text()
    assert 'warning: the split "test" has no image' in done.stderr


def test_a_program_gets_one_document(shop):
    (shop / "out/b/2.png").unlink()

    told = document("export", "b", "--as", "webdataset", "--to", "ds", code=3)

    assert {name: told[name] for name in ("command", "as", "to", "batches", "was_done", "images", "rows_without")} == {
        "command": "export",
        "as": "webdataset",
        "to": "ds",
        "batches": ["b"],
        "was_done": False,
        "images": 3,
        "rows_without": 1,
    }
    assert (told["blank"], told["near_duplicates"], told["dropped"]) == (3, 0, 0)
    assert (told["missing"], told["exit_code"], told["splits"]) == (1, 3, {"train": 3})
    assert [each["file"] for each in told["files"]] == ["train-000000.tar"]
    assert told["first_missing"][0]["reason"] == "gone"


def test_near_duplicates_are_told_of_whether_flagged_or_left_out(tmp_path):
    def same(_number):
        file = io.BytesIO()
        Image.linear_gradient("L").save(file, "png")
        return file.getvalue()

    ledger = open_pictures(tmp_path)
    store(ledger, tmp_path / "out", [row(n, f"k{n}") for n in range(3)], pictures=same)
    ledger.close()

    flagged = call("export", "b", "--as", "webdataset", "--to", "flagged")
    dropped = call("export", "b", "--as", "webdataset", "--to", "dropped", "--near-duplicates", "drop")

    assert "3 images as webdataset" in flagged.stdout
    assert "2 near duplicates flagged; --near-duplicates drop leaves them out" in flagged.stdout
    assert "1 image as webdataset" in dropped.stdout
    assert "2 near duplicates left out: near_duplicates.jsonl there names each" in dropped.stdout


def test_results_choose_and_show_images_by_what_an_export_found(shop):
    call("export", "b", "--as", "webdataset", "--to", "ds")

    blank = call("results", "b", "--only", "blank", "--columns", "lf_key,lf_flags")
    page = call("results", "b", "--except", "moderation", "--format", "html", "--no-thumbnails")

    assert blank.stdout.splitlines() == ["lf_key,lf_flags", *(f'k{at},"[""blank""]"' for at in range(4))]
    assert call("results", "b", "--only", "near_duplicate", "--columns", "lf_key").stdout.split() == ["lf_key"]
    assert page.stdout.count("blank") >= 4


def test_a_ledger_that_takes_no_flags_is_told_and_ends_with_0(shop, monkeypatch):
    def full(*_):
        raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(ImageVerbs, "set_flags", full)

    done = call("export", "b", "--as", "webdataset", "--to", "ds")
    told = document("export", "b", "--as", "webdataset", "--to", "other")

    assert "4 images as webdataset -> ds" in done.stdout
    assert "warning: the ledger cannot be reached: database or disk is full. So lightfast results" in done.stderr
    assert told["flags_not_recorded"] == "cannot be reached: database or disk is full"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["b", "--as", "zip"], '--as: "zip". Legal: imagefolder, webdataset, parquet'),
        (["b", "b", "--as", "webdataset"], "named twice"),
        (["bb", "--as", "webdataset"], "Did you mean b?"),
        (["b", "--as", "webdataset", "--split", "train=90"], "add up to 100, and these are 90"),
        (["b", "--as", "webdataset", "--split-by", "style"], "--split-by needs --split"),
        (["b", "--as", "webdataset", "--shard-size", "big"], "a size such as 500MB"),
        (["b", "--as", "webdataset", "--format", "gif"], '--format: "gif". Legal: jpeg, png, webp.'),
        (["b", "--as", "webdataset", "--near-duplicates", "no"], '--near-duplicates: "no". Legal: keep, flag, drop.'),
        (["b", "--as", "webdataset", "--format", "png", "--quality", "9"], "--quality is for"),
        (["b", "--as", "webdataset", "--quality", "9"], "--quality is for"),
        (["b", "--as", "webdataset", "--caption", "{style"], "has no partner"),
        (["b", "--as", "webdataset", "--caption", ""], "--caption is empty. Is a variable not set?"),
        (["b", "--as", "webdataset", "--license", " "], "--license is empty."),
        (["b", "--as", "webdataset", "--to", "out"], "there is something already"),
    ],
)
def test_wrong_words_are_wrong_input_and_nothing_is_written(shop, words, said):
    to = [] if "--to" in words else ["--to", "ds"]

    with pytest.raises(BadInput) as wrong:
        call("export", *words, *to)

    assert said in str(wrong.value)
    assert not (shop / "ds").exists()


def test_progress_away_from_a_terminal_is_a_line_now_and_then_with_the_time_left(monkeypatch):
    said, now = [], [0.0]
    monkeypatch.setattr(terminal, "put", said.append)
    tell = ExportProgress(quiet=False, now=lambda: now[0])

    for through in range(1, 101):
        now[0] += 1.0
        tell("exported", through, 200, through * 1_000_000)

    assert said == [
        "00:00:31Z 31 of 200 images exported, 31.0 MB, about 2 min left",
        "00:01:01Z 61 of 200 images exported, 61.0 MB, about 2 min left",
        "00:01:31Z 91 of 200 images exported, 91.0 MB, about 109 s left",
    ]


def test_quiet_says_nothing(monkeypatch):
    said = []
    monkeypatch.setattr(terminal, "put", said.append)
    tell = ExportProgress(quiet=True, now=iter(range(0, 10_000, 100)).__next__)

    for through in range(5):
        tell("exported", through, 5, 0)

    assert said == []


def test_the_document_of_an_export_that_was_done_says_so(shop):
    words = ("export", "b", "--as", "webdataset", "--to", "ds")

    first, second = document(*words), document(*words)

    assert (first.pop("was_done"), second.pop("was_done")) == (False, True)
    assert json.dumps(first) == json.dumps(second)
