"""What images that are billed by tokens have cost lately: what a plan estimates by. Reads only."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection, select

from jobs.costs import Cost, CostKind
from jobs.ledger.schema import attempts, images, jobs
from providers.dialect import Request

#: Images that are looked at: the newest.
LATELY = 2_000


def known(tx: Connection) -> dict[CostKind, Cost]:
    """The mean of the newest images of each kind."""
    told: dict[CostKind, list[int]] = defaultdict(list)
    requests: dict[bytes, Request] = {}
    for row in tx.execute(_NEWEST):
        request = requests.setdefault(row.request, Request.from_json(row.request))
        kind = CostKind(
            provider_model=row.provider_model,
            mode=row.mode or "",
            pixels=(row.width, row.height) if row.width else None,
            quality=request.quality or "",
            references=len(request.references),
        )
        told[kind].append(row.cost)
    return {kind: Cost(mean=sum(costs) / len(costs), images=len(costs)) for kind, costs in told.items()}


_NEWEST = (
    select(images.c.cost, attempts.c.provider_model, attempts.c.mode, jobs.c.width, jobs.c.height, jobs.c.request)
    .select_from(images.join(attempts, attempts.c.id == images.c.attempt_id).join(jobs, jobs.c.id == images.c.job_id))
    .where(images.c.cost.is_not(None), images.c.revision == jobs.c.revision, jobs.c.request.is_not(None))
    .order_by(images.c.id.desc())
    .limit(LATELY)
)
