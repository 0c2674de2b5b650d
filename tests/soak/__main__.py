"""`make soak`: everything that can be killed is killed, and the books are compared. Twenty minutes on two cores."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.soak import away, budget, cluster, copying, local, order
from tests.soak.judge import Findings

PARTS = ("local", "webhooks", "copying", "frozen", "outage", "full-disk", "budget", "cluster")


def main() -> int:
    """Prints a table for each part; 1 when a figure is wrong."""
    options = _options()
    parts: dict[str, Callable[[Path], list[Findings]]] = {
        "local": lambda folder: [local.soak(folder, rows=options.rows, kills=options.kills, seed=options.seed)],
        "webhooks": lambda folder: local.soak_with_and_without_webhooks(
            folder, rows=max(1, options.rows * 3 // 10), kills=max(1, options.kills // 4), seed=options.seed
        ),
        "copying": lambda folder: [
            order.show_order(folder / "order", images=10 * options.rows, seed=options.seed),
            copying.soak_faults(folder / "faults", rows=2 * options.rows, seed=options.seed),
            copying.soak_away(folder / "away", rows=max(60, options.rows // 2), seed=options.seed),
            copying.soak_away(folder / "longer", rows=max(60, options.rows // 5), seed=options.seed, lives=20.0),
            copying.soak_killed(folder / "killed", rows=max(60, options.rows * 4 // 5), kills=20, seed=options.seed),
        ],
        "frozen": lambda folder: [away.soak_frozen(folder, rows=max(1, options.rows // 5), seed=options.seed)],
        "full-disk": lambda folder: [away.soak_full_disk(folder, rows=max(1, options.rows // 5), seed=options.seed)],
        "outage": lambda folder: [away.soak_outage(folder, rows=max(1, options.rows // 5), seed=options.seed)],
        "budget": lambda folder: [budget.soak_budget(folder)],
        "cluster": lambda folder: [
            cluster.soak(
                folder,
                rows=options.rows,
                kills=options.kills,
                seed=options.seed,
                providers=tuple(options.providers.split(",")),
            )
        ],
    }
    faults = []
    with tempfile.TemporaryDirectory(prefix="lightfast-soak-") as place:
        for name in options.part or parts:
            for found in parts[name](Path(place) / name):
                print(found.table(), end="\n\n", flush=True)  # noqa: T201  its purpose
                faults += found.faults
    print("\n".join(faults) or "nothing was paid twice unasked, nothing paid was lost")  # noqa: T201  the same
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeat")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--providers",
        default="maxapi.io,maxapi.dev,apimaster",
        help="of the cluster; a killed worker's submits are held until their leases end: 3, 5 and 12 minutes",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
