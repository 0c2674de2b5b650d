"""The `lightfast` command. A command's module is imported when it is called, so that `--help` is instant."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from cli.command import CONTEXT, Command
from jobs.errors import BadInput, Interrupted, LightfastError


class CommandEntry(NamedTuple):
    """Where a command's function is, and its sentence for `--help`."""

    module: str
    function: str
    help: str


COMMANDS = {
    "demo": CommandEntry(
        "cli.commands.demo", "demo", "Make examples/catalog.csv with the stand-in, into ./demo-output."
    ),
    "plan": CommandEntry("cli.commands.plan", "plan", "Say what a run would make, cost and take; spend nothing."),
    "run": CommandEntry("cli.commands.run", "run", "Plan, then do it here and now; the same command resumes."),
    "submit": CommandEntry("cli.commands.submit", "submit", "Record a batch for the cluster's workers, and wake them."),
    "watch": CommandEntry("cli.commands.submit", "watch", "Live progress of a batch until it is finished."),
    "schedule": CommandEntry("cli.commands.schedule", "app", "Batches by the clock: add, list, show, run-now, serve …"),
    "notify": CommandEntry("cli.commands.notify", "app", "Whom Lightfast tells: test."),
    "status": CommandEntry("cli.commands.status", "status", "Counts, money, pace and time left of one batch or all."),
    "results": CommandEntry("cli.commands.results", "results", "One line for each manifest row, or a contact sheet."),
    "export": CommandEntry(
        "cli.commands.export",
        "export",
        "A data set of batches' images, for training: with captions, splits and a card.",
    ),
    "why": CommandEntry("cli.commands.why", "why", "One row's history, as a person would tell it."),
    "retry": CommandEntry("cli.commands.again", "retry", "Make failed and lost rows again."),
    "redo": CommandEntry("cli.commands.again", "redo", "New images for rows that are done; the old ones stay."),
    "pause": CommandEntry("cli.commands.steer", "pause", "Stop new submits; what is paid is polled, copied, stored."),
    "resume": CommandEntry("cli.commands.steer", "resume", "Go on with a paused batch."),
    "cancel": CommandEntry("cli.commands.steer", "cancel", "End new submits for good; what is paid is still stored."),
    "give-up": CommandEntry(
        "cli.commands.give_up", "give_up", "End rows whose paid images cannot be had; their money is lost."
    ),
    "unknown": CommandEntry(
        "cli.commands.unknown", "unknown", "List attempts whose outcome nobody can know, and resolve them."
    ),
    "verify": CommandEntry(
        "cli.commands.verify", "verify", "Read the stored images again, and compare them with the ledger."
    ),
    "move-destination": CommandEntry(
        "cli.commands.move_destination",
        "move_destination",
        "A batch's images lie elsewhere now: compared with the ledger, then recorded.",
    ),
    "prune": CommandEntry(
        "cli.commands.prune", "prune", "Archive finished batches, and take the bulk of their rows out of the ledger."
    ),
    "adopt": CommandEntry("cli.commands.adopt", "adopt", "Rebuild a lost ledger from the images at a destination."),
    "audit": CommandEntry(
        "cli.commands.audit", "audit", "One line an attempt with its charge, to lay beside an invoice."
    ),
    "models": CommandEntry("cli.commands.models", "models", "What can be made: by whom, at what price, how soon."),
    "accounts": CommandEntry("cli.commands.accounts", "accounts", "Limits, use and pauses of each account."),
    "doctor": CommandEntry("cli.commands.doctor", "doctor", "Check settings, database, Redis, keys and bucket."),
    "migrate": CommandEntry("cli.commands.admin", "migrate", "Bring the database to the newest schema."),
    "serve": CommandEntry("cli.commands.admin", "serve", "The web process: probes, webhooks, metrics."),
    "token": CommandEntry("cli.commands.token", "app", "Who may use the pages and APIs: create, list, revoke, log."),
    "sandbox": CommandEntry("cli.commands.admin", "sandbox", "The stand-in for the providers, alone."),
}


class Lazy(TyperGroup):
    """Knows every command's name and sentence; imports one when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=where.help) for name, where in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command itself, now that it is called."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and command else None, rest

    def invoke(self, ctx: Any) -> None:
        """A command returns its exit code. Ctrl-C is told in words; a run that works has answers of its own to it."""
        try:
            raise typer.Exit(super().invoke(ctx) or 0)
        except KeyboardInterrupt:
            raise Interrupted(
                "stopped by Ctrl-C. What is on record stays as it is; the same command goes on."
            ) from None


def load(name: str) -> Any:
    """A command, with its options."""
    where = COMMANDS[name]
    function = getattr(importlib.import_module(where.module), where.function)
    if isinstance(function, typer.Typer):  # a group of commands
        command = typer.main.get_command(function)
        command.help = where.help
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, cls=Command, help=where.help, context_settings=CONTEXT)(function)
        command = typer.main.get_command(single)
    command.name = name
    return command


app = typer.Typer(
    cls=Lazy,
    name="lightfast",
    add_completion=False,
    rich_markup_mode=None,  # plain help: it imports nothing
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=CONTEXT,
)


def _version(wanted: bool) -> None:  # noqa: FBT001  typer's signature
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lightfast {version('lightfast')}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done, 1 surroundings, 2 wrong input (nothing spent), 3 rows need you, 4 needs a person, "
    "130 Ctrl-C, 143 SIGTERM."
)
def lightfast(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn a manifest of prompts into images in your own bucket: nothing paid twice, nothing paid lost."""


def main() -> None:
    """The entry point."""
    try:
        app(prog_name="lightfast")
    except LightfastError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except Exception as bug:
        if os.environ.get("LIGHTFAST_DEBUG"):
            raise
        if told := _of_the_surroundings(bug):
            _tell(LightfastError(told))
        else:
            _tell_bug(bug)
        sys.exit(1)


#: What a machine refuses, and no program can help: a right, a file system that is read-only, a full disk.
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_GOES_ON = "What is paid stays on record, and nothing is paid twice: when that is fixed, run the same command."


def _of_the_surroundings(error: Exception) -> str | None:
    """What the machine refuses, in words; None: it may be our mistake."""
    if isinstance(error, OSError) and error.errno in _REFUSED:
        where = f"{error.filename} cannot be written" if error.filename is not None else "a file cannot be written"
        return f"{where}: {error.strerror}. {_GOES_ON}"
    if "sqlalchemy" not in sys.modules:
        return None
    from jobs.ledger import file_trouble, path_of

    why = file_trouble(error)
    return f"the ledger {path_of(error)} {why}. {_GOES_ON}" if why else None


def _tell(error: LightfastError) -> None:
    """Writes what went wrong to stderr and, with --json, a document to stdout."""
    from cli.flow.settings import SCHEMA, sandbox_mark
    from cli.output.terminal import put

    problems = list(error.problems) if isinstance(error, BadInput) else str(error).splitlines() or [""]
    put("\n  ".join([f"{sandbox_mark()}error: {problems[0]}", *problems[1:]]))
    if "--json" in sys.argv:
        import json

        told = {"schema": SCHEMA, "sandbox": bool(sandbox_mark()), "error": problems, "exit_code": error.exit_code}
        sys.stdout.write(json.dumps(told) + "\n")


def _tell_bug(bug: Exception) -> None:
    from cli.output.terminal import put
    from jobs.formatting import in_words

    put(
        f"error: {in_words(bug)}\n"
        "  That is our mistake, or the machine's. The ledger keeps what was paid; the same command goes on.\n"
        f"  LIGHTFAST_DEBUG=1 shows the traceback ({type(bug).__name__})."
    )
