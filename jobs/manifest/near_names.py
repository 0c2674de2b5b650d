"""Names that others give to what changes a picture, and what their columns have to hold to be meant so. Pure.

Sources of the names: the request fields of OpenAI, xAI, Google (Imagen, Gemini), Replicate, fal.ai, Stability and the
diffusers library, and what people write in the heads of spreadsheets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobs.manifest.cells import MOST_IMAGES, WHOLE, is_picture_size
from jobs.manifest.ruined import meant_ratios

#: Values that some route takes in a column: its name in, the values out.
Known = Callable[[str], Sequence[str]]


class Aside(NamedTuple):
    """What no provider takes as a field."""

    kind: str  # of the value: "whole", "number", "word", "text", "link"
    words: str = ""  # how a prompt can say it, after the prompt; {} is the column


#: Names that can only be meant so, and the columns they may be, the likeliest first.
SURE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("aspect_ratio", "aspectratio", "image_ratio", "image_aspect_ratio"), ("ratio",)),
    **dict.fromkeys(
        ("num_images", "n_images", "number_of_images", "num_outputs", "number_of_outputs", "image_count",
         "images_per_prompt", "num_images_per_prompt", "num_of_images", "no_of_images"),
        ("n",),
    ),
    **dict.fromkeys(("image_size", "imagesize", "output_size", "image_dimensions"), ("size", "resolution", "ratio")),
    **dict.fromkeys(("image_resolution", "output_resolution"), ("resolution", "size")),
    **dict.fromkeys(
        ("image_url", "reference_image", "reference_images", "reference_image_url", "reference_image_urls", "ref_image",
         "ref_images", "reference_url", "reference_urls", "input_image", "input_images", "input_image_url",
         "input_image_urls", "source_image", "source_image_url", "init_image", "init_image_url", "image_references"),
        ("image_urls",),
    ),
    **dict.fromkeys(("image_quality", "output_quality"), ("quality",)),
}  # fmt: skip
#: Names that a shop may use for something else: their values decide.
PERHAPS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("aspect", "ar", "format", "orientation", "shape", "proportions"), ("ratio",)),
    **dict.fromkeys(("count", "outputs", "variations", "variants", "num", "batch_size", "sample_count", "n"), ("n",)),
    **dict.fromkeys(
        ("dimensions", "dimension", "dims", "pixels", "px", "width_height", "wxh"), ("size", "resolution", "ratio")
    ),
    **dict.fromkeys(("res", "definition"), ("resolution", "size")),
    **dict.fromkeys(
        ("image", "images", "image[]", "img", "img_url", "image_link", "picture", "photo", "reference", "references",
         "ref", "refs", "source"),
        ("image_urls",),
    ),
    **dict.fromkeys(("model_name", "model_id", "engine"), ("model",)),
}  # fmt: skip
#: Names of what no provider takes.
ASIDE = {
    **dict.fromkeys(("negative_prompt", "negative", "neg_prompt"), Aside("text", ". Leave out: {}")),
    **dict.fromkeys(("style", "style_preset", "style_type", "art_style"), Aside("word", ", {}")),
    **dict.fromkeys(("seed", "random_seed", "noise_seed"), Aside("whole")),
    **dict.fromkeys(("steps", "num_inference_steps", "inference_steps", "sampling_steps"), Aside("whole")),
    **dict.fromkeys(("cfg", "cfg_scale", "guidance", "guidance_scale", "prompt_strength"), Aside("number")),
    **dict.fromkeys(("sampler", "sampler_name", "scheduler"), Aside("word")),
    **dict.fromkeys(("strength", "image_strength", "denoising_strength", "denoise"), Aside("number")),
    **dict.fromkeys(("mask", "mask_url", "mask_image"), Aside("link")),
    **dict.fromkeys(("lora", "loras", "lora_weights"), Aside("text")),
}
#: Names of columns that are likely to tell a shop's products or a data set's rows apart, the likeliest first. Those of
#: variants come last: a row with a prompt is most often a product's, and which variant stands first in it may change.
KEYS = (
    "sku", "product_sku", "item_sku", "custom_id", "handle", "url_handle", "slug", "product_id", "item_id", "asset_id",
    "article_id", "record_id", "row_id", "image_id", "id", "uid", "uuid", "guid", "asin", "gtin", "ean", "ean_13",
    "ean13", "upc", "barcode", "isbn", "mpn", "part_number", "product_code", "item_code", "article_code",
    "product_number", "item_number", "article_number", "item_no", "article_no", "code", "item", "article",
    "artikelnummer", "artikelnr", "artikel_nr", "artnr", "art_nr", "bestellnummer", "bestellnr", "external_id",
    "identifier", "filename", "file_name", "variant_sku", "variant_id", "variant_barcode", "nr",
)  # fmt: skip
#: Other names of provider options.
OPTIONS = {"image_format": "output_format", "file_format": "output_format", "format": "output_format"}

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_RATIO = re.compile(r"\d{1,2}\s*[:x/]\s*\d{1,2}|square|portrait|landscape|vertical|horizontal", re.IGNORECASE)
_RESOLUTION = re.compile(r"\d{1,2}\s*k|\d{3,4}p|(?:full|ultra|u|f|q)?\s*hd", re.IGNORECASE)
_LINK = re.compile(r"(?:https?|s3|gs|az|file)://|.*\.(?:png|jpe?g|webp)$", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_][^\d]{2,}")
_NUMBER = re.compile(r"-?\d{1,4}(?:[.,]\d+)?")
_SEED = re.compile(r"-?\d{1,20}")


def plain_name(name: str) -> str:
    """A name as it stands in the tables: `aspectRatio`, `input.aspect-ratio` and `Aspect Ratio (W:H)` are one."""
    last = re.sub(r"\(.*\)", "", name).rstrip(" .").rpartition(".")[2]
    return re.sub(r"[^0-9a-z\[\]]+", "_", _CAMEL.sub("_", last).casefold()).strip("_")


def fits(column: str, text: str, known: Known) -> bool:
    """Whether a value can be meant for a known column, legal or not."""
    plain = text.strip()
    check = _CHECKS.get(column)
    if column in {"model", "provider", "quality"}:
        return plain.casefold().rpartition("/")[2] in known(column)
    return check is None or check(plain, known)


def _is_ratio(text: str, known: Known) -> bool:
    return bool(_RATIO.fullmatch(text)) or text in known("ratio") or any(meant_ratios(text, known("ratio")))


def _is_count(text: str, _: Known) -> bool:
    count = WHOLE.fullmatch(text)
    return count is not None and 1 <= int(count[1]) <= MOST_IMAGES


_CHECKS: dict[str, Callable[[str, Known], bool]] = {
    "ratio": _is_ratio,
    "n": _is_count,
    "size": lambda text, _: is_picture_size(text),
    "resolution": lambda text, _: _RESOLUTION.fullmatch(text) is not None,
    "image_urls": lambda text, _: text[:1] == "[" or _LINK.match(text) is not None,
    "options": lambda text, _: text[:1] == "{",
}


def is_of_kind(kind: str, text: str) -> bool:
    """Whether a value is what a field of this kind holds; a shop's style number is no style."""
    pattern = {"whole": _SEED, "number": _NUMBER, "word": _WORDS, "link": _LINK}.get(kind)
    return pattern is None or (pattern.match if kind == "link" else pattern.fullmatch)(text.strip()) is not None
