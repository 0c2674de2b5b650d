"""New batches by the API: a manifest with the options of `lightfast run`, planned, and recorded for a token."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_origin, get_type_hints

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from jobs.errors import BadInput, LightfastError
from jobs.formatting import usd
from jobs.ledger.access.values import Token
from web.api.batches import told
from web.api.problems import MOST_FAULTS, ApiRoute, demand_small, problems
from web.callbacks.connection_limits import take_long_answer
from web.door import Door, TheDoor, WhoMakes
from web.planners import ManifestReading
from web.uploads import Upload, is_form
from worker.registration.acceptance import NotAccepted, accept, demand, planned_for
from worker.registration.manifest_sources import ManifestSource
from worker.registration.options import BatchOptions, in_fields, read_money, read_option
from worker.registration.plan_document import plan_document
from worker.registration.preflight import Preflight

Document = dict[str, Any]
T = TypeVar("T")
#: What is made of a plan, with the micro-dollars that were agreed to, while its manifest is at work.
Work = Callable[[Preflight, int | None, ManifestReading], T]
IsLeft = Callable[[], Awaitable[bool]]

#: Options that are said in a terminal alone, and those that are called otherwise here.
_NOT_HERE = {"new_ledger", "notify", "manifest", "budget", "stop_after", "max_stall", "allow_failed"}
UNREADABLE, LATER = 422, 503
#: Bytes of a batch's options without its manifest.
LARGEST_OPTIONS = 1024 * 1024
_STATUS = {
    "not_allowed": 403,
    "token_revoked": 401,
    "batch_name_taken": 409,
    "made_already": 409,
    "budget_exceeded": 402,
}

routes = APIRouter(prefix="/api/v1", tags=["batches"], responses=problems(), route_class=ApiRoute)


def _option_fields() -> dict[str, Any]:
    hints = get_type_hints(BatchOptions)
    lists = {name for name, hint in hints.items() if get_origin(hint) is tuple}
    return {
        each.name: (list[str] if each.name in lists else hints[each.name], Field(default=each.default))
        for each in fields(BatchOptions)
        if each.name not in _NOT_HERE
    }


class _Asked(BaseModel):
    """What is asked of a batch. The other fields are the options of `lightfast run`, by their names with `_`."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    manifest: str = Field(default="", description="s3://… or https://…; a form has the file itself under this name.")
    budget_usd: str | None = Field(default=None, description="As `--budget`.")
    at_most_usd: str | None = Field(
        default=None, description="What was agreed to: where it may cost more (`usd_at_most`), nothing is recorded."
    )


NewBatch = create_model("NewBatch", __base__=_Asked, **_option_fields())
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": NewBatch.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["manifest"],
                    "properties": {"manifest": {"type": "string", "format": "binary"}},
                    "additionalProperties": {"type": "string"},
                }
            },
        },
    }
}


@routes.post("/plan", openapi_extra=_BODY)
async def plan_batch(door: TheDoor, token: WhoMakes, request: Request) -> Document:
    """What a batch would make, and for how much, as `lightfast plan --json` tells it; spends and records nothing.

    `refused` says what would keep it from being accepted.
    """

    def plan(preflight: Preflight, _agreed: int | None, _reading: ManifestReading) -> Document:
        document: Document = {**in_fields(plan_document(preflight)), "refused": None}
        try:
            demand(preflight)
        except NotAccepted as refused:
            document["refused"] = refusal(refused)
        return document

    return await _with_manifest(door, token, request, plan, is_left=request.is_disconnected)


@routes.post("/batches", status_code=201, openapi_extra=_BODY)
async def create_batch(door: TheDoor, token: WhoMakes, request: Request) -> Document:
    """Records a batch, which workers then make: the manifest in a form with the options as fields, or JSON.

    What it may cost is agreed to by the request, up to `at_most_usd`. A producer's batch holds its budget, else that,
    of the token's day.
    """
    return await _with_manifest(door, token, request, record_for(door, token))


def record_for(door: Door, token: Token) -> Work[Document]:
    """What puts a planned batch on record for the token, for what was agreed to at most."""

    def record(preflight: Preflight, agreed: int | None, reading: ManifestReading) -> Document:
        accepted = accept(preflight, token, agreed=agreed, rows_recorded=reading.rows_recorded)
        door.note(token, "batch create", accepted.name)
        door.wake_submits()
        batch = told(door, door.batch_of(accepted.name, token))
        return {**batch, "accepted": {"images": accepted.images, "usd": usd(accepted.held)}}

    return record


def refusal(refused: NotAccepted) -> Document:
    """Why a batch is not accepted, for programs."""
    bad = [
        {"line": each.line, "key": each.key, "column": each.column, "value": each.value, "legal": each.legal}
        for each in refused.rows
    ]
    return {"code": refused.code, "message": str(refused), "problems": list(refused.problems), "bad": in_fields(bad)}


async def _with_manifest(
    door: Door, token: Token, request: Request, work: Work[Document], is_left: IsLeft | None = None
) -> Document:
    """What `work` makes of the plan of the manifest that a request brings or names."""
    take_long_answer(request)
    async with contextlib.AsyncExitStack() as received:
        upload = None
        if is_form(request):
            upload = await received.enter_async_context(door.uploads.received(request, "manifest", token))
            said = _fields_of(upload)
        else:
            said = await _json_of(request)
        return await of_form(door, token, upload, said, work, is_left)


async def of_form(
    door: Door,
    token: Token,
    upload: Upload | None,
    said: Mapping[str, Any],
    work: Work[T],
    is_left: IsLeft | None = None,
) -> T:
    """What `work` makes of the plan of a manifest that has come in. `said`: the options beside it.

    `is_left`: as `Planners.run` has it.
    """
    asked = _read(said, has_file=upload is not None)

    def plan(reading: ManifestReading) -> T:
        return _planned(door, token, asked, upload, work, reading)

    return await door.planners.run(token.id, plan, is_left)


def _planned(
    door: Door, token: Token, asked: _Asked, upload: Upload | None, work: Work[T], reading: ManifestReading
) -> T:
    with _as_answers():
        options, agreed = _options(asked, upload), read_option("at_most_usd", asked.at_most_usd, read_money, None)
        source = _source_of(upload) if upload else None
        planning = planned_for(options, door.settings, door.ledger, token, uploaded=source, rows_read=reading.rows_read)
        with planning as preflight:
            return work(preflight, agreed, reading)


@contextlib.contextmanager
def _as_answers() -> Iterator[None]:
    try:
        yield
    except NotAccepted as refused:
        raise HTTPException(_STATUS.get(refused.code, UNREADABLE), refusal(refused)) from refused
    except BadInput as wrong:
        raise HTTPException(UNREADABLE, refusal(NotAccepted("bad_request", wrong.problems))) from wrong
    except LightfastError as trouble:
        raise HTTPException(LATER, str(trouble), headers={"Retry-After": "30"}) from trouble


def _source_of(upload: Upload) -> ManifestSource:
    """A manifest from elsewhere: it names no files of this machine."""
    return ManifestSource(path=upload.path, name=upload.filename, folder=None, state=None)


# -- what is asked -------------------------------------------------------------------------------------------------


def _fields_of(upload: Upload) -> Document:
    """The fields of a form by the types of the options: of those that are no list, the last one counts."""
    types = {name: field.annotation for name, field in NewBatch.model_fields.items()}
    return {
        name: values if get_origin(types.get(name)) is list else values[-1] for name, values in upload.fields.items()
    }


async def _json_of(request: Request) -> Document:
    demand_small(request, LARGEST_OPTIONS)
    try:
        said = await request.json()
    except (ValueError, RecursionError) as wrong:
        raise HTTPException(UNREADABLE, "the body is no JSON, or a very deep one") from wrong
    if not isinstance(said, dict):
        raise HTTPException(UNREADABLE, "the body is a JSON object")
    return said


def _read(said: Mapping[str, Any], *, has_file: bool) -> _Asked:
    try:
        asked = NewBatch.model_validate(dict(said))
    except ValidationError as wrong:
        faults = wrong.errors()[:MOST_FAULTS]
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}{_instead(each)}" for each in faults]
        raise HTTPException(UNREADABLE, refusal(NotAccepted("bad_request", problems))) from wrong
    if not has_file and not asked.manifest.startswith(("s3://", "https://", "http://")):
        problem = "manifest: the file in a form, or an address: s3://… or https://…"
        raise HTTPException(UNREADABLE, refusal(NotAccepted("bad_request", problem)))
    return asked


def _instead(error: Mapping[str, Any]) -> str:
    """What was meant by a field that is called otherwise here than in a terminal."""
    return ". It is called budget_usd" if error["loc"] == ("budget",) else ""


def _options(asked: _Asked, upload: Upload | None) -> BatchOptions:
    said = asked.model_dump(exclude_unset=True, exclude={"manifest", "budget_usd", "at_most_usd"})
    lists = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
    manifest = upload.filename if upload else asked.manifest
    return BatchOptions(manifest=manifest, budget=asked.budget_usd, **{**said, **lists})
