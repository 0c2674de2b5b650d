"""Results of a batch by the API: the lines that `lightfast results` writes, streamed."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import IO, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from jobs.ledger.access.values import Token
from jobs.ledger.batches.values import Batch
from jobs.results.rows import Values, choose_columns, image_lines, row_lines
from jobs.results.writers import WRITERS, with_own_types, write_csv
from web.api.problems import ApiRoute, problems
from web.api.rows import address_in
from web.callbacks.connection_limits import take_long_answer
from web.door import Door, TheDoor, WhoSees
from web.streams import Write

routes = APIRouter(
    prefix="/api/v1/batches/{batch}",
    tags=["results"],
    responses=problems(),
    route_class=ApiRoute,
)


class Format(enum.StrEnum):
    """How the lines are written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Per(enum.StrEnum):
    """What a line stands for."""

    ROW = "row"
    IMAGE = "image"


CONTENT_TYPES = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSONL: "application/jsonl; charset=utf-8",
    Format.PARQUET: "application/vnd.apache.parquet",
}
AsFormat = Annotated[Format, Query(alias="format", description="csv, jsonl or parquet.")]
AsItIs = Annotated[
    bool, Query(description="Of a CSV: also what a spreadsheet would take for a formula; else with an apostrophe.")
]
PerLine = Annotated[Per, Query(description="A line for each row, or for each image.")]


@routes.get("/results", response_class=StreamingResponse)
async def get_results(  # noqa: PLR0913  what may be asked
    door: TheDoor,
    token: WhoSees,
    request: Request,
    batch: str,
    *,
    as_format: AsFormat = Format.CSV,
    per: PerLine = Per.ROW,
    raw: AsItIs = False,
) -> StreamingResponse:
    """One line for each row of the manifest, in its order, as `lightfast results` writes them. Works at any time."""
    found = await run_in_threadpool(door.batch_of, batch, token)
    return await stream_results(door, token, request, found, as_format, per, raw=raw)


async def stream_results(  # noqa: PLR0913  what is asked, and by whom
    door: Door,
    token: Token,
    request: Request,
    batch: Batch,
    as_format: Format,
    per: Per = Per.ROW,
    *,
    raw: bool = False,
) -> StreamingResponse:
    """A batch's results as a file, made as fast as it is taken.

    Raises:
        HTTPException: As many long answers are being made as may be.
    """
    take_long_answer(request)
    return StreamingResponse(
        await door.answers.stream(token.id, _writing(door, batch, as_format, per, no_formulas=not raw)),
        media_type=CONTENT_TYPES[as_format],
        headers={
            "Content-Disposition": f'attachment; filename="{batch.name}.{as_format}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


def _writing(door: Door, batch: Batch, as_format: Format, per: Per, *, no_formulas: bool) -> Write:
    make = image_lines if per is Per.IMAGE else row_lines
    address = address_in(door, batch)

    def lines() -> Iterator[Values]:
        return make(door.ledger.reports.results(batch.name), address)

    def write(file: IO[bytes]) -> None:
        columns = choose_columns(None, batch.columns, per_image=per is Per.IMAGE)
        if as_format is Format.PARQUET:
            columns = with_own_types(columns, lines())
        if as_format is Format.CSV:
            write_csv(file, columns, lines(), no_formulas=no_formulas)
        else:
            WRITERS[as_format](file, columns, lines())

    return write
