"""Reads JSON of any length value by value: memory holds one value, and what is wrong is named by line and character."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO

from jobs.errors import BadInput
from jobs.manifest.text import LINE_LIMIT, too_long

#: In place of a value that is nested too deeply to be read.
UNREAD = object()
#: What tells where a value ends: texts are stepped over, and brackets are counted.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
#: Characters read at once.
_CHUNK = 1 << 16
_WHITE = re.compile(r"[ \t\r\n]*")
#: Integers beyond these stay text: orjson writes none, and most of their readers would round them.
_LEAST, _MOST = -(2**63), 2**64


class JsonText:
    """A place in a JSON text, from which it is read on."""

    def __init__(self, text: IO[str], name: str) -> None:
        self._text = text
        self._name = name
        self._buffer, self._at = "", 0
        self._cut = 0  # characters of the present line that the buffer has no more
        self._ended = False
        self.line = 1  # where `_at` is, from 1
        self.length = 0  # characters of the last value

    def peek(self) -> str:
        """The next character that is no white space; "" at the end of the text."""
        while True:
            self._go(_end(_WHITE.match(self._buffer, self._at)))
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str, instead_of: str) -> None:
        """Steps over a character; `BadInput` where another one stands there. `instead_of`: for the message."""
        if self.peek() != wanted:
            raise self._broken(self._at, f"expected {instead_of}")
        self._go(self._at + 1)

    def value(self) -> object:
        """The whole value that begins here; `UNREAD` in place of one that cannot be read for that reason."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._buffer, self._at)
            except RecursionError:
                self._leave()
                return UNREAD
            except ValueError as error:  # perhaps only because the buffer ends within it
                if len(self._buffer) - self._at > LINE_LIMIT:
                    raise too_long(self._name, self.line) from None
                if not self._more():
                    raise self._broken(getattr(error, "pos", self._at), getattr(error, "msg", str(error))) from None
                continue
            if end < len(self._buffer) or not self._more():  # a number may go on
                self.length = end - self._at
                self._go(end)
                return found

    def _leave(self) -> None:
        """Steps over the list or object that begins here, however deeply it is nested."""
        while (end := self._closing()) is None:
            if len(self._buffer) - self._at > LINE_LIMIT:
                raise too_long(self._name, self.line)
            if not self._more():
                raise self._broken(len(self._buffer), "a bracket is never closed")
        self.length = end - self._at
        self._go(end)

    def _closing(self) -> int | None:
        depth = 0
        for found in _BRACKETS.finditer(self._buffer, self._at):
            depth += (found[0] in "[{") - (found[0] in "]}")
            if not depth:
                return found.end()
        return None

    def skip(self, levels: int = 100) -> None:
        """Reads over the value that begins here, however long a list or an object it is."""
        start = self.peek() if levels else ""
        if start == "[":
            for _ in self.elements():
                pass
        elif start == "{":
            for _ in self.members():
                self.skip(levels - 1)
        else:
            self.value()

    def elements(self) -> Iterator[tuple[int, object]]:
        """Each element of the list that begins here, and the line where it begins."""
        self.take("[", "[")
        if self.peek() == "]":
            self.take("]", "]")
            return
        while True:
            self.peek()
            line = self.line
            yield line, self.value()
            if self.peek() == "]":
                self.take("]", "]")
                return
            self.take(",", "a comma or the list's ]")
            if self.peek() == "]":
                raise self._broken(self._at, "the comma before ] is one too many")

    def members(self) -> Iterator[str]:
        """Each name of the object that begins here; whoever asks reads the value before the next name."""
        self.take("{", "{")
        if self.peek() == "}":
            self.take("}", "}")
            return
        while True:
            name = self.value() if self.peek() == '"' else None
            if not isinstance(name, str):
                raise self._broken(self._at, "expected a name in quotes")
            self.take(":", "a colon")
            self.peek()
            yield name
            if self.peek() == "}":
                self.take("}", "}")
                return
            self.take(",", "a comma or the object's }")

    def _go(self, to: int) -> None:
        self.line += self._buffer.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        """Reads on, and forgets what was read; False at the end."""
        if self._ended:
            return False
        # As much again as is there: a long value is tried anew a few times only.
        read = self._text.read(max(_CHUNK, len(self._buffer) - self._at))
        self._ended = not read
        if read:
            newline = self._buffer.rfind("\n", 0, self._at)
            self._cut = self._at - newline - 1 if newline >= 0 else self._cut + self._at
            self._buffer, self._at = self._buffer[self._at :] + read, 0
        return bool(read)

    def _broken(self, at: int, why: str) -> BadInput:
        newline = self._buffer.rfind("\n", 0, at)
        character = at - newline if newline >= 0 else self._cut + at + 1
        line = self.line + self._buffer.count("\n", self._at, at)
        ended = at >= len(self._buffer.rstrip()) and self._ended
        why = "the file ends in the middle of it" if ended else why
        return BadInput(f"{self._name}, line {line}, character {character:,}: broken JSON: {why}.")


def _end(match: re.Match[str] | None) -> int:
    return match.end() if match else 0


def _integer(digits: str) -> int | str:
    number = int(digits) if len(digits) <= 20 else _MOST  # noqa: PLR2004  2**64 has 20 digits
    return number if _LEAST <= number < _MOST else digits


def _constant(name: str) -> str | None:
    """Python's own json module writes NaN for a value that is missing, which no other reads."""
    return None if name == "NaN" else name


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_constant)
