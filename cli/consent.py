"""Asking before money is spent: once, and only for what was not agreed to yet."""

from __future__ import annotations

import sys

from cli import wording
from cli.options import is_terminal
from jobs.errors import BadInput


def agree(amount: int, *, unpriced: int = 0, yes: bool, sandbox: bool, command: str) -> None:
    """Returns when the user agrees to `amount` micro-dollars, and `unpriced` images whose price nobody knows.

    Raises:
        BadInput: the user said no, or there is nobody to ask and no --yes.
    """
    if yes or sandbox or not (amount or unpriced):
        return
    cost = _cost(amount, unpriced)
    if not is_terminal():
        raise BadInput(
            f"{command} would spend {cost}, and there is no terminal to ask at: add --yes. Nothing was spent."
        )
    sys.stderr.write(f"Spend {cost}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("You did not agree. Nothing was spent.")


def confirm(question: str, *, yes: bool, sandbox: bool, command: str) -> None:
    """Returns when the user says yes to something that costs nothing.

    Raises:
        BadInput: the user said no, or there is nobody to ask and no --yes.
    """
    if yes or sandbox:
        return
    if not is_terminal():
        raise BadInput(f"{command} asks first, and there is no terminal to ask at: add --yes. Nothing was changed.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("You did not agree. Nothing was changed.")


def _cost(amount: int, unpriced: int) -> str:
    images = f"{wording.count(unpriced, 'image')} at a price nobody knows"
    if not unpriced:
        return f"about {wording.money(amount)}"
    return f"about {wording.money(amount)} and {images}" if amount else images
