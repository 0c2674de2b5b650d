"""The same command run from another folder: the ledger that knows the batch lies beside the manifest."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pytest

from jobs.errors import BadInput
from jobs.ledger import open_ledger
from tests.integration.test_manifests_with_known_rows import call, rows, write
from tests.support.manifest_world import MAIN, World

MANIFEST = "../shop/spring.csv"
PLAN = ["plan", MANIFEST, "--json"]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with a manifest and the ledger that has made its rows; the command runs in a folder beside it."""
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key")
    folder, elsewhere = tmp_path / "shop", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    with contextlib.closing(open_ledger(f"sqlite:///{folder / 'lightfast.db'}")) as ledger:
        ledger.accounts.sync([MAIN])
        World(folder, ledger).made(rows(3))
    write(folder, rows(3), "spring.csv")
    monkeypatch.chdir(elsewhere)
    return folder


def state_of(folder):
    return {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in folder.iterdir()}


def refusals(monkeypatch, *words):
    """Why a plan says that nothing may be bought."""
    done = call(monkeypatch, *PLAN, *words)
    told = [each for each in json.loads(done.stdout)["reasons"] if not each.startswith("--to")]
    assert done.exit_code == (2 if told else 0)
    return told


@pytest.mark.parametrize(
    "words",
    [
        ["run", MANIFEST, "--to", "images", "--yes"],
        ["schedule", "add", "spring", "@daily", MANIFEST, "--to", "images", "--budget", "5", "--yes"],
    ],
    ids=["run", "schedule add"],
)
def test_from_another_folder_nothing_is_bought_that_the_ledger_beside_the_manifest_knows(shop, monkeypatch, words):
    # On the code before, the run is stopped here rather than at a provider.
    monkeypatch.setattr("cli.flow.register.record", lambda *_, **__: pytest.fail("something was recorded"))
    before = state_of(shop)

    with pytest.raises(BadInput) as refused:
        call(monkeypatch, *words)

    assert f"{shop / 'lightfast.db'} beside the manifest has batch spring on record" in str(refused.value)
    assert f"in the folder {shop}," in str(refused.value)
    assert "--new-ledger" in str(refused.value)
    assert state_of(shop) == before
    assert not list((shop.parent / "elsewhere").glob("*"))


def test_a_plan_from_another_folder_says_where_the_ledger_is(shop, monkeypatch):
    (told,) = refusals(monkeypatch)

    assert "beside the manifest has batch spring on record" in told


def test_a_batch_of_a_run_that_goes_on_is_seen(shop, monkeypatch):
    (shop / "lightfast.db").unlink()
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        World(shop, ledger).take(rows(3))
        assert (shop / "lightfast.db-wal").exists()

        assert len(refusals(monkeypatch)) == 1


@pytest.mark.parametrize("words", [["--new-ledger"], ["--batch", "summer"]])
def test_a_new_ledger_that_is_meant_and_another_batch_are_planned(shop, monkeypatch, words):
    assert not refusals(monkeypatch, *words)


def test_a_ledger_that_is_named_is_the_one_that_is_meant(shop, monkeypatch):
    monkeypatch.setenv("LIGHTFAST_DATABASE_URL", "sqlite:///lightfast.db")

    assert not refusals(monkeypatch)


def test_a_ledger_of_this_folder_is_the_one_that_is_meant_for_the_batches_that_it_has(shop, monkeypatch):
    with contextlib.closing(open_ledger("sqlite:///lightfast.db")) as ledger:
        ledger.accounts.sync([MAIN])
        assert "does not have it, would know nothing of what is paid there" in refusals(monkeypatch)[0]
        assert not refusals(monkeypatch, "--new-ledger")
        World(shop, ledger).take(rows(3))

    assert not refusals(monkeypatch)


def test_a_file_that_cannot_be_read_as_a_ledger_is_only_warned_of(shop, monkeypatch):
    (shop / "lightfast.db").write_bytes(b"no database at all" * 1000)

    page = " ".join(call(monkeypatch, "plan", MANIFEST).stdout.split())

    assert "lightfast.db beside the manifest cannot be read" in page
    assert not refusals(monkeypatch)


def test_an_older_ledger_is_read_and_not_upgraded(shop, monkeypatch):
    with contextlib.closing(sqlite3.connect(shop / "lightfast.db")) as there:
        there.execute("UPDATE alembic_version SET version_num = '0001'")
        there.commit()
    before = state_of(shop)

    assert len(refusals(monkeypatch)) == 1
    assert state_of(shop) == before
