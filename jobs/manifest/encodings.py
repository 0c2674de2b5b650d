"""Which encoding a file's text has: as its byte order mark says, as was asked for; or which it may have instead."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import BadInput
from jobs.formatting import option
from jobs.manifest.packed import open_bytes
from jobs.marks import marked

#: What spreadsheets and databases export, the likelier first: a short text often makes sense in several.
_LIKELY = (
    *("cp1252", "cp932", "gb18030", "big5", "cp949", "euc_jp", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255"),
    *("cp1256", "cp1257", "cp1258", "mac_roman", "cp1250", "iso8859_2", "cp850", "cp437", "cp866"),
)
_UTF_16 = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"})
#: What Python reads as text and no program exports: a way to write names or source code, and a text in it may be none.
_NO_FILES = frozenset({"utf-7", "unicode-escape", "raw-unicode-escape", "punycode", "idna"})
#: Bytes read at once; bytes at the beginning that are looked at for NULs; bytes that a guess is made from.
_CHUNK, _HEAD, _TELLING = 1 << 16, 4_096, 16_384
#: Characters that are shown before a wrong byte, and bytes from it on.
_BEFORE, _AFTER = 12, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How bytes become text."""

    name: str  # Python's; "utf-8-sig" is UTF-8 with a mark or without
    mark: int = 0  # bytes of a mark that this codec would take for text

    def __str__(self) -> str:
        """As people know it: UTF-8, UTF-16, cp1252."""
        return self.name.removesuffix("-sig").upper() if self.name.startswith("utf") else self.name


def encoding_of(path: Path, name: str, asked: str | None) -> Encoding:
    """A mark is believed, whatever was asked: last week's --encoding may not fit the file that Excel has saved since.

    UTF-8's mark before bytes that are none, as two programs may have left them, gives way to what was asked for.

    `BadInput` for an encoding that is not known, and for UTF-16 without a mark, unless it was asked for.
    """
    wanted = _known(asked) if asked else ""
    with open_bytes(path, name) as raw:
        head = raw.read(_HEAD)
    by_mark, length = marked(head)
    is_doubted = by_mark == "utf-8-sig" and wanted and not wanted.startswith("utf")
    if is_doubted and not _decodes(path, name, by_mark):
        return Encoding(name=wanted, mark=length)
    if by_mark:
        return Encoding(name=by_mark)
    order = _without_mark(head)
    if order and not wanted:
        raise BadInput(
            f"{name} looks like {Encoding(name=order)} without a byte order mark: {option('--encoding', order)}"
        )
    if wanted in {"utf-16", "utf-32"}:  # whose decoders want a mark
        return Encoding(name=order if order.startswith(wanted) else f"{wanted}-le")
    return Encoding(name=wanted or "utf-8-sig")


def _known(asked: str) -> str:
    try:
        name = codecs.lookup(asked).name
        "".encode(name)  # refuses what is a codec and no text, such as base64
    except (LookupError, ValueError):  # Python's own "undefined" refuses everything; a NUL is in no name
        name = ""
    if not name or name.replace("_", "-") in _NO_FILES:
        raise BadInput(f'--encoding "{asked}" is not known; for example utf-8, cp1252, utf-16.')
    return "utf-8-sig" if name == "utf-8" else name


def _without_mark(head: bytes) -> str:
    """UTF-16's order, told by its NULs, which are every second byte of plain letters; "" for anything else."""
    even, odd = (head[place::2].count(0) / max(len(head) // 2, 1) for place in (0, 1))
    few, many = 0.1, 0.5
    return "utf-16-le" if odd > many and even < few else "utf-16-be" if even > many and odd < few else ""


# -- what is wrong -------------------------------------------------------------------------------------------------


def wrong_text(path: Path, name: str, encoding: Encoding) -> BadInput:
    """The error to raise for bytes that are no text in this encoding: which they are, and an encoding that reads all.

    Reads the file again, slowly: a few times where it is large.
    """
    wrong = _first_wrong(path, name, encoding)
    what = f"{name}, line {wrong.line}, character {wrong.character}: byte 0x{wrong.after[0]:02x} is not {encoding}."
    telling = _telling(path, name)
    if encoding.name == "utf-8-sig" and _is_damaged(telling):
        return BadInput(f"{what} Most of the file is, so this line was damaged, or comes from elsewhere: fix the line.")
    if encoding.name in _UTF_16:
        return BadInput(f"{what} Perhaps the file breaks off there: export it again.")
    for guess in _guesses(path, name, telling):
        if _decodes(path, name, guess):
            here = f'here as "{wrong.read_as(guess)}"'
            return BadInput(f"{what} As {guess} the file can be read, {here}: {option('--encoding', guess)}")
    if b"\0" in telling:
        return BadInput(f"{what} It looks like no text at all.")
    return BadInput(
        f"{what} Export the file as UTF-8, or say what it is: --encoding cp1252 (Excel on Windows), utf-16 …"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wrong:
    """The first byte that is no text."""

    line: int  # from 1
    character: int  # in its line, from 1
    before: str  # the end of what was read before it, in its line
    after: bytes  # itself and the bytes after it

    def read_as(self, encoding: str) -> str:
        """What stands there in another encoding."""
        return (self.before + self.after.decode(encoding, "ignore")).splitlines()[0]


def _chunks(path: Path, name: str, *, skip: int = 0) -> Iterator[bytes]:
    """The file's bytes, and at last none."""
    with open_bytes(path, name) as raw:
        raw.read(skip)
        while chunk := raw.read(_CHUNK):
            yield chunk
        yield b""


def _first_wrong(path: Path, name: str, encoding: Encoding) -> _Wrong:
    decoder = codecs.getincrementaldecoder(encoding.name)()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    line, before, left = 1, "", 0  # left: characters of the line that are not kept
    after = b"\0"
    for chunk in _chunks(path, name, skip=encoding.mark):
        try:
            text, is_over = decoder.decode(chunk, final=not chunk), False
        except UnicodeDecodeError as error:
            text, is_over = error.object[: error.start].decode(error.encoding, "replace"), True
            after = error.object[error.start : error.start + _AFTER]
        text = newlines.decode(text, final=is_over or not chunk)
        line += text.count("\n")
        before, left = (text.rpartition("\n")[2], 0) if "\n" in text else (before + text, left)
        left += max(0, len(before) - _BEFORE)
        before = before[-_BEFORE:]
        if is_over:
            break
    return _Wrong(line=line, character=left + len(before) + 1, before=before, after=after)


def _telling(path: Path, name: str) -> bytes:
    """Lines that are not ASCII, from the beginning, as far as they tell an encoding."""
    telling, rest = b"", b""
    for chunk in _chunks(path, name):
        *lines, rest = (rest + chunk).split(b"\n")
        telling += b"".join(line + b"\n" for line in (lines if chunk else [*lines, rest]) if not line.isascii())
        if len(telling) >= _TELLING or len(rest) >= _TELLING:
            break
    return (telling or rest)[:_TELLING]


def _is_damaged(telling: bytes) -> bool:
    """Whether it is UTF-8 but for a few bytes. Text of another encoding hardly ever looks like UTF-8."""
    text = telling.decode("utf-8", "replace")
    wrong = text.count("\N{REPLACEMENT CHARACTER}")
    return sum(not char.isascii() for char in text) - wrong > wrong


def _guesses(path: Path, name: str, telling: bytes) -> list[str]:
    """Encodings in which the text makes sense, the likeliest first. NULs stand in no text but UTF-16."""
    import charset_normalizer  # noqa: PLC0415  slow to import, and only for errors

    if b"\0" in telling:
        with open_bytes(path, name) as raw:
            head = raw.read(_HEAD)
        even, odd = (head[place::2].count(0) for place in (0, 1))
        return ["utf-16-le"] * (not even) or ["utf-16-be"] * (not odd)

    found = charset_normalizer.from_bytes(telling, cp_isolation=list(_LIKELY))
    best = min((match.percent_chaos for match in found), default=0.0)
    equal = {each for match in found if match.percent_chaos == best for each in match.could_be_from_charset}
    others = [match.encoding for match in found if match.encoding not in equal]
    return [*(each for each in _LIKELY if each in equal), *others]


def _decodes(path: Path, name: str, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in _chunks(path, name):
            decoder.decode(chunk, final=not chunk)
    except UnicodeError:
        return False
    return True
