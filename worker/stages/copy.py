"""Takes one paid image from the provider's link to its place at the destination, checked on the way.

Bytes in memory are counted over all copies of the process (`Services.memory`): a download counts as the most it may
hold in memory until it is there, then as what it holds; one that went to a file counts as its size while it is checked
and put. Waiting for room is waiting in order of death.
"""

from __future__ import annotations

import errno
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from jobs.errors import StoreError
from jobs.ledger.values import DueCopy, Fact, ImageChecked, ImageDelayed, ImageLost, ImageStored
from providers.dialect import Failed, Link, NotFound, Succeeded, clean
from worker import images
from worker.http import FetchError
from worker.images import BadImage, Checked
from worker.room import Share
from worker.services import Services
from worker.sidecar import provenance, sidecar_path
from worker.spool import MEMORY as IN_MEMORY
from worker.spool import Body, decoded
from worker.stages.poll import TIMEOUT as POLL_TIMEOUT
from worker.stages.results import UNKNOWN_LIFE
from worker.storage import Put, Store
from worker.telemetry import emit

T = TypeVar("T")

#: The provider was asked for another link and did not say whether there is one.
NO_WORD = Link()
#: A full disk's errors.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

#: Seconds one download may take in all; its claim lasts longer, with room for the put.
TIMEOUT = 180.0
LEASE = 600.0
#: Bytes of one image; the largest documented (3840 x 2160 as PNG) has about 25 MB.
LIMIT = 256 * 1024 * 1024
#: The share of what is left of a link's life that a retry waits at most: one that dies in 20 s is tried in 5 again.
PATIENCE = 0.25
SHORTEST_WAIT = 0.5
#: Bytes up to which a check on the event loop costs less than a thread's turn.
SMALL = 512 * 1024
#: Seconds until the next try: doubled from the first to the longest; a bucket that refuses is tried more often.
FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0
LONGEST_STORE_WAIT = 60.0
#: Seconds beyond an image's time for which it is tried on though every link is dead or gives something else: a CDN may
#: be out of order. And where the provider, or the CDN, gives no answer at all: nobody has said then that it is lost.
GONE_AFTER = 3_600.0
SILENT_AFTER = 86_400.0
#: Other objects that may stand in an image's place before it waits.
NAMES = 5


async def copy(services: Services, due: DueCopy) -> None:
    """Fetches, checks, records, puts, records; whatever goes wrong delays it, until its link is dead for good."""
    body = Body()
    try:
        async with services.memory.share(IN_MEMORY, due.expires_at) as share:
            body.on_disk = functools.partial(share.shrink, 0)
            stored = await _stored_before(services, due)
            if stored is None:
                content = await _fetch(services, due, body)
                await share.become(_held(content), due.expires_at)
                checked = await _check(services, due, content, share)
                stored = await _publish(services, due, content, checked)
        if due.sidecar:
            await _put_sidecar(services, due, stored)
        fact: Fact = ImageStored(image_id=due.image_id, at=services.clock.now())
    except _LaterError as later:
        fact = later.fact
    except Exception as bug:  # noqa: BLE001  paid for: a bug delays it and is told, and never loses it
        emit("copy_failed", level="error", image_id=due.image_id, problem=repr(bug), exc_info=bug)
        fact = _delayed(services, due, "copy_failed", repr(bug))
    finally:
        body.close()
    await services.recorder.record(fact)
    if due.spool and isinstance(fact, ImageStored):
        services.spool.drop(due.spool)


class _LaterError(Exception):
    """This copy ends here for now, or for good; `fact` says which."""

    def __init__(self, fact: ImageDelayed | ImageLost) -> None:
        super().__init__(fact.message)
        self.fact = fact


# -- the bytes -----------------------------------------------------------------------------------------------------


async def _stored_before(services: Services, due: DueCopy) -> ImageChecked | None:
    """What an earlier put did, of which only the record is missing."""
    known = due.recorded
    if (
        known is None
        or await _at_store(services, due, lambda store: store.sha256_of(known.object_path)) != known.sha256
    ):
        return None
    return known


def _held(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


async def _fetch(services: Services, due: DueCopy, body: Body) -> bytes | Path:
    """The bytes, wherever they are. A disk that is full loses nothing: it is told, and tried again."""
    try:
        if due.spool:
            return await _spooled(services, due, due.spool, body)
        try:
            return await _download(services, due.url or "", body)
        except FetchError as error:
            if not error.dead_link:
                _later(services, due, error.code, error.message, gone_after=SILENT_AFTER)
        return await _fetch_afresh(services, due, body)
    except OSError as error:
        if error.errno not in FULL:
            raise
        _later(services, due, "disk_full", f"no room for what is downloaded: {error.strerror}")


async def _download(services: Services, url: str, body: Body) -> bytes | Path:
    body.clear()
    await services.http.download(url, body, limit=LIMIT, timeout=TIMEOUT)
    return body.content()


async def _spooled(services: Services, due: DueCopy, name: str, body: Body) -> bytes | Path:
    if os.path.exists(name):  # noqa: ASYNC240, PTH110  a local stat
        return Path(name)
    if services.spool.is_elsewhere(name):
        _later(services, due, "bytes_elsewhere", f"another host holds the bytes: {name}")
    return await _fetch_afresh(services, due, body)


async def _fetch_afresh(services: Services, due: DueCopy, body: Body) -> bytes | Path:
    """The link is dead: the provider is asked once for another."""
    link = await _fresh_link(services, due)
    if link is None or link is NO_WORD:
        _lose_or_wait(services, due, link)
    if link.b64 is not None and not link.url:
        body.clear()
        body.write(decoded(link.b64))
        return body.content()
    try:
        return await _download(services, link.url or "", body)
    except FetchError as error:
        if error.dead_link:
            _lose_or_wait(services, due, link)
        _later(services, due, error.code, error.message, link, gone_after=SILENT_AFTER)


async def _fresh_link(services: Services, due: DueCopy) -> Link | None:
    """Another link of this image; None: the provider has none; `NO_WORD`: it does not say."""
    account = services.accounts.get(due.account)
    if account is None or due.task_id is None:
        return None
    dialect = services.dialects[due.provider]
    call = dialect.poll(due.task_id, services.routes.of_task(due.provider, due.provider_model), due.poll_path)
    exchange = await services.http.get(call, base_url=account.base_url, key=account.api_key, timeout=POLL_TIMEOUT)
    outcome = dialect.read_poll(exchange.response) if exchange.response else None
    if isinstance(outcome, Succeeded):
        return _same(outcome, due)
    return None if isinstance(outcome, (Failed, NotFound)) else NO_WORD


def _same(outcome: Succeeded, due: DueCopy) -> Link | None:
    """The link of this very image: signatures change, paths do not; else its place among the task's images."""
    path = urlsplit(due.url or "").path
    by_path = [link for link in outcome.links if link.url and urlsplit(link.url).path == path]
    if by_path:
        return by_path[0]
    return outcome.links[due.nth] if due.nth < len(outcome.links) else None


async def _check(services: Services, due: DueCopy, content: bytes | Path, share: Share) -> Checked:
    try:
        if isinstance(content, bytes) and len(content) <= SMALL:
            checked = images.check(content)
        else:
            checked = await services.calls.blocking(images.check, content)
        if due.decode:
            await share.become(_held(content) + images.decoded_size(checked), due.expires_at)
            await services.calls.blocking(images.decode_fully, content)
            share.shrink(_held(content))
    except BadImage as bad:
        _later(services, due, bad.code, bad.message, await _fresh_link(services, due), gone_after=GONE_AFTER)
    return checked


# -- the object ----------------------------------------------------------------------------------------------------


async def _publish(services: Services, due: DueCopy, content: bytes | Path, checked: Checked) -> ImageChecked:
    """Names it, records the name and the hash, and only then puts it, without ever writing over anything."""
    flags = _flags(due, checked)
    for name in _names(due, checked.ext):
        named = _checked(due, checked, name, flags)
        await services.recorder.record(named)
        if await _at_store(
            services, due, functools.partial(_put, due=due, path=name, content=content, checked=checked)
        ):
            return named
        flags = (*(flag for flag in flags if flag != "path-conflict"), "path-conflict")
        emit("path_conflict", level="warning", batch=due.batch, key=due.key, path=name)
    return _later(services, due, "path-conflict", "other objects stand in its place")


def _names(due: DueCopy, ext: str) -> list[str]:
    first = object_path(due, ext)
    stem, dot, ending = first.rpartition(".") if "." in first.rpartition("/")[2] else (first, "", "")
    return [first, *(f"{stem}~{number}{dot}{ending}" for number in range(2, NAMES + 1))]


def object_path(due: DueCopy, ext: str) -> str:
    """The image's path below DEST. A later revision and a surplus image stand beside what was there before."""
    index = str(due.slot) if due.revision == 1 else f"{due.slot}.r{due.revision}"
    return due.path.format(index=f"surplus-{due.image_id}" if due.surplus else index, ext=ext)


def _flags(due: DueCopy, checked: Checked) -> tuple[str, ...]:
    return ("wrong-pixels",) if due.pixels and due.pixels != (checked.width, checked.height) else ()


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


def _put(store: Store, *, due: DueCopy, path: str, content: bytes | Path, checked: Checked) -> bool:
    """True when the object at `path` is this image, put now or before."""
    metadata = {
        "lightfast-batch": due.batch,
        "lightfast-key": due.key,
        "lightfast-index": str(due.slot),
        "lightfast-request": due.request_hash,
    }
    done = store.put_new(path, content, content_type=checked.content_type, metadata=metadata)
    return done is Put.STORED or store.sha256_of(path) == checked.sha256


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
    return done is Put.STORED or store.read(path) == content


async def _at_store(services: Services, due: DueCopy, work: Callable[[Store], T], *, final: bool = True) -> T:
    """Work at the destination, in a thread. What it says of the bucket as a whole is noted.

    `final`: a refusal that no time will change delays the copy too; else it is the caller's.
    """
    try:
        done = await services.calls.blocking(lambda: work(services.destinations.store(due.dest)))
    except StoreError as error:
        if error.retryable or error.denied:
            services.destinations.refused(due.dest, error, services.clock.now())
        elif not final:
            raise
        fact = _delayed(services, due, error.code, error.message, longest=LONGEST_STORE_WAIT)
        raise _LaterError(fact) from error
    services.destinations.worked(due.dest)
    return done


# -- later, or never -----------------------------------------------------------------------------------------------


def _lose_or_wait(services: Services, due: DueCopy, link: Link | None) -> NoReturn:
    """A fresh link that is dead too moves no expiry: a file that is gone may be signed anew for ever."""
    dies = due.expires_at + (SILENT_AFTER if link is NO_WORD else GONE_AFTER if link else 0.0)
    if services.clock.now() >= dies:
        _lost(services, due, "link_dead", "the link is dead and the provider gives no other")
    _later(services, due, "link_dead", "the link does not work, and the provider gives no other yet")


def _lost(services: Services, due: DueCopy, code: str, message: str) -> NoReturn:
    emit("image_lost", level="warning", batch=due.batch, key=due.key, image_id=due.image_id, code=code)
    now = services.clock.now()
    raise _LaterError(ImageLost(image_id=due.image_id, at=now, code=code, message=clean(message)))


def _later(
    services: Services,
    due: DueCopy,
    code: str,
    message: str,
    link: Link | None = None,
    *,
    gone_after: float = math.inf,
) -> NoReturn:
    """Tried again. `gone_after`: seconds beyond its time after which nobody hopes for it any more."""
    if services.clock.now() >= due.expires_at + gone_after and not due.spool:
        _lost(services, due, code, message)
    raise _LaterError(_delayed(services, due, code, message, link))


@functools.cache
def _tell_once(batch: str, message: str) -> None:
    """Paid images wait, and no time will help: only whoever runs this can say that such a server is meant."""
    help_ = "if you trust it, LIGHTFAST_ALLOW_PRIVATE_HOSTS=1 and the same command"
    emit("paid_images_wait", level="warning", batch=batch, problem=message, help=help_)


def _delayed(
    services: Services,
    due: DueCopy,
    code: str,
    message: str,
    link: Link | None = None,
    longest: float = LONGEST_WAIT,
) -> ImageDelayed:
    if code == "forbidden_address":
        _tell_once(due.batch, message)
    now = services.clock.now()
    wait = min(longest, FIRST_WAIT * 2 ** min(due.tries - 1, 16))
    if due.expires_at > now:
        wait = min(wait, max(SHORTEST_WAIT, PATIENCE * (due.expires_at - now)))
    wait *= services.chance.uniform(0.8, 1.2)
    return ImageDelayed(
        image_id=due.image_id,
        at=now,
        next_copy_at=now + wait,
        code=code,
        message=clean(message),
        url=link.url if link else None,
        expires_at=(link.expires_at or now + _life(services, due))
        if link and link.url not in (None, due.url)
        else None,
    )


def _life(services: Services, due: DueCopy) -> float:
    """Seconds that a link of its provider lives."""
    return services.routes.of_task(due.provider, due.provider_model).link_life or UNKNOWN_LIFE
