"""`lightfast adopt` where paths alone do not tell which batch an image is of."""

from __future__ import annotations

import pytest

from cli.commands.adopt import adopt
from jobs.errors import BadInput
from worker.recovery.adoption import look
from worker.storage.disk import DiskStore
from worker.storage.ownership_mark import claim_destination

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def folder(tmp_path):
    def of(*batches):
        for name, path in batches:
            claim_destination(DiskStore(tmp_path), name, "a-ledger", 0.0, path=path)
        return DiskStore(tmp_path)

    return of


def left(store, *paths):
    for path in paths:
        store.put_new(path, b"x", content_type="image/png")


@pytest.mark.parametrize("only", ["", "shop"])
def test_images_that_two_batches_may_have_left_are_not_shared_out_by_chance(tmp_path, folder, monkeypatch, only):
    store = folder(("shop", "{key}/{index}.{ext}"), ("spring", "{key}/{index}.{ext}"))
    left(store, "heron/0.png", "heron/0~2.png", "oslo/0.png")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BadInput) as refused:
        adopt(str(tmp_path), batch=only, yes=True)

    assert "3 images may be of batch shop or spring, and nothing but their paths tells" in str(refused.value)
    assert "heron/0.png" in str(refused.value)
    assert "Nothing was recorded" in str(refused.value)
    assert not (tmp_path / "lightfast.db").exists()


def test_what_names_its_batch_is_taken_for_that_one(folder):
    store = folder(("shop", "{batch}/{key}/{index}.{ext}"), ("spring", "{Season}/{key}/{index}.{ext}"))
    left(store, "shop/heron/0.png", "may/oslo/0.png")

    shelf = look(store)

    assert {name: [row.key for row in rows] for name, rows in shelf.found.rows.items()} == {
        "shop": ["heron"], "spring": ["oslo"],
    }  # fmt: skip
    assert not shelf.found.unclear


def test_a_batch_whose_images_are_told_apart_can_be_taken_by_itself(folder):
    alike = ("shop", "{key}/{index}.{ext}"), ("spring", "{key}/{index}.{ext}")
    store = folder(*alike, ("lamps", "{batch}/{key}-{index}.{ext}"))
    left(store, "heron/0.png", "lamps/oslo-0.png")

    shelf = look(store, "lamps")

    assert list(shelf.found.rows) == ["lamps"]
    assert not shelf.found.unclear
