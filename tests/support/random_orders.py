"""What an order may be at each provider, as its own page tells; by nobody who has seen Lightfast."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: The page's own table, written down again.
PIXELS = {
    "1:1": ("1024x1024", "2048x2048", ""),
    "3:2": ("1536x1024", "2048x1360", ""),
    "2:3": ("1024x1536", "1360x2048", ""),
    "4:3": ("1024x768", "2048x1536", ""),
    "3:4": ("768x1024", "1536x2048", ""),
    "5:4": ("1280x1024", "2560x2048", ""),
    "4:5": ("1024x1280", "2048x2560", ""),
    "16:9": ("1536x864", "2048x1152", "3840x2160"),
    "9:16": ("864x1536", "1152x2048", "2160x3840"),
    "2:1": ("2048x1024", "2688x1344", "3840x1920"),
    "1:2": ("1024x2048", "1344x2688", "1920x3840"),
    "21:9": ("2016x864", "2688x1152", "3840x1648"),
    "9:21": ("864x2016", "1152x2688", "1648x3840"),
}
RESOLUTIONS = ("1k", "2k", "4k")
TWO_MORE = ("3:1", "1:3", "auto")  # APIMaster's
GROK = {"lite": 4, "standard": 10, "pro": 10}


class RefusedError(Exception):
    """The order breaks a documented rule."""


@dataclass(slots=True, kw_only=True)
class Order:
    """A POST that was accepted: it will be paid."""

    provider: str
    prompt: str
    n: int
    asked: dict[str, Any]
    references: Sequence[Any]
    size: tuple[int, int]
    task: str = ""
    ready_at: float = 0.0
    files: list[str] = field(default_factory=list)


def require(holds: object, why: str) -> None:
    if not holds:
        raise RefusedError(why)


def fields(found: Any, *known: str) -> dict[str, Any]:
    require(isinstance(found, dict), "the body is no object")
    require(not found.keys() - set(known), f"not documented: {sorted(found.keys() - set(known))}")
    require(None not in found.values(), "a null where a field can be left out")
    require(isinstance(found.get("prompt", "x"), str) and found.get("prompt", "x").strip(), "prompt")
    return dict(found)


def whole(value: Any, most: int) -> int:
    require(type(value) is int and 1 <= value <= most, f"n {value!r}, at most {most}")
    return int(value)


def pixels(ratio: str, resolution: str) -> tuple[int, int]:
    require(ratio in PIXELS and resolution in RESOLUTIONS, f"{ratio} at {resolution}")
    text = PIXELS[ratio][RESOLUTIONS.index(resolution)]
    require(text, f"{ratio} exceeds the pixel budget at {resolution}")
    return parsed(text)


def parsed(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    require(found, f"size {text!r}")
    return (int(found[1]), int(found[2])) if found else (0, 0)


def io_order(body: Any) -> Order:
    outer = fields(body, "model", "callBackUrl", "user_id", "input")
    inner = fields(outer.get("input"), "prompt", "imageUrls", "ratio", "resolution", "n")
    require("prompt" in inner, "prompt")
    model, references = outer.get("model"), inner.get("imageUrls", [])
    require(all(re.match(r"https?://", url) for url in references), "imageUrls")
    tier = str(model).removeprefix("grok-imagine/text-to-image-")
    if tier in GROK:
        n, size = whole(inner.get("n", 1), GROK[tier]), (800, 600)
        require(not references, "Grok takes no references")
        require(tier != "lite" or not inner.keys() & {"ratio", "resolution"}, "lite takes neither ratio nor resolution")
    else:
        require(model == f"gpt-image-2/{'image' if references else 'text'}-to-image", f"model {model!r}")
        n = whole(inner.get("n", 1), 10)
        size = pixels(inner.get("ratio", "1:1"), inner.get("resolution", "1k"))
    asked = {**inner, "model": model}
    return Order(provider="maxapi.io", prompt=inner["prompt"], n=n, asked=asked, references=references, size=size)


def dev_order(body: Any, files: Sequence[bytes] = ()) -> Order:
    asked = fields(body, "model", "prompt", "size", "quality", "n", "async", "route_mode", "asset_delivery")
    require(asked.get("model") == "openai/gpt-image-2-beta" and "prompt" in asked, "model or prompt")
    require(asked.get("async") is True, "synchronous: this test's harness has no hands")
    require(asked.get("route_mode") in ("official-cheap", "mix"), "route_mode")
    require(asked.get("quality", "auto") in ("auto", "low", "medium", "high"), "quality")
    size = parsed(asked.get("size", "1024x1024"))
    require(not size[0] % 16 and not size[1] % 16 and max(size) <= 3840 and max(size) <= 3 * min(size), "size")
    require(655_360 <= size[0] * size[1] <= 8_294_400, "size")
    n = whole(asked.get("n", 1), 10)
    return Order(provider="maxapi.dev", prompt=asked["prompt"], n=n, asked=asked, references=files, size=size)


def am_order(body: Any) -> Order:
    asked = fields(body, "model", "prompt", "n", "size", "resolution", "image_urls", "official_fallback")
    require(asked.get("model") == "gpt-image-2" and "prompt" in asked, "model or prompt")
    n, references = whole(asked.get("n", 1), 1), asked.get("image_urls", [])
    require(len(references) <= 16 and all(re.match(r"https?://|data:image/", url) for url in references), "image_urls")
    size, resolution = asked.get("size", "1:1"), asked.get("resolution", "1k")
    require(resolution in RESOLUTIONS, f"resolution {resolution!r}")
    legal = size in PIXELS or size in TWO_MORE or re.fullmatch(r"\d+x\d+", size)
    require(legal, f"size {size!r}")
    shape = parsed(size) if "x" in size else parsed((*PIXELS.get(size, ("640x640",)), "2880x2880")[0])
    if resolution != "1k" and size in ("1:1", "16:9"):
        shape = {"1:1": {"2k": (2048, 2048), "4k": (2880, 2880)}, "16:9": {"2k": (2048, 1152), "4k": (3840, 2160)}}[
            size
        ][resolution]
    return Order(provider="apimaster", prompt=asked["prompt"], n=n, asked=asked, references=references, size=shape)


def form(content_type: str, body: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """OpenAI's multipart form of an edit: text fields, `image` or `image[]` files."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    require(message.get_content_type() == "multipart/form-data", "an edit is a multipart form")
    found: dict[str, Any] = {}
    files: list[bytes] = []
    for part in message.iter_parts():  # type: ignore[attr-defined]
        name = part.get_param("name", header="content-disposition")
        if name in ("image", "image[]"):
            require(part.get_filename() and part.get_content_type().startswith("image/"), "an image without name, type")
            files.append(part.get_payload(decode=True))
        else:
            found[name] = part.get_payload(decode=True).decode()
    require(files, "an edit without an image")
    found["async"] = found.get("async") == "true"
    found["n"] = int(found.get("n", 1))
    return found, files
