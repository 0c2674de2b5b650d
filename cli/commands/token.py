"""`lightfast token …`: who may use the web pages and the APIs of `serve`, and who did what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import CONTEXT, Command
from cli.flow.options import Config, Json, Sandbox
from cli.flow.session import note, now_of, open_session, opened_or_made, put_on_log, show, show_json
from cli.flow.settings import NOWHERE, read_settings
from cli.output.wording import aligned
from jobs.errors import BadInput
from jobs.formatting import day_and_minute, money, usd, utc
from jobs.policy.access import NAME, Role, make_token

if TYPE_CHECKING:
    from jobs.ledger.access.values import LogEntry, NewToken, Token
    from jobs.policy.access import MadeToken

Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name: whoever has it.", show_default=False)]
AsRole = Annotated[
    str,
    typer.Option(
        "--role",
        metavar="ROLE",
        help="viewer sees · producer makes batches of its own, within a budget · operator does everything.",
        show_default=False,
    ),
]
Budget = Annotated[
    str | None, typer.Option("--daily-budget", metavar="USD", help="What a producer's batches of one UTC day may hold.")
]
To = Annotated[str, typer.Option("--to", metavar="PREFIX", help="A producer's images lie only below this.")]
Read = Annotated[
    list[str] | None,
    typer.Option("--read", metavar="PREFIX", help="A producer's manifests may name objects below this. Repeatable."),
]
Newest = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="So many of the newest entries.")]


def create(  # noqa: PLR0913  a command's options
    name: Name,
    *,
    role: AsRole,
    daily_budget: Budget = None,
    to: To = "",
    read: Read = None,
    json: Json = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Makes a token and shows it, once: only its hash is kept."""
    settings = read_settings(config, sandbox_url=NOWHERE if sandbox else None)
    made = make_token()
    new = _new_token(made, name, role, daily_budget=daily_budget, to=to, reads=tuple(read or ()))
    with opened_or_made(settings) as session:
        now = now_of(session)
        if not session.ledger.access.add(new, now):
            raise BadInput(
                f'There is, or was, a token called "{name}". The log names it, so a new one has another name.'
            )
        put_on_log(session, "token create", name, {"role": role})
        (token,) = [each for each in session.ledger.access.all() if each.name == name]
    if json:
        told = {**_document(token), "token": made.secret.get_secret_value()}
        show_json({"command": "token create", **told})
        return 0
    show([(made.secret.get_secret_value(), "bold")], sandbox=False)
    note(f"{_rights(token)}. It is not shown again: only its hash is kept.")
    return 0


def _new_token(
    made: MadeToken, name: str, role: str, *, daily_budget: str | None, to: str, reads: tuple[str, ...]
) -> NewToken:
    from jobs.ledger.access.values import NewToken
    from worker.registration.options import read_money, read_option
    from worker.registration.preflight import normal_dest

    problems = []
    if not NAME.fullmatch(name):
        problems.append(f'"{name}": a name has letters, digits, "-", "_" and ".", and at most 64 of them.')
    if role not in set(Role):
        problems.append(f'--role "{role}": one of {", ".join(Role)}.')
    is_producer = role == Role.PRODUCER
    if is_producer and daily_budget is None:
        problems.append("A producer needs --daily-budget: what its batches of one UTC day may hold.")
    if is_producer and not to:
        problems.append("A producer needs --to: the prefix below which its images lie.")
    if not is_producer and (daily_budget is not None or to or reads):
        problems.append("--daily-budget, --to and --read are a producer's.")
    problems += [f'--read "{each}": s3://bucket/prefix, gs://… or az://….' for each in reads if "://" not in each]
    if problems:
        raise BadInput(problems)
    return NewToken(
        name=name,
        role=Role(role),
        prefix=made.prefix,
        digest=made.digest,
        daily_budget=read_option("--daily-budget", daily_budget, read_money, None),
        writes_to=normal_dest(to) or None,
        reads=tuple(normal_dest(each) for each in reads),
    )


def list_(*, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """All tokens: their roles, what they hold of today, and when they were last used."""
    with open_session(config, sandbox=sandbox) as session:
        now = now_of(session)
        every = session.ledger.access.all()
        held = {each.id: session.ledger.access.held_today(each, now) for each in every if each.daily_budget is not None}
    if json:
        show_json({"command": "token list", "tokens": [_document(each, held.get(each.id)) for each in every]})
        return 0
    show(_table(every, held), sandbox=session.settings.is_sandbox)
    return 0


def revoke(name: Name, *, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Ends a token at once. Its batches go on; the log keeps its name."""
    with open_session(config, sandbox=sandbox) as session:
        now = now_of(session)
        token = session.ledger.access.revoke(name, now)
        if token is None:
            raise BadInput(f'There is no token called "{name}": `lightfast token list` names them.')
        if token.revoked_at == now:
            put_on_log(session, "token revoke", name)
    if json:
        show_json({"command": "token revoke", **_document(token)})
    else:
        before = "" if token.revoked_at == now else f", since {day_and_minute(token.revoked_at or now)}"
        note(f"{name} is revoked{before}: it opens nothing any more. Its batches go on.")
    return 0


def log(*, limit: Newest = 50, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Who did what, the newest first: on the pages, by the APIs, and with tokens."""
    with open_session(config, sandbox=sandbox) as session:
        entries = session.ledger.access.log(limit)
    if json:
        show_json({"command": "token log", "entries": [_entry_document(each) for each in entries]})
        return 0
    rows = [(day_and_minute(each.at), each.who, each.action, each.subject or "", _said(each)) for each in entries]
    head, *lines = aligned([("TIME", "WHO", "DID", "TO", ""), *rows])
    show([(head, "bold"), *((line, "") for line in lines)] if rows else [("Nothing was done yet.", "")])
    return 0


# -- words ---------------------------------------------------------------------------------------------------------


def _table(tokens: list[Token], held: dict[int, int]) -> Iterator[tuple[str, str]]:
    if not tokens:
        yield "No token yet: lightfast token create NAME --role operator", ""
        return
    rows = [
        (each.name, f"{each.prefix}…", each.role.value, _today(each, held), each.writes_to or "", _state(each))
        for each in tokens
    ]
    head, *lines = aligned([("NAME", "TOKEN", "ROLE", "HELD TODAY", "BELOW", "LAST USED"), *rows])
    yield head, "bold"
    for each, line in zip(tokens, lines, strict=True):
        yield line, "dim" if each.revoked_at else ""


def _today(token: Token, held: dict[int, int]) -> str:
    return "" if token.daily_budget is None else f"{money(held[token.id])} of {money(token.daily_budget)}"


def _state(token: Token) -> str:
    if token.revoked_at is not None:
        return f"revoked {day_and_minute(token.revoked_at)}"
    return day_and_minute(token.used_at) if token.used_at is not None else "never"


def _rights(token: Token) -> str:
    if token.role is not Role.PRODUCER:
        sees = {Role.VIEWER: "sees everything, and changes nothing", Role.OPERATOR: "may do everything"}
        return f"{token.name} {sees[token.role]}"
    reads = f", reads objects below {' and '.join(token.reads)}" if token.reads else ""
    a_day = money(token.daily_budget or 0)
    return f"{token.name} makes batches of its own for up to {a_day} a day (UTC), below {token.writes_to}{reads}"


def _said(entry: LogEntry) -> str:
    return ", ".join(f"{name} {value}" for name, value in entry.detail.items())


def _document(token: Token, held: int | None = None) -> dict[str, Any]:
    return {
        "name": token.name,
        "role": token.role.value,
        "prefix": token.prefix,
        "daily_budget_usd": usd(token.daily_budget),
        "held_today_usd": usd(held),
        "to": token.writes_to,
        "read": list(token.reads),
        "created_at": utc(token.created_at),
        "used_at": None if token.used_at is None else utc(token.used_at),
        "revoked_at": None if token.revoked_at is None else utc(token.revoked_at),
    }


def _entry_document(entry: LogEntry) -> dict[str, Any]:
    said = {"who": entry.who, "action": entry.action, "subject": entry.subject, "detail": dict(entry.detail)}
    return {"id": entry.id, "at": utc(entry.at), **said}


app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def token() -> None:
    """Who may use the pages and APIs of `lightfast serve`."""


_COMMANDS: dict[str, Callable[..., int]] = {"create": create, "list": list_, "revoke": revoke, "log": log}
for _name, _function in _COMMANDS.items():
    app.command(_name, cls=Command, context_settings=CONTEXT)(_function)
