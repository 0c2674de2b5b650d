"""Commands that are told to people, so that they work when they are pasted."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from jobs.formatting import option_words


def command(*words: str, sandbox: bool = False) -> str:
    """`.venv/bin/lightfast status shop --sandbox`: as this one was called, with its --sandbox and --config.

    Each word is one argument, and is quoted where the shell needs it. A screen shows a command alone on its line or at
    the end of it, so that it can be pasted.
    """
    standin = ["--sandbox"] if sandbox and _brings_standin(sys.argv[1:]) else []
    return " ".join([called(), *map(shlex.quote, [*words, *standin]), *_config(sys.argv[1:])])


def verb() -> str:
    """`lightfast schedule run-now`: what this process was called to do, without the rest, which may hold secrets.

    "": it was not called as Lightfast's command.
    """
    program, words = Path(sys.argv[0]), [word for word in sys.argv[1:] if not word.startswith("-")]
    if program.stem not in ("lightfast", "__main__") or not words:
        return ""
    return " ".join(["lightfast", *words[: 2 if words[0] == "schedule" else 1]])


def keyed(*keys: str) -> list[str]:
    """The options that name these rows."""
    return [word for key in keys for word in option_words("--key", key)]


#: Options that have no value.
_FLAGS = frozenset({"--append", "--buy-again", "--wait"})


def repeated(*more: str, without: Iterable[str] = ()) -> str:
    """This command line with more words; `plan` becomes `run`. `without`: options to leave out, with their values."""
    return _with_verbs({"plan": "run"}, more, without)


def in_another_batch(name: str, dest: str) -> str:
    """This command line for a batch of this name at DEST, which takes the images that are there already for nothing."""
    words = sys.argv[1:]
    reuse = () if any(word.partition("=")[0] == "--reuse" for word in words) else ("--reuse",)
    path = () if any("{batch}" in word for word in words) else ("--path",)  # else both would have the same places
    left_out = ("--batch", "--to", "--append", "--changed", "--buy-again", *path)
    return repeated("--batch", name, "--to", dest or "DEST", *reuse, without=left_out)


def planned(*more: str) -> str:
    """This command line with more words, as a plan: what is asked of `run` and `submit` can be planned first."""
    return _with_verbs({"run": "plan", "submit": "plan"}, more, ["--wait"])


def corrected(*more: str, without: Iterable[str]) -> str:
    """This command line as it was meant: with more words, and without these options and their values."""
    return _with_verbs({}, more, without)


def _with_verbs(verbs: Mapping[str, str], more: Iterable[str], without: Iterable[str]) -> str:
    verb, *rest = sys.argv[1:] or ["run"]
    words = [verbs.get(verb, verb), *_masked(_without(rest, frozenset(without))), *more]
    return " ".join([called(), *map(shlex.quote, words)])


def _without(words: list[str], options: frozenset[str]) -> Iterator[str]:
    """`--map key` among the options leaves out the one of this known column alone."""
    at = 0
    while at < len(words):
        name, joined, value = words[at].partition("=")
        known = (value if joined else "".join(words[at + 1 : at + 2])).partition("=")[0].strip()
        goes = name in options or f"{name} {known}" in options
        if not goes:
            yield words[at]
        at += 2 if goes and not joined and name not in _FLAGS else 1


def _masked(words: Iterable[str]) -> Iterator[str]:
    """Addresses of --notify hold secrets, and what is shown may be kept in a log."""
    before = ""
    for word in words:
        yield re.sub(r"(?<=:).*", "//…", word) if before == "--notify" or word.startswith("--notify=") else word
        before = word


def called(folder: Path | None = None) -> str:
    """How a shell finds this program: by name, or by the path that was typed, relative to `folder` if given."""
    typed = Path(sys.argv[0])
    if typed.name != "lightfast" or _by_name(typed):
        return "lightfast"
    return shlex.quote(str(typed) if folder is None else os.path.relpath(typed, folder))


def _by_name(typed: Path) -> bool:
    found = shutil.which("lightfast")
    return found is not None and Path(found).resolve() == typed.resolve()


def _brings_standin(arguments: list[str]) -> bool:
    """Whether this command starts a stand-in. False if the settings lead to one: --sandbox has another ledger."""
    return "--sandbox" in arguments or arguments[:1] == ["demo"]


def _config(arguments: list[str]) -> list[str]:
    """The --config of this call."""
    for at, word in enumerate(arguments):
        if word == "--config" and arguments[at + 1 :]:
            return [word, shlex.quote(arguments[at + 1])]
        if word.startswith("--config="):
            return [shlex.quote(word)]
    return []
