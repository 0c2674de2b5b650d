"""How long a command takes to start: wall time, the median of several, beside a Python that does nothing."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import LIGHTFAST, run, show


def measure(times: int) -> list[tuple[str, str]]:
    """The three, one after the other again and again, so that a busy moment meets all."""
    programs = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "lightfast --help": [LIGHTFAST, "--help"],
        "lightfast status": [LIGHTFAST, "status"],
    }
    walls: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([LIGHTFAST, "migrate"], folder=folder)  # a ledger to tell the status of
        for _ in range(times):
            for program, args in programs.items():
                walls[program].append(run(args, folder=folder).wall)
    return [(name, f"{statistics.median(took) * 1000:.0f} ms") for name, took in walls.items()]


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--times", type=int, default=10)
    show("Start (median)", measure(options.parse_args().times))


if __name__ == "__main__":
    main()
