"""The bytes of a paid image, wherever they are: behind its link, on our disk, with another row. And are they whole?

A link that is dead has its provider asked for another, once.
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from urllib.parse import urlsplit

from jobs.ledger.claims.values import DueCopy
from providers.dialects.answers import about
from providers.types import Empty, Failed, Link, NotFound, Succeeded
from worker.http.client import FetchError
from worker.images import check
from worker.images.base64_text import decoded
from worker.images.check import BadImage, Checked
from worker.images.staging import Body
from worker.runtime.deadline_semaphore import Permit
from worker.services import Services
from worker.stages import reuse
from worker.stages.copy_retry import NO_WORD, NOT_FOUND, defer, lose_or_defer
from worker.stages.poll import TIMEOUT as POLL_TIMEOUT

#: A full disk's errors.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

#: Seconds one download may take in all; the claim of a copy lasts longer.
TIMEOUT = 180.0
SHORTEST_TIMEOUT = 20.0
#: Bytes of one image; the largest documented (3840 x 2160 as PNG) has about 25 MB.
LIMIT = 256 * 1024 * 1024
#: Bytes up to which a check on the event loop costs less than a thread's turn.
SMALL = 512 * 1024


async def sound(services: Services, due: DueCopy, body: Body, permit: Permit) -> tuple[bytes | Path, Checked]:
    """The bytes, found to be a whole image.

    Raises:
        CopyDeferredError: They are not to be had now, or are no image; its fact says when the next try comes.
    """
    content = await _fetch(services, due, body)
    try:
        checked = await _check(services, due, content, permit)
    except BadImage as bad:
        if due.reused:
            reuse.gone(services, due, f"{bad.code}: {bad.message}")
        if due.spool and content == services.staging.find(due.spool):
            return await _other_bytes(services, due, body, permit, bad.message)
        defer(
            services,
            due,
            bad.code,
            bad.message,
            await _fresh_link(services, due),
            gone_after=services.timings.gone_after,
        )
    if due.reused:
        reuse.demand_same(services, due, checked.sha256)
    return content, checked


async def _fetch(services: Services, due: DueCopy, body: Body) -> bytes | Path:
    """The bytes, wherever they are. A disk that is full loses nothing: it is told, and tried again."""
    try:
        if due.reused:
            return await reuse.fetch(services, due)
        if due.spool:
            return await _staged(services, due, due.spool, body)
        try:
            return await _download(services, due, due.url or "", body)
        except FetchError as error:
            if not error.dead_link:
                defer(services, due, error.code, error.message, gone_after=services.timings.unanswered_after)
            return await _fetch_afresh(services, due, body, error.message)
    except OSError as error:
        if error.errno not in FULL:
            raise
        defer(services, due, "disk_full", f"no room for what is downloaded: {error.strerror}")


async def _download(services: Services, due: DueCopy, url: str, body: Body) -> bytes | Path:
    """One that comes too slowly to be saved by another try is given up in time for it."""
    body.clear()
    left = due.expires_at - services.clock.now()
    in_time = min(TIMEOUT, max(SHORTEST_TIMEOUT, left / 2)) if left > 0 else TIMEOUT
    await services.http.download(url, body, limit=LIMIT, timeout=in_time)
    return body.content()


async def _staged(services: Services, due: DueCopy, name: str, body: Body) -> bytes | Path:
    if (found := services.staging.find(name)) is not None:
        return found
    if due.url:  # kept while its destination refused; the link may live
        with contextlib.suppress(FetchError):
            return await _download(services, due, due.url, body)
    if services.staging.is_elsewhere(name):
        defer(services, due, "bytes_elsewhere", f"another host holds the bytes: {name}")
    return await _fetch_afresh(services, due, body)


async def _fetch_afresh(services: Services, due: DueCopy, body: Body, refusal: str = "") -> bytes | Path:
    """The link is dead, as its `refusal` said: the provider is asked once for another."""
    link = await _fresh_link(services, due)
    if link is None or not (link.url or link.b64):
        lose_or_defer(services, due, link, refusal)
    try:
        return await _behind(services, due, link, body)
    except FetchError as error:
        if error.dead_link:
            lose_or_defer(services, due, link, error.message)
        defer(services, due, error.code, error.message, link, gone_after=services.timings.unanswered_after)


async def _fresh_link(services: Services, due: DueCopy) -> Link | None:
    """Another link of this image; None: there is nobody to ask; without an address: see `NO_WORD`."""
    if due.task_id is None:
        return None
    account = services.accounts.get(due.account)
    if account is None or account.provider != due.provider:
        return NO_WORD  # it may be configured again
    dialect = services.dialects[due.provider]
    call = dialect.poll(due.task_id, services.routes.of_task(due.provider, due.provider_model), due.poll_path)
    exchange = await services.http.get(
        call, base_url=account.base_url, key=account.api_key, key_header=account.key_header, timeout=POLL_TIMEOUT
    )
    if exchange.response is None:
        return NO_WORD
    outcome = about(dialect, due.task_id, exchange.response, dialect.read_poll(exchange.response))
    if isinstance(outcome, Succeeded):
        return _same(outcome, due) or NOT_FOUND
    # One answer by which a task that had this image never made it is no verdict on it.
    return NOT_FOUND if isinstance(outcome, NotFound | Failed | Empty) else NO_WORD


def _same(outcome: Succeeded, due: DueCopy) -> Link | None:
    """The link of this very image: signatures change, paths do not; else its place among the task's images."""
    path = urlsplit(due.url or "").path
    by_path = [link for link in outcome.links if link.url and urlsplit(link.url).path == path]
    if by_path:
        return by_path[0]
    return outcome.links[due.nth] if due.nth < len(outcome.links) else None


async def _other_bytes(
    services: Services, due: DueCopy, body: Body, permit: Permit, problem: str
) -> tuple[bytes | Path, Checked]:
    """What came as bytes has no link to be tried again: the provider is asked for others."""
    link = await _fresh_link(services, due)
    try:
        if link and (link.url or link.b64):
            other = await _behind(services, due, link, body)
            return other, await _check(services, due, other, permit)
    except (BadImage, FetchError) as worse:
        problem = f"{problem}; asked again, the provider gives: {worse.message}"
    return defer(services, due, "bytes_unreadable", f"the image came as bytes, and they are none: {problem}")


async def _behind(services: Services, due: DueCopy, link: Link, body: Body) -> bytes | Path:
    if link.url:
        return await _download(services, due, link.url, body)
    body.clear()
    body.write(decoded(link.b64 or ""))
    return body.content()


async def _check(services: Services, due: DueCopy, content: bytes | Path, permit: Permit) -> Checked:
    await permit.resize(_held(content), due.expires_at)
    if isinstance(content, bytes) and len(content) <= SMALL:
        checked = check.check(content)
    else:
        checked = await services.executors.blocking(check.check, content)
    if due.decode:
        await permit.resize(_held(content) + check.decoded_size(checked), due.expires_at)
        await services.executors.blocking(check.decode_fully, content)
        permit.shrink(_held(content))
    return checked


def _held(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
