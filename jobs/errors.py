"""What can go wrong, as a tree; the class is the policy, and the exit code its first word to a script.

    LightfastError      1   our fault or the surroundings'
    ├── BadInput        2   manifest, options or settings are wrong: nothing spent, nothing written
    ├── Interrupted   130   Ctrl-C, at a question or before the work began
    ├── NeedsPerson     4   work is left that needs a person: budget, balance, key, bucket
    ├── LedgerBusy      1   another process works on this ledger
    ├── LedgerGone      1   the ledger's file was taken away while it was in use
    ├── LedgerUnreadable 1  a ledger that is only looked into is damaged, locked, or of another version
    ├── WrongSchema     1   the database is older or newer than this program
    └── StoreError      1   the destination did not take, give or delete an object

`CODES` are the stable codes of `lf_error` and `lf_flags`; docs/reference/errors.md shows the same table.
"""

from __future__ import annotations

from collections.abc import Sequence

from providers.codes import CODES as PROVIDER_CODES


class LightfastError(Exception):
    """Says what, where, what it means for money, and the command that helps."""

    exit_code = 1


class BadInput(LightfastError):
    """The user's input is wrong. `problems`: one line each, the first the most important."""

    exit_code = 2

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class Interrupted(LightfastError):
    """A person pressed Ctrl-C; the message says that nothing was spent, or what stays."""

    exit_code = 130


class NeedsPerson(LightfastError):
    """Work is left, and only a person can help; the same command goes on."""

    exit_code = 4


class LedgerBusy(LightfastError):
    """Another process holds the ledger; the message names it."""


class LedgerGone(LightfastError):
    """The ledger's file was removed or replaced while it was in use; the message says where its contents are."""


class LedgerUnreadable(LightfastError):
    """A ledger that is not this command's own cannot be looked into."""


class WrongSchema(LightfastError):
    """The database's schema is not this program's."""


class StoreError(LightfastError):
    """The destination refused or failed. `retryable`: the same call may work later. `denied`: a matter of rights."""

    def __init__(self, *, code: str, message: str, retryable: bool, denied: bool = False) -> None:
        self.code = code
        self.message = message
        self.retryable = retryable
        self.denied = denied
        super().__init__(f"{message} ({code})")


#: What is said while submits wait after a restore.
MOVED = (
    "the database is another than it was: restored, failed over, or copied. It may have forgotten what was sent last, "
    "so nothing new is sent; polls and copies go on. When its data are as new as can be had:  "
    "lightfast resume --after-restore  (what it has forgotten is then made and paid again)"
)

#: Codes that are not a provider's matter: what each means, and what to do. Kept sorted.
OWN_CODES: dict[str, str] = {
    "bad_destination": "DEST must be s3://bucket/prefix, gs://…, az://…, file:///… or a folder. Nothing was spent.",
    "bad_image": "The provider's link gave bytes that are no whole image. Copied again by itself, from a fresh link.",
    "bad_link": "The provider named a link that is no http(s) address. A fresh one is asked for.",
    "bad_path": "The destination cannot hold an object under this path. Correct --path, or give the image up.",
    "bad_row": "The row's values are not legal (lf_message names line, column and value). Correct it, run again.",
    "blank": "Flag: an export found the image to be of one colour. `lightfast redo --key` pays for another.",
    "bucket_busy": "The bucket was writing the same object. Tried again by itself.",
    "bucket_denied": "The bucket refuses access (key, right or token; see lf_message). Correct it; paid images wait.",
    "bucket_failing": "The bucket answers with 5xx. Paid images wait, and are copied by themselves.",
    "bucket_misconfigured": "A setting for the bucket cannot be obeyed; see lf_message. Correct it; paid images wait.",
    "bucket_missing": "There is no such bucket. Create it, or correct --to; paid images wait.",
    "bucket_no_credentials": "No credentials were found where the cloud's own tools look. Set them, run again.",
    "bucket_refused": "The bucket refuses the object; see lf_message. Correct the cause and run again, or give it up.",
    "bucket_slow_down": "The bucket asks for a slower pace. Paid images wait, and are copied by themselves.",
    "bucket_unfaithful": "The bucket does not keep what it takes. Submits wait; what is gone is copied again.",
    "bucket_unreachable": "The bucket does not answer. Paid images wait, and are copied by themselves.",
    "bucket_wrong_region": "The bucket is in another region than the settings say. Correct that; paid images wait.",
    "bytes_elsewhere": "The answer had the image's bytes; they are on another host's disk. That host copies it.",
    "bytes_unreadable": "The answer had bytes that are no image, and so had the next. `lightfast give-up` ends it.",
    "cancelled": "The batch was cancelled before this row was sent. Nothing was paid for it.",
    "charge_estimated": "Also a flag: the charge was not reported; what was set aside counts. See the console.",
    "charged_above": "The provider charged more tokens than were set aside. The real charge is recorded.",
    "copy_failed": "A fault in Lightfast while copying; see the log. Copied again by itself.",
    "corrupt": "The bytes are an image that is broken inside. Copied again by itself.",
    "disk_denied": "The folder may not be written. Correct its rights; paid images wait.",
    "disk_error": "The disk reports an error; see lf_message. Paid images wait.",
    "disk_full": "The disk is full. Make room; paid images wait, and are copied by themselves.",
    "download_failed": "The provider's link did not give the image. Tried again by itself.",
    "download_timeout": "The provider's link was too slow. Tried again by itself.",
    "empty_column": "Left out, as you asked: the column named by --skip-empty is empty.",
    "failed_for_no_reason": "The task is called failed without a reason. It is asked about once more first.",
    "fewer_images_yet": "The task is called done with fewer images than were asked for. Asked again for a minute.",
    "forbidden_address": "The link leads to an address that is not public. LIGHTFAST_ALLOW_PRIVATE_HOSTS=1 permits it.",
    "given_up": "Paid, and given up before it was stored, as you asked. `lightfast retry --key` pays for another.",
    "kept": "Flag: the row has changed since, and its images are kept (`--changed keep`), or until new ones are made.",
    "ledger_away": "The ledger takes no writes. The image's bytes wait on this machine's disk; copied by itself.",
    "link_dead": "Paid, but its link died before it was copied. `lightfast retry` makes it again, and pays.",
    "near_duplicate": "Flag: an export found the image to look nearly the same as an earlier one in its data set.",
    "no_images_yet": "The task is called done, and no image is named. Asked again for five minutes: it may come.",
    "not_an_image": "The link gave no picture; lf_message has the first words. Tried again by itself.",
    "not_sent": "The request never left this machine. Sent again by itself.",
    "other-format": "Flag: a whole picture, but neither png, jpeg nor webp. It is stored as it came.",
    "outcome_unknown": "Sent, and no readable answer: it may be paid. `lightfast unknown` lists and resolves it.",
    "path-conflict": "Flag: another object stood at the image's path. It was left alone; the image is beside it (~2).",
    "process_died": "Its process died before the answer was on record: it may be paid. See `lightfast unknown`.",
    "reference_unreachable": "A reference image cannot be read; see lf_message. Nothing was paid for it.",
    "reference_unreadable": "A reference image is gone, too large, or no whole PNG, JPEG or WebP. Nothing was paid.",
    "reuse_gone": "An image that --reuse counted on is not there as it was. Not paid; `lightfast retry` buys it.",
    "reuse_waits": "Its request is being made for another row, or that outcome is unknown. Copied from there.",
    "reused": "Flag: the image was taken from another row with the same request (--reuse). Nothing was paid for it.",
    "safe-name": "Flag: the destination refuses such a name; the image has a plain one, which lf_path shows.",
    "short_delivery": "Fewer images came than were asked for, again and again. `lightfast retry` asks for the rest.",
    "task_forgotten": "The provider no longer knows the task. Its money may be gone; `lightfast retry` makes it again.",
    "task_id_taken": "The answer named a task that is another row's, so it may be paid. See `lightfast unknown`.",
    "too_large": "The link gave more bytes than an image may have. A person must help: `lightfast give-up` ends it.",
    "too_many_pixels": "The bytes claim to be more pixels than any model makes. `lightfast give-up` ends it.",
    "too_many_redirects": "The link redirects without end.",
    "truncated": "The image broke off before its end. Copied again by itself.",
    "unreachable": "The provider could not be reached; nothing left this machine. Sent again by itself.",
    "unreadable_row": "Its cells cannot be told apart (see lf_message): they stand as read. Mend it, run again.",
    "wrong-pixels": "Flag: the image has other pixels than the route promises. It is stored as it came.",
    "wrong_pixels": "--strict-size: stored with other pixels than asked for. `lightfast redo` makes it again.",
}

#: The code of bad rows whose cells cannot be told apart.
UNREADABLE_ROW = "unreadable_row"

#: Codes of rows whose request is refused again as it stands: only another request helps.
REFUSED_AGAIN = ("moderation", "invalid_parameters")

#: Codes that rows end with on a person's word: `give-up`, and `unknown --resolve give-up` (held rows have not ended).
#: A retry takes them only where it says which rows it is for.
GIVEN_UP_ROWS = ("given_up", "outcome_unknown")

#: Every stable code -> what it means, what to do.
CODES: dict[str, str] = dict(sorted((PROVIDER_CODES | OWN_CODES).items()))
