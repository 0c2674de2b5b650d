"""Starts the stand-in as a process of its own, and speaks to its control API.

with running({"rules": [{"trouble": "cut", "chance": 0.03}]}) as box:
    box.url, box.stats(), box.tasks(prompt="heron")
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

READY = "sandbox ready on "
TIMEOUT = 30.0  # seconds


class LaunchError(RuntimeError):
    """It did not start; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Box:
    """A running stand-in."""

    url: str
    process: subprocess.Popen[str]

    def stats(self) -> dict[str, Any]:
        """Totals, by provider and in all."""
        return self._ask("stats")

    def tasks(self, **query: str) -> list[dict[str, Any]]:
        """Accepted tasks in order: `prompt` (a part of it), `provider`, `id`, `limit`."""
        found: list[dict[str, Any]] = self._ask("tasks", query=query)["tasks"]
        return found

    def submits(self, **query: str) -> list[dict[str, Any]]:
        """Every POST that asked for images: `prompt` (a part of it), `since`."""
        found: list[dict[str, Any]] = self._ask("submits", query=query)["submits"]
        return found

    def arrange(self, scenario: Mapping[str, Any]) -> None:
        """Behaves by this scenario from now on."""
        self._ask("scenario", body=scenario)

    def top_up(self, provider: str, usd: float, key: str = "sandbox-key") -> None:
        """Adds to a balance."""
        self._ask("topup", body={"provider": provider, "key": key, "usd": usd})

    def revoke(self, key: str = "sandbox-key", *, back: bool = False) -> None:
        """Refuses a key, or takes it again."""
        self._ask("revoke", body={"key": key, "back": back})

    def finish(self, prompt: str = "") -> None:
        """Ends all tasks that run, stuck ones too, if their prompt has that part."""
        self._ask("finish", body={"prompt": prompt})

    def answer(self) -> None:
        """Gives the answers that hang; none hangs until the next scenario."""
        self._ask("answer", body={})

    def reset(self) -> None:
        """Forgets everything but the scenario."""
        self._ask("reset", body={})

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(TIMEOUT)

    def _ask(
        self, name: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_control/{name}?{urlencode(query or {})}", data=data)  # noqa: S310  our own
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310  the same
            found: dict[str, Any] = json.load(answer)
        return found


def start(*options: str) -> Box:
    """Starts it; it ends with this process."""
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--with-parent", *options]
    process = subprocess.Popen(  # noqa: S603  our own module
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
    )
    assert process.stdout is not None  # noqa: S101  it is a pipe
    with process.stdout as said:
        line = said.readline()
    if not line.startswith(READY):
        process.kill()
        process.wait()
        raise LaunchError(line.strip() or "the sandbox ended at once")
    return Box(line.removeprefix(READY).strip(), process)


@contextlib.contextmanager
def running(scenario: Mapping[str, Any] | None = None, *options: str) -> Iterator[Box]:
    """A stand-in for the length of a block."""
    box = start(*options)
    try:
        if scenario:
            box.arrange(scenario)
        yield box
    finally:
        box.stop()
