"""What an account learns from the facts about its attempts: limits that grow and shrink, rests, probes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import Connection, Update, bindparam, select, update

from jobs.facts import (
    AttemptFact,
    SubmitAccepted,
    SubmitRefused,
    SubmitUnclear,
    TaskFailed,
    TaskStillRunning,
    TaskSucceeded,
)
from jobs.ledger.accounts.places import in_flight
from jobs.ledger.accounts.poll_rate import cooled
from jobs.ledger.database.schema import accounts, attempts
from jobs.ledger.database.statements import run
from jobs.policy import adaptive_limits, retry
from jobs.policy.adaptive_limits import AdaptiveLimits, Bound
from jobs.policy.endings import OUR_OWN, REACTIONS, Cooldown, Silence
from providers.dialects.answers import THROTTLED
from providers.types import Kind, clean

#: The code of an answer that refuses the key: it speaks of the account, whatever was asked.
BAD_KEY = "bad_key"
#: Seconds for which it is not noted again that an account's provider answers: only days count.
ANSWERED_EVERY = 600.0


def tell_account(tx: Connection, account: Any, facts: Sequence[AttemptFact]) -> None:
    """Lets one account learn from a group of facts about its attempts; the caller holds its row."""
    accepted = [fact for fact in facts if _is_accepted(fact)]
    news = _good_news(account, accepted) if accepted else {}
    for fact in facts:
        if isinstance(fact, SubmitUnclear | SubmitRefused):
            news = {**news, **_bad_news(tx, account, fact, news)}
        elif isinstance(fact, TaskFailed) and fact.kind is Kind.ACCOUNT:
            news = {**news, **_long_cooldown(account, fact, news)}
    ended = [fact.at for fact in facts if isinstance(fact, TaskSucceeded) or _has_failed(fact)]
    if ended and max(ended) > (account.answered_at or 0.0) + ANSWERED_EVERY:
        news = {**news, "answered_at": max(ended)}
    if news:
        run(tx, _told(frozenset(news)), {"of_account": account.id, **{f"new_{name}": news[name] for name in news}})


@cache
def _told(names: frozenset[str]) -> Update:
    news: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    return update(accounts).where(accounts.c.id == bindparam("of_account")).values(news)


def tell_of_polls(tx: Connection, facts: Sequence[TaskStillRunning]) -> None:
    """What polls say of their account: too many of them, or a key that is refused, as a submit would be."""
    told = {fact.attempt_id: fact for fact in facts if fact.rest is not None or fact.code == BAD_KEY}
    if not told:
        return
    whose = select(attempts.c.id, attempts.c.account_id).where(attempts.c.id.in_(told))
    of_account: dict[int, list[TaskStillRunning]] = defaultdict(list)
    for row in tx.execute(whose):
        of_account[row.account_id].append(told[row.id])
    # Locked in order, and before any attempt is written: as everybody does.
    mine = select(accounts).where(accounts.c.id.in_(of_account)).order_by(accounts.c.id)
    for account in tx.execute(mine.with_for_update(key_share=True)).all():
        tx.execute(update(accounts).where(accounts.c.id == account.id).values(**_of_polls(account, of_account)))


def _of_polls(account: Any, of_account: Mapping[int, Sequence[TaskStillRunning]]) -> dict[str, Any]:
    news: dict[str, Any] = {"polls_cut_at": account.polls_cut_at}
    facts = sorted(of_account[account.id], key=lambda fact: fact.at + (fact.rest or 0.0))
    for fact in facts:
        if fact.code == BAD_KEY:
            news.update(_long_cooldown(account, fact, news))
    throttled = [fact for fact in facts if fact.rest is not None]
    return {**news, **(cooled(account, throttled[-1]) if throttled else {})}


def _is_accepted(fact: AttemptFact) -> bool:
    """Whether a submit was taken. That an older task has ended says nothing of balance, key or load."""
    return isinstance(fact, SubmitAccepted) or (isinstance(fact, TaskSucceeded) and fact.at_once)


def _has_failed(fact: AttemptFact) -> bool:
    return isinstance(fact, TaskFailed) and not fact.forgotten


def _good_news(account: Any, accepted: Sequence[AttemptFact]) -> dict[str, Any]:
    news: dict[str, Any] = {}
    if _learns(account):
        took = [fact.took for fact in accepted if isinstance(fact, SubmitAccepted) and fact.took is not None]
        usual = sum(took) / len(took) if took else None
        now = max(fact.at for fact in accepted)
        known = adaptive_limits.accepted(_learnt(account), len(accepted), bound=_may_grow(account), took=usual, now=now)
        news.update(_columns(known))
    if (account.troubles or account.unclear or account.paused_code) and any(_opens(account, fact) for fact in accepted):
        news.update(troubles=0, unclear=0, troubled_since=None)
        news.update(paused_until=None, paused_code=None, paused_message=None)
    return news


def _opens(account: Any, fact: AttemptFact) -> bool:
    """Whether an acceptance ends the account's trouble.

    It does not cut a cool-down short: others were claimed before the 429 and are still taken here and there.
    """
    return account.paused_code != THROTTLED[1] or retry.cooldown_until(account.paused_until, fact.at) is None


def _bad_news(
    tx: Connection, account: Any, fact: SubmitUnclear | SubmitRefused, news: dict[str, Any]
) -> dict[str, Any]:
    rest = REACTIONS[fact.ending].cooldown
    if fact.code in OUR_OWN:
        return {}
    if rest is Cooldown.AFTER_THREE:
        return _unclear_news(account, fact, news)
    if rest is Cooldown.LONG:
        return _long_cooldown(account, fact, news)
    if rest is Cooldown.SHORT and isinstance(fact, SubmitRefused):
        return _throttled(tx, account, fact, news)
    if rest is Cooldown.IF_UNREACHABLE and fact.code == Silence.UNREACHABLE:
        return _short_cooldown(account, fact, news)
    return {}


# -- what is learnt of limits that nobody declared -----------------------------------------------------------------


def _learns(account: Any) -> bool:
    return account.submits_per_second is None or account.max_in_flight is None


def _learnt(account: Any, news: dict[str, Any] | None = None) -> AdaptiveLimits:
    now = {**account._asdict(), **(news or {})}
    return AdaptiveLimits(
        rate=now["learnt_rate"],
        in_flight=now["learnt_in_flight"],
        **{name: now[name] for name in _SAME_NAMES},
        patience=now["patience"] or adaptive_limits.FIRST_PATIENCE,
    )


_SAME_NAMES = ("rate_top", "in_flight_top", "cut_at", "since_cut", "quickest", "usual")


def _columns(known: AdaptiveLimits) -> dict[str, Any]:
    same = {name: getattr(known, name) for name in (*_SAME_NAMES, "patience")}
    return {"learnt_rate": known.rate, "learnt_in_flight": known.in_flight, **same}


def _may_grow(account: Any) -> Bound:
    """What held the last claim up, unless that was a limit the settings declare."""
    declared = {Bound.RATE: account.submits_per_second, Bound.IN_FLIGHT: account.max_in_flight}
    bound = Bound(account.bound_by)
    return Bound.WORK if declared.get(bound) is not None else bound


def _blamed(account: Any, known: AdaptiveLimits, flying: int) -> Bound:
    """Which limit a 429 speaks of; one that is declared is not the one to doubt."""
    if account.submits_per_second is not None:
        return Bound.IN_FLIGHT
    if account.max_in_flight is not None:
        return Bound.RATE
    return adaptive_limits.blamed(known, Bound(account.bound_by), flying)


def _cut(tx: Connection, account: Any, fact: SubmitRefused, news: dict[str, Any], rest: float) -> dict[str, Any]:
    if not _learns(account):
        return {}
    known, flying = _learnt(account, news), in_flight(tx, account.id)
    sent_at, bound = fact.at - (fact.took or 0.0), _blamed(account, known, flying)
    return _columns(
        adaptive_limits.too_much(known, bound=bound, flying=flying, sent_at=sent_at, now=fact.at, cooldown=rest)
    )


# -- rests ---------------------------------------------------------------------------------------------------------


def _unclear_news(account: Any, fact: SubmitUnclear | SubmitRefused, news: dict[str, Any]) -> dict[str, Any]:
    """Answers that come in together were on their way together: they make the account cool down once."""
    resting = _rests(account, fact.at, news)
    unclear = news.get("unclear", account.unclear) + (not resting)
    if resting or unclear < retry.UNCLEAR_BEFORE_COOLDOWN:
        return {"unclear": unclear}
    troubles = news.get("troubles", account.troubles) + 1
    last = ": ".join(part for part in (fact.code, fact.message) if part)
    told = replace(fact, message=f"{unclear} submits running whose outcome nobody can know, the last: {last}")
    return {"unclear": unclear, **_rest(account, told, troubles, fact.at + retry.unclear_cooldown(unclear))}


def _throttled(tx: Connection, account: Any, fact: SubmitRefused, news: dict[str, Any]) -> dict[str, Any]:
    count = {"throttled": news.get("throttled", account.throttled) + 1}
    if _rests(account, fact.at, news):
        return count  # the whole account cools down once, not once a request
    troubles = news.get("troubles", account.troubles) + 1
    rest = retry.throttled_cooldown(troubles, fact.retry_after)
    return {**count, **_cut(tx, account, fact, news, rest), **_rest(account, fact, troubles, fact.at + rest)}


def _rests(account: Any, at: float, news: dict[str, Any]) -> bool:
    return retry.cooldown_until(news.get("paused_until", account.paused_until), at) is not None


def _short_cooldown(account: Any, fact: Any, news: dict[str, Any]) -> dict[str, Any]:
    if _rests(account, fact.at, news):
        return {}
    troubles = news.get("troubles", account.troubles) + 1
    return _rest(account, fact, troubles, fact.at + retry.short_cooldown(troubles))


def _long_cooldown(account: Any, fact: Any, news: dict[str, Any]) -> dict[str, Any]:
    if _rests(account, fact.at, news) and news.get("paused_code", account.paused_code) == fact.code:
        return {}
    troubles = news.get("troubles", account.troubles) + 1
    return _rest(account, fact, troubles, fact.at + retry.long_cooldown(troubles))


def _rest(account: Any, fact: Any, troubles: int, until: float) -> dict[str, Any]:
    return {
        "troubles": troubles,
        "troubled_since": (account.troubled_since if account.troubles else None) or fact.at,
        "paused_until": until,
        "paused_code": clean(fact.code),
        "paused_message": clean(fact.message),
    }
