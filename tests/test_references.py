"""Reference images that are no links: found before money, part of the row's identity, and in reach when it is sent."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import json
import os
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import any_server
import command
import pytest
from crew_world import Provider, answer, close_all, png, row, stock, world

from jobs.errors import BadInput
from jobs.ledger.values.facts import SubmitRefused
from jobs.manifest import ReadOptions, open_manifest
from jobs.planning import PlanOptions, prepare
from jobs.references import MOST_DATA
from jobs.states import Job
from providers.catalog import Catalog
from providers.dialect import Request
from providers.references import as_file, file_name, is_link, is_object, words_of
from worker import references
from worker.references import Files, Recent, bring
from worker.sidecar import _without_secrets
from worker.stages import references as stage
from worker.stages import submit as submit_stage
from worker.stages.submit import Attempt, submit
from worker.storage import StoreError, open_store

EVERYONE = frozenset(any_server.KEYS)


@pytest.fixture(autouse=True)
async def _closed():
    yield
    await close_all()


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
    monkeypatch.setattr(references, "check", lambda path: (read.append(path), real(path))[1])
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
    assert planned.row.state is Job.INVALID
    assert (problem.line, problem.key, problem.column, problem.value) == (2, "a", "image_urls", words)
    assert reason in problem.legal


def test_a_manifest_from_elsewhere_names_no_files_of_this_machine(tmp_path, photo):
    planned = plan(tmp_path, f"file://{tmp_path}/photos/lamp%201.png", files=Files(None))

    assert "may not name files of this machine" in planned.problems[0].legal
    assert plan(tmp_path, f"file://{tmp_path}/photos/lamp%201.png").row.state is Job.READY


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
    monkeypatch.setattr("jobs.references.MOST_DATA", photo.stat().st_size - 1)
    cell = "photos/lamp 1.png"

    refused = plan(tmp_path, cell, providers=("apimaster",), has_addresses=False)

    assert "files of more than" in refused.problems[0].legal
    assert plan(tmp_path, cell, providers=("apimaster",), has_addresses=True).row.provider == "apimaster"
    assert plan(tmp_path, cell, providers=("maxapi.dev",), has_addresses=False).row.provider == "maxapi.dev"
    assert MOST_DATA > 10_000_000


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


# -- sent ----------------------------------------------------------------------------------------------------------


async def sent(services, tmp_path, reference, model="gpt-image-2/image-to-image"):
    """One row with this reference, claimed and submitted."""
    request = Request(prompt="lamp", model="gpt-image-2", resolution="1k", references=(reference,))
    provider = services.accounts["main"].provider
    planned = row(0)
    with_reference = dataclasses.replace(
        planned, request=request, request_hash=request.hash(), provider=provider, provider_model=model, pixels=None
    )
    stock(services, tmp_path, [with_reference])
    boot, now = services.clock.boot(), services.clock.now()
    lease = submit_stage.lease_for(services, "main")
    (intent,) = services.ledger.claim_submits("main", now, lease=lease).intents
    return await submit(services, Attempt(intent=intent, boot_until=boot + lease))


async def test_a_file_that_has_no_address_when_it_is_sent_fails_its_row_and_nothing_is_paid(tmp_path, photo):
    services = world(tmp_path, provider := Provider())
    held = Files(tmp_path).find("photos/lamp 1.png").text
    bring(open_store(str(tmp_path / "dest")), Files(tmp_path), [held])

    fact = await sent(services, tmp_path, held)

    assert isinstance(fact, SubmitRefused)
    assert (fact.code, provider.submits.total()) == ("reference_unreadable", 0)
    assert "lamp 1.png" in fact.message


async def test_other_bytes_in_a_files_place_are_never_sent_for_it(tmp_path, photo):
    held = Files(tmp_path).find("photos/lamp 1.png").text
    place = tmp_path / "dest" / references.place_of(file_name(held))
    place.parent.mkdir(parents=True)
    place.write_bytes(png(colour=1))
    services = world(tmp_path, asked := Provider(), provider="apimaster")

    fact = await sent(services, tmp_path, held, model="gpt-image-2")

    assert (fact.code, asked.submits.total()) == ("reference_unreadable", 0)
    assert "other bytes" in fact.message


async def test_an_object_is_signed_where_it_lies_at_the_moment_of_the_submit(tmp_path):
    asked = []

    class Signing:
        def presign(self, key, seconds):
            asked.append((key, seconds))
            return f"https://signed.example/{key}?sig={len(asked)}"

    def on_submit(wanted):
        asked.append(wanted["imageUrls"])
        return answer({"code": 0, "data": {"taskId": "t"}})

    services = world(tmp_path, Provider(on_submit=on_submit))
    services.destinations.opener = lambda dest: Signing() if dest == "s3://shop-img" else open_store(dest)

    await sent(services, tmp_path, "s3://shop-img/refs/a.png")

    assert asked == [("refs/a.png", stage.ADDRESS_LIFE), ["https://signed.example/refs/a.png?sig=1"]]
    assert stage.ADDRESS_LIFE >= 6 * 3600


@pytest.mark.parametrize(("retryable", "code"), [(True, "reference_unreachable"), (False, "reference_unreadable")])
async def test_an_object_that_cannot_be_signed_fails_its_row_with_the_buckets_words(
    tmp_path, monkeypatch, retryable, code
):
    class Refusing:
        def presign(self, *_):
            raise StoreError(code="bucket_denied", message="s3://b: 403 AccessDenied", retryable=retryable)

    monkeypatch.setattr(submit_stage, "REFERENCE_WAIT", 0.0)
    services = world(tmp_path, provider := Provider())
    services.destinations.opener = lambda dest: Refusing() if dest == "s3://b" else open_store(dest)

    fact = await sent(services, tmp_path, "s3://b/x.png")

    assert (fact.code, provider.submits.total()) == (code, 0)
    assert "AccessDenied" in fact.message


def test_bytes_are_kept_within_their_bound_and_the_newest_stay():
    recent = Recent(most=10)
    for name in "abca":
        recent.keep(name, name.encode() * 4)
        recent.get("a")

    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (b"aaaa", None, b"cccc")
    recent.keep("d", bytes(11))
    assert recent.get("d") is None


async def test_a_picture_that_many_rows_are_made_from_is_read_once(tmp_path, photo):
    held = Files(tmp_path).find("photos/lamp 1.png").text
    bring(open_store(str(tmp_path / "dest")), Files(tmp_path), [held])
    services = world(tmp_path, Provider(), provider="apimaster")
    (reads, store), intent = ([], open_store(str(tmp_path / "dest"))), SimpleNamespace(batch_id=1)
    read = store.read
    store.read = lambda path: (reads.append(path), read(path))[1]
    services.destinations.opener = lambda _: store
    stock(services, tmp_path, [row(0)])
    asked, dest_of = [], services.ledger.dest_of
    services.ledger.dest_of = lambda batch_id: (asked.append(batch_id), dest_of(batch_id))[1]
    services.ledger.batches = lambda: pytest.fail("every batch was read to find one")

    contents = [await stage._content(services, intent, held) for _ in range(5)]
    sizes = [await stage._size(services, intent, held) for _ in range(5)]

    assert (len(reads), set(contents)) == (1, {photo.read_bytes()})
    assert (len(asked), set(sizes)) == (1, {photo.stat().st_size})


async def test_a_destination_that_is_away_holds_a_row_up_and_does_not_fail_it(tmp_path, photo):
    class Away:
        def look(self, _):
            raise StoreError(code="bucket_failing", message="503", retryable=True)

        presign = look

    services = world(tmp_path, provider := Provider(), provider="apimaster")
    services.destinations.opener = lambda _: Away()

    fact = await sent(services, tmp_path, Files(tmp_path).find("photos/lamp 1.png").text, model="gpt-image-2")

    assert (fact.code, fact.retry_after, provider.submits.total()) == ("not_sent", submit_stage.LATER, 0)
    ((state, _),) = services.ledger.progress("b").jobs.items()
    assert state is Job.READY


def test_a_row_with_a_file_is_not_moved_to_a_provider_that_needs_an_address(tmp_path, photo):
    services = world(tmp_path, Provider())
    asked = Request(prompt="lamp", model="gpt-image-2", resolution="1k", references=("https://a.example/x.png",))
    held = dataclasses.replace(asked, references=(Files(tmp_path).find("photos/lamp 1.png").text,))

    assert [route.provider for route in services.ledger.routes(asked)] == ["maxapi.io"]
    assert services.ledger.routes(held) == []


# -- the whole command ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers():
    with any_server.serving() as books:
        yield books


@pytest.fixture
def books(servers):
    servers.forget()
    return servers


def shell(environment, *arguments):
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    quick = {"LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1"}
    for account in any_server.VARIABLES.values():
        quick |= {f"LIGHTFAST_ACCOUNTS__{account}__FIRST_POLL_AFTER": "0.2"}
        quick |= {f"LIGHTFAST_ACCOUNTS__{account}__POLL_EVERY": "0.2"}
    return command.lightfast(*arguments, environment=plain | quick | environment)


def write(name, *rows):
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("key", "prompt", "provider", "image_urls"), restval="")
        writer.writeheader()
        writer.writerows(rows)


def seen_by(order):
    """The bytes of each reference, as the provider would have them."""
    for reference in order.references:
        if isinstance(reference, bytes):
            yield reference
        elif reference.startswith("data:"):
            yield base64.b64decode(reference.partition(",")[2])
        else:
            with urllib.request.urlopen(reference) as found:
                yield found.read()


def test_each_provider_is_given_the_very_bytes_of_a_local_file_and_of_an_object(books, s3, photo, tmp_path):
    s3.client.put_object(Bucket=s3.name, Key="refs/own.png", Body=(own := png(colour=3)))
    cell = json.dumps(["photos/lamp 1.png", f"{s3.url}/refs/own.png"])
    write(
        "refs.csv", *({"key": name, "prompt": f"p {name}", "provider": name, "image_urls": cell} for name in EVERYONE)
    )
    environment = books.environment() | s3.server.environment
    run = ("run", "refs.csv", "--to", f"{s3.url}/spring", "--yes", "--check-urls", "--json")

    done = shell(environment, *run)

    assert (done.returncode, books.complaints) == (0, []), done.stderr
    assert {order.provider for order in books.orders} == EVERYONE
    for order in books.orders:
        assert list(seen_by(order)) == [photo.read_bytes(), own]
    held = [key for key in s3.keys("spring/.lightfast/references/") if key]
    assert held == [f"spring/.lightfast/references/{hashlib.sha256(photo.read_bytes()).hexdigest()}.png"]

    assert shell(environment, *run).returncode == 0
    assert len(books.orders) == 3, "the same rows, under addresses that are signed anew, are not paid again"
    photo.write_bytes(png(colour=4))
    changed = shell(environment, *run)
    assert (changed.returncode, len(books.orders)) == (2, 3)
    assert "3 rows have changed" in changed.stderr


def test_links_that_do_not_work_are_found_by_check_urls_and_each_is_asked_once(books, tmp_path):
    good, gone = f"{books.ports['cdn']}/ref.png", f"{books.ports['cdn']}/gone.png"
    page = f"{books.ports['cdn']}/page.png"
    books.files["/page.png"] = b"<html>here was a picture</html>" * 10
    rows = [{"key": f"k{n}", "prompt": "p", "image_urls": [good, gone, page][n % 3]} for n in range(9)]
    write("refs.csv", *rows)

    plain = shell(books.environment(), "plan", "refs.csv", "--to", "out", "--json")
    looked = shell(books.environment(), "plan", "refs.csv", "--to", "out", "--json", "--check-urls")

    assert plain.returncode == 0
    assert looked.returncode == 2
    bad = json.loads(looked.stdout)["bad"]
    assert [(each["line"], each["column"], each["value"]) for each in bad] == [
        (line, "image_urls", gone if line % 3 == 0 else page) for line in (3, 4, 6, 7, 9, 10)
    ]
    assert "404" in bad[0]["legal"]
    assert bad[1]["legal"] == "gives no PNG, JPEG or WebP"
    assert books.posts == []


def test_a_missing_file_ends_with_2_before_anything_is_written(books, tmp_path):
    write("refs.csv", {"key": "a", "prompt": "p", "image_urls": "photos/gone.png"})

    refused = shell(books.environment(), "run", "refs.csv", "--to", "out", "--yes")

    assert (refused.returncode, books.posts) == (2, [])
    assert 'line 2, key a, column image_urls: "photos/gone.png". no such file: ' in refused.stderr
    assert not Path("out").exists()
    assert not Path("lightfast.db").exists()


def test_the_words_of_a_file_survive_its_hash():
    held = as_file("a#b.png", "0" * 64, "png")

    assert (words_of(held), file_name(held)) == ("a#b.png", "0" * 64 + ".png")
    assert (words_of("https://a.example/x"), file_name("a.png")) == ("https://a.example/x", None)


def test_a_sidecar_names_a_local_file_with_the_hash_of_its_bytes_and_a_link_without_its_signature():
    local = as_file("photos/lamp.png", "0" * 64, "png")

    assert _without_secrets(local) == local
    assert _without_secrets("https://me:pw@host/a.png?sig=s3cret#x") == "https://host/a.png"


def test_a_text_file_named_by_mistake_is_refused_and_its_content_is_not_shown(tmp_path):
    (tmp_path / ".env").write_text("MAXAPI_IO_API_KEY=sk-secret-of-a-test")

    with pytest.raises(ValueError, match="no whole PNG, JPEG or WebP") as refused:
        Files(tmp_path).find(".env")

    assert "secret" not in str(refused.value)
