"""The references of a row: what their words stand for, and which routes can be given them. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from providers.references import ReferencesBy, file_name, is_link, is_object
from providers.types import Route

#: Bytes of one reference: OpenAI's limit for edits, which the providers pass on.
LARGEST = 50 * 1024 * 1024
#: Bytes of files that one request may carry as data URIs: a third more as base64, held in memory, sent in one body. No
#: provider documents a limit.
MOST_DATA = 20 * 1024 * 1024

LEGAL = "an http:// or https:// link, a file (counted from the manifest's folder), or s3://… gs://… az://…"


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference as the request holds it."""

    text: str
    size: int = 0  # bytes of a file; 0: nobody has looked


class References(Protocol):
    """The part of the surroundings that planning asks."""

    def find(self, words: str) -> Reference:
        """What these words stand for; ValueError says why it cannot be a reference."""


class LinksOnly:
    """Where no file can be read."""

    def find(self, words: str) -> Reference:
        """Links and objects, without a look at them."""
        if is_link(words) or is_object(words):
            return Reference(words)
        raise ValueError(LEGAL)


class ReferenceForm(enum.StrEnum):
    """What a row's references ask of a route."""

    LINKS = "links"  # nothing: links, objects that are signed where they lie, or none at all
    FILES = "files"
    LARGE_FILES = "large files"  # more than a request can carry


def form_of(found: Sequence[Reference]) -> ReferenceForm:
    """What these references ask of a route."""
    files = [each for each in found if file_name(each.text)]
    if not files:
        return ReferenceForm.LINKS
    return ReferenceForm.LARGE_FILES if sum(each.size for each in files) > MOST_DATA else ReferenceForm.FILES


def takes(route: Route, form: ReferenceForm, *, has_addresses: bool) -> bool:
    """Whether the route can be given them. `has_addresses`: what lies at DEST can be fetched by others."""
    if form is ReferenceForm.LINKS or has_addresses or route.references_by is ReferencesBy.FILE:
        return True
    return route.references_by is ReferencesBy.DATA and form is ReferenceForm.FILES


def why_not(providers: Sequence[str], form: ReferenceForm) -> str:
    """What a user is told whose files no allowed route can be given."""
    names, verb = " and ".join(dict.fromkeys(providers)), "fetch" if len(set(providers)) > 1 else "fetches"
    if form is ReferenceForm.LARGE_FILES:
        verb = f"{verb} files of more than {MOST_DATA // 1024**2} MB in all"
    return (
        f"{names} {verb} by address, and a folder has none: --to a bucket (s3://…), or name "
        "the folder's public address as [storage] public_url, or write links"
    )
