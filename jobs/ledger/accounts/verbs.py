"""The ledger's verbs on accounts, workers, destinations and the emergency stop. Each is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from jobs.ledger.accounts import (
    conditions,
    configured,
    daily_budgets,
    destinations,
    durations,
    emergency_stop,
    minutes,
    outbox,
    poll_rate,
    usage,
    workers,
)
from jobs.ledger.accounts.condition_values import Condition, ConditionChange
from jobs.ledger.accounts.durations import TaskKind
from jobs.ledger.accounts.outbox_values import Delivery, NewMessage, Untold
from jobs.ledger.accounts.values import Account, AccountLimits, AccountMinute, DayLimit, PollRoom, Stranded, Use
from jobs.ledger.accounts.worker_values import DestinationTrouble, EmergencyStop, WorkerProcess
from jobs.ledger.database.engine import Database
from jobs.policy.copy_headroom import Backlog
from jobs.policy.poll_schedule import Durations


class AccountVerbs:
    """`ledger.accounts`: what the settings declare, and how the accounts stand."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.providers: dict[str, str] = {}  # by account, as this process was told last

    def sync(self, declared: Sequence[AccountLimits], *, daily_budget: int | None = None) -> None:
        """Takes over the accounts, limits and budgets of the settings; other accounts are no longer configured.

        Raises:
            BadInput: An account is gone, or is another provider's now, and paid work there is still open.
        """
        self._database.write(configured.sync_accounts, declared, daily_budget)
        self.providers = {account.name: account.provider for account in declared}

    def stranded(self, declared: Sequence[AccountLimits]) -> list[Stranded]:
        """Accounts that paid work still needs and these settings do not have: no work may start."""
        return self._database.read(configured.stranded, declared)

    def all(self) -> list[Account]:
        """The configured accounts as they stand, by name."""
        return self._database.read(usage.all_accounts)

    def usage(self, now: float) -> dict[str, Use]:
        """How far each configured account uses what it may, and what waits for it."""
        return self._database.read(usage.uses, now)

    def note_minute(self, now: float) -> None:
        """Notes how the accounts stand, for `minutes`; twice in a minute is as once."""
        self._database.write(minutes.note, now)

    def minutes(self, now: float) -> dict[str, list[AccountMinute]]:
        """How the accounts stood over the last day, by name; minutes in which nothing changed are left out."""
        return self._database.read(minutes.known, now)

    def durations(self) -> dict[TaskKind, Durations]:
        """How long provider tasks took lately, by kind."""
        return self._database.read(durations.known)

    def poll_rooms(self) -> dict[str, PollRoom]:
        """By account: how often its tasks may be asked about, and whether places wait for their ends."""
        return self._database.read(poll_rate.rooms)

    def daily_budgets(self, now: float) -> list[DayLimit]:
        """Every daily budget, the overall one first, with what today has cost."""
        return self._database.read(daily_budgets.every, now)

    def wake(self, name: str, now: float) -> None:
        """The account's next submit is tried at once, as a probe; its tasks are asked about at once, too."""
        self._database.write(configured.wake, name, now)


class WorkerVerbs:
    """`ledger.workers`: the processes that work on this ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def touch(self, name: str, now: float, looked_at: float | None = None) -> None:
        """Notes that a worker process lives, and when the laziest of its lanes last looked for work."""
        self._database.write(workers.touch, name, now, looked_at)

    def leave(self, name: str) -> None:
        """Notes that a worker process has ended in order: nobody waits for a sign of life of it."""
        self._database.write(workers.leave, name)

    def seen(self, now: float, within: float) -> list[WorkerProcess]:
        """Worker processes that gave a sign of life within the last `within` seconds, by name."""
        return self._database.read(workers.seen, now - within)


class DestinationVerbs:
    """`ledger.destinations`: what is wrong with the places that images are copied to, and what waits for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def say_troubles(self, holder: str, troubles: Sequence[DestinationTrouble], now: float) -> None:
        """What is wrong with destinations, as this process sees it now: nothing new is sent for these for a while."""
        self._database.write(destinations.say, holder, troubles, now)

    def troubles(self, now: float) -> tuple[DestinationTrouble, ...]:
        """What is wrong with destinations, as any process says it."""
        return self._database.read(destinations.heard, now)

    def hasten_copies(self, dest: str, now: float) -> None:
        """A destination takes writes again: what it refused is due now."""
        self._database.write(destinations.hasten, dest, now)

    def backlogs(self, now: float) -> dict[str, Backlog]:
        """What waits to be copied to each destination, by when its links die, and how fast copies were."""
        return self._database.read(destinations.backlogs, now)


class ConditionVerbs:
    """`ledger.conditions`: what the log has told of the state of things."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_turn(self, now: float, every: float) -> bool:
        """Whether it is this process's turn to look: nobody has for `every` seconds."""
        return self._database.write(conditions.take_turn, now, every)

    def batches_to_tell_of(self) -> list[str]:
        """Batches that go on, and those whose end, or whose very name, has not been told."""
        return self._database.read(conditions.batches_to_tell_of)

    def told(self, batches: Sequence[str]) -> list[Condition]:
        """What has been told and still holds; of these batches also that they have ended."""
        found = [*self._database.read(conditions.told), *self._database.read(conditions.told_of_batches, batches)]
        return list({(one.name, one.subject): one for one in found}.values())

    def change(
        self,
        changes: Sequence[ConditionChange],
        now: float,
        messages_of: Callable[[ConditionChange], Sequence[NewMessage]] = lambda _change: (),
    ) -> list[ConditionChange]:
        """Makes these changes where nobody else has; returns those that were made here, for this process to tell.

        What `messages_of` says of each of them is put into the outbox with it.
        """
        return self._database.write(conditions.change, changes, now, messages_of)


class OutboxVerbs:
    """`ledger.outbox`: messages to people and programs, by the names of their channels."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_due(self, channels: Collection[str]) -> float | None:
        """When the first message for these channels is due; None: there is none."""
        return self._database.read(outbox.next_due, channels)

    def take(self, channels: Collection[str], now: float) -> list[Delivery]:
        """The first message that is due for each of these channels: for a minute this process's to send."""
        return self._database.write(outbox.take, channels, now)

    def sent(self, delivery: Delivery, now: float) -> None:
        """The channel has taken it."""
        self._database.write(outbox.sent, delivery, now)

    def failed(self, delivery: Delivery, problem: str, next_at: float | None, now: float) -> None:
        """The channel has not taken it. `next_at`: when it is tried again; None: never."""
        self._database.write(outbox.failed, delivery, problem, next_at, now)

    def untold(self, now: float) -> list[Untold]:
        """What was not told, by channel."""
        return self._database.read(outbox.untold, now)

    def clear(self, now: float) -> None:
        """Takes old messages off the record."""
        self._database.write(outbox.clear, now)


class EmergencyStopVerbs:
    """`ledger.emergency_stop`: nobody claims a submit while it stands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, now: float, by: str) -> emergency_stop.StopOutcome:
        """When it returns, nobody claims a submit until `lift`. A second one changes nothing. `by`: USER@HOST."""
        return self._database.write(emergency_stop.stop, now, by)

    def lift(self) -> EmergencyStop | None:
        """Ends the emergency stop, and nothing else; returns the one that stood."""
        return self._database.write(emergency_stop.lift)

    def current(self) -> EmergencyStop | None:
        """The emergency stop, while there is one."""
        return self._database.read(emergency_stop.standing)

    def fates(self, attempt_ids: Collection[int]) -> emergency_stop.Fates:
        """What became of attempts that were claimed before a stop."""
        return self._database.read(emergency_stop.fates, attempt_ids)
