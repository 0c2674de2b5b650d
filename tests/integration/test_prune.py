"""`prune`: what is archived, what stays, and that nothing is different afterwards but the ledger's size."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
import zipfile

import pytest
from sqlalchemy import select

from jobs.errors import BadInput, LightfastError
from jobs.facts import MadeImage, SubmitUnclear, TaskFailed, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.batches.batches import NotWhole
from jobs.ledger.batches.values import ImageFlags, NewBatch
from jobs.ledger.claims.reuse import ReuseOptions
from jobs.ledger.database.schema import attempts, batches, events, images, jobs
from jobs.ledger.pruning import pages, slimming
from jobs.ledger.pruning.values import NotPrunable, Table
from jobs.ledger.reports import money, results
from jobs.ledger.schedules.values import NewSchedule
from jobs.policy.reuse import Reuse
from providers.types import Kind, Link
from tests.support.old_shop import DAY, live, make, old_rows, old_shop
from tests.support.shop_ledger import a_row, call, document
from worker.archives import prune as pruning
from worker.archives.reading import ArchiveReader
from worker.archives.restore import bring_back
from worker.storage.disk import DiskStore

SPAN = 90 * DAY
TABLES = (jobs, attempts, images)


def rest(_seconds):
    """Nobody waits in a test."""


def prune(ledger, place, name="shop", **more):
    (candidate,) = ledger.pruning.candidates(time.time(), SPAN, [name])
    assert candidate.reason is None
    return pruning.prune(ledger, candidate, str(place), SPAN, rest=rest, **more)


def dump(ledger):
    """All rows, as they are; but the numbers of events, and when the batch was brought back."""
    with ledger._database.reading() as tx:
        found = {table.name: tx.execute(select(table).order_by(table.c.id)).all() for table in TABLES}
        told = tx.execute(select(events).order_by(events.c.job_id, events.c.id)).all()
        found["batches"] = tx.execute(select(*(each for each in batches.c if each.name != "archive_at"))).all()
    return found | {"events": [row[1:] for row in told]}


def written(ledger_folder, name):
    """What `results` and `audit` say of a batch, in every format."""
    files = {}
    for at, format_ in enumerate(("csv", "jsonl", "xlsx", "parquet")):
        for per in ("row", "image"):
            file = ledger_folder / f"{name}-{at}-{per}.{format_}"
            call("results", name, "--per", per, "--columns", "*,lf_*", "-o", str(file))
            files[format_, per] = _without_the_hour(file) if format_ == "xlsx" else file.read_bytes()
            file.unlink()
    page = call("results", name, "--format", "html", "--no-thumbnails").stdout
    files["html"] = [line for line in page.splitlines() if "as of" not in line]  # when it was made
    files["audit"] = call("audit", "--format", "csv").stdout
    files["money"] = document("status", "--money")
    return files


def _without_the_hour(workbook):
    """The bytes of a workbook's parts, but for those that say when it was written."""
    with zipfile.ZipFile(workbook) as parts:
        return {name: parts.read(name) for name in parts.namelist() if name != "docProps/core.xml"}


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def ledger(ledger_url, dest):
    """Once on each database: one batch that ended 200 days ago."""
    ledger = open_ledger(ledger_url)
    ledger.reports.archives = ArchiveReader
    live(ledger, dest, time.time() - 200 * DAY)
    yield ledger
    ledger.close()


# -- what is asked of the command ----------------------------------------------------------------------------------


def test_results_and_books_of_an_archived_batch_are_the_very_same_bytes(tmp_path, dest):
    old_shop(tmp_path, dest).close()
    before = written(tmp_path, "shop")

    told = call("prune", "--yes")

    assert "shop: 6 rows archived" in told.stdout
    assert "archived" in call("status").stdout
    assert document("status", "shop")["state"] == "archived"
    assert written(tmp_path, "shop") == before
    assert list((dest / ".lightfast" / "archive").glob("shop-*/archive.json"))


def test_why_tells_of_an_archived_row_what_it_told_before(tmp_path, dest):
    old_shop(tmp_path, dest).close()
    keys = ("lamp", "vase", "bowl", "desk", "chair")
    before = [call("why", "shop", key).stdout for key in keys]

    call("prune", "--yes")

    assert [call("why", "shop", key).stdout for key in keys] == before
    assert "rug: skipped" in call("why", "shop", "rug").stdout
    with pytest.raises(BadInput, match=r"no key 'lamb'.*lamp"):
        call("why", "shop", "lamb")


def test_a_dry_run_and_a_batch_that_ended_lately_change_nothing(tmp_path, dest):
    old_shop(tmp_path, dest, days=20).close()

    assert "No batch is to be archived now" in call("prune", "--yes").stdout
    with pytest.raises(BadInput, match=r"shop is not archived: it ended .* which is not 90 days ago"):
        call("prune", "shop", "--yes")
    assert document("prune", "--older-than", "10d", "--dry-run")["would_archive"] == ["shop"]
    assert document("status", "shop")["state"] == "finished"
    with pytest.raises(BadInput, match="at least 1d"):
        call("prune", "--older-than", "5h")


def test_under_a_public_url_the_archive_has_to_lie_elsewhere(tmp_path, dest, monkeypatch):
    old_shop(tmp_path, dest).close()
    monkeypatch.setenv("LIGHTFAST_STORAGE__PUBLIC_URL", "https://img.example")

    with pytest.raises(BadInput, match=r"people can read at https://img\.example"):
        call("prune", "--yes")
    monkeypatch.setenv("LIGHTFAST_STORAGE__ARCHIVE", str(tmp_path / "safe"))
    call("prune", "--yes")

    assert list((tmp_path / "safe").glob("shop-*/archive.json"))
    assert not (dest / ".lightfast").exists()


def test_verify_finds_what_is_missing_of_an_archived_batch(tmp_path, dest):
    old_shop(tmp_path, dest).close()
    call("prune", "--yes")
    assert document("verify", "shop")["missing"] == 0

    next(dest.glob("shop/lamp/*.png")).unlink()

    told = document("verify", "shop", code=3)
    assert [(each["key"], each["condition"], each["remedy"]) for each in told["images"]] == [
        ("lamp", "missing", "copy")
    ]
    assert document("status", "shop")["state"] == "archived"


def test_what_is_missing_is_copied_again_after_the_rows_are_back(tmp_path, dest):
    old_shop(tmp_path, dest).close()
    call("prune", "--yes")
    next(dest.glob("shop/lamp/*.png")).unlink()

    told = call("verify", "shop", "--repair", code=3)

    assert "its rows are brought back first" in told.stderr
    assert "sent back to be copied: 0 stored again" in told.stdout
    assert document("status", "shop")["rows"]["done"] == 2


def test_a_batch_whose_images_were_moved_is_brought_back_first(tmp_path, dest):
    old_shop(tmp_path, dest).close()
    before = call("results", "shop").stdout
    call("prune", "--yes")
    new = tmp_path / "new"
    shutil.copytree(dest, new)

    told = call("move-destination", "shop", str(new))

    assert "its rows are brought back first" in told.stderr
    assert call("results", "shop").stdout == before.replace(str(dest), str(new))


def test_an_archive_that_was_touched_is_not_believed(tmp_path, dest):
    old_shop(tmp_path, dest).close()
    call("prune", "--yes")
    (rows,) = dest.glob(".lightfast/archive/shop-*/rows-000.parquet")
    rows.chmod(0o644)
    rows.write_bytes(rows.read_bytes() + b"x")

    with pytest.raises(LightfastError, match=r"rows-000.parquet is not as it was written. Nothing was changed"):
        call("results", "shop")
    with pytest.raises(LightfastError, match="not as it was written"):
        call("prune", "--bring-back", "shop")
    assert document("status", "shop")["state"] == "archived"


def test_a_batch_that_is_brought_back_is_as_it_was(tmp_path, dest):
    old_shop(tmp_path, dest).close()
    before = written(tmp_path, "shop")
    call("prune", "--yes")

    told = call("prune", "--bring-back", "shop")

    assert "its rows are brought back first" in told.stderr
    assert document("status", "shop")["state"] == "finished"
    assert written(tmp_path, "shop") == before


# -- the ledger ----------------------------------------------------------------------------------------------------


def test_what_comes_back_is_what_went(ledger, dest):
    before = dump(ledger)

    prune(ledger, dest / "archive")
    slim = dump(ledger)
    bring_back(ledger, "shop")

    assert not slim["attempts"]
    assert not slim["events"]
    assert {row.carried for row in slim["jobs"]} == {b"{}"}
    assert dump(ledger) == before


def test_keys_hashes_and_paths_stay(ledger, dest):
    before = dump(ledger)

    prune(ledger, dest / "archive")

    kept = lambda rows, *names: [[getattr(row, name) for name in names] for row in rows]  # noqa: E731
    after = dump(ledger)
    assert kept(after["jobs"], "key", "request_hash", "state", "path") == kept(
        before["jobs"], "key", "request_hash", "state", "path"
    )
    assert kept(after["images"], "id", "object_path", "sha256") == kept(before["images"], "id", "object_path", "sha256")


def test_sums_of_money_are_what_they_were(ledger, dest):
    before = ledger.reports.money(), ledger.reports.money("shop"), list(ledger.reports.audit())
    progress = ledger.reports.progress("shop")

    prune(ledger, dest / "archive")

    assert (ledger.reports.money(), ledger.reports.money("shop"), list(ledger.reports.audit())) == before
    after = ledger.reports.progress("shop")
    told = {each.name: getattr(after, each.name) for each in dataclasses.fields(after)}
    assert told | {"batch": None} == {name: getattr(progress, name) for name in told} | {"batch": None}


def test_an_audit_of_all_batches_is_in_the_order_of_intents(ledger, dest):
    rows = [dataclasses.replace(row, key=f"{row.key}-2") for row in old_rows("late")]
    live(ledger, dest, time.time() - 200 * DAY + 60.5, batch="late", rows=rows[:1])
    live(ledger, dest, time.time() - 5 * DAY, batch="new", rows=rows[:2])
    before = list(ledger.reports.audit())

    prune(ledger, dest / "archive")
    prune(ledger, dest / "archive", "late")

    assert list(ledger.reports.audit()) == before
    since = time.time() - 6 * DAY
    assert {line.batch for line in ledger.reports.audit(since=since)} == {"new"}
    assert {line.batch for line in ledger.reports.audit(until=since)} == {"shop", "late"}


def test_nothing_that_was_made_is_bought_again(ledger, dest):
    requests = {row.key: row.request for row in old_rows() if row.request}
    hashes = [requests[key].hash() for key in ("lamp", "vase", "chair")]
    batch_id, keys = ledger.batches.find("shop").id, list(requests)
    before = (
        ledger.batches.known(batch_id, keys),
        ledger.batches.made_elsewhere(hashes, besides=None, sandbox=False),
        sorted(each[:2] + each[3:] for each in ledger.batches.reuse_sources(hashes, besides=None, sandbox=False)),
        list(ledger.batches.rows_on_record(batch_id)),
    )

    prune(ledger, dest / "archive")

    assert (
        ledger.batches.known(batch_id, keys),
        ledger.batches.made_elsewhere(hashes, besides=None, sandbox=False),
        sorted(each[:2] + each[3:] for each in ledger.batches.reuse_sources(hashes, besides=None, sandbox=False)),
        list(ledger.batches.rows_on_record(batch_id)),
    ) == before


def test_images_of_an_archived_batch_are_taken_for_another(ledger, dest):
    prune(ledger, dest / "archive")
    new = NewBatch(name="again", dest=str(dest), path="", columns=(), source="again.csv")
    options = ReuseOptions(how=Reuse.COPY, at_least=1)
    ledger.batches.record_manifest(new, [a_row(0, "chair")], reuse_images=options, now=time.time())

    assert not ledger.claims.submits("main", time.time(), lease=60.0, at_most=9, horizon=5.0).intents
    (copy,), _ = ledger.claims.copies(time.time(), holder="me", lease=60.0, at_most=9)
    assert copy.origin.path.startswith("shop/chair/")
    assert ledger.reports.story("again", "chair").taken_from[1, 0].batch == "shop"


def test_what_was_bought_after_all_is_not_taken_for_reused(ledger, dest):
    with ledger._database.writing() as tx:  # its image was to be taken from another row's, which did not work
        first, second, *_ = tx.execute(select(images.c.id).order_by(images.c.id)).scalars()
        tx.execute(images.update().where(images.c.id == second).values(source_id=first, origin_id=first))
    before = dump(ledger)
    assert ledger.reports.reused() == (0, 0)

    prune(ledger, dest / "archive")

    assert ledger.reports.reused() == (0, 0)
    assert not ledger.reports.story("shop", "lamp").taken_from
    bring_back(ledger, "shop")
    assert dump(ledger) == before


def test_a_row_that_was_made_anew_with_other_words_is_not_taken_for_its_manifests(ledger, dest):
    desk = next(row for row in old_rows() if row.key == "desk")

    prune(ledger, dest / "archive")

    (source,) = ledger.batches.reuse_sources([desk.request_hash], besides=None, sandbox=False)
    assert b"by night" in source.request


# -- what stays whole ----------------------------------------------------------------------------------------------


def refusal(ledger, name):
    (candidate,) = ledger.pruning.candidates(time.time(), SPAN, [name])
    return candidate.reason


def test_batches_of_which_more_may_come_stay(ledger, dest):
    old = time.time() - 200 * DAY
    new = NewBatch(name="open", dest=str(dest), path="", columns=(), source="open.csv")
    ledger.batches.record_manifest(new, [a_row(0, "lamp"), a_row(1, "sofa")], now=old)
    assert refusal(ledger, "open") == "2 rows wait to be sent"

    (lamp, sofa) = ledger.claims.submits("main", old, lease=60.0, at_most=9, horizon=60.0).intents
    assert refusal(ledger, "open") == "2 rows are being made"
    ledger.facts.record(
        [SubmitUnclear(attempt_id=each.attempt_id, at=old, code="x", message="y") for each in (lamp, sofa)]
    )
    assert refusal(ledger, "open") == "2 rows are held"
    ledger.unknowns.resolve([lamp.attempt_id, sofa.attempt_id], "give-up", old)
    assert refusal(ledger, "open") == "2 attempts of it were given up, whose task may still be found"

    ledger.batches.pause("shop", "on your word")
    assert refusal(ledger, "shop") == "it is paused"
    with pytest.raises(NotPrunable, match="it is paused"):
        ledger.pruning.begin("shop", "/nowhere", time.time(), SPAN)


def test_what_was_lost_stays_for_90_days(ledger, dest):
    for name, days in (("lately", 60), ("long-ago", 100)):
        live(ledger, dest, time.time() - days * DAY, batch=name, rows=[a_row(0, "lamp")], lost=("lamp",))

    (lately, long_ago) = ledger.pruning.candidates(time.time(), 10 * DAY, ["lately", "long-ago"])

    assert lately.reason == "1 paid image of it was lost within 90 days"
    assert long_ago.reason is None


def test_the_batch_that_a_schedule_goes_on_with_stays(ledger, dest):
    ledger.schedules.add(NewSchedule(name="shop", cron="0 3 * * *", timezone="UTC", options={}), time.time())
    with ledger._database.writing() as tx:
        tx.execute(batches.update().values(schedule_id=1))

    assert refusal(ledger, "shop") == "a schedule compares each manifest with it (--into same)"


def test_rows_that_left_the_manifest_unsent_keep_no_batch(ledger, dest):
    new = NewBatch(name="less", dest=str(dest), path="", columns=(), source="less.csv")
    for rows in ([a_row(0, "vase"), a_row(1, "sofa")], [a_row(0, "vase")]):
        ledger.batches.record_manifest(new, rows, now=time.time() - 200 * DAY)
    make(ledger, dest, time.time() - 200 * DAY)

    assert refusal(ledger, "less") is None


# -- broken off ----------------------------------------------------------------------------------------------------


class KilledError(Exception):
    """The process dies here."""


def killed(*_args, **_kwargs):
    raise KilledError


@pytest.mark.parametrize("at", ["touch", "commit"])
def test_killed_before_the_archive_is_whole_the_batch_is_whole_and_the_same_call_goes_on(ledger, dest, at, monkeypatch):
    before = dump(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(type(ledger.pruning), at, killed)
        with pytest.raises(KilledError):
            prune(ledger, dest / "archive")

    assert ledger.batches.find("shop").archive is None
    after = dump(ledger)
    assert {name: after[name] for name in after if name != "batches"} == {
        name: before[name] for name in before if name != "batches"
    }
    assert prune(ledger, dest / "archive").rows == 6
    bring_back(ledger, "shop")
    assert dump(ledger) == before


def reported(ledger):
    return list(ledger.reports.results("shop")), list(ledger.reports.audit()), ledger.reports.money()


def test_killed_while_rows_are_taken_out_the_archive_answers_and_the_same_call_goes_on(ledger, dest, monkeypatch):
    monkeypatch.setattr(slimming, "CHUNK", 2)
    before, told = dump(ledger), reported(ledger)

    (candidate,) = ledger.pruning.candidates(time.time(), SPAN, ["shop"])
    with pytest.raises(KilledError):
        pruning.prune(ledger, candidate, str(dest / "archive"), SPAN, rest=killed)
    assert reported(ledger) == told
    assert 0 < len(dump(ledger)["attempts"]) < len(before["attempts"])

    prune(ledger, dest / "archive")
    assert not dump(ledger)["attempts"]
    assert reported(ledger) == told
    bring_back(ledger, "shop")
    assert dump(ledger) == before


def test_killed_while_rows_come_back_the_same_call_goes_on(ledger, dest, monkeypatch):
    before = dump(ledger)
    prune(ledger, dest / "archive")
    with monkeypatch.context() as patch:
        patch.setattr(type(ledger.pruning), "end_restoring", killed)
        with pytest.raises(KilledError):
            bring_back(ledger, "shop")
    assert [each.key for each in ledger.reports.results("shop")] == ["lamp", "vase", "bowl", "rug", "desk", "chair"]

    bring_back(ledger, "shop")

    assert dump(ledger) == before


def test_a_batch_that_changes_while_its_archive_is_written_stays_whole(ledger, dest, monkeypatch):
    before = dump(ledger)

    def goes_on(_rows):
        new = NewBatch(name="shop", dest=str(dest), path="", columns=("key",), source="shop.csv", delimiter=";")
        ledger.batches.record_manifest(new, old_rows(), now=time.time())

    with pytest.raises(NotPrunable, match="it was changed meanwhile, or somebody else archives it"):
        prune(ledger, dest / "archive", tell=goes_on)

    assert ledger.batches.find("shop").archive is None
    assert dump(ledger)["attempts"] == before["attempts"]


def test_an_archived_batch_is_left_alone_by_what_an_export_finds(ledger, dest):
    found = flags_of_all(ledger, "blank")
    prune(ledger, dest / "archive")
    before = dump(ledger)

    ledger.images.set_flags(found, {"blank"})

    assert dump(ledger) == before


def test_a_batch_in_which_an_export_finds_something_while_its_archive_is_written_stays_whole(ledger, dest):
    found = flags_of_all(ledger, "blank")

    with pytest.raises(NotPrunable, match="it was changed meanwhile"):
        prune(ledger, dest / "archive", tell=lambda _rows: ledger.images.set_flags(found, {"blank"}))
    prune(ledger, dest / "archive")

    lamp = next(each for each in ledger.reports.results("shop") if each.key == "lamp")
    assert {image.flags for image in lamp.images} == {("blank",)}, "as the archive has it, too"


def flags_of_all(ledger, flag):
    return [
        ImageFlags(image_id=image.image_id, sha256=image.sha256, flags=frozenset({flag}))
        for image in ledger.images.stored("shop")
    ]


def test_an_answer_that_comes_while_the_archive_is_written_keeps_the_batch_whole(ledger, dest):
    (bowl,) = [line.attempt for line in ledger.reports.audit() if line.key == "bowl"]
    link = MadeImage(link=Link(url="https://cdn.example/late.png"), spool=None, expires_at=time.time() + 3600)

    def late(_rows):
        ledger.facts.record([TaskSucceeded(attempt_id=bowl, at=time.time(), images=(link,))])

    with pytest.raises(NotPrunable, match="is not archived: 1 paid image of it is not stored yet"):
        prune(ledger, dest / "archive", tell=late)

    assert ledger.batches.find("shop").archive is None
    assert len(dump(ledger)["attempts"]) == 7


def test_a_late_word_that_changes_nothing_is_archived_with_the_next_archive(ledger, dest):
    (chair,) = [line.attempt for line in ledger.reports.audit() if line.key == "chair"]
    told = {"kind": Kind.PERMANENT, "code": "no_images", "message": "no"}

    def late(_rows):
        ledger.facts.record([TaskFailed(attempt_id=chair, at=time.time() - 150 * DAY, **told)])

    with pytest.raises(NotPrunable, match="something happened to it meanwhile"):
        prune(ledger, dest / "archive", tell=late)
    before = ledger.reports.story("shop", "chair")
    prune(ledger, dest / "archive")

    assert ledger.reports.story("shop", "chair") == before
    assert "late_fact" in [event.name for event in before.events]


def test_results_that_are_read_while_the_batch_goes_into_its_archive_are_whole(ledger, dest, monkeypatch):
    monkeypatch.setattr(results, "PAGE", 2)
    before = list(ledger.reports.results("shop"))

    reading = ledger.reports.results("shop")
    first = next(reading)
    prune(ledger, dest / "archive")

    assert [first, *reading] == before


def test_an_audit_that_is_overtaken_says_so(ledger, dest, monkeypatch):
    monkeypatch.setattr(money, "PAGE", 2)
    reading = ledger.reports.audit()
    next(reading)
    prune(ledger, dest / "archive")

    with pytest.raises(LightfastError, match="archived while this was read"):
        list(reading)


def test_rows_in_an_archive_cannot_be_changed_before_they_are_back(ledger, dest):
    prune(ledger, dest / "archive")

    with pytest.raises(NotWhole, match="the same command brings them back first"):
        ledger.batches.redo("shop", [("lamp", None)], time.time())


def test_a_store_that_does_not_keep_what_it_takes_gets_no_batch(ledger, dest, monkeypatch):
    monkeypatch.setattr(DiskStore, "read", lambda *_: b"something else")

    with pytest.raises(LightfastError, match="reads differently from what was written"):
        prune(ledger, dest / "archive")
    assert ledger.batches.find("shop").archive is None


def test_an_archive_in_a_bucket_is_read_from_there(tmp_path, dest, s3, monkeypatch):
    old_shop(tmp_path, dest).close()
    before = call("results", "shop").stdout
    monkeypatch.setenv("LIGHTFAST_STORAGE__ARCHIVE", f"{s3.url}/archives")

    told = document("prune", "--yes")["archived"][0]

    assert told["archive"].startswith(f"{s3.url}/archives/shop-")
    assert call("results", "shop").stdout == before
    call("prune", "--bring-back", "shop")
    assert call("results", "shop").stdout == before


# -- and on --------------------------------------------------------------------------------------------------------


def test_an_archive_in_several_files_reads_as_one(ledger, dest, monkeypatch):
    monkeypatch.setattr(pages, "PAGE", 2)
    monkeypatch.setattr(pruning, "ROWS_OF_A_PART", 2)
    before = dump(ledger), list(ledger.reports.results("shop")), list(ledger.reports.audit())
    story = ledger.reports.story("shop", "desk")

    done = prune(ledger, dest / "archive")

    assert len(list(ArchiveReader(done.archive).index.of(Table.ROWS))) == 3
    assert (list(ledger.reports.results("shop")), list(ledger.reports.audit())) == before[1:]
    assert ledger.reports.story("shop", "desk") == story
    bring_back(ledger, "shop")
    assert dump(ledger) == before[0]


def test_rows_that_left_the_manifest_come_back_too(ledger, dest):
    new = NewBatch(name="shop", dest=str(dest), path="", columns=("key",), source="shop.csv", delimiter=";")
    ledger.batches.record_manifest(new, old_rows()[:3], now=time.time() - 150 * DAY)
    before = dump(ledger)

    prune(ledger, dest / "archive")
    assert [each.key for each in ledger.reports.results("shop")] == ["lamp", "vase", "bowl"]
    assert ledger.reports.story("shop", "chair").result.key == "chair"
    bring_back(ledger, "shop")

    assert dump(ledger) == before


def test_a_batch_that_was_brought_back_is_retried_and_pays_for_what_failed_alone(ledger, dest):
    charged = ledger.batches.find("shop").charged
    prune(ledger, dest / "archive")

    bring_back(ledger, "shop")
    now = time.time()
    ledger.batches.retry("shop", now, only=None, error=None)
    intents = ledger.claims.submits("main", now, lease=60.0, at_most=9, horizon=60.0).intents

    assert [each.key for each in intents] == ["bowl"]
    assert ledger.batches.find("shop").charged == charged


def test_the_space_of_a_file_is_given_back(tmp_path, dest):
    ledger = old_shop(tmp_path, dest)
    rows = [a_row(number, f"row-{number}") for number in range(1500)]
    rows = [dataclasses.replace(row, carried=json.dumps({"Text": f"{row.key} " * 200}).encode()) for row in rows]
    live(ledger, dest, time.time() - 150 * DAY, batch="large", rows=rows, made=False)
    ledger.batches.cancel("large")
    ledger.close()

    told = document("prune", "large", "--yes")

    assert told["ledger_bytes"]["after"] < told["ledger_bytes"]["before"] / 2
    assert (tmp_path / "lightfast.db").stat().st_size == told["ledger_bytes"]["after"]
