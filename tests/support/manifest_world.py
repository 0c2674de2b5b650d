"""One ledger and many manifests: looked at, recorded, and made, without a provider."""

from __future__ import annotations

from sqlalchemy import func, select, update

from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.values import NewBatch
from jobs.ledger.database.job_state import derive_jobs
from jobs.ledger.database.schema import batches, images, jobs
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.intake import Intake, record, survey
from jobs.planning.planned_rows import PlannedRows
from jobs.planning.planner import PlanOptions
from jobs.states import ImageState, JobState
from providers.catalog.models import Catalog

NOW = 1_800_000_000.0
MAIN = AccountLimits(name="main", provider="maxapi.io", submits_per_second=5.0, max_in_flight=10)


def rows(count, *, first=0, prompt="lamp", key="k"):
    return [f"{key}{number},{prompt} {number}" for number in range(first, first + count)]


def finish(ledger, name, *, most=None):
    """Every image of the batch is stored, or those of its first rows."""
    with ledger._database.writing() as tx:
        mine = select(jobs.c.id).join(batches, batches.c.id == jobs.c.batch_id).where(batches.c.name == name)
        ids = list(tx.execute(mine.order_by(jobs.c.position).limit(most)).scalars())
        path = func.coalesce(images.c.object_path, "x/" + func.cast(images.c.id, images.c.url.type) + ".png")
        stored = {
            "state": ImageState.STORED.value,
            "sha256": "0" * 64,
            "bytes": 9,
            "object_path": path,
            "stored_at": NOW,
        }
        tx.execute(update(images).where(images.c.job_id.in_(ids)).values(**stored))
        derive_jobs(tx, ids)


def fail(ledger, name, code="provider_failed"):
    """Every row of the batch that waits has failed."""
    with ledger._database.writing() as tx:
        mine = select(jobs.c.id).join(batches, batches.c.id == jobs.c.batch_id)
        ids = list(tx.execute(mine.where(batches.c.name == name, jobs.c.state == JobState.READY.value)).scalars())
        tx.execute(update(jobs).where(jobs.c.id.in_(ids)).values(closed=True, error_code=code))
        derive_jobs(tx, ids)


class World:
    """One ledger, and manifests that are looked at or recorded."""

    def __init__(self, folder, ledger):
        self.folder, self.ledger = folder, ledger

    def intake(self, lines, name="spring", head="key,prompt", mapping=None, skip_empty=None, **changes):
        path = self.folder / "m.csv"
        path.write_text("\n".join([head, *lines]) + "\n")
        manifest = open_manifest(path, name="m.csv", options=ReadOptions())
        planned = {"mapping": mapping or {}, "skip_empty": skip_empty}
        options = PlanOptions(batch=name, configured=frozenset({"maxapi.io"}), **planned)
        return Intake(manifest=manifest, options=options, catalog=Catalog.load(), ledger=self.ledger, **changes)

    def look(self, lines, name="spring", **changes):
        return survey(self.intake(lines, name, **changes), self.ledger.batches.find(name), [MAIN])

    def take(self, lines, name="spring", *, sandbox=False, **changes):
        with PlannedRows() as planned:
            intake = self.intake(lines, name, sandbox=sandbox, planned=planned, **changes)
            seen = survey(intake, self.ledger.batches.find(name), [MAIN])
            bound = {"dest": f"/d/{name}", "path": "{batch}/{key}/{index}.{ext}", "sandbox": sandbox}
            bound |= {"columns": seen.columns, "source": "m.csv", "reuse": intake.reuse}
            record(intake, seen, NewBatch(name=name, **bound), NOW)
        return seen

    def made(self, lines, name="spring", **changes):
        self.take(lines, name, **changes)
        finish(self.ledger, name)
