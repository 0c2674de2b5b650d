"""A manifest as it would be taken: everything looked at, nothing spent and nothing written."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from jobs.command_lines import command, in_another_batch, planned, repeated
from jobs.errors import BadInput, LedgerUnreadable
from jobs.formatting import count
from jobs.ledger import Ledger, glance_into, has_batch, open_ledger
from jobs.ledger.accounts.configured import told
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.values import Batch
from jobs.manifest.names import clean_name
from jobs.manifest.reader import Manifest, ReadOptions, open_manifest
from jobs.manifest.templates import field_names
from jobs.planning.first_plan import first_plan
from jobs.planning.intake import Intake, made_in, survey, words_of_references
from jobs.planning.overlap import Overlap
from jobs.planning.planned_rows import PlannedRows
from jobs.planning.planner import DEFAULT_PATH, PlanOptions
from jobs.planning.survey import Survey
from jobs.planning.variations import Variations, read_variations
from jobs.policy.reuse import Reuse
from jobs.settings.model import Settings
from jobs.states import BatchState
from jobs.whole_text import why_not_whole
from providers.catalog.models import Catalog
from providers.registry import PROVIDERS, key_variable
from worker.references import Files, look_at
from worker.registration.addresses import split_address
from worker.registration.manifest_sources import ManifestSource, SourceState, local_source
from worker.registration.options import BatchOptions, WorkLimits, demand_readable, read_limits
from worker.registration.stored_images import missing_folder
from worker.runtime.limits import limits_of
from worker.services import catalog_of

if TYPE_CHECKING:
    from jobs.planning.intake import Progress

#: An address that lacks a slash or its colon: it would be taken for a folder.
_MISTYPED = re.compile(r"(s3|gs|az|file)(:/?(?!/)|//)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
#: Longer numbers are no count of images; Python reads no number of thousands of digits.
_DIGITS_OF_N = 20
#: Where another ledger was found.
_BESIDE = "beside the manifest"
#: Batches of another ledger that are named.
_PLACES = 3
#: What is said before the command that makes rows of a cancelled batch after all.
ANOTHER_BATCH = "To make its rows in another batch, and not pay again for what is stored:"
_ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".xlsx", ".xlsm", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBeside:
    """A ledger near the manifest or DEST, where this command's own is another file that does not have the batch."""

    path: Path
    near: str  # in words, where it was found
    has_batch: bool | None  # one of this name; None: it cannot be read
    is_first: bool  # this command's own is still to be made
    again: Overlap = field(default_factory=Overlap)  # what other batches there have made of the manifest
    batches: Sequence[str] = ()  # their names

    @property
    def stops(self) -> bool:
        """Whether nothing may be bought here as things are, by the rule that holds within one ledger."""
        return bool(self.has_batch) or self.again.needs_buy_again

    def told(self, name: str, settings: Settings) -> str:
        """What it means, and what helps."""
        own = settings.database_path
        if self.has_batch is None:
            lacks = "is new" if self.is_first else f"does not have batch {name}"
            return (
                f"the ledger {self.path} {self.near} cannot be read, and {own} {lacks}: if that one has these "
                "rows, they are paid again here."
            )
        if self.has_batch:
            has, them = f"has batch {name} on record", "it"
        else:
            rows = f"{self.again.rows:,} of {count(self.again.to_pay, 'row')} to be paid"
            has, them = f"has made {rows} already, in {' and '.join(self.batches)}", f"batch {name}"
        lacks = "would be new, know" if self.is_first else f"does not have {them}, would know"
        return (
            f"the ledger {self.path} {self.near} {has}; the ledger {own} {lacks} nothing of what "
            f"is paid there, and pay again. Run this in the folder {self.path.parent}, with paths as seen from "
            "there, or name that ledger in database_url. If this one is meant all the same: --new-ledger with `run`, "
            "or its own database_url."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """A manifest as it would be taken, before anything is spent or written."""

    options: BatchOptions
    limits: WorkLimits
    settings: Settings
    manifest: Manifest
    intake: Intake
    seen: Survey
    name: str  # the batch's
    batch: Batch | None  # as the ledger has it
    ledger: Ledger | None  # None: there is none yet
    dest: str  # "": not given
    path: str
    files: Files  # what the manifest's references stand for
    source: ManifestSource
    beside: LedgerBeside | None = None  # None: there is none, or the settings' own is meant

    @property
    def reasons(self) -> list[str]:
        """Why nothing may be spent as things are."""
        options = self.options
        policy = self.seen.refuse_reasons(
            skip_bad=options.skip_bad,
            budget=self.limits.budget,
            partial=options.partial,
            changed=options.changed,
            batch=self.batch,
            bad_rows_help=self._without_prompts(),
            another_batch=f"{ANOTHER_BATCH}\n    {self.another_batch}" if self.another_batch else "",
        )
        reasons = [*self._missing(), *self._gone(), *self._stranded(), *self._without_keys(), *policy]
        if len(reasons) == 1 and self.seen.disputed and options.changed == "error" and _is_of_this_command(options):
            reasons = [reasons[0] + "".join(f"\n  {why}:\n    {pasted}" for why, pasted in self._changed_ways())]
        return reasons

    def may_have_changed(self) -> bool:
        """Whether the manifest, or a file that it names, may be another by now than the one that was read."""
        return self.source.has_changed() or self.files.may_have_changed()

    @property
    def is_cancelled(self) -> bool:
        """Whether nothing new is ever made in its batch."""
        return self.batch is not None and self.batch.state is BatchState.CANCELLED

    @property
    def another_batch(self) -> str:
        """The command that makes the rows of a cancelled batch after all; as far as it can be said. Empty: none is."""
        if not self.is_cancelled or self.ledger is None:
            return ""
        name = self.ledger.batches.other_name(self.name)
        if _is_of_this_command(self.options):
            return in_another_batch(name, self.dest)
        return shlex.join(["--batch", name, "--reuse"])

    def _without_prompts(self) -> str:
        """The command that makes the rows with a prompt, where those without one are the only bad ones."""
        first = self.seen.first_plan
        to = () if self.dest else ("--to", "DEST")
        if first is None:
            return ""
        words = (*first.words, *to)
        return (
            f"To {first.effects}:\n    {repeated(*words) if _is_of_this_command(self.options) else shlex.join(words)}"
        )

    def _changed_ways(self) -> Iterator[tuple[str, str]]:
        """Commands that answer changed rows, each with what it is for; only where nothing else is in the way."""
        seen, batch = self.seen, self.batch
        budget = batch.budget if self.limits.budget is None and batch else self.limits.budget
        used = batch.charged + batch.reserved if batch else 0
        if seen.has_key:  # else the images may be those of other rows by now
            if budget is None or used + seen.aside + seen.redo_money <= budget:
                yield "To make them anew", repeated("--changed", "redo", without=("--changed",))
            yield "To leave them as they are", repeated("--changed", "keep", without=("--changed",))
        other = f"{self.name}-2"
        if seen.likely_key and self.ledger and self.ledger.batches.find(other) is None:
            key = ("--map", f"key={seen.likely_key}", "--reuse")
            why = f"To know the rows by {seen.likely_key} from now on, with the images copied into a batch of its own"
            yield why, repeated("--batch", other, "--to", self.dest, *key, without=("--batch", "--to", "--path"))

    @property
    def mistake(self) -> str:
        """Why consent in advance, as by --yes, does not buy that; empty where it does."""
        again = self.seen.again
        if not again.needs_buy_again or self.options.buy_again:
            return ""
        if again.renumbered > again.rows and again.example:
            before, now = again.example
            rows = f"{again.renumbered:,} of {count(again.to_pay, 'row')} to be paid"
            return f'{rows} have keys that look like those on record, rewritten ("{before}" is "{now}" here)'
        return f"{again.rows:,} of {count(again.to_pay, 'row')} to be paid were made already"

    def _gone(self) -> Iterator[str]:
        """The folder with the batch's images is not there."""
        if self.ledger and self.batch and (told := list(missing_folder(self.ledger, self.batch))):
            yield "\n  ".join(told)

    def _without_keys(self) -> Iterator[str]:
        """Rows that are known by their numbers would take those of the rows that are there."""
        if self.options.append and not self.seen.has_key:
            yield (
                f"--append needs a key column, and {self.seen.manifest} has none: its rows are known by their number, "
                "so they would be taken for the first rows of the batch. Name a column of yours: --map key=COLUMN."
            )

    def _stranded(self) -> list[str]:
        """Paid work that these settings would leave unasked about."""
        missing = self.ledger.accounts.stranded(limits_of(self.settings)) if self.ledger else []
        return [told(each) for each in missing]

    def _missing(self) -> Iterator[str]:
        if not self.settings.accounts:
            names = ", ".join(map(key_variable, PROVIDERS))
            yield f"no provider has a key: set {names}, or [accounts.NAME] in lightfast.toml, or try --sandbox."
        if not self.dest:
            yield "--to DEST is missing: where shall the images go? s3://bucket/prefix, gs://…, az://… or a folder."
        if self.beside and self.beside.stops:
            yield self.beside.told(self.name, self.settings)
        yield from self._unwritable()
        yield from self._unpriced()

    def _unwritable(self) -> Iterator[str]:
        """The ledger is still to be made, where no file can be: better told before money is agreed to."""
        if self.ledger is None and (why := unmakeable(self.settings)):
            yield why

    def _unpriced(self) -> Iterator[str]:
        """What has no price fits no daily budget, and would wait for ever."""
        for line in self.seen.routes:
            mine = [each for each in self.settings.accounts.values() if each.provider == line.provider]
            by_accounts = bool(mine) and all(account.daily_budget is not None for account in mine)
            if line.price is None and (self.settings.daily_budget is not None or by_accounts):
                yield (
                    f"daily_budget cannot be kept: the price of {line.provider} {line.label} is not known. "
                    "Give yours under [accounts.NAME.prices], or choose another --provider."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is known and named in a manifest that somebody else has sent."""

    of_token: int | None = None  # only batches of that token are known to it; None: all
    reads: tuple[str, ...] | None = None  # prefixes below which it may name objects; None: any
    endpoint: str = ""  # of OpenAI's API: each line is a request to it; "": as the file says


#: Of who could as well type the command.
EVERYTHING = Scope()


@contextlib.contextmanager
def take(  # noqa: PLR0913  what is asked, who asks, and what is known already
    options: BatchOptions,
    settings: Settings,
    *,
    attended: bool = False,
    rows_read: Progress | None = None,
    links_seen: Progress | None = None,
    known: Ledger | None = None,
    seen: SourceState | None = None,
    keeps_rows: bool = False,
    uploaded: ManifestSource | None = None,
    scope: Scope = EVERYTHING,
) -> Iterator[Preflight]:
    """Reads the whole manifest against the ledger. Spends and writes nothing.

    `attended`: a person sees and can answer. `known`: the settings' ledger, where it is open already. `seen`: how the
    manifest was, where one that has not changed need not be read. `keeps_rows`: in a temporary file, to be recorded.
    `uploaded`: the manifest, where it is not what the options name. `scope`: what it may name.

    Raises:
        BadInput: Options that are wrong, or a manifest that cannot be read.
        UnchangedError: The manifest is as it was seen.
    """
    demand_readable(options)
    limits = read_limits(options, attended=attended)
    name = batch_name(options)
    catalog = catalog_or_complaint(settings)
    variations = Variations(
        options=read_variations(
            options.vary, repeat=options.repeat, sample=options.sample, seed=options.seed, dedup=options.dedup
        )
    )
    source_of = (
        contextlib.nullcontext(uploaded)
        if uploaded
        else local_source(
            options.manifest,
            allow_private_hosts=settings.allow_private_hosts,
            proxies=settings.proxies,
            seen=seen,
            tell=rows_read,
        )
    )
    with (
        source_of as source,
        contextlib.nullcontext(known) if known else existing_ledger(settings) as ledger,
        PlannedRows() if keeps_rows else contextlib.nullcontext() as planned_rows,
    ):
        shape = ReadOptions(
            delimiter=options.delimiter or None,
            encoding=options.encoding or None,
            header_row=options.header_row,
            text=options.text,
            sheet=options.sheet or None,
            names=_named_columns(options),
            endpoint=scope.endpoint,
        )
        manifest = variations.on(open_manifest(source.path, name=source.name, options=shape))
        batch = ledger.batches.find(name) if ledger else None
        dest, path = _bound(options, settings, batch)
        files = Files(source.folder, reads=scope.reads)
        intake = Intake(
            manifest=manifest,
            options=_plan_options(options, settings, name, dest, path),
            catalog=catalog,
            ledger=ledger,
            changed=options.changed,
            skip_bad=options.skip_bad,
            append=options.append,
            reuse=Reuse(options.reuse) if options.reuse else None,
            sandbox=batch.sandbox if batch else settings.is_sandbox,
            references=files,
            variations=variations,
            planned=planned_rows,
            of_token=scope.of_token,
        )
        if options.check_urls:
            files = Files(source.folder, _look_at_references(intake, settings, links_seen), reads=scope.reads)
            intake = replace(intake, references=files)
        surveyed = _surveyed(options, intake, batch, limits_of(settings), rows_read)
        yield Preflight(
            options=options,
            limits=limits,
            settings=settings,
            manifest=manifest,
            intake=intake,
            seen=surveyed,
            name=name,
            batch=batch,
            ledger=ledger,
            dest=dest,
            path=path,
            files=files,
            source=source,
            beside=None
            if batch or uploaded
            else _ledger_beside(options, settings, source.folder, dest, intake, surveyed),
        )


def _ledger_beside(
    options: BatchOptions, settings: Settings, folder: str | Path | None, dest: str, intake: Intake, seen: Survey
) -> LedgerBeside | None:
    """Looked for where nobody said which ledger is meant, and that of this folder does not have the batch.

    One that has the batch, or has made most of what is to be paid, comes before one that is only warned of.
    """
    path = settings.database_path
    if path is None or settings.names_ledger or options.new_ledger:
        return None
    name, is_first, warnings = intake.options.batch, intake.ledger is None, []
    for other, near in _ledgers_near(path, "" if options.manifest == "-" else folder, dest):
        is_there = has_batch(other, name)
        # At DEST it is the mark that tells whose a batch of this name is.
        has = None if is_there is None else is_there and near == _BESIDE
        found = LedgerBeside(path=other, near=near, has_batch=has, is_first=is_first)
        if is_there is not None and not has and not options.buy_again:
            found = _with_repeats(found, intake, seen)
        if found.stops:
            return found
        if found.has_batch is None or found.again.rows:
            warnings.append(found)
    return next(iter(warnings), None)


def _ledgers_near(own: Path, folder: str | Path | None, dest: str) -> Iterator[tuple[Path, str]]:
    """Files of our own ledger's name that are not it: in the manifest's folder, and the next one above DEST."""
    mine, beside = os.path.realpath(own), Path(os.path.realpath(folder)) / own.name if folder else None
    if beside and _is_file(beside) and str(beside) != mine:
        yield beside, _BESIDE
    there = Path(os.path.realpath(dest)) if dest and "://" not in dest else None
    above = [each / own.name for each in (there, *there.parents)] if there else []
    found = next(filter(_is_file, above), None)
    if found and found != beside and str(found) != mine:
        yield found, "above DEST"


def _is_file(path: Path) -> bool:
    """No where nobody may look, or a name is too long for a file: `Path.is_file` raises there."""
    try:
        return path.is_file()
    except OSError:
        return False


def _with_repeats(beside: LedgerBeside, intake: Intake, seen: Survey) -> LedgerBeside:
    try:
        with glance_into(beside.path) as other:
            again = made_in(other, intake, seen)
            names = {each.id: f"batch {each.name} -> {each.dest}" for each in other.batches.all()}
    except LedgerUnreadable:
        return replace(beside, has_batch=None)
    return replace(beside, again=again, batches=[names[each.batch_id] for each in again.places[:_PLACES]])


def _surveyed(
    options: BatchOptions,
    intake: Intake,
    batch: Batch | None,
    limits: Sequence[AccountLimits],
    rows_read: Progress | None,
) -> Survey:
    """The survey. Where no column is the prompt, the refusal has what a first plan of this file needs."""
    try:
        return survey(intake, batch, limits, rows_read)
    except BadInput as refused:
        how = intake.options, intake.catalog, intake.references
        first = first_plan(intake.manifest, *how) if batch is None and intake.options.prompt is None else None
        if first is None or not first.prompt:
            raise
        told = planned(*first.words) if _is_of_this_command(options) else shlex.join(first.words)
        also = f"\n  {first.hint}" if first.hint else ""
        raise BadInput([*refused.problems, f"A first plan, for you to change:\n    {told}{also}"]) from None


def _is_of_this_command(options: BatchOptions) -> bool:
    """Whether this command line names the manifest, as one does not under which a schedule fires."""
    return options.manifest in sys.argv


def batch_name(options: BatchOptions) -> str:
    """--batch, or the manifest's name without its endings."""
    if options.batch:
        if not _NAME.fullmatch(options.batch) or options.batch.startswith("."):
            raise BadInput(f'--batch: "{options.batch}": expected letters, digits, . _ - (up to 100)')
        return options.batch
    if options.manifest == "-":
        raise BadInput("--batch NAME is missing: a manifest from standard input has no name of its own.")
    is_address = "://" in options.manifest
    plain = Path(split_address(options.manifest, "manifest").path if is_address else options.manifest).name
    plain = plain.removesuffix(".gz")
    stem = next((plain.removesuffix(ending) for ending in _ENDINGS if plain.lower().endswith(ending)), plain)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-")[:100]
    if not name:
        raise BadInput(f'--batch NAME is missing: "{options.manifest}" makes no name of letters, digits, . _ -')
    return name


def normal_dest(dest: str) -> str:
    """DEST as the ledger keeps it: a folder by its full path, without a slash at the end."""
    if typed := _MISTYPED.match(dest):
        scheme = typed[1].lower()
        meant = f"{scheme}://{'/' * (scheme == 'file')}{dest[typed.end() :]}"
        raise BadInput(f'--to "{dest}" would be a folder of that name. Did you mean {meant}? For the folder: ./{dest}')
    if dest.startswith("file://"):
        dest = _folder_of(dest)
    scheme, has_scheme, rest = dest.partition("://")
    if has_scheme and not rest.strip("/"):
        raise BadInput(f'--to "{dest}": no bucket is named. A destination is {scheme}://BUCKET/PREFIX or a folder.')
    if has_scheme:
        split_address(dest, "--to")
        return dest.rstrip("/")
    return _full_path(dest) if dest else ""


def _full_path(folder: str) -> str:
    """As it is named; without `..`, which would keep it from being recorded relative to the ledger."""
    if why := why_not_whole(folder):
        raise BadInput(f"--to: expected a folder's path, but {why}")
    try:
        path = Path(folder).expanduser().absolute()
    except RuntimeError:  # ~somebody
        raise BadInput(f'--to "{folder}": there is no such user here. For a folder of that name: ./{folder}') from None
    return os.path.realpath(path) if ".." in path.parts else str(path)


def _folder_of(url: str) -> str:
    host, slash, path = url.removeprefix("file://").partition("/")
    if host not in {"", "localhost"} or not slash:
        raise BadInput(f'--to "{url}": a file URL has three slashes, file:///folder.')
    return unquote(f"/{path}")


def _bound(options: BatchOptions, settings: Settings, batch: Batch | None) -> tuple[str, str]:
    """DEST and path template: a batch keeps those it began with."""
    dest = normal_dest(options.to or (batch.dest if batch else settings.storage.to))
    if batch is None:
        return dest, options.path or DEFAULT_PATH
    if not is_same_place(dest, batch.dest):
        moved = command("move-destination", batch.name, dest, sandbox=batch.sandbox)
        raise BadInput(
            f"batch {batch.name} goes to {batch.dest}, not to {dest}: what is paid lies there. "
            f"Leave --to out, or give another --batch; if its images were moved there:  {moved}"
        )
    if options.path and options.path != batch.path:
        raise BadInput(f'batch {batch.name} has the path "{batch.path}", not "{options.path}". Give another --batch.')
    return batch.dest, batch.path


def is_same_place(dest: str, other: str) -> bool:
    """Whether both name one destination: of a folder, whatever links lead to it."""
    return dest == other or ("://" not in dest + other and os.path.realpath(dest) == os.path.realpath(other))


def _plan_options(options: BatchOptions, settings: Settings, name: str, dest: str, path: str) -> PlanOptions:
    given = frozenset(account.provider for account in settings.accounts.values())
    return PlanOptions(
        batch=name,
        path=path,
        prefix=split_address(dest, "--to").path.strip("/") if "://" in dest else "",
        prompt=options.prompt or None,
        mapping=_mapping(options.map),
        skip_empty=clean_name(options.skip_empty) or None,
        model=options.model or None,
        ratio=options.ratio or None,
        resolution=options.resolution or None,
        n=_n(options.n),
        providers=tuple(name.strip() for name in options.provider.split(",") if name.strip()),
        configured=given or frozenset(PROVIDERS),  # without any, the plan is shown and then refused
        limit=options.limit,
        has_addresses=not dest or "://" in dest or bool(settings.storage.public_url),
    )


def _named_columns(options: BatchOptions) -> frozenset[str]:
    """The columns that the options name. Without a template or another name for it, that is `prompt` too."""
    mapping = _mapping(options.map)
    texts = [options.prompt, options.path, *(own for own in mapping.values() if "{" in own)]
    named = {*field_names(*texts), *(own for own in mapping.values() if "{" not in own), options.skip_empty}
    needed = {"prompt"} if not options.prompt and "prompt" not in mapping else set()
    varied = {clean_name(each.partition("=")[0]) for each in options.vary}
    return frozenset((named | needed) - varied - {"", "key", "batch", "index", "ext"} | (named & set(mapping.values())))


def _look_at_references(intake: Intake, settings: Settings, tell: Progress | None) -> dict[int, str]:
    """One look at each link; needs the manifest's columns to be right, which the survey would tell otherwise."""
    return look_at(
        words_of_references(intake),
        allow_private_hosts=settings.allow_private_hosts,
        proxies=settings.proxies,
        tell=tell,
    )


def _mapping(pairs: Sequence[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise BadInput([f'--map: "{pair}": expected KNOWN=COLUMN, such as key=Handle' for pair in wrong])
    mapping: dict[str, str] = {}
    for known, _, text in (pair.partition("=") for pair in pairs):
        name, own = known.strip(), text if "{" in text else clean_name(text)
        if own and mapping.get(name, own) != own:  # the later `key=` of a proposal takes back what stands before it
            raise BadInput(
                f"--map {name}={own}: {name} is taken from {mapping[name]} already. Give one of the two options."
            )
        mapping[name] = own
    return mapping


def _n(text: str) -> int | None:
    if text and not (text.isascii() and text.isdecimal() and len(text) < _DIGITS_OF_N):
        raise BadInput(f'--n: "{text}": expected a whole number from 1 to 10')
    return int(text) if text else None


def catalog_or_complaint(settings: Settings) -> Catalog:
    """The catalogue with the prices of the settings; wrong ones are told with what is legal."""
    try:
        return catalog_of(settings)
    except ValueError as wrong:
        raise BadInput(str(wrong).split("; ")) from None


@contextlib.contextmanager
def existing_ledger(settings: Settings) -> Iterator[Ledger | None]:
    """The ledger if there is one; an SQLite file is not made before everything is checked."""
    path = settings.database_path
    if path is not None and not path.exists():
        yield None
        return
    ledger = open_ledger(settings.database_url)
    try:
        yield ledger
    finally:
        ledger.close()


def unmakeable(settings: Settings) -> str | None:
    """Why no SQLite ledger can be made where the settings say; None: it can, or there is one."""
    path = settings.database_path
    if path is None or path.exists():
        return None
    folder = next(each for each in path.parents if each.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return None
    return (
        f"the ledger {path} cannot be made: this user may not write to the folder {folder}. Allow it, work in another "
        "folder, or name a place in database_url."
    )
