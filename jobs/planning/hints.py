"""Columns that look as if they changed the picture and are only carried: a line each, with a value and what helps.

What a line proposes is planned first, with rows of the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from jobs import formatting
from jobs.errors import BadInput
from jobs.manifest.cells import shown
from jobs.manifest.columns import CLASHING, key_template, looks_like, own_columns
from jobs.manifest.near_names import ASIDE, OPTIONS, PERHAPS, SURE, Aside, fits, is_of_kind, plain_name
from jobs.manifest.nested import dotted_names, reach
from jobs.manifest.raw_rows import KNOWN_COLUMNS, RawRow, as_text
from jobs.manifest.reader import Manifest
from jobs.manifest.templates import parse
from jobs.planning.planner import PlanOptions, RouteCatalog, prepare
from jobs.planning.references import References
from jobs.states import JobState
from providers.catalog.models import Unmakeable
from providers.types import Request

#: Rows whose values are looked at, and of each column those that a proposal is tried with.
_LOOKED_AT, _TRIED = 1_000, 20
_EDGES = frozenset({"width", "height"})
#: Pixels of an edge from which on a width may be a picture's.
_LEAST_EDGE, _MOST_EDGE = 256, 8_192


def hints(
    manifest: Manifest, options: PlanOptions, catalog: RouteCatalog, references: References | None = None
) -> tuple[str, ...]:
    """One line for each column that would change the picture if it were named otherwise."""
    if manifest.format == "openai-jsonl":  # each field of a line is read, or makes its row bad
        return ()
    look = _Look(manifest, options, catalog, references)
    look.read(_LOOKED_AT if options.limit is None else min(options.limit, _LOOKED_AT))
    return tuple(look.lines())


@dataclass(slots=True)
class _Look:
    """The first rows of a manifest, and what each of its columns may be meant for."""

    manifest: Manifest
    options: PlanOptions
    catalog: RouteCatalog
    references: References | None
    rows: int = 0  # that were looked at
    values: dict[str, list[str]] = field(default_factory=dict)  # of columns with telling names; no empty ones
    samples: dict[str, list[RawRow]] = field(default_factory=dict)  # rows with such values: few, as rows may be large
    aside: dict[str, Aside] = field(default_factory=dict)  # columns of what no provider takes

    def read(self, rows: int) -> None:
        """Looks at the first rows."""
        used = self._used()
        telling: dict[str, bool] = {}
        for raw in islice(self.manifest.rows(), rows):
            self.rows += 1
            for name in (*raw.cells, *dotted_names(raw.carried)):
                if name not in telling:
                    telling[name] = used.isdisjoint(_and_above(name)) and self._is_telling(name)
                if telling[name] and (text := self._text(raw, name)).strip():
                    self.values.setdefault(name, []).append(text)
                    samples = self.samples.setdefault(name, [])
                    samples.extend([raw] * (len(samples) < _TRIED))

    def _is_telling(self, own: str) -> bool:
        """Whether a name is one that may change a picture, whatever its values are."""
        name = plain_name(own)
        return any(
            name in names for names in (SURE, PERHAPS, ASIDE, OPTIONS, _EDGES, self.catalog.known("options"))
        ) or bool(looks_like(own, KNOWN_COLUMNS))

    def lines(self) -> Iterator[str]:
        """In the manifest's order; those that no provider takes come last, together."""
        for own in sorted(self.values, key=lambda name: "." in name):  # what is inside objects comes last
            yield from self._line(own)
        yield from self._beside()

    def _used(self) -> set[str]:
        """Columns that mean something already, and those that the user has put to use."""
        templates = [parse(text, "") for text in (self.options.prompt or "", self.options.path)]
        templates += filter(None, [key_template(self.manifest, self.options.mapping)])
        named = {each.name for template in templates for each in template.fields}
        return {*own_columns(self.manifest, self.options.mapping).values(), *named}

    def _line(self, own: str) -> Iterator[str]:
        name, values = plain_name(own), self.values[own]
        known = self._known(own)
        aside = ASIDE.get(name)
        option = name if name in self.catalog.known("options") else OPTIONS.get(name, "")
        if known:
            yield f'{self._told([own])}; it looks like "{known}"{self._use(known, own)}'
        elif aside and all(is_of_kind(aside.kind, text) for text in values):
            self.aside[own] = aside
        elif option and (taken := self._as_option(option, values[0])):
            yield f"{self._told([own])}; a column options with {taken} uses it"
        elif name == "width":
            yield from self._edges(own)

    def _known(self, own: str) -> str:
        """The known column that it may be meant for; empty: none that is free."""
        taken = {*own_columns(self.manifest, self.options.mapping), *self.options.mapping}
        free = [name for name in KNOWN_COLUMNS if name not in taken and name != "key"]  # `key_hint` tells of keys
        name, values = plain_name(own), self.values[own]
        near = looks_like(own, [name for name in free if len(name) > 1])
        sure = [
            each for each in (*SURE.get(name, ()), *(near if not CLASHING.intersection(near) else ())) if each in free
        ]
        perhaps = [each for each in (*sure, *near, *PERHAPS.get(name, ())) if each in free]
        fitting = [each for each in perhaps if all(fits(each, text, self.catalog.known) for text in values)]
        return next(iter([*fitting, *sure]), "")

    def _use(self, known: str, own: str) -> str:
        """The option that reads it; where that would cost rows, why."""
        mapping = {**self.options.mapping, known: own}
        refused = self._refused(replace(self.options, mapping=mapping), own)
        told = formatting.option("--map", f"{known}={own}")
        if refused:
            return f", but with {told} {refused}"
        self.options = replace(self.options, mapping=mapping)  # what is proposed next has to go with it
        return f": {told} uses it"

    def _refused(self, options: PlanOptions, own: str) -> str:
        """Why a row with a value there could not be made any more; empty: all of them can."""
        before = prepare(self.manifest, self.options, self.catalog, self.references)
        try:
            after = prepare(self.manifest, options, self.catalog, self.references)
        except BadInput as error:
            return str(error)
        for raw in self.samples[own]:
            planned = after.plan(raw)
            if planned.problems and before.plan(raw).row.state is JobState.READY:
                problem = planned.problems[0]
                return f"{shown(problem.value)} is refused: {problem.legal}"
        return ""

    def _beside(self) -> Iterator[str]:
        """What no provider takes: what a prompt may say, and what nothing helps."""
        prompt = self.options.prompt or f"{{{own_columns(self.manifest, self.options.mapping).get('prompt', '')}}}"
        in_words = {own: aside for own, aside in self.aside.items() if aside.words and not set("{}|") & set(own)}
        for own in sorted(in_words, key=lambda each: in_words[each].words):  # ", …" before ". Leave out …"
            gaps = len(self.values[own]) < self.rows
            prompt += in_words[own].words.format(f"{{{own}{'|' * gaps}}}")
        if in_words:
            them = "them" if len(in_words) > 1 else "it"
            yield (
                f"{self._told([*in_words])}: no provider takes {them}, but the prompt may say {them}: "
                f"{formatting.option('--prompt', prompt)}"
            )
        if rest := [own for own in self.aside if own not in in_words]:
            yield f"{self._told(rest)}: no provider takes {'them' if len(rest) > 1 else 'it'}"

    def _told(self, columns: list[str]) -> str:
        many = len(columns) > 1
        names = ", ".join(f'"{own}" ({shown(self.values[own][0])})' for own in columns)
        verbs = "are carried and change" if many else "is carried and changes"
        return f"column{'s' * many} {names} {verbs} nothing"

    def _text(self, raw: RawRow, own: str) -> str:
        return raw.cells[own] if own in raw.cells else as_text(reach(raw.carried, own))

    def _as_option(self, option: str, value: str) -> str:
        """The cell of `options` that asks for it; empty where no provider takes this value."""
        said = {"jpg": "jpeg"}.get(value.strip().casefold(), value.strip().casefold())
        for typed in (said, {"true": True, "false": False}.get(said), int(said[:9]) if said.isdecimal() else None):
            if typed is not None and self._is_taken({option: typed}):
                return as_text({option: typed})
        return ""

    def _is_taken(self, options: dict[str, object]) -> bool:
        request = self.catalog.complete(Request(prompt="a", model=self.options.model or "", options=options))
        try:
            self.catalog.routes(request, self.options.providers or None, among=sorted(self.options.configured))
        except Unmakeable:
            return False
        return True

    def _edges(self, width: str) -> Iterator[str]:
        """A width and a height of pixels, which no option can put together."""
        height = next((name for name in self.values if plain_name(name) == "height"), None)
        edges = self.values[width] + self.values.get(height or "", [])
        is_pixels = all(text.strip().isdecimal() and _LEAST_EDGE <= int(text[:9]) <= _MOST_EDGE for text in edges)
        if height and is_pixels:
            first = f"{self.values[width][0].strip()}x{self.values[height][0].strip()}"
            yield (
                f'columns "{width}" and "{height}" ({shown(first)}) are carried and change nothing; '
                f"one column size with {first} is read, or --ratio and --resolution for all rows"
            )


def _and_above(name: str) -> Iterator[str]:
    """A dotted name, and those of what it stands in."""
    yield name
    yield from (name[: dot.start()] for dot in re.finditer(r"\.", name))
