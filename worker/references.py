"""Reference images before money: files are read and hashed, brought to the destination, and links looked at on request.

A file lies at `DEST/.lightfast/references/HASH.EXT`, put there once: any worker of a cluster finds it there, and what
is sent is what was planned, whatever becomes of the file meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobs.errors import BadInput, StoreError
from jobs.planning.references import LARGEST, LEGAL, LinksOnly, Reference
from jobs.policy.access import is_below, readable
from jobs.settings.proxies import NO_PROXIES, Proxies
from providers.references import DATA_URI, as_file, file_name, is_link, is_object, words_of
from worker.http.client import FetchError, Http
from worker.images.check import BadImage, check
from worker.runtime.executors import side_by_side
from worker.storage.base import OWN, Store
from worker.storage.opening import open_store

#: Files whose hash is remembered while a manifest is read; with more of them a file may be read again.
REMEMBERED = 65_536
#: Files brought at once; each is in memory whole.
AT_ONCE = 4
#: Links looked at at once, and seconds for each.
LOOKS, LOOK_TIMEOUT = 16, 20.0
#: Bytes that tell what an image is.
MAGIC_BYTES = 12
CONTENT_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
UNITS = 1024 * 1024

Tell = Callable[[int], None]  # how many so far


def place_of(name: str) -> str:
    """Where a file's bytes lie below the destination."""
    return f"{OWN}/references/{name}"


def content_type_of(name: str) -> str:
    """What the bytes are, by the name we gave them."""
    return CONTENT_TYPES[Path(name).suffix]


# -- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What is known of a file: an image, or the problem with it."""

    sha256: str = ""
    ext: str = ""
    size: int = 0
    problem: str = ""


class Files:
    """Finds what words in a manifest stand for. `folder`: None for a manifest from elsewhere, which names no files.

    `unreadable`: by hash of the words, links that were looked at and did not work.
    """

    def __init__(
        self,
        folder: Path | None,
        unreadable: Mapping[int, str] | None = None,
        *,
        reads: Sequence[str] | None = None,
    ) -> None:
        """`reads`: prefixes below which it may name objects; None: any."""
        self._folder, self._reads = folder, reads
        self._unreadable = unreadable or {}
        self._known: OrderedDict[tuple[str, int, int], _Read] = OrderedDict()
        self._forgot = False

    def find(self, words: str) -> Reference:
        """As `jobs.planning.references.References` says."""
        if why := self._unreadable.get(hash(words)):
            raise ValueError(why)
        if is_object(words) and self._reads is not None and not any(is_below(words, each) for each in self._reads):
            raise ValueError(f"this token may read objects {readable(self._reads)}")
        if is_link(words) or is_object(words):
            return LinksOnly().find(words)
        read = self._look(self.path_of(words))
        if read.problem:
            raise ValueError(read.problem)
        return Reference(as_file(words, read.sha256, read.ext), read.size)

    def path_of(self, words: str) -> Path:
        """The file that these words name; ValueError when they name none."""
        if words.startswith("file://"):
            parts = urlsplit(words)
            if parts.netloc not in {"", "localhost"}:
                raise ValueError(LEGAL)  # file://photos/x.png is not meant as /x.png
            words = unquote(parts.path)
        elif "://" in words or DATA_URI.match(words) or "\0" in words:
            raise ValueError(LEGAL)
        if self._folder is None:
            raise ValueError(
                "a manifest from elsewhere may not name files of this machine: links, or s3://… and the like"
            )
        return self._folder / words

    def _look(self, path: Path) -> _Read:
        try:
            found = path.stat()
        except (OSError, ValueError):
            return _Read(problem=f"no such file: {path}. A link begins with http:// or https://")
        key = (str(path), found.st_mtime_ns, found.st_size)
        if key not in self._known:
            self._known[key] = _read(path, found)
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
            self._forgot = True
        return self._known[key]

    def may_have_changed(self) -> bool:
        """Whether a file that was found may be another by now. True also where there were too many to remember."""
        return self._forgot or any(_is_another(path, modified, size) for path, modified, size in self._known)


def _is_another(path: str, modified: int, size: int) -> bool:
    try:
        found = Path(path).stat()
    except OSError:
        return True
    return (found.st_mtime_ns, found.st_size) != (modified, size)


def _read(path: Path, found: os.stat_result) -> _Read:
    if not stat.S_ISREG(found.st_mode):
        return _Read(problem=f"no file: {path}")
    if found.st_size > LARGEST:
        return _Read(problem=f"{path} has {found.st_size / UNITS:.1f} MB; a reference may have {LARGEST // UNITS}")
    try:
        checked = check(path, usual=True)
    except BadImage as bad:
        # What is in a file that is no image stays in it: it may be `.env`, named by mistake.
        why = "" if bad.code == "not_an_image" else f": {bad.message}"
        return _Read(problem=f"{path} is no whole PNG, JPEG or WebP{why}")
    except OSError as error:
        return _Read(problem=f"{path} cannot be read: {error.strerror or error}")
    return _Read(sha256=checked.sha256, ext=checked.ext, size=checked.size)


@dataclass(slots=True)
class Recent:
    """Bytes of files that were read lately, by their hash: one picture may be in every row's request."""

    most: int = 64 * UNITS  # bytes in all
    _bytes: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _size: int = 0

    def get(self, name: str) -> bytes | None:
        """A file's bytes, where they are kept."""
        if name in self._bytes:
            self._bytes.move_to_end(name)
        return self._bytes.get(name)

    def keep(self, name: str, content: bytes) -> None:
        """Keeps them, and lets go of those that were not asked for longest."""
        if name not in self._bytes:
            self._bytes[name] = content
            self._size += len(content)
        while self._size > self.most:
            _, gone = self._bytes.popitem(last=False)
            self._size -= len(gone)


# -- bringing ------------------------------------------------------------------------------------------------------


def bring(store: Store, files: Files, references: Iterable[str], tell: Tell | None = None) -> int:
    """Puts each file into the destination, unless it is there; returns how many there are. Nothing is paid yet."""
    brought = 0
    for brought, _ in enumerate(side_by_side(lambda each: _bring(store, files, each), _once(references), AT_ONCE), 1):
        if tell:
            tell(brought)
    return brought


def _bring(store: Store, files: Files, reference: str) -> None:
    words, name = words_of(reference), file_name(reference) or ""
    place, path = place_of(name), files.path_of(words)
    there = store.look(place)
    if there is not None:
        # To read each again would cost as much as to bring it; a stranger's object or a cut one shows by its size.
        if there.size != _size(path) and not has_hash(name, store.sha256_of(place)):
            raise BadInput(f"{store.url_of(place)} has other bytes than its name says. Nothing was paid; delete it.")
        return
    content = _content(path)
    if not has_hash(name, hashlib.sha256(content).hexdigest()):
        raise BadInput(f"{words} changed while the manifest was read. Nothing was paid; run again.")
    store.put_new(place, content, content_type=content_type_of(name))


def has_hash(name: str, sha256: str | None) -> bool:
    """Whether these are the bytes that a file is known by."""
    return sha256 == name.partition(".")[0]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}. Nothing was paid.") from error


def _once(references: Iterable[str]) -> Iterator[str]:
    """Without those that came lately; a file that comes again much later is looked for, and found there."""
    lately: OrderedDict[str, None] = OrderedDict()
    for reference in references:
        if reference not in lately:
            yield reference
        lately[reference] = None
        lately.move_to_end(reference)
        if len(lately) > REMEMBERED:
            lately.popitem(last=False)


# -- looking at what is elsewhere ----------------------------------------------------------------------------------


def look_at(
    words: Iterable[str], *, allow_private_hosts: bool, proxies: Proxies = NO_PROXIES, tell: Tell | None = None
) -> dict[int, str]:
    """Looks once at each link and object; those that cannot be read, by the hash of their words, with the reason."""
    return asyncio.run(_look_at(words, Http(allow_private_hosts=allow_private_hosts, proxies=proxies), tell))


async def _look_at(words: Iterable[str], http: Http, tell: Tell | None) -> dict[int, str]:
    stores = _Stores()
    elsewhere, unreadable = _elsewhere(words), dict[int, str]()
    looked = 0

    async def look() -> None:
        nonlocal looked
        for each in elsewhere:  # shared: each is taken by one of these
            problem = await (_problem_of_link(http, each) if is_link(each) else asyncio.to_thread(stores.problem, each))
            if problem:
                unreadable[hash(each)] = problem
            looked += 1
            if tell:
                tell(looked)

    try:
        await asyncio.gather(*(look() for _ in range(LOOKS)))
    finally:
        await http.close()
    return unreadable


def _elsewhere(words: Iterable[str]) -> Iterator[str]:
    seen: set[int] = set()
    for each in words:
        if hash(each) not in seen and (is_link(each) or is_object(each)):
            seen.add(hash(each))
            yield each


class _Start:
    """Takes the first bytes of a body, and then no more."""

    def __init__(self) -> None:
        self.bytes = b""

    def write(self, data: bytes, /) -> None:
        self.bytes += data[:MAGIC_BYTES]
        if len(self.bytes) >= MAGIC_BYTES:
            raise _EnoughError


class _EnoughError(Exception):
    pass


async def _problem_of_link(http: Http, link: str) -> str | None:
    start = _Start()
    try:
        await http.download(link, start, limit=LARGEST, timeout=LOOK_TIMEOUT)
    except _EnoughError:
        pass
    except FetchError as error:
        return f"cannot be read: {error.message}"
    return None if is_image(start.bytes) else "gives no PNG, JPEG or WebP"


def is_image(start: bytes) -> bool:
    """Whether a body that begins so is an image that the providers take."""
    webp = start.startswith(b"RIFF") and start[8:12] == b"WEBP"
    return webp or start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


class _Stores:
    """The buckets that objects are in, each opened once."""

    def __init__(self) -> None:
        self._opened: dict[str, Store] = {}

    def problem(self, reference: str) -> str | None:
        bucket, key = bucket_and_key(reference)
        try:
            store = self._opened.setdefault(bucket, self._opened.get(bucket) or open_store(bucket))
            found = store.look(key)
        except StoreError as error:
            return f"cannot be read: {error.message}"
        if found is None:
            return "there is no such object"
        return None if found.size <= LARGEST else f"has {found.size / UNITS:.1f} MB; at most {LARGEST // UNITS}"


def bucket_and_key(reference: str) -> tuple[str, str]:
    """s3://bucket, and the key in it."""
    scheme, _, rest = reference.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key
