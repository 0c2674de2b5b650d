"""`lightfast plan` of a large manifest: rows a second, peak memory, bytes a row; with a new ledger and a filled one."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks import recording
from benchmarks.manifests import PROMPT, SETTINGS, manifest
from benchmarks.measure import LIGHTFAST, Took, run, show

MB = 1_000_000


def measure(few: int, many: int) -> list[tuple[str, str]]:
    """All there is to say, as lines of a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lightfast.toml").write_text(SETTINGS, encoding="utf-8")
        short, long = (_plan(manifest(folder, rows), folder) for rows in (few, many))
        lines = list(_of_plan("plan", long, many))
        lines.append(("plan: bytes a row more", f"{(long.peak - short.peak) / (many - few):.1f}"))
        lines += _filled(manifest(folder, many), folder, many)
        lines += _with_files(folder, min(few, 20_000))  # a file takes longer to make than its row to plan
    return lines


def _of_plan(name: str, took: Took, rows: int) -> Iterator[tuple[str, str]]:
    yield f"{name}: {rows:,} rows", f"{took.cpu:.1f} s of CPU, {rows / took.cpu:,.0f} rows a second"
    yield f"{name}: peak memory", f"{took.peak / MB:.0f} MB"


def _filled(file: Path, folder: Path, rows: int) -> Iterator[tuple[str, str]]:
    """Planning it again when it is on record."""
    recording.fill(file, folder, rows)
    yield from _of_plan("plan again", _plan(file, folder), rows)


def _with_files(folder: Path, rows: int) -> Iterator[tuple[str, str]]:
    """Rows made from local files: few that many rows name, and one a row."""
    for files, said in ((1_000, "1,000 files"), (rows, "a file a row")):
        for number in range(files):
            _picture(folder / f"ref-{number}.png", number)
        file = manifest(folder, rows, files=files)
        yield from _of_plan(f"plan from {said}", _plan(file, folder), rows)


def _picture(path: Path, number: int) -> None:
    if not path.exists():
        Image.new("RGB", (32, 32), (number % 256, number // 256 % 256, number // 65_536)).save(path)


def _plan(file: Path, folder: Path) -> Took:
    return run([LIGHTFAST, "plan", str(file), "--map", "key=Handle", "--prompt", PROMPT], folder=folder)


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--few", type=int, default=100_000)
    options.add_argument("--many", type=int, default=1_000_000)
    given = options.parse_args()
    show("Planning (CSV of five columns, a template prompt)", measure(given.few, given.many))


if __name__ == "__main__":
    main()
