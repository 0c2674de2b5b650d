"""What the texts of a row hold that nobody means, and what a person should look at before it is paid for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.entities import html5

from jobs.manifest.nested import dotted_names, holds_json
from jobs.manifest.raw_rows import Cell, RawRow
from jobs.manifest.ruined import LONGEST_WORD, excerpt_of_mojibake, is_doubtful, why_no_key, why_no_text

#: Dotted names that are proposed for what is in an object.
_NAMED_INSIDE = 6
_MOJIBAKE = (
    "the text was decoded wrongly, here (--encoding) or before it got into the file: export it again as UTF-8, "
    "or the pictures are made of it as it stands"
)
_DOUBTFUL = (
    "the prompt says this word; where it stands for nothing, leave the cell empty and give a default: {{{column}|…}}"
)
#: Midjourney's parameters, which are words of the prompt anywhere else.
_PARAMETER = re.compile(r"(?<!\S)--(?:ar|aspect|v|version|style|stylize|s|q|quality|no|chaos|c|seed|niji|iw)\s+\S+")
_PARAMETERS = (
    "this is Midjourney's, and a word of the prompt here, which changes nothing else: take it out; there are columns "
    "and options for ratio and quality"
)
#: Tags that shops' descriptions have, and what a web page writes for a character.
_TAG = re.compile(
    r"</?(?:p|br|div|span|a|b|i|u|em|strong|font|small|center|blockquote|img|iframe|meta|style|script|section|h[1-6]|ul|ol"
    r"|li|dl|dt|dd|table|thead|tbody|tr|td|th|hr)(?:\s[^<>]*)?/?>|<!--",
    re.IGNORECASE,
)
_CHARACTER = re.compile(r"&(?:[a-z][a-z0-9]{1,30}|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE)
_HTML = (
    "this is HTML, and is sent as it stands, as words of the prompt: nothing here takes it out. Leave this column out "
    "of the prompt, or take one that has the plain text"
)


@dataclass(slots=True)
class PromptColumns:
    """The columns that prompts are made of."""

    columns: tuple[str, ...]
    prompt: str | None  # the one that is the prompt itself, or most of it
    _json_told: str = ""

    def wrong(self, fields: Mapping[str, str]) -> list[Cell]:
        """Cells that hold no text: a picture of `#NAME?` would be bought for nothing."""
        cells = []
        for column in self.columns:
            text = fields.get(column, "")
            if len(text) <= LONGEST_WORD and (why := why_no_text(text, whole=column == self.prompt)):
                cells.append(Cell("prompt" if column == self.prompt else column, text, why))
        return cells

    def doubtful(self, raw: RawRow, key: str, prompt: str) -> list[Cell]:
        """What may be meant, and most often is not."""
        cells = []
        if why := why_no_key(key):
            cells.append(Cell("key", key, why))
        if not prompt.isascii() and (found := excerpt_of_mojibake(prompt)):
            cells.append(Cell("prompt", found, _MOJIBAKE))
        if "--" in prompt and (parameter := _PARAMETER.search(prompt)):
            cells.append(Cell("prompt", parameter[0], _PARAMETERS))
        if ("{" in prompt or "[" in prompt) and holds_json(prompt):
            cells.append(Cell("prompt", prompt, self._raw_json(raw)))
        if "<" in prompt or "&" in prompt:
            cells.extend(self._html(raw.fields, prompt))
        words = [(column, raw.fields.get(column, "")) for column in self.columns if column != self.prompt]
        cells += [Cell(column, word, _DOUBTFUL.format(column=column)) for column, word in words if is_doubtful(word)]
        return cells

    def _html(self, fields: Mapping[str, str], prompt: str) -> Iterator[Cell]:
        """Columns with HTML in them, each with the first piece of it; else the prompt, whose template has it."""
        if not (whole := excerpt_of_html(prompt)):
            return
        own = {column: found for column in self.columns if (found := excerpt_of_html(fields.get(column, "")))}
        for column, found in (own or {"prompt": whole}).items():
            yield Cell("prompt" if column == self.prompt else column, found, _HTML)

    def _raw_json(self, raw: RawRow) -> str:
        """What to say of JSON in a prompt: the same of all rows, so that it is told once."""
        if not self._json_told:
            own = {name: raw.carried[name] for name in self.columns if name in raw.carried}
            inside = [f"{{{name}}}" for name in dotted_names(own) if name not in own][:_NAMED_INSIDE]
            named = f"; what is in it has names: --prompt with {' '.join(inside)}" if inside else ""
            self._json_told = f"the prompt holds JSON as a program writes it, and is sent so{named}"
        return self._json_told


def excerpt_of_html(text: str) -> str:
    """The first tag or character reference in a text: "<p>", "&amp;"; empty: there is none."""
    if "<" in text and (tag := _TAG.search(text)):
        return tag[0]
    references = (found[0] for found in _CHARACTER.finditer(text)) if "&" in text else ()
    return next((each for each in references if each[1] == "#" or each[1:] in html5), "")
