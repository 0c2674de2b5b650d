"""Copies that end for now, or for good: when an image is tried again, and when it is lost."""

from __future__ import annotations

import functools
import math
from typing import NoReturn

from jobs.facts import ImageDelayed, ImageLost, ReuseGone
from jobs.ledger.claims.values import DueCopy
from jobs.policy.copy_failures import needs_person
from providers.types import Link, clean
from worker.runtime.telemetry import emit
from worker.services import Services
from worker.stages.delivered_images import death_of

#: The provider was asked for another link and did not say whether there is one; or it says that there is none, or
#: does not find the task, which one whose database is away says of all.
NO_WORD, NOT_FOUND = Link(), Link()
#: The share of what is left of a link's life that a retry waits at most: one that dies in 20 s is tried in 5 again.
PATIENCE = 0.25
SHORTEST_WAIT = 0.5
#: Seconds until the next try: doubled from the first to the longest; a bucket that refuses is tried more often.
FIRST_WAIT = 2.0
LONGEST_WAIT = 300.0
LONGEST_STORE_WAIT = 60.0


class CopyDeferredError(Exception):
    """This copy ends here for now, or for good; `fact` says which."""

    def __init__(self, fact: ImageDelayed | ImageLost | ReuseGone) -> None:
        super().__init__(fact.message)
        self.fact = fact


def lose_or_defer(services: Services, due: DueCopy, link: Link | None, refusal: str) -> NoReturn:
    """Ends a copy whose links are dead.

    A fresh link that is dead too moves no expiry, or a file that is gone could be signed anew for ever. `refusal`:
    what the CDN said; it may speak of us, and not of the link.

    Raises:
        CopyDeferredError: Always.
    """
    said = f" ({refusal})" if refusal else ""
    timings = services.timings
    dies = due.expires_at + (timings.unanswered_after if link is NO_WORD else timings.gone_after if link else 0.0)
    if services.clock.now() >= dies:
        lose(services, due, "link_dead", f"the link is dead{said} and the provider gives no other")
    defer(services, due, "link_dead", f"the link does not work{said}, and the provider gives no other that does")


def lose(services: Services, due: DueCopy, code: str, message: str) -> NoReturn:
    """Loses the image for good, unless an earlier put may have worked and its destination cannot be asked now.

    Raises:
        CopyDeferredError: Always.
    """
    trouble = services.destinations.troubles.get(due.dest)
    if trouble and due.recorded:
        raise CopyDeferredError(delayed(services, due, trouble.code, trouble.message, longest=LONGEST_STORE_WAIT))
    emit("image_lost", level="warning", batch=due.batch, key=due.key, image_id=due.image_id, code=code)
    now = services.clock.now()
    raise CopyDeferredError(ImageLost(image_id=due.image_id, at=now, code=code, message=clean(message)))


def defer(
    services: Services,
    due: DueCopy,
    code: str,
    message: str,
    link: Link | None = None,
    *,
    gone_after: float = math.inf,
) -> NoReturn:
    """Ends a copy that is tried again. `gone_after`: seconds beyond its time after which the image is lost instead.

    Raises:
        CopyDeferredError: Always.
    """
    if services.clock.now() >= due.expires_at + gone_after and not due.spool:
        lose(services, due, code, message)
    raise CopyDeferredError(delayed(services, due, code, message, link))


@functools.cache
def _tell_once(batch: str, message: str) -> None:
    """Paid images wait until the user says that downloads from private addresses are meant."""
    help_ = "if you trust it, LIGHTFAST_ALLOW_PRIVATE_HOSTS=1 and the same command"
    emit("paid_images_wait", level="warning", batch=batch, problem=message, help=help_)


def delayed(
    services: Services,
    due: DueCopy,
    code: str,
    message: str,
    link: Link | None = None,
    longest: float = LONGEST_WAIT,
) -> ImageDelayed:
    """When it is tried again: in time for its link, with a fresh one where there is one.

    What no time mends is tried a few times, and then only on a person's word.
    """
    if code == "forbidden_address":
        _tell_once(due.batch, message)
    now = services.clock.now()
    wait = min(longest, FIRST_WAIT * 2 ** min(due.tries - 1, 16))
    if due.expires_at > now:
        wait = min(wait, max(SHORTEST_WAIT, PATIENCE * (due.expires_at - now)))
    wait *= services.rng.uniform(0.8, 1.2)
    fresh = link is not None and link.url not in (None, due.url)
    life = services.routes.of_task(due.provider, due.provider_model).link_life or services.timings.unknown_link_life
    is_stuck = needs_person(code, due.tries + 1) and not fresh
    return ImageDelayed(
        image_id=due.image_id,
        at=now,
        next_copy_at=None if is_stuck else now + wait,
        code=code,
        message=clean(message),
        url=link.url if link else None,
        expires_at=(death_of(link, now) or now + life) if link and fresh else None,
    )
