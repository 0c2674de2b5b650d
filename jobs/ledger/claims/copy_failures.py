"""Images that cannot be stored, counted as their copies end. What follows from it for submits: `unstored`.

A row counts, for what its images share (`_scopes`), those that failed one after the other with none stored between
them. The first stored image sets it to nothing. It is written in the transaction that records how copies ended, last
of all and in one order, so that writers never deadlock; claims only read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Connection,
    literal_column,
    select,
    update,
)

from jobs.facts import Fact, ImageDelayed, ImageLost, ImageStored
from jobs.ledger.claims.values import Failing
from jobs.ledger.database.job_state import derive_jobs
from jobs.ledger.database.schema import (
    ANY_ACCOUNT,
    COST_OF_IMAGE,
    accounts,
    attempts,
    batches,
    copy_failures,
    images,
)
from jobs.ledger.database.statements import INSERT, among, fetch, fetch_value
from jobs.policy.copy_failures import (
    BEGUN,
    ENOUGH,
    PERSON_AFTER,
    Blame,
    failure_of,
    probe_after,
)
from jobs.states import ImageState
from providers.types import clean

#: The code of an image that a person gave up: it says nothing about whoever made it.
GIVEN_UP = "given_up"

#: Account's number, provider model, destination: what images share. `ANY_ACCOUNT` and "" mean any.
Scope = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class CopyEnd:
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
class StopChanges:
    """Where buying stopped with this group, and where it goes on."""

    stopped: list[Failing] = field(default_factory=list)
    mended: list[Failing] = field(default_factory=list)
    wakeups: set[str] = field(default_factory=set)


# -- recording -----------------------------------------------------------------------------------------------------


def before(tx: Connection, facts: Sequence[Fact]) -> list[CopyEnd]:
    """The ends of copies among these facts that change what is counted; to be asked before any of them is written."""
    ends = [fact for fact in facts if isinstance(fact, ImageDelayed | ImageLost | ImageStored)]
    if not ends or (all(isinstance(fact, ImageStored) for fact in ends) and not fetch_value(tx, _ANY_FAILED)):
        return []
    rows = {row.id: row for row in fetch(tx, _IMAGES, {"these": list({fact.image_id for fact in ends})})}
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
    .where(among(images.c.id, "these"))
)


def _seen(fact: ImageDelayed | ImageLost | ImageStored, row: Any) -> CopyEnd:
    return CopyEnd(
        fact=fact,
        account_id=row.account_id,
        provider_model=row.provider_model,
        dest=row.dest,
        price=row.price or 0,
        is_first=row.state == ImageState.GENERATED and row.error_code is None,
    )


def keep(tx: Connection, ends: Sequence[CopyEnd]) -> StopChanges:
    """Counts them. The last writes of a transaction: who holds a row here waits for nobody."""
    effects = _effects(ends)
    news = StopChanges()
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


def _effects(ends: Iterable[CopyEnd]) -> dict[Scope, _Effect]:
    effects: dict[Scope, _Effect] = {}
    for end in ends:
        if isinstance(end.fact, ImageStored):
            for scope in (*_scopes(end, Blame.ACCOUNT), *_scopes(end, Blame.DESTINATION)):
                effects[scope] = _Effect(mended=True)
        elif end.is_first and end.fact.code != GIVEN_UP:
            _add(effects, end, end.fact)
    return effects


def _add(effects: dict[Scope, _Effect], end: CopyEnd, fact: ImageDelayed | ImageLost) -> None:
    blame = failure_of(fact.code).blame
    if blame is Blame.NOBODY:
        return
    for scope in {*_scopes(end, blame), end.cell}:
        effect = effects.setdefault(scope, _Effect())
        effect.last = fact
        if scope != end.cell or blame is Blame.ACCOUNT:
            effect.images += 1
            effect.money += end.price


def _scopes(end: CopyEnd, blame: Blame) -> tuple[Scope, ...]:
    """Whom an image speaks of, from the whole account to its provider model at one destination."""
    if blame is Blame.DESTINATION:
        return ((ANY_ACCOUNT, "", end.dest),)
    return (end.account_id, "", ""), (end.account_id, end.provider_model, ""), end.cell


def _known(tx: Connection, effects: Mapping[Scope, _Effect]) -> dict[Scope, Any]:
    """Their rows, held. One that is missing is made where something failed."""
    fresh = sorted(scope for scope, effect in effects.items() if effect.last is not None)
    if fresh:
        rows = [dict(zip(("account_id", "provider_model", "dest"), scope, strict=True)) for scope in fresh]
        tx.execute(INSERT[tx.dialect.name](copy_failures).on_conflict_do_nothing(), rows)
    held = fetch(tx, _HELD, {"of": [ANY_ACCOUNT, *{scope[0] for scope in effects}]})
    return {(row.account_id, row.provider_model, row.dest): row for row in held}


_HELD = (
    select(copy_failures)
    .where(among(copy_failures.c.account_id, "of"))
    .order_by(copy_failures.c.account_id, copy_failures.c.provider_model, copy_failures.c.dest)
    .with_for_update()
)


def _write(tx: Connection, scope: Scope, row: Any, effect: _Effect, news: StopChanges) -> None:
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
    tx.execute(update(copy_failures).where(is_of(scope)).values(**values))
    if effect.mended and row.images >= ENOUGH:
        news.mended.append(told(tx, row))
        _hasten(tx, scope)
        news.wakeups |= {"copy", *_submit_lanes(tx, scope)}
    elif effect.mended and row.images >= BEGUN:
        news.wakeups |= _submit_lanes(tx, scope)
    elif row.images < ENOUGH <= values["images"]:
        news.stopped.append(told(tx, tx.execute(select(copy_failures).where(is_of(scope))).one()))


def is_of(scope: Scope) -> Any:
    """The condition that a row counts for this scope."""
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
    """What failed there is tried now. Images that another transaction holds are passed over: waiting may deadlock."""
    wanted = select(images.c.id).where(
        *waiting_images(scope), images.c.error_code.is_not(None), images.c.next_copy_at.is_not(None)
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
        tx.execute(update(copy_failures).where(is_of(scope_of(row))).values(probes=0, probe_at=now + probe_after(0)))


def waiting_images(scope: Scope) -> tuple[Any, ...]:
    """Paid images of a scope that are not stored yet."""
    account_id, provider_model, dest = scope
    made = select(attempts.c.id).where(attempts.c.id == images.c.attempt_id)
    made = made.where(attempts.c.account_id == account_id) if account_id != ANY_ACCOUNT else made
    made = made.where(attempts.c.provider_model == provider_model) if provider_model else made
    conditions = (images.c.state == literal_column("'generated'"), made.exists())
    if not dest:
        return conditions
    return (*conditions, images.c.batch_id.in_(select(batches.c.id).where(batches.c.dest == dest)))


def scope_of(row: Any) -> Scope:
    """What the images that a row counts share."""
    return row.account_id, row.provider_model, row.dest


def told(tx: Connection, row: Any) -> Failing:
    """A row as people are told of it."""
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
