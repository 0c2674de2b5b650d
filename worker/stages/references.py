"""Puts a row's references in the provider's reach, directly before its submit: as bytes, as data URIs, or by address.

Addresses are signed here and not at planning: they have to outlive queue and task, counted from now.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from jobs.errors import StoreError
from jobs.ledger.claims.values import Intent
from jobs.planning.references import LARGEST, MOST_DATA
from jobs.results.rows import public_address
from providers.references import ReferencesBy, file_name, is_link, is_object, words_of
from providers.types import Request, Route
from worker.http.client import FetchError, File
from worker.images.check import BadImage, check
from worker.references import bucket_and_key, content_type_of, has_hash, place_of
from worker.services import Services
from worker.storage.base import Store
from worker.storage.destinations import KNOWN_FOR

T = TypeVar("T")
Ask = Callable[[Services, Intent, str], Awaitable[T]]

#: Seconds an address lives: a provider's queue and task, both slow, and then some.
ADDRESS_LIFE = 24 * 3600.0


class Unreachable(Exception):
    """A reference cannot be given to the provider; nothing was sent. `later`: it may work then.

    `ours`: what is in the way is the destination, which holds up every row and says nothing against this one.
    """

    def __init__(self, code: str, message: str, *, later: bool, ours: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.later = later
        self.ours = ours


async def within_reach(services: Services, intent: Intent, route: Route) -> Request:
    """The request as the provider can read it. A form's references stay as they are: their bytes go with it.

    Raises:
        Unreachable: A reference cannot be read or signed.
    """
    request = intent.request
    if route.references_by is ReferencesBy.FILE or all(map(is_link, request.references)):
        return request
    files = await _as_data(services, intent, route)
    reached = []
    for each in request.references:
        if each in files:
            kind = content_type_of(file_name(each) or "")
            reached.append(f"data:{kind};base64,{base64.b64encode(files[each]).decode()}")
        else:
            reached.append(await _address(services, intent, each))
    return replace(request, references=tuple(reached))


async def _as_data(services: Services, intent: Intent, route: Route) -> dict[str, bytes]:
    """The files that go along as data; none where they would be too much."""
    wanted = list(filter(file_name, dict.fromkeys(intent.request.references)))
    if route.references_by is not ReferencesBy.DATA or sum(await _each(services, intent, wanted, _size)) > MOST_DATA:
        return {}
    return dict(zip(wanted, await _each(services, intent, wanted, _content), strict=True))


async def _each(services: Services, intent: Intent, references: list[str], ask: Ask[T]) -> list[T]:
    return await asyncio.gather(*(ask(services, intent, each) for each in references))


async def _size(services: Services, intent: Intent, reference: str) -> int:
    place, dest = place_of(file_name(reference) or ""), await _dest(services, intent)
    found = await _at(services, dest, reference, lambda store: store.look(place))
    return found.size if found else 0


async def _address(services: Services, intent: Intent, reference: str) -> str:
    if is_link(reference):
        return reference
    if is_object(reference):
        bucket, key = bucket_and_key(reference)
        return await _at(services, bucket, reference, lambda store: store.presign(key, ADDRESS_LIFE))
    place = place_of(file_name(reference) or "")
    dest, storage = await _dest(services, intent), services.settings.storage
    if storage.public_url:
        return public_address(storage.public_url, dest, storage.to)(place)
    return await _at(services, dest, reference, lambda store: _signed(store, place))


def _signed(store: Store, place: str) -> str:
    address = store.presign(place, ADDRESS_LIFE)
    if not is_link(address):
        message = f"{address} can be read on this machine only, and the provider wants an address"
        raise StoreError(code="bad_destination", message=message, retryable=False)
    return address


# -- bytes ---------------------------------------------------------------------------------------------------------


async def file_of(services: Services, intent: Intent, reference: str, *, timeout: float) -> File:  # noqa: ASYNC109  handed on
    """A reference's bytes, as a form carries them. `timeout`: seconds for a download.

    Raises:
        Unreachable: It cannot be read, or is no picture.
    """
    if is_link(reference):
        try:
            found = await services.http.fetch_reference(reference, timeout=timeout)
        except FetchError as error:
            raise Unreachable(error.code, error.message, later=error.retryable) from error
    else:
        content = await _content(services, intent, reference)
        stem = words_of(reference).rpartition("/")[2].rpartition(".")[0]
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in stem)[:60]
        found = File(content=content, content_type="", filename=plain or "reference")
    return await _checked(services, reference, found)


async def _checked(services: Services, reference: str, found: File) -> File:
    try:
        checked = await services.executors.blocking(functools.partial(check, found.content, usual=True))
    except BadImage as bad:
        message = f"the reference {_shown(reference)} is no whole PNG, JPEG or WebP: {bad.message}"
        raise Unreachable("reference_unreadable", message, later=False) from bad
    name = f"{found.filename.rpartition('.')[0] or found.filename}.{checked.ext}"
    return File(content=found.content, content_type=checked.content_type, filename=name)


async def _content(services: Services, intent: Intent, reference: str) -> bytes:
    name = file_name(reference)
    if name is None:
        bucket, key = bucket_and_key(reference)
        return await _read(services, bucket, key, reference)
    content = services.recent.get(name)
    if content is None:
        content = await _read(services, await _dest(services, intent), place_of(name), reference)
        if not has_hash(name, await services.executors.blocking(lambda: hashlib.sha256(content).hexdigest())):
            message = f"the reference {_shown(reference)} has other bytes at {place_of(name)}: delete that"
            raise Unreachable("reference_unreadable", message, later=False)
        services.recent.keep(name, content)
    return content


async def _read(services: Services, bucket: str, key: str, reference: str) -> bytes:
    content = await _at(services, bucket, reference, lambda store: _bounded(store, key))
    if content is None:
        again = "" if is_object(reference) else f" at {key}. The same manifest again brings it"
        raise Unreachable("reference_unreadable", f"the reference {_shown(reference)} is not there{again}", later=False)
    return content


def _bounded(store: Store, key: str) -> bytes | None:
    found = store.look(key)
    if found is not None and found.size > LARGEST:
        message = f"{store.url_of(key)} has {found.size / 1024**2:.1f} MB; a reference may have {LARGEST // 1024**2}"
        raise StoreError(code="too_large", message=message, retryable=False)
    return store.read(key)


async def _at(services: Services, dest: str, reference: str, work: Callable[[Store], T]) -> T:
    try:
        return await services.executors.blocking(lambda: work(services.destinations.store(dest)))
    except StoreError as error:
        code = "reference_unreachable" if error.retryable or error.denied else "reference_unreadable"
        message = f"the reference {_shown(reference)} cannot be read: {error.message}"
        ours = not is_object(reference) and (error.retryable or error.denied)
        raise Unreachable(code, message, later=error.retryable, ours=ours) from error


async def _dest(services: Services, intent: Intent) -> str:
    known, now = services.destinations.of_batches, services.clock.boot()
    dest, at = known.get(intent.batch_id, ("", -math.inf))
    if now - at >= KNOWN_FOR:
        dest = await services.executors.read(services.ledger.batches.dest_of, intent.batch_id)
        known[intent.batch_id] = dest, now
    return dest


def _shown(reference: str) -> str:
    return words_of(reference).partition("?")[0][-120:]
