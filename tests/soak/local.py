"""`lightfast run` killed again and again, started again each time, in one folder with a SQLite ledger."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox import launch, servers
from tests.soak.judge import Findings, after_the_kills, books, files_of, in_the_end, look_at
from tests.soak.work import PROVIDERS, Batch, make_batch, scenario, write_settings
from tests.support.command import Started

#: Seconds of work between two kills, on the average, and by how much slower than that the batch is sent.
BETWEEN, SLOWER = 0.75, 2.0
EARLY = 0.2  # the share of kills that strike while the command starts
ROUNDS = 6  # answers are cut off in the later rounds too
IDLE = 3.0  # seconds without a submit after which it is killed at what else it does


def soak(folder: Path, *, rows: int, kills: int, seed: int) -> Findings:
    """Three providers, no webhooks."""
    found = Findings(title=f"local: `lightfast run`, {rows} rows, {len(PROVIDERS)} providers")
    began = time.monotonic()
    last = {"trouble": "stuck", "prompt": f"picture {rows - 1}"}  # so it is never over before the last kill
    plan = scenario(seed)
    with launch.running({**plan, "rules": [*plan["rules"], last]}) as box:
        batch = make_batch(folder, rows)
        write_settings(folder, box.url, _rate(rows, kills, len(PROVIDERS)))
        struck = kill_again_and_again(batch, box, kills, random.Random(seed))
        found.show("kills -9 while it ran", struck, must=struck >= kills)
        box.arrange(plan)
        box.finish()
        batch.run()
        listed = batch.listed()
        settle(box)
        after_the_kills(found, batch, look_at(box, files_of(folder / "dest" / "soak"), listed))
        listed_ever = pay_again_until_nothing_is_unknown(batch, listed)
        settle(box)
        last = look_at(box, files_of(folder / "dest" / "soak"), ())
        in_the_end(found, batch, last, listed_ever)
        books(found, last, batch.money(), batch.audited())
        found.show("polls that failed on order, about", f"{0.05 * box.stats()['total']['polls']:.0f}")
    found.show("seconds", f"{time.monotonic() - began:.0f}")
    return found


def soak_with_and_without_webhooks(folder: Path, *, rows: int, kills: int, seed: int) -> list[Findings]:
    """The same rows, kills and chance; MaxAPI.io alone calls back."""
    without = _unknowns(folder / "without", rows=rows, kills=kills, seed=seed, webhooks=False)
    with_them = _unknowns(folder / "with", rows=rows, kills=kills, seed=seed, webhooks=True)
    fewer = with_them[1] < without[1] or without[1] == 0
    with_them[0].show("unknowns with and without webhooks", f"{with_them[1]} and {without[1]}", must=fewer)
    return [without[0], with_them[0]]


def _unknowns(folder: Path, *, rows: int, kills: int, seed: int, webhooks: bool) -> tuple[Findings, int]:
    title = f"webhooks {'on: `lightfast serve` beside it' if webhooks else 'off'}, {rows} rows at maxapi.io"
    found = Findings(title=title)
    batch = make_batch(folder, rows, ("maxapi.io",))
    port = servers.free_port()
    with launch.running(scenario(seed)) as box, served(batch, port, on=webhooks):
        address = f"http://127.0.0.1:{port}" if webhooks else ""
        write_settings(folder, box.url, _rate(rows, kills, 1), address)
        struck = kill_again_and_again(batch, box, kills, random.Random(seed))
        found.show("kills -9 while it ran", struck, must=struck >= kills)
        batch.run()
        settle(box)
        batch.run()  # callbacks that came when the run had ended are looked after by the next
        listed = batch.listed()
        after_the_kills(found, batch, look_at(box, files_of(folder / "dest" / "soak"), listed))
    return found, len(listed)


@contextlib.contextmanager
def served(batch: Batch, port: int, *, on: bool) -> Iterator[None]:
    """`lightfast serve` on this machine."""
    if not on:
        yield
        return
    write_settings(batch.folder, "http://127.0.0.1:9", 1.0)  # it needs the ledger's address only
    process = batch.start("serve", "--port", str(port), "--host", "127.0.0.1")
    try:
        end = time.monotonic() + 30
        while not servers.listens(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("lightfast serve did not start")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def kill_again_and_again(batch: Batch, box: launch.Box, kills: int, chance: random.Random) -> int:
    """Starts the command and kills it at a random moment, so often; returns how often it was alive to be killed."""
    for struck in range(kills):
        process = batch.start_run()
        if _ended_before(_random_moment(box, process, chance), process):
            _demand_good_end(process)
            return struck
        process.kill()
        process.communicate()
    return kills


def _random_moment(box: launch.Box, process: Started, chance: random.Random) -> float:
    """Seconds from now; but for a few kills, waits first until this process sends."""
    if chance.random() < EARLY:
        return chance.uniform(0.0, 2.0)
    before, end = box.stats()["total"]["submits"], time.monotonic() + IDLE
    while box.stats()["total"]["submits"] == before and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    return chance.uniform(0.0, 2 * BETWEEN)


def _ended_before(seconds: float, process: Started) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    return False


def _demand_good_end(process: Started) -> None:
    said = process.communicate()[1]
    if process.returncode not in (0, 3):
        raise RuntimeError(f"lightfast run ended with {process.returncode}: {said}")


def pay_again_until_nothing_is_unknown(batch: Batch, listed: list[str]) -> int:
    """A person's word on all that is listed, and the same command again; returns how many were ever listed."""
    ever = 0
    for _ in range(ROUNDS):
        ever += len(listed)
        if not listed:
            break
        batch.pay_again()
        batch.run()
        listed = batch.listed()
    return ever


def settle(box: launch.Box) -> None:
    """Until every task the sandbox took has ended, and so is charged."""
    end = time.monotonic() + 60
    while box.stats()["total"]["in_flight"]:
        if time.monotonic() > end:
            raise RuntimeError("tasks do not end")
        time.sleep(0.1)


def _rate(rows: int, kills: int, accounts: int) -> float:
    """Submits a second of each account, so that there is work left at the last kill."""
    return max(1.0, rows / accounts / (max(kills, 1) * BETWEEN * SLOWER))
