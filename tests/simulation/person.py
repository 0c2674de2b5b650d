"""What people, time and the surroundings do to a batch; all of it arranged by chance before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.errors import BadInput
from jobs.states import BatchState

from .providers_model import Moods

if TYPE_CHECKING:
    from .world import World


class Person:
    """Everybody who may give commands, and everything that may break."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.aside: Counter[int] = Counter()  # attempt -> lost images that a retry took off the record
        self.made_anew: set[int] = set()  # attempts whose lost images are paid again, on somebody's word

    def arrange(self, seconds: float) -> None:
        """Things to come within so many seconds."""
        world = self.world
        rng = world.rng
        acts: tuple[tuple[float, Callable[[], None]], ...] = (
            (3.0, self._kill),
            (1.5, self._freeze),
            (1.0, self._drain),
            (2.0, self._database),
            (1.0, self._bucket),
            (2.0, self._account),
            (0.7, self._gate),
            (0.7, self._links_crawl),
            (0.7, self._clock),
            (1.0, self._pause),
            (0.5, self._stop_all),
            (0.15, self._cancel),
            (0.7, self._redo),
            (1.0, self._retry),
            (2.5, self._resolve),
            (0.5, self._budget),
        )
        busy = rng.choice((0.3, 1.0, 2.0))
        for weight, act in acts:
            for _ in range(int(rng.expovariate(1 / (weight * busy)))):
                world.timeline.after(seconds * rng.random() ** 2, act)  # most while most is going on

    def calm_down(self) -> None:
        """From now on nothing goes wrong any more."""
        world = self.world
        world.say("calm")
        world.calm_down()
        self._database_well()
        for name in Moods.__slots__:
            setattr(world.moods, name, 0.0)
        world.crawl = 0.0
        for bucket in world.buckets.values():
            bucket.refuses, bucket.unreliable = None, 0.0
        world.model.account_mood.clear()
        for process in [*world.processes]:
            process._armed.clear()
        world.wanted = max(1, world.wanted)
        for _ in range(world.wanted):
            world.hire()
        if world.rng.random() < 0.5:
            for name in world.settings.accounts:
                world.office.accounts.wake(name, world.true_now())
        if world.rng.random() < 0.7:
            world.office.emergency_stop.lift()
        for batch in world.batches:
            found = world.office.batches.find(batch)
            if found is not None and found.state is BatchState.PAUSED and world.rng.random() < 0.7:
                world.office.batches.resume(batch, world.true_now())

    # -- processes -------------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        if self.world.processes:
            process = self.world.rng.choice(self.world.processes)
            self.world.say(process.name, "is killed")
            process.kill()

    def _freeze(self) -> None:
        if self.world.processes:
            process = self.world.rng.choice(self.world.processes)
            process.freeze(self.world.rng.choice((2.0, 30.0, 250.0, 800.0)))

    def _drain(self) -> None:
        if self.world.processes:
            rng = self.world.rng
            process = rng.choice(self.world.processes)
            self.world.say(process.name, "is asked to end")
            process.drain(rng.choice((1.0, 25.0, 185.0)), hurry=rng.random() < 0.3)

    # -- surroundings ----------------------------------------------------------------------------------------------

    def _for_a_while(self, begin: Callable[[], None], end: Callable[[], None], longest: float) -> None:
        begin()
        self.world.timeline.after(self.world.rng.uniform(0.5, longest), end)

    def _database(self) -> None:
        trouble, rng = self.world.database, self.world.rng
        kind = rng.choice(("down", "unsure", "unsure", "slow"))
        self.world.say("database", kind)
        if kind == "down":
            self.world.watch.database_fails()
            self._for_a_while(lambda: setattr(trouble, "down", True), self._database_well, 60)
        elif kind == "unsure":
            self.world.watch.database_fails()
            self._for_a_while(lambda: setattr(trouble, "unsure", rng.choice((0.05, 0.3, 0.9))), self._database_well, 30)
        else:
            self._for_a_while(lambda: setattr(trouble, "slow", rng.choice((0.05, 0.5, 2.0))), self._database_well, 60)

    def _database_well(self) -> None:
        trouble = self.world.database
        self.world.watch.database_is_well()
        trouble.down, trouble.slow = False, 0.0
        trouble.unsure = 0.0 if self.world.calm else trouble.usual

    def _bucket(self) -> None:
        rng = self.world.rng
        bucket = rng.choice(list(self.world.buckets.values()))
        self.world.say("bucket trouble", bucket.dest)
        if rng.random() < 0.5:
            code = rng.choice(("bucket_unreachable", "bucket_denied", "bucket_slow_down"))
            self._for_a_while(lambda: setattr(bucket, "refuses", code), lambda: setattr(bucket, "refuses", None), 200)
        else:
            self._for_a_while(
                lambda: setattr(bucket, "unreliable", 0.4), lambda: setattr(bucket, "unreliable", 0.0), 200
            )

    def _links_crawl(self) -> None:
        """Copies take so long that links die: nothing more should be paid for meanwhile."""
        world = self.world
        world.say("links crawl")
        world.crawl, usual = 90.0, world.moods.early_expiry
        world.moods.early_expiry = 0.7

        def end() -> None:
            world.crawl = 0.0
            world.moods.early_expiry = 0.0 if world.calm else usual

        world.timeline.after(world.rng.uniform(60, 400), end)

    def _gate(self) -> None:
        """A provider changes its mind about what it allows."""
        world = self.world
        gate = world.gates[world.rng.choice(list(world.gates))]
        times = world.rng.choice((0.5, 2.0))
        world.say("allowance", times)
        gate.rate, gate.places = gate.rate * times, max(1, int(gate.places * times))

    def _account(self) -> None:
        moods, rng = self.world.model.account_mood, self.world.rng
        name = rng.choice(list(self.world.settings.accounts))
        mood = rng.choice(("key", "balance", "busy", "storm"))
        self.world.say("account", name, mood)
        self._for_a_while(lambda: moods.update({name: mood}), lambda: moods.pop(name, None) and None, 300)

    def _clock(self) -> None:
        rng = self.world.rng
        machine = rng.choice(self.world.machines)
        jump = rng.choice((-4_000.0, -120.0, -5.0, 5.0, 120.0, 4_000.0))
        self.world.say("clock jumps", jump)
        machine.ahead += jump
        self.world.watch.clock_jumps(jump)

    # -- commands --------------------------------------------------------------------------------------------------

    def _some_batch(self) -> str:
        return self.world.rng.choice(self.world.batches)

    def _pause(self) -> None:
        world, batch = self.world, self._some_batch()
        world.say("pause", batch)
        world.office.batches.pause(batch, "on your word")
        if world.rng.random() < 0.8:
            world.timeline.after(
                world.rng.uniform(1, 300), lambda: world.office.batches.resume(batch, world.true_now())
            )

    def _stop_all(self) -> None:
        world = self.world
        world.say("pause --all")
        world.office.emergency_stop.begin(world.true_now(), "person@office")
        if world.rng.random() < 0.8:
            world.timeline.after(world.rng.uniform(1, 300), world.office.emergency_stop.lift)

    def _cancel(self) -> None:
        batch = self._some_batch()
        self.world.say("cancel", batch)
        self.world.office.batches.cancel(batch)

    def _redo(self) -> None:
        world, batch = self.world, self._some_batch()
        keys = [row[0] for row in world.raw.execute("SELECT key FROM jobs ORDER BY id").fetchall()]
        mine = [key for key in keys if key.startswith(f"{batch}-")]
        chosen = world.rng.sample(mine, min(len(mine), world.rng.randrange(1, 4)))
        world.say("redo", *chosen)
        world.office.batches.redo(batch, [(key, None) for key in chosen], world.true_now())

    def _retry(self) -> None:
        world, batch = self.world, self._some_batch()
        kept = "SELECT attempt_id, COUNT(*) FROM images WHERE state <> 'missing' GROUP BY attempt_id"
        lost = "SELECT attempt_id FROM images WHERE state = 'lost' AND NOT surplus"
        before, lost_before = dict(world.raw.execute(kept)), {row[0] for row in world.raw.execute(lost)}
        count = world.office.batches.retry(batch, world.true_now(), error=world.rng.choice((None, None, "moderation")))
        after, lost_after = dict(world.raw.execute(kept)), {row[0] for row in world.raw.execute(lost)}
        self.aside.update({attempt: before[attempt] - after.get(attempt, 0) for attempt in before})
        self.made_anew |= lost_before - lost_after
        world.say("retry", batch, count)

    def _budget(self) -> None:
        world, batch = self.world, self._some_batch()
        found = world.office.batches.find(batch)
        if found is not None and found.budget is not None:
            more = found.budget + world.rng.choice((20_000, 200_000))
            world.say("budget", batch, more)
            world.office.batches.agree(batch, more, more)
            world.watch.budget_is(batch, more)

    def _resolve(self) -> None:
        """Somebody looks at what is unknown and decides; who says "found" has looked at the provider's own list."""
        world = self.world
        rng = world.rng
        for one in world.office.unknowns.all():
            if rng.random() < 0.3:
                continue
            tasks = world.model.by_attempt.get(one.attempt_id, [])
            how = rng.choice(("pay-again", "give-up", "found") if tasks else ("pay-again", "pay-again", "give-up"))
            self.resolve(one.attempt_id, how, tasks[0].id if tasks and how == "found" else None)

    def resolve(self, attempt_id: int, how: str, task_id: str | None = None) -> None:
        world = self.world
        world.say("resolve", attempt_id, how, task_id)
        try:
            world.office.unknowns.resolve([attempt_id], how, world.true_now(), task_id)
        except BadInput as refused:
            world.say("refused:", refused)
