"""`lightfast models`: what can be made, by whom, at what price and how soon; without a key, a ledger or a network."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import Config, Json, Sandbox
from cli.flow.session import note, session_of, show, show_json
from cli.flow.settings import NOWHERE, read_settings
from cli.output.wording import aligned
from jobs import formatting
from jobs.errors import LightfastError

if TYPE_CHECKING:
    from jobs.ledger.reports.values import LearntFigures
    from jobs.planning.makeable import Makeable, Shape
    from jobs.settings.model import Settings

Name = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only this model, by either of its names.")]
Of = Annotated[str | None, typer.Option("--provider", metavar="A,B", help="Only these providers.")]
Line = tuple[str, str]

HEADINGS = ("PROVIDER", "RESOLUTION", "EACH USD", "WHOSE", "TIME", "N", "REFERENCES")
UNKNOWN = "not known"
#: Columns of a line where nobody says how wide the terminal is.
USUAL_WIDTH = 80


def models(
    *, model: Name = None, provider: Of = None, json: Json = False, config: Config = None, sandbox: Sandbox = False
) -> int:
    """What can be made: ratios, resolutions, pixels, images, prices and whose they are, typical times."""
    from jobs.planning.makeable import chosen, everything
    from jobs.planning.paces import Paces
    from worker.registration.preflight import catalog_or_complaint
    from worker.runtime.limits import limits_of

    settings = read_settings(config, sandbox_url=NOWHERE if sandbox else None)
    paces = Paces(declared=limits_of(settings), learnt=_learnt(settings))
    found = chosen(everything(catalog_or_complaint(settings), paces), model, provider.split(",") if provider else ())
    if json:
        show_json({"command": "models", "models": [_document(one) for one in found]})
    else:
        show(_page(found, shutil.get_terminal_size((USUAL_WIDTH, 24)).columns), sandbox=settings.is_sandbox)
    return 0


def _learnt(settings: Settings) -> LearntFigures:
    """What the ledger has learnt of times, if there is one; what can be made is told without it."""
    from jobs.ledger.reports.values import LearntFigures

    path = settings.database_path
    if path is not None and not path.exists():
        return LearntFigures()
    try:
        with session_of(settings) as session:
            return session.ledger.reports.learnt()
    except LightfastError as away:
        note(f"Times are the catalogue's: {away}")
        return LearntFigures()


# -- for people ----------------------------------------------------------------------------------------------------


def _page(found: Sequence[Makeable], width: int) -> Iterator[Line]:
    for at, (name, group) in enumerate(groupby(found, key=lambda one: one.model)):
        if at:
            yield "", ""
        yield from _model(name, list(group), width)
    yield "", ""
    for line in textwrap.wrap(_legend(found), width):
        yield line, "dim"


def _model(name: str, own: Sequence[Makeable], width: int) -> Iterator[Line]:
    first = own[0]
    yield f"{name}   {first.least_n} to {first.most_n} images a row", "bold"
    rows = [row for group in _alike(own) for row in _offers(group)]
    lines = aligned([HEADINGS, *rows], right=frozenset({2, 5}))
    yield from ((f"  {line}", "dim" if not at else "") for at, line in enumerate(lines))
    for providers, shapes in _tables(own):
        whose = "" if len(_tables(own)) == 1 else f" at {' and '.join(providers)}"
        yield from ((f"  {line}", "") for line in _shapes(shapes, whose, width - 2))
    takers: dict[str, list[str]] = {}
    for one in own:
        if one.sizes and one.provider not in takers.setdefault(one.sizes, []):
            takers[one.sizes].append(one.provider)
    for sizes, providers in takers.items():
        text = f"{' and '.join(providers)} also take{'s' * (len(providers) == 1)} a size: {sizes}"
        yield from ((f"  {line}", "") for line in textwrap.wrap(text, width - 2, subsequent_indent="  "))


def _alike(own: Sequence[Makeable]) -> list[list[Makeable]]:
    """A provider's models that differ in nothing but their own name and references are one to the user."""
    found: dict[object, list[Makeable]] = {}
    for one in own:
        found.setdefault((one.provider, one.mode, one.images_a_task, one.shapes), []).append(one)
    return list(found.values())


def _tables(own: Sequence[Makeable]) -> list[tuple[list[str], tuple[Shape, ...]]]:
    """The providers that make the same ratios in the same pixels, and these."""
    found: dict[object, tuple[list[str], tuple[Shape, ...]]] = {}
    for one in own:
        table = tuple((shape.ratio, shape.resolution, shape.pixels) for shape in one.shapes)
        providers, _ = found.setdefault(table, ([], one.shapes))
        if one.provider not in providers:
            providers.append(one.provider)
    return list(found.values())


def _offers(alike: Sequence[Makeable]) -> Iterator[tuple[str, ...]]:
    """A line for each resolution; what is the same in all of them stands in the first, and a route mode below."""
    one = alike[0]
    least, most = min(each.least_references for each in alike), max(each.most_references for each in alike)
    names = [one.provider, f"  {one.mode}"] if one.mode else [one.provider]
    for at, resolution in enumerate(dict.fromkeys(shape.resolution for shape in one.shapes)):
        shapes = [shape for shape in one.shapes if shape.resolution == resolution]
        yield (
            names[at] if at < len(names) else "",
            resolution or "none",
            _each(shapes),
            _whose(shapes[0]),
            formatting.duration(shapes[0].seconds) + ("*" if shapes[0].is_learnt else ""),
            "" if at else str(one.images_a_task),
            "" if at else f"{least} to {most}" if most > least else str(most),
        )


def _each(shapes: Sequence[Shape]) -> str:
    """0.0400; ~0.0051-0.0098 where it depends on the pixels; not known."""
    prices = sorted({shape.price for shape in shapes if shape.price is not None})
    if not prices:
        return UNKNOWN
    ends = list(dict.fromkeys([prices[0], prices[-1]]))
    if shapes[0].is_estimate:
        return f"~{'-'.join(map(formatting.estimated_price, ends))}"
    return "-".join(map(formatting.unit_price, ends))


def _whose(shape: Shape) -> str:
    if shape.price is None:
        return ""
    return "yours" if shape.is_yours else "tokens" if shape.is_estimate else "list"


def _shapes(shapes: Sequence[Shape], whose: str, width: int) -> Iterator[str]:
    """Ratios and their pixels by resolution, as far as they are documented; the others in words."""
    if not any(shape.ratio for shape in shapes):
        yield f"takes neither ratio nor resolution{whose}; pixels {UNKNOWN}"
        return
    resolutions = [name for name in dict.fromkeys(shape.resolution for shape in shapes) if name]
    pixels = {(shape.ratio, shape.resolution): shape.pixels for shape in shapes}
    known = [ratio for ratio in dict.fromkeys(shape.ratio for shape in shapes if shape.pixels) if ratio]
    others = [ratio for ratio in dict.fromkeys(shape.ratio for shape in shapes) if ratio and ratio not in known]
    if known:
        yield f"pixels{whose}:"
        rows = [(ratio, *(_cell(pixels, ratio, name) for name in resolutions)) for ratio in known]
        yield from (f"  {line}" for line in aligned([("RATIO", *resolutions), *rows]))
    if others:
        also = " also" if known else ""
        text = f"ratios{also}{whose}: {' '.join(others)}, each at {' '.join(resolutions)}; pixels {UNKNOWN}"
        yield from textwrap.wrap(text, width, subsequent_indent="  ")


def _cell(pixels: Mapping[tuple[str | None, str | None], tuple[int, int] | None], ratio: str, name: str) -> str:
    if (ratio, name) not in pixels:
        return "-"
    size = pixels[ratio, name]
    return f"{size[0]}x{size[1]}" if size else UNKNOWN


def _legend(found: Sequence[Makeable]) -> str:
    shapes = [shape for one in found for shape in one.shapes]
    told = ["Prices are USD an image: list by the provider's page, yours by your settings."]
    if any(shape.is_estimate for shape in shapes):
        told.append("By tokens it is billed by usage: an estimate for the dearest quality.")
    if any(shape.price is None for shape in shapes):
        told.append("A price that is not known can be set in [accounts.NAME.prices].")
    if any(one.hint for one in found):
        told += [f"{one.model}: {one.hint}." for one in found if one.hint]
    told.append("TIME is what one task usually takes by the catalogue, an estimate")
    learnt = any(shape.is_learnt for shape in shapes)
    told[-1] += "; * as this ledger's tasks took lately." if learnt else ", until tasks of your own have ended."
    told.append("N: images that one provider task makes at most; a row that asks for more becomes several tasks.")
    return " ".join(dict.fromkeys(told))


# -- for programs --------------------------------------------------------------------------------------------------


def _document(one: Makeable) -> dict[str, object]:
    return {
        "model": one.model,
        "provider": one.provider,
        "provider_model": one.provider_model,
        "mode": one.mode,
        "images_a_row": {"least": one.least_n, "most": one.most_n},
        "images_a_task": one.images_a_task,
        "references": {"least": one.least_references, "most": one.most_references},
        "size": one.sizes,
        "qualities": list(one.qualities),
        "hint": one.hint or None,
        "shapes": [_shape_document(shape) for shape in one.shapes],
    }


def _shape_document(shape: Shape) -> dict[str, object]:
    price_of = None if shape.price is None else "yours" if shape.is_yours else "list"
    return {
        "ratio": shape.ratio,
        "resolution": shape.resolution,
        "width": shape.pixels[0] if shape.pixels else None,
        "height": shape.pixels[1] if shape.pixels else None,
        "usd": formatting.usd(shape.price),
        "usd_is_estimate": shape.is_estimate,
        "price_of": price_of,
        "typical_seconds": round(shape.seconds, 1),
        "seconds_are_learnt": shape.is_learnt,
    }
