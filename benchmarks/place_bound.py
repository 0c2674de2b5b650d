"""How long a batch takes that is held up by the places of its account alone, as a multiple of the least possible.

The least is what the same durations take on the same number of places if each place is taken again at once. In virtual
time for several kinds of durations, and for real: a `lightfast run` against the stand-in, from an empty ledger on.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.measure import Findings, show
from benchmarks.polling import BATCH, DURATIONS, PLACES, SETTINGS, real, tried

#: Polls a second that a provider answers, where it limits them.
FEW_POLLS = 10.0
#: Those settings of `benchmarks.polling` under which rows wait for places.
WAITING = {"every poll is answered": SETTINGS[0], f"{FEW_POLLS:g} polls a second are answered": SETTINGS[1]}


def measure(images: int = BATCH, places: int = PLACES, *, seeds: int = 3) -> Findings:
    """Virtual time first, then two real runs of about two minutes each."""
    lines = []
    for kind, draw in DURATIONS.items():
        found = [
            statistics.fmean(tried(draw, setting, seed=seed, images=images).of_least for seed in range(seeds))
            for setting in WAITING.values()
        ]
        lines.append((f"virtual time, {kind}", ", ".join(f"{each:.2f}" for each in found)))
    free, limited = real("maxapi.io", images, places), real("maxapi.io", images, places, limit=FEW_POLLS)
    for how, run in zip(WAITING, (free, limited), strict=True):
        lines.append((f"for real, uniform 5-20 s, {how}", f"{run.of_least:.2f}; {run.whole}; {run.refused} 429s"))
    return Findings(lines=lines, numbers={"of_least": free.of_least, "of_least_few_polls": limited.of_least})


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=BATCH)
    options.add_argument("--places", type=int, default=PLACES)
    given = options.parse_args()
    title = f"Time of a batch of {given.images} images on {given.places} places, relative to the least possible"
    show(title, measure(given.images, given.places).lines)


if __name__ == "__main__":
    main()
