"""What must be true whatever was killed, judged by the sandbox's books and by the bytes at the destination."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.launch import Box
from tests.soak.work import Batch

Tasks = list[dict[str, Any]]


@dataclass(slots=True, kw_only=True)
class Findings:
    """Figures to show, and what they should not have been."""

    title: str
    figures: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def show(self, name: str, figure: object, *, must: bool = True, why: object = "") -> None:
        """One line of the table; with `must` False a fault."""
        self.figures.append((name, f"{figure}{'' if must else '   <- WRONG'}"))
        if not must:
            self.faults.append(f"{self.title}: {name}: {figure} {why}".rstrip())

    def table(self) -> str:
        """As text."""
        width = max(len(name) for name, _ in self.figures)
        return "\n".join([self.title, *(f"  {name:<{width}}  {figure}" for name, figure in self.figures)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How things stand by the sandbox and the destination. `listed`: the rows `lightfast unknown` names."""

    tasks: Tasks
    stored: Mapping[str, list[bytes]]  # by key
    listed: frozenset[str]

    @property
    def paid(self) -> Counter[str]:
        """Images charged, by prompt."""
        return Counter({task["prompt"]: 0 for task in self.tasks}) + _charged(self.tasks)

    @property
    def twice(self) -> Counter[str]:
        """Images charged beyond the one a row asked for, by prompt."""
        return Counter({prompt: images - 1 for prompt, images in self.paid.items() if images > 1})

    @property
    def money(self) -> int:
        """All that was charged, in micro-dollars."""
        return sum(task["money_micros"] for task in self.tasks)


def after_the_kills(found: Findings, batch: Batch, look: Look) -> None:
    """Nobody asked for anything to be paid again yet."""
    neither = {key for key in batch.prompts if not look.stored.get(key)} - look.listed
    found.show("paid twice unasked", look.twice.total(), must=not look.twice, why=dict(look.twice))
    found.show("rows stored", len(look.stored))
    found.show("rows listed by `lightfast unknown`", len(look.listed))
    found.show("rows neither stored nor listed", len(neither), must=not neither, why=sorted(neither))
    found.show("... of the listed, charged in truth", sum(look.paid[batch.prompts[key]] for key in look.listed))
    _same_bytes(found, batch, look)


def in_the_end(found: Findings, batch: Batch, look: Look, listed_ever: int) -> None:
    """After `unknown --resolve pay-again` and the same command again."""
    missing = sorted(key for key in batch.prompts if not look.stored.get(key))
    found.show("rows stored in the end", len(look.stored), must=not missing, why=missing)
    twice = look.twice.total()
    found.show("paid twice in the end", f"{twice} (at most the {listed_ever} listed)", must=twice <= listed_ever)
    _same_bytes(found, batch, look)


def books(found: Findings, look: Look, money: Mapping[str, int], audited: Iterable[str | None]) -> None:
    """`status --money` beside the sandbox: they differ by tasks whose answers were lost, to the micro-dollar."""
    known = set(audited)
    orphans = [task for task in look.tasks if task["id"] not in known]
    lost = sum(task["money_micros"] for task in orphans)
    certain = money["charged"] - money["given_up"]
    found.show("sandbox charged", _dollars(look.money))
    found.show("ledger: charged, less given up", _dollars(certain))
    found.show(
        f"... and the {len(orphans)} tasks no answer told of",
        f"{_dollars(lost)}, together {_dollars(certain + lost)}",
        must=certain + lost == look.money,
    )
    found.show("... which is no more than given up", _dollars(money["given_up"]), must=lost <= money["given_up"])


def _same_bytes(found: Findings, batch: Batch, look: Look) -> None:
    """Each file is one the provider drew for this very row."""
    drawn: dict[str, set[str]] = {}
    for task in look.tasks:
        drawn.setdefault(task["prompt"], set()).update(filter(None, task["sha256"]))
    strange = [
        key
        for key, files in look.stored.items()
        for data in files
        if hashlib.sha256(data).hexdigest() not in drawn.get(batch.prompts.get(key, ""), set())
    ]
    files = sum(map(len, look.stored.values()))
    found.show("files with other bytes than the sandbox drew", f"{len(strange)} of {files}", must=not strange)


def _charged(tasks: Tasks) -> Counter[str]:
    sums: Counter[str] = Counter()
    for task in tasks:
        sums[task["prompt"]] += task["charged_images"]
    return sums


def _dollars(micros: int) -> str:
    return f"${micros / 1e6:.3f}"


def look_at(box: Box, stored: Mapping[str, list[bytes]], listed: Iterable[str]) -> Look:
    """Both sides now; nothing may be in flight."""
    return Look(tasks=box.tasks(), stored=stored, listed=frozenset(listed))


def files_of(folder: Path) -> dict[str, list[bytes]]:
    """What a folder holds, by the rows' keys."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(folder.glob("*/*")):
        found.setdefault(path.parent.name, []).append(path.read_bytes())
    return found
