"""Accounts as the settings declare them: taken over at a start, and missed where paid work still needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, literal_column, select, union_all, update

from jobs.errors import BadInput
from jobs.formatting import money
from jobs.ledger.accounts.values import AccountLimits, Stranded
from jobs.ledger.database.schema import accounts, attempts
from jobs.ledger.database.schema import ledger as ledger_row
from jobs.ledger.database.statements import INSERT
from jobs.policy import adaptive_limits
from providers.registry import key_variable


def sync_accounts(tx: Connection, declared: Sequence[AccountLimits], daily_budget: int | None) -> None:
    """Takes over accounts, limits and budgets; the others are no longer configured.

    Raises:
        BadInput: an account is gone, or is another provider's now, and paid work there is still open.
    """
    if missing := stranded(tx, declared):
        raise BadInput([told(each) for each in missing])
    # Locked in order before anything is written: an update of all takes them in any order.
    tx.execute(select(accounts.c.id).order_by(accounts.c.id).with_for_update(key_share=True))
    for aside, name in _taken_up(tx, declared).items():
        tx.execute(update(accounts).where(accounts.c.name == aside).values(name=name))
    known = {row.name: row for row in tx.execute(select(accounts))}
    tx.execute(update(accounts).values(configured=False))
    for account in declared:
        _take_over(tx, known.get(account.name), account)
    tx.execute(update(ledger_row).values(daily_budget=daily_budget))


def _take_over(tx: Connection, row: Any, account: AccountLimits) -> None:
    values = {
        "provider": account.provider,
        "configured": True,
        "submits_per_second": account.submits_per_second,
        "polls_per_second": account.polls_per_second,
        "max_in_flight": account.max_in_flight,
        "daily_budget": account.daily_budget,
        "key_mark": account.key_mark,
    }
    if row is not None and row.provider != account.provider:
        row = _at_its_provider(tx, row, account)
    if row is None:
        fresh = INSERT[tx.dialect.name](accounts).values(name=account.name, **values, **_FIRST)
        # Workers that start together all find no account. The second has just marked as no longer configured what the
        # first put in meanwhile, so it must say otherwise.
        same = accounts.c.provider == account.provider
        tx.execute(fresh.on_conflict_do_update(index_elements=["name"], set_=values, where=same))
        return
    tx.execute(update(accounts).where(accounts.c.id == row.id).values(**values))
    if row.key_mark != account.key_mark:
        _ask_afresh(tx, row.id)


def _at_its_provider(tx: Connection, row: Any, account: AccountLimits) -> Any:
    """The name goes to another provider: what was learnt, paid and made stays with the one before, under another name.

    Else that one's tasks would be asked about here, and its money be counted here. Going back finds all as it was.
    """
    tx.execute(update(accounts).where(accounts.c.id == row.id).values(name=_aside(row.name, row.provider)))
    before = accounts.c.name == _aside(account.name, account.provider)
    return tx.execute(update(accounts).where(before).values(name=account.name).returning(*accounts.c)).first()


def _aside(name: str, provider: str) -> str:
    """No name that settings could have."""
    return f"{name} ({provider})"


def _own_name(name: str, provider: str) -> str:
    return name.removesuffix(_aside("", provider))


def _taken_up(tx: Connection, declared: Sequence[AccountLimits]) -> dict[str, str]:
    """Accounts whose name went to another provider and that these settings name anew: the name aside, the new one.

    A new name with the same provider and the same key is that account, so the work it left can be asked about again.
    """
    rows = tx.execute(select(accounts.c.name, accounts.c.provider, accounts.c.key_mark)).all()
    left = {(row.provider, row.key_mark): row.name for row in rows if row.name != _own_name(row.name, row.provider)}
    on_record = {row.name for row in rows}
    found = {
        left.pop((account.provider, account.key_mark), None): account.name
        for account in declared
        if account.key_mark is not None and account.name not in on_record
    }
    return {aside: name for aside, name in found.items() if aside is not None}


_FIRST: Mapping[str, Any] = {
    "learnt_rate": adaptive_limits.FIRST_SUBMITS_PER_SECOND,
    "learnt_in_flight": adaptive_limits.FIRST_IN_FLIGHT,
    "learnt_polls": adaptive_limits.FIRST_POLLS_PER_SECOND,
    **dict.fromkeys(("rate_top", "in_flight_top", "cut_at", "polls_cut_at", "quickest", "usual")),
    **dict.fromkeys(("answered_at", "called_back_at", "troubled_since")),
    **dict.fromkeys(("paused_until", "paused_code", "paused_message")),
    **dict.fromkeys(("since_cut", "patience", "troubles", "unclear", "submit_tat", "poll_tat"), 0),
}


def _ask_afresh(tx: Connection, account_id: int) -> None:
    """With another key, "not found" may mean that this key does not see the task: it is counted from the beginning."""
    doubted = (attempts.c.account_id == account_id, attempts.c.not_found_since.is_not(None))
    tx.execute(update(attempts).where(*doubted).values(not_found_since=None))


def stranded(tx: Connection, declared: Sequence[AccountLimits]) -> list[Stranded]:
    """Accounts with paid work in progress that these settings no longer have, or have at another provider."""
    now_at = {account.name: account.provider for account in declared}
    taken_up = _taken_up(tx, declared)
    return [
        Stranded(account=name, provider=provider, tasks=tasks, money=int(money or 0), now_at=now_at.get(name))
        for aside, provider, tasks, money in tx.execute(_COUNT_OPEN)
        if aside not in taken_up and now_at.get(name := _own_name(aside, provider)) != provider
    ]


_POLLED = attempts.c.next_poll_at.is_not(None)


def _count_open() -> Any:
    """Tasks in progress, by account."""
    # One question for each of two partial indexes: with "or" between them SQLite reads all attempts there ever were.
    runs = attempts.c.state.in_([literal_column("'submitting'"), literal_column("'running'")])
    which = (attempts.c.account_id, attempts.c.reserved)
    open_ = union_all(select(*which).where(runs), select(*which).where(_POLLED, ~runs)).subquery()
    return (
        select(accounts.c.name, accounts.c.provider, func.count().label("tasks"), func.sum(open_.c.reserved))
        .select_from(open_.join(accounts, accounts.c.id == open_.c.account_id))
        .group_by(accounts.c.name, accounts.c.provider)
        .order_by(accounts.c.name)
    )


_COUNT_OPEN = _count_open()


def told(missing: Stranded) -> str:
    """What stands open there, what it cost, and what to do."""
    name, provider = missing.account, missing.provider
    variable = key_variable(provider)
    gone = "is no longer configured" if missing.now_at is None else f"is at {missing.now_at} now"
    open_ = f"{missing.tasks} open provider task{'' if missing.tasks == 1 else 's'} worth {money(missing.money)}"
    also = "" if missing.now_at is None else f" Or give {provider} another name, with the key it had."
    return (
        f"account {name} ({provider}) {gone}, and has {open_}: paid for, and nobody would ask about them. "
        f'Put it back ([accounts.{name}] with provider "{provider}", or its key in {variable}) until they have ended; '
        f"a new account takes another name.{also} Nothing was sent."
    )


def wake(tx: Connection, name: str, now: float) -> None:
    """Ends an account's rest. Polls that a refused key put off are due: tasks that ended meanwhile hold its places."""
    account_id = tx.execute(
        update(accounts).where(accounts.c.name == name).values(paused_until=None).returning(accounts.c.id)
    ).scalar()
    put_off = (attempts.c.account_id == account_id, attempts.c.next_poll_at > now)
    tx.execute(update(attempts).where(*put_off).values(next_poll_at=now))
