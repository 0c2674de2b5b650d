"""Rows as the ledger keeps them: plain values, which can also be kept in a file until they are recorded."""

from __future__ import annotations

from typing import Any

from jobs.ledger.batches.appended import NO_JOB, shown_key, stored_key
from jobs.ledger.batches.values import Row
from jobs.ledger.database.schema import ASKED
from jobs.states import JobState
from providers.types import Request

#: The values of `COLUMNS`: text, bytes, numbers and None.
PlainRow = tuple[Any, ...]

COLUMNS = ("key", "position", "line", "error_code", "message", "state", "carried", *ASKED)
_REQUEST, _N = COLUMNS.index("request"), COLUMNS.index("n")


def plain(row: Row) -> PlainRow:
    """The row's values."""
    return (
        stored_key(row),
        row.position,
        row.line,
        row.error_code,
        row.message,
        row.state.value,
        row.carried,
        *values_asked(row),
    )


def values_asked(row: Row) -> PlainRow:
    """The values of `ASKED`."""
    request = row.request
    width, height = row.pixels or (None, None)
    return (
        request.to_json() if request else None,
        row.request_hash,
        row.path,
        row.provider,
        row.provider_model,
        row.price,
        row.mode,
        width,
        height,
        request.n if request else 1,
        row.max_n,
    )


def images_of(values: PlainRow) -> int:
    """How many images a row asks for; 0: it is no job."""
    return 0 if values[_REQUEST] is None else values[_N]


def row_of(values: PlainRow) -> Row:
    """The inverse of `plain`."""
    key, position, line, error_code, message, state, carried, *asked = values
    request, request_hash, path, provider, provider_model, price, mode, width, height, _, max_n = asked
    state = JobState(state)
    return Row(
        position=position,
        line=line,
        key=shown_key(key) if state in NO_JOB else key,
        carried=carried,
        state=state,
        error_code=error_code,
        message=message,
        request=None if request is None else Request.from_canonical(request),
        request_hash=request_hash,
        path=path,
        provider=provider,
        provider_model=provider_model,
        price=price,
        mode=mode,
        pixels=None if width is None else (width, height),
        max_n=max_n,
    )
