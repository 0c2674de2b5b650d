"""Asking before money is spent: once, and only for what was not agreed to yet."""

from __future__ import annotations

import sys

from cli.flow.options import is_terminal
from cli.flow.session import note
from cli.output import terminal
from jobs import formatting
from jobs.errors import BadInput, Interrupted
from jobs.formatting import plain
from jobs.results import sentences


def agree(amount: int, *, unpriced: int = 0, yes: bool, sandbox: bool, command: str, again: str = "") -> None:
    """Returns when the user agrees to `amount` micro-dollars, and `unpriced` images whose price nobody knows.

    `again`: why this looks like a mistake, where a plain --yes is not enough: a person who sees it may say so, a script
    needs --buy-again. The stand-in's images cost nothing: there only such a mistake is asked about, as the run that
    follows the rehearsal will, and any other question is shown and not asked.

    Raises:
        BadInput: the user said no, or there is nobody to ask and no --yes.
    """
    if again and (yes or not is_terminal()):
        raise BadInput(f"{again}. --yes alone does not buy that: add --buy-again. Nothing was spent.")
    if not again and (yes or not (amount or unpriced)):
        return
    cost = _cost(amount, unpriced)
    if sandbox and not again:
        _show(f"Spend {cost}?")
        return
    if not is_terminal():
        raise BadInput(
            f"{command} would spend {cost}, and there is no terminal to ask at: add --yes. Nothing was spent."
        )
    _demand_yes(f"{f'{again} (--buy-again). ' if again else ''}Spend {cost}?", "Nothing was spent.")


def confirm(question: str, *, yes: bool, sandbox: bool, command: str) -> None:
    """Returns when the user says yes to something that costs nothing by itself. With the stand-in it is only shown.

    Raises:
        BadInput: the user said no, or there is nobody to ask and no --yes.
    """
    if yes:
        return
    if sandbox:
        _show(question)
        return
    if not is_terminal():
        raise BadInput(f"{command} asks first, and there is no terminal to ask at: add --yes. Nothing was changed.")
    _demand_yes(question, "Nothing was changed.")


def _show(question: str) -> None:
    note(f'goes on without asking; for real this asks "{plain(question)}" first, and without a terminal it needs --yes')


def _demand_yes(question: str, nothing: str) -> None:
    """Asks. `nothing`: what is said after any other answer, after Ctrl-D, and after Ctrl-C, which ends with 130."""
    terminal.end_tally()
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise Interrupted(f"stopped by Ctrl-C. {nothing}") from None
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    if answer.strip().lower() not in ("y", "yes"):
        raise BadInput(f"You did not agree. {nothing}")


def _cost(amount: int, unpriced: int) -> str:
    images = f"{formatting.count(unpriced, 'image')} at a price nobody knows"
    if not unpriced:
        return f"{sentences.at_most(amount)}"
    return f"{sentences.at_most(amount)} and {images}" if amount else images
