"""`lightfast verify`: what is missing or changed is found, copied again for nothing, or told with what helps."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from jobs.policy.verification import Finding, ObjectCondition, Remedy, Report, StoredCopy, judge_entry, remedy
from tests.support import command, provider_servers
from worker.runtime.executors import side_by_side

NOW = 1_000_000.0


@pytest.fixture
def providers(providers):
    providers.manners.forms = False  # every image has a link
    return providers


@pytest.fixture
def lightfast(providers):
    accounts = command.account_settings(*provider_servers.VARIABLES.values(), first_poll_after=0.2)
    environment = command.bare_environment() | providers.environment() | accounts
    environment |= {"LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1"}

    def call(*arguments, **more):
        return command.lightfast(*arguments, environment=environment | more)

    return call


def made(lightfast, dest, count=6, **environment):
    with Path("shop.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["key", "prompt"], *([f"k{n}", f"p {n}"] for n in range(count))])
    done = lightfast("run", "shop.csv", "--to", dest, "--yes", **environment)
    assert done.returncode == 0, done.stderr


def found(process):
    return {(each["key"], each["condition"]): each for each in json.loads(process.stdout)["images"]}


@pytest.mark.parametrize("how", [(), ("--quick",), ("--deep",)])
def test_what_is_there_as_it_was_left_is_sound(lightfast, how):
    made(lightfast, "out", 3)

    told = lightfast("verify", "shop", *how, "--json")

    assert told.returncode == 0, told.stderr
    assert {name: json.loads(told.stdout)[name] for name in ("checked", "sound", "missing", "changed")} == {
        "checked": 3, "sound": 3, "missing": 0, "changed": 0,
    }  # fmt: skip


def test_in_a_folder_what_is_gone_or_other_is_found_and_copied_again_without_paying(lightfast, providers):
    made(lightfast, "out")
    paid = len(providers.orders)
    images = {n: next(Path("out/shop", f"k{n}").iterdir()) for n in range(6)}
    good = {n: file.read_bytes() for n, file in images.items()}
    images[1].unlink()
    images[2].write_bytes(good[3])
    images[4].write_bytes(good[4][:-1] + bytes([good[4][-1] ^ 1]))

    told = lightfast("verify", "shop", "--json")
    page = lightfast("verify", "shop")

    assert (told.returncode, page.returncode) == (3, 3)
    assert set(found(told)) == {("k1", "missing"), ("k2", "changed"), ("k4", "changed")}
    assert {each["remedy"] for each in found(told).values()} == {"copy"}
    assert "6 images at" in page.stdout
    assert "3 sound, 1 missing, 2 changed" in page.stdout
    assert "lightfast verify shop --repair" in page.stdout

    mended = lightfast("verify", "shop", "--repair", "--json")

    assert mended.returncode == 0, mended.stderr
    assert json.loads(mended.stdout)["repaired"] == {"sent_back": 3, "stored": 3, "lost": 0, "waiting": 0}
    assert len(providers.orders) == paid
    assert images[1].read_bytes() == good[1]
    assert images[2].read_bytes() == good[3], "what somebody put there is left alone"
    assert images[2].with_stem("0~2").read_bytes() == good[2]
    assert lightfast("verify", "shop").returncode == 0
    assert lightfast("run", "shop.csv", "--to", "out", "--yes").returncode == 0
    assert len(providers.orders) == paid
    assert "copied again" in lightfast("why", "shop", "k1").stdout


def test_in_a_bucket_a_quick_look_sees_what_is_gone_cut_or_another_image(lightfast, providers, s3):
    dest = f"{s3.url}/spring"
    made(lightfast, dest, **s3.server.environment)
    first, second, third = (s3.keys(f"spring/shop/k{n}/")[0] for n in range(3))
    s3.client.delete_object(Bucket=s3.name, Key=first)
    s3.client.put_object(Bucket=s3.name, Key=second, Body=b"short")
    size = len(s3.read(third))
    s3.client.put_object(Bucket=s3.name, Key=third, Body=bytes(size), Metadata={"lightfast-key": "other"})

    told = lightfast("verify", "shop", "--quick", "--json", **s3.server.environment)

    assert told.returncode == 3, told.stderr
    assert set(found(told)) == {("k0", "missing"), ("k1", "changed"), ("k2", "changed")}
    mended = lightfast("verify", "shop", "--repair", **s3.server.environment)
    assert mended.returncode == 0, mended.stdout
    assert "3 stored again" in mended.stdout


def test_an_image_whose_link_is_dead_everywhere_is_lost_and_the_command_that_remakes_it_is_told(lightfast, providers):
    made(lightfast, "out", 3)
    next(Path("out/shop/k1").iterdir()).unlink()
    next(Path("out/shop/k2").iterdir()).write_bytes(b"drawn over by a person")
    paid = len(providers.orders)
    providers.files.clear()
    with sqlite3.connect("lightfast.db") as ledger:  # eight days later
        ledger.execute("UPDATE images SET expires_at = 1000")

    told = lightfast("verify", "shop", "--repair")

    assert told.returncode == 3
    assert "1 lost, for no link lives" in told.stdout
    assert "to pay for the lost again:  lightfast retry shop" in told.stdout
    assert "redo shop --key k2" in told.stdout
    assert len(providers.orders) == paid
    states = Counter(row["lf_status"] for row in csv.DictReader(lightfast("results", "shop").stdout.splitlines()))
    assert states == {"done": 2, "lost": 1}


def test_a_repair_submits_nothing_that_waits(lightfast, providers):
    made(lightfast, "out", 2)
    with Path("shop.csv").open("a", encoding="utf-8") as file:
        file.write("k9,waits\n")
    stopped = lightfast("run", "shop.csv", "--to", "out", "--yes", "--stop-after", "0s")
    next(Path("out/shop/k1").iterdir()).unlink()
    paid = len(providers.orders)

    mended = lightfast("verify", "shop", "--repair")

    assert (stopped.returncode, mended.returncode) == (4, 0), stopped.stderr
    assert len(providers.orders) == paid


def test_a_bucket_that_is_gone_says_so_and_calls_no_image_missing(lightfast, s3):
    made(lightfast, s3.url, 2, **s3.server.environment)
    every = s3.keys()
    for key in every:
        s3.client.delete_object(Bucket=s3.name, Key=key)
    s3.client.delete_bucket(Bucket=s3.name)

    told = lightfast("verify", "shop", **s3.server.environment)

    assert told.returncode == 1
    assert "bucket_missing" in told.stderr


def test_no_more_is_taken_on_than_can_be_done_at_once():
    taken, most = [], []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    for done, _ in enumerate(side_by_side(str, items(), 4), 1):
        most.append(len(taken) - done)

    assert (len(taken), len(most)) == (50, 50)
    assert max(most) <= 4 + 3


def kept(**changes):
    values = {"image_id": 1, "key": "k", "slot": 0, "revision": 1, "surplus": False, "path": "b/k/0.png"}
    return StoredCopy(
        **{
            **values,
            "sha256": "a" * 64,
            "size": 10,
            "link_dies_at": NOW + 1,
            "is_planned": True,
            "has_task": True,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("condition", "changes", "helps"),
    [
        (ObjectCondition.MISSING, {}, Remedy.COPY),
        (ObjectCondition.CHANGED, {}, Remedy.COPY),
        (ObjectCondition.MISSING, {"link_dies_at": NOW - 1}, Remedy.COPY),
        (ObjectCondition.CHANGED, {"link_dies_at": NOW - 1}, Remedy.REDO),
        (ObjectCondition.MISSING, {"has_task": False}, Remedy.REDO),
        (ObjectCondition.UNREADABLE, {}, Remedy.LATER),
    ],
)
def test_what_helps(condition, changes, helps):
    finding = Finding(kept=kept(**changes), condition=condition, reason="")

    assert remedy(finding, NOW) is helps


def test_a_store_that_keeps_no_metadata_is_believed_by_size_alone():
    expected = {"lightfast-key": "k"}

    assert judge_entry(kept(), 10, {}, expected) is None
    assert judge_entry(kept(), 10, expected, expected) is None
    assert judge_entry(kept(), 9, expected, expected) == "9 bytes instead of 10"
    assert judge_entry(kept(), 10, {"lightfast-key": "l"}, expected) == "it says to be another image (lightfast-key)"


def test_sound_images_are_only_counted():
    report = Report()
    report.add(None for _ in range(1000))

    assert (report.checked, report.findings) == (1000, [])
    assert kept(slot=2, revision=3, surplus=True).name == "2.r3 (surplus)"
