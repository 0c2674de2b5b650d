"""A JSON of provenance beside an image: how it was made, what its bytes are. The same image gives the same bytes."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

import orjson

from jobs.facts import ImageChecked
from jobs.formatting import usd, utc
from jobs.ledger.claims.values import DueCopy
from providers.references import DATA_URI, file_name
from providers.types import Request


def sidecar_path(object_path: str) -> str:
    """`b/key/0.png` has `b/key/0.json`."""
    folder, slash, name = object_path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}.json"


def provenance(due: DueCopy, stored: ImageChecked) -> bytes:
    """No times of the copy, and nothing that opens a door: a copy made again must say the same, to anybody."""
    request = Request.from_json(due.request)
    told = {
        "schema": 1,
        "batch": due.batch,
        "key": due.key,
        "index": due.slot,
        "revision": due.revision,
        "surplus": due.surplus,
        "file": stored.object_path,
        "sha256": stored.sha256,
        "bytes": stored.bytes,
        "width": stored.width,
        "height": stored.height,
        "prompt": request.prompt,
        "request": _shown(request),
        "request_hash": due.request_hash,
        "provider": None if due.reused else due.provider,
        "provider_model": due.provider_model or None,
        "task_id": due.task_id,
        "generated_at": None if due.generated_at is None else utc(due.generated_at),
        "price_usd": usd(due.price),
    }
    told |= {"reused": True} if due.reused else {}  # from where, would tell a stranger of other buckets
    return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _shown(request: Request) -> dict[str, object]:
    plain: dict[str, object] = orjson.loads(request.to_json())
    if request.references:
        plain["references"] = [_without_secrets(reference) for reference in request.references]
    return plain


def _without_secrets(reference: str) -> str:
    """A signed address opens what it names, and names may be in it; a picture in an address is told by its hash."""
    if file_name(reference):
        return reference  # the user's own words and the hash of the bytes
    if DATA_URI.match(reference):
        return f"data:sha256:{hashlib.sha256(reference.encode()).hexdigest()}"
    try:
        parts = urlsplit(reference)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return parts._replace(netloc=host, query="", fragment="").geturl()
