"""`lightfast export`: a data set of the stored images of batches."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import Config, Json, Quiet, Sandbox
from cli.flow.session import find_batch, note, open_session, show, show_json
from jobs.command_lines import command
from jobs.errors import BadInput
from jobs.formatting import count, size
from jobs.results.progress import rows_going_on
from worker.registration.options import read_option

if TYPE_CHECKING:
    from jobs.export.options import ExportOptions
    from worker.export.export import Exported

Names = Annotated[list[str], typer.Argument(metavar="BATCH", help="The batches, in this order.", show_default=False)]
Shape = Annotated[
    str,
    typer.Option("--as", metavar="imagefolder|webdataset|parquet", help="The kind of data set.", show_default=False),
]
To = Annotated[str, typer.Option(metavar="DEST", help="An empty s3://bucket/prefix, gs://…, az://… or folder.")]
Caption = Annotated[
    str, typer.Option(metavar="TEMPLATE", help='"{prompt}, {style|photo}": the finished prompt, and own columns.')
]
Columns = Annotated[
    str | None, typer.Option(metavar="A,B", help="Columns of the records; own columns and provenance if not given.")
]
Split = Annotated[
    str | None, typer.Option(metavar="train=90,test=10", help="Parts by percentages; all is train if not given.")
]
SplitBy = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Rows with one value of it are in one split; the row's own key if not given."),
]
ShardSize = Annotated[str, typer.Option(metavar="500MB", help="Bytes of images in a file.")]
WithCost = Annotated[bool, typer.Option("--with-cost", help="Tell price and cost in records and card.")]
Format = Annotated[
    str | None, typer.Option("--format", metavar="jpeg|png|webp", help="Convert pictures; as they are if not given.")
]
Quality = Annotated[int | None, typer.Option(min=1, max=100, help="Of JPEG and WebP; 95 if not given.")]
MaxSide = Annotated[
    int | None, typer.Option(min=1, metavar="PIXELS", help="Make pictures smaller whose longer side is longer.")
]
NearDuplicates = Annotated[
    str,
    typer.Option(
        metavar="keep|flag|drop",
        help="Pictures that are nearly the same as an earlier one: flagged, left out, or not looked for.",
    ),
]
License = Annotated[str | None, typer.Option(metavar="NAME", help="For the card's head, such as cc-by-4.0.")]

_TERMINATED = 143


def export(  # noqa: PLR0913  one parameter an option
    batch: Names,
    *,
    as_: Shape,
    to: To,
    caption: Caption = "{prompt}",
    columns: Columns = None,
    split: Split = None,
    split_by: SplitBy = None,
    shard_size: ShardSize = "500MB",
    with_cost: WithCost = False,
    near_duplicates: NearDuplicates = "flag",
    license: License = None,  # noqa: A002  the option's name
    format: Format = None,  # noqa: A002  as above
    quality: Quality = None,
    max_side: MaxSide = None,
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Writes the stored images with captions and records. The same command goes on, and writes the same bytes."""
    from jobs.export import options as reading
    from jobs.manifest.templates import parse

    if as_ not in reading.SHAPES:
        raise BadInput(f'--as: "{as_}". Legal: {", ".join(reading.SHAPES)}.')
    if split_by is not None and split is None:
        raise BadInput("--split-by needs --split, such as --split train=90,test=10.")
    if format is not None and format not in reading.FORMATS:
        raise BadInput(f'--format: "{format}". Legal: {", ".join(reading.FORMATS)}.')
    if near_duplicates not in reading.NEAR_DUPLICATES:
        raise BadInput(f'--near-duplicates: "{near_duplicates}". Legal: {", ".join(reading.NEAR_DUPLICATES)}.')
    if quality is not None and (format == "png" or (format is None and max_side is None)):
        raise BadInput("--quality is for pictures that become JPEG or WebP: --format jpeg, --format webp, --max-side.")
    options = reading.ExportOptions(
        shape=as_,
        caption=parse(_filled("--caption", caption), "--caption"),
        columns=None if columns is None else read_option("--columns", columns, reading.read_columns, None),
        splits=reading.WHOLE if split is None else read_option("--split", split, reading.read_split, reading.WHOLE),
        split_by=split_by,
        shard_size=read_option("--shard-size", shard_size, reading.read_size, reading.SHARD_SIZE),
        with_cost=with_cost,
        license=None if license is None else _filled("--license", license),
        format=format,
        quality=reading.QUALITY if quality is None else quality,
        max_side=max_side,
        near_duplicates=near_duplicates,
    )
    if len(set(batch)) < len(batch):
        raise BadInput("a batch is named twice: its images would be, too.")
    with _ending_in_order(), open_session(config, sandbox=sandbox) as session:
        from cli.output.export_progress import ExportProgress
        from worker.export.export import export as run
        from worker.registration.stored_images import demand_folder
        from worker.storage.destinations import Destinations

        batches = [find_batch(session.ledger, name) for name in batch]
        for each in batches:
            demand_folder(session.ledger, each)
        tell = ExportProgress(quiet=quiet or json)
        done = run(session.ledger, batches, options, to, stores=Destinations(), tell=tell)
        standin = any(each.sandbox for each in batches)
        going_on = {name: open_ for name in batch if (open_ := rows_going_on(session.ledger.reports.progress(name)))}
    for line in [*_troubles(done, to, sandbox=standin), *_doubts(done, options, going_on)]:
        note(line)
    if json:
        told = asdict(done)
        show_json({"command": "export", "as": as_, "to": to, "batches": batch, **told, "exit_code": _code(done)})
    else:
        show(_page(done, options, to), sandbox=standin)
    return _code(done)


def _filled(option: str, value: str) -> str:
    if not value.strip():
        raise BadInput(f"{option} is empty. Is a variable not set? Leave the option out for its default.")
    return value


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """At a SIGTERM the files that are being written on this machine are taken away, as at Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _code(done: Exported) -> int:
    return 3 if done.missing or done.lost else 0


def _doubts(done: Exported, options: ExportOptions, going_on: Mapping[str, int]) -> Iterator[str]:
    """What may be another data set than was meant, though it is whole."""
    for name, rows in going_on.items():
        yield f"warning: {name} is not finished: {count(rows, 'row')} may still get images, which are not in here."
    for each in options.splits:
        if not done.splits.get(each.name):
            yield f'warning: the split "{each.name}" has no image: there are too few rows, or values of --split-by.'
    if done.flags_not_recorded is not None:
        yield (
            f"warning: the ledger {done.flags_not_recorded}. So lightfast results does not show what was found of "
            "images; the data set does. When that is mended, an export to another place records it."
        )


def _troubles(done: Exported, dest: str, *, sandbox: bool) -> Iterator[str]:
    if done.missing:
        verb = "is" if done.missing == 1 else "are"
        yield f"warning: {count(done.missing, 'image')} {verb} not in {dest}; missing.jsonl there names each."
        for each in done.first_missing:
            yield f"  {each['batch']} {each['key']} {each['index']}: {each['path']} is {each['reason']}"
        for name in dict.fromkeys(each["batch"] for each in done.first_missing):
            yield f"  what helps:  {command('verify', name, '--repair', sandbox=sandbox)}"
        yield f"  then:  the same export to another, empty place, as nothing is added to {dest}"
    if done.lost:
        verb = "is" if done.lost == 1 else "are"
        yield f"warning: {count(done.lost, 'file')} of this export {verb} no longer in {dest} as written:"
        for lost in done.first_lost:
            yield f"  {lost['file']} is {lost['reason']}"
        if done.lost > len(done.first_lost):
            yield f"  … {done.lost:,} in all"
        yield "  what helps:  the same export to another, empty place"


def _page(done: Exported, options: ExportOptions, dest: str) -> Iterator[tuple[str, str]]:
    from jobs.export.options import taken_for

    if done.was_done and not done.lost:
        yield f"{dest} holds this very export already: nothing was written.", "green"
    elif done.was_done:
        yield f"{dest} held this very export, and has lost files of it: nothing was written.", "yellow"
    splits = ", ".join(f"{name} {number:,}" for name, number in done.splits.items())
    files = f"{count(len(done.files), 'file')}, {size(done.bytes)}"
    yield f"{count(done.images, 'image')} as {options.shape} -> {dest}  ({splits}; {files})", "green"
    if options.shape != "webdataset" and any(not taken_for(each.name) for each in options.splits):
        yield f'  load it with datasets.load_dataset("{dest}"): data_dir= overlooks the names of these splits', ""
    if done.dropped:
        yield f"  {count(done.dropped, 'near duplicate')} left out: near_duplicates.jsonl there names each", ""
    elif done.near_duplicates:
        yield f"  {count(done.near_duplicates, 'near duplicate')} flagged; --near-duplicates drop leaves them out", ""
    if done.blank:
        yield f"  {count(done.blank, 'blank image')} flagged", ""
    if done.rows_without:
        yield f"  {count(done.rows_without, 'row')} without a stored image: not in it", ""
    if done.images_lacking:
        rows = count(done.rows_partial, "row")
        yield f"  {count(done.images_lacking, 'image')} of {rows} lacking: not made, or not stored", ""
