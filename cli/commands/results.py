"""`lightfast results`: the batch's lines or its contact sheet, to stdout, a file or a destination."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import BatchName, Config, Json, Overwrite, Sandbox
from cli.flow.outputs import LONGEST_PRESIGN, OutputOptions, Written, address_of, opened, target_of
from cli.flow.session import LedgerSession, find_batch, let_go_of_stdout, note, open_session, show_json
from cli.flow.settings import sandbox_mark
from cli.flow.stored_images import warn_in_folder
from jobs.command_lines import command
from jobs.errors import BadInput
from jobs.formatting import count
from jobs.results.sentences import out_of_manifest
from worker.registration.destination import is_folder
from worker.registration.options import read_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.ledger.batches.values import Batch
    from jobs.results.rows import Choice, Values

FORMATS = ("csv", "jsonl", "parquet", "xlsx", "html")

Format = Annotated[
    str | None, typer.Option("--format", help="csv, jsonl, parquet, xlsx or html; by FILE's ending if not given.")
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE|DEST", help="Where to write; stdout if not given.")
]
Per = Annotated[str, typer.Option("--per", help="A line for each row, or for each image.")]
Columns = Annotated[str | None, typer.Option("--columns", help="As in '*,-lf_sha256,Image Src=lf_url'.")]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="STATUS|CODE", help="Only lines with one of these.")]
Except = Annotated[
    list[str] | None, typer.Option("--except", metavar="STATUS|CODE", help="All lines but those with one of these.")
]
Excel = Annotated[
    bool, typer.Option("--excel", help="A CSV for Excel: with a byte order mark, and the manifest's delimiter.")
]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="The CSV's delimiter; a comma if not given.")]
Presign = Annotated[
    str | None, typer.Option("--presign", metavar="7d", help="Sign addresses: everybody can open them for this time.")
]
Thumbnails = Annotated[
    bool | None,
    typer.Option(
        "--thumbnails/--no-thumbnails",
        help="Small copies for the contact sheet; on for folders. For a bucket each image is read once.",
        show_default=False,
    ),
]


def results(  # noqa: PLR0913  one parameter an option
    batch: BatchName,
    *,
    format: Format = None,  # noqa: A002  the option's name
    output: Output = None,
    per: Per = "row",
    columns: Columns = None,
    only: Only = None,
    but: Except = None,
    presign: Presign = None,
    thumbnails: Thumbnails = None,
    excel: Excel = False,
    delimiter: Delimiter = None,
    overwrite: Overwrite = False,
    json: Json = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """One line for each manifest row, in the manifest's order. Works at any time."""
    wish = replace(
        _wish(format, output, per, columns, presign),
        lines=_lines(only or [], but or []),
        overwrite=overwrite,
        thumbnails=thumbnails,
        progress=not json,
        excel=excel,
    )
    wish = replace(wish, delimiter=_delimiter(delimiter, wish))
    if thumbnails is not None and wish.format != "html":
        raise BadInput("--thumbnails: only a contact sheet (--format html) has pictures.")
    if json and wish.output is None:
        raise BadInput(
            "--json tells what was written where, so it needs -o FILE; for lines of JSON use --format jsonl."
        )
    try:
        with open_session(config, sandbox=sandbox) as session:
            found = find_batch(session.ledger, batch)
            written = write_results(session, found, wish)
            progress = session.ledger.reports.progress(batch)
            warn_in_folder(session.ledger, found)
    except BrokenPipeError:  # a reader that has seen enough (`| head`) is no mistake
        let_go_of_stdout()
        return 0
    if progress.rows_out:
        note(f"{out_of_manifest(progress)}, and not listed here: {command('why', batch, 'KEY', sandbox=found.sandbox)}")
    if written.leads_here and not json and (wish.output is not None or sys.stderr.isatty()):
        note(
            "the addresses in it begin with file:// and lead to this machine alone; for a shop, store in a bucket and "
            "add --presign, or name your server in [storage] public_url"
        )
    if json:
        show_json({"batch": batch, "format": wish.format, "lines": written.lines, "files": list(written.files)})
    elif wish.output is not None:
        mark = "SANDBOX " if found.sandbox and not sandbox_mark() else ""  # found without --sandbox, by --config
        note(f"{mark}{count(written.lines, 'line')} -> {', '.join(written.files)}")
    return 0


# -- what is asked for ---------------------------------------------------------------------------------------------


def _wish(
    asked_format: str | None, output: str | None, per: str, columns: str | None, presign: str | None
) -> OutputOptions:
    if per not in {"row", "image"}:
        raise BadInput(f'--per: "{per}". Legal: row, image.')
    target = None if output in {None, "-"} else output
    return OutputOptions(
        format=_format(asked_format, target),
        output=target,
        per_image=per == "image",
        columns=columns,
        presign=parse_span(presign) if presign else None,
    )


def _lines(only: list[str], but: list[str]) -> Choice:
    from jobs.errors import CODES
    from jobs.results.rows import Choice, check_words

    return Choice(only=check_words("--only", only, CODES), without=check_words("--except", but, CODES))


def _format(asked: str | None, output: str | None) -> str:
    if asked is not None and asked not in FORMATS:
        raise BadInput(f'--format: "{asked}". Legal: {", ".join(FORMATS)}.')
    ending = Path(output).suffix.lstrip(".").lower() if output else ""
    meant = asked or {"htm": "html", "ndjson": "jsonl", "": "csv"}.get(ending, ending)
    if meant not in FORMATS and Path(output or "").is_dir():
        return "csv"
    if meant not in FORMATS:
        raise BadInput(f'-o {output}: no format ends with ".{ending}". Say --format {", ".join(FORMATS)}.')
    return meant


def _delimiter(asked: str | None, wish: OutputOptions) -> str | None:
    """The delimiter as a character. Both options are for CSV; .xlsx is for Excel as it is."""
    if wish.excel and wish.format not in {"csv", "xlsx"}:
        raise BadInput(f"--excel is for csv and xlsx, not for {wish.format}.")
    if asked is None:
        return None
    if wish.format != "csv":
        raise BadInput(f"--delimiter is for csv, not for {wish.format}.")
    from jobs.manifest.reader import delimiter_of

    return delimiter_of(asked)


def parse_span(text: str) -> float:
    """Seconds of `7d`, `12h`, `30m`; at most seven days."""
    try:
        seconds = read_duration(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= LONGEST_PRESIGN:
        raise BadInput(f'--presign: "{text}". Legal: a time such as 12h or 7d; at most 7d, no bucket signs for longer.')
    return seconds


# -- writing -------------------------------------------------------------------------------------------------------


def write_results(session: LedgerSession, batch: Batch, wish: OutputOptions) -> Written:
    """Writes the batch's results as wished. A file appears whole or not at all."""
    if wish.format == "html":
        from cli.commands.contact_sheet import write_sheet

        return write_sheet(session, batch, wish)
    return _write_table(session, batch, wish)


def _write_table(session: LedgerSession, batch: Batch, wish: OutputOptions) -> Written:
    from jobs.results import rows as lines_of
    from jobs.results.spreadsheet import Excel, check_size
    from jobs.results.writers import WRITERS, with_own_types, write_csv

    columns = lines_of.choose_columns(wish.columns, batch.columns, per_image=wish.per_image)
    address = address_of(session, batch, wish.presign)
    make = lines_of.image_lines if wish.per_image else lines_of.row_lines

    def wanted() -> Iterator[Values]:
        return lines_of.chosen(make(session.ledger.reports.results(batch.name), address), wish.lines)

    where = target_of(wish, f"{batch.name}.{wish.format}")
    if wish.format == "xlsx" and not wish.lines:
        progress = session.ledger.reports.progress(batch.name)
        rows = sum(progress.jobs.values())
        check_size(max(rows, progress.images_total) if wish.per_image else rows, len(columns))
    if wish.format == "parquet":
        columns = with_own_types(columns, wanted())
    excel, unreadable = Excel(), lines_of.UnreadableLines(columns)
    replaced = lines_of.ReplacedValues(columns, batch.columns)
    writer = WRITERS[wish.format]
    if wish.format == "csv":
        delimiter = wish.delimiter or (batch.delimiter if wish.excel else None) or ","
        writer = partial(write_csv, delimiter=delimiter, mark=wish.excel)
    with opened(where, wish.format, overwrite=wish.overwrite) as file:
        lines = unreadable.watch(replaced.watch(wanted()))
        count = writer(file, columns, excel.watch(columns, lines) if wish.excel else lines)
    if wish.format == "csv" and excel.note:
        note(excel.note)
    for each in [*replaced.notes, *unreadable.notes]:
        note(each)
    leads_here = (
        any(each.source in ("lf_url", "lf_urls") for each in columns)
        and is_folder(batch.dest)
        and not session.settings.storage.public_url
    )
    return Written(lines=count, files=(where,) if where else (), leads_here=leads_here)
