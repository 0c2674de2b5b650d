"""Pictures by the API: shown as what they are, read from the destination, made small once."""

from __future__ import annotations

import contextlib
import io

import pytest
from PIL import Image

from jobs.policy.access import Role
from tests.support import picture_ledger
from tests.support.access import make
from tests.support.visits import api_client
from web import pictures
from worker.storage.disk import DiskStore

ROWS = [picture_ledger.row(number, key) for number, key in enumerate(["lamp", "a/b c", "two"])]


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(picture_ledger.open_pictures(tmp_path)) as opened:
        picture_ledger.store(opened, tmp_path / "out", ROWS, refused={"two"})
        yield opened


@pytest.fixture
def web(ledger):
    with api_client(f"sqlite:///{ledger.path}") as client:
        yield client


@pytest.fixture
def reads(monkeypatch):
    """The paths that are read from the destination."""
    read, paths = DiskStore.read, []

    def counted(store, path):
        paths.append(path)
        return read(store, path)

    monkeypatch.setattr(DiskStore, "read", counted)
    return paths


def get(web, asker, path, code=200, **headers):
    answer = web.get(f"/api/v1/batches/b/images/{path}", headers={**asker.header, **headers})
    assert answer.status_code == code, answer.text
    return answer


def test_a_picture_is_sent_as_it_is_stored_and_may_be_nothing_else(web, ledger, viewer):
    answer = get(web, viewer, "lamp/0")

    assert answer.content in {picture_ledger.picture(0), picture_ledger.picture(1)}
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert get(web, viewer, "a%2Fb%20c/0").content != answer.content


def test_a_browser_that_has_it_is_sent_nothing(web, viewer, reads):
    tag = get(web, viewer, "lamp/0").headers["etag"]

    assert get(web, viewer, "lamp/0", code=304, **{"If-None-Match": tag}).content == b""
    assert len(reads) == 1


def test_a_small_copy_is_made_once_and_kept(web, viewer, reads, tmp_path):
    first = get(web, viewer, "lamp/0/thumbnail")
    again = get(web, viewer, "lamp/0/thumbnail")

    assert first.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(first.content)).size == (40, 30)
    assert again.content == first.content
    assert len(reads) == 1
    assert [each.suffix for each in (tmp_path / "lightfast.db.thumbnails").iterdir()] == [".webp"]


def test_small_copies_take_no_more_room_than_they_may(web, viewer, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_KEPT", 0)
    monkeypatch.setattr(pictures, "LOOK_AFTER", 1)
    get(web, viewer, "lamp/0/thumbnail", code=409)
    monkeypatch.setattr(pictures, "MOST_KEPT", 10**6)

    get(web, viewer, "lamp/0/thumbnail")


@pytest.mark.parametrize("path", ["two/0", "lamp/1", "none/0", "lamp/99999999999999999999", "%00/0"])
def test_what_is_not_stored_is_not_there(web, viewer, path):
    get(web, viewer, path, code=404)


def test_what_is_no_picture_any_more_is_not_shown(web, viewer, tmp_path):
    stored = list((tmp_path / "out" / "b").iterdir())
    for each in stored:
        each.write_bytes(b"<html><script>alert(1)</script>")

    get(web, viewer, "lamp/0", code=409)
    get(web, viewer, "lamp/0/thumbnail", code=409)
    for each in stored:
        each.unlink()
    get(web, viewer, "lamp/0", code=409)


def test_a_picture_that_was_replaced_by_another_is_shown_as_what_it_is(web, viewer, tmp_path):
    for each in (tmp_path / "out" / "b").iterdir():
        Image.open(each).save(each, "jpeg")

    assert get(web, viewer, "lamp/0").headers["content-type"] == "image/jpeg"


def test_a_picture_that_is_too_large_is_not_read(web, viewer, reads, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 10)

    get(web, viewer, "lamp/0", code=409)
    assert reads == []


def test_pictures_need_a_token_that_sees_the_batch(web, ledger):
    theirs = make(ledger, "theirs", Role.PRODUCER)

    get(web, theirs, "lamp/0", code=404)
    assert web.get("/api/v1/batches/b/images/lamp/0").status_code == 401
