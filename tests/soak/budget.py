"""Sixteen workers and five dollars: the budget is used to the last image that fits, and not by one more."""

from __future__ import annotations

import time
from pathlib import Path

from jobs.ledger import Ledger
from tests.soak.cluster import running_batch
from tests.soak.judge import Findings
from tests.soak.work import NAME

WORKERS = 16
BUDGET, PRICE = 5_000_000, 20_000  # micro-dollars
RATE = 40.0  # submits a second, so that many claim at once
PATIENCE = 240.0  # seconds
STILL = 5.0  # seconds without anything on its way: nobody claims any more
CALM = {"takes": {"default": [0.3, 1.5]}, "pictures": {"tiny": True}}


def soak_budget(folder: Path) -> Findings:
    """`--budget 5 --partial`, one image a row, one price, no faults; twice as many rows as the money allows."""
    found = Findings(title=f"budget: {WORKERS} workers against $5.00, 500 rows at $0.02")
    formation, options = {"worker": WORKERS, "beat": 1}, ("--budget", "5", "--partial")
    with running_batch(
        folder, CALM, formation, RATE, rows=2 * BUDGET // PRICE, providers=("maxapi.io",), options=options
    ) as stage:
        _wait_until_still(stage.ledger)
        money = sum(task["money_micros"] for task in stage.box.tasks())
        found.show("workers", len(stage.running.workers))
        found.show("sandbox charged", f"${money / 1e6:.2f}", must=BUDGET - PRICE < money <= BUDGET)
        charged = stage.ledger.reports.progress(NAME).batch.charged
        found.show("ledger charged", f"${charged / 1e6:.2f}", must=charged == money)
    return found


def _wait_until_still(ledger: Ledger) -> None:
    end, still_since = time.monotonic() + PATIENCE, time.monotonic()
    while time.monotonic() - still_since < STILL:
        progress = ledger.reports.progress(NAME)
        if progress.images_in_flight or progress.images_generated or not progress.images_stored:
            still_since = time.monotonic()
        if time.monotonic() > end:
            raise RuntimeError(f"not still: {progress}")
        time.sleep(0.5)
