"""Exports into folders and into buckets whose process dies, and what is then there."""

from __future__ import annotations

import hashlib
import tarfile

from jobs.export.options import ExportOptions
from worker.export.export import export
from worker.storage.base import ObjectInfo, PutResult, Store
from worker.storage.destinations import Destinations
from worker.storage.opening import open_store


def run(ledger, dest, *, names=("b",), opener=open_store, tell=lambda *_: None, pool=None, **options):
    batches = [ledger.batches.find(name) for name in names]
    asked = ExportOptions(**{"shape": "webdataset", "shard_size": 600, "near_duplicates": "keep", **options})
    return export(ledger, batches, asked, str(dest), stores=Destinations(opener=opener), tell=tell, pool=pool)


def files(dest):
    return {path.relative_to(dest).as_posix(): path.read_bytes() for path in dest.rglob("*") if path.is_file()}


def samples(dest):
    """Of each sample its split, caption, record and picture, by name."""
    found = {}
    for path in sorted(dest.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                name, _, ending = member.name.partition(".")
                sample = found.setdefault(name, {"split": path.name.split("-")[0]})
                assert ending not in sample, "twice"
                sample[ending] = tar.extractfile(member).read()
    return found


class Died(BaseException):
    """The process is gone."""


class DyingStore(Store):
    """A bucket in memory whose process dies at a write: before it, or when it is done and nobody knows yet."""

    def __init__(self, at=0, *, after=False):
        self.held, self.writes, self.at, self._after = {}, 0, at, after

    def _write(self, do):
        self.writes += 1
        if self.writes == self.at and not self._after:
            raise Died
        done = do()
        if self.writes == self.at:
            raise Died
        return done

    def put_new(self, path, data, **_):
        return self._write(lambda: self._put_new(path, data))

    def _put_new(self, path, data):
        content = data if isinstance(data, bytes) else data.read_bytes()
        return PutResult.STORED if self.held.setdefault(path, content) is content else PutResult.EXISTS

    def put(self, path, data, **_):
        self._write(lambda: self.held.update({path: data}))

    def read(self, path):
        return self.held.get(path)

    def sha256_of(self, path):
        return hashlib.sha256(self.held[path]).hexdigest()

    def objects(self, below=""):
        return iter([path for path in self.held if path.startswith(f"{below}/" if below else "")])

    def delete(self, path):
        self._write(lambda: self.held.pop(path, None))

    def look(self, path):
        return ObjectInfo(size=len(self.held[path])) if path in self.held else None

    presign = url_of = None
