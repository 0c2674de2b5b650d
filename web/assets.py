"""Styles and scripts of the pages: read once, and named by their contents, so that browsers keep them for good."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that browsers get."""

    body: bytes
    compressed: bytes
    type: str
    version: str  # of its contents


@cache
def assets() -> dict[str, Asset]:
    """All of them, by name."""
    return {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}


def _read(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(body, gzip.compress(body, mtime=0), TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:12])


def address(name: str) -> str:
    """Where a page finds it."""
    return f"/static/{name}?v={assets()[name].version}"


routes = APIRouter(include_in_schema=False)


@routes.get("/static/{name}")
async def static(name: str, request: Request) -> Response:
    """One of them. No path is made of the name: it is one of those that were read, or there is none."""
    found = assets().get(name)
    if found is None:
        raise HTTPException(404)
    headers = {"Cache-Control": FOR_GOOD, "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(found.body, media_type=found.type, headers=headers)
    return Response(found.compressed, media_type=found.type, headers={**headers, "Content-Encoding": "gzip"})
