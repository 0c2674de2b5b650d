"""The outcomes that all dialects make alike. What a status means stands here; a dialect says only where it differs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from providers.dialects.reading import (
    PARAMETER_WORDS,
    POLICY_WORDS,
    Json,
    mapping,
    raw_of,
    retry_after,
    text,
    words,
)
from providers.types import (
    Ambiguous,
    Dialect,
    Empty,
    Failed,
    Kind,
    NotFound,
    PollOutcome,
    Refused,
    Response,
    Running,
    Succeeded,
    Unreadable,
    clean,
)

#: What a code asks for, and the stable code it becomes.
Meaning = tuple[Kind, str]

MODERATED: Final[Meaning] = (Kind.MODERATION, "moderation")
INVALID: Final[Meaning] = (Kind.PERMANENT, "invalid_parameters")
NO_BALANCE: Final[Meaning] = (Kind.ACCOUNT, "no_balance")
BAD_KEY: Final[Meaning] = (Kind.ACCOUNT, "bad_key")
FORBIDDEN: Final[Meaning] = (Kind.ACCOUNT, "no_permission")
NO_MODEL: Final[Meaning] = (Kind.PERMANENT, "model_not_found")
THROTTLED: Final[Meaning] = (Kind.THROTTLED, "rate_limited")
#: What a refusing HTTP status means where a provider's page says nothing else, or does not name it: a key or a balance
#: is the account's matter, and its rows wait. Every other 4xx is the request's own fault (`INVALID`).
STATUSES: Final[Mapping[int, Meaning]] = {
    401: BAD_KEY,
    402: NO_BALANCE,
    403: FORBIDDEN,
    404: NO_MODEL,
    429: THROTTLED,
}
#: A dialect that differs nowhere.
NOWHERE: Final[Mapping[int, Meaning]] = {}
#: A redirect is a wrong base URL: every row would meet it, so the account rests and no job fails.
REDIRECTED: Final[Meaning] = (Kind.ACCOUNT, "redirected")
#: Codes of an account that takes nothing until a person helps.
ACCOUNT_CODES: Final[frozenset[str]] = frozenset(code for _, code in (BAD_KEY, NO_BALANCE, FORBIDDEN, REDIRECTED))

#: Characters of an error code that are looked at.
LONGEST_CODE = 100

_QUOTA_WORDS = re.compile(
    r"(?i)insufficient\W+(?:\w+\W+)?(?:quota|balance|credit|fund|points)|current quota|余额不足|额度不足"
)


def is_success(response: Response) -> bool:
    """Whether the HTTP status is a 2xx, which is not yet success."""
    return HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES


def is_refusal(response: Response) -> bool:
    """Whether the HTTP status says "certainly not accepted". A 408 comes after the work may have begun."""
    status = response.status
    is_3xx_or_4xx = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_3xx_or_4xx and status != HTTPStatus.REQUEST_TIMEOUT


# -- submits -------------------------------------------------------------------------------------------------------


def refused(response: Response, meaning: Meaning, message: str) -> Refused:
    """Certainly not accepted, for this reason."""
    kind, code = meaning
    return Refused(
        kind=kind,
        code=code,
        message=message or _status_line(response),
        retry_after=retry_after(response.headers),
        raw=raw_of(response),
    )


def meaning_of(status: int, own: Mapping[int, Meaning] = NOWHERE) -> Meaning:
    """What a refusing status means. `own`: where this provider means something else than `STATUSES`."""
    if is_redirect(status):
        return REDIRECTED
    return own.get(status) or STATUSES.get(status, INVALID)


def ambiguous(response: Response, code: str, message: str = "") -> Ambiguous:
    """Nobody can know whether it was accepted."""
    return Ambiguous(code=code, message=message or _status_line(response), raw=raw_of(response))


def ambiguous_status(response: Response, message: str = "") -> Ambiguous:
    """A status after which the work may have begun."""
    codes = {408: "provider_timeout", 504: "provider_timeout", 524: "provider_timeout"}
    code = codes.get(
        response.status, "server_error" if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "unreadable_answer"
    )
    return ambiguous(response, code, message)


# -- polls ---------------------------------------------------------------------------------------------------------


def unreadable(response: Response, status: int, message: str = "", own: Mapping[int, Meaning] = NOWHERE) -> Unreadable:
    """A poll without a usable answer. It says nothing about the task; `status` may be the body's own code."""
    kind, code = _poll_meaning(status, own)
    return Unreadable(
        code=code,
        message=message or _status_line(response),
        retry_after=retry_after(response.headers),
        kind=kind,
        raw=raw_of(response),
    )


def _poll_meaning(status: int, own: Mapping[int, Meaning]) -> Meaning:
    if is_redirect(status):
        return Kind.TRANSIENT, "redirected"
    kind, code = meaning_of(status, own)
    if kind in (Kind.ACCOUNT, Kind.THROTTLED):
        return kind, code
    return Kind.TRANSIENT, "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "unreadable_answer"


def about(dialect: Dialect, asked: str, response: Response, outcome: PollOutcome) -> PollOutcome:
    """The outcome, unless the answer names another task than was asked about: then it says nothing of ours.

    A cache or a gateway that mixes answers up would put another row's picture under this row's key, or end a task that
    runs, whose slots would be bought again.
    """
    named = dialect.task_of(response) if isinstance(outcome, Succeeded | Failed | Empty) else None
    if named is None or _is_same(named, asked):
        return outcome
    return Unreadable(code="another_task", message=f"the answer is about {named}", raw=raw_of(response))


def _is_same(named: str, asked: str) -> bool:
    """One may be written without the other's prefix (`task_`, say), or in other letters."""
    one, other = named.casefold(), asked.casefold()
    return one == other or one.endswith(("_" + other, "-" + other)) or other.endswith(("_" + one, "-" + one))


def not_found(response: Response, message: str = "") -> NotFound:
    """The provider does not know the task now."""
    return NotFound(message=message or _status_line(response), raw=raw_of(response))


def failed(response: Response, meaning: Meaning, message: str) -> Failed:
    """The task ended without images."""
    kind, code = meaning
    return Failed(kind=kind, code=code, message=message or _status_line(response), raw=raw_of(response))


def running(response: Response, status: str, *, known: bool) -> Running:
    """The task goes on. An answer with a state that is not documented is kept raw."""
    return Running(status=status, known=known, raw="" if known else raw_of(response))


def no_images(response: Response, status: str) -> Empty:
    """Success without an image is none."""
    return Empty(message=f"The task is called {status}, and no image is named.", raw=raw_of(response))


# -- OpenAI's way of saying what is wrong --------------------------------------------------------------------------


def error_code(error: Json) -> str:
    """`code`, else `type`, of an OpenAI-like error object, in lower case."""
    fields = mapping(error)
    return (text(fields.get("code")) or text(fields.get("type")))[:LONGEST_CODE].strip().lower()


def error_words(response: Response, body: Mapping[str, Json], *names: str) -> str:
    """What an error says to people, in the body's fields `names` or as OpenAI says it; plain text speaks for itself."""
    error = body.get("error")
    fields = mapping(error)
    own = [body.get(name) for name in names]
    said = words(*own, fields.get("message"), error, body.get("message"), body.get("msg"), body.get("detail"))
    plain = response.body[:200].decode("utf-8", "replace")
    is_text = "<" not in plain and plain.count("\ufffd") * 5 <= len(plain)  # a few odd letters are another encoding's
    return said or (words(plain) if is_text and not body else "")


def by_wording(meaning: Meaning, code: str, message: str, known: Mapping[str, Meaning]) -> Meaning:
    """A refusal or failure narrowed by its error code, else by policy or balance wording."""
    if code in known:
        return known[code]
    if meaning[0] in (Kind.ACCOUNT, Kind.THROTTLED):
        return meaning
    said = f"{code} {message}"
    if POLICY_WORDS.search(said):
        return MODERATED
    return NO_BALANCE if _QUOTA_WORDS.search(said) else meaning


def of_failure(code: str, message: str, known: Mapping[str, Meaning]) -> Meaning:
    """What a failed task asks for: policy and parameter wording are final, anything else may do at a second try."""
    meaning = by_wording((Kind.TRANSIENT, "provider_failed"), code, message, known)
    final = meaning[0] is Kind.TRANSIENT and PARAMETER_WORDS.search(f"{code} {message}")
    return INVALID if final else meaning


def _status_line(response: Response) -> str:
    where = response.headers.get("location") if is_redirect(response.status) else None
    return f"HTTP {response.status}, a redirect to {clean(where, LONGEST_CODE)}" if where else f"HTTP {response.status}"


def is_redirect(status: int) -> bool:
    """Whether a status sends us elsewhere."""
    return HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
