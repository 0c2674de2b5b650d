"""Records a manifest in a ledger, as `lightfast run` would before it works; prints what that alone took, as JSON."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from jobs.ledger import open_ledger
from jobs.ledger.batches.values import NewBatch
from jobs.planning import intake
from jobs.settings.sources import load_settings
from worker.registration.options import BatchOptions
from worker.registration.preflight import take


def main(manifest: str, prompt: str, dest: str) -> None:
    """Surveys, then records."""
    settings = load_settings(Path("lightfast.toml"))
    making = BatchOptions(manifest=manifest, prompt=prompt, map=("key=Handle",), to=dest)
    with take(making, settings, keeps_rows=True) as taking:
        ledger = open_ledger(settings.database_url)
        new = NewBatch(
            name=taking.name, dest=taking.dest, path=taking.path, columns=taking.seen.columns, source=manifest
        )
        began, cpu = time.perf_counter(), time.process_time()
        intake.record(replace(taking.intake, ledger=ledger), taking.seen, new, time.time())
        took = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        ledger.close()
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:4])
