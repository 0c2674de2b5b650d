"""What every command has in common when its words are read."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

CONTEXT = {"help_option_names": ["-h", "--help"]}

#: Options by which a person agrees to something: never offered for one that was mistyped.
CONSENTS = ("--yes", "--buy-again", "--overwrite", "--skip-bad", "--partial", "--new-ledger", "--after-restore")


class Command(TyperCommand):
    """A command whose option `--reuse` may have no value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes the next word as the value of `--reuse` only if it is a legal value; else it is the manifest."""
        words = list(args)
        for at, word in enumerate(args):
            if word == "--reuse":
                given = [each for each in args[at + 1 : at + 2] if each in ("copy", "link")]
                words[at : at + 1 + len(given)] = [f"--reuse={given[0] if given else 'copy'}"]
                break
        try:
            return super().parse_args(ctx, words)
        except Exception as unknown:  # typer's, of a module that is its own affair
            near = getattr(unknown, "possibilities", None)
            if near:
                unknown.possibilities = [each for each in near if each not in CONSENTS]  # type: ignore[attr-defined]
            raise
