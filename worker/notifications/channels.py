"""The channels of this process: whom it can tell, by the names under which the ledger knows them.

A name is the setting's own, "webhook", or an address's scheme and its number among those of its scheme ("slack 1"). So
a message that waits goes to the address as it is corrected; no address, and nothing that is made of one, is on record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from jobs.results.messages import Hearer
from jobs.settings.model import Settings
from jobs.settings.notifications import WEBHOOK, scheme_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Whom to tell. `secret`: with which a program's messages are signed; None: a person."""

    name: str
    address: SecretStr
    secret: SecretStr | None = None
    hears_all: bool = True
    batch: str | None = None  # of this batch, in any case

    @property
    def hearer(self) -> Hearer:
        """Without its address."""
        program = self.secret is not None
        return Hearer(channel=self.name, hears_all=self.hears_all, batch=self.batch, is_program=program)


def channels_of(settings: Settings) -> list[Channel]:
    """The channels of the settings."""
    found = [
        *_numbered(settings.notify),
        *(Channel(name=name, address=each, hears_all=False) for name, each in settings.channels.items()),
    ]
    if settings.webhook is not None:
        found.append(Channel(name=WEBHOOK, address=settings.webhook.url, secret=settings.webhook.secret))
    return found


def of_this_run(addresses: Sequence[SecretStr], batch: str) -> list[Channel]:
    """Addresses of the command line: they hear of this batch, and only this process knows them."""
    return [
        Channel(name=f"--notify {each.name} of {batch}", address=each.address, hears_all=False, batch=batch)
        for each in _numbered(addresses)
    ]


def _numbered(addresses: Sequence[SecretStr]) -> Iterator[Channel]:
    seen: Counter[str] = Counter()
    for address in addresses:
        scheme = scheme_of(address.get_secret_value())
        seen[scheme] += 1
        yield Channel(name=f"{scheme} {seen[scheme]}", address=address)
