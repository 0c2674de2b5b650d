"""Images that cannot be stored: counted as their copies end, and read by every claim of submits.

A row counts, for what its images share (`_scopes`), those that failed one after the other with none stored between
them. The first stored image sets it to nothing. It is written in the transaction that records how copies ended, last
of all and in one order, so that writers never wait for each other in a ring; claims only read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    bindparam,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from jobs.copying import (
    BEGUN,
    ENOUGH,
    PERSON_AFTER,
    Blame,
    blind_probe_after,
    failure_of,
    is_stopped,
    probe_after,
)
from jobs.ledger.derived import derive_jobs
from jobs.ledger.destinations import HELD_UP, heard
from jobs.ledger.schema import (
    ANY_ACCOUNT,
    ATTEMPTS_AN_ACCOUNT,
    COST_OF_IMAGE,
    accounts,
    attempts,
    batches,
    copy_failures,
    images,
    jobs,
)
from jobs.ledger.values.facts import Fact, ImageDelayed, ImageLost, ImageStored
from jobs.ledger.values.failing import Failing
from jobs.states import DestTrouble, Image
from providers.dialect import clean

#: An account's newest attempts, of which those are counted whose images are not tried yet.
NEWEST = 1_000
#: The code of an image that a person gave up: it says nothing about whoever made it.
GIVEN_UP = "given_up"

#: Account's number, provider model, destination: what images share. `ANY_ACCOUNT` and "" mean any.
Scope = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """The end of a copy, and the image as it was before."""

    fact: ImageDelayed | ImageLost | ImageStored
    account_id: int
    provider_model: str
    dest: str
    price: int
    is_first: bool  # it had not failed before

    @property
    def cell(self) -> Scope:
        """All that it shares with others."""
        return self.account_id, self.provider_model, self.dest


@dataclass(slots=True)
class _Effect:
    """What a group of copies means for one scope."""

    mended: bool = False
    images: int = 0  # that failed after the last stored one
    money: int = 0
    last: ImageDelayed | ImageLost | None = None


@dataclass(slots=True)
class News:
    """Where buying stopped with this group, and where it goes on."""

    stopped: list[Failing] = field(default_factory=list)
    mended: list[Failing] = field(default_factory=list)
    bells: set[str] = field(default_factory=set)


# -- recording -----------------------------------------------------------------------------------------------------


def before(tx: Connection, facts: Sequence[Fact]) -> list[Seen]:
    """The ends of copies among these facts that change what is counted; to be asked before any of them is written."""
    ends = [fact for fact in facts if isinstance(fact, ImageDelayed | ImageLost | ImageStored)]
    if not ends or (all(isinstance(fact, ImageStored) for fact in ends) and not tx.execute(_ANY_FAILED).scalar()):
        return []
    rows = {row.id: row for row in tx.execute(_IMAGES, {"these": list({fact.image_id for fact in ends})})}
    return [_seen(fact, rows[fact.image_id]) for fact in ends if fact.image_id in rows]


#: Read with every group of stored images: nearly always it is all that is read.
_ANY_FAILED: Any = select(literal_column("1")).where(copy_failures.c.images > 0).limit(1)
_IMAGES = (
    select(
        images.c.id,
        images.c.state,
        images.c.error_code,
        attempts.c.account_id,
        attempts.c.provider_model,
        COST_OF_IMAGE.label("price"),
        batches.c.dest,
    )
    .select_from(
        images.join(attempts, attempts.c.id == images.c.attempt_id).join(batches, batches.c.id == images.c.batch_id)
    )
    .where(images.c.id.in_(bindparam("these", expanding=True)))
)


def _seen(fact: ImageDelayed | ImageLost | ImageStored, row: Any) -> Seen:
    return Seen(
        fact=fact,
        account_id=row.account_id,
        provider_model=row.provider_model,
        dest=row.dest,
        price=row.price or 0,
        is_first=row.state == Image.GENERATED and row.error_code is None,
    )


def keep(tx: Connection, ends: Sequence[Seen]) -> News:
    """Counts them. The last writes of a transaction: who holds a row here waits for nobody."""
    effects = _effects(ends)
    news = News()
    if not effects:
        return news
    known = _known(tx, effects)
    for scope in sorted(effects):
        row, effect = known.get(scope), effects[scope]
        if row is not None:
            _write(tx, scope, row, effect, news)
    news.stopped, news.mended = _widest_of(news.stopped), _widest_of(news.mended)
    return news


def _widest_of(told: list[Failing]) -> list[Failing]:
    """Of an account and what belongs to it only the account."""
    scopes = {(each.account, each.provider_model, each.dest) for each in told}
    return [
        each
        for each in told
        if not {(each.account, None, None), (each.account, each.provider_model, None)}
        & (scopes - {(each.account, each.provider_model, each.dest)})
    ]


def _effects(ends: Iterable[Seen]) -> dict[Scope, _Effect]:
    effects: dict[Scope, _Effect] = {}
    for end in ends:
        if isinstance(end.fact, ImageStored):
            for scope in (*_scopes(end, Blame.ACCOUNT), *_scopes(end, Blame.DESTINATION)):
                effects[scope] = _Effect(mended=True)
        elif end.is_first and end.fact.code != GIVEN_UP:
            _add(effects, end, end.fact)
    return effects


def _add(effects: dict[Scope, _Effect], end: Seen, fact: ImageDelayed | ImageLost) -> None:
    blame = failure_of(fact.code).blame
    if blame is Blame.NOBODY:
        return
    for scope in {*_scopes(end, blame), end.cell}:
        effect = effects.setdefault(scope, _Effect())
        effect.last = fact
        if scope != end.cell or blame is Blame.ACCOUNT:
            effect.images += 1
            effect.money += end.price


def _scopes(end: Seen, blame: Blame) -> tuple[Scope, ...]:
    """Whom an image speaks of, from the whole account to its provider model at one destination."""
    if blame is Blame.DESTINATION:
        return ((ANY_ACCOUNT, "", end.dest),)
    return (end.account_id, "", ""), (end.account_id, end.provider_model, ""), end.cell


def _known(tx: Connection, effects: Mapping[Scope, _Effect]) -> dict[Scope, Any]:
    """Their rows, held. One that is missing is made where something failed."""
    fresh = sorted(scope for scope, effect in effects.items() if effect.last is not None)
    if fresh:
        rows = [dict(zip(("account_id", "provider_model", "dest"), scope, strict=True)) for scope in fresh]
        tx.execute(_INSERT[tx.dialect.name](copy_failures).on_conflict_do_nothing(), rows)
    held = tx.execute(_HELD, {"of": [ANY_ACCOUNT, *{scope[0] for scope in effects}]})
    return {(row.account_id, row.provider_model, row.dest): row for row in held}


_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_HELD = (
    select(copy_failures)
    .where(copy_failures.c.account_id.in_(bindparam("of", expanding=True)))
    .order_by(copy_failures.c.account_id, copy_failures.c.provider_model, copy_failures.c.dest)
    .with_for_update()
)


def _write(tx: Connection, scope: Scope, row: Any, effect: _Effect, news: News) -> None:
    if effect.last is None and not row.images and row.probe_at is None:
        return  # nothing had failed
    fresh = effect.mended or not row.images
    probes = 0 if effect.mended else row.probes
    values: dict[str, Any] = {
        "images": effect.images + (0 if fresh else row.images),
        "money": effect.money + (0 if fresh else row.money),
        "probes": probes,
    }
    if effect.last is None:
        values |= {"since": None, "code": None, "message": None, "probe_at": None}
    else:
        last = effect.last
        values |= {"code": clean(last.code), "message": clean(last.message), "probe_at": last.at + probe_after(probes)}
        values["since"] = last.at if fresh else row.since
    tx.execute(update(copy_failures).where(_is(scope)).values(**values))
    if effect.mended and row.images >= ENOUGH:
        news.mended.append(_told(tx, row))
        _hasten(tx, scope)
        news.bells |= {"copy", *_submit_lanes(tx, scope)}
    elif effect.mended and row.images >= BEGUN:
        news.bells |= _submit_lanes(tx, scope)
    elif row.images < ENOUGH <= values["images"]:
        news.stopped.append(_told(tx, tx.execute(select(copy_failures).where(_is(scope))).one()))


def _is(scope: Scope) -> Any:
    account_id, provider_model, dest = scope
    return (
        (copy_failures.c.account_id == account_id)
        & (copy_failures.c.provider_model == provider_model)
        & (copy_failures.c.dest == dest)
    )


def _submit_lanes(tx: Connection, scope: Scope) -> set[str]:
    mine = select(accounts.c.name).where(accounts.c.configured)
    mine = mine.where(accounts.c.id == scope[0]) if scope[0] != ANY_ACCOUNT else mine
    return {f"submit:{name}" for name in tx.execute(mine).scalars()}


def _hasten(tx: Connection, scope: Scope) -> None:
    """What failed there is tried now. Whoever is just being written is passed over: waiting for it may be a ring."""
    wanted = select(images.c.id).where(
        *_of(scope), images.c.error_code.is_not(None), images.c.next_copy_at.is_not(None)
    )
    found = list(tx.execute(wanted.with_for_update(of=images, skip_locked=True)).scalars())
    for start in range(0, len(found), 500):
        tx.execute(update(images).where(images.c.id.in_(found[start : start + 500])).values(next_copy_at=0.0))


def try_again(tx: Connection, batch_id: int, now: float) -> None:
    """A person goes on with a batch: what failed to be copied is tried now; what waited for a person, once more."""
    mine = (images.c.batch_id == batch_id, images.c.state == literal_column("'generated'"))
    failed = select(images.c.id, images.c.job_id, images.c.next_copy_at).where(*mine, images.c.error_code.is_not(None))
    rows = tx.execute(failed.with_for_update(of=images, skip_locked=True)).all()
    left_alone = {row.id: row.job_id for row in rows if row.next_copy_at is None}
    for ids, tries in ((list(left_alone), PERSON_AFTER - 1), ([r.id for r in rows if r.id not in left_alone], 0)):
        for start in range(0, len(ids), 500):
            these = images.c.id.in_(ids[start : start + 500])
            tx.execute(update(images).where(these).values(next_copy_at=now, tries=tries))
    derive_jobs(tx, left_alone.values())
    _begin_probing_anew(tx, batch_id, now)


def _begin_probing_anew(tx: Connection, batch_id: int, now: float) -> None:
    """What a person has mended is found out as soon as after the stop itself. Held in the order of all who write."""
    dest = select(batches.c.dest).where(batches.c.id == batch_id).scalar_subquery()
    probed = (copy_failures.c.dest == dest, copy_failures.c.probes > 0)
    order = (copy_failures.c.account_id, copy_failures.c.provider_model, copy_failures.c.dest)
    for row in tx.execute(select(copy_failures).where(*probed).order_by(*order).with_for_update()).all():
        tx.execute(update(copy_failures).where(_is(_scope(row))).values(probes=0, probe_at=now + probe_after(0)))


def _of(scope: Scope) -> tuple[Any, ...]:
    """Paid images of a scope that are not stored yet."""
    account_id, provider_model, dest = scope
    made = select(attempts.c.id).where(attempts.c.id == images.c.attempt_id)
    made = made.where(attempts.c.account_id == account_id) if account_id != ANY_ACCOUNT else made
    made = made.where(attempts.c.provider_model == provider_model) if provider_model else made
    conditions = (images.c.state == literal_column("'generated'"), made.exists())
    if not dest:
        return conditions
    return (*conditions, images.c.batch_id.in_(select(batches.c.id).where(batches.c.dest == dest)))


# -- claiming ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stops:
    """For what of an account nothing more is bought just now."""

    stopped: tuple[Scope, ...]
    tried: tuple[Scope, ...]  # of these a probe has told, or is about to

    def frees(self, provider_model: str, dest: str) -> bool:
        """Whether such rows may be sent."""
        return not any(_holds(scope, provider_model, dest) for scope in self.stopped)

    def probes(self, provider_model: str, dest: str) -> bool:
        """Whether one of such rows may be sent, to see whether it can be stored."""
        tried = any(_holds(scope, provider_model, dest) for scope in self.tried)
        return not (tried or self.frees(provider_model, dest))


def _holds(scope: Scope, provider_model: str, dest: str) -> bool:
    return scope[1] in ("", provider_model) and scope[2] in ("", dest)


def stops(tx: Connection, account_id: int, now: float) -> Stops | None:
    """For what of the account submits wait; None where all goes well. The caller holds the account's row."""
    rows = tx.execute(_FAILING, {"of": [account_id, ANY_ACCOUNT]}).all()
    stopped = tuple(scope for row in rows if _is_stopped(tx, row, scope := _scope(row), now))
    if not stopped:
        return None
    cells = tx.execute(_CELLS, {"of_account": account_id, "moment": now}).all()
    return Stops(stopped=stopped, tried=tuple(_scope(row) for row in cells if not _may_probe_early(tx, row, now)))


_FAILING = select(copy_failures).where(
    copy_failures.c.account_id.in_(bindparam("of", expanding=True)), copy_failures.c.images >= BEGUN
)
#: What was bought there tells whether it can be stored, or will before then.
_CELLS = select(copy_failures).where(
    copy_failures.c.account_id == bindparam("of_account"),
    copy_failures.c.provider_model != "",
    copy_failures.c.dest != "",
    copy_failures.c.probe_at > bindparam("moment"),
)


def _scope(row: Any) -> Scope:
    return row.account_id, row.provider_model, row.dest


def _is_stopped(tx: Connection, row: Any, scope: Scope, now: float) -> bool:
    if row.images >= ENOUGH:
        return True
    some = select(images.c.id).where(*_untried(scope)).limit(bindparam("most", type_=Integer))
    untried = tx.execute(
        select(func.count()).select_from(some.subquery()), {"most": ENOUGH, "moment": now}
    ).scalar_one()
    return is_stopped(row.images, untried)


def _untried(scope: Scope) -> tuple[Any, ...]:
    """Images of a scope that are about to be tried: what waits for a destination in trouble is not."""
    elsewhere = select(batches.c.id).where(batches.c.dest.in_(HELD_UP))
    conditions = (*_of(scope), images.c.error_code.is_(None), images.c.batch_id.not_in(elsewhere))
    if scope[0] == ANY_ACCOUNT:
        return conditions
    # Of an account only its newest: a claim must not read what waits for others, which may be hundreds of thousands.
    first = scope[0] * ATTEMPTS_AN_ACCOUNT
    mine = attempts.c.id.between(first, first + ATTEMPTS_AN_ACCOUNT - 1)
    newest = select(attempts.c.id).where(mine).order_by(attempts.c.id.desc()).limit(NEWEST)
    return (*conditions, images.c.attempt_id.in_(newest))


def _may_probe_early(tx: Connection, row: Any, now: float) -> bool:
    """Where no paid image is left to be copied, and none is being made, only a submit can tell that it is mended."""
    return now >= _blind_at(row) and _is_blind(tx, row)


def _blind_at(row: Any) -> float:
    return float(row.probe_at - probe_after(row.probes) + blind_probe_after(row.probes))


def _is_blind(tx: Connection, row: Any) -> bool:
    account_id, provider_model, dest = scope = _scope(row)
    if tx.execute(select(images.c.id).where(*_of(scope), images.c.next_copy_at.is_not(None)).limit(1)).first():
        return False
    there = select(batches.c.id).where(batches.c.dest == dest)
    flying = select(attempts.c.id).where(
        attempts.c.account_id == account_id,
        attempts.c.state.in_([literal_column("'submitting'"), literal_column("'running'")]),
        attempts.c.provider_model == provider_model,
        attempts.c.batch_id.in_(there),
    )
    return tx.execute(flying.limit(1)).first() is None


def note_probe(tx: Connection, account_id: int, provider_model: str, dest: str, now: float) -> None:
    """One submit tries whether images can be stored again; the next comes later. The caller holds the account's row."""
    cell: Scope = (account_id, provider_model, dest)
    named = dict(zip(("account_id", "provider_model", "dest"), cell, strict=True))
    # Its first image may fail at this very moment, and be recorded by somebody who does not hold the account's row.
    tx.execute(_INSERT[tx.dialect.name](copy_failures).values(**named).on_conflict_do_nothing())
    row = tx.execute(select(copy_failures).where(_is(cell)).with_for_update()).one()
    later = {"probes": row.probes + 1, "probe_at": now + probe_after(row.probes + 1)}
    tx.execute(update(copy_failures).where(_is(cell)).values(**later))


# -- telling -------------------------------------------------------------------------------------------------------


def everywhere(tx: Connection, now: float) -> tuple[Failing, ...]:
    """Where nothing more is bought since nothing can be stored, the widest words for it."""
    return tuple(_told_of(tx, row, now) for row in _widest(tx, now))


def of_batch(tx: Connection, batch_id: int, dest: str, now: float) -> tuple[Failing, ...]:
    """What of it holds up a batch: rows that wait to be sent, or images of its own that failed."""
    rows = [row for row in _widest(tx, now) if row.dest in ("", dest)]
    return tuple(_told_of(tx, row, now, dest) for row in rows if _concerns(tx, row, batch_id))


def _widest(tx: Connection, now: float) -> Iterator[Any]:
    rows = tx.execute(_STOPPED).all()
    if not rows:
        return
    scopes = {_scope(row) for row in rows}
    refusing = {trouble.dest for trouble in heard(tx, now) if trouble.kind is DestTrouble.REFUSES}
    for row in rows:
        account_id, provider_model, dest = scope = _scope(row)
        wider = {(account_id, "", ""), (account_id, provider_model, "")} - {scope}
        if account_id == ANY_ACCOUNT and dest in refusing:
            continue  # it has said so itself
        if account_id == ANY_ACCOUNT or not wider & scopes:
            yield row


_STOPPED = (
    select(copy_failures)
    .where(copy_failures.c.images >= ENOUGH)
    .order_by(copy_failures.c.account_id, copy_failures.c.provider_model, copy_failures.c.dest)
)


def _concerns(tx: Connection, row: Any, batch_id: int) -> bool:
    failed = select(images.c.id).where(
        *_of(_scope(row)), images.c.batch_id == batch_id, images.c.error_code.is_not(None)
    )
    if tx.execute(failed.limit(1)).first():
        return True
    ready = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.state == literal_column("'ready'"))
    if row.account_id != ANY_ACCOUNT:
        at = select(accounts.c.provider).where(accounts.c.id == row.account_id).scalar_subquery()
        ready = ready.where(jobs.c.provider == at)
    if row.provider_model:
        ready = ready.where(jobs.c.provider_model == row.provider_model)
    return tx.execute(ready.limit(1)).first() is not None


def _told_of(tx: Connection, row: Any, now: float, dest: str = "") -> Failing:
    """With what helps: whose images they are, and when the next submit (to `dest`) tries it by itself."""
    return replace(_told(tx, row), batch=_blamed(tx, row), next_try_at=_next_try(tx, row, now, dest))


def _blamed(tx: Connection, row: Any) -> str | None:
    failed = select(images.c.batch_id).where(*_of(_scope(row)), images.c.error_code.is_not(None))
    newest = failed.order_by(images.c.id.desc()).limit(1).scalar_subquery()
    return tx.execute(select(batches.c.name).where(batches.c.id == newest)).scalar()


def _next_try(tx: Connection, row: Any, now: float, dest: str) -> float | None:
    cells = select(copy_failures).where(
        copy_failures.c.provider_model != "", copy_failures.c.dest != "", copy_failures.c.probe_at.is_not(None)
    )
    if row.account_id != ANY_ACCOUNT:
        cells = cells.where(copy_failures.c.account_id == row.account_id)
    if row.provider_model:
        cells = cells.where(copy_failures.c.provider_model == row.provider_model)
    if row.dest or dest:
        cells = cells.where(copy_failures.c.dest == (row.dest or dest))
    times = [_blind_at(cell) if _is_blind(tx, cell) else cell.probe_at for cell in tx.execute(cells)]
    coming = min(times, default=now)
    return coming if coming > now else None


def _told(tx: Connection, row: Any) -> Failing:
    account = tx.execute(select(accounts).where(accounts.c.id == row.account_id)).first()
    return Failing(
        account=account.name if account else None,
        provider=account.provider if account else None,
        provider_model=row.provider_model or None,
        dest=row.dest or None,
        images=row.images,
        money=row.money,
        since=row.since or 0.0,
        code=row.code or "",
        message=row.message or "",
    )
