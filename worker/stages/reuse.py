"""Takes an image from where another row has it: nothing is asked of a provider, and nothing is paid.

Where the store can copy it and what the copy holds can be proven, the bytes do not come here. Else they are read and
hashed, and put as any image's are. What is wrong with an image is judged by those that read it, and nowhere else.
"""

from __future__ import annotations

import functools
from typing import NoReturn

from jobs.errors import StoreError
from jobs.facts import ReuseGone
from jobs.ledger.claims.values import DueCopy, ReuseOrigin
from jobs.policy.reuse import REUSE_GONE, REUSE_WAITS
from providers.types import clean
from worker.images.check import Checked, checked
from worker.runtime.telemetry import emit
from worker.services import Services
from worker.stages.copy_retry import CopyDeferredError, delayed
from worker.storage.base import CopySource, Store

#: Seconds at most between two looks at whether an image that is being made elsewhere is stored.
LONGEST_WAIT = 30.0


def gone(services: Services, due: DueCopy, message: str) -> NoReturn:
    """Ends the row of an image that cannot be taken; only a person has it bought.

    Raises:
        CopyDeferredError: Always.
    """
    emit("reuse_gone", level="warning", batch=due.batch, key=due.key, image_id=due.image_id, problem=message)
    now = services.clock.now()
    raise CopyDeferredError(ReuseGone(image_id=due.image_id, at=now, code=REUSE_GONE, message=clean(message)))


def where_it_lies(services: Services, due: DueCopy) -> tuple[ReuseOrigin, str]:
    """The image, and its path; one that may still be stored is waited for.

    Raises:
        CopyDeferredError: It is not stored yet, or never will be.
    """
    origin = due.origin
    if origin is None:
        gone(services, due, "the row it was to be taken from is on record no more")
    if origin.path is None and origin.is_coming:
        said = "the same request is being made for another row, or its outcome is unknown (lightfast unknown)"
        raise CopyDeferredError(delayed(services, due, REUSE_WAITS, said, longest=LONGEST_WAIT))
    if origin.path is None:
        gone(services, due, "the row it was to be taken from ended without it")
    return origin, origin.path


async def within_reach(services: Services, due: DueCopy) -> tuple[CopySource, Checked] | None:
    """What the destination may copy by itself, and what it is known to be; None: it has to be read.

    Raises:
        CopyDeferredError: It is not stored yet, or never will be.
    """
    if not due.reused or due.linked or due.decode:
        return None
    origin, path = where_it_lies(services, due)
    if not (origin.sha256 and origin.bytes and origin.width and origin.height and origin.format):
        return None
    try:
        source, store = await services.executors.blocking(
            lambda: (services.destinations.store(origin.dest), services.destinations.store(due.dest))
        )
    except StoreError:
        return None
    if not store.copies_from(source):
        return None
    known = checked(
        format_=origin.format, width=origin.width, height=origin.height, sha256=origin.sha256, size=origin.bytes
    )
    return CopySource(store=source, path=path, sha256=origin.sha256, size=origin.bytes), known


async def fetch(services: Services, due: DueCopy) -> bytes:
    """The bytes that are there now.

    Raises:
        CopyDeferredError: They cannot be read, now or for good.
    """
    origin, path = where_it_lies(services, due)
    read = functools.partial(_read, services, origin.dest, path)
    try:
        content = await services.executors.blocking(read)
    except StoreError as error:
        if not (error.retryable or error.denied):
            gone(services, due, f"{error.code}: {error.message}")
        raise CopyDeferredError(delayed(services, due, error.code, error.message)) from error
    if content is None:
        gone(services, due, f"there is no object at {path} in {origin.dest} any more")
    return content


def demand_same(services: Services, due: DueCopy, sha256: str) -> None:
    """Compares the object with what was stored there.

    Raises:
        CopyDeferredError: The hash of its bytes is another; the row ends.
    """
    origin, path = where_it_lies(services, due)
    if sha256 != origin.sha256:
        gone(services, due, f"the object at {path} in {origin.dest} has other bytes than were stored there")


def _read(services: Services, dest: str, path: str) -> bytes | None:
    store: Store = services.destinations.store(dest)
    return store.read(path)
