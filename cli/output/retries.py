"""Which rows a retry takes and which it does not, and the sentences about both."""

from __future__ import annotations

from collections.abc import Mapping

from cli.output.commands import command
from jobs.errors import CODES, BadInput
from jobs.formatting import count, listed
from jobs.results.rows import near


def retried(errors: Mapping[str, int]) -> int:
    """Rows that a plain retry takes. `errors`: rows by the code they ended with."""
    return sum(errors.values()) - errors.get("moderation", 0) - errors.get("wrong_pixels", 0)


def moderated(errors: Mapping[str, int]) -> str:
    """What becomes of rows that a plain retry leaves alone; "" where there are none."""
    number = errors.get("moderation", 0)
    verb = "was refused by moderation and is" if number == 1 else "were refused by moderation and are"
    return f"{count(number, 'row')} {verb} not retried without --error moderation" if number else ""


def misshapen(batch: str, errors: Mapping[str, int], *, sandbox: bool = False) -> str:
    """Rows whose images are stored with other pixels than asked for, under --strict-size; "" where there are none."""
    number = errors.get("wrong_pixels", 0)
    redo = command("redo", batch, "--error", "wrong_pixels", sandbox=sandbox)
    return f"to pay for new images beside those of {count(number, 'row')} with other pixels:  {redo}" if number else ""


def nothing_to_retry(batch: str, error: str, errors: Mapping[str, int]) -> str:
    """Why a retry found no row. `error`: the code it was asked for."""
    if error and error not in CODES and error not in errors:
        raise BadInput(f'--error: "{error}" is no code (docs/reference/errors.md). {near(error, errors or CODES)}')
    if error == "wrong_pixels" and errors.get(error):
        return misshapen(batch, errors)
    there = f"; there are {listed(errors)}" if errors else ""
    if error:
        return f"no row of {batch} ended with {error}{there}"
    refused = moderated(errors)
    return f"nothing to do in {batch}{f': {refused}; change the prompt and run' if refused else there}"
