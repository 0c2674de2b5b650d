"""Rows of a batch that are to be made again, held against what other batches have made or will. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from jobs.ledger import Ledger
from jobs.ledger.batches.values import Batch, MadeBefore
from jobs.planning.overlap import MANY
from jobs.policy.reuse import Allotment, ReuseSource, is_reusable
from providers.types import Request

#: Rows that are looked up with one question.
_CHUNK = 1_000


@dataclass(slots=True, kw_only=True)
class MadeMeanwhile:
    """Rows whose request is there already; those are bought twice that are not taken."""

    takeable: set[str] = field(default_factory=set)  # keys of rows that may take their images from where they are
    apart: int = 0  # rows whose images are there and cannot be taken: incomplete, or made anew since
    waiting: int = 0  # rows whose request waits in another batch, which will buy it
    batches: list[int] = field(default_factory=list)  # that made them, those with most first
    buyers: list[int] = field(default_factory=list)  # in which they wait, those with most first

    def bought_twice(self, *, reuse: bool) -> int:
        """Rows that are paid for although their request was made, or is bought elsewhere."""
        return self.apart + self.waiting + (0 if reuse else len(self.takeable))

    def needs_buy_again(self, to_pay: int, *, reuse: bool) -> bool:
        """Whether a plain yes is not enough, by the rule of `Overlap`. `to_pay`: rows that cost money."""
        twice = self.bought_twice(reuse=reuse)
        return bool(twice) if reuse else twice >= MANY and 2 * twice > to_pay


def made_meanwhile(
    ledger: Ledger, batch: Batch, rows: Iterable[tuple[str, Request]], *, of_token: int | None = None
) -> MadeMeanwhile:
    """What is there of these rows, by key and request. `of_token`: in batches of that token alone; None: in all."""

    def sources(hashes: Sequence[str]) -> list[ReuseSource]:
        return ledger.batches.reuse_sources(hashes, besides=batch.id, sandbox=batch.sandbox, of_token=of_token)

    allotment = Allotment(sources)
    found, answered, places, buyers = MadeMeanwhile(), Counter[str](), Counter[int](), Counter[int]()
    stream = iter(rows)
    while chunk := list(islice(stream, _CHUNK)):
        hashes = ledger.batches.without_images(batch.id, [key for key, _ in chunk])
        asked = [(key, request, hashes[key]) for key, request in chunk if key in hashes]
        made = _made(ledger, batch, [hash_ for _, _, hash_ in asked], of_token)
        waiting = _waiting(ledger, batch, [hash_ for _, _, hash_ in asked]) if of_token is None else {}
        allotment.ask(hash_ for _, request, hash_ in asked if is_reusable(request))
        for key, request, hash_ in asked:
            others = made.get(hash_, ())
            if is_reusable(request) and allotment.take(hash_, request.to_json()) is not None:
                found.takeable.add(key)
            elif answered[hash_] < _not_takeable(others, allotment, hash_, request):
                answered[hash_] += 1
                found.apart += 1
            elif there := waiting.get(hash_):
                buyers[there.pop()] += 1
                found.waiting += 1
                continue
            else:
                continue
            places.update(each.batch_id for each in others)
    found.batches = [batch_id for batch_id, _ in places.most_common()]
    found.buyers = [batch_id for batch_id, _ in buyers.most_common()]
    return found


def waiting_twice(ledger: Ledger, batch: Batch) -> MadeMeanwhile:
    """What is there of the batch's rows that wait: those that wait in another batch too."""
    found = ledger.batches.waiting_twice(batch.id, sandbox=batch.sandbox)
    # Of a row that waits in several batches the one with most is told.
    return MadeMeanwhile(waiting=max((rows for _, rows in found), default=0), buyers=[each for each, _ in found])


def _waiting(ledger: Ledger, batch: Batch, hashes: Sequence[str]) -> dict[str, list[int]]:
    """The batches in which these requests wait, one for each row there."""
    found: dict[str, list[int]] = {}
    wanted = sorted(set(hashes))
    rows = ledger.batches.waiting_elsewhere(wanted, besides=batch.id, sandbox=batch.sandbox) if wanted else ()
    for hash_, batch_id, count in rows:
        found.setdefault(hash_, []).extend([batch_id] * count)
    return found


def _made(ledger: Ledger, batch: Batch, hashes: Sequence[str], of_token: int | None) -> dict[str, list[MadeBefore]]:
    found: dict[str, list[MadeBefore]] = {}
    wanted = sorted(set(hashes))
    if wanted:
        sandbox = batch.sandbox
        for made in ledger.batches.made_elsewhere(wanted, besides=batch.id, sandbox=sandbox, of_token=of_token):
            found.setdefault(made.request_hash, []).append(made)
    return found


def _not_takeable(others: Iterable[MadeBefore], allotment: Allotment, asked_for: str, request: Request) -> int:
    """Rows elsewhere that have made it, and whose images no row may take."""
    if is_reusable(request):
        return sum(each.apart for each in others) + allotment.made_anew(asked_for)
    return sum(each.rows for each in others)
