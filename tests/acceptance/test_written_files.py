"""Files that `results` and `audit` write: over what Lightfast wrote, if told to, and never over anything else."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from jobs.errors import BadInput, LightfastError
from jobs.ledger import open_ledger
from jobs.ledger.database import migrations
from jobs.ledger.database.opening import HEAD
from tests.support.shop_ledger import call, open_shop

NEVER = "never written over"


@pytest.fixture
def told(tmp_path):
    open_shop(tmp_path, tmp_path / "out")
    return tmp_path


COMMANDS = [("results", "shop"), ("results", "shop", "--per", "image"), ("audit",)]
FILES = ["mine.csv", "mine.jsonl", "mine.html"]


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
@pytest.mark.parametrize("name", FILES)
def test_results_are_never_written_over_anothers_file(told, name, more):
    (told / name).write_text("mine")

    with pytest.raises(BadInput, match=NEVER):
        call("results", "shop", "-o", name, *more)

    assert (told / name).read_text() == "mine"
    assert not list(told.glob(".lightfast-*"))


def test_an_audit_is_never_written_over_anothers_file(told):
    (told / "mine.csv").write_text("mine")

    with pytest.raises(BadInput, match=NEVER):
        call("audit", "-o", "mine.csv", "--overwrite")

    assert (told / "mine.csv").read_text() == "mine"


def test_neither_the_manifest_nor_a_paid_image_is_written_over(told):
    manifest, image = told / "shop.csv", told / "out/shop/lamp/0.png"
    manifest.write_text("key,prompt,lf_status\nlamp,A lamp,done\n")  # an older result file may be a manifest
    before = [path.read_bytes() for path in (manifest, image)]

    for path in (manifest, image):
        with pytest.raises(BadInput, match=NEVER):
            call("results", "shop", "--format", "csv", "-o", str(path), "--overwrite")

    assert [path.read_bytes() for path in (manifest, image)] == before


@pytest.mark.parametrize("words", COMMANDS)
def test_a_file_of_ours_is_written_anew_when_told_to(told, words):
    call(*words, "-o", "done.csv")
    first = (told / "done.csv").read_bytes()

    with pytest.raises(BadInput, match="--overwrite writes it anew"):
        call(*words, "-o", "done.csv")
    call(*words, "-o", "done.csv", "--overwrite")
    call(*words, "-o", "done.csv", "--overwrite")

    assert (told / "done.csv").read_bytes() == first


def test_a_file_of_ours_that_somebody_changed_is_ours_no_more(told):
    call("results", "shop", "-o", "done.csv")
    with (told / "done.csv").open("a") as file:
        file.write("my notes\n")

    with pytest.raises(BadInput, match=NEVER):
        call("results", "shop", "-o", "done.csv", "--overwrite")

    assert (told / "done.csv").read_text().endswith("my notes\n")


def test_a_folder_that_is_moved_takes_its_memory_along(told):
    (told / "reports").mkdir()
    call("results", "shop", "-o", "reports/")
    shutil.move(told / "reports", told / "archive")

    call("results", "shop", "-o", "archive/shop.csv", "--overwrite")


def test_a_link_stays_a_link(told):
    (told / "reports").mkdir()
    (told / "latest.csv").symlink_to("reports/done.csv")

    call("results", "shop", "-o", "latest.csv")
    call("results", "shop", "-o", "latest.csv", "--overwrite")

    assert (told / "latest.csv").is_symlink()
    assert (told / "reports/done.csv").read_text().startswith("key,Title,lf_key")


def test_a_pipe_is_written_into(told):
    os.mkfifo(told / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((told / "pipe").read_text()))
    reader.start()

    call("results", "shop", "-o", "pipe", "--format", "csv")

    reader.join(30)
    assert read[0].startswith("key,Title,lf_key")


@pytest.mark.parametrize("words", [("results", "shop", "--format", "csv"), ("audit",)])
def test_what_a_shell_has_opened_is_written_into(told, words):
    """`results -o >(gzip > x)` and `-o /dev/stdout | …`: names that lead to no file."""
    for_reading, for_writing = os.pipe()
    with os.fdopen(for_reading) as pipe:
        call(*words, "-o", f"/dev/fd/{for_writing}")
        os.close(for_writing)
        assert "key," in pipe.readline()


def test_a_file_that_a_shell_has_opened_to_add_to_keeps_what_it_had(told):
    (told / "log").write_text("before\n")
    with (told / "log").open("a") as log:
        call("results", "shop", "--format", "csv", "-o", f"/dev/fd/{log.fileno()}")

    assert (told / "log").read_text().startswith("before\nkey,Title,lf_key")


@pytest.fixture
def without_hard_links(monkeypatch):
    def refuse(_self, _target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)


@pytest.mark.usefixtures("without_hard_links")
def test_a_folder_without_hard_links_takes_results_all_the_same(told):
    call("results", "shop", "-o", "done.csv")
    call("results", "shop", "-o", "done.csv", "--overwrite")

    assert (told / "done.csv").read_text().startswith("key,Title,lf_key")
    assert not list(told.glob(".lightfast-*"))


@pytest.mark.usefixtures("without_hard_links")
def test_what_somebody_writes_there_meanwhile_is_kept_where_there_are_no_hard_links(told, monkeypatch):
    taken, replace = [], Path.replace

    def come_first(self, target):
        with contextlib.suppress(FileExistsError), (told / "done.csv").open("x"):  # as any careful program would
            taken.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", come_first)
    call("results", "shop", "-o", "done.csv")

    assert not taken, "the name was free until the moment at which it was written over"


def test_an_object_of_anothers_is_never_written_over(told, s3):
    call("results", "shop", "-o", f"{s3.url}/reports/shop.csv")
    with pytest.raises(BadInput, match="--overwrite writes it anew"):
        call("results", "shop", "-o", f"{s3.url}/reports/shop.csv")
    call("results", "shop", "-o", f"{s3.url}/reports/shop.csv", "--overwrite")

    s3.client.put_object(Bucket=s3.name, Key="reports/shop.csv", Body=b"mine")
    with pytest.raises(BadInput, match=NEVER):
        call("results", "shop", "-o", f"{s3.url}/reports/shop.csv", "--overwrite")

    assert s3.read("reports/shop.csv") == b"mine"


@pytest.fixture
def old_ledger(tmp_path):
    """A ledger with the first schema."""
    writer, settings = create_engine(f"sqlite:///{tmp_path / 'old.db'}"), migrations.config()
    with writer.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0001")
        connection.execute(text("INSERT INTO ledger (id, created_at, secret) VALUES ('old', 0.0, 's')"))
    writer.dispose()
    return tmp_path / "old.db"


def test_a_ledger_is_not_upgraded_under_a_run_of_an_older_version(old_ledger):
    with old_ledger.with_name("old.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(LightfastError, match="an older version"):
            open_ledger(f"sqlite:///{old_ledger}")

    assert list(old_ledger.parent.glob("old.db.before-*")) == []
    open_ledger(f"sqlite:///{old_ledger}").close()
    assert list(old_ledger.parent.glob("old.db.before-*"))


@pytest.mark.usefixtures("old_ledger")
def test_an_older_copy_of_a_ledger_is_kept(tmp_path):
    """It may be the only good one: the last upgrade was begun, and did not end well."""
    copy = tmp_path / f"old.db.before-{HEAD}"
    copy.write_text("the only good one")

    open_ledger(f"sqlite:///{tmp_path / 'old.db'}").close()

    assert copy.read_text() == "the only good one"
    assert copy.with_name(f"{copy.name}~2").stat().st_size
