"""What a bucket answers instead of doing what it was asked, in our words: a code, what was asked, what it said."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.errors import StoreError

#: Characters of what a store or a library said.
SAID_LIMIT = 200

#: What a store's own code or status means: our code, and whether it is a matter of rights. Most specific first.
MEANINGS: Mapping[str, tuple[str, bool]] = {
    "NoSuchBucket": ("bucket_missing", False),
    "ContainerNotFound": ("bucket_missing", False),
    "ExpiredToken": ("bucket_denied", True),
    "InvalidToken": ("bucket_denied", True),
    "InvalidAccessKeyId": ("bucket_denied", True),
    "SlowDown": ("bucket_slow_down", False),
    "ServerBusy": ("bucket_slow_down", False),
    "ConditionalRequestConflict": ("bucket_busy", False),
    "RequestTimeout": ("bucket_unreachable", False),
    "AuthorizationHeaderMalformed": ("bucket_wrong_region", False),
    "PermanentRedirect": ("bucket_wrong_region", False),
    "401": ("bucket_denied", True),
    "403": ("bucket_denied", True),
    "404": ("bucket_missing", False),
    "408": ("bucket_unreachable", False),
    "409": ("bucket_busy", False),
    "429": ("bucket_slow_down", False),
    "501": ("bucket_refused", False),
    "503": ("bucket_slow_down", False),
    "5xx": ("bucket_failing", False),
    "4xx": ("bucket_refused", False),
}
#: The same call will not work later.
FINAL = frozenset({"bucket_refused", "bad_path", "bucket_misconfigured"})


def refused(
    url: str, action: str, *, status: str = "", own_code: str = "", said: str = "", help_: str = ""
) -> StoreError:
    """A store's answer as a `StoreError`. `status` is the three digits of HTTP, `own_code` the store's word for it."""
    code, denied = _meaning(status, own_code)
    answer = " ".join(part for part in (status, own_code) if part)
    told = ", ".join(part for part in (answer, action, said.strip()[:SAID_LIMIT].partition("\n")[0]) if part)
    return StoreError(code=code, message=f"{url}: {told}{help_}", retryable=code not in FINAL, denied=denied)


def _meaning(status: str, own_code: str) -> tuple[str, bool]:
    for sign in (own_code, status, f"{status[:1]}xx"):
        if sign in MEANINGS:
            return MEANINGS[sign]
    return "bucket_unreachable", False


def unreachable(url: str, action: str, cause: str) -> StoreError:
    """No answer came, and why."""
    return StoreError(code="bucket_unreachable", message=f"{url}: {action}: {cause}", retryable=True)
