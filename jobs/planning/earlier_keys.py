"""What a batch's rows were known by, where a later manifest has none of their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import orjson

from jobs.errors import BadInput
from jobs.ledger import Ledger
from jobs.manifest.columns import own_columns
from jobs.manifest.nested import MISSING, dotted_names, reach
from jobs.manifest.raw_rows import as_text
from jobs.manifest.reader import Manifest
from jobs.planning.planner import PlanOptions, RouteCatalog, prepare
from jobs.planning.references import References
from jobs.states import JobState

#: Rows on record that tell the column, rows of the manifest that are looked at, and keys that are shown.
_ON_RECORD, _LOOKED_AT, _SHOWN = 50, 1_000, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierKeys:
    """The keys on record, and those of the manifest as it is read now."""

    column: str  # the one that the keys on record were taken from; empty: none, as the rows on record tell
    on_record: tuple[str, ...]  # a few
    column_now: str  # empty: rows are known by their number, or by several columns
    now: tuple[str, ...]  # a few
    helps: bool = False  # with `column` as its key, each row of the manifest has one of its own


def earlier_keys(
    ledger: Ledger,
    batch_id: int,
    manifest: Manifest,
    options: PlanOptions,
    catalog: RouteCatalog,
    references: References | None = None,
) -> EarlierKeys | None:
    """What tells the keys on record from the manifest's; None: there are none on record, or none in the manifest."""
    rows = ledger.batches.first_rows(batch_id, _ON_RECORD)
    now = _keys(manifest, options, catalog, references)
    if not (rows and now):
        return None
    column_now = own_columns(manifest, options.mapping).get("key", "")
    columns = _columns([(key, orjson.loads(carried)) for key, carried in rows])
    column = next(iter(sorted(columns, key=lambda own: not manifest.has(own))), "")
    keyed = replace(options, mapping={**options.mapping, "key": column})
    there = _keys(manifest, keyed, catalog, references) if column and manifest.has(column) else []
    return EarlierKeys(
        column=column if column_now not in columns else "",
        on_record=tuple(key for key, _ in rows[:_SHOWN]),
        column_now="" if "{" in column_now else column_now,
        now=tuple(now[:_SHOWN]),
        helps=column_now not in columns and len(there) == len(set(there)) == len(now),
    )


def _columns(rows: Sequence[tuple[str, Mapping[str, object]]]) -> list[str]:
    """Columns that hold the key in each of these rows, in the manifest's order."""
    _, first = rows[0]
    names = dict.fromkeys((*first, *dotted_names(first)))
    return [own for own in names if all(_text(carried, own) == key for key, carried in rows)]


def _text(carried: Mapping[str, object], own: str) -> str | None:
    value = reach(carried, own)
    return None if value is MISSING else as_text(value).strip()


def _keys(manifest: Manifest, options: PlanOptions, catalog: RouteCatalog, references: References | None) -> list[str]:
    """The keys of the first rows that can be made; none where nothing can be with these options."""
    try:
        planner = prepare(manifest, options, catalog, references)
    except BadInput:
        return []
    rows = islice(manifest.rows(), min(options.limit or _LOOKED_AT, _LOOKED_AT))
    return [row.key for row in (planner.plan(raw).row for raw in rows) if row.state is JobState.READY]
