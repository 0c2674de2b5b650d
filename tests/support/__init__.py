"""What tests share: servers, worlds, samples, patience."""

from __future__ import annotations

from pathlib import Path

#: The repository.
ROOT = Path(__file__).parents[2]
