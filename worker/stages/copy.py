"""Takes one paid image from the provider's link to its place at the destination, checked on the way.

Bytes in memory are counted over all copies of the process (`Services.memory`): a download counts as the most it may
hold in memory until it is there, then as what it holds; one that went to a file counts as its size while it is checked
and put. Waiting for room is waiting in order of death.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from jobs.errors import StoreError
from jobs.facts import Fact, ImageChecked, ImageDelayed, ImageStored
from jobs.formatting import in_words
from jobs.ledger.claims.values import DueCopy
from jobs.policy.copy_headroom import SAVED_BEFORE
from worker.images import check
from worker.images.check import Checked
from worker.images.sidecar import provenance, sidecar_path
from worker.images.staging import MEMORY as IN_MEMORY
from worker.images.staging import Body
from worker.runtime.telemetry import emit
from worker.services import Services
from worker.stages import reuse
from worker.stages.copy_retry import LONGEST_STORE_WAIT, CopyDeferredError, defer, delayed
from worker.stages.fetch import sound
from worker.storage.base import CopyResult, CopySource, PutResult, Store
from worker.storage.write_verification import VERIFICATION_FAILED, verify

T = TypeVar("T")
#: An image's bytes, or where the destination copies them from by itself.
Content = bytes | Path | CopySource

#: Seconds for which a copy is claimed: for its download, and with room for the put.
LEASE = 600.0
#: Seconds that an image on our disk counts as living: it does not die, and goes after all whose links do.
KEPT_FOR = 30 * 86_400.0
#: What a destination says that is full, or a server behind it: it may still take a probe of a few bytes.
NO_ROOM = frozenset({"disk_full", "bucket_failing"})
#: What a destination says of a name that it does not take, and the flag of an image stored under another.
NO_SUCH_NAME = frozenset({"bucket_refused", "bad_path"})
SAFE_NAME = "safe-name"
#: What any server takes in a name, beside letters and digits; and bytes of one part of a path.
SAFE_LETTERS = "!-_.*'()~ "
LONGEST_PART = 200
#: Other objects that may stand in an image's place before it waits.
NAMES = 5


async def copy(services: Services, due: DueCopy) -> None:
    """Fetches, checks, records, puts, records; whatever goes wrong delays it, until its link is dead for good."""
    await record(services, due, await fetch_and_put(services, due))


async def fetch_and_put(services: Services, due: DueCopy) -> Fact:
    """All of a copy but the record of its end, which is returned."""
    body = Body()
    services.destinations.verification.begins(due.image_id)
    try:
        async with services.memory.acquire(IN_MEMORY, due.expires_at) as permit:
            body.on_disk = functools.partial(permit.shrink, 0)
            stored = await _stored_before(services, due) or await _copied_within(services, due)
            if stored is None:
                content, checked = await sound(services, due, body, permit)
                stored = await _named_or_published(services, due, content, checked)
        if due.sidecar and not due.linked:
            await _put_sidecar(services, due, stored)
        fact: Fact = ImageStored(image_id=due.image_id, at=services.clock.now())
    except CopyDeferredError as end:
        fact = end.fact
    except Exception as bug:  # noqa: BLE001  paid for: a bug delays it and is told, and never loses it
        emit("copy_failed", level="error", image_id=due.image_id, problem=repr(bug), exc_info=bug)
        fact = delayed(services, due, "copy_failed", in_words(bug))
    finally:
        body.close()
    if isinstance(fact, ImageDelayed) and fact.next_copy_at is None:
        emit(
            "image_needs_a_person", level="warning", batch=due.batch, key=due.key, code=fact.code, problem=fact.message
        )
    return fact


async def record(services: Services, due: DueCopy, fact: Fact) -> None:
    """Records how a copy ended. It needs no room for bytes any more."""
    await services.recorder.record(fact)
    if isinstance(fact, ImageStored):
        services.destinations.verification.stored(due.image_id)
    with contextlib.suppress(Exception):  # the copy lane, and the end of the worker, try again
        await record_images_in_doubt(services)
    if due.spool and isinstance(fact, ImageStored):
        services.staging.drop(due.spool)


async def _stored_before(services: Services, due: DueCopy) -> ImageChecked | None:
    """What an earlier put did, of which only the record is missing."""
    known = due.recorded
    if due.linked:
        return None
    if known is None or _must_be_kept(services, due):  # it cannot be asked, and time is short
        return None
    there = await _at_store(services, due, lambda store: store.sha256_of(known.object_path))
    return known if there == known.sha256 else None


class MustBeReadError(Exception):
    """The destination does not copy this image by itself."""


async def _copied_within(services: Services, due: DueCopy) -> ImageChecked | None:
    """Has the destination copy another row's image where it can; None: its bytes have to be read and put."""
    found = await reuse.within_reach(services, due)
    if found is None:
        return None
    try:
        return await _publish(services, due, *found)
    except MustBeReadError:
        return None


# -- the object ----------------------------------------------------------------------------------------------------


async def _named_or_published(
    services: Services, due: DueCopy, content: bytes | Path, checked: Checked
) -> ImageChecked:
    """An image that is only named stays where it was found."""
    if due.linked:
        _, path = reuse.where_it_lies(services, due)
        named = _checked(due, checked, path, _flags(due, checked))
        await services.recorder.record(named)
        return named
    return await _publish_or_keep(services, due, content, checked)


async def _publish_or_keep(services: Services, due: DueCopy, content: bytes | Path, checked: Checked) -> ImageChecked:
    """Bytes at hand are not thrown away while their link dies and the destination refuses: they wait on our disk.

    So do those that only a person can bring to their place: nobody knows when.
    """
    try:
        if _must_be_kept(services, due):
            trouble = services.destinations.troubles[due.dest]
            defer(services, due, trouble.code, trouble.message)
        return await _publish(services, due, content, checked)
    except CopyDeferredError as end:
        if not isinstance(end.fact, ImageDelayed) or due.spool:
            raise
        if end.fact.next_copy_at is not None and not _dies_soon(services, due):
            raise
        raise CopyDeferredError(await _kept(services, due, end.fact, content)) from end


def _dies_soon(services: Services, due: DueCopy) -> bool:
    return not due.spool and due.expires_at - services.clock.now() <= SAVED_BEFORE


def _must_be_kept(services: Services, due: DueCopy) -> bool:
    return due.dest in services.destinations.troubles and _dies_soon(services, due)


async def _kept(services: Services, due: DueCopy, fact: ImageDelayed, content: bytes | Path) -> ImageDelayed:
    try:
        name = await services.executors.blocking(services.staging.save, due.image_id, content)
    except OSError as error:
        emit("image_not_kept", level="warning", image_id=due.image_id, problem=str(error))
        return fact
    if name is None:
        return fact  # the disk has no room to spare; it is fetched again while its link lives
    emit("image_kept", level="warning", batch=due.batch, key=due.key, image_id=due.image_id, file=name)
    return replace(fact, spool=name, expires_at=fact.at + KEPT_FOR)


async def _publish(services: Services, due: DueCopy, content: Content, checked: Checked) -> ImageChecked:
    """At its path; where the destination takes no such name, under one that every destination takes."""
    path = object_path(due, checked.ext)
    try:
        return await _publish_at(services, due, content, checked, path)
    except CopyDeferredError as end:
        if end.fact.code not in NO_SUCH_NAME or safe_path(path) == path:
            raise
        emit("path_refused", level="warning", batch=due.batch, key=due.key, path=path, problem=end.fact.message)
    return await _publish_at(services, due, content, checked, safe_path(path), SAFE_NAME)


async def _publish_at(
    services: Services, due: DueCopy, content: Content, checked: Checked, path: str, *said: str
) -> ImageChecked:
    """Names it, records the name and the hash, and only then puts it, without ever writing over anything."""
    flags = (*_flags(due, checked), *said)
    for name in _names(path):
        named = _checked(due, checked, name, flags)
        await _record(services, due, named)
        if await _is_there(services, due, content, checked, named):
            return named
        flags = (*(flag for flag in flags if flag != "path-conflict"), "path-conflict")
        emit("path_conflict", level="warning", batch=due.batch, key=due.key, path=name)
    return defer(services, due, "path-conflict", "other objects stand in its place")


async def _record(services: Services, due: DueCopy, named: ImageChecked) -> None:
    """Returns once it is durable. While the ledger takes nothing, bytes whose link dies go to our disk meanwhile.

    The fact is handed over all the same, and is recorded before the delay that follows it.
    """
    recording = asyncio.ensure_future(services.recorder.record(named))
    if _dies_soon(services, due):
        await asyncio.wait({recording}, timeout=services.timings.record_patience)
        if not recording.done():
            defer(services, due, "ledger_away", "the ledger takes no writes")
    await recording


def _names(first: str) -> list[str]:
    stem, dot, ending = first.rpartition(".") if "." in first.rpartition("/")[2] else (first, "", "")
    return [first, *(f"{stem}~{number}{dot}{ending}" for number in range(2, NAMES + 1))]


def object_path(due: DueCopy, ext: str) -> str:
    """The image's path below DEST. A later revision and a surplus image stand beside what was there before."""
    index = str(due.slot) if due.revision == 1 else f"{due.slot}.r{due.revision}"
    return due.path.format(index=f"surplus-{due.image_id}" if due.surplus else index, ext=ext)


def safe_path(path: str) -> str:
    """A path of plain letters: all else is percent-encoded, and what is too long ends in a hash of all of it."""
    return "/".join(map(_safe_part, path.split("/")))


def _safe_part(part: str) -> str:
    plain = quote(part, safe=SAFE_LETTERS) if part.strip(".") else part.replace(".", "%2E") or "%00"
    if len(plain) <= LONGEST_PART:
        return plain
    return f"{plain[: LONGEST_PART - 17]}-{hashlib.sha256(part.encode()).hexdigest()[:16]}"


def _flags(due: DueCopy, checked: Checked) -> tuple[str, ...]:
    wrong = due.pixels and due.pixels != (checked.width, checked.height)
    other = checked.format not in check.USUAL
    return ("wrong-pixels",) * bool(wrong) + ("other-format",) * other


def _checked(due: DueCopy, checked: Checked, path: str, flags: tuple[str, ...]) -> ImageChecked:
    return ImageChecked(
        image_id=due.image_id,
        object_path=path,
        sha256=checked.sha256,
        bytes=checked.size,
        width=checked.width,
        height=checked.height,
        format=checked.format,
        flags=flags,
    )


async def _is_there(services: Services, due: DueCopy, content: Content, checked: Checked, named: ImageChecked) -> bool:
    """Puts it. Some of what is put is looked at: a bucket may say yes and keep nothing.

    All that a destination copies by itself is looked at, which says nothing of what it does with bytes that come to it.
    """
    if isinstance(content, CopySource):
        copy_it = functools.partial(_copy_within, due=due, path=named.object_path, source=content, checked=checked)
        return await _at_store(services, due, copy_it)
    verification = services.destinations.verification
    look = verification.next_look(due.dest)
    put = functools.partial(_put, due=due, path=named.object_path, content=content, checked=checked)
    try:
        there = await _at_store(services, due, put)
    except CopyDeferredError as end:
        if end.fact.code in NO_ROOM:
            verification.was_full(due.dest, named.bytes)
        raise
    verification.accepted(due.dest)
    if not there:
        return False
    if look is None:
        verification.unverified(due.dest, due.image_id)
        return True
    began = services.clock.now()
    try:
        await _at_store(services, due, functools.partial(verify, named=named, look=look))
    except CopyDeferredError as end:
        if end.fact.code == VERIFICATION_FAILED:
            images = verification.failed(due.dest, named.bytes)
            emit("destination_fails_verification", level="error", dest=due.dest, images=images)
        raise
    verification.verified(due.dest)
    services.destinations.worked(due.dest, began=began, seen=True)
    return True


def _put(store: Store, *, due: DueCopy, path: str, content: bytes | Path, checked: Checked) -> bool:
    """True when the object at `path` is this image, put now or before."""
    kind = checked.content_type
    done = store.put_new(path, content, content_type=kind, metadata=_metadata(due), sha256=checked.sha256)
    return done is PutResult.STORED or store.sha256_of(path) == checked.sha256


def _copy_within(store: Store, *, due: DueCopy, path: str, source: CopySource, checked: Checked) -> bool:
    """As `_put`, without its bytes."""
    done = store.copy_new(path, source, content_type=checked.content_type, metadata=_metadata(due))
    if done is CopyResult.UNABLE:
        raise MustBeReadError
    return done is CopyResult.COPIED or store.sha256_of(path) == checked.sha256


def _metadata(due: DueCopy) -> dict[str, str]:
    return {
        "lightfast-batch": due.batch,
        "lightfast-key": due.key,
        "lightfast-index": str(due.slot),
        "lightfast-request": due.request_hash,
    }


async def record_images_in_doubt(services: Services) -> None:
    """Has every image copied again that a destination which failed verification may not have kept.

    Raises:
        Exception: The ledger's own. The images are remembered until it takes them.
    """
    verification = services.destinations.verification
    if images := verification.to_copy_again:
        reasons = dict.fromkeys(images, "its destination was found not to keep what it takes")
        await services.executors.write(services.ledger.images.copy_again, reasons, services.clock.now())
        verification.recorded(images)


async def _put_sidecar(services: Services, due: DueCopy, stored: ImageChecked) -> None:
    """Once, after the image. What keeps it from being written delays the copy's end; the image is safe by then."""
    path = sidecar_path(stored.object_path)
    put = functools.partial(_put_json, path=path, content=provenance(due, stored))
    try:
        written = await _at_store(services, due, put, final=False)
    except StoreError as error:  # what it says of this one name will not change, and the image is what was paid for
        emit("sidecar_refused", level="warning", batch=due.batch, key=due.key, path=path, problem=error.message[:300])
        return
    if not written:
        emit("sidecar_conflict", level="warning", batch=due.batch, key=due.key, path=path)


def _put_json(store: Store, *, path: str, content: bytes) -> bool:
    """True when the object at `path` says this, from now or from before."""
    done = store.put_new(path, content, content_type="application/json")
    return done is PutResult.STORED or store.read(path) == content


async def _at_store(services: Services, due: DueCopy, work: Callable[[Store], T], *, final: bool = True) -> T:
    """Work at the destination, in a thread. What it says of the bucket as a whole is noted.

    `final`: a refusal that no time will change delays the copy too; else it is the caller's.
    """
    began = services.clock.now()
    try:
        done = await services.executors.blocking(lambda: work(services.destinations.store(due.dest)))
    except StoreError as error:
        if error.retryable or error.denied:
            services.destinations.refused(due.dest, error, services.clock.now())
        elif not final:
            raise
        fact = delayed(services, due, error.code, error.message, longest=LONGEST_STORE_WAIT)
        raise CopyDeferredError(fact) from error
    services.destinations.worked(due.dest, began=began)
    return done
