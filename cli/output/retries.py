"""Which rows a retry takes and which it does not, and the sentences about both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from jobs.command_lines import command
from jobs.errors import CODES, GIVEN_UP_ROWS, REFUSED_AGAIN, BadInput
from jobs.formatting import count, listed
from jobs.policy.reuse import Reuse
from jobs.results.rows import HELD_CODE, near

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.planning.made_meanwhile import MadeMeanwhile

#: Rows whose images have other pixels than asked for, and rows that a provider refuses as not legal.
WRONG, ILLEGAL = "wrong_pixels", "invalid_parameters"


def retried(errors: Mapping[str, int]) -> int:
    """Rows that a plain retry takes. `errors`: rows by the code they ended with."""
    left = ("moderation", WRONG, *GIVEN_UP_ROWS)
    return sum(number for code, number in errors.items() if code not in left)


def helps(batch: str, errors: Mapping[str, int], *, sandbox: bool = False) -> Iterator[str]:
    """What helps rows that ended badly: a sentence each, and where a command helps, the command at its end."""
    told = (_again, _illegal, misshapen)
    yield from filter(None, (each(batch, errors, sandbox=sandbox) for each in told))
    if refused := moderated(errors):
        yield f"{refused}: change the prompt in the manifest, then run again"
    if stay := given_up(errors):
        yield stay


def _again(batch: str, errors: Mapping[str, int], *, sandbox: bool = False) -> str:
    """The retry that may help, at the end of its line; "" where all rows would be refused again as they are."""
    hopeless = (*REFUSED_AGAIN, WRONG, *GIVEN_UP_ROWS)
    hopeful = {code: number for code, number in errors.items() if number and code not in hopeless}
    if not hopeful:
        return ""
    only = ("--error", next(iter(hopeful))) if errors.get(ILLEGAL) and len(hopeful) == 1 else ()
    rows = count(sum(hopeful.values()) if only else retried(errors), "row")
    return f"to pay for another try of {rows}:  {command('retry', batch, *only, sandbox=sandbox)}"


def _illegal(batch: str, errors: Mapping[str, int], *, sandbox: bool = False) -> str:
    """What helps rows that a provider calls not legal; "" where there are none."""
    number = errors.get(ILLEGAL, 0)
    look = command("results", batch, "--only", ILLEGAL, sandbox=sandbox)
    verb = "was" if number == 1 else "were"
    rows = f"{count(number, 'row')} {verb} refused as not legal, and would be again"
    return f"{rows}: change them in the manifest, then run it. What was said of each:  {look}" if number else ""


def moderated(errors: Mapping[str, int]) -> str:
    """What becomes of rows that a plain retry leaves alone; "" where there are none."""
    number = errors.get("moderation", 0)
    verb = "was refused by moderation and is" if number == 1 else "were refused by moderation and are"
    return f"{count(number, 'row')} {verb} not retried without --error moderation" if number else ""


def given_up(errors: Mapping[str, int]) -> str:
    """What becomes of rows that a person gave up, in a retry that names no rows; "" where there are none."""
    number = sum(errors.get(code, 0) for code in GIVEN_UP_ROWS)
    stay = "was given up stays so" if number == 1 else "were given up stay so"
    return (
        f"{count(number, 'row')} that {stay}; `retry --key` takes {'it' if number == 1 else 'them'}" if number else ""
    )


def misshapen(batch: str, errors: Mapping[str, int], *, sandbox: bool = False) -> str:
    """Rows whose images are stored with other pixels than asked for, under --strict-size; "" where there are none."""
    number = errors.get("wrong_pixels", 0)
    redo = command("redo", batch, "--error", "wrong_pixels", sandbox=sandbox)
    return f"to pay for new images beside those of {count(number, 'row')} with other pixels:  {redo}" if number else ""


def held(batch: str, number: int, *, sandbox: bool = False) -> str:
    """What becomes of held rows, which no retry takes; "" where there are none."""
    look = command("unknown", batch, sandbox=sandbox)
    verb = "is held, and is" if number == 1 else "are held, and are"
    return f"{count(number, 'row')} {verb} not retried before you decide:  {look}" if number else ""


def nothing_to_retry(batch: str, error: str, errors: Mapping[str, int], held_rows: int = 0) -> str:
    """Why a retry found no row. `error`: the code it was asked for. `held_rows`: rows whose outcome is unknown."""
    if held_rows and (not errors or error == HELD_CODE):
        return held(batch, held_rows)
    if error and error not in CODES and error not in errors:
        raise BadInput(f'--error: "{error}" is no code (docs/reference/errors.md). {near(error, errors or CODES)}')
    if error == "wrong_pixels" and errors.get(error):
        return misshapen(batch, errors)
    there = f"; there are {listed(errors)}" if errors else ""
    if error:
        return f"no row of {batch} ended with {error}{there}"
    refused = moderated(errors)
    why = [f"{refused}; change the prompt and run"] * bool(refused) + [given_up(errors)] * bool(given_up(errors))
    return f"nothing to do in {batch}{': ' + '; '.join(why) if why else there}"


def made_meanwhile_lines(
    batch: Batch, made: MadeMeanwhile, to_pay: int, how: Reuse | None, known: Sequence[Batch]
) -> Iterator[str]:
    """What other batches have made of the rows that are to be made again: taken for nothing, or bought twice."""
    names = {each.id: each.name for each in known}
    told, buyers = _named(made.batches, names), _named(made.buyers, names)
    if how and (taken := len(made.takeable)):
        verb = "named where they are" if how is Reuse.LINK else "copied from where they are"
        yield f"the images of {count(taken, 'row')} were made meanwhile ({told}): {verb}, and not paid for"
    if twice := made.bought_twice(reuse=how is not None) - made.waiting:
        has = "has" if twice == 1 else "have"
        yield f"{twice:,} of {count(to_pay, 'row')} to be paid {has} a request that was made already: {told}"
        if how:
            yield "nothing can be taken for them: made anew since, or incomplete; only --buy-again buys them"
        elif made.takeable:
            yield f"to take their images for nothing:  {command('retry', batch.name, '--reuse', sandbox=batch.sandbox)}"
    if made.waiting:
        has = "has" if made.waiting == 1 else "have"
        yield (
            f"{made.waiting:,} of {count(to_pay, 'row')} to be paid {has} a request that waits in another batch, which "
            f"will buy it: {buyers}"
        )
        first = next((names[each] for each in made.buyers if each in names), "")
        yield f"to go on there:  {command('retry', first, sandbox=batch.sandbox)}"


def _named(batches: Sequence[int], names: Mapping[int, str]) -> str:
    where = [names[each] for each in batches if each in names]
    return f"{', '.join(where[:3])}{' …' if len(where) > 3 else ''}"  # noqa: PLR2004  a line's worth


def bought_twice_words(made: MadeMeanwhile, to_pay: int, how: Reuse | None) -> str:
    """Why a plain yes is not enough; "" where it is."""
    is_reused = how is not None
    if not made.needs_buy_again(to_pay, reuse=is_reused):
        return ""
    were_made = made.bought_twice(reuse=is_reused) - made.waiting
    parts = [f"{were_made:,} of {count(to_pay, 'row')} to be paid were made already"] * bool(were_made)
    if made.waiting:
        waits = "waits" if made.waiting == 1 else "wait"
        parts.append(f"{made.waiting:,} of {count(to_pay, 'row')} to be paid {waits} in another batch")
    return ", and ".join(parts)
