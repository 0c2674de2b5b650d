"""The lines of a batch's output and error files.

A file is kept without the images' bytes: each line names where they lie, and they are read from there as the file is
sent. So it is written once, stays small, and what is sent is what is stored.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from jobs.errors import REFUSED_AGAIN, StoreError
from jobs.ledger import Ledger
from jobs.ledger.openai.values import RemoteFile, RemoteState
from jobs.ledger.reports.values import Result, StoredImage
from jobs.states import JobState
from web.kept_files import KeptFiles, places_of
from worker.runtime.executors import in_order
from worker.storage.base import Store
from worker.storage.opening import open_store

#: Images read at once, and bytes of them that are held.
AT_ONCE, HELD = 4, 64 * 1024 * 1024
#: Seconds for which a signed address can be opened: as long as such links of OpenAI's live, and a day more.
SIGNED = 25 * 3600.0
_OK, _REFUSED, _FAILED = 200, 400, 500
#: What a row is called that nothing was sent for when its batch ended.
_NOT_SENT = {
    RemoteState.EXPIRED: ("batch_expired", "This request could not be executed before the completion window expired."),
    RemoteState.CANCELLED: ("batch_cancelled", "This request was not executed, since the batch was cancelled."),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: of the output file, or of the error file."""

    is_output: bool
    kept: bytes  # without the images' bytes
    bytes: int  # that it has about when it is sent


def line_of(result: Result, dest: str, ends_as: RemoteState, *, url_only: bool) -> Line:
    """What is told of one request when its batch has ended. `dest`: where the batch's images lie."""
    stored = [each for each in result.images if each.path is not None and each.sha256 is not None]
    told: dict[str, Any] = {"id": f"batch_req_{secrets.token_hex(12)}", "custom_id": _custom_id(result)}
    if not stored or result.state not in (JobState.DONE, JobState.PARTIAL):
        return _as_line(told | _error(result, ends_as), is_output=False)
    images = [{"dest": each.dest or dest, "path": each.path, "bytes": each.bytes} for each in stored]
    body = {"created": int(result.done_at or 0), "data": [], **_of_request(result, stored)}
    answer = {"status_code": _OK, "request_id": f"req_{secrets.token_hex(12)}", "body": body}
    error = None if result.state is JobState.DONE else _code(result, ends_as)
    line = _as_line({**told, "response": answer, "error": error, "_images": images, "_url": url_only}, is_output=True)
    growth = 0 if url_only else sum(-(-(each.bytes or 0) // 3) * 4 for each in stored)
    return Line(line.is_output, line.kept, line.bytes + growth)


def _custom_id(result: Result) -> str:
    own = result.carried.get("custom_id")
    return own if isinstance(own, str) and own else result.key


def _as_line(told: Mapping[str, Any], *, is_output: bool) -> Line:
    kept = orjson.dumps(told) + b"\n"
    return Line(is_output, kept, len(kept))


def _of_request(result: Result, stored: list[StoredImage]) -> dict[str, Any]:
    """What OpenAI's answer says of the images beside them."""
    first, request = stored[0], result.request
    size = f"{first.width}x{first.height}" if first.width and first.height else None
    told = {"size": size, "output_format": first.format, "quality": request.quality if request else None}
    return {name: value for name, value in told.items() if value}


def _code(result: Result, ends_as: RemoteState) -> dict[str, str]:
    if result.state is JobState.HELD:
        return {
            "code": "outcome_unknown",
            "message": "It was sent, and it is not known whether it was taken: it may be paid. It is never sent again "
            "by itself; an operator resolves it.",
        }
    if result.state in (JobState.READY, JobState.CANCELLED) and ends_as in _NOT_SENT:
        code, message = _NOT_SENT[ends_as]
        return {"code": code, "message": message}
    code = result.error_code or result.state.value
    return {"code": code, "message": result.message or code}


def _error(result: Result, ends_as: RemoteState) -> dict[str, Any]:
    error = _code(result, ends_as)
    if result.state is not JobState.FAILED:
        return {"response": None, "error": error}
    status = _REFUSED if error["code"] in REFUSED_AGAIN else _FAILED
    kind = "invalid_request_error" if status == _REFUSED else "server_error"
    body = {"error": {**error, "type": kind, "param": None}}
    answer = {"status_code": status, "request_id": f"req_{secrets.token_hex(12)}", "body": body}
    return {"response": answer, "error": error}


# -- sending -------------------------------------------------------------------------------------------------------


def content_of(ledger: Ledger, files: KeptFiles, file: RemoteFile) -> Iterator[bytes]:
    """The lines of a file as they are sent, each with its images' bytes."""
    stores = _ImageReader()
    for place in places_of(file):
        part = files.read(ledger, place)
        if part is None:
            raise FileNotFoundError(place)
        lines = (orjson.loads(line) for line in part.splitlines())
        yield from in_order(stores.whole, lines, AT_ONCE, weight=_weight, most=HELD)


def _weight(line: Mapping[str, Any]) -> int:
    return sum((each["bytes"] or 0) * 3 for each in line.get("_images", ())) or 1


class _ImageReader:
    """Reads images from where they lie, each destination opened once."""

    def __init__(self) -> None:
        self._opened: dict[str, Store] = {}

    def whole(self, line: dict[str, Any]) -> bytes:
        """A line with its images."""
        images, url_only = line.pop("_images", None), line.pop("_url", False)
        if images is not None:
            line["response"]["body"]["data"] = [self._image(each, url_only=url_only) for each in images]
        return orjson.dumps(line) + b"\n"

    def _image(self, image: Mapping[str, Any], *, url_only: bool) -> dict[str, Any]:
        store = self._store(image["dest"])
        told = {"url": store.presign(image["path"], SIGNED)}
        if url_only:
            return told
        try:
            content = store.read(image["path"])
        except StoreError as refused:
            if refused.retryable:  # the place is away: the same request succeeds later
                raise
            return {**told, "b64_json": None, "lightfast_error": refused.message}
        if content is None:
            return {**told, "b64_json": None, "lightfast_error": "the object is not there any more"}
        return {"b64_json": base64.b64encode(content).decode(), **told}

    def _store(self, dest: str) -> Store:
        if dest not in self._opened:
            self._opened[dest] = open_store(dest)
        return self._opened[dest]
