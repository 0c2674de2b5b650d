"""How a provider answers a question about many tasks at once, of which nothing is documented but the question."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]


class Manner(enum.StrEnum):
    """A provider's way with such questions."""

    ABSENT = "absent"
    PLAIN = "plain"  # a list in any order, now and then without some, or with strangers
    ODD = "odd"  # another shape each time


#: Statuses of a provider that has no such question.
NOT_THERE = (404, 405, 501)


def answer(
    rng: random.Random,
    manner: Manner,
    asked: Sequence[str],
    show: Callable[[str], Json | None],
    all_ids: Sequence[str],
) -> tuple[int, Any]:
    """`show`: what is said of a task; None: nobody knows it. `all_ids`: tasks of other accounts are among them."""
    if manner is Manner.ABSENT:
        return rng.choice(NOT_THERE), {"error": {"message": "no such path"}}
    known = [told for name in asked if rng.random() > 0.05 and (told := show(name)) is not None]
    if rng.random() < 0.1:
        known.append({"task_id": "task-nobody-knows", "status": "completed"})
    if rng.random() < 0.1 and (told := show(rng.choice(all_ids))) is not None:
        known.append(told)  # somebody else's, or one of ours twice
    rng.shuffle(known)
    if manner is Manner.PLAIN:
        return 200, {"code": 200, "data": known}
    return 200, rng.choice(SHAPES)(known)


SHAPES: tuple[Callable[[list[Json]], Any], ...] = (
    lambda known: known,
    lambda known: {"code": 200, "data": {"tasks": known}},
    lambda known: {"code": 200, "data": {told["task_id"]: told for told in known}},
    lambda known: {"code": 200, "data": [{"code": 200, "data": told} for told in known]},
    lambda known: {"code": 200, "data": {told["task_id"]: _without_id(told) for told in known}},
    lambda known: {"code": 200, "data": [_without_id(told) for told in known]},
    lambda known: {"code": 200, "data": [{**told, "result": None} for told in known]},
    lambda known: {"code": 200, "data": [*known, *({**told, "status": "processing"} for told in known)]},
    lambda known: {"code": 200, "message": f"{len(known)} tasks"},
    lambda _known: {"code": 500, "message": "busy"},
)


def _without_id(told: Json) -> Json:
    return {name: value for name, value in told.items() if name != "task_id"}
