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


# -- another batch name --------------------------------------------------------------------------------------------

HERBST = "../shop/herbst.csv"


@pytest.fixture
def many(shop):
    """The shop has made a dozen rows in batch export, and has them in a file of another name, too."""
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        World(shop, ledger).made(rows(12, prompt="chair"), "export")
    write(shop, rows(12, prompt="chair"), "herbst.csv")
    return shop


@pytest.mark.parametrize(
    "words",
    [
        ["run", HERBST, "--to", "../shop/images", "--yes"],
        ["run", HERBST, "--to", "images", "--yes", "--reuse"],
        ["schedule", "add", "herbst", "@daily", HERBST, "--to", "images", "--budget", "5", "--yes"],
    ],
    ids=["run", "run with --reuse", "schedule add"],
)
def test_under_another_name_nothing_is_bought_either_that_the_ledger_beside_the_manifest_has(many, monkeypatch, words):
    monkeypatch.setattr("cli.flow.register.record", lambda *_, **__: pytest.fail("something was recorded"))
    before = state_of(many)

    with pytest.raises(BadInput) as refused:
        call(monkeypatch, *words)

    told = str(refused.value)
    assert f"{many / 'lightfast.db'} beside the manifest has made 12 of 12 rows to be paid already" in told
    assert "in batch export -> /d/export" in told
    assert f"in the folder {many}," in told
    assert "--new-ledger" in told
    assert state_of(many) == before
    assert not list((many.parent / "elsewhere").glob("*"))


def test_rows_that_the_ledger_above_the_destination_has_made_are_not_bought_again(many, monkeypatch):
    (many / "herbst.csv").rename(many.parent / "elsewhere" / "herbst.csv")
    plan = ["plan", "herbst.csv", "--json"]

    done = call(monkeypatch, *plan, "--to", "../shop/images/large")

    (told,) = json.loads(done.stdout)["reasons"]
    assert f"{many / 'lightfast.db'} above DEST has made 12 of 12 rows" in told
    assert done.exit_code == 2
    assert json.loads(call(monkeypatch, *plan, "--to", "images").stdout)["reasons"] == []


@pytest.mark.parametrize("words", [["--new-ledger"], ["--buy-again"]])
def test_rows_of_another_ledger_are_bought_by_who_says_so(many, monkeypatch, words):
    done = call(monkeypatch, "plan", HERBST, "--to", "../shop/images", "--json", *words)

    assert (done.exit_code, json.loads(done.stdout)["reasons"]) == (0, [])


def test_a_ledger_of_this_folder_that_lacks_the_rows_is_told_so(many, monkeypatch):
    with contextlib.closing(open_ledger("sqlite:///lightfast.db")):
        pass

    told = json.loads(call(monkeypatch, "plan", HERBST, "--json").stdout)["reasons"]

    assert any("does not have batch herbst, would know nothing of what is paid there" in each for each in told)


def test_a_few_rows_that_another_ledger_has_made_are_only_warned_of(many, monkeypatch):
    write(many, [*rows(3, prompt="chair"), *rows(9, first=3, prompt="new")], "herbst.csv")
    plan = ["plan", HERBST, "--to", "images"]

    page = " ".join(call(monkeypatch, *plan).stdout.split())

    assert "lightfast.db beside the manifest has made 3 of 12 rows to be paid already, in batch export" in page
    assert json.loads(call(monkeypatch, *plan, "--json").stdout)["reasons"] == []


def test_images_of_a_rehearsal_in_another_ledger_count_for_no_real_ones(shop, monkeypatch):
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        World(shop, ledger).made(rows(12, prompt="chair"), "export", sandbox=True)
    write(shop, rows(12, prompt="chair"), "herbst.csv")

    assert json.loads(call(monkeypatch, "plan", HERBST, "--to", "images", "--json").stdout)["reasons"] == []


def test_rows_of_a_run_that_goes_on_in_another_ledger_are_seen(many, monkeypatch):
    with contextlib.closing(open_ledger(f"sqlite:///{many / 'lightfast.db'}")) as ledger:
        World(many, ledger).made(rows(12, prompt="table"), "tables")
        assert (many / "lightfast.db-wal").exists()
        write(many, rows(12, prompt="table"), "herbst.csv")

        (told,) = json.loads(call(monkeypatch, "plan", HERBST, "--to", "images", "--json").stdout)["reasons"]

    assert "in batch tables" in told


def test_the_rows_of_a_ledger_of_another_version_cannot_be_read_and_it_is_not_upgraded(many, monkeypatch):
    with contextlib.closing(sqlite3.connect(many / "lightfast.db")) as there:
        there.execute("ALTER TABLE earlier_requests RENAME TO requests_before")
        there.commit()
    before = state_of(many)

    done = call(monkeypatch, "plan", HERBST, "--to", "images")

    assert "lightfast.db beside the manifest cannot be read" in " ".join(done.stdout.split())
    assert state_of(many) == before
