"""`lightfast adopt`: when the ledger is lost, what is stored is not paid for again."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.manifest.templates import parse_path
from jobs.planning.adoption import Found, SaidBy, by_metadata, by_sidecar, inventory, path_of, paths_of
from tests.support import command, provider_servers
from worker.recovery.adoption import look
from worker.storage.disk import DiskStore
from worker.storage.ownership_mark import claim_destination

HASH = "0123456789abcdef" * 2


@pytest.fixture
def lightfast(providers, s3):
    environment = command.bare_environment() | providers.environment() | s3.server.environment
    environment |= command.account_settings(*provider_servers.VARIABLES.values(), first_poll_after=0.2)
    environment |= {"LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1"}

    return functools.partial(command.lightfast, environment=environment)


ROWS = [["key", "prompt", "n"], ["heron lamp", "p 0", "2"], ["oslo", "p 1", "1"], ["日本", "p 2", "1"]]


def write(rows):
    with Path("shop.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def lose_the_ledger():
    for file in Path().glob("lightfast.db*"):
        file.unlink()


def paid(providers):
    return sum(order.n for order in providers.orders)


def test_after_a_lost_ledger_the_same_manifest_pays_only_for_what_is_not_there(lightfast, providers, s3):
    dest = f"{s3.url}/spring"
    write(ROWS)
    assert lightfast("run", "shop.csv", "--to", dest, "--yes").returncode == 0
    s3.client.delete_object(Bucket=s3.name, Key=next(filter(lambda key: "heron lamp/1." in key, s3.keys())))
    s3.client.put_object(Bucket=s3.name, Key="spring/shop/cat.png", Body=b"a stranger's")
    before = paid(providers)
    lose_the_ledger()
    assert lightfast("run", "shop.csv", "--to", dest, "--yes").returncode == 2, "the mark stops it"

    asked = lightfast("adopt", dest)
    assert (asked.returncode, Path("lightfast.db").exists()) == (2, False)
    assert "there is no terminal to ask at: add --yes" in asked.stderr
    told = lightfast("adopt", dest, "--yes", "--json")

    assert told.returncode == 0, told.stderr
    (batch,) = json.loads(told.stdout)["batches"]
    assert (batch["batch"], batch["rows"], batch["images"], batch["rows_without_request"]) == ("shop", 3, 3, 0)
    assert json.loads(told.stdout)["foreign"] == 1
    plan = json.loads(lightfast("plan", "shop.csv", "--json").stdout)
    assert (plan["rows"]["done"], plan["rows"]["open"], plan["images"]) == (2, 1, 1)

    done = lightfast("run", "shop.csv", "--to", dest, "--yes")

    assert done.returncode == 0, done.stderr
    assert paid(providers) == before + 1
    lines = list(csv.DictReader(lightfast("results", "shop").stdout.splitlines()))
    assert [(line["key"], line["lf_status"], line["lf_images"]) for line in lines] == [
        ("heron lamp", "done", "2"), ("oslo", "done", "1"), ("日本", "done", "1"),
    ]  # fmt: skip
    assert lightfast("verify", "shop").returncode == 0
    assert lightfast("adopt", dest, "--yes").returncode == 0
    assert lightfast("run", "shop.csv", "--to", dest, "--yes").returncode == 0
    assert paid(providers) == before + 1


def test_a_row_that_asks_for_something_else_by_now_has_changed(lightfast, providers, s3):
    write(ROWS)
    assert lightfast("run", "shop.csv", "--to", s3.url, "--yes").returncode == 0
    lose_the_ledger()
    assert lightfast("adopt", s3.url, "--yes").returncode == 0
    before = paid(providers)

    write([*ROWS[:2], ["oslo", "another prompt", "1"], ROWS[3]])
    refused = lightfast("run", "shop.csv", "--to", s3.url, "--yes")

    assert (refused.returncode, paid(providers)) == (2, before)
    assert "line 3, key oslo" in refused.stderr
    anew = lightfast("run", "shop.csv", "--to", s3.url, "--yes", "--changed", "redo")
    assert anew.returncode == 0, anew.stderr
    assert paid(providers) == before + 1
    assert "oslo/0.r2." in " ".join(s3.keys())


def test_what_is_cut_is_left_out_and_said(lightfast, providers, s3):
    write(ROWS)
    assert lightfast("run", "shop.csv", "--to", s3.url, "--yes").returncode == 0
    (key,) = filter(lambda each: "oslo" in each, s3.keys())
    told = s3.client.head_object(Bucket=s3.name, Key=key)["Metadata"]
    s3.client.put_object(Bucket=s3.name, Key=key, Body=s3.read(key)[:100], Metadata=told)
    lose_the_ledger()

    adopted = lightfast("adopt", s3.url, "--yes")

    assert adopted.returncode == 3
    assert "2 rows on record as stored" in adopted.stdout
    assert "shop/oslo/0." in adopted.stdout
    assert "no whole image" in adopted.stdout


@pytest.mark.parametrize("sidecar", [(), ("--sidecar",)])
def test_a_folder_tells_by_paths_or_better_by_sidecars(lightfast, providers, sidecar):
    write(ROWS)
    run = ("run", "shop.csv", "--to", "out", "--yes", "--path", "{batch}/{key}-{index}.{ext}", *sidecar)
    assert lightfast(*run).returncode == 0
    lose_the_ledger()
    before = paid(providers)

    told = lightfast("adopt", "out", "--yes", "--json")

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["told_by"] == {("sidecar" if sidecar else "path"): 4}
    assert json.loads(told.stdout)["batches"][0]["rows_without_request"] == (0 if sidecar else 3)
    assert lightfast("run", "shop.csv", "--yes", *sidecar).returncode == 0
    assert paid(providers) == before
    write([*ROWS[:2], ["oslo", "another prompt", "1"], ROWS[3]])
    assert lightfast("run", "shop.csv", "--yes").returncode == 2, "from now on a changed row is told"


def test_where_nothing_of_ours_lies_nothing_is_made(lightfast, s3):
    s3.client.put_object(Bucket=s3.name, Key="cat.png", Body=b"x")

    told = lightfast("adopt", s3.url, "--yes")

    assert (told.returncode, Path("lightfast.db").exists()) == (2, False)
    assert "no images of Lightfast; 1 other objects" in told.stderr


def test_a_place_above_the_destination_is_not_taken_for_it(lightfast, providers, s3):
    write(ROWS)
    assert lightfast("run", "shop.csv", "--to", f"{s3.url}/spring/a", "--yes").returncode == 0
    lose_the_ledger()

    told = lightfast("adopt", s3.url, "--yes")

    assert (told.returncode, Path("lightfast.db").exists()) == (2, False)
    assert f"the marks are at {s3.url}/spring/a" in told.stderr


# -- what objects tell ---------------------------------------------------------------------------------------------


def found(path, **changes):
    values = {"batch": "b", "key": "k", "slot": 0, "request_hash": HASH, "path": path, "by": SaidBy.METADATA}
    return Found(**{**values, **changes})


def test_metadata_tell_row_image_and_request():
    told = {"lightfast-batch": "b", "lightfast-key": "k 1", "lightfast-index": "2", "lightfast-request": HASH}

    one = by_metadata("b/k 1/2.r3.png", told, 1200)
    aside = by_metadata("b/k 1/surplus-77.png", told | {"lightfast-index": "0"}, 1200)

    assert (one.key, one.slot, one.revision, one.surplus, one.request_hash) == ("k 1", 2, 3, False, HASH)
    assert (aside.slot, aside.surplus) == (0, True)


class Bucket(DiskStore):
    """A folder that remembers metadata."""

    def put_new(self, path, data, *, content_type, metadata, **_):
        self.told = getattr(self, "told", {}) | {path: metadata}
        return super().put_new(path, data, content_type=content_type)

    def look(self, path):
        return dataclasses.replace(super().look(path), metadata=self.told.get(path, {}))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("shop/k/99999999999999999999999.png", None),
        (os.fsdecode(b"shop/\xff\xfe/0.png"), None),
        ("shop/k/0.png", {"index": -3}),
        ("shop/k/0.png", {"revision": 2**70}),
        ("shop/k/0.png", {"revision": 0}),
        ("shop/k/0.png", {"key": ""}),
        ("shop/k/0.png", {"key": "a\0b"}),
    ],
)
def test_what_no_ledger_can_have_said_counts_as_a_strangers(path, told):
    said = {"batch": "shop", "key": "k", "index": 0, "revision": 1}
    found = paths_of("shop", "{batch}/{key}/{index}.{ext}").find(path)
    if told:
        found = by_sidecar(path, said | told)

    counted = inventory([found])

    assert (counted.rows, counted.foreign) == ({}, 1)


def test_a_damaged_mark_keeps_no_other_batch_from_being_found(tmp_path):
    store = Bucket(tmp_path)
    claim_destination(DiskStore(tmp_path), "shop", "a-ledger", 0.0, path="{nonsense")
    told = {"lightfast-batch": "shop", "lightfast-key": "k", "lightfast-index": "0"}
    store.put_new("shop/k/0.png", b"x", content_type="image/png", metadata=told)

    ((found,),) = look(store).found.rows.values()

    assert found.key == "k"


@pytest.mark.parametrize("key", ["surplus-101", "img0.r2", "0", "x"])
def test_a_key_that_reads_like_a_place_is_not_taken_for_one(tmp_path, key):
    store = Bucket(tmp_path)
    claim_destination(DiskStore(tmp_path), "shop", "a-ledger", 0.0, path="{batch}/{key}/{index}.{ext}")
    names = {"0.png": 0, "1.png": 1, "1.r2.png": 1, "0.r2~2.png": 0, "surplus-7.png": 0}
    for name, slot in names.items():
        told = {"lightfast-batch": "shop", "lightfast-key": key, "lightfast-index": str(slot)}
        store.put_new(f"shop/{key}/{name}", b"x", content_type="image/png", metadata=told)

    ((found,),) = look(store).found.rows.values()

    assert (found.key, found.revision) == (key, 2)
    assert [(one.revision, one.slot, one.surplus) for one in found.images] == [
        (1, 0, False), (1, 1, False), (2, 0, False), (2, 1, False), (1, 0, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"lightfast-batch": "b", "lightfast-key": "k"},
        {"lightfast-batch": "b", "lightfast-key": "k", "lightfast-index": "x"},
        {"lightfast-batch": "b", "lightfast-key": "k" * 400, "lightfast-index": "0"},
    ],
)
def test_metadata_that_are_not_whole_tell_nothing(told):
    assert by_metadata("b/k/0.png", told, 1200) is None


def test_a_sidecar_of_another_file_tells_nothing():
    told = {"batch": "b", "key": "k", "index": 0, "revision": 1, "file": "b/k/0.png", "request_hash": HASH}

    assert by_sidecar("b/k/0.png", told).request_hash == HASH
    assert by_sidecar("b/k/1.png", told) is None
    assert by_sidecar("b/k/0.png", told | {"index": "0"}) is None


KEYS = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/"), min_size=1, max_size=20)
TEMPLATES = st.sampled_from(
    ["{batch}/{key}/{index}.{ext}", "{key}/{index}.{ext}", "{batch}/{key}-{index}.{ext}", "{key}.{index}.{ext}"]
)


@given(KEYS, TEMPLATES, st.integers(0, 99), st.integers(1, 12), st.sampled_from(["", "~2"]))
def test_a_path_is_read_back_as_it_was_made(key, template, slot, revision, twin):
    if key.strip(".") == "" or key.startswith("."):
        return  # no legal path
    rendered = parse_path(template, batch="b", prefix="").render({}, key)
    index = str(slot) if revision == 1 else f"{slot}.r{revision}"
    path = rendered.format(index=index, ext="png")
    path = f"{path.removesuffix('.png')}{twin}.png"

    one = paths_of("b", template).find(path)

    assert one is not None
    assert (one.key, one.slot, one.revision) == (key, slot, revision)
    assert path_of(one).format(index=index, ext="png") == path.replace("~2.png", ".png")


def test_rows_are_put_together_from_their_images_and_the_newest_revision_stands():
    told = inventory(
        [
            found("b/k/0.png", request_hash="1" * 32),
            found("b/k/1.png", slot=1, request_hash="1" * 32),
            found("b/k/0.r2.png", revision=2),
            found("b/k/0.r2~2.png", revision=2),
            found("b/k/surplus-9.png", surplus=True),
            found("b/l/0.png", key="l", request_hash=None),
            None,
        ]
    )

    one, other = told.rows["b"]
    assert (one.key, one.revision, one.request_hash, len(one.images)) == ("k", 2, HASH, 4)
    assert [image.path for image in one.images if image.revision == 2] == ["b/k/0.r2~2.png"]
    assert other.request_hash is None
    assert (told.doubles, told.foreign, told.mixed) == (1, 1, 0)
    assert Counter(told.by) == {SaidBy.METADATA: 6}
