"""What is told of a batch that was adopted after its ledger was lost: its money, and how a lost image is made anew."""

from __future__ import annotations

import contextlib
import shlex
import time

import pytest

from jobs.ledger import open_ledger
from jobs.ledger.batches.adopted_values import AdoptedImage, AdoptedRow
from jobs.ledger.batches.values import NewBatch
from tests.support import stocked_ledger
from tests.support.shop_ledger import a_row, call, document

KEY = "heron lamp"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-of-a-test")
    (tmp_path / "my out").mkdir()
    return tmp_path


@pytest.fixture
def ledger(folder):
    """It has adopted one image, which is not there any more."""
    facts = {"sha256": "b" * 64, "bytes": 9, "width": 4, "height": 4, "format": "png", "stored_at": time.time() - 9}
    image = AdoptedImage(slot=0, revision=1, surplus=False, path="shop/lamp/0.png", **facts)
    row = AdoptedRow(key=KEY, request_hash=None, revision=1, path="shop/lamp/{index}.{ext}", images=(image,))
    with contextlib.closing(open_ledger(f"sqlite:///{folder / 'lightfast.db'}")) as ledger:
        ledger.accounts.sync([stocked_ledger.account()])
        ledger.batches.adopt(batch(folder), [row], time.time())
        yield ledger


def batch(folder):
    return NewBatch(name="shop", dest=str(folder / "my out"), path="", columns=(), source="adopted", budget=None)


@pytest.mark.usefixtures("ledger")
def test_what_adopted_images_cost_is_not_on_record_and_not_nothing():
    one, every = call("status", "shop").stdout, call("status").stdout

    assert "not on record spent (list prices, without the adopted images)" in one
    assert "not on record" in every
    assert "$0.00" not in one + every
    assert document("status", "shop")["has_adopted"]


def test_a_batch_that_nobody_adopted_tells_its_money(folder):
    with contextlib.closing(open_ledger(f"sqlite:///{folder / 'lightfast.db'}")) as ledger:
        ledger.batches.record_manifest(batch(folder), [a_row(0, KEY)], now=time.time())

    assert "$0.00 spent (list prices)" in call("status", "shop").stdout
    assert not document("status", "shop")["has_adopted"]


def test_verify_names_what_makes_a_lost_image_anew_also_before_the_manifest_was_run_again(folder, ledger):
    lines = call("verify", "shop", code=3).stdout.splitlines()

    commands = [shlex.split(line) for line in lines if line.strip().startswith("lightfast ")]
    assert commands == [
        ["lightfast", "run", "MANIFEST", "--batch", "shop", "--to", str(folder / "my out")],
        ["lightfast", "redo", "shop", "--key", KEY],
    ]
    assert "Run its manifest again first" in str(refusal(*commands[1][1:]))

    ledger.batches.record_manifest(batch(folder), [a_row(0, KEY)], now=time.time())

    lines = call("verify", "shop", code=3).stdout.splitlines()
    (again,) = [shlex.split(line) for line in lines if line.strip().startswith("lightfast ")]
    assert again == commands[1]
    assert "redo would spend at most $" in str(refusal(*again[1:])), "nothing but the consent is missing"


def refusal(*words):
    with pytest.raises(Exception, match=r"\w") as refused:
        call(*words)
    return refused.value
