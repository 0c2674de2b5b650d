"""A column that could be the key, told at the first plan of a manifest without one: later it would be another batch."""

from __future__ import annotations

import re
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
from jobs.manifest.ruined import why_no_key, why_no_text
from jobs.manifest.templates import bad_key
from jobs.planning.planner import PlanOptions, RouteCatalog, prepare
from jobs.planning.references import References
from jobs.states import JobState

#: Rows whose values are looked at, and those that are planned with the key before it is proposed.
_LOOKED_AT, _TRIED = 1_000, 20
#: A number that a spreadsheet leaves as it stands, or a UUID.
_PLAIN = re.compile(r"0|[1-9]\d{0,10}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
#: A spreadsheet reads 1E5 as 100000.
_EXPONENT = re.compile(r"\d+(?:[.,]\d+)?E\d+", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")


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
    planner = prepare(manifest, options, catalog, references)
    seen = with_prompt = 0
    for raw in islice(manifest.rows() if names else (), min(options.limit or _LOOKED_AT, _LOOKED_AT)):
        seen += 1
        if not planner.has_prompt(raw):
            continue
        with_prompt += 1
        samples += [raw] * (len(samples) < _TRIED)
        row = reaching(raw, tuple(names))
        for own, texts in values.items():
            texts.append(row.fields.get(own, "").strip())
    makes = _makes(samples, manifest, options, catalog, references)
    for own in sorted(filter(lambda own: _tells_apart(values[own]), names), key=lambda own: _rank(names, values, own)):
        keyed = replace(options, mapping={**options.mapping, "key": own})
        if _makes(samples, manifest, keyed, catalog, references) == makes:
            where = "each row" if seen < _LOOKED_AT else f"each of the first {seen:,} rows"
            return LikelyKey(own, values[own][0], f"{where}{' with a prompt' if with_prompt < seen else ''}")
    return None


def _likely(columns: Iterator[str]) -> dict[str, int]:
    """Those that may be a key by their name, with its place among such names; -1: it is `key` itself, nearly."""
    ranks = {name: at for at, name in enumerate(KEYS)}
    found = {own: -1 if looks_like(own, ["key"]) else ranks.get(plain_name(own)) for own in columns}
    return {own: rank for own, rank in found.items() if rank is not None}


def _tells_apart(texts: Sequence[str]) -> bool:
    return len({*texts}) == len(texts) > 0 and not any(bad_key(text) or why_no_text(text) for text in texts)


def _rank(names: dict[str, int], values: dict[str, list[str]], own: str) -> tuple[bool, int, int, str]:
    """The best comes first; what stands inside objects comes last."""
    grade = 0 if names[own] < 0 else max(map(_grade, values[own]))
    return "." in own, grade, names[own], own


def _grade(text: str) -> int:
    """0: it has letters, so that a path can be read. 1: a plain number or a UUID. 2: a spreadsheet would rewrite it."""
    if _PLAIN.fullmatch(text):
        return 1
    return 0 if _LETTER.search(text) and not (_EXPONENT.fullmatch(text) or why_no_key(text)) else 2


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
