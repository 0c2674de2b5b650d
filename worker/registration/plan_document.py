"""The plan of a batch for programs: the same fields in `lightfast plan --json` and in the API."""

from __future__ import annotations

from typing import Any

from jobs.formatting import usd
from jobs.planning.problems import Cause
from jobs.planning.survey import RouteLine
from jobs.results.documents import stop_document
from worker.registration.preflight import Preflight
from worker.registration.register import most


def plan_document(preflight: Preflight) -> dict[str, Any]:
    """What would be made, and for how much."""
    seen, batch = preflight.seen, preflight.batch
    stop = preflight.ledger.emergency_stop.current() if preflight.ledger else None
    return {
        "manifest": seen.manifest,
        "read_as": preflight.manifest.looks,
        "batch": preflight.name,
        "batch_is_new": batch is None,
        "batch_state": batch.state.value if batch else None,
        "dest": preflight.dest or None,
        "rows": {
            "all": seen.rows,
            "new": seen.new,
            "changed": seen.changed,
            "done": seen.done,
            "open": seen.open,
            "ended": seen.ended,
            "skipped": seen.skipped,
            "bad": seen.bad,
            "empty": seen.empty,
            "with_local_files": seen.files,
            "of_manifest": seen.variations.rows if seen.variations else seen.rows,
            "dedup_left_out": seen.variations.repeated if seen.variations else 0,
            "not_in_sample": seen.variations.not_sampled if seen.variations else 0,
        },
        "samples": [{"line": each.line, "key": each.key, "prompt": each.prompt} for each in seen.samples],
        "routes": [_route(line) for line in seen.routes],
        "images": seen.images,
        "usd": usd(seen.money),
        "usd_at_most": usd(most(preflight)),
        "unpriced_images": seen.unpriced,
        "seconds": round(seen.seconds, 1),
        "seconds_may_be_less": seen.may_be_less,
        "bad": [
            {"line": each.line, "key": each.key, "column": each.column, "value": each.value, "legal": each.legal}
            for each in seen.problems
        ],
        "bad_causes": [_cause(each) for each in seen.causes],
        "look_at": [_cause(each) for each in seen.doubts],
        "hints": list(seen.hints),
        **_overlap(preflight),
        "reasons": preflight.reasons,
        "stopped": stop_document(stop) if stop else None,
    }


def _overlap(preflight: Preflight) -> dict[str, Any]:
    """What was made already, and what the manifest leaves out."""
    seen, again = preflight.seen, preflight.seen.again
    leave = not preflight.options.append
    named = {each.id: each for each in preflight.ledger.batches.all()} if preflight.ledger and again.places else {}
    return {
        "again": {
            "rows": again.rows,
            "images": again.images,
            "usd": usd(again.money),
            "rows_to_pay": again.to_pay,
            "in_this_batch": again.here,
            "elsewhere": [
                {"batch": batch.name, "dest": batch.dest, "rows": place.rows, "same_keys": place.same_keys}
                for place in again.places
                if (batch := named.get(place.batch_id))
            ],
            "needs_buy_again": again.needs_buy_again,
        },
        "same_requests": {
            "rows": seen.same.rows,
            "usd": usd(seen.same.money),
            "most": seen.same.most,
            "lines": list(seen.same.lines),
            "prompt": seen.same.prompt,
        },
        "reused": {
            "rows": again.reused,
            "images": again.reused_images,
            "usd_not_spent": usd(again.reused_money),
            "rows_given_back": seen.given_back,
        },
        "taken_out": {
            "rows": again.absent if leave else 0,
            "with_images": again.absent_with_images if leave else 0,
        },
        "not_in_manifest": again.absent,
    }


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "rows": cause.rows,
        "lines": [row.line for row in (cause.first, *cause.also)],
        "column": cause.first.column,
        "value": cause.first.value,
        "legal": cause.first.legal,
    }


def _route(line: RouteLine) -> dict[str, Any]:
    return {
        "provider": line.provider,
        "model": line.model,
        "provider_model": line.provider_model,
        "ratio": line.ratio,
        "resolution": line.resolution,
        "width": line.pixels[0] if line.pixels else None,
        "height": line.pixels[1] if line.pixels else None,
        "images": line.images,
        "usd_each": usd(line.price),
        "usd": usd(line.money),
        "price_is_yours": line.price_is_yours,
        "route_mode": line.mode,
        "assumed": line.assumed or None,
        "usd_at_most": None if line.price is None else usd(line.aside),
        "seconds": round(line.seconds, 1),
        "seconds_may_be_less": line.may_be_less,
        "bound_by": line.bound_by,
    }
