"""Runs a program and says what it took. Keep this module light: a child's peak memory is never below its parent's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: The interpreter's folder holds the `lightfast` command of the same installation.
LIGHTFAST = str(Path(sys.executable).with_name("lightfast"))
ROOT = Path(__file__).parent.parent


#: What a table says: a name and a figure with its unit, each.
Lines = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a benchmark found: lines for people, and the numbers that `benchmarks.plot` and `benchmarks.scale` need."""

    lines: Lines
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What one process took."""

    wall: float  # seconds
    cpu: float  # seconds, user and system, of all its threads
    peak: int  # bytes of memory


def run(args: Sequence[str], *, folder: Path, env: Mapping[str, str] | None = None, ends_with: int = 0) -> Took:
    """Runs a program to its end; another ending ends the benchmark with what the program said."""
    log = folder / "out.log"
    began = time.perf_counter()
    with log.open("wb") as out:
        child = subprocess.Popen(
            args, cwd=folder, env=clean_environment(env or {}), stdout=out, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != ends_with:
        sys.exit(f"{' '.join(args)} ended with {child.returncode}:\n{log.read_text(errors='replace')[-4000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Took(wall=wall, cpu=used.ru_utime + used.ru_stime, peak=used.ru_maxrss * unit)


def cpu_below(roots: Collection[int]) -> float:
    """CPU seconds of these processes and of all below them; of an ended one too, once its parent has awaited it.

    Linux only: reads /proc.
    """
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(folder.name)] = int(told[1])
        seconds[int(folder.name)] = sum(map(int, told[11:15])) / os.sysconf("SC_CLK_TCK")
    below = set(roots)
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(seconds.get(each, 0.0) for each in below)


def python(module: str, *args: str) -> list[str]:
    """The command that runs one of our modules."""
    return [sys.executable, "-m", module, *args]


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without settings of Lightfast, which would change what is measured."""
    ours = ("LIGHTFAST_", "MAXAPI_", "APIMASTER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def show(title: str, lines: Sequence[tuple[str, str]]) -> None:
    """A small table."""
    print(f"\n{title}")
    for name, value in lines:
        print(f"  {name:<44} {value}")
    sys.stdout.flush()
