"""`/openapi.json` and `/docs`: open to everybody, since they tell what this program can do, and nothing of what it has.

The page is Swagger UI (Apache License 2.0), as the package `fastapi-offline` brings it: no CDN is asked for it.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, Response

ABOUT = (
    "Batches of images: planned, made, counted, stored. Each request needs a token, `Authorization: Bearer lf_…` "
    "(`lightfast token create`)."
)
#: Scripts and styles of this server alone, and none that stands in the page. Swagger UI sets styles of elements, and
#: has its pictures within its style sheet.
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
#: What the page loads, and where it lies: in the package, or beside this module.
_FOREIGN, _OWN = "fastapi_offline", "web.docs"
ASSETS = {
    "swagger-ui.css": (_FOREIGN, "static/swagger-ui.css", "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (_FOREIGN, "static/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "start.js": (_OWN, "start.js", "text/javascript; charset=utf-8"),
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lightfast: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""


def add_docs(app: FastAPI) -> None:
    """Adds the description of all routes below `/api/` that the app has by then."""
    description = orjson.dumps(describe(app))

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(description, media_type="application/json", headers=HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(PAGE, headers={**HEADERS, "Content-Security-Policy": POLICY})

    @app.get("/docs/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise HTTPException(404, "there is no such file")
        package, path, media_type = ASSETS[name]
        data = files(package).joinpath(path).read_bytes()
        return Response(data, media_type=media_type, headers={**HEADERS, "Cache-Control": "max-age=3600"})


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document."""
    document = get_openapi(title="Lightfast", version="1", description=ABOUT, routes=app.routes)
    document["paths"] = {path: told for path, told in document["paths"].items() if path.startswith("/api/")}
    document.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    return document
