"""Batches of schedules go into archives by themselves, when they have been kept for as long as `--keep` says."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.errors import LightfastError
from jobs.ledger.pruning.values import Candidate, NotPrunable
from worker.archives.prune import Pruned, prune
from worker.registration.archive_place import place_for
from worker.runtime.telemetry import emit
from worker.services import Services

#: Seconds until the next look, where nothing was due, and until a batch is tried again that could not be archived.
LOOK_EVERY, TRY_AGAIN = 600.0, 86_400.0


class _ArchivingStoppedError(Exception):
    """This process ends; another goes on."""


@dataclass(slots=True)
class Retention:
    """What one process knows of it."""

    looks_at: float = 0.0  # Unix seconds
    failed: dict[str, float] = field(default_factory=dict)  # batches, and when each is tried again

    async def archive_one(self, services: Services, stopped: Callable[[], bool]) -> None:
        """Archives the next batch that is due, if there is one. `stopped`: whether this process ends meanwhile."""
        now = services.clock.now()
        self.failed = {name: at for name, at in self.failed.items() if at > now}
        due = await services.executors.read(services.ledger.pruning.due, now, frozenset(self.failed))
        if due is None:
            self.looks_at = now + LOOK_EVERY
            return
        try:
            done = await services.executors.blocking(functools.partial(_archive, services, due, stopped))
        except _ArchivingStoppedError:
            return
        except Exception as trouble:  # noqa: BLE001  whatever it is: the next sweep would write all of its archive anew
            self.failed[due.batch.name] = now + TRY_AGAIN
            if not isinstance(trouble, NotPrunable):
                problem = str(trouble) if isinstance(trouble, LightfastError) else repr(trouble)[:300]
                emit("batch_not_archived", level="warning", batch=due.batch.name, problem=problem)
            return
        emit("batch_archived", batch=done.batch, rows=done.rows, images=done.images, archive=done.archive)


def _archive(services: Services, due: Candidate, stopped: Callable[[], bool]) -> Pruned:
    def go_on(_rows: int) -> None:
        if stopped():
            raise _ArchivingStoppedError

    def rest(seconds: float) -> None:
        go_on(0)
        time.sleep(seconds)

    place, now = place_for(due.batch, services.settings.storage), services.clock.now
    return prune(services.ledger, due, place, due.kept_for, now=now, rest=rest, yields=True, tell=go_on)
