"""Multipart forms, encoded into bytes: a submit's body is whole before anything is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from providers.types import ReferenceFile

Form = Sequence[tuple[str, str | ReferenceFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Bytes that stand behind a reference."""

    content: bytes
    content_type: str
    filename: str


def encode_form(form: Form, files: Mapping[str, File]) -> tuple[str, bytes]:
    """Content type and body; `files` holds the bytes of every `ReferenceFile`, by URL."""
    boundary = _boundary(form, files)
    parts = [piece for name, value in form for piece in _part(boundary, name, value, files)]
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    return f"multipart/form-data; boundary={boundary}", body


def _boundary(form: Form, files: Mapping[str, File]) -> str:
    """Made from what is inside, so nothing inside can hold it by chance or by intent, and the same form is the same."""
    digest = hashlib.sha256()
    for name, value in form:
        content = files[value.url].content if isinstance(value, ReferenceFile) else value.encode("utf-8", "replace")
        digest.update(b"%d:%s%d:" % (len(name), name.encode(), len(content)))
        digest.update(content)
    return f"lightfast-{digest.hexdigest()[:32]}"


def _part(boundary: str, name: str, value: str | ReferenceFile, files: Mapping[str, File]) -> Iterator[bytes]:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
    if isinstance(value, ReferenceFile):
        file = files[value.url]
        yield f'{head}; filename="{_quoted(file.filename)}"\r\nContent-Type: {file.content_type}\r\n\r\n'.encode()
        yield file.content
    else:
        yield f"{head}\r\n\r\n".encode()
        yield value.encode("utf-8", "replace")
    yield b"\r\n"


def _quoted(text: str) -> str:
    return quote(text, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")
