"""All providers of the sandbox. A new one is a file beside this, and its class here."""

from __future__ import annotations

from typing import Final

from sandbox.apis.api import Api
from sandbox.apis.apimaster import ApimasterApi
from sandbox.apis.maxapi_dev import DevApi
from sandbox.apis.maxapi_io import IoApi
from sandbox.troubles.scenario import BadScenario, Scenario

APIS: Final[tuple[type[Api], ...]] = (IoApi, DevApi, ApimasterApi)


def check_rules(scenario: Scenario) -> None:
    """Raises `BadScenario` for rules of a provider that is not here, or that cannot play their word."""
    known = {api.name: api for api in APIS}
    lines = []
    for number, rule in enumerate(scenario.rules, 1):
        if rule.provider is None:
            continue
        if rule.provider not in known:
            lines.append(f"rules[{number}].provider: no provider {rule.provider!r}; known: {', '.join(known)}")
        elif problem := known[rule.provider].cannot_play(rule.parsed()):
            lines.append(f"rules[{number}].trouble: {problem}")
    if lines:
        raise BadScenario(lines)
