"""One line of OpenAI's batch format as a row; xAI's takes after it. What a line says is read, or the row is bad. Pure.

Sources: OpenAI's API reference, "Batch", "Create image", "Create image edit" (its JSON form has `images`, each with
`image_url` or `file_id`, and `mask`); xAI's, "Image generation", "Image edit" (`image` or `images`, each {"url": …},
`aspect_ratio`, `resolution`). Fields that are not named here become `options`, which the catalogue takes or refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from jobs.manifest.cells import apart
from jobs.manifest.near_names import SURE, plain_name
from jobs.manifest.raw_rows import KNOWN_COLUMNS, OWN_PREFIX, Cell, RawRow, as_text

_GENERATIONS, _EDITS = "/images/generations", "/images/edits"
#: How the answer comes back, which here is always the bucket, and who asked: no part of the picture.
_OF_THE_ANSWER = frozenset({"response_format", "stream", "partial_images", "user"})
#: What a request is made from. OpenAI's SDK writes `image[]` in forms; the others are gateways' names for the same.
_PICTURES = ("images", "image", "image[]", "image_url", "reference_images", "image_urls")
#: Members of a picture that say no more than that it is one.
_KIND_OF_PICTURE = frozenset({"image_url", "input_image", "image"})

#: What others say in place of a size.
_EDGES = {"width": ("size",), "height": ("size",)}

_LINK_LEGAL = 'a link, {"url": link}, {"image_url": link}, or a list of these'


def is_openai_line(values: Mapping[str, object]) -> bool:
    """Whether an object is a request of a batch, and no row with columns of these names."""
    if "custom_id" not in values:
        return False
    return isinstance(values.get("body"), dict) or ({"method", "url"} <= values.keys() and "prompt" not in values)


def openai_row(position: int, line: int, values: Mapping[str, object], *, endpoint: str = "") -> RawRow:
    """The row that a line asks for, or what is wrong with it. Null says nothing, as everywhere in OpenAI's API.

    `endpoint`: the one that every line has to ask for; "": each may ask for another.
    """
    own = {name: value for name, value in values.items() if not name.startswith(OWN_PREFIX)}
    cells = {name: as_text(value) for name, value in own.items()}
    fields = {name: text for name, text in cells.items() if name not in KNOWN_COLUMNS}
    fields["key"] = cells.get("custom_id", "")
    body = values.get("body")
    wrong = (*_wrong_request(values), *(_not_of(endpoint, values) if endpoint else ()))
    if wrong or not isinstance(body, dict):
        return RawRow(position, line, cells, fields, wrong=wrong, typed=own)
    said = {name: value for name, value in body.items() if value is not None}
    pictures = {name: said.pop(name) for name in _PICTURES if name in said}
    faults = [*_wrong_fields(said), *_wrong_pictures(pictures, needed=_path(values).endswith(_EDITS))]
    if not faults:
        fields |= _known(said) | {"image_urls": _references(pictures)}
    return RawRow(position, line, cells, fields, wrong=tuple(faults), typed=own)


# -- what it asks for ----------------------------------------------------------------------------------------------


def _wrong_request(values: Mapping[str, object]) -> Iterator[Cell]:
    """A line that asks for something else than an image. Without `url` and `method` it is judged by its body."""
    method, url, body = values.get("method"), values.get("url"), values.get("body")
    if method is not None and str(method).upper() != "POST":
        yield Cell("method", as_text(method), "POST")
    if url and not _path(values).endswith((_GENERATIONS, _EDITS)):
        yield Cell("url", as_text(url), f"only images are made: /v1{_GENERATIONS} or /v1{_EDITS}")
    if not isinstance(body, dict):
        yield Cell("body", as_text(body), 'an object such as {"model": "gpt-image-2", "prompt": "…"}')


def _not_of(endpoint: str, values: Mapping[str, object]) -> Iterator[Cell]:
    """What keeps a line from being a request of a batch to this endpoint."""
    custom_id = values.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id.strip():
        yield Cell("custom_id", as_text(custom_id), "a text that no other line has")
    if _path(values) != endpoint:
        yield Cell("url", as_text(values.get("url")), f"the batch's endpoint, {endpoint}")


def _path(values: Mapping[str, object]) -> str:
    """The path that the request goes to; some write a whole address, or one with a query."""
    try:
        return "/" + urlsplit(as_text(values.get("url"))).path.strip("/")
    except ValueError:
        return ""


def _wrong_fields(said: Mapping[str, object]) -> Iterator[Cell]:
    """Fields that would be lost, or bought as something else."""
    if not isinstance(said.get("prompt", ""), str):
        yield Cell("body.prompt", as_text(said["prompt"]), "one text")
    if "mask" in said:
        legal = "no provider takes a mask; leave it out, and say in the prompt what is to change"
        yield Cell("body.mask", as_text(said["mask"]), legal)
    if "key" in said:
        yield Cell("body.key", as_text(said["key"]), "custom_id is the row's key")
    if as_text(said.get("ratio", said.get("aspect_ratio"))) != as_text(said.get("aspect_ratio", said.get("ratio"))):
        yield Cell("body.aspect_ratio", as_text(said["aspect_ratio"]), f"ratio says {as_text(said['ratio'])}")
    for name in _rest(said):
        if meant := SURE.get(plain_name(name)) or _EDGES.get(name):
            yield Cell(f"body.{name}", as_text(said[name]), f"{meant[0]} is the field that is read")
    options = said.get("options", {})
    if not isinstance(options, dict):
        yield Cell("body.options", as_text(options), 'an object of provider fields, such as {"background": "opaque"}')
    elif twice := [name for name in options if name in _rest(said)]:
        yield Cell("body.options", ", ".join(twice), "said twice, in `options` and beside it")


def _known(said: Mapping[str, object]) -> dict[str, str]:
    """Fields that are columns, and all others as `options`. `auto` leaves size and ratio to the model's default."""
    known = {name: value for name, value in said.items() if name in KNOWN_COLUMNS}
    if "aspect_ratio" in said and said["aspect_ratio"] != "auto":
        known["ratio"] = said["aspect_ratio"]
    if known.get("size") == "auto":
        del known["size"]
    options = said.get("options", {})
    known["options"] = {**(options if isinstance(options, dict) else {}), **_rest(said)} or None
    return {name: as_text(value) for name, value in known.items()}


def _rest(said: Mapping[str, object]) -> dict[str, object]:
    named = {*KNOWN_COLUMNS, *_OF_THE_ANSWER, "aspect_ratio"}
    return {name: value for name, value in said.items() if name not in named}


# -- what it is made from ------------------------------------------------------------------------------------------


def _wrong_pictures(pictures: Mapping[str, object], *, needed: bool) -> Iterator[Cell]:
    """Pictures that cannot be read. `needed`: an edit without one would be bought as a generation."""
    given = {name: value for name, value in pictures.items() if value not in ("", [])}
    if len(given) > 1:
        yield Cell(
            f"body.{list(given)[1]}", as_text(list(given.values())[1]), f"pictures are named by {next(iter(given))}"
        )
    elif not given and needed:
        yield Cell("body.images", "", f"an edit needs its picture: {_LINK_LEGAL}")
    for name, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            link = _link(each)
            if link is None:
                yield Cell(f"body.{name}", as_text(each), _why_not(each))
                break
            if name != "image_urls" and _is_several(link):
                yield Cell(f"body.{name}", link, "several pictures are a list of links")
                break


def _references(pictures: Mapping[str, object]) -> str:
    """The cell of `image_urls`. A text there is read as in a table; in OpenAI's and xAI's fields it is one link."""
    for name, value in pictures.items():
        if name == "image_urls" and isinstance(value, str):
            return value
        links = [_link(each) for each in (value if isinstance(value, list) else [value])]
        if any(links):
            return as_text(links)
    return ""


def _link(picture: object) -> str | None:
    """A picture's link; None where it has none, or says more than that."""
    if isinstance(picture, str):
        return picture
    if not isinstance(picture, dict):
        return None
    said = {name: value for name, value in picture.items() if value is not None}
    if said.pop("type", "image") not in _KIND_OF_PICTURE or len(said) != 1 or not said.keys() <= {"url", "image_url"}:
        return None
    return _link(next(iter(said.values()))) or None


def _is_several(link: str) -> bool:
    """Whether a text may be more than one link: it would be bought as one."""
    try:
        return len(apart(link)) > 1
    except ValueError:
        return True


def _why_not(picture: object) -> str:
    if isinstance(picture, dict) and picture.get("file_id"):
        return "a file that was uploaded to OpenAI or xAI cannot be read here; write a link, s3://… or a file's path"
    return _LINK_LEGAL
