"""A raw client of the stand-in: one connection a request, nothing repeated, nothing hidden."""

from __future__ import annotations

import http.client
import io
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from tests.support.patience import AT_LAST

KEY = "sandbox-key"
IO, DEV, AM = "/maxapi.io/api/v1/task", "/maxapi.dev/v1/images", "/apimaster/v1"
#: A scenario in which every task is done at once.
QUICK = {"takes": {"default": [0.0, 0.0]}}


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(box, path, body=None, *, key=KEY, headers=None, timeout=AT_LAST, method=None) -> Said:
    """One request; a body that is no bytes goes as JSON."""
    sent = {**({} if key is None else {"Authorization": f"Bearer {key}"})}
    if body is not None and not isinstance(body, bytes):
        body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
    parts = urlsplit(path)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    line = http.client.HTTPConnection(urlsplit(box.url).netloc, timeout=timeout)
    try:
        line.request(method or ("GET" if body is None else "POST"), target, body, {**sent, **(headers or {})})
        answer = line.getresponse()
        return Said(answer.status, answer.headers, answer.read())
    finally:
        line.close()


def io_body(prompt="a heron", model="gpt-image-2/text-to-image", **fields):
    return {"model": model, "input": {"prompt": prompt, **fields}}


def dev_body(prompt="a heron", **fields):
    return {"model": "openai/gpt-image-2-beta", "prompt": prompt, "async": True, "route_mode": "mix", **fields}


def am_body(prompt="a heron", **fields):
    return {"model": "gpt-image-2", "prompt": prompt, **fields}


def post_io(box, prompt, **fields) -> Said:
    return call(box, f"{IO}/submit", io_body(prompt, **fields))


def io_task(box, prompt, **fields) -> str:
    return post_io(box, prompt, **fields).json["data"]["taskId"]


def io_data(box, task) -> dict[str, Any]:
    return call(box, f"{IO}/{task}").json["data"]


def post_edit(box, fields, files) -> Said:
    """A multipart form, as OpenAI's edits take it."""
    texts = [(f'name="{name}"\r\n\r\n', value.encode()) for name, value in fields.items()]
    images = [(f'name="{name}"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n', data) for name, data in files]
    pieces = [f"--edge\r\nContent-Disposition: form-data; {head}".encode() + data for head, data in [*texts, *images]]
    body = b"\r\n".join([*pieces, b"--edge--\r\n"])
    return call(box, f"{DEV}/edits", body, headers={"Content-Type": "multipart/form-data; boundary=edge"})


def png(width=64, height=48) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def image_of(said: Said) -> tuple[tuple[int, int], str | None]:
    """Pixels and format of an image a person could open."""
    assert said.status == 200, said.body
    with Image.open(io.BytesIO(said.body)) as image:
        image.load()
        return image.size, image.format


def download(box, url) -> Said:
    return call(box, url, key=None)
