"""`lightfast give-up`: ends rows whose paid images cannot be had. Nothing is paid; what was paid is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.consent import confirm
from cli.flow.options import BatchName, Config, Json, Sandbox, Sure
from cli.flow.session import LedgerSession, demand_key, find_batch, note, open_session, show, show_json
from jobs.command_lines import command, keyed
from jobs.errors import BadInput
from jobs.formatting import count, day_and_minute, here, money, usd
from jobs.results.sentences import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.policy.verification import AwaitedImage

Keys = Annotated[list[str] | None, typer.Option("--key", metavar="KEY", help="This row. May be repeated.")]
Line = tuple[str, str]


def give_up(
    batch: BatchName,
    *,
    key: Keys = None,
    yes: Sure = False,
    json: Json = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Ends rows whose paid images cannot be had, since their links stay dead or give something else for ever."""
    if not key:
        raise BadInput("give-up needs to know the rows: --key KEY, which may be repeated.")
    with open_session(config, sandbox=sandbox) as session:
        found = find_batch(session.ledger, batch)
        for each in key:
            demand_key(session.ledger, [batch], each)
        now = time.time() + session.ledger.clock_offset()
        waiting = session.ledger.images.awaited(batch, key, now)
        if waiting and not json:
            show(_told(waiting), sandbox=found.sandbox, stderr=True)
        if waiting:
            question = f"Give up {count(len(waiting), 'paid image')}, {money(_price(waiting))}?"
            confirm(question, yes=yes, sandbox=found.sandbox, command="give-up")
        given_up = session.ledger.images.give_up([each.image_id for each in waiting], now)
        lost = [each for each in waiting if each.image_id in given_up]
        _tell(session, batch, waiting, len(lost), key)
    if json:
        show_json({"batch": batch, "given_up": len(lost), "lost_usd": usd(_price(lost))})
    return 0


def _told(waiting: list[AwaitedImage]) -> Iterator[Line]:
    for each in waiting:
        last = ": ".join(part for part in (each.error_code, each.message) if part) or "not tried yet"
        dies = (
            f"; its link dies {day_and_minute(each.link_dies_at)}{here(each.link_dies_at)}" if each.link_dies_at else ""
        )
        tried = f"{count(each.tries, 'try').replace('trys', 'tries')}, the last: " if each.error_code else ""
        yield f"{each.key}, image {each.slot}: {tried}{one_line(last)}{dies}", ""


def _price(waiting: list[AwaitedImage]) -> int:
    return sum(each.price or 0 for each in waiting)


def _tell(session: LedgerSession, batch: str, waiting: list[AwaitedImage], given_up: int, keys: list[str]) -> None:
    sandbox = find_batch(session.ledger, batch).sandbox
    if not waiting:
        unknown = command("unknown", batch, sandbox=sandbox)
        note(f"Nothing to give up: no paid image of these rows waits to be stored. Unknown outcomes:  {unknown}")
        return
    if busy := len(waiting) - given_up:
        note(f"{count(busy, 'image')} left alone: a copy is under way just now. Look again in a while.")
    if given_up:
        retry = command("retry", batch, *keyed(*keys), sandbox=sandbox)
        note(f"{count(given_up, 'paid image')} given up, counted as lost. To make anew, and pay again:  {retry}")
