"""Manifests of any length: CSV of five columns, for a template prompt."""

from __future__ import annotations

import csv
from pathlib import Path

PROMPT = "Lifestyle photo of {Title} in {Colour}"
SETTINGS = '[accounts.main]\nprovider = "maxapi.io"\napi_key = "key"\n'


def manifest(folder: Path, rows: int, files: int = 0) -> Path:
    """A manifest of so many rows. `files`: its rows are made from `ref-0.png`, `ref-1.png` …, so many of them."""
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
