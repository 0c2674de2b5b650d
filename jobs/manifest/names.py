"""Names of columns: the part of a name that is seen, and names for columns that have none or share one. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from jobs.manifest.raw_rows import OWN_PREFIX

#: Format and control characters: byte order marks, zero-width characters, soft hyphens.
_UNSEEN = frozenset({"Cf", "Cc"})
#: A byte order mark of UTF-8 that a program read as cp1252 and wrote again.
_MISREAD_MARK = "\u00ef\u00bb\u00bf"
#: Characters of a name up to which it is remembered; what is longer is a cell of a row.
_LONGEST = 200


def clean_name(name: str) -> str:
    """A column's name as it is matched, shown and given back: without what nobody sees.

    White space around it goes, and any run of white space inside it (no-break blanks, line breaks) is one blank.
    """
    return _remembered(name) if len(name) <= _LONGEST else _cleaned(name)


def _cleaned(name: str) -> str:
    name = name.removeprefix(_MISREAD_MARK)
    seen = (char for char in name if char.isspace() or unicodedata.category(char) not in _UNSEEN)
    return unicodedata.normalize("NFC", " ".join("".join(seen).split()))


_remembered = lru_cache(maxsize=4096)(_cleaned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The columns of a table, each under a name of its own."""

    names: tuple[str, ...]
    named: int  # cells up to the last column that has a name: a row has at least these
    unnamed: frozenset[str] = frozenset()  # given names of columns that have none; carried where they hold something
    repeated: Mapping[str, tuple[str, ...]]  # name that several columns share -> their own, in order

    @property
    def own(self) -> Iterator[str]:
        """All but Lightfast's own results and the columns without a name."""
        return (name for name in self.names if name not in self.unnamed and not name.startswith(OWN_PREFIX))


def header_of(cells: Sequence[str]) -> Header:
    """Reads a header. A column without a name becomes `column_3`; the second `Title` becomes `Title_2`."""
    shown = [clean_name(cell) for cell in cells]
    places: dict[str, list[int]] = {}
    for column, name in enumerate(shown, 1):
        places.setdefault(name, []).append(column)
    names: list[str] = []
    for column, name in enumerate(shown, 1):
        if not name:
            names.append(_free(f"column_{column}", {*places, *names}))
        else:
            turn = places[name].index(column) + 1
            names.append(name if turn == 1 else _free(f"{name}_{turn}", {*places, *names}))
    return Header(
        names=tuple(names),
        named=max((column for column, name in enumerate(shown, 1) if name), default=0),
        unnamed=frozenset(own for own, name in zip(names, shown, strict=True) if not name),
        repeated={
            name: tuple(names[column - 1] for column in columns)
            for name, columns in places.items()
            if name and len(columns) > 1
        },
    )


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name
