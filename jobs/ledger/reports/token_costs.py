"""What images that are billed by tokens have cost lately: what a plan estimates by. Reads only.

Images that were made anew since count too. Their jobs have another request by now: what they were asked for with stands
in the event of the redo. Where it does not, as in ledgers of before, they are left out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from jobs.ledger.database.schema import attempts, events, images, jobs
from jobs.policy.token_costs import CostKind, TokenCost
from providers.types import Request

#: Images that are looked at: the newest.
LATELY = 2_000
#: Jobs whose events are read at once.
_CHUNK = 500


def known(tx: Connection) -> dict[CostKind, TokenCost]:
    """The mean of the newest images of each kind."""
    told: dict[CostKind, list[int]] = defaultdict(list)
    requests: dict[bytes, Request] = {}
    rows = tx.execute(_NEWEST).all()
    replaced = _replaced(tx, sorted({row.job_id for row in rows if row.revision != row.newest}))
    for row in rows:
        if row.revision != row.newest:
            shape = replaced.get((row.job_id, row.revision))
        else:
            request = requests.setdefault(row.request, Request.from_json(row.request))
            size = (row.width, row.height) if row.width else None
            shape = {"pixels": size, "quality": request.quality, "references": len(request.references)}
        if shape is not None:
            told[_kind(row, shape)].append(row.cost)
    return {kind: TokenCost(mean=sum(costs) / len(costs), images=len(costs)) for kind, costs in told.items()}


def _kind(row: Any, shape: dict[str, Any]) -> CostKind:
    return CostKind(
        provider_model=row.provider_model,
        mode=row.mode or "",
        pixels=tuple(shape["pixels"]) if shape["pixels"] else None,
        quality=shape["quality"] or "",
        references=shape["references"],
    )


def _replaced(tx: Connection, job_ids: Sequence[int]) -> dict[tuple[int, int], dict[str, Any]]:
    """What earlier revisions of these jobs were asked for with."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for start in range(0, len(job_ids), _CHUNK):
        for row in tx.execute(_REDONE, {"these": job_ids[start : start + _CHUNK]}):
            detail = json.loads(row.detail)
            if "shape_before" in detail:
                found[row.job_id, detail["revision"] - 1] = detail["shape_before"]
    return found


_NEWEST = (
    select(
        images.c.cost,
        images.c.job_id,
        images.c.revision,
        attempts.c.provider_model,
        attempts.c.mode,
        jobs.c.width,
        jobs.c.height,
        jobs.c.request,
        jobs.c.revision.label("newest"),
    )
    .select_from(images.join(attempts, attempts.c.id == images.c.attempt_id).join(jobs, jobs.c.id == images.c.job_id))
    .where(images.c.cost.is_not(None), jobs.c.request.is_not(None))
    .order_by(images.c.id.desc())
    .limit(LATELY)
)
_REDONE = select(events.c.job_id, events.c.detail).where(
    events.c.name == "redo", events.c.job_id.in_(bindparam("these", expanding=True))
)
