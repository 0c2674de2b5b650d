"""Copies that fail: what each failure waits for, and when nothing more is bought since nothing can be stored. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class WaitsFor(enum.Enum):
    """What an image that could not be copied waits for."""

    DESTINATION = "destination"  # the whole of it takes no writes; it is probed, and what it refused is hastened then
    LINK = "link"  # the link, its CDN or its provider: time helps, or a fresh link
    PERSON = "person"  # no time will help: somebody must change something, or give the image up


class Blame(enum.Enum):
    """Whom a failure speaks of: where many fail alike, nothing more is bought there."""

    ACCOUNT = "account"  # and its provider model: what they make cannot be fetched, or is no image
    DESTINATION = "destination"
    NOBODY = "nobody"  # a matter of pace


@dataclass(frozen=True, slots=True)
class CopyFailure:
    """What a code of a copy means."""

    waits_for: WaitsFor
    blame: Blame


_ITS_DESTINATION = CopyFailure(WaitsFor.DESTINATION, Blame.DESTINATION)
_PACE = CopyFailure(WaitsFor.DESTINATION, Blame.NOBODY)
_ITS_NAME = CopyFailure(WaitsFor.PERSON, Blame.DESTINATION)
_ITS_LINK = CopyFailure(WaitsFor.LINK, Blame.ACCOUNT)
_ITS_BYTES = CopyFailure(WaitsFor.PERSON, Blame.ACCOUNT)
_LEDGER = CopyFailure(WaitsFor.LINK, Blame.NOBODY)

#: Every code with which a copy can end for now, or for good. One that does not stand here is taken for the link's.
FAILURES: dict[str, CopyFailure] = {
    "bad_destination": _ITS_DESTINATION,
    "bucket_busy": _PACE,
    "bucket_denied": _ITS_DESTINATION,
    "bucket_failing": _ITS_DESTINATION,
    "bucket_misconfigured": _ITS_DESTINATION,
    "bucket_missing": _ITS_DESTINATION,
    "bucket_no_credentials": _ITS_DESTINATION,
    "bucket_slow_down": _PACE,
    "bucket_unfaithful": _ITS_DESTINATION,
    "bucket_unreachable": _ITS_DESTINATION,
    "bucket_wrong_region": _ITS_DESTINATION,
    "disk_denied": _ITS_DESTINATION,
    "disk_error": _ITS_DESTINATION,
    "disk_full": _ITS_DESTINATION,
    "bad_path": _ITS_NAME,
    "bucket_refused": _ITS_NAME,
    "path-conflict": _ITS_NAME,
    "bad_link": _ITS_LINK,
    "bytes_elsewhere": _ITS_LINK,
    "copy_failed": _ITS_LINK,
    "corrupt": _ITS_LINK,
    "download_failed": _ITS_LINK,
    "download_timeout": _ITS_LINK,
    "link_dead": _ITS_LINK,
    "ledger_away": _LEDGER,
    "not_an_image": _ITS_LINK,
    "too_many_redirects": _ITS_LINK,
    "truncated": _ITS_LINK,
    "bytes_unreadable": _ITS_BYTES,
    "forbidden_address": _ITS_BYTES,
    "too_large": _ITS_BYTES,
    "too_many_pixels": _ITS_BYTES,
}

#: Those of which no time mends anything.
PERSON_CODES = tuple(code for code, failure in FAILURES.items() if failure.waits_for is WaitsFor.PERSON)
#: Tries after which an image that only a person can help is left alone: one odd answer is no last word.
PERSON_AFTER = 3

#: Images that fail in a row, with none stored between them, until nothing more is bought for what they share.
ENOUGH = 20
#: Failures in a row from which on paid images that were not tried yet count as if they had failed: more is bought when
#: they have been tried.
BEGUN = 2
#: Seconds until one submit tries whether images can be stored again, doubled up to the longest: each is paid, while
#: copies that are tried again cost nothing and mostly tell it sooner.
FIRST_PROBE, LONGEST_PROBE = 300.0, 3_600.0
#: The first of them where no paid image is left whose copy could tell.
FIRST_BLIND_PROBE = 30.0


def failure_of(code: str) -> CopyFailure:
    """What a copy's code means."""
    return FAILURES.get(code, _ITS_LINK)


def needs_person(code: str, tries: int) -> bool:
    """Whether an image waits for a person, after `tries` tries of which the last ended with this code."""
    return failure_of(code).waits_for is WaitsFor.PERSON and tries >= PERSON_AFTER


def is_stopped(failed: int, untried: int) -> bool:
    """Whether nothing more is bought: `failed` images since the last stored one, `untried` ones that wait."""
    return failed >= ENOUGH or (failed >= BEGUN and failed + untried >= ENOUGH)


def probe_after(probes: int) -> float:
    """Seconds from the `probes`-th submit that found nothing mended (0: from the stop itself) to the next."""
    return min(LONGEST_PROBE, FIRST_PROBE * 2.0 ** min(probes, 20))


def blind_probe_after(probes: int) -> float:
    """The same where nothing but a submit can tell: sooner, and doubled as well, for what it buys may be lost."""
    return min(probe_after(probes), FIRST_BLIND_PROBE * 2.0 ** min(probes, 20))
