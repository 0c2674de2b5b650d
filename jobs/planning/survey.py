"""What a manifest comes to: rows by what becomes of them, routes with their money and time, and reasons to refuse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jobs.formatting import count, money, up_to_cents
from jobs.ledger.batches.values import Batch
from jobs.planning.duplicates import DuplicateRows
from jobs.planning.earlier_keys import EarlierKeys
from jobs.planning.first_plan import FirstPlan
from jobs.planning.overlap import Overlap
from jobs.planning.problems import Cause, RowProblem
from jobs.planning.same_requests import SameRequests
from jobs.planning.variations import VariationCounts
from jobs.states import BatchState

#: Causes and changed rows that stand in one message.
_IN_MESSAGE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLine:
    """All images still to be paid for on one route."""

    provider: str
    model: str
    provider_model: str
    ratio: str | None
    resolution: str | None
    pixels: tuple[int, int] | None  # None: not known beforehand
    price: int | None  # micro-dollars an image, likely where it is billed by tokens; None: not known
    price_is_yours: bool
    images: int
    tasks: int  # provider tasks: one makes up to the route's max_n images
    seconds: float  # from the first submit to the last image, were this the provider's only route
    bound_by: str  # "max_in_flight 10", "submits_per_second 5, learnt"
    mode: str | None = None  # the provider's own route, where it has several
    assumed: str = ""  # what the price rests on, where it is an estimate
    price_is_most: bool = False  # an estimate that takes the dearest of what is not known
    aside: int = 0  # micro-dollars set aside for all of them: the most they cost
    least: int = 0  # micro-dollars set aside for the one of them that holds the least
    may_be_less: bool = False  # what bounds it still grows: the seconds are the most it may take

    @property
    def money(self) -> int | None:
        """Micro-dollars; None where the price is not known."""
        return None if self.price is None else self.price * self.images

    @property
    def label(self) -> str:
        """The model and its shape: "gpt-image-2 16:9"; the resolution too where the pixels do not tell it."""
        shape = [self.ratio, None if self.pixels else self.resolution, self.mode if self.assumed else None]
        return " ".join([self.model, *(part for part in shape if part)])


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteGroup:
    """The routes of one model at one provider, whatever their shapes; their prices are of one kind."""

    lines: tuple[RouteLine, ...]
    seconds: float  # from the first submit to the last image, were these the provider's only routes
    bound_by: str
    may_be_less: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The finished prompt of a row that would be made or has changed, to be looked at before money is spent."""

    line: int
    key: str
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRow:
    """A row with another request than the ledger has, and something running, unknown or stored."""

    line: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One whole pass over a manifest, counted against the ledger. Rows: every row is in exactly one count."""

    manifest: str
    columns: tuple[str, ...]
    has_key: bool  # False: rows are known by their number
    rows: int
    new: int
    changed: int  # another request: those that nothing was paid for, and those that `--changed` decides
    done: int
    open: int  # unchanged, not finished: goes on
    ended: int  # unchanged, ended badly or cancelled: `lightfast retry`
    skipped: int
    bad: int
    problems: tuple[RowProblem, ...]  # the first; a bad row may have several
    causes: tuple[Cause, ...]  # the same by what is wrong, of all bad rows
    doubts: tuple[Cause, ...]  # what may be another thing than was meant, in rows to be paid or refused as changed
    samples: tuple[Sample, ...]
    hints: tuple[str, ...]  # columns that would change the picture, and are only carried
    routes: tuple[RouteLine, ...]
    groups: tuple[RouteGroup, ...]  # the same routes, each in one of them
    seconds: float  # until all is ready; providers work side by side
    may_be_less: bool  # these are the most it may take
    disputed: int  # changed rows that `--changed` decides
    disputed_rows: tuple[ChangedRow, ...]  # the first
    disputed_back: int  # of these, those that `--changed redo` gives the images back that they had with their request
    own_prompts: int  # of these, those that `redo --prompt` made, which `--changed redo` overrules
    redo_images: int  # what `--changed redo` would make
    redo_money: int  # micro-dollars; unpriced images are not in it
    given_back: int  # changed rows that take the images back that they had with their request: nothing is paid for them
    digest: int  # of keys and requests, in order
    files: int  # rows made from local files
    twins: DuplicateRows  # keys and paths that are there twice
    same: SameRequests = field(default_factory=SameRequests)  # rows that ask for what another row asks for
    unit: str = "line"  # what a row's number counts: "line", "row" of a sheet, "item" of a list
    likely_key: str = ""  # of changed rows that are known by their number: the column that could be the key
    first_plan: FirstPlan | None = None  # of rows that are all bad for want of a prompt: what makes the others
    earlier_keys: EarlierKeys | None = None  # where the manifest has none of the batch's keys
    waiting: int = 0  # micro-dollars set aside for those of its rows that are on record as they are
    waiting_images: int = 0  # the images of these
    variations: VariationCounts | None = None  # how the manifest's rows became these; None: they are these
    empty: int = 0  # rows of the manifest in which nothing stands; they are in no other count
    again: Overlap = field(
        default_factory=Overlap
    )  # what would be paid again, and what is not in the manifest any more

    @property
    def good(self) -> int:
        """Rows that can be made, or are made."""
        return self.rows - self.skipped - self.bad

    @property
    def images(self) -> int:
        """Images still to be paid for."""
        return sum(line.images for line in self.routes)

    @property
    def money(self) -> int:
        """Micro-dollars for the images whose price is known."""
        return sum(line.money or 0 for line in self.routes)

    @property
    def aside(self) -> int:
        """Micro-dollars that are set aside for them while they are made: the most that they cost."""
        return sum(line.aside for line in self.routes)

    @property
    def unpriced(self) -> int:
        """Images whose price is not known."""
        return sum(line.images for line in self.routes if line.price is None)

    def refuse_reasons(  # noqa: PLR0913  what the options say, and what helps
        self,
        *,
        skip_bad: bool,
        budget: int | None,
        partial: bool,
        changed: str,
        batch: Batch | None = None,
        bad_rows_help: str = "",
        another_batch: str = "",
    ) -> list[str]:
        """Why nothing may be spent as things are; empty: it may.

        `bad_rows_help`: told with the bad rows. `another_batch`: how rows of a cancelled batch are made after all.
        """
        reasons = [
            self._cancelled(batch, another_batch),
            None if skip_bad else self._bad_rows(bad_rows_help),
            self._disputes() if changed == "error" else None,
            self._nothing(skip_bad=skip_bad),
            self._unpriced() if budget is not None else None,
            self._over_budget(budget, batch) if budget is not None and not partial else None,
            # Without --partial a budget that is given must do for all of them, and has said so.
            self._redo_for_nothing(_standing(budget, batch), batch)
            if changed == "redo" and (partial or budget is None)
            else None,
        ]
        return [reason for reason in reasons if reason]

    def _cancelled(self, batch: Batch | None, another_batch: str) -> str | None:
        """A cancelled batch takes nothing new; what was paid for its rows is still fetched."""
        if batch is None or batch.state is not BatchState.CANCELLED:
            return None
        return f"batch {batch.name} is cancelled for good. {another_batch}".rstrip() if self.images else None

    def _bad_rows(self, more: str) -> str | None:
        if not self.bad:
            return None
        told = [str(cause) for cause in self.causes]
        lines = _first(told, len(told))
        fix = "Fix it" if len(told) == 1 and (self.bad == 1 or self.causes[0].first.is_option) else "Fix them"
        rest = f"{fix}, or --skip-bad makes the other {self.good:,}." if self.good else f"{fix}."
        return f"{self.manifest}: {_rows(self.bad)} bad, of {self.rows:,}. Nothing was spent.\n{lines}\n  {rest}" + (
            f"\n  {more}" if more else ""
        )

    def _disputes(self) -> str | None:
        if not self.disputed:
            return None
        lines = _first([f"{self.unit} {row.line}, key {row.key}" for row in self.disputed_rows], self.disputed)
        whose = "1 row has" if self.disputed == 1 else f"{self.disputed:,} rows have"
        own = f"\n  {self.overruled}" if self.own_prompts else ""
        doubts = "".join(f"\n  look at {doubt}" for doubt in self.doubts[:_IN_MESSAGE])
        numbers = (
            "\n  The manifest has no key column, so rows are known by their number. If rows were put in, taken out or "
            "sorted, the images on record are those of other products now, and --changed keep would hand them out so: "
            "put the rows back and add new ones at the end only, or name a column (--map key=COLUMN)."
        )
        return (
            f"{self.manifest}: {whose} changed, with images that are running, unknown or stored.\n"
            f"{lines}{doubts}\n  --changed redo {' and '.join(self._redo())}; "
            "--changed keep (at each run) leaves them as they are, with the flag `kept`."
            f"{own}{'' if self.has_key else numbers}"
        )

    @property
    def overruled(self) -> str:
        """What `--changed redo` does to changed rows that were redone with prompts of their own."""
        whose = "1 of these rows was" if self.own_prompts == 1 else f"{self.own_prompts:,} of these rows were"
        return (
            f"{whose} redone with {'a prompt of its' if self.own_prompts == 1 else 'prompts of their'} own "
            "(redo --prompt): --changed redo takes the manifest's prompt instead; the images of now stay in the bucket"
        )

    def _redo(self) -> Iterator[str]:
        """What `--changed redo` would do with the changed rows."""
        if self.redo_images:
            yield f"makes {count(self.redo_images, 'image')} anew for {money(self.redo_money)}"
        if self.disputed_back == 1:
            yield "gives 1 row its earlier images back for nothing"
        elif self.disputed_back:
            yield f"gives {self.disputed_back:,} rows their earlier images back for nothing"

    def _nothing(self, *, skip_bad: bool) -> str | None:
        if self.good or (self.bad and not skip_bad):
            return None
        if not self.rows:
            return f"{self.manifest} has no rows."
        if self.skipped and not self.again.replaces:
            return None  # further lines of products
        return f"{self.manifest}: no row to make: {self.skipped:,} skipped, {self.bad:,} bad, of {self.rows:,}."

    def _unpriced(self) -> str | None:
        if not self.unpriced:
            return None
        names = ", ".join(f"{line.provider} {line.label}" for line in self.routes if line.price is None)
        return (
            f"--budget cannot be kept: the price of {count(self.unpriced, 'image')} is not known ({names}). "
            "Give yours under [accounts.NAME.prices], or choose another --provider."
        )

    @property
    def margin(self) -> int:
        """Micro-dollars an image holds beyond its estimate while it is made: the last one must still fit the budget."""
        held = (-(-line.aside // line.images) - (line.price or 0) for line in self.routes if line.assumed)
        return max(0, max(held, default=0))

    @property
    def reused(self) -> int:
        """Rows whose images are there already: other rows', or their own of before they changed."""
        return self.again.reused + self.given_back

    @property
    def needed(self) -> int:
        """Micro-dollars that a budget must have for all of them: the estimate, and what the last one holds beyond."""
        return self.money + self.margin

    @property
    def roughly(self) -> str:
        """What is said before a number of images that a budget leaves: more where the estimate is the most."""
        return "at least about" if any(line.price_is_most for line in self.routes) else "about"

    def affordable(self, budget: int, batch: Batch | None) -> int:
        """How many of the images a budget leaves, at what they are likely to cost; 0 is certain."""
        left = budget - _used(batch)
        if self.unpriced or not self.images:
            return 0 if self.unpriced == self.images else self.images
        if left < min(line.least for line in self.routes):
            return 0
        if self.needed <= left or not self.money:
            return self.images
        return max(1, min(self.images, (left - self.margin) * self.images // self.money))

    def _redo_for_nothing(self, budget: int | None, batch: Batch | None) -> str | None:
        """Rows that no money is left for would lose their place to images that nobody makes."""
        if budget is None or not self.disputed or not self.images or self.unpriced or self.affordable(budget, batch):
            return None
        least = min(line.least for line in self.routes)
        return (
            f"--changed redo needs a budget of at least {money(up_to_cents(_used(batch) + least))} for a first image: "
            f"{money(budget)} leaves nothing after {money(_used(batch))} spent or reserved. "
            "--changed keep leaves the changed rows as they are."
        )

    def _over_budget(self, budget: int, batch: Batch | None) -> str | None:
        spent = _used(batch)
        needed = spent + self.needed
        if needed <= budget:
            return None
        so_far = f", after {money(spent)} spent or reserved" if spent else ""
        last = f", and {money(self.margin)} more that the last one holds while it is made" if self.margin else ""
        return (
            f"--budget needs to be at least {money(up_to_cents(needed))}, and {money(budget)} is below the estimate: "
            f"{money(self.money)} for {count(self.images, 'image')}{last}{so_far}. "
            "Raise it, or --partial works in the manifest's order until the money is used."
        )


def _used(batch: Batch | None) -> int:
    return batch.charged + batch.reserved if batch else 0


def _standing(budget: int | None, batch: Batch | None) -> int | None:
    """--budget, else the batch's own."""
    return batch.budget if budget is None and batch else budget


def made_in_another(name: str) -> str:
    """How rows of a cancelled batch are made after all, without paying twice. `name`: the batch that takes them."""
    return (
        f"To make its rows after all, run its manifest as before with  --batch {name} --reuse  added: what is stored "
        "here is not paid again."
    )


def cancelled_for_good(name: str, other: str) -> str:
    """Why nothing can be paid for this batch any more. `other`: the batch that takes its rows."""
    return f"batch {name} is cancelled for good. {made_in_another(other)}"


def _rows(count: int) -> str:
    return f"{count:,} row is" if count == 1 else f"{count:,} rows are"


def _first(lines: Sequence[str], count: int) -> str:
    more = [f"… {count:,} in all"] if count > _IN_MESSAGE else []
    return "\n".join(f"  {line}" for line in [*lines[:_IN_MESSAGE], *more])


# -- time ----------------------------------------------------------------------------------------------------------


def tasks_for(images: int, max_n: int) -> int:
    """Provider tasks that make this many images of one row."""
    return math.ceil(images / max_n)
