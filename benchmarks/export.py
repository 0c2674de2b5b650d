"""`lightfast export` of many small images beside a bare loop that reads and tars them: images a second, peak memory."""

from __future__ import annotations

import argparse
import hashlib
import random
import sqlite3
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.measure import LIGHTFAST, Took, python, run, show

#: Bytes of an image. What is in it does not matter: nothing decodes it.
SIZE = 10_000
MB = 1_000_000


def measure(images: int) -> list[tuple[str, str]]:
    """Both, one after the other, of the same files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python("benchmarks.export", "--fill", str(images)), folder=folder)
        bare = run(python("benchmarks.export", "--bare"), folder=folder)
        words = ("export", "b", "--as", "webdataset", "--quiet", "--to")
        few = run([LIGHTFAST, *words, "none", "--caption", "{nothing}"], folder=folder, ends_with=2)
        ours = run([LIGHTFAST, *words, "set"], folder=folder)
        return [
            (f"bare: {images:,} images", _said(bare, images)),
            ("export", _said(ours, images)),
            ("export: of that, the start and the first look at all rows", f"{few.wall:.1f} s"),
            ("export: peak memory", f"{ours.peak / MB:.0f} MB"),
            ("ratio of their times", f"{ours.wall / bare.wall:.2f}"),
            ("ratio of their CPU", f"{ours.cpu / bare.cpu:.2f}"),
        ]


def _said(took: Took, images: int) -> str:
    return f"{images / took.wall:,.0f} images a second, {took.cpu / images * 1e6:,.0f} us of CPU an image"


def _fill(images: int) -> None:
    """A ledger whose images are all stored, and their files."""
    from jobs.ledger import open_ledger  # noqa: PLC0415  the bare loop goes without
    from jobs.ledger.batches.values import NewBatch  # noqa: PLC0415  the same

    out = Path("images").absolute()
    ledger = open_ledger(f"sqlite:///{Path('lightfast.db').absolute()}")
    new = NewBatch(name="b", dest=str(out), path="", columns=("key", "style"), source="b.csv")
    ledger.batches.record_manifest(new, list(_rows(images)), now=time.time())
    ledger.close()
    rng = random.Random(7)
    with closing(sqlite3.connect("lightfast.db")) as file:
        ids = [number for (number,) in file.execute("SELECT id FROM images ORDER BY id")]
        for at, number in enumerate(ids):
            path = out / f"{at // 1000:04}/{at}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = rng.randbytes(SIZE)
            path.write_bytes(data)
            told = (path.relative_to(out).as_posix(), hashlib.sha256(data).hexdigest(), SIZE, number)
            file.execute(
                "UPDATE images SET state = 'stored', format = 'png', width = 64, height = 64, stored_at = 1e9, "
                "object_path = ?, sha256 = ?, bytes = ? WHERE id = ?",
                told,
            )
        file.commit()


def _rows(number: int) -> Iterator[object]:
    import orjson  # noqa: PLC0415  as above

    from jobs.ledger.batches.values import Row  # noqa: PLC0415  as above
    from providers.types import Request  # noqa: PLC0415  as above

    for at in range(number):
        request = Request(prompt=f"A lamp of kind {at}, in a quiet room with a window", model="gpt-image-2")
        yield Row(
            position=at, line=at + 2, key=f"lamp-{at}", carried=orjson.dumps({"key": f"lamp-{at}", "style": "oil"}),
            request=request, request_hash=request.hash(), path=f"b/{at}.{{ext}}", provider="maxapi.io",
            provider_model="gpt-image-2/text-to-image", price=20_000, pixels=(64, 64), max_n=1,
        )  # fmt: skip


def _bare() -> None:
    """Reads and tars; remembers nothing, compares nothing, and tells nothing of the images."""
    with tarfile.open("bare.tar", "w") as tar:
        for path in sorted(Path("images").rglob("*.png")):
            tar.add(path, path.name)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fill:
        _fill(asked.fill)
    elif asked.bare:
        _bare()
    else:
        show(f"Export ({asked.images:,} images of {SIZE:,} bytes, folder to folder)", measure(asked.images))


if __name__ == "__main__":
    sys.exit(main())
