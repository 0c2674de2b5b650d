"""An image that is to be copied, and what became of it."""

from __future__ import annotations

import hashlib

from jobs.errors import StoreError
from jobs.facts import MadeImage, SubmitAccepted, TaskSucceeded
from jobs.states import JobState
from providers.types import Link
from tests.support.worker_world import row, stock
from worker.http.client import FetchError
from worker.storage.destinations import Destinations

DEAD = FetchError("link_dead", "cdn answered 403", dead_link=True)


def generated(services, tmp_path, *, url="https://cdn.test/t/0.png?sig=1", b64=None, lives=3600.0, batch=None, **rows):
    """An image whose copy is claimed."""
    stock(services, tmp_path, [row(0, **rows)], **(batch or {}))
    now = services.clock.now()
    (intent,) = services.ledger.claims.submits("main", now, lease=900.0).intents
    spool = services.staging.keep(intent.attempt_id, 0, b64) if b64 else None
    made = MadeImage(link=Link(url=None if b64 else url), spool=spool, expires_at=now + lives)
    services.ledger.facts.record(
        [
            SubmitAccepted(attempt_id=intent.attempt_id, at=now, task_id="t", poll_path=None, next_poll_at=now + 60),
            TaskSucceeded(attempt_id=intent.attempt_id, at=now, images=(made,)),
        ],
    )
    return claimed(services)


def claimed(services, *, later: float = 0.0):
    now = services.clock.now() + later
    ((due,), _) = services.ledger.claims.copies(now, holder="me", lease=60.0, at_most=5)
    return due


def result(services):
    (only,) = services.ledger.reports.results("b")
    return only


def stored(services, tmp_path):
    (image,) = result(services).images
    assert result(services).state is JobState.DONE
    content = (tmp_path / "dest" / image.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == image.sha256
    return image


class Refusing:
    """A destination that may not be written, until it may."""

    def __init__(self, destinations: Destinations, only: str = "") -> None:
        self.now = True
        self._only = only
        self._real = destinations.opener

    def open(self, dest):
        store = self._real(dest)
        put_new = store.put_new

        def refuse(path, *args, **kwargs):
            if self.now and path.endswith(self._only):
                raise StoreError(code="denied", message="403", retryable=False, denied=True)
            return put_new(path, *args, **kwargs)

        store.put_new = refuse
        return store
