"""`lightfast export` of many small images beside a bare loop that reads and tars them: images a second, peak memory.

With `--pixels`, of real images, and also what it costs to look at them for near duplicates.
"""

from __future__ import annotations

import argparse
import hashlib
import io
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

#: Bytes of an image, where `--pixels` is not given. What is in it does not matter: nothing decodes it.
SIZE = 10_000
MB = 1_000_000


def measure(images: int, pixels: int = 0, kind: str = "png") -> list[tuple[str, str]]:
    """Both, one after the other, of the same files. `pixels`: of an image's side; 0: nothing that can be decoded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python("benchmarks.export", "--fill", str(images), "--pixels", str(pixels), "--kind", kind), folder=folder)
        bare = run(python("benchmarks.export", "--bare"), folder=folder)
        words = ("export", "b", "--as", "webdataset", "--near-duplicates", "keep", "--quiet", "--to")
        few = run([LIGHTFAST, *words, "none", "--caption", "{nothing}"], folder=folder, ends_with=2)
        ours = run([LIGHTFAST, *words, "set"], folder=folder)
        measured = [
            (f"bare: {images:,} images", _said(bare, images)),
            ("export", _said(ours, images)),
            ("export: of that, the start and the first look at all rows", f"{few.wall:.1f} s"),
            ("export: peak memory", f"{ours.peak / MB:.0f} MB"),
            ("ratio of their times", f"{ours.wall / bare.wall:.2f}"),
            ("ratio of their CPU", f"{ours.cpu / bare.cpu:.2f}"),
        ]
        if pixels:
            words = ("export", "b", "--as", "webdataset", "--quiet", "--to", "flagged")
            looked = run([LIGHTFAST, *words], folder=folder)
            measured += [
                ("export that looks at its images", _said(looked, images)),
                ("... peak memory of one of its processes", f"{looked.peak / MB:.0f} MB"),
                ("... ratio of the times, looking / not", f"{looked.wall / ours.wall:.2f}"),
                ("... ratio of the CPU", f"{looked.cpu / ours.cpu:.2f}"),
            ]
        return measured


def _said(took: Took, images: int) -> str:
    pace = f"{images / took.wall:,.0f} images a second"
    return f"{took.wall:.1f} s, {pace}, {took.cpu / images * 1e6:,.0f} us of CPU an image"


def _fill(images: int, pixels: int, kind: str) -> None:
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
            data = _drawn(pixels, kind) if pixels else rng.randbytes(SIZE)
            path.write_bytes(data)
            told = (path.relative_to(out).as_posix(), hashlib.sha256(data).hexdigest(), len(data), number)
            file.execute(
                "UPDATE images SET state = 'stored', format = 'png', width = 64, height = 64, stored_at = 1e9, "
                "object_path = ?, sha256 = ?, bytes = ? WHERE id = ?",
                told,
            )
        file.commit()


def _drawn(pixels: int, kind: str) -> bytes:
    """Clouds of any colour, with grain."""
    from PIL import Image  # noqa: PLC0415  as above

    def cloud() -> Image.Image:
        large = Image.effect_noise((9, 9), 90).resize((pixels, pixels), Image.Resampling.BICUBIC)
        return Image.blend(large, Image.effect_noise((pixels, pixels), 20), 0.1)

    file = io.BytesIO()
    Image.merge("RGB", [cloud() for _ in range(3)]).save(file, kind)
    return file.getvalue()


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
    parser.add_argument("--pixels", type=int, default=0, help="of an image's side; the export looks at them, too")
    parser.add_argument("--kind", choices=("png", "jpeg", "webp"), default="png", help="of images with --pixels")
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.fill:
        _fill(asked.fill, asked.pixels, asked.kind)
    elif asked.bare:
        _bare()
    else:
        what = f"{asked.pixels} pixels a side, {asked.kind}" if asked.pixels else f"{SIZE:,} bytes"
        measured = measure(asked.images, asked.pixels, asked.kind)
        show(f"Export ({asked.images:,} images of {what}, folder to folder)", measured)


if __name__ == "__main__":
    sys.exit(main())
