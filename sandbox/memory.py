"""`--state FILE`: accepted tasks, one JSON line each, so that they survive a restart. Images are drawn again."""

from __future__ import annotations

import json
import math
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox.values import Order, Task
from sandbox.world import World

KEPT = (
    "id", "provider", "key", "created_at", "ends_at", "outcome", "reason", "delivered", "pixels", "format",
    "blank", "like", "link_life", "b64", "garbled", "lost",
)  # fmt: skip


class Memory(AbstractContextManager["Memory"]):
    """Reads what there is, and writes each task that is accepted."""

    def __init__(self, path: Path, world: World) -> None:
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            task = _read(line)
            if task is not None:
                world.accept(task)
        self._file = path.open("a", encoding="utf-8")
        world.on_accept = self._write

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, task: Task) -> None:
        values: dict[str, Any] = {name: getattr(task, name) for name in KEPT}
        values["ends_at"] = None if math.isinf(task.ends_at) else task.ends_at
        self._file.write(json.dumps({**values, "order": asdict(task.order)}) + "\n")
        self._file.flush()


def _read(line: str) -> Task | None:
    """A task again; None when the line was cut off."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    order = values.pop("order")
    values["ends_at"] = math.inf if values["ends_at"] is None else values["ends_at"]
    values["pixels"], order["pixels"] = tuple(values["pixels"]), tuple(order["pixels"])
    return Task(order=Order(**order), **values)
