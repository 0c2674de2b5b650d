"""Reference images that are no links: part of a row's identity, found before money, brought to the destination."""

from __future__ import annotations

import csv
import hashlib
import json
import os

import pytest

from jobs.errors import BadInput
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.planner import PlanOptions, prepare
from jobs.planning.references import MOST_DATA
from jobs.states import JobState
from providers.catalog.models import Catalog
from providers.references import as_file, file_name, is_link, is_object, words_of
from providers.registry import PROVIDERS
from providers.types import Request
from tests.support.worker_world import png
from worker import references
from worker.images.sidecar import _without_secrets
from worker.references import Files, bring
from worker.storage.opening import open_store

pytestmark = pytest.mark.virtual_time

EVERYONE = frozenset(PROVIDERS)


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photos" / "lamp 1.png"
    file.parent.mkdir()
    file.write_bytes(png(colour=7))
    return file


def plan(tmp_path, cell, *, files=None, **options):
    manifest = tmp_path / "m.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["key", "prompt", "image_urls", "n"], ["a", "a lamp", cell, "1"]])
    opened = open_manifest(manifest, name="m.csv", options=ReadOptions())
    asked = PlanOptions(**{"batch": "b", "configured": EVERYONE, **options})
    (raw,) = opened.rows()
    return prepare(opened, asked, Catalog.load(), files or Files(tmp_path)).plan(raw)


# -- which row is the same -----------------------------------------------------------------------------------------


def test_a_row_is_the_same_while_words_and_bytes_are_and_another_when_either_changes(tmp_path, photo):
    first = plan(tmp_path, "photos/lamp 1.png").row

    os.utime(photo, (1, 1))
    assert plan(tmp_path, "photos/lamp 1.png").row.request_hash == first.request_hash

    photo.write_bytes(png(colour=8))
    changed = plan(tmp_path, "photos/lamp 1.png").row
    assert changed.request_hash != first.request_hash
    assert words_of(changed.request.references[0]) == "photos/lamp 1.png"
    assert Request.from_json(changed.request.to_json()) == changed.request


def test_the_folder_may_move_with_its_manifest(tmp_path, photo):
    first = plan(tmp_path, "photos/lamp 1.png").row
    moved = tmp_path.rename(tmp_path.with_name("moved"))

    assert plan(moved, "photos/lamp 1.png").row.request_hash == first.request_hash


def test_links_and_objects_stand_for_themselves_and_are_not_looked_at(tmp_path):
    words = ["https://a.example/x.png#sha256-" + "a" * 64 + ".png", "s3://bucket/a b.png", "gs://bucket/x", "az://c/x"]

    assert plan(tmp_path, json.dumps(words)).row.request.references == tuple(words)
    assert not any(map(file_name, words))
    assert is_link(words[0])
    assert all(map(is_object, words[1:]))


def test_a_file_is_read_once_however_many_rows_name_it(tmp_path, photo, monkeypatch):
    read = []
    monkeypatch.setattr(references, "check", lambda path, **how: (read.append(path), real(path, **how))[1])
    files = Files(tmp_path)

    found = {files.find("photos/lamp 1.png") for _ in range(1000)}

    assert len(found) == len(read) == 1


def test_what_is_remembered_of_files_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "REMEMBERED", 3)
    files = Files(tmp_path)
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(png(colour=number))

    for _ in range(2):
        for number in range(5):
            files.find(f"{number}.png")

    assert len(files._known) == 3


real = references.check


# -- found before money --------------------------------------------------------------------------------------------


def spoil(folder):
    """One of each kind of file that is no reference."""
    (folder / "empty.png").touch()
    (folder / "page.png").write_text("<html>Not found</html>")
    (folder / "cut.png").write_bytes(png(colour=1)[:-20])
    (folder / "gif.gif").write_bytes(b"GIF89a" + bytes(50))
    with (folder / "huge.png").open("wb") as file:
        file.truncate(60 * 1024 * 1024)
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("gone.png", "no such file: "),
        ("empty.png", "no whole PNG, JPEG or WebP"),
        ("page.png", "no whole PNG, JPEG or WebP"),
        ("cut.png", "no whole PNG, JPEG or WebP"),
        ("gif.gif", "no whole PNG, JPEG or WebP"),
        ("huge.png", "60.0 MB; a reference may have 50"),
        ("pipe.png", "no file: "),
        ("folder.png", "no file: "),
        ("a/../../nowhere/x.png", "no such file: "),
        ("x" * 300, "no such file: "),
        ("data:image/png;base64,AAAA", "an http:// or https:// link, a file"),
        ("ftp://a.example/x.png", "an http:// or https:// link, a file"),
        ("s3://bucket", "an http:// or https:// link, a file"),
        ("file:///nowhere/x.png", "no such file: /nowhere/x.png"),
        ("file://localhost/nowhere/x.png", "no such file: /nowhere/x.png"),
        ("file://photos/x.png", "an http:// or https:// link, a file"),
    ],
)
def test_a_reference_that_cannot_be_read_is_a_bad_row_with_its_words_and_the_reason(tmp_path, words, reason):
    spoil(tmp_path)

    planned = plan(tmp_path, json.dumps(["https://a.example/ok.png", words]))

    (problem,) = planned.problems
    assert planned.row.state is JobState.INVALID
    assert (problem.line, problem.key, problem.column, problem.value) == (2, "a", "image_urls", words)
    assert reason in problem.legal


def test_a_manifest_from_elsewhere_names_no_files_of_this_machine(tmp_path, photo):
    planned = plan(tmp_path, f"file://{tmp_path}/photos/lamp%201.png", files=Files(None))

    assert "may not name files of this machine" in planned.problems[0].legal
    assert plan(tmp_path, f"file://{tmp_path}/photos/lamp%201.png").row.state is JobState.READY


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"has_addresses": True}, "maxapi.dev"),
        ({"has_addresses": False}, "maxapi.dev"),
        ({"providers": ("maxapi.io",), "has_addresses": True}, "maxapi.io"),
        ({"providers": ("maxapi.io",), "has_addresses": False}, None),
        ({"providers": ("maxapi.io", "apimaster"), "has_addresses": False}, "apimaster"),
    ],
)
def test_a_file_goes_where_it_can_be_given_or_the_row_is_refused_with_what_helps(tmp_path, photo, options, chosen):
    planned = plan(tmp_path, "photos/lamp 1.png", **options)

    assert planned.row.provider == chosen
    if chosen is None:
        (problem,) = planned.problems
        assert problem.column == "image_urls"
        assert "maxapi.io fetches by address, and a folder has none: --to a bucket (s3://…)" in problem.legal
        assert "public_url" in problem.legal


def test_files_too_large_for_a_request_go_by_address_only(tmp_path, photo, monkeypatch):
    monkeypatch.setattr("jobs.planning.references.MOST_DATA", photo.stat().st_size - 1)
    cell = "photos/lamp 1.png"

    refused = plan(tmp_path, cell, providers=("apimaster",), has_addresses=False)

    assert "files of more than" in refused.problems[0].legal
    assert plan(tmp_path, cell, providers=("apimaster",), has_addresses=True).row.provider == "apimaster"
    assert plan(tmp_path, cell, providers=("maxapi.dev",), has_addresses=False).row.provider == "maxapi.dev"
    assert MOST_DATA > 10_000_000


def test_a_text_file_named_by_mistake_is_refused_and_its_content_is_not_shown(tmp_path):
    (tmp_path / ".env").write_text("MAXAPI_IO_API_KEY=sk-secret-of-a-test")

    with pytest.raises(ValueError, match="no whole PNG, JPEG or WebP") as refused:
        Files(tmp_path).find(".env")

    assert "secret" not in str(refused.value)


# -- brought to the destination ------------------------------------------------------------------------------------


def test_each_file_is_brought_once_and_one_that_changed_meanwhile_stops_it(tmp_path, photo):
    store, files = open_store(str(tmp_path / "out")), Files(tmp_path)
    held = files.find("photos/lamp 1.png").text

    assert bring(store, files, [held, held]) == 1
    place = f".lightfast/references/{hashlib.sha256(photo.read_bytes()).hexdigest()}.png"
    assert store.read(place) == photo.read_bytes()

    photo.write_bytes(png(colour=9))
    assert bring(store, files, [held]) == 1, "what is there is not read again"
    store.delete(place)
    with pytest.raises(Exception, match="changed while the manifest was read"):
        bring(store, files, [held])
    assert store.look(place) is None


def test_a_strangers_object_in_a_files_place_is_told_before_money(tmp_path, photo):
    store, files = open_store(str(tmp_path / "out")), Files(tmp_path)
    held = files.find("photos/lamp 1.png").text
    store.put_new(references.place_of(file_name(held)), png(colour=1) + b"longer", content_type="image/png")

    with pytest.raises(BadInput, match="other bytes"):
        bring(store, files, [held])


def test_the_words_of_a_file_survive_its_hash():
    held = as_file("a#b.png", "0" * 64, "png")

    assert (words_of(held), file_name(held)) == ("a#b.png", "0" * 64 + ".png")
    assert (words_of("https://a.example/x"), file_name("a.png")) == ("https://a.example/x", None)


def test_a_sidecar_names_a_local_file_with_the_hash_of_its_bytes_and_a_link_without_its_signature():
    local = as_file("photos/lamp.png", "0" * 64, "png")

    assert _without_secrets(local) == local
    assert _without_secrets("https://me:pw@host/a.png?sig=s3cret#x") == "https://host/a.png"
