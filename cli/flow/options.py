"""The options that commands share, and how their values are read."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from jobs.errors import BadInput
from jobs.policy.failover import Failover
from providers.types import MICROS

Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Use this lightfast.toml.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that Lightfast wrote; never any other.")]
Sandbox = Annotated[bool, typer.Option("--sandbox", help="Use the stand-in: no keys, no money, a ledger of its own.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only what is wrong and how it ended.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Agree to the cost without being asked.")]
Sure = Annotated[bool, typer.Option("--yes", "-y", help="Do it without being asked.")]
MaxStall = Annotated[
    str | None, typer.Option("--max-stall", metavar="15m", help="How long to wait when only a person can help.")
]
BatchName = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's name.", show_default=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of `plan`, `run` and `submit`."""

    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST",
            help="CSV, .xlsx, JSON, Parquet or text (--text): a path, - (with --batch), s3://…, https://…",
        ),
    ]
    to: Annotated[
        str, typer.Option(metavar="DEST", help="s3://bucket/prefix, gs://…, az://…, file:///… or a folder.")
    ] = ""
    batch: Annotated[str, typer.Option(metavar="NAME", help="The batch's name; by default the manifest's.")] = ""
    prompt: Annotated[
        str, typer.Option(metavar="TEMPLATE", help='"Photo of {Title}, {Color|grey}" from any columns.')
    ] = ""
    model: Annotated[str, typer.Option(help="`lightfast models` lists them.")] = ""
    provider: Annotated[str, typer.Option(metavar="A,B", help="Allowed providers, in order of choice.")] = ""
    ratio: Annotated[str, typer.Option(help="For rows without their own: 1:1, 16:9 …")] = ""
    resolution: Annotated[str, typer.Option(help="For rows without their own: 1k, 2k, 4k.")] = ""
    n: Annotated[str, typer.Option("--n", help="Images a row, for rows without their own.")] = ""
    map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KNOWN=COLUMN", help="Take a known column from one of yours: key=Handle. May be repeated."
        ),
    ] = None
    skip_empty: Annotated[str, typer.Option(metavar="COLUMN", help="Leave out rows in which this column is empty.")] = (
        ""
    )
    strict_size: Annotated[
        bool, typer.Option("--strict-size", help="A row fails if its images have other pixels than asked for.")
    ] = False
    verify: Annotated[str, typer.Option(metavar="decode", help="Decode every pixel before an image counts.")] = ""
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="Write a JSON file beside each image: how it was made.")
    ] = False
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Make the good rows, and report the bad ones.")] = False
    path: Annotated[str, typer.Option(metavar="TEMPLATE", help='"{batch}/{key}/{index}.{ext}", any column too.')] = ""
    delimiter: Annotated[str, typer.Option(help="The CSV's delimiter; found from its header if not given.")] = ""
    encoding: Annotated[str, typer.Option(help="The manifest's encoding; its mark's or UTF-8 if not given.")] = ""
    text: Annotated[bool, typer.Option("--text", help="Each line of the manifest is a prompt; it has no header.")] = (
        False
    )
    sheet: Annotated[
        str, typer.Option(metavar="NAME", help="The sheet of an .xlsx; the first with rows if not given.")
    ] = ""
    header_row: Annotated[
        int | None, typer.Option("--header-row", min=1, metavar="N", help="The line that the column names stand on.")
    ] = None
    check_urls: Annotated[
        bool, typer.Option("--check-urls", help="Check each reference's link before anything is paid.")
    ] = False
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None
    budget: Annotated[str | None, typer.Option(metavar="USD", help="The most that this batch may ever spend.")] = None
    partial: Annotated[bool, typer.Option("--partial", help="Make as many rows as the budget allows.")] = False
    changed: Annotated[
        str, typer.Option(metavar="error|keep|redo", help="What to do with paid rows whose request has changed.")
    ] = "error"
    append: Annotated[
        bool, typer.Option("--append", help="Add these rows to the batch; its other rows stay in it.")
    ] = False
    reuse: Annotated[
        str,
        typer.Option(
            "--reuse",
            metavar="[copy|link]",
            help="Take images that were made already from where they are, for nothing: copied, or only named.",
        ),
    ] = ""
    buy_again: Annotated[
        bool, typer.Option("--buy-again", help="Agree to pay for requests that were made already.")
    ] = False
    failover: Annotated[
        str, typer.Option(metavar="equal|any-size|off", help="Unpaid rows may go to another provider.")
    ] = ""
    priority: Annotated[
        str | None, typer.Option(metavar="N", help="Share of an account beside other batches: 2 is twice that of 1.")
    ] = None
    allow_failed: Annotated[
        str | None, typer.Option(metavar="2%", help="Exit with 0 if no more rows than this have failed.")
    ] = None
    max_stall: MaxStall = None
    stop_after: Annotated[str | None, typer.Option(metavar="6h", help="Stop by itself after this time.")] = None
    new_ledger: Annotated[
        bool, typer.Option("--new-ledger", help="Replace another ledger's ownership mark at DEST.")
    ] = False
    all: Annotated[bool, typer.Option("--all", help="Show every bad row, every route and every legal value.")] = False
    config: Config = None
    sandbox: Sandbox = False
    json: Json = False
    quiet: Quiet = False
    yes: Yes = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """How many rows may fail: a share of all, or a number."""

    share: float = 0.0
    rows: int = 0

    def covers(self, failed: int, total: int) -> bool:
        """Whether this number of failed rows still means exit code 0."""
        return failed <= max(self.rows, self.share * total)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLimits:
    """What bounds the work, read from the options."""

    budget: int | None = None  # micro-dollars
    allowed: Allowed = field(default_factory=Allowed)
    max_stall: float | None = None  # seconds; None: for ever
    stop_after: float | None = None  # seconds
    priority: float | None = None  # None: as before, else 1


#: Beyond these, a batch would wait for the others to be done, or they for it.
LEAST_PRIORITY = 0.01
#: How long a run without a terminal waits for a person.
UNATTENDED_STALL = 15 * 60.0


def read_limits(options: RunOptions, *, terminal: bool) -> WorkLimits:
    """Reads every option that bounds the work. Raises `BadInput` with all that is wrong at once."""
    reader = _Reader()
    limits = WorkLimits(
        budget=reader.read("--budget", options.budget, read_money, None),
        allowed=reader.read("--allow-failed", options.allow_failed, read_allowed, Allowed()),
        max_stall=reader.read("--max-stall", options.max_stall, read_duration, unset_stall(terminal=terminal)),
        stop_after=reader.read("--stop-after", options.stop_after, read_duration, None),
        priority=reader.read("--priority", options.priority, read_priority, None),
    )
    if options.changed not in ("error", "keep", "redo"):
        reader.problems.append(f'--changed: "{options.changed}": expected error, keep or redo')
    if options.failover and options.failover not in tuple(Failover):
        reader.problems.append(f'--failover: "{options.failover}": expected equal, any-size or off')
    if options.reuse not in ("", "copy", "link"):
        reader.problems.append(f'--reuse: "{options.reuse}": expected nothing after it, copy or link')
    if options.verify not in ("", "decode"):
        reader.problems.append(f'--verify: "{options.verify}": expected decode')
    if options.partial and options.budget is None:
        reader.problems.append("--partial: works until the budget is used: give one with --budget USD")
    if reader.problems:
        raise BadInput(reader.problems)
    return limits


T = TypeVar("T")


class _Reader:
    """Reads values, collecting what is wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, name: str, text: str | None, reader: Callable[[str], T], unset: T) -> T:
        if text is None:  # an empty one is no "none": `--budget "$CAP"` of a script whose CAP is not set
            return unset
        try:
            return reader(text)
        except ValueError as wrong:
            self.problems.append(f'{name}: "{text}": expected {wrong}')
            return unset


def read_option(name: str, text: str | None, reader: Callable[[str], T], unset: T) -> T:
    """One option's value; `unset` where it is not given."""
    collector = _Reader()
    value = collector.read(name, text, reader, unset)
    if collector.problems:
        raise BadInput(collector.problems)
    return value


def read_priority(text: str) -> float:
    """A batch's weight among those that share an account."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LEAST_PRIORITY <= value <= 1 / LEAST_PRIORITY:
        raise ValueError("a number from 0.01 to 100, such as 2 for twice the usual share")
    return value


def read_money(text: str) -> int:
    """Dollars to micro-dollars."""
    try:
        value = Decimal(text.removeprefix("$").replace(",", ""))
        micros = int(value * MICROS)
    except (InvalidOperation, OverflowError, ValueError):
        raise ValueError("an amount in USD such as 25 or 12.50") from None
    if not 0 < micros < 10**15:
        raise ValueError("an amount above 0 in USD such as 25 or 12.50")
    return micros


def unset_stall(*, terminal: bool) -> float | None:
    """Seconds to wait for a person where --max-stall is not given; None: for ever."""
    return None if terminal else UNATTENDED_STALL


def read_stall(text: str | None) -> float | None:
    """The value of --max-stall in seconds; None: for ever."""
    return read_option("--max-stall", text, read_duration, unset_stall(terminal=is_terminal()))


_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def read_duration(text: str) -> float:
    """90s, 15m, 6h, 1h30m; a bare number is seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smhd])?", text.strip())
    if not re.fullmatch(r"(\d+(\.\d+)?\s*(min|[smhd])\s*)+|\d+(\.\d+)?", text.strip()):
        raise ValueError("a time such as 90s, 15m, 6h or 1h30m")
    return sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)


def read_allowed(text: str) -> Allowed:
    """Reads "2%" (of the rows) or "20" (rows)."""
    number = text.strip().removesuffix("%")
    if not re.fullmatch(r"\d+(\.\d+)?", number) or (text == number and "." in number):
        raise ValueError("a share such as 2%, or a number of rows")
    if text == number:
        return Allowed(rows=int(number))
    return Allowed(share=min(float(number), 100.0) / 100)


def takes(options: type[Any]) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Gives a command the fields of a dataclass as its options; the command gets them as one value."""

    def decorate(command: Callable[..., int | None]) -> Callable[..., int | None]:
        def call(**values: Any) -> int | None:
            return command(options(**values))

        call.__signature__ = _signature(options)  # type: ignore[attr-defined]
        call.__annotations__ = {name: p.annotation for name, p in _signature(options).parameters.items()}
        call.__doc__ = command.__doc__
        return call

    return decorate


def _signature(options: type[Any]) -> inspect.Signature:
    hints = get_type_hints(options, include_extras=True)
    return inspect.Signature(
        [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if each.default is MISSING else each.default,
                annotation=hints[each.name],
            )
            for each in fields(options)
        ]
    )


def is_terminal() -> bool:
    """Whether a person sees our output and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()
