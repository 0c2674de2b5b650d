"""Result values as the ledger gives them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from jobs.ledger.reports.values import Result, StoredImage
from jobs.states import JobState
from providers.types import Request

DONE_AT = 1_778_724_847.5  # 2026-05-14T02:14:07Z


def an_image(slot: int = 0, **changes: Any) -> StoredImage:
    values: dict[str, Any] = {
        "slot": slot,
        "revision": 1,
        "state": "stored",
        "path": f"catalog/lamp/{slot}.png",
        "sha256": "ab" * 32,
        "bytes": 1_400_000,
        "width": 1024,
        "height": 1536,
        "format": "png",
        "flags": (),
        "stored_at": DONE_AT,
        "provider": "maxapi.io",
        "provider_model": "gpt-image-2/text-to-image",
        "cost": 20_000,
        "error_code": None,
        "message": None,
        "link_expires_at": None,
    }
    return StoredImage(**(values | changes))


def a_missing_image(slot: int = 0, **changes: Any) -> StoredImage:
    nothing = dict.fromkeys(("path", "sha256", "bytes", "width", "height", "format", "stored_at", "cost"))
    return an_image(slot, **{**nothing, "state": "missing", **changes})


def a_result(key: str = "lamp", **changes: Any) -> Result:
    values: dict[str, Any] = {
        "position": 0,
        "line": 2,
        "key": key,
        "carried": {"Handle": key, "prompt": "A lamp", "lf_status": "old"},
        "state": JobState.DONE,
        "revision": 1,
        "request": Request(prompt="A lamp", model="gpt-image-2"),
        "provider": "maxapi.io",
        "provider_model": "gpt-image-2/text-to-image",
        "images": (an_image(),),
        "error_code": None,
        "message": None,
        "done_at": DONE_AT,
        "cost": 20_000,
    }
    return Result(**(values | changes))


A_FAILED = a_result(
    "vase",
    state=JobState.FAILED,
    images=(a_missing_image(),),
    error_code="moderation",
    message="no <faces>",
    cost=0,
    done_at=None,
)
A_SKIPPED = a_result(
    "rug", state=JobState.SKIPPED, request=None, images=(), provider=None, provider_model=None, cost=None
)
