"""Runs seeds: `python -m tests.simulation --seeds 5000`, or `--seed 17` for one, told from beginning to end."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from worker import crew, rescue
from worker.stages import copy, poll

from .invariants import Fault, summed
from .world import World

#: Virtual seconds of trouble, at most, and of calm.
TROUBLE = 900.0
CALM = 4 * 3_600.0
#: Virtual seconds between two looks at everything.
LOOK_EVERY = 15.0

#: What only takes long is shortened: a lane looks for itself less often (bells mostly come first), and a task is
#: forgotten after minutes instead of a day.
SHORTENED = (
    (crew, "IDLE", 30.0),
    (crew, "SWEEP_EVERY", 30.0),
    (poll, "FORGOTTEN_AFTER", 400.0),
    (poll, "FORGOTTEN_FOR_SURE", 800.0),
    (poll, "SLOWEST", 120.0),
    (copy, "UNKNOWN_LIFE", 1_200.0),
    (copy, "GONE_AFTER", 200.0),
)
#: Seconds between two looks of an idle lane once nothing is lost any more.
IDLE_IN_CALM = 60.0
#: Events that tell of a fault in the program itself, whatever it does to money.
BUGS = frozenset({"submit_failed", "poll_failed", "copy_failed", "recorder_failed", "fact_set_aside", "rescue_lines_kept"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a seed went."""

    seed: int
    faults: tuple[Fault, ...]
    digest: str  # of the whole history
    hours: float  # of virtual time
    submits: int
    history: tuple[str, ...]


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
    trouble = 60 + (TROUBLE - 60) * world.chance.random() ** 2
    for _ in range(world.wanted):
        world.hire()
    world.person.arrange(trouble)
    _look_again(world)
    world.timeline.run(lambda: _over(world), trouble)
    if world.watch.faults:
        return
    world.person.calm_down()
    crew.IDLE = crew.SWEEP_EVERY = IDLE_IN_CALM
    world.timeline.run(lambda: _over(world) or (_is_time(world) and world.watch.settled()), trouble + CALM)
    if not world.watch.faults:
        world.watch.at_the_end()


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
    """Shortened waits, chance without the system's, and ears for what the program says of itself."""
    heard: list[World] = []
    before = [(module, name, getattr(module, name)) for module, name, _ in SHORTENED]
    names, said = rescue.secrets, structlog.get_config()

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
        if name in BUGS:
            world.watch.fault("the program finds no fault in itself", f"{name} {event}")
        raise structlog.DropEvent

    for module, name, value in SHORTENED:
        setattr(module, name, value)
    rescue.secrets = Numbers  # type: ignore[assignment]
    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield heard
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        rescue.secrets = names
        structlog.configure(**said)


def main() -> int:
    """0: no seed found a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5_000, help="how many seeds, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="one seed, with its whole history")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _tell(asked.seed)
    return _run_all(range(asked.first, asked.first + asked.seeds))


def _tell(seed: int) -> int:
    outcome = run_seed(seed, verbose=True)
    sys.stdout.write("\n".join(outcome.history) + f"\nseed {seed}, history {outcome.digest}\n")
    sys.stdout.write(summed(outcome.faults) + "\n" if outcome.faults else "no fault\n")
    return 1 if outcome.faults else 0


def _run_all(seeds: range) -> int:
    bad, began, hours, submits = 0, time.monotonic(), 0.0, 0
    for done, seed in enumerate(seeds, start=1):
        outcome = run_seed(seed)
        hours, submits = hours + outcome.hours, submits + outcome.submits
        if outcome.faults:
            bad += 1
            sys.stdout.write(f"seed {seed}\n{summed(outcome.faults)}\n")
        if done % 100 == 0 or done == len(seeds):
            took = time.monotonic() - began
            told = f"{done} seeds, {bad} with faults; {submits} submits in {hours:.0f} virtual hours; {done / took:.1f} seeds a second"
            sys.stdout.write(told + "\n")
            sys.stdout.flush()
    return 1 if bad else 0
