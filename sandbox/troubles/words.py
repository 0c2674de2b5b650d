"""Trouble on order: the words, what they do, and when they strike.

A word stands in brackets in a prompt, `[poll 503 x2]`, or without them in a scenario's rule. It is

    [VERB] KIND [ARGUMENT...] [xK]

VERB is `poll`, `cdn` or `webhook`; without one the word speaks of the submit or of what becomes of the task. `xK` means
the first K times for this prompt; without it, every time. Of several words for one verb the leftmost that is not used
up strikes; words about the task all apply. Brackets that are no such words are part of the prompt, and mean nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

#: What befalls an answer, at any verb that has one.
ANSWERS: Final[dict[str, str]] = {
    "reset": "connection reset; a submit is not accepted",
    "cut": "the answer breaks off in the middle",
    "drop": "closed without a byte of answer",
    "hang": "the answer comes after N seconds; without N never",
    "slow": "the answer trickles in over N seconds (3)",
    "html": "200 with an HTML page",
    "truncated": "200 with half of the JSON, its length in order",
    "empty": "200 with nothing",
    "nul": "the right answer with a NUL in its texts",
    "surrogate": "the right answer with a lone surrogate in its texts",
    "huge": "the right answer with a string of 10 MB",
    "code": "200 with an undocumented `code` N (7)",
    "redirect": "302 to an address of the private network, or to the one given",
    "headers": "an answer with a header of 100 kB",
}
#: word -> what it does. `NNN` is any HTTP status from 300 to 599.
WORDS: Final[dict[str, dict[str, str]]] = {
    "submit": {
        "NNN": "that status; not accepted. `accepted`: answered so after all. `after N`, `date N`: with Retry-After",
        **ANSWERS,
        "no-id": "200 without a task id",
        "sync": "answered with the finished image, as vendors' notes say; `b64`: with its bytes",
        "refuse": "refused: `moderation`, `balance`, `key`, `model`, `nul`, `surrogate`, `huge`, else invalid",
    },
    "task": {
        "fail": "fails, without reason or for: `moderation`, `invalid`, `points`, `nul`, `surrogate`, `huge`, any word",
        "timeout": "ends in TIMEOUT",
        "cancelled": "ends cancelled",
        "stuck": "never ends",
        "takes": "takes N seconds",
        "short": "delivers N images less than asked (1)",
        "none": "succeeds without any image",
        "wrong-pixels": "other pixels than asked: WxH, or 640x480",
        "blank": "images of one colour: `#ffffff`, or black",
        "like": "images nearly as another prompt's: `like A lamp`; each a little lighter or darker, as if encoded anew",
        "as": "another format: png, jpeg, webp, gif, bmp, tiff, avif",
        "b64": "bytes in place of links (maxapi.dev, apimaster); `garbled`: base64 that nobody can read",
        "link": "links live N seconds",
        "lost": "the task is forgotten: 404 to every poll",
        "usage": "its usage is `absent`, `zero`, `garbage`; `over N`: N times the usual tokens, and charged so (3)",
    },
    "poll": {
        "NNN": "that status; `after N`, `date N`: with Retry-After",
        **ANSWERS,
        "status": "the status WORD",
        "none": "called done without its images: `empty` list (unless said otherwise), `null`, `absent`",
        "short": "called done with N images less than it made (1)",
    },
    "cdn": {
        "NNN": "that status",
        **{name: ANSWERS[name] for name in ("reset", "cut", "drop", "hang", "slow", "html", "empty", "redirect")},
        "truncated": "the first half, its length in order",
        "corrupt": "the right length, some bytes changed",
        "drip": "comes slowly over N seconds (3)",
        "type": "the content type is the one given",
        "check": "403 with the page of a browser check",
        "browsers": "403 with `error code: 1010` to user agents that do not begin as browsers' do",
        "accept": "another format (avif) to whoever does not ask for image/png by name",
    },
    "webhook": {
        "twice": "comes twice",
        "late": "comes N seconds after the end (5)",
        "early": "comes before the submit is answered; the task is finished at once",
        "never": "does not come",
        "forged": "a second one says FAILURE for this task",
    },
}
#: Troubles of a poll that only a task can have that has ended well.
UNDELIVERED: Final = frozenset({"none", "short"})
NONE: Final[frozenset[str]] = frozenset()
PREFIXES: Final = ("poll", "cdn", "webhook")
_BRACKETS: Final = re.compile(r"\[([^\[\]\n]{1,120})\]")
_TIMES: Final = re.compile(r"x(\d{1,9})\Z")
_STATUS: Final = re.compile(r"[345]\d\d\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One word, read."""

    verb: str
    kind: str  # a key of WORDS[verb]; for "NNN" the status itself is `status`
    arguments: tuple[str, ...] = ()
    times: int | None = None  # the first so many for one prompt; None: every time
    status: int = 0

    def number(self, default: float) -> float:
        """The first argument that is a number."""
        return next((float(text) for text in self.arguments if _is_number(text)), default)

    def has(self, word: str) -> bool:
        """Whether it is an argument."""
        return word in self.arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom trouble may strike. `model` and `prompt` are None before the body was read."""

    provider: str
    key: str
    model: str | None = None
    prompt: str | None = None
    about: str = ""  # the task or prompt, so that chance is the same in every run


@lru_cache(maxsize=4096)
def read_trouble(text: str) -> Trouble | None:
    """A word as a value; None when it is none."""
    words = text.split()
    verb = words.pop(0) if len(words) > 1 and words[0] in PREFIXES else ""
    found = _TIMES.match(words[-1]) if len(words) > 1 else None
    kind, *arguments = words[: len(words) - bool(found)] or [""]
    status = int(kind) if _STATUS.match(kind) else 0
    name = "NNN" if status else kind
    verb = verb or next((verb for verb in ("submit", "task") if name in WORDS[verb]), "")
    if name not in WORDS.get(verb, {}):
        return None
    times = int(found[1]) if found else None
    return Trouble(verb=verb, kind=name, arguments=tuple(arguments), times=times, status=status)


@lru_cache(maxsize=4096)
def in_prompt(prompt: str) -> tuple[Trouble, ...]:
    """The words of a prompt, left to right."""
    found = (read_trouble(text) for text in _BRACKETS.findall(prompt)) if "[" in prompt else ()
    return tuple(trouble for trouble in found if trouble is not None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit()
