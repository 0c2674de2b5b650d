"""What MaxAPI.io's callbacks and echoes tell: which task somebody speaks of, and whose it is. Pure.

A callback is not signed, so nothing in it counts but the task's id, and that only as a hint (providers.md 1.8). What
counts is the task itself, fetched with our key: the query echoes what was asked for [seed 000], and when.
"""

from __future__ import annotations

from dataclasses import dataclass

from providers.dialects import answers
from providers.dialects.reading import code_of, mapping, read_json, task_id, text, unix_seconds
from providers.types import Request, Response

#: Seconds by which the provider's clock may be behind ours.
SKEW = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOrigin:
    """What a provider's task says of where it came from."""

    task_id: str
    created_at: float | None  # Unix seconds
    prompt: str
    model: str
    n: int | None


def read_callback(body: bytes) -> str | None:
    """The task a callback speaks of; None when it speaks of none."""
    return task_id(mapping(mapping(read_json(body)).get("data")).get("taskId"))


def read_origin(response: Response) -> TaskOrigin | None:
    """Where the queried task came from; None when the answer tells nothing of a task."""
    body = mapping(read_json(response.body))
    task = mapping(body.get("data"))
    found, echo = task_id(task.get("taskId")), mapping(task.get("input"))
    if not answers.is_success(response) or code_of(body.get("code")) != 0 or not found:
        return None
    asked = echo.get("n")
    return TaskOrigin(
        task_id=found,
        created_at=unix_seconds(task.get("created_at")),
        prompt=text(echo.get("prompt")),
        model=text(echo.get("model")),
        n=asked if isinstance(asked, int) else None,
    )


def is_ours(
    origin: TaskOrigin, *, hinted: str, request: Request, provider_model: str, n: int, intended_at: float
) -> bool:
    """Whether the task was made after our intent and echoes what we asked for. What it does not say is no proof."""
    made_after = origin.created_at is not None and origin.created_at >= intended_at - SKEW
    same_input = origin.prompt == request.prompt and origin.model == provider_model and origin.n in (None, n)
    return origin.task_id == hinted and made_after and same_input
