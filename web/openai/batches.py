"""`/v1/batches`: what programs ask for, how far it is, and its end."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from jobs.ledger.access.values import Token
from jobs.ledger.openai.values import FilePurpose, NewRemoteBatch, RemoteBatch, RemoteState
from jobs.states import JobState
from jobs.whole_text import why_not_whole
from web.api.problems import ApiRoute
from web.door import Door, TheDoor, WhoMakes
from web.openai.errors import OpenAIError
from web.openai.files import KEPT, LEAST_KEPT, MOST_KEPT, After, Document, as_page, whose
from worker.registration.options import read_duration, read_money

#: What may be asked for.
ENDPOINTS = ("/v1/images/generations", "/v1/images/edits")
#: Seconds that a batch may be given.
LEAST_WINDOW, MOST_WINDOW = 60.0, 30 * 86_400.0
#: Pairs of metadata, and the characters of a name and of a value (OpenAI's own).
PAIRS, LONGEST_NAME, LONGEST_VALUE = 16, 64, 512
BAD, NOT_THERE, NOT_NOW = 400, 404, 409
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
#: Our own words in a batch's metadata.
OWN = "lightfast_"
TO, BUDGET, PROVIDER, BATCH, AGAIN, OUTPUT = (
    f"{OWN}{name}" for name in ("to", "budget", "provider", "batch", "again", "output")
)
_OUTPUTS = ("b64_json", "url")

Limit = Annotated[int, Field(ge=1, le=100)]

routes = APIRouter(prefix="/v1/batches", tags=["openai"], route_class=ApiRoute)


class ExpiresAfter(BaseModel):
    """For how long the files of a batch's results are kept."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=LEAST_KEPT, le=MOST_KEPT)]


class AskedBatch(BaseModel):
    """A batch as a program asks for it."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: Annotated[str, Field(max_length=100)]
    endpoint: Annotated[str, Field(max_length=100)]
    completion_window: Annotated[str, Field(max_length=20)]
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


@routes.post("")
def create_batch(door: TheDoor, token: WhoMakes, asked: AskedBatch) -> Document:
    """Asks for a batch. The same request again gets the batch there is; `lightfast_again` makes another."""
    metadata = dict(asked.metadata or {})
    window = _window(asked.completion_window)
    if asked.endpoint not in ENDPOINTS:
        raise OpenAIError(BAD, f"endpoint: images are made: {' or '.join(ENDPOINTS)}", param="endpoint")
    _demand_sound(metadata)
    now = door.now
    fingerprint = _fingerprint(asked, metadata)
    file = door.ledger.openai_files.find(asked.input_file_id, whose(token)) if _is_text(asked.input_file_id) else None
    if file is None and door.ledger.openai_batches.same(token.id, fingerprint) is None:
        raise OpenAIError(BAD, f"No such File object: {asked.input_file_id}", param="input_file_id")
    if file is not None and file.purpose is not FilePurpose.BATCH:
        raise OpenAIError(BAD, f"{file.name} is no input file", param="input_file_id")
    new = NewRemoteBatch(
        name=f"batch_{secrets.token_hex(12)}",
        token_id=token.id,
        fingerprint=fingerprint,
        endpoint=asked.endpoint,
        input_file=asked.input_file_id,
        window=asked.completion_window,
        metadata=metadata,
        expires_at=now + window,
        output_seconds=float(asked.output_expires_after.seconds if asked.output_expires_after else KEPT),
    )
    found = door.ledger.openai_batches.ask(new, now)
    if found.name == new.name:
        door.note(token, "batch create", found.name)
    door.wake_runner()
    return _document(door, found)


@routes.get("")
def list_batches(door: TheDoor, token: WhoMakes, after: After = "", limit: Limit = 20) -> Document:
    """The batches, the newest first, page by page."""
    behind = _own(door, token, after).id if after else None
    found = door.ledger.openai_batches.page(limit + 1, after=behind, of_token=whose(token))
    return as_page([_document(door, each) for each in found[:limit]], has_more=len(found) > limit)


@routes.get("/{batch}")
def get_batch(door: TheDoor, token: WhoMakes, batch: str) -> Document:
    """One batch, and how far it is."""
    return _document(door, _own(door, token, batch))


@routes.post("/{batch}/cancel")
def cancel_batch(door: TheDoor, token: WhoMakes, batch: str) -> Document:
    """Nothing new is sent for it; what is paid is still stored, and stands in its output file."""
    found = _own(door, token, batch)
    if found.state in (RemoteState.VALIDATING, RemoteState.IN_PROGRESS):
        # Ours first: a server that dies in between has stopped the money, and the next one sees that it is cancelled.
        if found.batch is not None:
            door.ledger.batches.cancel(found.batch)
        door.ledger.openai_batches.cancel(found.id, door.now)
        found = _own(door, token, batch)
        door.note(token, "batch cancel", found.batch or found.name)
        door.wake_runner()
    elif found.state is not RemoteState.CANCELLING and found.state is not RemoteState.CANCELLED:
        raise OpenAIError(NOT_NOW, f"a batch that is {found.state.value} cannot be cancelled")
    return _document(door, found)


def _own(door: Door, token: Token, name: str) -> RemoteBatch:
    found = door.ledger.openai_batches.find(name, whose(token)) if _is_text(name) else None
    if found is None:
        raise OpenAIError(NOT_THERE, f"No batch found with id '{name}'.", param="id")
    return found


def _is_text(name: str) -> bool:
    return why_not_whole(name) is None


# -- what is asked -------------------------------------------------------------------------------------------------


def _window(text: str) -> float:
    try:
        seconds = read_duration(text)
    except ValueError as wrong:
        raise OpenAIError(BAD, f"completion_window: expected {wrong}", param="completion_window") from wrong
    if not LEAST_WINDOW <= seconds <= MOST_WINDOW:
        raise OpenAIError(BAD, "completion_window: from a minute to 30 days, such as 24h", param="completion_window")
    return seconds


def _demand_sound(metadata: dict[str, str]) -> None:
    """Our own words in it are known, and can be read.

    Raises:
        OpenAIError: It is too large, or says what cannot be honoured.
    """
    if len(metadata) > PAIRS or any(len(n) > LONGEST_NAME or len(v) > LONGEST_VALUE for n, v in metadata.items()):
        bounds = f"at most {PAIRS} pairs, names of {LONGEST_NAME} and values of {LONGEST_VALUE} characters"
        raise OpenAIError(BAD, f"metadata: {bounds}", param="metadata")
    for name, value in metadata.items():
        if why := why_not_whole(name) or why_not_whole(value):
            raise OpenAIError(BAD, f"metadata.{name}: expected a text, but {why}", param=f"metadata.{name}")
    known = (TO, BUDGET, PROVIDER, BATCH, AGAIN, OUTPUT)
    for name in (each for each in metadata if each.startswith(OWN) and each not in known):
        raise OpenAIError(BAD, f"metadata.{name}: what is known is {', '.join(known)}", param=f"metadata.{name}")
    if BUDGET in metadata:
        try:
            read_money(metadata[BUDGET])
        except ValueError as wrong:
            raise OpenAIError(BAD, f"metadata.{BUDGET}: expected {wrong}", param=f"metadata.{BUDGET}") from wrong
    if BATCH in metadata and not _NAME.fullmatch(metadata[BATCH]):
        raise OpenAIError(BAD, f"metadata.{BATCH}: letters, digits, . _ - (up to 100)", param=f"metadata.{BATCH}")
    if metadata.get(OUTPUT, "b64_json") not in _OUTPUTS:
        raise OpenAIError(BAD, f"metadata.{OUTPUT}: {' or '.join(_OUTPUTS)}", param=f"metadata.{OUTPUT}")


def _fingerprint(asked: AskedBatch, metadata: dict[str, str]) -> str:
    """The SDK repeats a request whose answer was lost, without a key that would say so."""
    told = [asked.input_file_id, asked.endpoint, sorted(metadata.items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


# -- what is told --------------------------------------------------------------------------------------------------


def _document(door: Door, batch: RemoteBatch) -> Document:
    times = {f"{state.value}_at": _second(batch.times.get(state.value)) for state in RemoteState}
    total, completed, failed = batch.counts or _counts(door, batch)
    return {
        "id": batch.name,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": list(batch.errors)} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": batch.state.value,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": int(batch.created_at),
        "expires_at": int(batch.expires_at),
        **{name: times[name] for name in times if name != "validating_at"},
        "request_counts": {"total": total, "completed": completed, "failed": failed},
        "metadata": dict(batch.metadata) or None,
    }


def _second(at: float | None) -> int | None:
    return None if at is None else int(at)


def _counts(door: Door, batch: RemoteBatch) -> tuple[int, int, int]:
    """All requests, completed and failed, while it goes on; as OpenAI has it, zeros until they are counted."""
    ours = door.ledger.batches.find(batch.batch) if batch.batch is not None else None
    figures = door.figures.of(ours) if ours is not None else None
    return counts_of(figures.progress.jobs) if figures is not None else (0, 0, 0)


def counts_of(rows: Mapping[JobState, int]) -> tuple[int, int, int]:
    """All requests, those that are completed, and those that have failed, are held or were not sent in time."""
    total, done = sum(rows.values()), rows.get(JobState.DONE, 0)
    going_on = rows.get(JobState.READY, 0) + rows.get(JobState.WORKING, 0)
    return total, done, total - done - going_on
