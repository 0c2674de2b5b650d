"""Where the money is, as amounts whose sums must come out, and what an invoice may differ by. Pure; micro-dollars.

The words and their sums stand in docs/reference/money.md, and a test holds both to the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields

from jobs.facts import CHARGE_ESTIMATED
from jobs.policy.endings import Silence
from jobs.states import AttemptState


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """Amounts at the prices on record. What was bought at a price nobody knows is counted as images only."""

    reserved: int = 0  # ever set aside, and what came beyond it
    refunded: int = 0  # set aside, and free again
    in_flight: int = 0  # set aside for attempts that are submitting or running
    unknown: int = 0  # set aside for attempts whose outcome nobody knows
    charged: int = 0
    stored: int = 0  # paid, and at the destination
    waiting: int = 0  # paid, and to be copied
    surplus: int = 0  # paid for images beyond what was asked; kept
    lost: int = 0  # paid for images whose link died, and for tasks the provider has forgotten
    undelivered: int = 0  # charged for tasks that ended without any image
    given_up: int = 0  # counted as charged for attempts that were given up or paid again: nobody knows
    unpriced: int = 0  # images

    @property
    def at_risk(self) -> int:
        """What would be paid for nothing if everything died now."""
        return self.in_flight + self.unknown + self.waiting

    @property
    def closes(self) -> bool:
        """Whether both sums come out."""
        spent = self.stored + self.waiting + self.surplus + self.lost + self.undelivered + self.given_up
        return self.charged == spent and self.reserved == self.refunded + self.in_flight + self.unknown + self.charged

    def __add__(self, other: Money) -> Money:
        """Both together."""
        names = (each.name for each in fields(Money))
        return Money(**dict(zip(names, map(sum, zip(astuple(self), astuple(other), strict=True)), strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The money of one batch at one account."""

    batch: str
    account: str
    provider: str
    money: Money


def total(entries: Iterable[Entry]) -> Money:
    """All of it."""
    return sum((entry.money for entry in entries), Money())


def grouped(entries: Iterable[Entry], by: Callable[[Entry], str]) -> dict[str, Money]:
    """Sums by batch, account or provider, in order of their names."""
    found: dict[str, Money] = {}
    for entry in entries:
        found[by(entry)] = found.get(by(entry), Money()) + entry.money
    return dict(sorted(found.items()))


# -- the audit -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One attempt, as it compares to a line of the provider's invoice. Times: Unix seconds."""

    attempt: int
    batch: str
    key: str
    account: str
    provider: str
    model: str
    task_id: str | None
    state: str
    asked: int  # images
    delivered: int
    surplus: int  # of these, beyond what a row waited for
    surplus_cost: int
    price: int | None  # an image; at most, where it is billed by tokens
    reserved: int  # when it was sent, and what came beyond it
    open: int  # of this, still set aside
    charged: int
    intended_at: float
    accepted_at: float | None
    finished_at: float | None
    code: str | None

    @property
    def is_unsent(self) -> bool:
        """Whether it certainly never reached the provider, who has refused nothing then."""
        return self.state == AttemptState.REFUSED and self.code in (Silence.NOT_SENT, Silence.UNREACHABLE)


@dataclass(slots=True)
class Tally:
    """What the lines of an audit come to; made while they pass, so that a million take no room."""

    attempts: int = 0
    unsent: int = 0  # of these, that never reached a provider
    delivered: int = 0
    charged: int = 0
    in_flight: int = 0
    unknown: int = 0
    unknowns: int = 0  # attempts
    given_up: int = 0
    forgotten: int = 0
    undelivered: int = 0
    surplus: int = 0
    failed: int = 0  # what failed tasks would have cost
    short: int = 0  # what images that were asked and did not come would have cost
    unpriced: int = 0  # images delivered at a price nobody knows
    estimated: int = 0  # charged at what was set aside, as no usage was told
    estimates: int = 0  # attempts

    def count(self, lines: Iterable[AuditLine]) -> Iterator[AuditLine]:
        """Lets the lines pass and adds them up."""
        for line in lines:
            self.attempts += 1
            self.unsent += line.is_unsent
            self.delivered += line.delivered
            self.charged += line.charged
            self.surplus += line.surplus_cost
            self.unpriced += line.delivered if line.price is None else 0
            self.estimated += line.charged if line.code == CHARGE_ESTIMATED else 0
            self.estimates += line.code == CHARGE_ESTIMATED
            if add := _ADDERS.get(line.state):
                add(self, line)
            yield line

    def add_done(self, line: AuditLine) -> None:
        """Its images came, or fewer than were asked."""
        self.short += max(0, line.asked - line.delivered) * (line.price or 0)

    def add_open(self, line: AuditLine) -> None:
        """Nobody knows yet, or ever."""
        if line.state == AttemptState.UNKNOWN:
            self.unknown += line.open
            self.unknowns += 1
        else:
            self.in_flight += line.open

    def add_failed(self, line: AuditLine) -> None:
        """It ended without an image."""
        self.undelivered += line.charged
        self.failed += line.reserved - line.charged

    def add_gone(self, line: AuditLine) -> None:
        """Counted as charged, though nobody knows."""
        if line.state == AttemptState.LOST:
            self.forgotten += line.charged - line.delivered * (line.price or 0)
        else:
            self.given_up += line.charged

    @property
    def least(self) -> int:
        """The invoice, if nothing was paid for of all that nobody knows."""
        return self.charged - self.given_up - self.forgotten - self.undelivered - self.estimated

    @property
    def most(self) -> int:
        """The invoice, if all of it was."""
        return self.charged + self.unknown + self.in_flight

    def beyond(self, invoice: int) -> int:
        """What neither explains: above 0 too much is asked for, below 0 too little."""
        return max(0, invoice - self.most) or min(0, invoice - self.least)


#: Which state's money counts where.
_ADDERS: Mapping[str, Callable[[Tally, AuditLine], None]] = {
    AttemptState.SUCCEEDED.value: Tally.add_done,
    AttemptState.SURPLUS.value: Tally.add_done,
    AttemptState.SUBMITTING.value: Tally.add_open,
    AttemptState.RUNNING.value: Tally.add_open,
    AttemptState.UNKNOWN.value: Tally.add_open,
    AttemptState.FAILED.value: Tally.add_failed,
    AttemptState.LOST.value: Tally.add_gone,
    AttemptState.ABANDONED.value: Tally.add_gone,
}
