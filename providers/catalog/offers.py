"""What stands in catalog.toml, as values: models, tables of pixels, limits of sizes, and each provider's offers."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from providers.references import ReferencesBy
from providers.token_prices import TokenPrices
from providers.types import MICROS

Pixels = tuple[int, int]

#: A price that holds whatever the resolution.
ANY = "any"

#: Pixels up to which a size belongs to a resolution; read off the documented table, whose tiers do not overlap.
TIERS = (("1k", 2_097_152), ("2k", 5_242_880))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A name users write."""

    name: str
    least_n: int
    most_n: int
    ratio: str | None  # default, where a row gives none
    resolution: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimits:
    """What a free pixel size has to keep to."""

    multiple_of: int
    max_edge: int
    max_ratio: float
    least_pixels: int
    most_pixels: int

    def allow(self, size: Pixels) -> bool:
        """Whether a size keeps to all of them."""
        short, long = sorted(size)
        return (
            short > 0
            and short % self.multiple_of == 0
            and long % self.multiple_of == 0
            and long <= self.max_edge
            and long <= self.max_ratio * short
            and self.least_pixels <= short * long <= self.most_pixels
        )

    def __str__(self) -> str:
        return (
            f"WxH in multiples of {self.multiple_of}, edges up to {self.max_edge}, at most {self.max_ratio:g}:1, "
            f"{self.least_pixels:,} to {self.most_pixels:,} pixels"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """The values an option may have."""

    choices: tuple[object, ...] = ()
    least: int | None = None
    most: int | None = None
    needs: Mapping[str, tuple[object, ...]] = field(default_factory=dict)  # another option -> one of these values

    def takes(self, value: object) -> bool:
        """Whether a value is legal; True is not 1, and "80" not 80."""
        if self.least is not None and self.most is not None:
            return type(value) is int and self.least <= value <= self.most
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def __str__(self) -> str:
        if self.least is not None:
            return f"{self.least} to {self.most}"
        return " ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in self.choices)


@dataclass(frozen=True, kw_only=True)  # no slots: cached properties live in its dict
class Offer:
    """One provider's model: what it makes, costs, and how it is asked."""

    provider: str
    model: str  # Lightfast's name
    id: str  # the provider's own
    least_references: int
    most_references: int
    references_by: ReferencesBy
    max_n: int
    ratios: Mapping[str, Mapping[str, Pixels | None]] = field(default_factory=dict)  # ratio -> resolution -> pixels
    asked_in: str = "ratio"  # or "pixels": a ratio stands for its documented pixels
    sizes: SizeLimits | None = None
    odd_sizes: tuple[Pixels, ...] = ()
    prompt_limit: int | None = None  # characters
    qualities: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    hint: str = ""
    priced_by: str = "resolution"
    prices: Mapping[str, int] = field(default_factory=dict)  # micro-dollars
    tokens: Mapping[str, TokenPrices] = field(default_factory=dict)  # by route mode: what is billed by tokens
    your_prices: Mapping[str, int] = field(default_factory=dict)  # from the settings, by resolution
    route_mode: str | None = None  # the account's own choice; None: the cheapest that has a price
    link_life: float
    first_poll_after: float
    poll_every: float
    submit_timeout: Mapping[str, float]  # by resolution, or ANY
    typical_seconds: Mapping[str, float]

    @functools.cached_property
    def resolutions(self) -> tuple[str, ...]:
        """Every resolution of the table, in its order."""
        return tuple(dict.fromkeys(name for row in self.ratios.values() for name in row))

    def ratios_at(self, resolution: str | None) -> tuple[str, ...]:
        """The ratios that are legal at a resolution; all of them at none."""
        return tuple(ratio for ratio, row in self.ratios.items() if resolution is None or resolution in row)

    def modes(self, asked: object) -> tuple[str | None, ...]:
        """The provider's routes that may make a request: the one it asks for, the account's, or all with a price."""
        if self.priced_by != "route_mode":
            return (None,)
        chosen = asked or self.route_mode
        return (str(chosen),) if chosen else (*self.prices, *self.tokens)

    @functools.cached_property
    def by_pixels(self) -> Mapping[Pixels, tuple[str, str]]:
        """Pixels -> (ratio, resolution), where documented."""
        entries = ((ratio, name, pixels) for ratio, row in self.ratios.items() for name, pixels in row.items())
        return {pixels: (ratio, name) for ratio, name, pixels in entries if pixels}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All of catalog.toml."""

    models: Mapping[str, Model]
    offers: tuple[Offer, ...]


@functools.cache
def load() -> Contents:
    """Reads the packaged catalog.toml, once a process."""
    text = resources.files("providers.catalog").joinpath("catalog.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    models = {name: _model(name, entry) for name, entry in values["models"].items()}
    return Contents(models=models, offers=tuple(_offer(entry, values) for entry in values["offers"]))


def micros(usd: float) -> int:
    """Dollars as whole micro-dollars."""
    return round(usd * MICROS)


def tier(size: Pixels) -> str:
    """The resolution a free pixel size counts as."""
    pixels = size[0] * size[1]
    return next((name for name, most in TIERS if pixels <= most), "4k")


def _model(name: str, entry: Mapping[str, Any]) -> Model:
    least, most = entry["n"]
    defaults = entry["defaults"]
    return Model(
        name=name, least_n=least, most_n=most, ratio=defaults.get("ratio"), resolution=defaults.get("resolution")
    )


def _offer(entry: Mapping[str, Any], values: Mapping[str, Any]) -> Offer:
    facts = {**values["providers"][entry["provider"]], **entry}
    least, most = facts["references"]
    return Offer(
        provider=facts["provider"],
        model=facts["model"],
        id=facts["id"],
        least_references=least,
        most_references=most,
        references_by=ReferencesBy(facts["references_by"]),
        max_n=facts["max_n"],
        ratios=_table(values["tables"][facts["table"]]) if "table" in facts else {},
        asked_in=facts.get("asked_in", "ratio"),
        sizes=_limits(values["sizes"][facts["sizes"]]) if "sizes" in facts else None,
        odd_sizes=tuple((width, height) for width, height in facts.get("odd_sizes", ())),
        prompt_limit=facts.get("prompt_limit"),
        qualities=tuple(facts.get("qualities", ())),
        options={name: _option(rule) for name, rule in facts.get("options", {}).items()},
        hint=facts.get("hint", ""),
        priced_by=facts.get("priced_by", "resolution"),
        prices={name: micros(usd) for name, usd in facts["prices"].items()},
        tokens={name: _tokens(usd) for name, usd in facts.get("tokens", {}).items()},
        link_life=float(facts["link_life"]),
        first_poll_after=facts["first_poll_after"],
        poll_every=facts["poll_every"],
        submit_timeout=_by_resolution(facts["submit_timeout"]),
        typical_seconds=_by_resolution(facts["typical_seconds"]),
    )


def _tokens(usd: Mapping[str, float]) -> TokenPrices:
    """USD for a million tokens, as the page has it."""
    return TokenPrices(**{name: micros(price) for name, price in usd.items()})


def _table(rows: Mapping[str, Mapping[str, list[int]]]) -> dict[str, dict[str, Pixels | None]]:
    return {
        ratio: {name: (pixels[0], pixels[1]) if pixels else None for name, pixels in row.items()}
        for ratio, row in rows.items()
    }


def _limits(entry: Mapping[str, Any]) -> SizeLimits:
    least, most = entry["pixels"]
    return SizeLimits(
        multiple_of=entry["multiple_of"],
        max_edge=entry["max_edge"],
        max_ratio=entry["max_ratio"],
        least_pixels=least,
        most_pixels=most,
    )


def _option(rule: Mapping[str, Any] | list[object]) -> Option:
    if isinstance(rule, list):
        return Option(choices=tuple(rule))
    needs = {name: tuple(choices) for name, choices in rule.get("needs", {}).items()}
    return Option(least=rule["min"], most=rule["max"], needs=needs)


def _by_resolution(value: float | Mapping[str, float]) -> dict[str, float]:
    if isinstance(value, Mapping):
        return {name: float(seconds) for name, seconds in value.items()}
    return {ANY: float(value)}
