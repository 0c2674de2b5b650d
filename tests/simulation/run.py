"""Runs seeds: `python -m tests.simulation --seeds 5000`, or `--seed 17` for one, told from beginning to end."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from jobs.policy import copy_headroom, poll_schedule
from providers.dialects import reading
from worker.recording import rescue_file

from .invariants import Fault, summed
from .world import World

#: Virtual seconds of trouble, at most, and of calm.
TROUBLE = 650.0
CALM = 4 * 3_600.0
#: Virtual seconds between two looks at everything.
LOOK_EVERY = 15.0

#: Constants of pure policies, shortened: batches here are small, and plans of polls coarse. See also `world.TIMINGS`.
SHORTENED = (
    (copy_headroom, "ENOUGH_WAITING", 4),
    (copy_headroom, "ENOUGH_STORED", 2),
    (copy_headroom, "PAUSE_ABOVE", 0.2),
    (copy_headroom, "RESUME_BELOW", 0.1),
    (poll_schedule, "STEPS", 16),
    (reading, "LONGEST_WAIT", 600.0),
    (poll_schedule, "ENOUGH", 0.3),  # its batches are small
)
#: Events that tell of a fault in the program itself, whatever it does to money.
BUGS = frozenset(
    {"submit_failed", "poll_failed", "copy_failed", "recorder_failed", "fact_set_aside", "rescue_lines_kept"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a seed went."""

    seed: int
    faults: tuple[Fault, ...]
    digest: str  # of the whole history
    hours: float  # of virtual time
    submits: int
    history: tuple[str, ...]
    met: Counter[str]  # what happened in it, and how often


def run_seed(seed: int, *, verbose: bool = False) -> Outcome:
    """One history."""
    with _surroundings() as heard:
        world = World(seed, verbose=verbose)
        heard.append(world)
        try:
            _live(world)
            return Outcome(
                seed=seed,
                faults=tuple(world.watch.faults),
                digest=world.digest,
                hours=world.timeline.now / 3_600,
                submits=len(world.watch.sent),
                met=world.met,
                history=tuple(f"{line.at:10.3f}  {line.text}" for line in world.history),
            )
        finally:
            world.close()
            heard.clear()
            del world
            _forget()


def _forget() -> None:
    """What dead processes had begun is thrown away unfinished, as it should be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect(1)


def _live(world: World) -> None:
    trouble = 60 + (TROUBLE - 60) * world.rng.random() ** 2
    for _ in range(world.wanted):
        world.hire()
    world.person.arrange(trouble)
    _look_again(world)
    world.timeline.run(lambda: _over(world), trouble)
    if world.watch.faults:
        return
    world.person.calm_down()
    # By a clock that was set back, links die later: what they take with them is told as much later.
    behind = max(0.0, *(-machine.ahead for machine in world.machines))
    world.timeline.run(lambda: _over(world) or (_is_time(world) and world.watch.settled()), trouble + CALM + behind)
    if not world.watch.faults:
        world.watch.at_the_end()
    if not world.watch.faults and world.rng.random() < 0.5:
        _resolve_all(world)


def _resolve_all(world: World) -> None:
    """Somebody pays for all that is unknown again; then nothing is held any more."""
    for one in world.office.unknowns.all():
        world.person.resolve(one.attempt_id, "pay-again")
    world.timeline.run(lambda: _over(world) or (_is_time(world) and world.watch.settled()), world.timeline.now + CALM)
    if not world.watch.faults:
        world.watch.at_the_end()
        world.watch.nothing_is_held()


def _over(world: World) -> bool:
    return bool(world.watch.faults)


def _look_again(world: World) -> None:
    world.looked = True
    world.watch.look()
    world.timeline.after(LOOK_EVERY, lambda: _look_again(world))


def _is_time(world: World) -> bool:
    looked, world.looked = world.looked, False
    return looked


@contextlib.contextmanager
def _surroundings() -> Iterator[list[World]]:
    """Shortened waits, chance without the system's, and everything that the program logs is heard."""
    heard: list[World] = []
    before = [(module, name, getattr(module, name)) for module, name, _ in SHORTENED]
    names, said = rescue_file.secrets, structlog.get_config()

    class Numbers:
        count = 0

        @classmethod
        def token_hex(cls, _bytes: int) -> str:
            cls.count += 1
            return f"{cls.count:08x}"

    def hear(_logger: Any, _method: str, event: dict[str, Any]) -> str:
        if not heard:
            raise structlog.DropEvent
        world = heard[0]
        name = event.pop("event")
        event.pop("exc_info", None)
        world.say("|", name, *(f"{key}={value}" for key, value in event.items() if key not in ("file", "host")))
        world.met[name] += 1
        if name in BUGS:
            world.watch.fault("the program finds no fault in itself", f"{name} {event}")
        raise structlog.DropEvent

    for module, name, value in SHORTENED:
        setattr(module, name, value)
    rescue_file.secrets = Numbers  # type: ignore[assignment]
    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield heard
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        rescue_file.secrets = names
        structlog.configure(**said)


def main() -> int:
    """0: no seed found a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5_000, help="how many seeds, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that share them")
    parser.add_argument("--seed", type=int, help="one seed, with its whole history")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _tell(asked.seed)
    return _run_all(range(asked.first, asked.first + asked.seeds), asked.jobs)


def _tell(seed: int) -> int:
    outcome = run_seed(seed, verbose=True)
    sys.stdout.write("\n".join(outcome.history) + f"\nseed {seed}, history {outcome.digest}\n")
    sys.stdout.write(summed(outcome.faults) + "\n" if outcome.faults else "no fault\n")
    return 1 if outcome.faults else 0


def _run_all(seeds: range, jobs: int) -> int:
    tally = _Tally()
    if jobs <= 1:
        for seed in seeds:
            tally.add(run_seed(seed))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            for outcome in pool.map(run_seed, seeds, chunksize=10):
                tally.add(outcome)
    tally.tell()
    tally.tell_met()
    return 1 if tally.bad else 0


class _Tally:
    """Counts outcomes, and tells of every fault at once."""

    def __init__(self) -> None:
        self.bad = self.done = self.submits = 0
        self._met: Counter[str] = Counter()
        self._hours = 0.0
        self._began = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        self.done += 1
        self.submits += outcome.submits
        self._hours += outcome.hours
        self._met += outcome.met
        if outcome.faults:
            self.bad += 1
            sys.stdout.write(f"seed {outcome.seed}\n{summed(outcome.faults)}\n")
        if self.done % 100 == 0:
            self.tell()

    def tell(self) -> None:
        pace = self.done / (time.monotonic() - self._began)
        told = f"{self.done} seeds, {self.bad} with faults; {self.submits} submits in {self._hours:.0f} virtual hours"
        sys.stdout.write(f"{told}; {pace:.1f} seeds a second\n")
        sys.stdout.flush()

    def tell_met(self) -> None:
        """What the histories came upon, the most frequent first."""
        sys.stdout.write(", ".join(f"{name} {count}" for name, count in self._met.most_common()) + "\n")
