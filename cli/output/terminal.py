"""What is written to a terminal: nothing that it would obey, lines that break between words, and commands whole."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TextIO

from jobs.formatting import plain

#: What is to be pasted stays on one line: all that follows a colon and two spaces, and what stands between backticks or
#: double spaces and begins as a command.
_PASTED = re.compile(r"(?<=:  )\S.*$|`[^`]*`|(?:^|(?<= {2}))(?:\S*/)?lightfast .*?(?= {2}|$)")
#: A line's indentation, or its label: further lines begin below what follows it.
_LABEL = re.compile(r" *(?:\S+(?: \S+)?)? {2,}")
#: Labels that are longer are the first cell of a table.
_LONGEST_LABEL = 20
#: Narrower terminals break lines by themselves.
_NARROWEST = 40
#: Stands for a space at which no line is broken.
_KEPT = "\0"


def put(text: str) -> None:
    """Writes lines to stderr."""
    end_tally()
    width = width_of(sys.stderr)
    sys.stderr.writelines(f"{line}\n" for each in plain(text).split("\n") for line in fitted(each, width))
    sys.stderr.flush()


def width_of(stream: TextIO) -> int | None:
    """Columns of the terminal that the stream leads to; None where it leads elsewhere."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):  # no file behind it
        return None
    return columns if columns >= _NARROWEST else None


def fitted(line: str, width: int | None) -> Iterator[str]:
    """The line, broken between words where it is wider than the terminal. A command to be pasted is never broken."""
    if width is None or len(line) <= width:
        yield line
        return
    label = _LABEL.match(line)
    indent = len(label[0]) if label and len(label[0]) <= _LONGEST_LABEL else len(line) - len(line.lstrip()) + 2
    kept = _PASTED.sub(lambda found: found[0].replace(" ", _KEPT), line)
    if " " not in kept[indent if label else 0 :].strip():
        yield line  # a command alone, behind its label
        return
    broken = textwrap.wrap(
        kept,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        tabsize=4,
    )
    yield from (each.replace(_KEPT, " ") for each in broken)


# -- a count that grows --------------------------------------------------------------------------------------------

_tally = ""


def tally(text: str) -> None:
    """Shows a count that grows, in place of the one before. The next line that is written takes its place."""
    global _tally  # noqa: PLW0603  one terminal, one line
    _tally = text
    sys.stderr.write(f"\r{text}")
    sys.stderr.flush()


def end_tally() -> None:
    """Takes the count away, so that what is written next has the line for itself."""
    global _tally  # noqa: PLW0603  as above
    if _tally:
        sys.stderr.write(f"\r{' ' * len(_tally)}\r")
        sys.stderr.flush()
        _tally = ""


def counting(what: str, each: int = 100, *, quiet: bool = False) -> Callable[[int], None] | None:
    """Shows a count that grows, for a person who waits at a terminal; None where there is none. `quiet`: not asked."""
    if quiet or not sys.stderr.isatty():
        return None

    def show(count: int) -> None:
        if count % each == 0:
            tally(f"{count:,} {what}")

    return show
