"""What must hold at every moment, and at the end. The model knows what was really sent, made and charged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.policy.liveness import SILENT_AFTER
from jobs.results.completion import Reason, RunState, is_over, waits_for
from jobs.states import ImageState
from providers.types import MICROS

from .claims import Claims

if TYPE_CHECKING:
    from jobs.ledger.claims.values import Intent

    from .process import Process
    from .providers_model import Task
    from .world import World

#: Seconds after an answer arrived in which a process may still die before it is on record.
TO_RECORD = 60.0
#: Seconds after a jump in which clocks may be apart: until the next sweep, which a database that is away delays.
CLOCKS_APART = 90.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that must never be."""

    at: float
    rule: str
    told: str


_SILENT = "SELECT name FROM workers WHERE seen_at < ?"
_ACCOUNT = "(SELECT name FROM accounts WHERE accounts.id = account_id)"

#: What a batch may wait for when all is calm.
MENDED_BY_PEOPLE = (Reason.BATCH_PAUSED, Reason.ALL_PAUSED, Reason.BUDGET_USED, Reason.DAY_BUDGET_USED)
#: What is still to be done, cheaply asked.
PENDING = {
    "still polled": "SELECT id, state FROM attempts WHERE next_poll_at IS NOT NULL",
    "still submitting": "SELECT id, state FROM attempts WHERE state = 'submitting'",
    "not copied": "SELECT id FROM images WHERE state = 'generated'",
}


class Watch:
    """Keeps an eye on one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults: list[Fault] = []
        self.claims = Claims(world)
        self.sent: dict[int, float] = {}
        self.on_the_way: set[int] = set()
        self._claimed: dict[int, tuple[float, float]] = {}
        self._answers: list[tuple[Process, Task, float]] = []
        self._budgets: dict[str, int | None] = {}
        self._buckets: dict[str, tuple[float, float]] = {}
        self._disturbed = False
        self._jumped_at = -1e9
        self._excused: set[str] = set()  # holders that were silent for a while
        self._outages: list[list[float]] = []  # from, to

    def fault(self, rule: str, told: str) -> None:
        self.world.say("FAULT", rule, told)
        self.faults.append(Fault(self.world.timeline.now, rule, told))

    # -- what the world tells --------------------------------------------------------------------------------------

    def budget_is(self, batch: str, budget: int | None) -> None:
        self._budgets[batch] = budget

    def froze(self, process: Process) -> None:
        self._disturbed = True
        self._excused.add(process.name)

    def clock_jumps(self, _seconds: float) -> None:
        self._disturbed = True
        self._jumped_at = self.world.timeline.now

    def database_fails(self) -> None:
        self._disturbed = True
        self._outages.append([self.world.timeline.now, 1e12])

    def database_is_well(self) -> None:
        if self.world.database.usual and not self.world.calm:
            return
        for outage in self._outages:
            outage[1] = min(outage[1], self.world.timeline.now)

    def claimed(self, intent: Intent, lease: float) -> None:
        self._claimed[intent.attempt_id] = (self.world.timeline.now, lease)

    def answered(self, process: Process, task: Task) -> None:
        """A whole answer that names the task has arrived in a process."""
        self._answers.append((process, task, self.world.timeline.now))

    # -- a submit leaves -------------------------------------------------------------------------------------------

    def departs(self, process: Process, account: str, intent: Intent) -> None:
        now, attempt = self.world.timeline.now, intent.attempt_id
        self.world.say(process.name, "sends", attempt, intent.key, intent.slots)
        if attempt in self.sent:
            self.fault("an attempt is sent at most once", f"{attempt} again")
        self.sent[attempt] = now
        self.on_the_way.add(attempt)
        self._demand_right(attempt, now)
        self._demand_unpaid(intent)
        self._demand_limits(account, now)

    def _demand_right(self, attempt: int, now: float) -> None:
        row = self.world.raw.execute("SELECT state FROM attempts WHERE id = ?", (attempt,)).fetchone()
        state = row[0] if row else "nothing"
        claimed_at, lease = self._claimed[attempt]
        if state != "submitting" and not (state == "unknown" and self._jumped_at >= claimed_at - lease):
            self.fault("intent is on record before money", f"{attempt} leaves, and the ledger holds {state}")
        if now - claimed_at > lease:
            self.fault("nothing is sent when its lease is over", f"{attempt}, {now - claimed_at:.0f} s after its claim")

    def _demand_unpaid(self, intent: Intent) -> None:
        """No slot is bought a second time unless a person or the policy said so."""
        found = self.world.raw.execute(
            "SELECT id, state, slots FROM attempts WHERE job_id = ? AND id <> ? AND twin_of IS NULL"
            " AND revision = (SELECT revision FROM attempts WHERE id = ?)",
            (intent.job_id, intent.attempt_id, intent.attempt_id),
        ).fetchall()
        for other, state, slots in found:
            common = set(json.loads(slots)) & set(intent.slots)
            if common and self._has_paid(other, state, json.loads(slots), common):
                told = f"slots {sorted(common)} of {intent.key}: {other} ({state}), now {intent.attempt_id}"
                self.fault("nothing is paid twice unasked", told)

    def _has_paid(self, other: int, state: str, slots: list[int], common: set[int]) -> bool:
        if state in ("submitting", "running", "unknown"):
            return True
        if state != "succeeded" or other in self.world.person.made_anew:
            return False
        delivered = max((task.delivers for task in self._tasks(other)), default=0)
        return any(slots.index(slot) < delivered for slot in common) and not self._was_short(other)

    def _was_short(self, attempt: int) -> bool:
        """Slots are filled in order, but only those that still waited."""
        row = self.world.raw.execute(
            "SELECT COUNT(*) FROM events WHERE attempt_id = ? AND name = 'delivered_short'", (attempt,)
        ).fetchone()
        return bool(row[0])

    def _demand_limits(self, account: str, now: float) -> None:
        """Declared, or the highest that was learnt so far: one that was cut holds for what is claimed from then on."""
        limits = self.world.settings.accounts[account]
        rate, places = self.claims.highest[account]
        self._demand_rate(account, limits.submits_per_second or rate, now)
        self._demand_places(account, limits.max_in_flight or int(places), now)

    def _demand_rate(self, account: str, rate: float, now: float) -> None:
        """A bucket of what a claim may send ahead, and of what a held-up process sends late.

        While the clocks of machines are apart, until the next sweep, each keeps the rate by its own.
        """
        hands = [*self.world.processes, *(one for one in self.world.dead if now - (one.died_at or 0) < TO_RECORD)]
        burst = (2 + 0.55 * rate) * (len(hands) + 2 if self._disturbed else 1)
        apart = 1 if now - self._jumped_at > CLOCKS_APART else len(hands)
        level, at = self._buckets.get(account, (0.0, now))
        level = max(0.0, level - (now - at) * rate * apart) + 1
        self._buckets[account] = (level, now)
        if level > burst:
            self.fault("the rate is kept", f"{account}: {level:.1f} at once, {rate}/s")

    def _demand_places(self, account: str, most: int, now: float) -> None:
        rows = self.world.raw.execute(
            "SELECT attempts.id, holder FROM attempts JOIN accounts ON accounts.id = account_id WHERE name = ?"
            " AND state IN ('submitting', 'running') AND twin_of IS NULL AND error_code IS NULL"
            " AND resolution IS NULL",
            (account,),
        ).fetchall()
        # Who gave no sign of life for long holds no places: its submits may be on their way all the same.
        silent = {row[0] for row in self.world.raw.execute(_SILENT, (self.world.true_now() - SILENT_AFTER,))}
        living = {process.name for process in self.world.processes} - self._excused - silent
        flying = [one for one, holder in rows if holder in living and self._flies(one, now)]
        if len(flying) > most:
            self.fault("places in flight are kept", f"{account}: {len(flying)} of {most}")

    def _flies(self, attempt: int, now: float) -> bool:
        return attempt in self.on_the_way or any(not task.is_over(now) for task in self._tasks(attempt))

    # -- an image is stored ----------------------------------------------------------------------------------------

    def stored(self, dest: str, path: str, content: bytes, metadata: Mapping[str, str]) -> None:
        if path.startswith(".lightfast"):
            return
        at = content.find(b"tEXtid\x00")
        name = content[at + 7 : content.find(b"IDAT") - 8].decode("ascii", "replace")
        task = self.world.model.tasks.get(name.partition("/")[0])
        self.world.say("stored", path, name)
        if self.world.dests[path.partition("/")[0]] != dest:
            self.fault("no image at another batch's destination", f"{path} at {dest}")
        if task is None:
            self.fault("only whole pictures are stored", f"{path}: {content[:30]!r}")
        elif metadata.get("lightfast-key") != task.key or path.split("/")[1] != task.key:
            self.fault("no image under another job's key", f"{path} holds a picture of {task.key}")

    # -- now and then ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Everything that must hold between any two transactions."""
        self._look_at_slots()
        self._look_at_budgets()
        self._look_at_money()
        self._look_at_destinations()

    def _look_at_destinations(self) -> None:
        """Nobody says of a destination that it refuses who never met it refusing."""
        for dest, code in self.world.raw.execute("SELECT dest, code FROM destination_troubles WHERE kind = 'refuses'"):
            if not self.world.buckets[dest].has_refused:
                self.fault("a destination is judged by itself", f"{dest} is said to refuse: {code}")

    def _look_at_slots(self) -> None:
        held: Counter[tuple[int, int, int]] = Counter()
        for job, revision, slots in self.world.raw.execute(
            "SELECT job_id, revision, slots FROM attempts"
            " WHERE state IN ('submitting', 'running', 'unknown') AND twin_of IS NULL"
        ):
            held.update((job, revision, slot) for slot in json.loads(slots))
        twice = [slot for slot, count in held.items() if count > 1]
        if twice:
            self.fault("a slot has at most one open or unknown attempt", f"job, revision, slot {twice}")

    def _look_at_budgets(self) -> None:
        rows = self.world.raw.execute(
            "SELECT name, batches.reserved, batches.charged, COALESCE(SUM(attempts.reserved), 0),"
            " COALESCE(SUM(attempts.charged), 0),"
            " COALESCE(SUM(CASE WHEN twin_of IS NULL THEN 0 ELSE attempts.reserved + attempts.charged END), 0),"
            " batches.id FROM batches LEFT JOIN attempts ON batch_id = batches.id GROUP BY batches.id"
        ).fetchall()
        for name, reserved, charged, each_reserved, each_charged, twins, number in rows:
            if (reserved, charged) != (each_reserved, each_charged):
                told = f"{name}: {reserved}+{charged}, its attempts {each_reserved}+{each_charged}"
                self.fault("a batch's money is the sum of its attempts'", told)
            budget = self._budgets[name]
            if budget is None:
                continue
            if reserved + charged - twins > budget:
                self.fault("no budget is crossed", f"{name}: {reserved}+{charged} of {budget}")
            real = self._really_charged("batch_id", number)
            if real > budget:
                self.fault("no budget is crossed at the providers", f"{name}: {real} of {budget}")

        self._look_at_days()

    def _look_at_days(self) -> None:
        """No seed's history reaches the next day."""
        settings = self.world.settings
        limits = {"": settings.daily_budget, **{name: one.daily_budget for name, one in settings.accounts.items()}}
        for name, dollars in limits.items():
            if not dollars:
                continue
            real = self._really_charged(_ACCOUNT, name) if name else self._really_charged("''", "")
            if real > dollars * MICROS:
                self.fault("no daily budget is crossed", f"{name or 'overall'}: {real} of {dollars}")

    def _really_charged(self, column: str, value: Any) -> int:
        now = self.world.timeline.now
        rows = self.world.raw.execute(
            f"SELECT id, task_id FROM attempts WHERE {column} = ? AND twin_of IS NULL AND price IS NOT NULL", (value,)
        ).fetchall()
        return sum(self._foreseeable(attempt, named, now) for attempt, named in rows)

    def _foreseeable(self, attempt: int, named: str | None, now: float) -> int:
        """What an order may cost. A second task made of it is the provider's doing, and no budget can foresee it.

        The task on record is the order's own; it may have delivered less than the other, of which nobody told.
        """
        tasks = self._tasks(attempt)
        own = [task for task in tasks if task.id == named] or tasks
        return max((task.charge(now) for task in own), default=0)

    def _tasks(self, attempt: int) -> list[Task]:
        return self.world.model.by_attempt.get(attempt, [])

    def _look_at_money(self) -> None:
        kept = Counter(
            dict(
                self.world.raw.execute(
                    "SELECT attempt_id, COUNT(*) FROM images WHERE state <> 'missing' GROUP BY attempt_id"
                )
            )
        )
        rows = self.world.raw.execute(
            "SELECT id, state, n, price, reserved, charged, task_id, twin_of, account_id FROM attempts"
        ).fetchall()
        twins = {row[6] for row in rows if row[7] is not None}
        numbers: Counter[tuple[int, str]] = Counter((row[8], row[6]) for row in rows if row[6] is not None)
        if any(count > 1 for count in numbers.values()):
            self.fault("a provider task belongs to one attempt", str([k for k, v in numbers.items() if v > 1]))
        for row in rows:
            told = self._wrong_with(row, kept[row[0]] + self.world.person.aside[row[0]], twins)
            if told:
                self.fault("charged is stored, waiting, lost, surplus, undelivered or at risk", f"{row[0]}: {told}")

    def _wrong_with(self, row: Any, kept: int, twins: set[str]) -> str | None:  # noqa: PLR0911  one answer a state
        attempt, state, _, price, reserved, charged, task_id, twin_of, _ = row
        now = self.world.timeline.now
        own = [t for t in self._tasks(twin_of or attempt) if (t.id == task_id if twin_of else t.id not in twins)]
        task = next((task for task in own if task.id == task_id), own[0] if own and task_id is None else None)
        if task_id is not None and task is None:
            return f"{state} with {task_id}, a task that is not its own"
        if own and attempt not in self.sent and not twin_of:
            return "the model has its task, and nobody saw it leave"
        if state == "refused":
            return f"refused, and the provider made {own[0].id}" if own else None
        if state in ("submitting", "unknown", "abandoned", "lost"):
            return (
                None
                if task is None or max(reserved, charged) >= (price or 0) * task.charge(now) // task.price
                else (f"{state}: {task.charge(now)} charged, {reserved}+{charged} on record")
            )
        if task is None:
            return f"{state} without any task"
        if state == "running":
            return None
        if state == "failed":
            return f"failed, and {task.charge(now)} charged" if task.charge(now) else None
        if kept != task.delivers:
            return f"{state}: {kept} images on record, {task.delivers} delivered"
        by_usage = task.used is not None and task.tells_usage
        if charged != (task.charge(now) if by_usage else (price or 0) * task.delivers):
            return f"{state}: {charged} on record, {task.delivers} images delivered"
        return None

    # -- when all is calm ------------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """Every job has ended or waits for a named reason, and nobody is asked about any more."""
        return not self._unsettled()

    def _unsettled(self) -> str | None:
        world = self.world
        awake_since = world.timeline.now - TO_RECORD
        frozen = [one.name for one in world.processes if one.loop.frozen_until > max(awake_since, 0.0)]
        if frozen:
            return f"frozen, or just thawed: {frozen}"
        for told, question in PENDING.items():
            found = world.raw.execute(question).fetchall()
            if found:
                return f"{told}: {found}"
        said = world.raw.execute(
            "SELECT dest, kind, code FROM destination_troubles WHERE until > ?", (world.true_now(),)
        ).fetchall()
        if said:  # it is taken back within a minute, or nobody repeats it
            return f"still said of destinations that are well: {said}"
        return next((told for batch in world.batches if (told := self._goes_on(batch))), None)

    def _goes_on(self, batch: str) -> str | None:
        world = self.world
        progress = world.office.reports.progress(batch, world.true_now())
        standing = RunState(progress=progress, accounts=world.office.accounts.all(), now=world.true_now())
        if is_over(progress) or waits_for(standing) in MENDED_BY_PEOPLE:
            return None
        return f"{batch}: {dict(progress.jobs)}, waits for {waits_for(standing)}"

    def at_the_end(self) -> None:
        """Once calm has lasted."""
        told = self._unsettled()
        if told:
            self.fault("every job ends or waits for a named reason", told)
        self.look()
        self._demand_answers_on_record()
        self._demand_objects()

    def nothing_is_held(self) -> None:
        """Once everything unknown was resolved."""
        held = self.world.raw.execute("SELECT key FROM jobs WHERE state = 'held'").fetchall()
        if held or self.world.office.unknowns.all():
            self.fault("what is resolved is held no more", str(held))

    def _demand_answers_on_record(self) -> None:
        """Facts stand above leases: what a process was told, and lived to record, is on record."""
        known = {row[0] for row in self.world.raw.execute("SELECT task_id FROM attempts WHERE task_id IS NOT NULL")}
        for process, task, at in self._answers:
            if self._lived(process, at) and task.id not in known and not self._came_at_once(task):
                self.fault(
                    "an answer that arrived is on record", f"{task.attempt_id}: {task.id}, told to {process.name}"
                )

    def _came_at_once(self, task: Task) -> bool:
        """A synchronous answer need not name its task."""
        row = self.world.raw.execute("SELECT state FROM attempts WHERE id = ?", (task.attempt_id,)).fetchone()
        return row is not None and row[0] in ("succeeded", "surplus")

    def _lived(self, process: Process, at: float) -> bool:
        if process.died_at is None:
            return True
        due = max(at, process.loop.frozen_until) + TO_RECORD
        for began, ended in self._outages:
            if began <= due:
                due = max(due, ended + TO_RECORD)
        return process.died_at > due

    def _demand_objects(self) -> None:
        rows = self.world.raw.execute(
            "SELECT images.id, object_path, sha256, dest FROM images JOIN batches ON batches.id = batch_id"
            " WHERE images.state = ?",
            (ImageState.STORED.value,),
        ).fetchall()
        paths = Counter(path for _, path, _, _ in rows)
        for number, path, sha256, dest in rows:
            if self.world.buckets[dest].sha256_of(path) != sha256:
                self.fault("a stored image is in the bucket", f"image {number} at {path}")
        twice = [path for path, count in paths.items() if count > 1]
        if twice:
            self.fault("every image has an object of its own", str(twice))


def summed(faults: Iterable[Fault]) -> str:
    """The faults, one a line."""
    return "\n".join(f"  {fault.at:10.3f}  {fault.rule}: {fault.told}" for fault in faults)
