"""`lightfast plan` of a large manifest: rows a second, peak memory, bytes a row; with a new ledger and a filled one."""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.measure import LIGHTFAST, Took, python, run, show

PROMPT = "Lifestyle photo of {Title} in {Colour}"
SETTINGS = '[accounts.main]\nprovider = "maxapi.io"\napi_key = "key"\n'
MB = 1_000_000


def measure(few: int, many: int) -> list[tuple[str, str]]:
    """All there is to say, as lines of a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lightfast.toml").write_text(SETTINGS, encoding="utf-8")
        short, long = (_plan(_manifest(folder, rows), folder) for rows in (few, many))
        lines = list(_of_plan("plan", long, many))
        lines.append(("plan: bytes a row more", f"{(long.peak - short.peak) / (many - few):.1f}"))
        lines += _filled(_manifest(folder, many), folder, many)
        lines += _with_files(folder, min(few, 20_000))  # a file takes longer to make than its row to plan
    return lines


def _of_plan(name: str, took: Took, rows: int) -> Iterator[tuple[str, str]]:
    yield f"{name}: {rows:,} rows", f"{took.cpu:.1f} s of CPU, {rows / took.cpu:,.0f} rows a second"
    yield f"{name}: peak memory", f"{took.peak / MB:.0f} MB"


def _filled(manifest: Path, folder: Path, rows: int) -> Iterator[tuple[str, str]]:
    """Recording them, and planning them again."""
    took = run(python("benchmarks.fill", str(manifest), PROMPT, str(folder / "images")), folder=folder)
    record = json.loads((folder / "out.log").read_text())["cpu"]
    yield f"record: {rows:,} rows", f"{record:.1f} s of CPU, {rows / record:,.0f} rows a second"
    yield "record: peak memory", f"{took.peak / MB:.0f} MB"
    yield "record: ledger", f"{(folder / 'lightfast.db').stat().st_size / rows:.0f} bytes a row"
    yield from _of_plan("plan again", _plan(manifest, folder), rows)


def _with_files(folder: Path, rows: int) -> Iterator[tuple[str, str]]:
    """Rows made from local files: few that many rows name, and one a row."""
    for files, said in ((1_000, "1,000 files"), (rows, "a file a row")):
        for number in range(files):
            _picture(folder / f"ref-{number}.png", number)
        manifest = _manifest(folder, rows, files=files)
        yield from _of_plan(f"plan from {said}", _plan(manifest, folder), rows)


def _picture(path: Path, number: int) -> None:
    if not path.exists():
        Image.new("RGB", (32, 32), (number % 256, number // 256 % 256, number // 65_536)).save(path)


def _plan(manifest: Path, folder: Path) -> Took:
    return run([LIGHTFAST, "plan", str(manifest), "--map", "key=Handle", "--prompt", PROMPT], folder=folder)


def _manifest(folder: Path, rows: int, files: int = 0) -> Path:
    path = folder / f"lamps-{rows}-{files}.csv"
    if path.exists():
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["Handle", "Title", "Vendor", "Colour", "ratio", *(["image_urls"] if files else [])])
        lines.writerows((*_row(number), *([f"ref-{number % files}.png"] if files else [])) for number in range(rows))
    return path


def _row(number: int) -> tuple[str, ...]:
    colour, ratio = ("oak", "ash", "walnut")[number % 3], ("1:1", "16:9", "3:2", "2:3")[number % 4]
    return f"item-{number:07}", f"Lamp number {number}", "Heron & Sons", colour, ratio


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--few", type=int, default=100_000)
    options.add_argument("--many", type=int, default=1_000_000)
    given = options.parse_args()
    show("Planning (CSV of five columns, a template prompt)", measure(given.few, given.many))


if __name__ == "__main__":
    main()
