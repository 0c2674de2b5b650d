"""The ledger's verbs on schedules and their times. Each is one transaction."""

from __future__ import annotations

from collections.abc import Collection

from jobs.ledger.accounts import monthly_budgets
from jobs.ledger.database.engine import Database
from jobs.ledger.schedules import firings, schedules
from jobs.ledger.schedules.values import Decided, Ended, Firing, InTheWay, MissedTimes, NewSchedule, Schedule


class ScheduleVerbs:
    """`ledger.schedules`: what is done by the clock. A firing is one time of a schedule."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- schedules

    def find(self, name: str) -> Schedule | None:
        """The schedule of that name."""
        return self._database.read(schedules.find, name)

    def all(self) -> list[Schedule]:
        """All of them, by name."""
        return self._database.read(schedules.every)

    def add(self, new: NewSchedule, now: float) -> bool:
        """Puts it on record, its first time being the next; False: there is one of that name."""
        return self._database.write(schedules.add, new, now)

    def edit(self, new: NewSchedule, now: float) -> bool:
        """What is asked from now on, also of a time whose manifest is being read. False: there is none of that name."""
        return self._database.write(schedules.edit, new, now)

    def pause(self, name: str, now: float) -> None:
        """No time of it fires until it is resumed, and none that waits. What is recorded goes on."""
        self._database.write(schedules.pause, name, now)

    def resume(self, name: str, now: float) -> None:
        """Its next time fires; those that passed meanwhile do not."""
        self._database.write(schedules.resume, name, now)

    def remove(self, name: str) -> None:
        """Takes it and its history off the record. Its batches stay."""
        self._database.write(schedules.remove, name)

    def spent_this_month(self, schedule_id: int, now: float) -> int:
        """Micro-dollars that its attempts of this UTC month have reserved and been charged."""
        return self._database.read(monthly_budgets.spent, schedule_id, now)

    # -- their times

    def fall_due(self, now: float) -> list[Decided]:
        """Decides what becomes of every time that has come. Safe in any number of processes at once."""
        return self._database.write(firings.fall_due, now)

    def next_at(self) -> float | None:
        """When the next time comes, or one that has come is acted on, in Unix seconds; None: there is none."""
        return self._database.read(firings.next_at)

    def fire_by_hand(self, name: str, now: float) -> InTheWay | None:
        """A time of its own, now; or what is in its way."""
        return self._database.write(firings.by_hand, name, now)

    def in_the_way(self, schedule_id: int) -> InTheWay | None:
        """What keeps a schedule from being fired now."""
        return self._database.read(firings.in_the_way, schedule_id)

    def let_go(self, now: float, of_schedule: int | None = None) -> None:
        """What is queued begins, where nothing is in its way any more. `of_schedule`: of that one alone."""
        if self._database.read(firings.has_queued, of_schedule):
            self._database.write(firings.let_go, now, of_schedule)

    def stand_back(self, firing_id: int, holder: str, now: float) -> Decided | None:
        """A time that was to begin waits, or is skipped, if an earlier one was begun again; None: it may begin."""
        return self._database.write(firings.stand_back, firing_id, holder, now)

    def take(
        self, holder: str, now: float, reading: Collection[int] = (), of_schedule: int | None = None
    ) -> tuple[Schedule, Firing] | None:
        """The next time whose manifest is to be read, or one that nobody reads any more. `holder` reads `reading`.

        `of_schedule`: of that one alone.
        """
        return self._database.write(firings.take, holder, now, reading, of_schedule)

    def put_off(self, firing_id: int, holder: str, until: float, message: str) -> None:
        """What may pass by itself: it is tried again at `until`."""
        self._database.write(firings.put_off, firing_id, holder, until, message)

    def fail(self, firing_id: int, holder: str, ended: Ended, now: float) -> bool:
        """Nothing is recorded for it. False: it is somebody else's by now."""
        return self._database.write(firings.fail, firing_id, holder, ended, now)

    def going_on(self) -> list[tuple[Schedule, Firing]]:
        """Times whose batches are on record and not over, or wait for a person, with their schedules."""
        return self._database.read(firings.going_on)

    def note_headway(self, firing_id: int, headway: str, now: float) -> None:
        """Its batch has got further since the last look."""
        self._database.write(firings.note_headway, firing_id, headway, now)

    def goes_on(self, firing_id: int, now: float) -> None:
        """One that waited for a person goes on: somebody has helped."""
        self._database.write(firings.goes_on, firing_id, now)

    def note_why(self, firing_id: int, code: str, message: str) -> None:
        """One that waits for a person waits for this now."""
        self._database.write(firings.note_why, firing_id, code, message)

    def end(self, firing_id: int, ended: Ended, now: float) -> None:
        """How it ended, or that it waits for a person. What is queued behind it is due when it is over."""
        self._database.write(firings.end, firing_id, ended, now)

    def not_over(self, schedule_id: int) -> list[Firing]:
        """A schedule's times that are not over, those that wait for a person too; the oldest first."""
        return self._database.read(firings.not_over, schedule_id)

    def history(self, schedule_id: int, most: int = 20, *, with_charges: bool = False) -> list[Firing]:
        """A schedule's times, the newest first; with what each has cost, if that is asked for."""
        return self._database.read(firings.history, schedule_id, most, with_charges=with_charges)

    def of_batch(self, name: str) -> list[Firing]:
        """The last times that were recorded for a batch, the newest first, with what each has bought."""
        return self._database.read(firings.of_batch, name)

    def rows_before(self, schedule_id: int) -> int | None:
        """How many rows the manifest had that was recorded last for a schedule; None: none was."""
        return self._database.read(firings.rows_before, schedule_id)

    def newest(self, now: float, *, with_charges: bool = False, settled: bool = False) -> dict[int, Firing]:
        """Each schedule's newest time that was neither skipped nor missed, by the schedule's number.

        `settled`: only of those that have ended or stopped.
        """
        return self._database.read(firings.newest, now, with_charges=with_charges, settled=settled)

    def missed(self, since: float) -> dict[int, MissedTimes]:
        """The times in a row that nobody saw, by the schedule's number; of those that were found so since then."""
        return self._database.read(firings.missed, since)
