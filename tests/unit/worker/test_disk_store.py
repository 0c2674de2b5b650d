"""A folder as destination: whole and durable, or not there at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from jobs.errors import StoreError
from worker.storage.base import PutResult
from worker.storage.disk import DiskStore
from worker.storage.opening import open_store

PNG = "image/png"
DATA = bytes(range(256)) * 5000


def test_a_file_url_is_a_folder(tmp_path):
    open_store(f"file://{tmp_path}/a%20b").put_new("c.png", b"x", content_type=PNG)
    assert (tmp_path / "a b" / "c.png").read_bytes() == b"x"
    assert open_store(str(tmp_path)).url_of("a b/c.png") == f"file://{tmp_path}/a%20b/c.png"


def test_a_file_is_synced_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    order = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd)))
    monkeypatch.setattr(os, "link", lambda *a, **k: (order.append("link"), link(*a, **k)))

    DiskStore(tmp_path).put_new("b/k.png", DATA, content_type=PNG)

    at = order.index("link")
    assert f"{tmp_path}/.lightfast/parts/" in order[at - 1]
    assert order[at + 1] == f"{tmp_path}/b"
    assert str(tmp_path) in order[:at], "the new folder's own name is durable too"


@pytest.mark.parametrize("write", ["put_new", "put"])
def test_a_folder_that_another_process_takes_away_while_it_is_empty_is_made_again(tmp_path, monkeypatch, write):
    store, link, replace = DiskStore(tmp_path), os.link, os.replace
    taken = []

    def take_away(real):
        def place(part, target, **more):
            if not taken:
                Path(target).parent.rmdir()  # as its probe does, which found no such folder when it began
                taken.append(target)
            return real(part, target, **more)

        return place

    monkeypatch.setattr(os, "link", take_away(link))
    monkeypatch.setattr(os, "replace", take_away(replace))

    getattr(store, write)("shop/mark.json", b"{}", content_type="application/json")

    assert taken
    assert (tmp_path / "shop/mark.json").read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("number", "code", "denied"),
    [
        (errno.ENOSPC, "disk_full", False),
        (errno.EDQUOT, "disk_full", False),
        (errno.EACCES, "disk_denied", True),
        (errno.EROFS, "disk_denied", True),
        (errno.EIO, "disk_error", False),
    ],
)
def test_a_disk_that_fails_is_told_and_leaves_nothing_half_written(tmp_path, monkeypatch, number, code, denied):
    def fsync(_):
        raise OSError(number, os.strerror(number))

    store = DiskStore(tmp_path)
    store.put_new("other", b"x", content_type=PNG)
    monkeypatch.setattr(os, "fsync", fsync)

    with pytest.raises(StoreError) as failed:
        store.put_new("k.png", DATA, content_type=PNG)

    error = failed.value
    assert (error.code, error.denied, error.retryable) == (code, denied, True)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["other"]


def test_a_disk_without_hard_links_still_replaces_nothing(tmp_path, monkeypatch):
    def link(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", link)
    store = DiskStore(tmp_path)

    assert store.put_new("k", b"first", content_type=PNG) is PutResult.STORED
    assert store.put_new("k", b"second", content_type=PNG) is PutResult.EXISTS
    assert store.read("k") == b"first"


def test_what_a_killed_process_left_is_removed_a_day_later(tmp_path):
    store = DiskStore(tmp_path)
    store.put_new("k", b"x", content_type=PNG)
    old, new = (tmp_path / ".lightfast/parts" / name for name in ("old", "new"))
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (1, 1))

    DiskStore(tmp_path)

    assert not old.exists()
    assert new.exists()


def test_what_a_killed_process_left_can_be_removed_at_once_and_what_is_being_written_stays(tmp_path, monkeypatch):
    store, fsync, seen = DiskStore(tmp_path), os.fsync, []
    parts = tmp_path / ".lightfast/parts"

    def remove_meanwhile(number):
        fsync(number)
        if len(list(parts.glob("*"))) == 2:
            DiskStore(tmp_path).remove_left_parts()
            seen.extend(path.name for path in parts.iterdir())

    parts.mkdir(parents=True)
    (parts / "left").write_bytes(b"half")
    monkeypatch.setattr(os, "fsync", remove_meanwhile)

    assert store.put_new("k", DATA, content_type=PNG) is PutResult.STORED

    assert len(seen) == 1, "the one that is being written"
    assert seen != ["left"]
    assert (tmp_path / "k").read_bytes() == DATA
    assert not list(parts.iterdir())


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/etc/x", "", "a\0b", "x" * 300, "file/below"])
def test_a_path_outside_the_folder_or_none_is_refused(tmp_path, path):
    store = DiskStore(tmp_path / "in")
    store.put_new("file", b"x", content_type=PNG)

    with pytest.raises(StoreError) as refused:
        store.put_new(path, b"x", content_type=PNG)

    assert refused.value.code == "bad_path"
