"""Whether an offer can make a request, and how a user is told that none can. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from providers.catalog.offers import Offer, Pixels, tier
from providers.references import file_name, is_link, is_object
from providers.types import Request, clean

#: Characters of a bad value that are shown.
SHOWN = 80
#: Legal values that are listed at most: all ratios of a provider, but not all its sizes.
MANY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One value that cannot be, and what can."""

    column: str
    value: str
    legal: str
    is_whole: bool = False  # `legal` names every way out


class Unmakeable(Exception):
    """No allowed provider makes the request."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f'{p.column}: "{p.value}". {p.legal}' for p in self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A request in one provider's terms. `resolution` is also the price tier of a free size."""

    ratio: str | None
    resolution: str | None
    pixels: Pixels | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What one offer has against a request: it takes these `choices`, or what `text` says."""

    column: str
    value: str
    choices: tuple[str, ...] = ()
    text: str = ""
    condition: str = ""  # "at 4k"
    hint: str = ""


def fit(offer: Offer, request: Request) -> Fit | list[Complaint]:
    """The request in this offer's terms, or everything the offer has against it."""
    shape = _fit_size(offer, request) if request.size else _fit_ratio(offer, request)
    complaints = [
        *_check_references(offer, request),
        *_check_prompt(offer, request),
        *(shape if isinstance(shape, list) else ()),
        *_check_quality(offer, request),
        *_check_options(offer, request),
    ]
    return complaints or shape


def check_reference(url: str) -> Problem | None:
    """A reference has to be a link, or bytes that are known by their hash or their object's name."""
    good = is_link(url) or is_object(url) or file_name(url)
    return None if good else Problem(column="image_urls", value=clean(url, SHOWN), legal="an http:// or https:// link")


def merge(complaints: Sequence[tuple[str, Sequence[Complaint]]], model: str | None) -> list[Problem]:
    """One problem a column, from what each provider (name, complaints) says.

    `model`: the name to speak of when these are all the providers that have it.
    """
    columns: dict[str, list[tuple[str, Complaint]]] = {}
    for provider, items in complaints:
        for item in items:
            columns.setdefault(item.column, []).append((provider, item))
    return [
        Problem(
            column=column, value=said[0][1].value, legal=_wording(said, model if len(said) == len(complaints) else None)
        )
        for column, said in columns.items()
    ]


# -- pixels --------------------------------------------------------------------------------------------------------


def _fit_ratio(offer: Offer, request: Request) -> Fit | list[Complaint]:
    ratio, resolution = request.ratio, request.resolution
    if not offer.ratios:
        return _takes_none(offer, request) or Fit(ratio=None, resolution=None, pixels=None)
    if ratio is not None and ratio not in offer.ratios:
        return [_ratio_complaint(offer, ratio, offer.ratios_at(None))]
    if resolution is not None and resolution not in offer.resolutions:
        value = clean(resolution, SHOWN)
        return [Complaint(column="resolution", value=value, choices=offer.resolutions)]
    if ratio is None:
        return _fit_without_ratio(offer, resolution)
    legal = offer.ratios_at(resolution)
    if ratio not in legal:
        return [_ratio_complaint(offer, ratio, legal, f"at {resolution}")]
    pixels = offer.ratios[ratio].get(resolution) if resolution else None
    return Fit(ratio=ratio, resolution=resolution, pixels=pixels)


def _fit_without_ratio(offer: Offer, resolution: str | None) -> Fit | list[Complaint]:
    """The first reference decides. Asking in pixels, or a resolution that only some ratios have, needs a ratio."""
    legal = offer.ratios_at(resolution)
    untellable = offer.asked_in == "pixels" and resolution not in (None, offer.resolutions[0])
    if untellable or len(legal) < len(offer.ratios):
        return [_ratio_complaint(offer, "", legal, f"at {resolution}")]
    return Fit(ratio=None, resolution=resolution, pixels=None)


def _fit_size(offer: Offer, request: Request) -> Fit | list[Complaint]:
    size = request.size or (0, 0)
    found = offer.by_pixels.get(size)
    if found is None and not (size in offer.odd_sizes or (offer.sizes and offer.sizes.allow(size))):
        return [_size_complaint(offer, size)]
    ratio, resolution = found or (None, tier(size))
    if request.ratio not in (None, ratio) or request.resolution not in (None, resolution):
        text = "stands alone: leave out ratio and resolution, or give them instead of size"
        return [Complaint(column="size", value=_shown(size), text=text)]
    return Fit(ratio=ratio, resolution=resolution, pixels=size)


def _size_complaint(offer: Offer, size: Pixels) -> Complaint:
    if offer.sizes:
        odd = "".join(f", or {_shown(size)}" for size in offer.odd_sizes)
        return Complaint(column="size", value=_shown(size), text=f"takes {offer.sizes}{odd}")
    if offer.by_pixels:
        choices = tuple(_shown(size) for size in offer.by_pixels)
        return Complaint(column="size", value=_shown(size), choices=choices)
    hint = f": {offer.hint}" if offer.hint else ", but a ratio"
    return Complaint(column="size", value=_shown(size), text=f"takes no size{hint}")


def _takes_none(offer: Offer, request: Request) -> list[Complaint]:
    given = {"ratio": request.ratio, "resolution": request.resolution}
    hint = f": {offer.hint}" if offer.hint else ""
    return [
        Complaint(column=column, value=clean(value, SHOWN), text=f"takes no {column}{hint}")
        for column, value in given.items()
        if value is not None
    ]


def _ratio_complaint(offer: Offer, ratio: str, choices: tuple[str, ...], condition: str = "") -> Complaint:
    hint = "takes others by size (WxH)" if offer.sizes and condition else ""
    return Complaint(column="ratio", value=clean(ratio, SHOWN), choices=choices, condition=condition, hint=hint)


def _shown(size: Pixels) -> str:
    return clean(f"{size[0]}x{size[1]}", SHOWN)


# -- the rest ------------------------------------------------------------------------------------------------------


def _check_references(offer: Offer, request: Request) -> list[Complaint]:
    count = len(request.references)
    if offer.least_references <= count <= offer.most_references:
        return []
    if not offer.most_references:
        text = "takes no references"
    elif count > offer.most_references:
        text = f"takes at most {offer.most_references} references"
    else:
        text = "needs at least one reference"
    return [Complaint(column="image_urls", value=f"{count} references", text=text)]


def _check_prompt(offer: Offer, request: Request) -> list[Complaint]:
    limit = offer.prompt_limit
    if limit is None or len(request.prompt) <= limit:
        return []
    value = f"{len(request.prompt):,} characters"
    return [Complaint(column="prompt", value=value, text=f"takes at most {limit:,} characters")]


def _check_quality(offer: Offer, request: Request) -> list[Complaint]:
    quality = request.quality
    if quality is None or quality in offer.qualities:
        return []
    value = clean(quality, SHOWN)
    if offer.qualities:
        return [Complaint(column="quality", value=value, choices=offer.qualities)]
    return [Complaint(column="quality", value=value, text="takes no quality")]


def _check_options(offer: Offer, request: Request) -> list[Complaint]:
    bad = [(name, value) for name, value in request.options.items() if not _takes(offer, name, request)]
    return [_option_complaint(offer, name, value) for name, value in bad[:1]]


def _takes(offer: Offer, name: str, request: Request) -> bool:
    rule = offer.options.get(name)
    if rule is None or not rule.takes(request.options[name]):
        return False
    return all(request.options.get(other) in choices for other, choices in rule.needs.items())


def _option_complaint(offer: Offer, name: str, value: object) -> Complaint:
    rule = offer.options.get(name)
    plain = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    shown = clean(f"{name}: {plain}", SHOWN)
    if rule is None:
        text = f"takes {' '.join(offer.options)}" if offer.options else "takes no options"
    else:
        needs = "".join(f", with {other} {' or '.join(map(str, some))}" for other, some in rule.needs.items())
        text = f"takes {name} {rule}{needs}"
    return Complaint(column="options", value=shown, text=text)


# -- wording -------------------------------------------------------------------------------------------------------


def _wording(said: Sequence[tuple[str, Complaint]], model: str | None) -> str:
    """For example: gpt-image-2 takes 1:1 3:2 …; or each provider with its own words."""
    first = said[0][1]
    if len(said) > 1 and all(item.choices and item.condition == first.condition for _, item in said):
        return _common_choices(said, model)
    texts: dict[str, list[str]] = {}
    for provider, item in said:
        texts.setdefault(_legal(item), []).append(provider)
    if len(texts) == 1 and model:
        return f"{model} {next(iter(texts))}"
    return "; ".join(_sentence(providers, text) for text, providers in texts.items())


def _common_choices(said: Sequence[tuple[str, Complaint]], model: str | None) -> str:
    """What all take, then what some take besides."""
    common = [choice for choice in said[0][1].choices if all(choice in item.choices for _, item in said)]
    condition = f" {said[0][1].condition}" if said[0][1].condition else ""
    more = {provider: [c for c in item.choices if c not in common] for provider, item in said}
    extra = "".join(f", at {provider} also {' '.join(choices)}" for provider, choices in more.items() if choices)
    hints = "".join(f"; {provider} {item.hint}" for provider, item in said if item.hint)
    subject = [model] if model else [provider for provider, _ in said]
    return _sentence(subject, f"takes {' '.join(common)}{condition}{extra}{hints}")


def _sentence(subjects: Sequence[str], text: str) -> str:
    verb, _, rest = text.partition(" ")
    return f"{' and '.join(subjects)} {verb.removesuffix('s') if len(subjects) > 1 else verb} {rest}"


def _legal(item: Complaint) -> str:
    choices = item.choices if len(item.choices) <= MANY else (*item.choices[:MANY], "…")
    text = item.text or f"takes {' '.join(choices)}"
    condition = f" {item.condition}" if item.condition else ""
    return f"{text}{condition}{f' ({item.hint})' if item.hint else ''}"
