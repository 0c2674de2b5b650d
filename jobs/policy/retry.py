"""What follows a failure: another attempt and when, or the end of the row; how long an account cools down. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobs.policy.endings import OF_KIND, REACTIONS, RowOutcome
from providers.types import Kind

#: Seconds before the first new attempt; each next waits three times as long, up to the longest: settings allow twenty.
FIRST_WAIT = 5.0
LONGEST_WAIT = 3600.0

#: Seconds an account cools down after 429 without Retry-After, doubled with each that follows without an acceptance.
#: Short: a limit nobody declares is found by a 429 now and then, and most providers count by the second.
THROTTLED_COOLDOWN = 0.5
#: 429s running for which a Retry-After is believed that is shorter than that.
WORD_BELIEVED = 4
#: Seconds it cools down after a refused connection; doubled each time.
SHORT_COOLDOWN = 2.0
LONGEST_SHORT_COOLDOWN = 300.0
#: Seconds an account cools down after its balance or key was refused, until a submit probes it; doubled each time.
LONG_COOLDOWN = 60.0
LONGEST_LONG_COOLDOWN = 3600.0
#: Unclear outcomes running after which an account cools down and then probes with one submit at a time.
UNCLEAR_BEFORE_COOLDOWN = 3
#: Seconds of the first such cooldown, doubled each time: each probe may be one more row that is held with its money.
UNCLEAR_COOLDOWN = 15.0
LONGEST_UNCLEAR_COOLDOWN = 900.0
#: Seconds of the longest cooldown that ends by itself: a provider's word is believed for a day, and ours are shorter.
LONGEST_COOLDOWN = 86_400.0
#: Seconds by which the clock that a cooldown was said by may have been ahead of the one that is asked now.
CLOCKS_DIFFER = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """`again_in` seconds, or None: the row ends here."""

    again_in: float | None


def decide(kind: Kind, failures: int, *, retries: int, parts: int = 1) -> RetryDecision:
    """What follows the `failures`-th failed provider task (counted from 1) of a job that needs `parts` of them.

    `retries`: new attempts after tasks that failed for no reason of the request's own.
    """
    if REACTIONS[OF_KIND[kind]].row is RowOutcome.ENDS:
        return RetryDecision(again_in=None)
    if kind is not Kind.TRANSIENT:
        return RetryDecision(again_in=0.0)  # the account cools down, the row has done nothing wrong
    if failures > retries * parts:
        return RetryDecision(again_in=None)
    return RetryDecision(again_in=min(LONGEST_WAIT, FIRST_WAIT * 3.0 ** min((failures - 1) // parts, 20)))


def row_backoff(times: int) -> float:
    """Seconds a row waits that the provider would not take just then (409, 423, 425), for the `times`-th time."""
    return min(LONGEST_SHORT_COOLDOWN, SHORT_COOLDOWN * 2.0 ** min(max(times - 1, 0), 20))


def short_cooldown(troubles: int) -> float:
    """Seconds an account cools down after the `troubles`-th trouble running (counted from 1)."""
    return min(LONGEST_SHORT_COOLDOWN, SHORT_COOLDOWN * 2.0 ** min(troubles - 1, 20))


def throttled_cooldown(troubles: int, retry_after: float | None) -> float:
    """Seconds an account cools down after the `troubles`-th 429 running (counted from 1).

    The provider's own word counts, until it has proven too short again and again: some always say 0.
    """
    backoff = min(LONGEST_SHORT_COOLDOWN, THROTTLED_COOLDOWN * 2.0 ** min(troubles - 1, 20))
    if retry_after is None:
        return backoff
    return retry_after if troubles <= WORD_BELIEVED else max(retry_after, backoff)


def unclear_cooldown(unclear: int) -> float:
    """Seconds an account cools down after the `unclear`-th unclear outcome running (counted from 1)."""
    beyond = max(0, unclear - UNCLEAR_BEFORE_COOLDOWN)
    return min(LONGEST_UNCLEAR_COOLDOWN, UNCLEAR_COOLDOWN * 2.0 ** min(beyond, 20))


def long_cooldown(troubles: int) -> float:
    """Seconds until an account without balance or with a refused key is probed again."""
    return min(LONGEST_LONG_COOLDOWN, LONG_COOLDOWN * 2.0 ** min(troubles - 1, 20))


def cooldown_until(until: float | None, now: float) -> float | None:
    """The end of a cooldown that is on record (infinity: until a person helps), or None: it is over.

    One beyond all reason was said by a clock, or a provider, that was wrong. It is over, and a probe tells the truth.
    """
    if until is None or until <= now:
        return None
    return until if math.isinf(until) or until <= now + LONGEST_COOLDOWN + CLOCKS_DIFFER else None
