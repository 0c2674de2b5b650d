"""The options that commands share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from jobs.settings.notifications import is_address
from worker.registration.options import BatchOptions, read_duration, read_option, unset_stall

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
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows of the manifest.")] = None
    dedup: Annotated[bool, typer.Option("--dedup", help="Rows that ask for the same only once.")] = False
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only N rows, picked by their keys: always the same ones.")
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Another --sample.")] = None
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=A|B", help='Each row once for each value: "style=photo|oil on canvas". May be repeated.'
        ),
    ] = None
    repeat: Annotated[int, typer.Option(min=1, metavar="N", help="Each row N times, for different pictures.")] = 1
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
    notify: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also tell this channel of the settings of the batch; `run` takes an address too. May be repeated.",
        ),
    ] = None
    new_ledger: Annotated[
        bool,
        typer.Option(
            "--new-ledger",
            help="Take this folder's ledger though one near MANIFEST or DEST has the rows; replace another's mark.",
        ),
    ] = False
    all: Annotated[bool, typer.Option("--all", help="Show every bad row, every route and every legal value.")] = False
    config: Config = None
    sandbox: Sandbox = False
    json: Json = False
    quiet: Quiet = False
    yes: Yes = False

    @property
    def asked(self) -> BatchOptions:
        """What of them is asked of the batch; the others are about this command."""
        mine = {each.name: getattr(self, each.name) for each in fields(BatchOptions)}
        notify = tuple(each for each in self.notify or () if not is_address(each))  # an address goes on no record
        lists = {"map": tuple(self.map or ()), "vary": tuple(self.vary or ())}
        return BatchOptions(**{**mine, **lists, "notify": notify})


#: The field of a command's options that tells which of them were said.
GIVEN = "given"


def read_stall(text: str | None) -> float | None:
    """The value of --max-stall in seconds; None: for ever."""
    return read_option("--max-stall", text, read_duration, unset_stall(attended=is_terminal()))


def takes(
    options: type[Any], *, first: Sequence[str] = ()
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Gives a command the fields of a dataclass as its options; the command gets them as one value.

    `first`: fields that come before all others, where they are arguments. A field `given` gets the names of those that
    were said.
    """

    def decorate(command: Callable[..., int | None]) -> Callable[..., int | None]:
        def call(context: typer.Context, **values: Any) -> int | None:
            if any(each.name == GIVEN for each in fields(options)):
                said = (name for name in values if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT")
                values[GIVEN] = frozenset(said)
            return command(options(**values))

        signature = _signature(options, first)
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
        call.__doc__ = command.__doc__
        return call

    return decorate


def _signature(options: type[Any], first: Sequence[str]) -> inspect.Signature:
    hints = get_type_hints(options, include_extras=True)
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    return inspect.Signature(
        [
            context,
            *(
                inspect.Parameter(
                    each.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if each.default is MISSING else each.default,
                    annotation=hints[each.name],
                )
                for each in sorted(fields(options), key=lambda each: each.name not in first)
                if each.name != GIVEN
            ),
        ]
    )


def is_terminal() -> bool:
    """Whether a person sees our output and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()
