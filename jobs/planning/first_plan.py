"""Options that make a plan of an export as a shop writes it: a prompt, the rows without one left out, and a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from jobs.errors import BadInput
from jobs.formatting import option_words
from jobs.manifest.columns import own_columns
from jobs.manifest.near_names import plain_name
from jobs.manifest.reader import Manifest
from jobs.planning.key_hint import likely_key
from jobs.planning.planner import Planner, PlanOptions, RouteCatalog, prepare
from jobs.planning.product_variations import variations_hint
from jobs.planning.references import References
from jobs.states import JobState

#: Rows that are looked at, and those with a prompt that are planned before anything is proposed.
_LOOKED_AT, _TRIED = 1_000, 20
#: Names of columns that say what a row's thing is, the likeliest first.
_TITLES = (
    "title", "product_title", "name", "product_name", "item_name", "item_title", "post_title", "display_name", "titel",
    "bezeichnung", "artikelname", "produktname", "nom", "titre", "nombre", "titulo", "nome",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPlan:
    """What to add to the command; each part may be empty."""

    prompt: str = ""  # a template
    skip_empty: str = ""  # rows that lack this column have no prompt
    key: str = ""  # the column
    hint: str = ""  # what this plan makes, and is perhaps not wanted

    @property
    def words(self) -> list[str]:
        """As words of a command line."""
        said = (("--prompt", self.prompt), ("--skip-empty", self.skip_empty), ("--map", self.key and f"key={self.key}"))
        return [word for name, value in said if value for word in option_words(name, value)]

    @property
    def effects(self) -> str:
        """What the parts that leave rows out, and know them, do."""
        skipped = f"leave out rows without {self.skip_empty}" if self.skip_empty else ""
        return " and ".join(filter(None, [skipped, f"know rows by {self.key}" if self.key else ""]))


def first_plan(
    manifest: Manifest,
    options: PlanOptions,
    catalog: RouteCatalog,
    references: References | None = None,
    *,
    may_key: bool = True,
) -> FirstPlan | None:
    """What these options lack, tried with rows of the manifest; None: nothing, or nobody can tell.

    `may_key`: False for a batch on record, whose rows another key would make new ones.
    """
    prompt = "" if options.prompt or "prompt" in own_columns(manifest, options.mapping) else _of_the_title(manifest)
    chosen = replace(options, prompt=prompt or options.prompt)
    try:
        planner = prepare(manifest, chosen, catalog, references)
    except BadInput:
        return None
    lacking = _lacking(manifest, planner, options.limit)
    skipped = _in_all(lacking)
    if lacking and (options.skip_empty or not skipped):
        return None
    chosen = replace(chosen, skip_empty=skipped or options.skip_empty)
    likely = likely_key(manifest, chosen, catalog, references) if may_key else None
    if likely:
        chosen = replace(chosen, mapping={**chosen.mapping, "key": likely.column})
    hint = "; ".join(variations_hint(manifest, chosen))
    found = FirstPlan(prompt=prompt, skip_empty=skipped, key=likely.column if likely else "", hint=hint)
    return found if found.words and _works(manifest, prepare(manifest, chosen, catalog, references)) else None


def _of_the_title(manifest: Manifest) -> str:
    """A prompt of the column that names the thing; empty: there is none."""
    ranks = {name: at for at, name in enumerate(_TITLES)}
    titles = [own for own in manifest.columns if plain_name(own) in ranks and not set("{}|") & set(own)]
    first = min(titles, key=lambda own: ranks[plain_name(own)], default="")
    return f"Photo of {{{first}}}" if first else ""


def _lacking(manifest: Manifest, planner: Planner, limit: int | None) -> list[tuple[str, ...]]:
    """Of each of the first rows that has no prompt, the columns that it lacks."""
    rows = islice(manifest.rows(), min(limit or _LOOKED_AT, _LOOKED_AT))
    return [lacks for raw in rows if (lacks := planner.lacking(raw))]


def _in_all(lacking: Sequence[tuple[str, ...]]) -> str:
    """The column that is empty in each of these rows."""
    return next((name for name in (lacking[0] if lacking else ()) if all(name in each for each in lacking)), "")


def _works(manifest: Manifest, planner: Planner) -> bool:
    """Whether the first rows with a prompt can be made."""
    rows = islice(filter(planner.has_prompt, islice(manifest.rows(), _LOOKED_AT)), _TRIED)
    states = [planner.plan(raw).row.state for raw in rows]
    return bool(states) and all(state is JobState.READY for state in states)
