"""Reference images that are no links, in reach of the provider when their row is sent; and the whole command."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import json
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.errors import StoreError
from jobs.facts import SubmitRefused
from jobs.states import JobState
from providers.references import file_name
from providers.types import Request
from tests.support import command, provider_servers
from tests.support.worker_world import Provider, answer, png, row, stock, world
from worker import references
from worker.references import Files, Recent, bring
from worker.runtime.timings import Timings
from worker.stages import references as stage
from worker.stages import submit as submit_stage
from worker.stages.submit import ClaimedSubmit, submit
from worker.storage.opening import open_store

EVERYONE = frozenset(provider_servers.KEYS)


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photos" / "lamp 1.png"
    file.parent.mkdir()
    file.write_bytes(png(colour=7))
    return file


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
    (intent,) = services.ledger.claims.submits("main", now, lease=lease).intents
    return await submit(services, ClaimedSubmit(intent=intent, boot_until=boot + lease))


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
async def test_an_object_that_cannot_be_signed_fails_its_row_with_the_buckets_words(tmp_path, retryable, code):
    class Refusing:
        def presign(self, *_):
            raise StoreError(code="bucket_denied", message="s3://b: 403 AccessDenied", retryable=retryable)

    services = world(tmp_path, provider := Provider(), timings=Timings(reference_retry=0.0))
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
    asked, dest_of = [], services.ledger.batches.dest_of
    services.ledger.batches.dest_of = lambda batch_id: (asked.append(batch_id), dest_of(batch_id))[1]
    services.ledger.batches.all = lambda: pytest.fail("every batch was read to find one")

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
    ((state, _),) = services.ledger.reports.progress("b").jobs.items()
    assert state is JobState.READY


def test_a_row_with_a_file_is_not_moved_to_a_provider_that_needs_an_address(tmp_path, photo):
    services = world(tmp_path, Provider())
    asked = Request(prompt="lamp", model="gpt-image-2", resolution="1k", references=("https://a.example/x.png",))
    held = dataclasses.replace(asked, references=(Files(tmp_path).find("photos/lamp 1.png").text,))

    assert [route.provider for route in services.ledger.facts.routes(asked)] == ["maxapi.io"]
    assert services.ledger.facts.routes(held) == []


# -- the whole command ---------------------------------------------------------------------------------------------


def shell(environment, *arguments):
    quick = command.account_settings(*provider_servers.VARIABLES.values(), first_poll_after=0.2, poll_every=0.2)
    allowed = command.bare_environment() | {"LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1"}
    return command.lightfast(*arguments, environment=allowed | quick | environment)


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


def test_each_provider_is_given_the_very_bytes_of_a_local_file_and_of_an_object(providers, s3, photo, tmp_path):
    s3.client.put_object(Bucket=s3.name, Key="refs/own.png", Body=(own := png(colour=3)))
    cell = json.dumps(["photos/lamp 1.png", f"{s3.url}/refs/own.png"])
    write(
        "refs.csv", *({"key": name, "prompt": f"p {name}", "provider": name, "image_urls": cell} for name in EVERYONE)
    )
    environment = providers.environment() | s3.server.environment
    run = ("run", "refs.csv", "--to", f"{s3.url}/spring", "--yes", "--check-urls", "--json")

    done = shell(environment, *run)

    assert (done.returncode, providers.complaints) == (0, []), done.stderr
    assert {order.provider for order in providers.orders} == EVERYONE
    for order in providers.orders:
        assert list(seen_by(order)) == [photo.read_bytes(), own]
    held = [key for key in s3.keys("spring/.lightfast/references/") if key]
    assert held == [f"spring/.lightfast/references/{hashlib.sha256(photo.read_bytes()).hexdigest()}.png"]

    assert shell(environment, *run).returncode == 0
    assert len(providers.orders) == 3, "the same rows, under addresses that are signed anew, are not paid again"
    photo.write_bytes(png(colour=4))
    changed = shell(environment, *run)
    assert (changed.returncode, len(providers.orders)) == (2, 3)
    assert "3 rows have changed" in changed.stderr


def test_links_that_do_not_work_are_found_by_check_urls_and_each_is_asked_once(providers, tmp_path):
    good, gone = f"{providers.ports['cdn']}/ref.png", f"{providers.ports['cdn']}/gone.png"
    page = f"{providers.ports['cdn']}/page.png"
    providers.files["/page.png"] = b"<html>here was a picture</html>" * 10
    rows = [{"key": f"k{n}", "prompt": "p", "image_urls": [good, gone, page][n % 3]} for n in range(9)]
    write("refs.csv", *rows)

    plain = shell(providers.environment(), "plan", "refs.csv", "--to", "out", "--json")
    looked = shell(providers.environment(), "plan", "refs.csv", "--to", "out", "--json", "--check-urls")

    assert plain.returncode == 0
    assert looked.returncode == 2
    bad = json.loads(looked.stdout)["bad"]
    assert [(each["line"], each["column"], each["value"]) for each in bad] == [
        (line, "image_urls", gone if line % 3 == 0 else page) for line in (3, 4, 6, 7, 9, 10)
    ]
    assert "404" in bad[0]["legal"]
    assert bad[1]["legal"] == "gives no PNG, JPEG or WebP"
    assert providers.posts == []


def test_a_missing_file_ends_with_2_before_anything_is_written(providers, tmp_path):
    write("refs.csv", {"key": "a", "prompt": "p", "image_urls": "photos/gone.png"})

    refused = shell(providers.environment(), "run", "refs.csv", "--to", "out", "--yes")

    assert (refused.returncode, providers.posts) == (2, [])
    assert 'line 2, key a, column image_urls: "photos/gone.png". no such file: ' in refused.stderr
    assert not Path("out").exists()
    assert not Path("lightfast.db").exists()
