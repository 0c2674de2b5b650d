"""What an account learns from the facts about its attempts: limits that grow and shrink, rests, probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, update

from jobs import limits, retry
from jobs.endings import OUR_OWN, REACTIONS, Rest, Silence
from jobs.ledger.schema import accounts
from jobs.ledger.values import AttemptFact, SubmitAccepted, SubmitRefused, SubmitUnclear, TaskFailed, TaskSucceeded
from providers.dialect import Kind, clean

#: Seconds for which it is not noted again that an account's provider answers: only days count.
ANSWERED_EVERY = 600.0


def tell_account(tx: Connection, account: Any, facts: Sequence[AttemptFact]) -> None:
    """Lets one account learn from a group of facts about its attempts; the caller holds its row."""
    accepted = sum(1 for fact in facts if _is_accepted(fact))
    news = _good_news(account, accepted) if accepted else {}
    for fact in facts:
        if isinstance(fact, SubmitUnclear | SubmitRefused):
            news = {**news, **_bad_news(account, fact, news)}
        elif isinstance(fact, TaskFailed) and fact.kind is Kind.ACCOUNT:
            news = {**news, **_long_rest(account, fact, news)}
    ended = [fact.at for fact in facts if isinstance(fact, TaskSucceeded) or _has_failed(fact)]
    if ended and max(ended) > (account.answered_at or 0.0) + ANSWERED_EVERY:
        news = {**news, "answered_at": max(ended)}
    if news:
        tx.execute(update(accounts).where(accounts.c.id == account.id).values(**news))


def _is_accepted(fact: AttemptFact) -> bool:
    """Whether a submit was taken. That an older task has ended says nothing of balance, key or load."""
    return isinstance(fact, SubmitAccepted) or (isinstance(fact, TaskSucceeded) and fact.at_once)


def _has_failed(fact: AttemptFact) -> bool:
    return isinstance(fact, TaskFailed) and not fact.forgotten


def _good_news(account: Any, accepted: int) -> dict[str, Any]:
    news: dict[str, Any] = {}
    if account.submits_per_second is None or account.max_in_flight is None:
        rate, flying = limits.grown(account.learnt_rate, account.learnt_in_flight, accepted)
        if (rate, flying) != (account.learnt_rate, account.learnt_in_flight):
            news.update(learnt_rate=rate, learnt_in_flight=flying)
    if account.troubles or account.unclear or account.paused_code:
        news.update(troubles=0, unclear=0, troubled_since=None)
        news.update(paused_until=None, paused_code=None, paused_message=None)
    return news


def _bad_news(account: Any, fact: SubmitUnclear | SubmitRefused, news: dict[str, Any]) -> dict[str, Any]:
    rest = REACTIONS[fact.ending].rest
    if fact.code in OUR_OWN:
        return {}
    if rest is Rest.AFTER_THREE:
        return _unclear_news(account, fact, news)
    if rest is Rest.LONG:
        return _long_rest(account, fact, news)
    if rest is Rest.SHORT and isinstance(fact, SubmitRefused):
        return _throttled(account, fact, news)
    if rest is Rest.IF_UNREACHABLE and fact.code == Silence.UNREACHABLE:
        return _short_rest(account, fact, news, None)
    return {}


def _unclear_news(account: Any, fact: SubmitUnclear | SubmitRefused, news: dict[str, Any]) -> dict[str, Any]:
    """Answers that come in together were in the air together: they make the account rest once."""
    resting = _rests(account, fact.at, news)
    unclear = news.get("unclear", account.unclear) + (not resting)
    if resting or unclear < retry.UNCLEAR_BEFORE_REST:
        return {"unclear": unclear}
    troubles = news.get("troubles", account.troubles) + 1
    return {"unclear": unclear, **_rest(account, fact, troubles, fact.at + retry.unclear_rest(unclear))}


def _throttled(account: Any, fact: SubmitRefused, news: dict[str, Any]) -> dict[str, Any]:
    count = {"throttled": news.get("throttled", account.throttled) + 1}
    if _rests(account, fact.at, news):
        return count  # the whole account cools down once, not once a request
    rate, flying = limits.shrunk(account.learnt_rate, account.learnt_in_flight)
    learnt = {"learnt_rate": rate, "learnt_in_flight": flying}
    return {**count, **learnt, **_short_rest(account, fact, news, fact.retry_after)}


def _rests(account: Any, at: float, news: dict[str, Any]) -> bool:
    until = news.get("paused_until", account.paused_until)
    return until is not None and until > at


def _short_rest(account: Any, fact: Any, news: dict[str, Any], retry_after: float | None) -> dict[str, Any]:
    if _rests(account, fact.at, news):
        return {}
    troubles = news.get("troubles", account.troubles) + 1
    return _rest(account, fact, troubles, fact.at + retry.short_rest(troubles, retry_after))


def _long_rest(account: Any, fact: Any, news: dict[str, Any]) -> dict[str, Any]:
    if _rests(account, fact.at, news) and news.get("paused_code", account.paused_code) == fact.code:
        return {}
    troubles = news.get("troubles", account.troubles) + 1
    return _rest(account, fact, troubles, fact.at + retry.long_rest(troubles))


def _rest(account: Any, fact: Any, troubles: int, until: float) -> dict[str, Any]:
    return {
        "troubles": troubles,
        "troubled_since": (account.troubled_since if account.troubles else None) or fact.at,
        "paused_until": until,
        "paused_code": clean(fact.code),
        "paused_message": clean(fact.message),
    }
