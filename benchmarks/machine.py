"""The machine that figures are from."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a reader needs to know of it; `None`: nobody has noted it."""

    cpu: str
    cores: int
    python: str
    load: float | None = None  # of the minute before it was measured
    memory_gb: float | None = None
    kernel: str | None = None

    def __str__(self) -> str:
        return ", ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield f"{self.cores} core{'' if self.cores == 1 else 's'} of {self.cpu}"
        if self.memory_gb is not None:
            yield f"{self.memory_gb:.0f} GB"
        if self.kernel is not None:
            yield self.kernel
        yield f"Python {self.python}"
        if self.load is not None:
            yield f"load {self.load:.1f} before it began"


def this_machine() -> Machine:
    """The one this process runs on, as it is now."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        python=platform.python_version(),
        load=os.getloadavg()[0],
        memory_gb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        kernel=f"{platform.system()} {platform.release()}",
    )


def _cpu() -> str:
    """The model's name, as Linux tells it."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())
