"""Plans rows: a raw row in, a checked row with request, path, route and price out. Pure: no clock, no file, no ledger.

planner = prepare(manifest, options, catalog)       # `BadInput` when no row could be planned with these options
planned = planner.plan(raw)                         # READY, SKIPPED, or INVALID with its problems
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, Protocol

import orjson

from jobs.errors import UNREADABLE_ROW, BadInput
from jobs.formatting import option
from jobs.ledger.batches.values import Row
from jobs.manifest.cells import MOST_IMAGES, SEVERAL, SHOWN, WHOLE, is_picture_size, references, shape_request
from jobs.manifest.columns import (
    CLASHING,
    field_problems,
    key_template,
    mapping_problems,
    own_columns,
    prompt_problems,
    repeated_problems,
    skip_problems,
)
from jobs.manifest.nested import reaching
from jobs.manifest.raw_rows import ROW_COLUMN, WHOLE_ROW, Cell, RawRow
from jobs.manifest.reader import Manifest
from jobs.manifest.ruined import why_no_text
from jobs.manifest.templates import BadPath, Missing, PathTemplate, Template, bad_key, parse, parse_path
from jobs.planning.doubts import PromptColumns
from jobs.planning.problems import RowProblem
from jobs.planning.proposals import Trial, near_providers
from jobs.planning.references import LinksOnly, Reference, ReferenceForm, References, form_of, takes, why_not
from jobs.states import JobState
from providers.catalog.models import Unmakeable
from providers.registry import PROVIDERS, key_variable
from providers.types import Request, Route, clean

DEFAULT_PATH = "{batch}/{key}/{index}.{ext}"

#: The columns that, with the number of references, decide legality, route and price.
_SHAPE = ("model", "provider", "ratio", "resolution", "size", "n", "quality", "options")
#: Of these, the ones that the command line can set for all rows.
_OPTIONS = frozenset({"model", "ratio", "resolution", "quality", "n"})
#: Different shapes kept; a manifest with more has JSON in each row's options, and is planned a little slower.
_SHAPES_KEPT = 4096
#: Characters of a prompt up to which its length matters to no provider, so that its shape can be kept.
_SHORT_PROMPT = 4_000
#: Bad shapes for which it is tried what was meant; a manifest with more has other troubles.
_TRIED = 1_000
_SOME_LINK = "https://example.com/reference.png"


class RouteCatalog(Protocol):
    """The part of `catalog.Catalog` that planning asks."""

    def complete(self, request: Request) -> Request:
        """The request with its defaults."""

    def routes(
        self, request: Request, providers: Sequence[str] | None = None, *, among: Sequence[str] | None = None
    ) -> list[Route]:
        """Every legal route, best first; `Unmakeable` when there is none."""

    def known(self, column: str) -> Sequence[str]:
        """Every value that some route takes in a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What the command line says of all rows."""

    batch: str
    path: str = DEFAULT_PATH
    prefix: str = ""  # DEST's own path in its bucket; counts toward S3's limit
    prompt: str | None = None  # template
    mapping: Mapping[str, str] = field(default_factory=dict)  # known column -> own column, "" to switch it off
    skip_empty: str | None = None  # own column
    model: str | None = None
    ratio: str | None = None
    resolution: str | None = None
    quality: str | None = None
    n: int | None = None
    providers: tuple[str, ...] = ()  # --provider: allowed, in order of choice; (): the cheapest
    configured: frozenset[str] = frozenset()  # providers that have an account
    limit: int | None = None  # the first rows only
    has_addresses: bool = True  # providers can be given addresses of what lies at DEST


class Planned(NamedTuple):
    """A row, and what was decided on the way."""

    row: Row
    route: Route | None = None  # of READY rows
    problems: tuple[RowProblem, ...] = ()  # of INVALID rows
    doubts: tuple[RowProblem, ...] = ()  # of READY rows: what may be another thing than was meant
    is_repeat: bool = False  # it asks for what the row before asks for, as --repeat wants it


class _Shape(NamedTuple):
    """What all rows with the same model, ratio, size … have in common."""

    problems: tuple[Cell, ...]
    request: Request | None  # its prompt and references are some row's
    route: Route | None
    around: tuple[bytes, bytes] | None = None  # of a request without references: its JSON around the prompt


# -- options -------------------------------------------------------------------------------------------------------


def prepare(
    manifest: Manifest,
    options: PlanOptions,
    catalog: RouteCatalog,
    references: References | None = None,
    *,
    tells_doubts: bool = True,
) -> Planner:
    """Checks the options against the manifest's columns, all at once. `references`: reads files; None: links only.

    `tells_doubts`: False where they were told already, and nothing but the rows is wanted.
    """
    owns = own_columns(manifest, options.mapping)
    prompt = parse(options.prompt, "--prompt") if options.prompt is not None else None
    path = parse_path(options.path, batch=options.batch, prefix=options.prefix)
    key = key_template(manifest, options.mapping)
    problems = [
        *mapping_problems(manifest, options.mapping),
        *prompt_problems(manifest, owns, prompt),
        *field_problems(manifest, "--path", path.template, ("key",)),
        *skip_problems(manifest, options.skip_empty),
        *repeated_problems(manifest, _used(options, owns, [prompt, path.template, key])),
        *_option_problems(options),
    ]
    if problems:
        raise BadInput(problems)
    files = references or LinksOnly()
    return Planner(
        options=options,
        catalog=catalog,
        owns=owns,
        prompt=prompt,
        path=path,
        references=files,
        key=key,
        unit=manifest.unit,
        has_own_columns=manifest.format != "openai-jsonl",
        columns=frozenset(manifest.columns),
        tells_doubts=tells_doubts,
    )


def _used(options: PlanOptions, owns: Mapping[str, str], templates: Sequence[Template | None]) -> list[str]:
    """The manifest's columns that decide anything."""
    prompt, _, key = templates
    known = [own for name, own in owns.items() if not (name == "prompt" and prompt) and not (name == "key" and key)]
    fields = [each.name for template in templates if template for each in template.fields if each.name != "key"]
    return [*known, *fields, options.skip_empty or ""]


def _option_problems(options: PlanOptions) -> Iterator[str]:
    for provider in options.providers:
        if provider not in PROVIDERS:
            near = near_providers(provider, sorted(options.configured))
            asked = f" Did you mean {near[0]}?" if near else ""
            yield f"--provider {provider}: not known.{asked} Legal: {' '.join(PROVIDERS)}."
        elif provider not in options.configured:
            yield f"--provider {provider}: it has no account. Set {key_variable(provider)}."
    if not options.configured:
        names = ", ".join(key_variable(provider) for provider in PROVIDERS)
        yield f"No provider has an account. Set one of {names}, or try --sandbox."
    if options.n is not None and not 1 <= options.n <= MOST_IMAGES:
        yield f"--n {options.n}: a whole number from 1 to {MOST_IMAGES}."


# -- rows ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Planner:
    """Plans the rows of one manifest; made by `prepare`. Keeps what rows of one shape have in common."""

    options: PlanOptions
    catalog: RouteCatalog
    owns: Mapping[str, str]
    prompt: Template | None
    path: PathTemplate
    references: References
    key: Template | None = None  # of a key that is made of several columns
    columns: frozenset[str] = frozenset()  # the manifest's, as far as they are known
    unit: str = "line"  # what a row's number counts
    has_own_columns: bool = True  # False: the names of columns are not the user's choice
    tells_doubts: bool = True
    _shapes: dict[tuple[object, ...], _Shape] = field(default_factory=dict)
    _shape_columns: tuple[tuple[str, str], ...] = ()
    _reached: tuple[str, ...] = ()  # dotted names that lead into a column
    _bad_shapes: int = 0
    _texts: PromptColumns = field(init=False)

    def __post_init__(self) -> None:
        fields = [each.name for each in self.prompt.fields] if self.prompt else [self.owns.get("prompt", "")]
        self._texts = PromptColumns(tuple(dict.fromkeys(fields)), self.owns.get("prompt"))
        self._shape_columns = tuple((known, self.owns[known]) for known in _SHAPE if known in self.owns)
        templates = [each for each in (self.prompt, self.path.template, self.key) if each]
        names = [*self.owns.values(), *(each.name for template in templates for each in template.fields)]
        names += [self.options.skip_empty] if self.options.skip_empty else []
        self._reached = tuple(name for name in dict.fromkeys(names) if "." in name and name not in self.columns)

    def plan(self, raw: RawRow) -> Planned:
        """The row, READY, SKIPPED or INVALID."""
        if self._reached:
            raw = reaching(raw, self._reached)
        if raw.wrong:
            return self._invalid(raw, raw.wrong)
        if self.options.skip_empty is not None and self._is_skipped(raw):
            return Planned(self._left_out(raw, JobState.SKIPPED, "empty_column", f"{self.options.skip_empty} is empty"))
        cells: list[Cell] = []
        if raw.fault is not None:
            return self._invalid(raw, [Cell(WHOLE_ROW, "", raw.fault.what)])
        prompt = self._prompt(raw, cells)
        found = self._references(raw, cells) if "image_urls" in self.owns else ()
        links = tuple([each.text for each in found]) if found else ()
        key = self.key_of(raw)
        path = self._path(raw, key, cells)
        shape = self._shape(raw, prompt, len(links), form_of(found) if found else ReferenceForm.LINKS)
        cells.extend(shape.problems)
        if not self.path.has_index:
            cells.extend(self._index_problems(shape))
        if cells or shape.request is None or shape.route is None:
            return self._invalid(raw, cells)
        if shape.around is not None:
            request = shape.request.with_prompt(prompt, shape.around)
        else:
            request = replace(shape.request, prompt=prompt, references=links)
        row = _ready(raw, key, path, request, shape.route)
        doubts = self._texts.doubtful(raw, key, prompt) if self.tells_doubts else ()
        told = tuple(self._problem(raw, key, cell) for cell in doubts) if doubts else ()
        return Planned(row, shape.route, (), told, is_repeat=raw.variation is not None and raw.variation.repeat > 0)

    def _is_skipped(self, raw: RawRow) -> bool:
        """Not a line that could not be read: which cell stands in which column is not known."""
        skip = self.options.skip_empty
        is_readable = raw.fault is None or raw.fault.is_note
        return skip is not None and is_readable and not raw.fields.get(skip, "").strip()

    def is_taken(self, raw: RawRow) -> bool:
        """Whether the row was read whole, and is not left out."""
        raw = reaching(raw, self._reached)
        return raw.fault is None and not (raw.wrong or self._is_skipped(raw))

    def has_prompt(self, raw: RawRow) -> bool:
        """Whether the row is read whole, is not left out, and has what its prompt is made of."""
        return self.is_taken(raw) and not self.lacking(raw)

    def lacking(self, raw: RawRow) -> tuple[str, ...]:
        """The columns that are empty, so that the row has no prompt. None of a row that is left out."""
        raw = reaching(raw, self._reached)
        if raw.wrong or raw.fault is not None or self._is_skipped(raw):
            return ()
        fields = [each.name for each in self.prompt.fields if each.default is None] if self.prompt else []
        names = fields if self.prompt else [self.owns["prompt"]]
        return tuple(name for name in names if not raw.fields.get(name, "").strip())

    def key_of(self, raw: RawRow) -> str:
        """The row's key; without a column for it, the row's number. Empty where its template lacks something."""
        key = self._key_of(raw)
        return f"{key}{raw.variation.suffix}" if raw.variation and key else key

    def _key_of(self, raw: RawRow) -> str:
        if self.key is not None:
            parts = {each.name: raw.fields.get(each.name, "").strip() for each in self.key.fields}
            with contextlib.suppress(Missing):
                return self.key.render(parts)
            return ""
        own = self.owns.get("key")
        number = raw.variation.number if raw.variation else raw.position
        return str(number + 1) if own is None else raw.fields.get(own, "").strip()

    def _prompt(self, raw: RawRow, cells: list[Cell]) -> str:
        try:
            prompt = self.prompt.render(raw.fields) if self.prompt else raw.fields.get(self.owns["prompt"], "")
        except Missing as missing:
            legal = f"the prompt's template needs it: give a default, {{{missing.column}|…}}, or --skip-empty"
            cells.append(Cell(missing.column, "", legal))
            return ""
        cells.extend(self._texts.wrong(raw.fields))
        if not prompt.strip():
            cells.append(Cell("prompt", prompt, "a prompt is needed; --skip-empty COLUMN leaves such rows out"))
        elif "\0" in prompt:
            cells.append(Cell("prompt", prompt, "a prompt has no NUL character"))
        return prompt

    def words_of(self, raw: RawRow) -> tuple[str, ...]:
        """The row's references as they are written. ValueError says what is legal."""
        raw = reaching(raw, self._reached)
        own = self.owns.get("image_urls")
        text = raw.fields.get(own, "").strip() if own and not self._is_skipped(raw) else ""
        return references(text) if text else ()

    def _references(self, raw: RawRow, cells: list[Cell]) -> list[Reference]:
        words = raw.fields.get(self.owns.get("image_urls", ""), "").strip()
        found = []
        try:
            for words in self.words_of(raw):
                found.append(self.references.find(words))
        except ValueError as error:
            joined = f"; {SEVERAL}" if re.search("[,;]", words) and SEVERAL not in str(error) else ""
            cells.append(Cell("image_urls", words, f"{error}{joined}"))
        return found

    def _path(self, raw: RawRow, key: str, cells: list[Cell]) -> str:
        wrong = bad_key(key) or why_no_text(key)
        if wrong and self.key is not None and not key:
            cells.append(self._lacking_of_key(self.key, raw))
            return ""
        if wrong:
            cells.append(Cell("key", key, wrong))
            return ""
        try:
            return self.path.render(raw.fields, key)
        except BadPath as bad:
            cells.append(Cell(bad.column, bad.value, bad.legal))
        except Missing as missing:
            cells.append(Cell(missing.column, "", f"--path needs it: give a default, {{{missing.column}|…}}"))
        return ""

    def _lacking_of_key(self, template: Template, raw: RawRow) -> Cell:
        empty = [each.name for each in template.fields if not raw.fields.get(each.name, "").strip()]
        name = empty[0] if empty else "key"
        return Cell(name, "", f"the key {template.source} needs it: give a default, {{{name}|…}}, or --skip-empty")

    def _index_problems(self, shape: _Shape) -> list[Cell]:
        if shape.request is None or shape.request.n == 1:
            return []
        return [Cell("n", str(shape.request.n), "more than one image a row needs {index} in --path")]

    def _shape(self, raw: RawRow, prompt: str, links: int, form: ReferenceForm) -> _Shape:
        fields = raw.fields
        values = [fields.get(own, "") for _, own in self._shape_columns]
        shape_key = (links, form, *values)
        shape = self._shapes.get(shape_key) if len(prompt) <= _SHORT_PROMPT else None
        if shape is None:
            given = {known: text.strip() for (known, _), text in zip(self._shape_columns, values, strict=True)}
            shape = self._new_shape({known: text for known, text in given.items() if text}, prompt, links, form)
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            if len(prompt) <= _SHORT_PROMPT:
                self._shapes[shape_key] = shape
        return shape

    def _new_shape(self, given: Mapping[str, str], prompt: str, links: int, form: ReferenceForm) -> _Shape:
        judge = partial(self._judge, prompt=prompt, links=links, form=form)
        asked = self._with_defaults(given)
        shape = judge(asked)
        if not shape.problems:
            return shape
        self._bad_shapes += 1
        trial = Trial(asked, shape.problems, lambda values: judge(values).problems, self.catalog.known)
        cells = []
        for cell in shape.problems:
            told = (
                (trial.meant(cell.column) or self._elsewhere(cell.column, trial)) if self._bad_shapes <= _TRIED else ""
            )
            hinted = self._with_hint(cell) if cell.column in given else cell
            cells.append(cell._replace(legal=f"{told} {cell.legal}") if told else hinted)
        return shape._replace(problems=tuple(cells))

    def _judge(self, asked: Mapping[str, str], prompt: str, links: int, form: ReferenceForm) -> _Shape:
        cells: list[Cell] = []
        request = shape_request(asked, cells)
        if cells:
            return _Shape(tuple(cells), None, None)
        # Kept for all rows of this shape, so nothing of this row's own text may decide.
        text = prompt if len(prompt) > _SHORT_PROMPT else "-"
        request = self.catalog.complete(replace(request, prompt=text, references=(_SOME_LINK,) * links))
        route = _choose(request, form, self.options, self.catalog)
        if not isinstance(route, Route):
            return _Shape(tuple(route), None, None)
        return _Shape((), request, route, None if links else request.around_prompt())

    def _elsewhere(self, column: str, trial: Trial) -> str:
        """What reads a size that stands in `ratio`, or a ratio in `size`: both are legal, but not there."""
        other = trial.elsewhere(column)
        if not other:
            return ""
        if self.has_own_columns and column in self.owns:
            taken = option("--map", f"{other}={self.owns[column]}")
            return f"this is a {other}: {taken} --map {column}= reads it as one."
        return f"this is a {other}, and {other} is the field for it."

    def _with_defaults(self, given: Mapping[str, str]) -> dict[str, str]:
        options = self.options
        defaults = {"model": options.model, "quality": options.quality, "n": options.n}
        if "size" not in given:
            defaults |= {"ratio": options.ratio, "resolution": options.resolution}
        return {name: str(value) for name, value in defaults.items() if value is not None} | dict(given)

    def _with_hint(self, cell: Cell) -> Cell:
        """An own column of the same name explains most strange values."""
        if cell.column == "options" and not self.has_own_columns:
            return cell._replace(
                legal=f"{cell.legal.rstrip('.')}. --map options= makes such rows without their options"
            )
        own = self.owns.get(cell.column)
        if not self.has_own_columns or cell.column not in CLASHING or own is None or WHOLE.fullmatch(cell.value):
            return cell
        leave = (
            f"--map {cell.column}=" if own == cell.column else f"leaving out {option('--map', f'{cell.column}={own}')}"
        )
        hint = f"If this column is your own, {leave} only carries it"
        if cell.column == "size" and not is_picture_size(cell.value):
            return cell._replace(legal=f"size is read as pixels, such as 1536x1024. {hint}")
        return cell._replace(legal=f"{cell.legal.rstrip('.')}{'' if cell.legal.endswith('?') else '.'} {hint}")

    def _invalid(self, raw: RawRow, cells: Sequence[Cell]) -> Planned:
        key = self.key_of(raw)
        problems = tuple(self._problem(raw, key, cell) for cell in cells)
        message = "; ".join(problem.what for problem in problems)
        code = UNREADABLE_ROW if any(cell.column == WHOLE_ROW for cell in cells) else "bad_row"
        return Planned(self._left_out(raw, JobState.INVALID, code, message), problems=problems)

    def _problem(self, raw: RawRow, key: str, cell: Cell) -> RowProblem:
        where = self._where(raw, cell)
        return RowProblem(line=raw.line, key=key, column=where, value=cell.value, legal=cell.legal, unit=self.unit)

    def _where(self, raw: RawRow, cell: Cell) -> str:
        """Where the user wrote the value: a column of the manifest, by its own name, or an option."""
        own = self.owns.get(cell.column, cell.column)
        if raw.fields.get(own, "").strip() or cell.column not in _OPTIONS:
            return own
        if getattr(self.options, cell.column) is not None or cell.column == "model":  # without both: the usual model
            return f"--{cell.column}"
        return f"--resolution {self.options.resolution}" if self._resolution_decides(raw, cell.column) else own

    def _resolution_decides(self, raw: RawRow, column: str) -> bool:
        """Whether nobody wrote this ratio, but a resolution that it does not go with."""
        own = self.owns.get("resolution")
        return (
            column == "ratio" and self.options.resolution is not None and not (own and raw.fields.get(own, "").strip())
        )

    def _left_out(self, raw: RawRow, state: JobState, code: str, message: str) -> Row:
        key = self.key_of(raw)
        return Row(
            position=raw.position,
            line=raw.line,
            key=clean(key, SHOWN),
            carried=orjson.dumps(raw.carried),
            state=state,
            error_code=code,
            message=message,
        )


def _ready(raw: RawRow, key: str, path: str, request: Request, route: Route) -> Row:
    made_of = raw.variation.row if raw.variation else ""
    return Row(
        position=raw.position,
        line=raw.line,
        key=key,
        carried=orjson.dumps({**raw.carried, ROW_COLUMN: made_of} if made_of not in ("", key) else raw.carried),
        request=request,
        request_hash=request.hash(),
        path=path,
        provider=route.provider,
        provider_model=route.provider_model,
        price=route.price_of(request.prompt),
        mode=route.mode,
        pixels=route.pixels,
        max_n=route.max_n,
    )


# -- routes --------------------------------------------------------------------------------------------------------


def _choose(request: Request, form: ReferenceForm, options: PlanOptions, catalog: RouteCatalog) -> Route | list[Cell]:
    """The best route among the providers that are allowed and have an account, or why there is none."""
    try:
        routes = catalog.routes(request, options.providers or None, among=tuple(sorted(options.configured)))
        able = [route for route in routes if takes(route, form, has_addresses=options.has_addresses)]
        refused = why_not([route.provider for route in routes], form)
        return able[0] if able else [Cell("image_urls", f"local {form.value}", refused)]
    except Unmakeable as unmakeable:
        cells = [Cell(each.column, each.value, each.legal) for each in unmakeable.problems]
        if unmakeable.problems[0].is_whole:
            return cells
    first = cells[0]
    legal = "; ".join([first.legal.rstrip("."), *_ways_out(request, options, catalog)])
    return [first._replace(legal=legal), *cells[1:]]


def _ways_out(request: Request, options: PlanOptions, catalog: RouteCatalog) -> list[str]:
    """Who could make it, were it allowed or had it an account."""
    try:
        able = list(dict.fromkeys(route.provider for route in catalog.routes(request)))
    except Unmakeable:
        return []
    closed = [f"{name} has no account: set {key_variable(name)}" for name in able if name not in options.configured]
    return closed or [f"--provider leaves {name} out" for name in able if name not in options.providers]
