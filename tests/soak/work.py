"""A batch, its settings, and the `lightfast` commands on it, each a process of its own."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import ROOT, command

PROVIDERS = ("maxapi.io", "maxapi.dev", "apimaster")
NAME = "soak"
LONGEST = 900.0  # seconds a command may take

ACCOUNT = """
[accounts.{name}]
provider = "{provider}"
api_key = "sandbox-key"
base_url = "{url}/{provider}"
submits_per_second = {rate}
polls_per_second = 50.0
max_in_flight = {in_flight}
first_poll_after = 0.5
poll_every = 0.5
{more}
"""
PRICES = '[accounts.apimaster.prices]\n"gpt-image-2" = { 1k = 0.03, 2k = 0.05, 4k = 0.08 }\n'


def scenario(seed: int, *, dropped: float = 0.03) -> dict[str, Any]:
    """Answers cut off after acceptance, polls that fail; real tasks of a second, real pixels."""
    return {
        "seed": seed,
        "takes": {"default": [0.3, 1.5]},
        "answer_seconds": {"default": [0.05, 0.3]},
        "pictures": {"tiny": True},
        "rules": [{"trouble": "drop", "chance": dropped}, {"trouble": "poll 503", "chance": 0.05}],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A manifest in a folder. `prompts`: by key, no two alike."""

    folder: Path
    prompts: Mapping[str, str]
    to: str = "dest"
    environment: Mapping[str, str] = field(default_factory=lambda: {**os.environ, "PYTHONPATH": str(ROOT)})

    def start(self, *arguments: str) -> command.Started:
        """A command, running."""
        return command.Started(("lightfast", *arguments), self.environment, cwd=self.folder)

    def start_run(self) -> command.Started:
        """The command that makes it, and that goes on with it."""
        return self.start("run", f"{NAME}.csv", "--to", self.to, "--yes", "--quiet", "--max-stall", "10m")

    def run(self) -> int:
        """To its end."""
        process = self.start_run()
        said = process.communicate(timeout=LONGEST)[1]
        if process.returncode not in (0, 3):
            raise RuntimeError(f"lightfast run ended with {process.returncode}: {said}")
        return process.returncode

    def ask(self, *arguments: str) -> str:
        """What a command says on stdout."""
        done = command.lightfast(*arguments, environment=self.environment, cwd=self.folder, timeout=LONGEST)
        if done.returncode:
            raise RuntimeError(f"lightfast {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def listed(self) -> list[str]:
        """Keys of the attempts that `lightfast unknown` lists."""
        return [each["key"] for each in json.loads(self.ask("unknown", NAME, "--json"))["unknown"]]

    def pay_again(self) -> None:
        """A person's word on all that is listed."""
        self.ask("unknown", NAME, "--resolve", "pay-again", "--yes")

    def money(self) -> dict[str, int]:
        """`status --money` of the whole batch, in micro-dollars."""
        document = json.loads(self.ask("status", NAME, "--money", "--json"))
        if not document["closes"]:
            raise RuntimeError(f"the ledger does not close: {document}")
        (sums,) = (line for line in document["money"] if line["of"] == "all")
        return {name: round(value * 1e6) for name, value in sums.items() if isinstance(value, float)}

    def audited(self) -> list[str | None]:
        """Task ids on the lines of `lightfast audit`."""
        lines = self.ask("audit", NAME, "--format", "jsonl").splitlines()
        return [json.loads(line)["task_id"] for line in lines]


def make_batch(folder: Path, rows: int, providers: tuple[str, ...] = PROVIDERS, **more: Any) -> Batch:
    """Writes the manifest; rows take the providers in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = {f"row-{number}": f"{NAME} {folder.name} picture {number}" for number in range(rows)}
    with (folder / f"{NAME}.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["key", "prompt", "provider"])
        table.writerows(
            [key, prompt, providers[number % len(providers)]] for number, (key, prompt) in enumerate(prompts.items())
        )
    return Batch(folder=folder, prompts=prompts, **more)


def write_settings(folder: Path, url: str, rate: float, webhooks: str = "", in_flight: int = 40) -> None:
    """A SQLite ledger and an account at each provider; `rate`: submits a second of each."""
    more = f'webhook_base_url = "{webhooks}"' if webhooks else ""
    accounts = [
        ACCOUNT.format(
            name=provider.replace(".", "-"),
            provider=provider,
            url=url,
            rate=f"{rate:.2f}",
            in_flight=in_flight,
            more=more if provider == "maxapi.io" else "",
        )
        for provider in PROVIDERS
    ]
    head = 'database_url = "sqlite:///lightfast.db"\nallow_private_hosts = true\n'
    (folder / "lightfast.toml").write_text(head + "".join(accounts) + PRICES)
