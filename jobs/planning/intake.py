"""Takes a manifest in: one pass plans and counts it against the ledger; what was planned is then recorded. Both stream.

intake = Intake(manifest=manifest, options=options, catalog=catalog, ledger=ledger, planned=PlannedRows())
seen = survey(intake, batch, limits)        # spends and writes nothing
seen.refuse_reasons(skip_bad=…, budget=…, partial=…, changed=…, batch=batch)   # none: go on
batch = record(intake, seen, new_batch, now)
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from jobs.errors import BadInput, LightfastError
from jobs.ledger import Ledger
from jobs.ledger.access.values import Acceptance
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.manifests import ChangedRows
from jobs.ledger.batches.plain_rows import PlainRows
from jobs.ledger.batches.values import Batch, KnownRow, NewBatch, Row
from jobs.ledger.claims.reuse import FewerToReuse, ReuseOptions
from jobs.ledger.database.many import TOGETHER
from jobs.ledger.reports.values import LearntFigures
from jobs.ledger.schedules.values import Attachment
from jobs.manifest.columns import header_hints
from jobs.manifest.raw_rows import RawRow
from jobs.manifest.reader import Manifest
from jobs.planning.duplicates import DuplicateRows, RepeatedHashes
from jobs.planning.earlier_keys import EarlierKeys, earlier_keys
from jobs.planning.first_plan import FirstPlan, first_plan
from jobs.planning.hints import hints
from jobs.planning.key_hint import key_hint, likely_key
from jobs.planning.overlap import Comparison, Overlap
from jobs.planning.paces import Paces
from jobs.planning.planned_rows import PlannedRows
from jobs.planning.planner import Planned, Planner, PlanOptions, RouteCatalog, prepare
from jobs.planning.problems import NAMED, Problems
from jobs.planning.product_variations import variations_hint
from jobs.planning.references import References
from jobs.planning.same_requests import RequestCounter, SameRequests
from jobs.planning.survey import ChangedRow, RouteGroup, RouteLine, Sample, Survey, tasks_for
from jobs.planning.variations import Variations
from jobs.policy.reuse import Reuse, gets_back
from jobs.policy.token_costs import expected
from jobs.states import UNFINISHED, JobState
from providers.references import file_name
from providers.token_prices import is_the_most
from providers.types import Request, Route

#: Rows looked up in the ledger, and told to a progress display, at once.
CHUNK = 1_000
#: Finished prompts that are shown.
_SAMPLES = 3
#: Part of the rows up to which those with more cells than the header are odd; in many files all of them have.
_LONGER_PART = 0.1

Progress = Callable[[int], None]  # rows so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """A manifest, and how it is to be taken."""

    manifest: Manifest
    options: PlanOptions
    catalog: RouteCatalog
    ledger: Ledger | None = None  # None: there is none yet, so every row is new
    changed: str = "error"  # "error", "keep", "redo"
    skip_bad: bool = False
    append: bool = False  # rows on record that the manifest does not have stay in the batch
    reuse: Reuse | None = None  # rows whose images are there already are not paid for
    sandbox: bool = False  # the stand-in's images are no purchases, and these are not its
    references: References | None = None  # reads local files; None: there are only links
    variations: Variations = field(default_factory=Variations)  # what becomes of the manifest's rows first
    planned: PlannedRows | None = None  # keeps what `survey` plans for `record`; None: that plans again
    of_token: int | None = None  # it knows of that token's batches alone, and reuses theirs; None: of all


def survey(
    intake: Intake, batch: Batch | None, limits: Sequence[AccountLimits], progress: Progress | None = None
) -> Survey:
    """One pass over the manifest. Another one when a key or a path is there twice, or a column of JSON was seen late.

    `limits`: what the settings declare; what they do not is taken as the ledger has learnt it.
    """
    planner, columns = _planner(intake), intake.manifest.columns
    count = _count(intake, planner, batch, DuplicateRows(), progress)
    if intake.manifest.columns != columns:
        planner = _planner(intake)
        count = _count(intake, planner, batch, DuplicateRows(), progress)
    twins = DuplicateRows(count.keys.found(), count.paths.found())
    if twins.any:
        count = _count(intake, planner, batch, twins.afresh(), progress)
    learnt = intake.ledger.reports.learnt() if intake.ledger else LearntFigures()
    same = count.requests.found()
    if same.rows:
        same = replace(same, prompt=_prompt_at(intake, planner, same.lines[0]))
    return count.survey(planner, twins, same, Paces(declared=limits, learnt=learnt))


def made_in(other: Ledger, intake: Intake, seen: Survey) -> Overlap:
    """What of the manifest, as it was surveyed for a new batch, another ledger has made. Another pass; only reads."""
    # Nothing is taken from another ledger, and what is recorded here is what was counted against this one.
    there = replace(intake, ledger=other, reuse=None, planned=None, of_token=None)
    count = _count(there, _planner(there), None, seen.twins.afresh(), None)
    return count.before.outcome(count.keys)


def _prompt_at(intake: Intake, planner: Planner, line: int) -> str:
    """The finished prompt of the good row that begins on this line."""
    raw = next(each for each in _raw_rows(intake, planner) if each.line == line)
    request = planner.plan(raw).row.request
    return request.prompt if request else ""


def _planner(intake: Intake, *, tells_doubts: bool = True) -> Planner:
    planner = prepare(intake.manifest, intake.options, intake.catalog, intake.references, tells_doubts=tells_doubts)
    if unused := intake.variations.unused(planner):
        raise BadInput(
            [
                f"--vary {name}=…: nothing of a request is made of it, so that each would be asked for several times. "
                f"Put {{{name}}} into --prompt; --repeat N asks for the same N times."
                for name in unused
            ]
        )
    return planner


def record(  # noqa: PLR0913  what was surveyed, and for whom it is recorded
    intake: Intake,
    seen: Survey,
    new: NewBatch,
    now: float,
    progress: Progress | None = None,
    *,
    attachment: Attachment | None = None,
    acceptance: Acceptance | None = None,
) -> Batch:
    """Records what was surveyed, or nothing. Where it is planned again, a manifest that has changed stops it."""
    if intake.ledger is None:
        raise LightfastError("There is no ledger to record the batch in.")
    if seen.bad and not intake.skip_bad:
        raise BadInput(f"{intake.manifest.name}, {seen.problems[0]}")
    rows = _rows_to_record(intake, seen, progress or (lambda _: None))
    redo, keep = intake.changed == "redo", intake.changed == "keep"
    counted_on = seen.again.reused
    wish = ReuseOptions(how=intake.reuse, at_least=counted_on, of_token=intake.of_token) if intake.reuse else None
    try:
        return intake.ledger.batches.record_manifest(
            new,
            rows,
            redo_changed=redo,
            keep_changed=keep,
            append=intake.append,
            reuse_images=wish,
            given_back=seen.given_back,
            attachment=attachment,
            acceptance=acceptance,
            now=now,
        )
    except FewerToReuse:
        raise LightfastError(
            "Images that the plan counted on are not there any more. Nothing was recorded; run again."
        ) from None
    except ChangedRows as error:
        raise LightfastError(
            f"{error}: another process works on this batch. Nothing was recorded; run again."
        ) from error


def _rows_to_record(intake: Intake, seen: Survey, progress: Progress) -> Iterator[PlainRows]:
    kept, count = _kept(intake), 0
    for rows in _planned_again(intake, seen) if kept is None else kept:
        yield rows
        before, count = count, count + rows.count
        if count // CHUNK > before // CHUNK:
            progress(count)
    progress(count)


def _kept(intake: Intake) -> PlannedRows | None:
    """The rows as the survey has planned them; None: they have to be planned again."""
    return intake.planned if intake.planned and intake.planned.are_whole else None


def _planned_again(intake: Intake, seen: Survey) -> Iterator[PlainRows]:
    stream = _each_planned_again(intake, seen)
    while rows := list(islice(stream, TOGETHER)):
        yield PlainRows.of(rows)


def _each_planned_again(intake: Intake, seen: Survey) -> Iterator[Row]:
    planner, digest = _planner(intake, tells_doubts=False), 0
    for planned in _planned(intake, planner, seen.twins.afresh()):
        digest = _digest(digest, planned.row)
        if planned.problems and not intake.skip_bad:
            raise BadInput(f"{intake.manifest.name}, {planned.problems[0]}")
        yield planned.row
    if digest != seen.digest:
        raise BadInput(f"{intake.manifest.name} changed while it was read. Nothing was recorded; run again.")


def words_of_references(intake: Intake) -> Iterator[str]:
    """Every reference as it is written, of all rows that can be read; one may come many times."""
    planner = _planner(intake)
    for raw in _raw_rows(intake, planner):
        with contextlib.suppress(ValueError):  # told when the row is planned
            yield from planner.words_of(raw)


def files_to_bring(intake: Intake, batch: Batch | None, seen: Survey) -> Iterator[str]:
    """The files that rows still to be paid for are made from, as their requests hold them; one may come many times."""
    stream = chain.from_iterable(kept) if (kept := _kept(intake)) else _rows_again(intake, seen)
    while chunk := list(islice(stream, CHUNK)):
        known = _known(intake, batch, chunk)
        for row in chunk:
            before = known.get(row.key)
            if row.request and not (before and before.fits(row.request_hash) and not before.lacking(row.request.n)):
                yield from filter(file_name, row.request.references)


def _rows_again(intake: Intake, seen: Survey) -> Iterator[Row]:
    for planned in _planned(intake, _planner(intake, tells_doubts=False), seen.twins.afresh()):
        yield planned.row


def _raw_rows(intake: Intake, planner: Planner) -> Iterator[RawRow]:
    return intake.variations.rows(lambda: islice(intake.manifest.rows(), intake.options.limit), planner)


def _planned(intake: Intake, planner: Planner, twins: DuplicateRows) -> Iterator[Planned]:
    plan, unit = planner.plan, intake.manifest.unit
    if not twins.any:
        yield from map(plan, _raw_rows(intake, planner))
        return
    for raw in _raw_rows(intake, planner):
        yield twins.judge(plan(raw), unit)


def _digest(before: int, row: Row) -> int:
    return hash((before, row.key, row.request_hash, row.path, row.state))


# -- counting ------------------------------------------------------------------------------------------------------


def _count(
    intake: Intake, planner: Planner, batch: Batch | None, twins: DuplicateRows, progress: Progress | None
) -> _Count:
    before = Comparison(
        ledger=intake.ledger,
        batch_id=batch.id if batch else None,
        sandbox=intake.sandbox,
        of_token=intake.of_token,
        reuse=intake.reuse is not None,
        append=intake.append,
    )
    count = _Count(intake=intake, watch_paths=not planner.path.one_per_key, before=before)
    stream = _planned(intake, planner, twins)
    if intake.planned:
        intake.planned.begin()
    while chunk := list(islice(stream, CHUNK)):
        rows = [planned.row for planned in chunk]
        known = _known(intake, batch, rows)
        before.look_for_images(rows)
        before.look([row for row in rows if row.request_hash and row.key not in known])
        if intake.planned:
            intake.planned.add(rows)
        for planned in chunk:
            count.take(planned, known.get(planned.row.key))
        if progress:
            progress(count.rows)
    if intake.planned:
        intake.planned.end()
    count.empty, count.longer = intake.manifest.empty_rows, intake.manifest.longer_rows  # other passes begin anew
    return count


def _known(intake: Intake, batch: Batch | None, rows: Sequence[Row]) -> dict[str, KnownRow]:
    if intake.ledger is None or batch is None:
        return {}
    return intake.ledger.batches.known(batch.id, [row.key for row in rows if row.state is JobState.READY])


@dataclass(slots=True)
class _Line:
    """A route line while it is counted."""

    route: Route
    request: Request  # of one of its rows
    number: int
    images: int = 0
    aside: int = 0  # micro-dollars that are set aside for them
    least: int | None = None  # for the one of them that holds the least
    tasks: int = 0


@dataclass(slots=True, kw_only=True)
class _Count:
    """A survey while it is counted."""

    intake: Intake
    watch_paths: bool  # paths that hold the key cannot meet unless the keys do
    before: Comparison
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    problems: Problems = field(default_factory=Problems)
    doubts: Problems = field(default_factory=Problems)
    samples: list[Sample] = field(default_factory=list)
    lines: dict[tuple[object, ...], _Line] = field(default_factory=dict)
    disputed_rows: list[ChangedRow] = field(default_factory=list)
    digest: int = 0
    keys: RepeatedHashes = field(default_factory=RepeatedHashes)
    paths: RepeatedHashes = field(default_factory=RepeatedHashes)
    requests: RequestCounter = field(default_factory=RequestCounter)
    empty: int = 0  # rows of the manifest in which nothing stands
    longer: tuple[int, int] = (
        0,
        0,
    )  # rows with more cells than the header, the rest of them empty; the first one's line

    def take(self, planned: Planned, known: KnownRow | None) -> None:
        """Counts one row."""
        row, route, problems, doubts, _ = planned
        self.rows += 1
        self.digest = _digest(self.digest, row)
        if row.request is None or route is None:
            self.counts[row.state] += 1
            self.problems.add(problems)
            if row.state is JobState.INVALID:
                self.before.bad_keys.add(row.key)
            return
        self.keys.add(row.key)
        self.counts["files"] += any(map(file_name, row.request.references))
        if self.watch_paths and row.path:
            self.paths.add(row.path)
        changed, disputed = self.counts["changed"], self.counts["disputed"]
        images = self._to_pay(row, row.request.n, known)
        if images and not (known and known.tried) and self.before.takes(row, images):
            images = 0
        self.before.to_pay += images > 0
        if images and not planned.is_repeat:
            self.requests.add(row, images)
        is_refused = self.counts["disputed"] > disputed and self.intake.changed == "error"
        if images or is_refused:
            self.doubts.add(doubts)
        line = self._add(route, row, images)
        if known is None:
            self.before.add(row, images, line)
        else:
            self.before.matched += 1
        asks = self.counts["changed"] > changed and self.intake.changed != "keep"
        if len(self.samples) < _SAMPLES and (images or asks):
            self.samples.append(Sample(line=row.line, key=row.key, prompt=row.request.prompt))

    def _to_pay(self, row: Row, n: int, known: KnownRow | None) -> int:
        """Counts the row for what it is, and says how many of its images still cost money."""
        if known is None or not (known.request_hash or known.adopted):
            self.counts["new"] += 1
            return n
        if known.fits(row.request_hash):
            self.counts["open" if known.lacking(n) > known.free else _fate(known.state)] += 1
            self.counts["waiting"] += known.lacking(n) * (row.price or 0)
            self.counts["waiting_images"] += known.lacking(n)
            return known.lacking(n)
        self.counts["changed"] += 1
        is_back = gets_back(row.request, row.request_hash, known.earlier)
        self.counts["given_back"] += is_back and (self.intake.changed == "redo" or not known.touched)
        if known.touched:
            return self._disputed(row, n, known, is_back=is_back)
        return 0 if is_back else n

    def _disputed(self, row: Row, n: int, known: KnownRow, *, is_back: bool) -> int:
        self.counts["disputed"] += 1
        self.counts["disputed_back"] += is_back
        self.counts["own_prompts"] += known.own_prompt
        if not is_back:
            self.counts["redo_images"] += n
            self.counts["redo_money"] += n * (row.price or 0)
        if len(self.disputed_rows) < NAMED:
            self.disputed_rows.append(ChangedRow(line=row.line, key=row.key))
        return {"error": 0, "keep": known.free, "redo": 0 if is_back else n}[self.intake.changed]

    def _add(self, route: Route, row: Row, images: int) -> int:
        """Counts images to be paid on a route; the number of its line."""
        if not images or row.request is None:
            return 0
        same = (
            route.provider,
            route.provider_model,
            route.ratio,
            route.resolution,
            route.pixels,
            route.price,
            route.mode,
        )
        line = self.lines.get(same)
        if line is None:
            line = self.lines[same] = _Line(route, row.request, len(self.lines))
        line.images += images
        line.aside += images * (row.price or 0)
        line.least = min(row.price or 0, row.price or 0 if line.least is None else line.least)
        line.tasks += tasks_for(images, route.max_n)
        return line.number

    def _take_off(self) -> None:
        """Rows that turned out to cost nothing when the last key was read."""
        lines = list(self.lines.values())
        for (number, images, money), rows in self.before.saved.items():
            lines[number].images -= rows * images
            lines[number].aside -= rows * money
            lines[number].tasks -= rows * tasks_for(images, lines[number].route.max_n)
        self.lines = {same: line for same, line in self.lines.items() if line.images}

    @property
    def _how(self) -> tuple[PlanOptions, RouteCatalog, References | None]:
        return self.intake.options, self.intake.catalog, self.intake.references

    def _hints(self, planner: Planner) -> Iterator[str]:
        manifest, how, longer = self.intake.manifest, self._how, self.longer
        yield from manifest.notes
        if 0 < longer[0] <= _LONGER_PART * self.rows:
            others = f" ({longer[0]:,} lines have)" if longer[0] > 1 else ""
            yield (
                f"line {longer[1]:,} has more cells than the header, the rest of them empty{others}, and is read"
                " without these; if one of its cells holds the delimiter, what follows stands in wrong columns"
            )
        yield from header_hints(manifest, planner.owns)
        if self.before.batch_id is None:  # another key would make new rows of those that are on record
            yield from key_hint(manifest, *how)
            yield from variations_hint(manifest, self.intake.options)
        yield from hints(manifest, *how)

    def _likely_key(self) -> str:
        """The column that would have kept rows from looking changed; looked for only where some do."""
        likely = likely_key(self.intake.manifest, *self._how) if self.counts["disputed"] else None
        return likely.column if likely else ""

    def _first_plan(self) -> FirstPlan | None:
        """Where all bad rows lack one column of the prompt, as the further lines of a product in a shop's export."""
        causes, bad = self.problems.causes(), self.counts[JobState.INVALID]
        was_forgotten = bad == 1
        if not bad or was_forgotten or len(causes) > 1 or causes[0].rows < bad or causes[0].first.value:
            return None
        found = first_plan(self.intake.manifest, *self._how, may_key=self.before.batch_id is None)
        if found is None or not found.skip_empty:
            return None
        earlier = self._earlier_keys()
        return replace(found, key=earlier.column) if earlier and earlier.helps else found

    def _earlier_keys(self) -> EarlierKeys | None:
        """Looked for only where the batch has rows, and the manifest none of their keys."""
        ledger, batch_id = self.intake.ledger, self.before.batch_id
        if ledger is None or batch_id is None or self.before.matched or not self.counts["new"]:
            return None
        return earlier_keys(ledger, batch_id, self.intake.manifest, *self._how)

    def survey(self, planner: Planner, twins: DuplicateRows, same: SameRequests, known_paces: Paces) -> Survey:
        """The finished count."""
        counts, manifest = self.counts, self.intake.manifest
        earlier = self._earlier_keys()
        again = replace(self.before.outcome(self.keys), by_another_column=bool(earlier and earlier.column))
        self._take_off()
        routes = {line.number: _route_line(line, known_paces) for line in self.lines.values()}
        seconds, may_be_less = self._seconds(known_paces)
        return Survey(
            manifest=manifest.name,
            columns=manifest.columns,
            has_key="key" in planner.owns,
            rows=self.rows,
            new=counts["new"],
            changed=counts["changed"],
            done=counts["done"],
            open=counts["open"],
            ended=counts["ended"],
            skipped=counts[JobState.SKIPPED],
            bad=counts[JobState.INVALID],
            problems=tuple(self.problems.first),
            causes=self.problems.causes(),
            doubts=self.doubts.causes(),
            samples=tuple(self.samples),
            hints=tuple(self._hints(planner)),
            routes=tuple(sorted(routes.values(), key=_fewer_images)),
            groups=self._groups(routes, known_paces),
            seconds=seconds,
            may_be_less=may_be_less,
            disputed=counts["disputed"],
            disputed_rows=tuple(self.disputed_rows),
            likely_key=self._likely_key(),
            first_plan=self._first_plan(),
            earlier_keys=earlier,
            disputed_back=counts["disputed_back"],
            own_prompts=counts["own_prompts"],
            redo_images=counts["redo_images"],
            given_back=counts["given_back"],
            redo_money=counts["redo_money"],
            waiting=counts["waiting"],
            waiting_images=counts["waiting_images"],
            digest=self.digest,
            empty=self.empty,
            files=counts["files"],
            twins=twins,
            same=same,
            variations=self.intake.variations.counts,
            unit=manifest.unit,
            again=again,
        )

    def _groups(self, routes: Mapping[int, RouteLine], known_paces: Paces) -> tuple[RouteGroup, ...]:
        """The routes by provider, model and kind of price. Those of a group share the provider's accounts."""
        alike: dict[tuple[object, ...], list[_Line]] = {}
        for line in self.lines.values():
            told = routes[line.number]
            same = (told.provider, told.model, told.mode, told.price is None, told.price_is_yours, bool(told.assumed))
            alike.setdefault(same, []).append(line)
        groups = []
        for lines in alike.values():
            pace = known_paces.of(lines[0].route.provider)
            tasks = sum(line.tasks for line in lines)
            work = sum(line.tasks * known_paces.task_seconds(line.route) for line in lines)
            groups.append(
                RouteGroup(
                    lines=tuple(sorted((routes[line.number] for line in lines), key=_fewer_images)),
                    seconds=max(pace.seconds(tasks, work), *(routes[line.number].seconds for line in lines)),
                    bound_by=pace.bound_by(tasks, work),
                    may_be_less=pace.may_be_less(tasks, work),
                )
            )
        return tuple(sorted(groups, key=lambda group: -sum(line.images for line in group.lines)))

    def _seconds(self, known_paces: Paces) -> tuple[float, bool]:
        """Providers work side by side; the routes of one share its accounts. And whether it may take less."""
        tasks: Counter[str] = Counter()
        work: Counter[str] = Counter()
        for line in self.lines.values():
            tasks[line.route.provider] += line.tasks
            work[line.route.provider] += round(line.tasks * known_paces.task_seconds(line.route))
        paces = {name: known_paces.of(name) for name in tasks}
        took = [(pace.seconds(tasks[name], work[name]), name) for name, pace in paces.items()]
        seconds, last = max(took, default=(0.0, ""))
        return seconds, last != "" and paces[last].may_be_less(tasks[last], work[last])


def _fate(state: JobState) -> str:
    if state is JobState.DONE:
        return "done"
    return "open" if state in UNFINISHED else "ended"


def _fewer_images(line: RouteLine) -> int:
    return -line.images


def _route_line(line: _Line, paces: Paces) -> RouteLine:
    route, pace = line.route, paces.of(line.route.provider)
    price, assumed = expected(route, line.request, paces.learnt.costs)
    work = line.tasks * paces.task_seconds(route)
    return RouteLine(
        provider=route.provider,
        model=route.model,
        provider_model=route.provider_model,
        ratio=route.ratio,
        resolution=route.resolution,
        pixels=route.pixels,
        price=price,
        price_is_yours=route.price_is_yours,
        mode=route.mode,
        assumed=assumed,
        price_is_most=assumed != "" and assumed == route.assumed and is_the_most(route.pixels, line.request.quality),
        aside=line.aside,
        least=line.least or 0,
        images=line.images,
        tasks=line.tasks,
        seconds=pace.seconds(line.tasks, work),
        bound_by=pace.bound_by(line.tasks, work),
        may_be_less=pace.may_be_less(line.tasks, work),
    )
