"""Rows of a shop's export that are variations of other products, as WooCommerce writes them, and what leaves them out.

Variations have a name of their own, so that each would get a picture of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from jobs import formatting
from jobs.manifest.near_names import plain_name
from jobs.manifest.reader import Manifest
from jobs.planning.planner import PlanOptions

#: The columns that say of each row what it is, and of which other one it is a part.
_KIND, _PARENT = "type", "parent"
#: What a variation is said to be; more may follow a comma (`variation, virtual`).
_VARIATION = "variation"
#: The column that is named where several are empty in variations alone.
_USUAL = "categories"


def variations_hint(manifest: Manifest, options: PlanOptions) -> Iterator[str]:
    """How variations are left out: told where one column is empty in all of them and in no other row."""
    names = {plain_name(own): own for own in reversed(manifest.columns)}
    kind, parent = names.get(_KIND), names.get(_PARENT)
    if kind is None or parent is None or options.skip_empty:
        return
    variations, columns = _empty_in_variations_alone(manifest, kind, parent, options.limit)
    if columns:
        column = next((own for own in columns if plain_name(own) == _USUAL), columns[0])
        rows, is_ = formatting.count(variations, "row"), "is a variation" if variations == 1 else "are variations"
        yield (
            f'{rows} {is_} of other products (column "{kind}"), and would get pictures of their own: '
            f"{formatting.option('--skip-empty', column)} leaves {'it' if variations == 1 else 'them'} out"
        )


def _empty_in_variations_alone(manifest: Manifest, kind: str, parent: str, limit: int | None) -> tuple[int, list[str]]:
    """How many rows are variations, and the columns that are empty in these and in no other row. None: not certain."""
    variations, columns = 0, [own for own in manifest.columns if own not in (kind, parent)]
    for raw in islice(manifest.rows(), limit):
        if raw.fault is not None:  # its cells may stand in wrong columns
            continue
        filled = {own for own, text in raw.cells.items() if text.strip()}
        is_variation = _VARIATION in (part.strip().casefold() for part in raw.cells.get(kind, "").split(","))
        variations += is_variation
        columns = [own for own in columns if (own not in filled) == is_variation]
        if not columns or (is_variation and parent not in filled):
            return 0, []
    return variations, columns if variations else []
