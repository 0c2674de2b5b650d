"""The plot of docs/performance.md: groups of bars, as SVG, on a light ground of its own for pages that are dark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.figures import Figures

WIDTH, LABELS, MARGIN = 760, 250, 24  # pixels; the labels stand left of the bars
BAR, GAP, HEAD, FOOT = 20, 8, 44, 22
#: Pixels kept free on the right for a bar's figure.
FIGURE = 110

OTHER, OURS, SECOND, THIRD = "#8c959f", "#0969da", "#54aeff", "#0a3069"
TEXT, QUIET, LINE, BOUND = "#1f2328", "#59636e", "#d1d9e0", "#ffb000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of one part or several, drawn behind each other."""

    label: str
    parts: Sequence[float]
    colours: Sequence[str] = (OURS,)
    figure: str  # what stands at its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Bars of one unit under a headline."""

    headline: str
    unit: str
    bars: Sequence[Bar]
    key: Sequence[tuple[str, str]] = ()  # colour and name of each part
    line_at: float | None = None

    @property
    def height(self) -> int:
        """Pixels."""
        return HEAD + len(self.bars) * (BAR + GAP) + FOOT + (20 if self.key else 0)


def drawn(figures: Figures) -> str:
    """The whole picture, of what is on record."""
    groups = [
        group for group in (_run(figures), _cluster(figures), _places(figures), _recording(figures)) if group.bars
    ]
    height = sum(group.height for group in groups) + MARGIN
    font = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{font}" font-size="13">',
        "<title>What Lightfast costs, beside what it is compared with</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="{LINE}"/>',
    ]
    top = MARGIN // 2
    for group in groups:
        lines += _group(group, top)
        top += group.height
    return "\n".join([*lines, "</svg>", ""])


def _group(group: Group, top: int) -> Iterator[str]:
    yield _text(MARGIN, top + 22, group.headline, headline=True)
    yield _text(MARGIN, top + 38, group.unit, colour=QUIET)
    scale = (WIDTH - LABELS - MARGIN - FIGURE) / max(sum(bar.parts) for bar in group.bars)
    y = top + HEAD + GAP
    below = y + len(group.bars) * (BAR + GAP) - GAP
    for bar in group.bars:
        yield _text(LABELS - 10, y + 15, bar.label, anchor="end")
        x = float(LABELS)
        for part, colour in zip(bar.parts, bar.colours, strict=True):
            yield f'<rect x="{x:.1f}" y="{y}" width="{part * scale:.1f}" height="{BAR}" fill="{colour}"/>'
            x += part * scale
        yield _text(x + 8, y + 15, bar.figure)
        y += BAR + GAP
    if group.line_at is not None:
        x = LABELS + group.line_at * scale
        path = f"M{x:.1f} {top + HEAD + 2}V{below + 4}"
        yield f'<path d="{path}" stroke="{BOUND}" stroke-width="2" stroke-dasharray="4 2"/>'
    x = float(LABELS)
    for colour, name in group.key:
        yield f'<rect x="{x:.1f}" y="{below + 10}" width="11" height="11" fill="{colour}"/>'
        yield _text(x + 17, below + 20, name, colour=QUIET)
        x += 40 + 7 * len(name)


def _text(x: float, y: float, said: str, *, headline: bool = False, anchor: str = "start", colour: str = TEXT) -> str:
    look = ' font-size="15" font-weight="600"' if headline else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" text-anchor="{anchor}"{look}>{escape(said)}</text>'


# -- what is shown -------------------------------------------------------------------------------------------------


def _numbers(figures: Figures, name: str) -> dict[str, float]:
    """Those of a benchmark; none where it was not measured yet."""
    return figures[name].findings.numbers if name in figures else {}


def _run(figures: Figures) -> Group:
    bars = []
    for name, where in (("cpu_folder", "a folder"), ("cpu_s3", "S3")):
        if numbers := _numbers(figures, name):
            bare, ours = numbers["bare_ms"], numbers["lightfast_ms"]
            bars.append(Bar(label=f"bare loop, into {where}", parts=(bare,), colours=(OTHER,), figure=f"{bare:.1f} ms"))
            bars.append(Bar(label=f"lightfast run, into {where}", parts=(ours,), figure=f"{ours:.1f} ms"))
    return Group(
        headline="One process: lightfast run on SQLite beside a loop that remembers nothing",
        unit="CPU of one image more (200 kB); less is better",
        bars=bars,
    )


def _cluster(figures: Figures) -> Group:
    bars = []
    if numbers := _numbers(figures, "cluster_cpu"):
        naive, parts = numbers["naive_ms"], [numbers[name] for name in ("workers_ms", "postgresql_ms", "rest_ms")]
        bars = [
            Bar(label="a message a step, no ledger", parts=(naive,), colours=(OTHER,), figure=f"{naive:.1f} ms"),
            Bar(label="Lightfast", parts=parts, colours=(OURS, SECOND, THIRD), figure=f"{sum(parts):.1f} ms"),
        ]
    return Group(
        headline="A cluster: two Celery workers beside those that many would write first",
        unit="CPU of one image more (200 kB, into S3), all processes counted; less is better",
        bars=bars,
        key=((OURS, "workers"), (SECOND, "PostgreSQL"), (THIRD, "Redis, beat and the command")),
    )


def _places(figures: Figures) -> Group:
    names = {"of_least": "every poll is answered", "of_least_few_polls": "10 polls a second are answered"}
    numbers = _numbers(figures, "place_bound")
    return Group(
        headline="A batch that waits for its places at the provider",
        unit="its time, relative to the least possible (dashed)",
        bars=[
            Bar(label=label, parts=(numbers[name],), figure=f"{numbers[name]:.2f}")
            for name, label in names.items()
            if name in numbers
        ],
        line_at=1.0,
    )


def _recording(figures: Figures) -> Group:
    bars = []
    for name, where in (("recording", "SQLite"), ("recording_postgresql", "PostgreSQL")):
        if numbers := _numbers(figures, name):
            pace = numbers["rows_per_second"]
            bars.append(Bar(label=f"into {where}", parts=(pace,), figure=f"{pace:,.0f} a second"))
    return Group(headline="Recording a manifest", unit="rows a second; more is better", bars=bars)
