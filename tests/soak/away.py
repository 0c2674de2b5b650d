"""A worker stopped for longer than its leases, a PostgreSQL that is gone for a minute, a disk that is full."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox import launch
from sandbox.launch import Box
from tests.soak.cluster import running_batch, stored_by, wait_until_over
from tests.soak.judge import Findings, after_the_kills, books, files_of, in_the_end, look_at
from tests.soak.local import settle
from tests.soak.work import Batch, make_batch, scenario, write_settings

FORMATION = {"web": 1, "worker": 2, "beat": 1}
ROWS_A_SECOND = 12.0
#: Answers take so long that many submits are on their way at any moment.
ANSWERS = {"answer_seconds": {"default": [1.0, 2.0]}}
OUTAGE = 60.0  # seconds
FULL = 20.0  # seconds
DISK = "48m"
AFTERWARDS = 30.0  # seconds in which a worker that goes on may show what it still does
QUIET: dict[str, list[object]] = {"rules": []}


def soak_frozen(folder: Path, *, rows: int, seed: int) -> Findings:
    """Stopped in the middle of submits; its rows are paid again meanwhile; then it goes on."""
    found = Findings(title=f"frozen: one of two workers stopped (SIGSTOP) beyond its leases, {rows} rows at maxapi.io")
    plan = {**scenario(seed), **ANSWERS, **QUIET}
    with running_batch(folder, plan, FORMATION, ROWS_A_SECOND, rows=rows, providers=("maxapi.io",)) as stage:
        box, batch = stage.box, stage.batch
        worker = random.Random(seed).choice(stage.running.workers)
        _wait_for_submits(box, rows // 3)
        os.killpg(worker.pid, signal.SIGSTOP)
        began = time.monotonic()
        wait_until_over(stage.ledger)
        listed = batch.listed()
        found.show("submits it held, outcome unknown", len(listed), must=bool(listed), why="it proves nothing so")
        after_the_kills(found, batch, look_at(box, stored_by(stage.running), listed))
        batch.pay_again()
        wait_until_over(stage.ledger)
        before = box.stats()["total"]["submits"]
        os.killpg(worker.pid, signal.SIGCONT)
        found.show("seconds stopped", f"{time.monotonic() - began:.0f}")
        time.sleep(AFTERWARDS)
        more = box.stats()["total"]["submits"] - before
        found.show("submits after it went on", more, must=more == 0)
        settle(box)
        last = look_at(box, stored_by(stage.running), ())
        in_the_end(found, batch, last, len(listed))
        forgotten = {task["id"] for task in last.tasks} - set(batch.audited())
        found.show("accepted tasks without a record", len(forgotten), must=not forgotten)
        books(found, last, batch.money(), batch.audited())
    return found


def soak_outage(folder: Path, *, rows: int, seed: int) -> Findings:
    """PostgreSQL dies in the middle and comes back after a minute; nobody is killed beside it."""
    found = Findings(title=f"outage: PostgreSQL gone for {OUTAGE:.0f} s, {rows} rows at three providers")
    plan = {**scenario(seed), **ANSWERS, **QUIET}
    providers = ("maxapi.io", "maxapi.dev", "apimaster")
    with running_batch(folder, plan, FORMATION, ROWS_A_SECOND / 3, rows=rows, providers=providers) as stage:
        box, batch = stage.box, stage.batch
        _wait_for_submits(box, rows // 3)
        stage.running.database.kill()
        time.sleep(OUTAGE)
        found.show("rows sent when it came back", box.stats()["total"]["accepted"])
        stage.running.database.start()
        wait_until_over(stage.ledger)
        settle(box)
        _show_all(found, batch, box, stored_by(stage.running))
    return found


def _show_all(found: Findings, batch: Batch, box: Box, stored: dict[str, list[bytes]]) -> None:
    listed = batch.listed()
    found.show("outcomes nobody knows", len(listed), must=not listed, why=listed)
    look = look_at(box, stored, listed)
    after_the_kills(found, batch, look)
    books(found, look, batch.money(), batch.audited())


def _wait_for_submits(box: Box, count: int) -> None:
    end = time.monotonic() + 120
    while box.stats()["total"]["submits"] < count:
        if time.monotonic() > end:
            raise RuntimeError("the workers send nothing")
        time.sleep(0.05)


def soak_full_disk(folder: Path, *, rows: int, seed: int) -> Findings:
    """The disk with the ledger and the images is full for a while, in the middle; then there is room again."""
    found = Findings(title=f"full disk: ledger and images on a disk that is full for {FULL:.0f} s, {rows} rows")
    with launch.running({**scenario(seed), **ANSWERS, **QUIET}) as box, _small_disk(folder) as is_small:
        if not is_small:
            found.show("left out", "this user may not mount a small disk")
            return found
        batch = make_batch(folder, rows)
        write_settings(folder, box.url, ROWS_A_SECOND / 3)
        process = batch.start_run()
        _wait_for_submits(box, rows // 3)
        _fill(folder / "ballast")
        time.sleep(FULL)
        sent, went_on = box.stats()["total"]["accepted"], process.poll() is None
        (folder / "ballast").unlink()
        said = process.communicate()[1]
        found.show("rows sent when there was room again", sent)
        found.show("the run went on by itself", went_on, why=said)
        batch.run()
        settle(box)
        _show_all(found, batch, box, files_of(folder / "dest" / "soak"))
    return found


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A disk of its own at that folder, in memory; False where only root may have one."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
