"""A ledger of version 0.1.0 is opened, read and worked on by today's program.

The file was made by commit 15c585b with `lightfast run lamps.csv --sandbox --to out --model gpt-image-2`: three rows
are done, one was refused by moderation, and of one nobody knows whether it was accepted.
"""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
from pathlib import Path

import pytest

from jobs.ledger import open_ledger
from jobs.ledger.database.opening import HEAD
from jobs.states import JobState
from tests.support import ROOT
from tests.support.shop_ledger import call, document

RELEASED = ROOT / "tests" / "support" / "files" / "ledger-0.1.0.db.gz"
ROWS = {
    "lamp": ("a green lamp", JobState.DONE),
    "sofa": ("a red sofa [drop]", JobState.HELD),
    "vase": ("a blue vase [refuse moderation]", JobState.FAILED),
    "desk": ("an oak desk", JobState.DONE),
    "rug": ("a wool rug", JobState.DONE),
}
MORE = {"mirror": "a round mirror", "clock": "a wall clock"}


@pytest.fixture
def released(tmp_path) -> Path:
    """The ledger in a folder of its own, with its destination beside it."""
    path = tmp_path / "lightfast-sandbox.db"
    (tmp_path / "out").mkdir()
    path.write_bytes(gzip.decompress(RELEASED.read_bytes()))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batches SET dest = ?", (str(tmp_path / "out"),))
        # The account rested for a second after the unclear answer; this machine's clock may stand before that.
        connection.execute("UPDATE accounts SET paused_until = NULL, submit_tat = 0, poll_tat = 0")
    return path


def test_a_ledger_of_the_version_before_is_read_and_its_batch_goes_on(released, tmp_path):
    with contextlib.closing(open_ledger(f"sqlite:///{released}")) as ledger:
        progress = ledger.reports.progress("lamps")
        results = list(ledger.reports.results("lamps"))
        (unknown,) = ledger.unknowns.all("lamps")
    assert progress.jobs == {JobState.DONE: 3, JobState.HELD: 1, JobState.FAILED: 1}
    assert (progress.images_stored, progress.images_unknown, progress.errors) == (3, 1, {"moderation": 1})
    assert {result.key: (result.request.prompt, result.state) for result in results} == ROWS
    assert all(image.sha256 and image.bytes for result in results for image in result.images if image.path)
    assert (unknown.key, unknown.money) == ("sofa", progress.unknown_money)

    call("unknown", "lamps", "--key", "sofa", "--resolve", "give-up", "--sandbox")
    listed = {**{key: prompt for key, (prompt, _) in ROWS.items()}, **MORE}
    lines = [f"{key},{prompt},{key.title()}" for key, prompt in listed.items()]
    (tmp_path / "lamps.csv").write_text("\n".join(["key,prompt,Title", *lines]) + "\n")
    document("run", "lamps.csv", "--to", "out", "--model", "gpt-image-2", "--yes", "--sandbox", code=3)

    with contextlib.closing(open_ledger(f"sqlite:///{released}")) as ledger:
        after = ledger.reports.progress("lamps")
    assert after.jobs == {JobState.DONE: 5, JobState.FAILED: 2}
    assert after.batch.charged > progress.batch.charged
    assert {path.parent.name for path in (tmp_path / "out").rglob("*.png")} == set(MORE), (
        "what was there is not paid again"
    )


def test_it_has_the_newest_schema_once_it_was_opened(released):
    open_ledger(f"sqlite:///{released}").close()

    with contextlib.closing(sqlite3.connect(released)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
