"""Why a run ended, in sentences: made of what it found when it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.formatting import money
from jobs.results.completion import saved_words, unsaved_words
from jobs.results.reasons import why

if TYPE_CHECKING:
    from worker.local.run import RunEnding


def message(ending: RunEnding) -> str:
    """Why a run ended, and what it left without an answer."""
    said = why(ending.reason, ending.standing)
    if ending.unknown == 1:
        said += f" 1 submit was cut off before its answer: its outcome is unknown, at most {money(ending.money)}."
    elif ending.unknown:
        cut_off = f"{ending.unknown:,} submits were cut off before their answers: their outcomes are unknown"
        said += f" {cut_off}, at most {money(ending.money)}."
    return said + saved_words(ending.rescued, ending.rescue_file) + unsaved_words(ending.unsaved)
