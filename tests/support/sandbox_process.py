"""The sandbox in a process of its own, as a test controls it."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.support.patience import AT_LAST


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The sandbox as a process: how to reach it, what it was asked for, and what it does next."""

    url: str

    @property
    def settings(self) -> dict[str, str]:
        """The variables that lead to it."""
        providers = {"MAXAPI_IO": "maxapi.io", "MAXAPI_DEV": "maxapi.dev", "APIMASTER": "apimaster"}
        return {
            "LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1",
            **{f"{name}_API_KEY": "sandbox-key" for name in providers},
            **{f"{name}_BASE_URL": f"{self.url}/{provider}" for name, provider in providers.items()},
        }

    def stats(self) -> Any:
        """`total`: submits, accepted, charged_images, money …; the same in `providers`; `repeated_prompts`."""
        return self._ask("stats")

    def tasks(self, prompt: str = "") -> Any:
        """Accepted tasks whose prompt holds that text."""
        return self._ask(f"tasks?{urllib.parse.urlencode({'prompt': prompt})}")["tasks"]

    def submits(self) -> Any:
        """Every submit that arrived with a good key."""
        return self._ask("submits")["submits"]

    def play(self, **scenario: Any) -> None:
        """Another scenario from now on: `play(pictures={"tiny": True}, rules=[…])`."""
        self._ask("scenario", scenario)

    def finish(self, prompt: str = "") -> None:
        """Ends all tasks that run, stuck ones too, if their prompt has that part."""
        self._ask("finish", {"prompt": prompt})

    def answer(self) -> None:
        """Gives the answers that hang; none hangs until the next scenario."""
        self._ask("answer", {})

    def reset(self) -> None:
        """Forgets what happened."""
        self._ask("reset", {})

    def _ask(self, what: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.url}/_control/{what}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=AT_LAST) as answer:
            return json.load(answer)
