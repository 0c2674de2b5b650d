"""What every command has in common when its words are read."""

from __future__ import annotations

import shlex
from typing import Any

from typer.core import TyperCommand

from jobs.errors import BadInput

CONTEXT = {"help_option_names": ["-h", "--help"]}

#: Options by which a person agrees to something: never offered for one that was mistyped.
CONSENTS = ("--yes", "--buy-again", "--overwrite", "--skip-bad", "--partial", "--new-ledger", "--after-restore")

#: What people write for `--map key=COLUMN`.
KEY_COLUMN = ("--key", "--keys", "--key-column")


class Command(TyperCommand):
    """A command whose option `--reuse` may have no value, and that says how the key's column is named."""

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
            said = getattr(unknown, "option_name", None)
            if said in KEY_COLUMN and any("--map" in each.opts for each in self.params):
                raise _key_column(said, args) from None
            raise


def _key_column(said: str, words: list[str]) -> BadInput:
    """Names the option, in a command that can be pasted."""
    from jobs.command_lines import corrected  # not for --help
    from jobs.formatting import option_words

    at, word = next((at, word) for at, word in enumerate(words) if word.partition("=")[0] == said)
    value = word.partition("=")[2] or "".join(words[at + 1 : at + 2])
    column = "" if value.startswith("-") else value
    right = option_words("--map", f"key={column or 'COLUMN'}")
    problems = [f"{said} is no option here: the column that rows are known by is named with {shlex.join(right)}."]
    return BadInput([*problems, f"  {corrected(*right, without=[said])}"] if column else problems)
