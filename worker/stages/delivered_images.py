"""A finished provider task's images, as the ledger takes them: with their deaths known and their bytes safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.facts import MadeImage
from jobs.ledger.claims.values import DuePoll, Intent
from jobs.policy.copy_headroom import SAVED_BEFORE
from providers.token_prices import TokenPrices, Usage
from providers.types import Link
from worker.http.client import FetchError
from worker.images.check import BadImage, check
from worker.images.staging import Body
from worker.runtime.telemetry import emit
from worker.services import Services

#: Seconds and bytes of one download here.
TIMEOUT, LIMIT = 60.0, 256 * 1024 * 1024
#: Seconds a link is taken to live at most: one that is said to live for years would be copied last, and never be
#: given up.
LONGEST_LIFE = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """How a provider task is billed. `price`: micro-dollars set aside for an image; `n`: images asked for."""

    tokens: TokenPrices | None  # None: by the image
    price: int
    n: int

    @classmethod
    def of(cls, services: Services, *, account: str, task: Intent | DuePoll) -> Billed:
        """As its own route is, whatever the settings choose by now."""
        provider = services.accounts[account].provider
        tokens = services.catalog.tokens_of(provider, task.provider_model, task.mode, task.price)
        return cls(tokens=tokens, price=task.price or 0, n=task.n)

    def settled(self, usage: Usage | None, images: int) -> tuple[int | None, str | None]:
        """What the usage comes to in micro-dollars, or why it says nothing; neither where it does not matter."""
        if self.tokens is None:
            return None, None
        problem = self.tokens.problem(usage, images, self.price * self.n)
        return (None, problem) if usage is None or problem else (self.tokens.charge(usage), None)


async def made_of(
    services: Services, attempt_id: int, links: Sequence[Link], *, life: float, made_at: float, known: int = 0
) -> tuple[MadeImage, ...]:
    """What has no link is on disk when this returns, since nobody can fetch it again. `known`: of the first, before.

    So is, while the ledger takes no records, what has a link that dies soon: it cannot be claimed for its copy.
    """
    ends = made_at + (life or services.timings.unknown_link_life)
    fresh = [link if link.url or index >= known else Link() for index, link in enumerate(links)]
    return tuple([await _made(services, attempt_id, index, link, ends) for index, link in enumerate(fresh)])


async def _made(services: Services, attempt_id: int, index: int, link: Link, ends: float) -> MadeImage:
    if link.url or link.b64 is None:
        now = services.clock.now()
        dies_at = death_of(link, now) or ends
        if link.url and not services.recorder.healthy and dies_at - now <= SAVED_BEFORE:
            saved = await _saved(services, attempt_id, index, link.url)
            if saved is not None:
                return MadeImage(link=replace(link, b64=None), spool=saved, expires_at=now + LONGEST_LIFE)
        return MadeImage(link=replace(link, b64=None), spool=None, expires_at=dies_at)
    spool = await services.executors.blocking(services.staging.keep, attempt_id, index, link.b64)
    return MadeImage(link=replace(link, b64=None), spool=spool, expires_at=ends)


async def _saved(services: Services, attempt_id: int, index: int, url: str) -> str | None:
    """The file that now holds what the link gives; None: it gives nothing, or the disk has no room to spare."""
    body = Body()
    try:
        await services.http.download(url, body, limit=LIMIT, timeout=TIMEOUT)
        await services.executors.blocking(check, body.content())  # a CDN may give a page now, and the picture later
        name: str | None = await services.executors.blocking(
            services.staging.save_result, attempt_id, index, body.content()
        )
    except (BadImage, FetchError, OSError) as error:
        emit("image_not_kept", level="warning", attempt_id=attempt_id, problem=str(error)[:300])
        return None
    finally:
        body.close()
    if name is not None:
        emit("image_kept", level="warning", attempt_id=attempt_id, file=name)
    return name


def death_of(link: Link, now: float) -> float | None:
    """When a link just given dies, by its provider's word; None: it says nothing that can be true.

    A moment that is past tells of another clock or another unit: the link was given only now. Believed, it would lose
    the image at the first trouble of its CDN.
    """
    if link.expires_at is None or link.expires_at <= now:
        return None
    return min(link.expires_at, now + LONGEST_LIFE)
