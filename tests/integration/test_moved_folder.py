"""A project folder is renamed, copied, or loses pictures: what is paid is found, or the command is told that helps."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import shutil
import sqlite3
import time

import pytest

from cli.commands import move_destination
from jobs.errors import BadInput, Interrupted, LedgerBusy
from jobs.facts import ImageChecked, ImageStored
from jobs.ledger import open_ledger
from jobs.ledger.database import engine, migrations
from tests.support import money_history, stocked_ledger
from tests.support.shop_ledger import call, document, open_shop
from worker.storage import ownership_mark

ROWS = "key,Title,prompt,n\nlamp,Lamp,A lamp,2\nvase,Vase,A vase,\nsofa,Sofa,A sofa,\ndesk,Desk,A desk,\n"
PLAN = ("plan", "shop.csv", "--changed", "keep")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A project: the manifest, the ledger, and its destination below it."""
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "a-key")
    monkeypatch.setenv("LIGHTFAST_ACCOUNTS__MAIN__PROVIDER", "maxapi.io")
    monkeypatch.setenv("LIGHTFAST_ACCOUNTS__MAIN__API_KEY", "a-key")
    folder = tmp_path / "home" / "shop"
    folder.mkdir(parents=True)
    (folder / "shop.csv").write_text(ROWS)
    open_shop(folder, folder / "out")
    with contextlib.closing(sqlite3.connect(folder / "lightfast.db")) as connection, connection:
        connection.execute("UPDATE batches SET path = '{batch}/{key}/{index}.{ext}'")
        for path in pictures(folder / "out"):
            content = (folder / "out" / path).read_bytes()
            found = hashlib.sha256(content).hexdigest(), len(content), path
            connection.execute("UPDATE images SET sha256 = ?, bytes = ? WHERE object_path = ?", found)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def moved(shop, monkeypatch):
    """The same folder under another name."""
    monkeypatch.chdir(shop.parent)
    there = shop.rename(shop.parent / "shop2")
    monkeypatch.chdir(there)
    return there


def refused(*words):
    """What a command says that ends with 2."""
    with pytest.raises(BadInput) as error:
        call(*words)
    return str(error.value)


def addresses():
    rows = csv.DictReader(call("results", "shop", "--per", "image").stdout.splitlines())
    return [row["lf_url"] for row in rows if row["lf_url"]]


def pictures(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def bound(folder):
    """The destination as the file has it."""
    with contextlib.closing(sqlite3.connect(folder / "lightfast.db")) as connection:
        return connection.execute("SELECT dest FROM batches").fetchone()[0]


def as_before(folder, dest, revision="0019"):
    """The ledger as the version before kept it, with the full path."""
    file, newer = folder / "lightfast.db", folder / "newer.db"
    file.rename(newer)
    before = engine.connect(f"sqlite:///{file}")
    with before.writing() as tx:
        migrations.upgrade(tx, revision)
    before.close()
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("ATTACH ? AS newer", (str(newer),))
        tables = connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if table != "alembic_version":
                names = ", ".join(f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({table})"))
                connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM newer.{table}")
        connection.execute("UPDATE batches SET dest = ?", (str(dest),))
    newer.unlink()


def mark(folder, name="shop"):
    with contextlib.closing(open_ledger(f"sqlite:///{folder}/lightfast.db")) as ledger:
        owner = ledger.ledger_id
    (folder / "out/.lightfast").mkdir(exist_ok=True)
    (folder / f"out/.lightfast/{name}.json").write_text(f'{{"ledger": "{owner}", "host": "h", "at": "t"}}')


# -- moved together ------------------------------------------------------------------------------------------------


def test_a_renamed_folder_goes_on_working(moved):
    assert len(addresses()) == 2
    assert all(address.startswith(f"{moved.as_uri()}/out/") for address in addresses())
    assert document("status", "shop")["dest"] == str(moved / "out")
    assert document("verify", "shop", "--quick")["missing"] == 0
    call("results", "shop", "--format", "html", "-o", "sheet.html")
    sheet = (moved / "sheet.html").read_text()
    assert '"out/shop/lamp/0.png"' in sheet
    assert "/home/shop/" not in sheet
    for named in ((), ("--to", "out"), ("--to", str(moved / "out")), ("--to", "../shop2/out")):
        plan = document(*PLAN, *named)
        assert (plan["dest"], plan["rows"]["new"]) == (str(moved / "out"), 0)


def test_a_ledger_of_the_version_before_keeps_its_folder_and_may_be_renamed_from_then_on(shop):
    as_before(shop, shop / "out")

    assert document("status", "shop")["dest"] == str(shop / "out")
    assert bound(shop) == "./out"


def test_destinations_elsewhere_are_kept_as_they_are(shop):
    for dest in ("s3://bucket/prefix", "/elsewhere/out", f"{shop}/../out"):
        as_before(shop, dest)
        assert document("status", "shop")["dest"] == dest
        assert bound(shop) == dest


def test_a_folder_that_a_link_leads_to_is_the_same_destination(shop, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(shop)

    assert document(*PLAN, "--to", str(tmp_path / "link" / "out"))["dest"] == str(shop / "out")


# -- moved apart ---------------------------------------------------------------------------------------------------


def test_a_ledger_of_the_version_before_that_was_moved_already_is_told_where_its_images_are(moved, shop):
    as_before(moved, shop / "out")
    mark(moved)

    told = refused("verify", "shop")

    assert f"the folder {shop}/out is not there" in told
    assert f"lightfast move-destination shop {moved}/out\n" in told
    assert not shop.exists()
    call("move-destination", "shop", f"{moved}/out")
    assert document(*PLAN)["dest"] == f"{moved}/out"


@pytest.mark.parametrize("words", [("retry", "shop", "--yes"), ("redo", "shop", "--key", "lamp", "--yes"),
                                   ("verify", "shop"), ("run", "shop.csv", "--yes")])  # fmt: skip
def test_where_the_folder_is_gone_nothing_is_begun_anew(shop, words):
    (shop / "out").rename(shop / "pictures")

    told = refused(*words)

    assert f"the folder {shop}/out is not there, where batch shop has stored 2 images" in told
    assert "lightfast move-destination shop NEW\n" in told
    assert not (shop / "out").exists()


def test_move_destination_looks_at_every_image_and_then_records(shop):
    (shop / "out").rename(shop / "pictures")

    told = document("move-destination", "shop", "pictures")

    assert (told["recorded"], told["checked"], told["sound"], told["how"]) == (True, 2, 2, "hash")
    assert (told["from"], told["dest"]) == (str(shop / "out"), str(shop / "pictures"))
    assert bound(shop) == "./pictures"
    assert all(address.startswith(f"{shop.as_uri()}/pictures/") for address in addresses())
    assert (shop / "pictures/.lightfast/shop.json").exists()


def test_what_is_missing_there_is_listed_and_nothing_is_recorded_without_partial(shop):
    (shop / "out").rename(shop / "pictures")
    (shop / "pictures/shop/lamp/1.png").unlink()

    told = document("move-destination", "shop", "pictures", code=3)
    page = call("move-destination", "shop", "pictures", code=3).stdout

    assert (told["recorded"], told["sound"], told["missing"]) == (False, 1, 1)
    assert [each["path"] for each in told["images"]] == ["shop/lamp/1.png"]
    assert "shop/lamp/1.png" in page
    assert f"nothing was changed: shop stays at {shop}/out" in page
    assert bound(shop) == "./out"
    assert document("move-destination", "shop", "pictures", "--partial")["recorded"] is True
    assert bound(shop) == "./pictures"


def test_a_destination_with_another_ledgers_mark_is_not_taken_over(shop):
    (shop / "out").rename(shop / "pictures")
    (shop / "pictures/.lightfast").mkdir()
    (shop / "pictures/.lightfast/shop.json").write_text('{"ledger": "another", "host": "h", "at": "t"}')

    assert "with another ledger" in refused("move-destination", "shop", "pictures")
    assert bound(shop) == "./out"


def test_it_is_refused_while_a_run_works_on_the_ledger(shop):
    (shop / "out").rename(shop / "pictures")
    with (
        contextlib.closing(open_ledger(f"sqlite:///{shop}/lightfast.db")) as ledger,
        ledger.hold(0.0),
        pytest.raises(LedgerBusy),
    ):
        call("move-destination", "shop", "pictures")
    assert bound(shop) == "./out"


def test_images_that_rows_of_other_batches_name_there_are_found_at_the_new_place(shop):
    with contextlib.closing(sqlite3.connect(shop / "lightfast.db")) as connection, connection:
        connection.execute("UPDATE images SET origin_id = 1, lies_at = './out' WHERE id = 2")
    (shop / "out").rename(shop / "pictures")

    call("move-destination", "shop", "pictures")

    assert all(address.startswith(f"{shop.as_uri()}/pictures/") for address in addresses())


def test_a_folder_that_is_named_with_dots_is_below_the_ledger_all_the_same(shop):
    (shop / "out").rename(shop / "pictures")
    (shop / "sub").mkdir()

    call("move-destination", "shop", "sub/../pictures")

    assert bound(shop) == "./pictures"


def test_images_that_were_copied_to_a_bucket_are_found_there_by_their_size_or_hash(shop, s3):
    new = f"s3://{s3.name}/shop"
    for path in pictures(shop / "out"):
        s3.client.upload_file(str(shop / "out" / path), s3.name, f"shop/{path}")

    other = bytes((shop / "out/shop/lamp/1.png").stat().st_size)
    s3.client.put_object(Bucket=s3.name, Key="shop/shop/lamp/1.png", Body=other)
    assert document("move-destination", "shop", new, "--hash", code=3)["changed"] == 1
    s3.client.upload_file(str(shop / "out/shop/lamp/1.png"), s3.name, "shop/shop/lamp/1.png")
    told = document("move-destination", "shop", new)

    assert (told["recorded"], told["how"], told["sound"]) == (True, "quick", 2)
    assert sorted(addresses()) == [f"{new}/shop/lamp/0.png", f"{new}/shop/lamp/1.png"]
    assert b'"ledger"' in s3.client.get_object(Bucket=s3.name, Key="shop/.lightfast/shop.json")["Body"].read()
    s3.client.delete_object(Bucket=s3.name, Key="shop/shop/lamp/0.png")
    assert document(*PLAN)["stored_images"] == {"on_record": 2, "looked_at": 2, "gone": 1}


def test_on_a_cluster_it_is_refused_while_workers_could_store_at_the_old_place(
    tmp_path, postgres_ledger_url, monkeypatch
):
    monkeypatch.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)
    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(2), dest=str(tmp_path / "out"))
        ledger.workers.touch("worker", time.time())

    assert "lightfast pause spring" in refused("move-destination", "spring", "pictures")
    call("pause", "spring")
    assert document("move-destination", "spring", "pictures")["recorded"]


@pytest.fixture
def paused_batch(tmp_path, postgres_ledger_url, monkeypatch):
    """A paused batch on PostgreSQL with a paid image that waits to be copied; no worker lives."""
    monkeypatch.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)
    now = time.time()
    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(2), dest=str(tmp_path / "out"))
        (intent,) = ledger.claims.submits("main", now, lease=90, at_most=1).intents
        images = (stocked_ledger.made(expires_at=now + 3600),)
        succeeded = dataclasses.replace(money_history.succeeded(intent), at=now, images=images)
        ledger.facts.record([money_history.accepted(intent), succeeded])
        ledger.batches.pause("spring", "asked")
        yield ledger


@pytest.mark.parametrize(("work", "words"), [("copies", "1 image on their way"), ("has stored", "were stored at")])
def test_a_worker_that_starts_while_the_images_are_compared_keeps_the_batch_where_it_is(
    paused_batch, tmp_path, monkeypatch, work, words
):
    """A worker claims copies before it has shown life."""

    def compared(*args, **options):
        found = inspected(*args, **options)
        (copy,) = paused_batch.claims.copies(time.time(), holder="worker", lease=60, at_most=9)[0]
        if work == "has stored":
            what = {"sha256": "ab" * 32, "bytes": 9, "width": 4, "height": 4, "format": "png"}
            checked = ImageChecked(image_id=copy.image_id, object_path="k0/0.png", **what)
            paused_batch.facts.record([checked, ImageStored(image_id=copy.image_id, at=time.time())])
        return found

    inspected = move_destination.inspected
    monkeypatch.setattr(move_destination, "inspected", compared)

    assert words in refused("move-destination", "spring", str(tmp_path / "pictures"))
    assert paused_batch.batches.find("spring").dest == str(tmp_path / "out")
    assert not (tmp_path / "pictures/.lightfast/spring.json").exists()


def test_with_no_worker_alive_an_image_that_waits_is_copied_to_the_new_place(paused_batch, tmp_path):
    assert document("move-destination", "spring", str(tmp_path / "pictures"))["recorded"]

    later = time.time() + 60  # a claim that had read the old destination a moment before finds nothing due
    (copy,) = paused_batch.claims.copies(later, holder="worker", lease=60, at_most=9)[0]
    assert copy.dest == str(tmp_path / "pictures")


def test_a_move_that_broke_off_when_it_was_recorded_is_finished_by_the_same_command(shop, monkeypatch):
    mark(shop)
    shutil.copytree(shop / "out", shop / "pictures", ignore=shutil.ignore_patterns("*.json"))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ownership_mark, "release", killed)
        with pytest.raises(Interrupted):
            call("move-destination", "shop", "pictures")
    assert (bound(shop), (shop / "out/.lightfast/shop.json").exists()) == ("./pictures", True)

    told = call("move-destination", "shop", "pictures").stdout

    assert told == f"shop is at {shop}/pictures on record, and no longer at {shop}/out\n"
    assert not (shop / "out/.lightfast/shop.json").exists()
    assert (shop / "pictures/.lightfast/shop.json").exists()
    assert "is at" in refused("move-destination", "shop", "pictures")


# -- deleted by hand -----------------------------------------------------------------------------------------------


def test_a_picture_that_was_deleted_by_hand_is_told_of_before_anything_is_paid(shop):
    (shop / "out/shop/lamp/1.png").unlink()

    told = call(*PLAN)

    assert "warning: 1 of 2 stored images is no longer in" in told.stderr
    assert "(shop/lamp/1.png)" in told.stderr
    assert "lightfast verify shop --quick\n" in told.stderr
    assert "for nothing, those whose links still live:  lightfast verify shop --quick --repair\n" in told.stderr
    assert "warning: 1 of 2 stored images is no longer in" in call("results", "shop").stderr
    assert document(*PLAN)["stored_images"] == {"on_record": 2, "looked_at": 2, "gone": 1}


def test_results_say_that_the_folder_with_the_pictures_is_not_there(shop):
    (shop / "out").rename(shop / "pictures")

    said = call("results", "shop", "-o", "done.csv").stderr

    assert "with 2 images on record is not there" in said
    assert said.splitlines()[0].endswith("lightfast move-destination shop NEW")


def test_where_every_picture_is_there_nothing_is_said(shop):
    assert "warning" not in call("results", "shop").stderr
    assert "warning" not in call(*PLAN).stderr
    assert document(*PLAN)["stored_images"] == {"on_record": 2, "looked_at": 2, "gone": 0}
