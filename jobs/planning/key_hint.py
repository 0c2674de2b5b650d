"""A column that could be the key, told at the first plan of a manifest without one: later it would be another batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from jobs import formatting
from jobs.errors import BadInput
from jobs.manifest.cells import shown
from jobs.manifest.columns import looks_like, own_columns
from jobs.manifest.near_names import KEYS, plain_name
from jobs.manifest.nested import reaching
from jobs.manifest.raw_rows import RawRow
from jobs.manifest.reader import Manifest
from jobs.manifest.ruined import why_no_text
from jobs.manifest.templates import bad_key
from jobs.planning.planner import PlanOptions, RouteCatalog, prepare
from jobs.planning.references import References
from jobs.states import JobState

#: Rows whose values are looked at, and those that are planned with the key before it is proposed.
_LOOKED_AT, _TRIED = 1_000, 20


class LikelyKey(NamedTuple):
    """A column that could be the key."""

    column: str
    value: str  # of the first row
    where: str  # in which rows each value was seen to be one of its own, in words


def key_hint(
    manifest: Manifest, options: PlanOptions, catalog: RouteCatalog, references: References | None = None
) -> Iterator[str]:
    """Which column could be the key, with the option that makes it the key."""
    if likely := likely_key(manifest, options, catalog, references):
        yield (
            "no column is the key, so rows are known by their number, and a row that is put in between makes those "
            f'after it look changed; "{likely.column}" ({shown(likely.value)}) has a value of its own in '
            f"{likely.where}: {formatting.option('--map', f'key={likely.column}')} uses it"
        )


def likely_key(
    manifest: Manifest, options: PlanOptions, catalog: RouteCatalog, references: References | None = None
) -> LikelyKey | None:
    """The likeliest column that has a value of its own in each row; None: there is a key, or no column is like one."""
    owns = own_columns(manifest, options.mapping)
    if manifest.format == "openai-jsonl" or "key" in owns or "key" in options.mapping:
        return None
    names = _likely(own for own in (*manifest.columns, *manifest.dotted_names()) if own not in owns.values())
    values: dict[str, list[str]] = {own: [] for own in names}
    samples: list[RawRow] = []  # few, as rows may be large
    rows = seen = 0
    for raw in islice(manifest.rows() if names else (), min(options.limit or _LOOKED_AT, _LOOKED_AT)):
        seen += 1
        row = reaching(raw, names)
        if options.skip_empty and not row.fields.get(options.skip_empty, "").strip():
            continue
        rows += 1
        samples += [raw] * (len(samples) < _TRIED)
        for own, texts in values.items():
            texts.append(row.fields.get(own, "").strip())
    for own, texts in values.items():
        is_own = len({*texts}) == rows > 0 and not any(bad_key(text) or why_no_text(text) for text in texts)
        keyed = replace(options, mapping={**options.mapping, "key": own})
        if is_own and _makes(samples, manifest, keyed, catalog, references) == _makes(
            samples, manifest, options, catalog, references
        ):
            return LikelyKey(own, texts[0], "each row" if seen < _LOOKED_AT else f"each of the first {rows:,} rows")
    return None


def _likely(columns: Iterator[str]) -> list[str]:
    """Those that may be a key, the likeliest first; what stands inside objects comes last."""
    ranks = {name: at for at, name in enumerate(KEYS)}
    found = {own: -1 if looks_like(own, ["key"]) else ranks.get(plain_name(own)) for own in columns}
    ranked = [(("." in own, rank), own) for own, rank in found.items() if rank is not None]
    return [own for _, own in sorted(ranked)]


def _makes(
    rows: Sequence[RawRow],
    manifest: Manifest,
    options: PlanOptions,
    catalog: RouteCatalog,
    references: References | None,
) -> int:
    """How many of these rows can be made with these options; -1: the options cannot be."""
    try:
        planner = prepare(manifest, options, catalog, references)
    except BadInput:
        return -1
    return sum(planner.plan(raw).row.state is JobState.READY for raw in rows)
