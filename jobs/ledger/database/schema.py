"""The tables. Times are Unix seconds, money is micro-dollars, states are held by CHECK constraints."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    and_,
    cast,
    false,
    func,
    select,
    text,
)

from jobs.ledger.database.folder_destinations import Destination
from jobs.policy.access import Role
from jobs.policy.adaptive_limits import Bound
from jobs.policy.failover import Failover
from jobs.policy.firing import CatchUp, Into, OverlapPolicy
from jobs.states import (
    AT_STAKE,
    FIRING_OVER,
    IN_FLIGHT,
    AttemptState,
    BatchState,
    FiringState,
    ImageState,
    JobState,
    TroubleKind,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

#: SQLite numbers rows by itself only in a column it calls INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")
Time = Float(53)


def _one_of(states: Iterable[enum.StrEnum]) -> str:
    return ", ".join(f"'{state.value}'" for state in states)


def _state(states: type[enum.StrEnum]) -> tuple[Column[str], CheckConstraint]:
    return Column("state", Text, nullable=False), CheckConstraint(f"state IN ({_one_of(states)})", name="state")


ledger = Table(
    "ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", Time, nullable=False),
    Column("secret", Text, nullable=False),  # signs the callback addresses of attempts
    Column("daily_budget", BigInteger),  # of all accounts together; NULL: none
    Column("stopped_at", Time),  # since when `pause --all` holds every submit; NULL: it does not
    Column("stopped_by", Text),  # USER@HOST
    Column("origin", Text),  # the server, timeline and database it was last known to live in; NULL: not told
)

#: Attempts an account can number before they would run into the next account's: a trillion.
ATTEMPTS_AN_ACCOUNT = 1 << 40

accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("provider", Text, nullable=False),
    Column("configured", Boolean, nullable=False, server_default=false()),
    # Declared in the settings; NULL: learnt.
    Column("submits_per_second", Float(53)),
    Column("polls_per_second", Float(53)),
    Column("max_in_flight", Integer),
    Column("daily_budget", BigInteger),  # NULL: none
    Column("key_mark", Text),  # a hash that tells one API key from another
    Column("answered_at", Time),  # when a task was last told to have ended, give or take ten minutes
    Column("called_back_at", Time),  # when a callback last told the truth about one of its tasks, give or take a minute
    Column("troubled_since", Time),  # NULL: not since the last acceptance
    Column("learnt_rate", Float(53), nullable=False),
    Column("learnt_in_flight", Float(53), nullable=False),
    Column("learnt_polls", Float(53), nullable=False, server_default="10"),
    Column("polls_cut_at", Time),
    # What jobs/policy/adaptive_limits.py knows of submits beside these.
    Column("rate_top", Float(53)),
    Column("in_flight_top", Float(53)),
    Column("cut_at", Time),
    Column("since_cut", Integer, nullable=False, server_default="0"),
    Column("patience", Integer, nullable=False, server_default="0"),
    Column("quickest", Float(53)),  # seconds
    Column("usual", Float(53)),  # seconds
    Column("bound_by", Text, nullable=False, server_default=Bound.WORK.value),
    Column("share_floor", Float(53), nullable=False, server_default="0"),  # the lowest tag of the batches with work
    # GCRA's theoretical arrival times: the rate's whole state.
    Column("submit_tat", Time, nullable=False, server_default="0"),
    Column("poll_tat", Time, nullable=False, server_default="0"),
    Column("paused_until", Time),
    Column("paused_code", Text),
    Column("paused_message", Text),
    Column("troubles", Integer, nullable=False, server_default="0"),  # running, since the last acceptance
    Column("unclear", Integer, nullable=False, server_default="0"),  # running, since the last acceptance
    Column("throttled", Integer, nullable=False, server_default="0"),
    Column("attempts_made", BigInteger, nullable=False, server_default="0"),  # numbers the attempts
    Column("polls_made", BigInteger, nullable=False, server_default="0"),  # requests that asked about tasks
)

#: How accounts stood, minute by minute, while they worked; kept for a day.
account_minutes = Table(
    "account_minutes",
    metadata,
    Column("account_id", Integer, ForeignKey("accounts.id"), primary_key=True, autoincrement=False),
    Column("at", Time, primary_key=True),  # when the minute began
    # As of the last look within it:
    Column("attempts_made", BigInteger, nullable=False),
    Column("throttled", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("submits_per_second", Float(53), nullable=False),  # allowed: declared, or learnt so far
    Column("max_in_flight", Integer, nullable=False),  # the same
)

durations = Table(
    "durations",
    metadata,
    Column("account_id", Integer, ForeignKey("accounts.id"), primary_key=True, autoincrement=False),
    Column("provider_model", Text, primary_key=True),
    Column("resolution", Text, primary_key=True),  # as the request asks for it; empty: it does not
    Column("found", BigInteger, nullable=False),  # provider tasks that were found done
    Column("lateness", Float(53), nullable=False),  # seconds in all from their ends to our finding them
    # JSON of jobs.policy.poll_schedule: how long they take, the newest counting most.
    Column("learnt", Text, nullable=False),
)

openai_files = Table(
    "openai_files",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),  # "file-…"
    Column("token_id", Integer, ForeignKey("access_tokens.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("place", Text, nullable=False),  # below where such files are kept
    Column("parts", Integer, nullable=False, server_default="0"),  # of how many objects it consists; 0: it is one
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time),  # NULL: never
    Column("deleted_at", Time),  # NULL: it is there
)

openai_batches = Table(
    "openai_batches",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),  # "batch_…"
    Column("token_id", Integer, ForeignKey("access_tokens.id"), nullable=False),
    Column("fingerprint", Text, nullable=False),  # the same for requests that are answered with the same batch
    Column("endpoint", Text, nullable=False),
    Column("input_file", Text, nullable=False),
    Column("completion_window", Text, nullable=False),
    Column("metadata", Text, nullable=False),  # JSON
    Column("batch_id", Integer, ForeignKey("batches.id")),  # NULL: it is not on record yet, or never will be
    Column("state", Text, nullable=False),  # jobs.ledger.openai.values.RemoteState
    Column("ends_as", Text),  # the same: what it becomes when nothing is on its way any more
    Column("errors", Text, nullable=False),  # JSON: what is wrong with its file
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("times", Text, nullable=False),  # JSON: when it came into each state
    Column("output_seconds", Float(53), nullable=False),  # for which its files are kept
    Column("output_file", Text),
    Column("error_file", Text),
    Column("rows_total", Integer),  # NULL, as the next two: it is not over
    Column("rows_completed", Integer),
    Column("rows_failed", Integer),
    Column("tries", Integer, nullable=False, server_default="0"),  # to read its file and record it
    Column("taken_by", Text),  # the process that is at it
    Column("taken_until", Time),
    UniqueConstraint("token_id", "fingerprint"),
)

kept_answers = Table(
    "kept_answers",
    metadata,
    Column("token_id", Integer, ForeignKey("access_tokens.id"), primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),  # Idempotency-Key
    Column("fingerprint", Text, nullable=False),  # of the request
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Time, nullable=False),
)

days = Table(
    "days",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # UTC, from 1970: that of the intent
    Column("account_id", Integer, ForeignKey("accounts.id"), primary_key=True, autoincrement=False),
    Column("spent", BigInteger, nullable=False),  # reserved and charged
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("cron", Text, nullable=False),  # five fields
    Column("timezone", Text, nullable=False),
    Column("jitter", Float(53), nullable=False),  # seconds
    Column("goes_into", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("catch_up", Text, nullable=False),
    Column("options", Text, nullable=False),  # JSON: what is asked of its batches
    Column("budget", BigInteger),  # of one time; NULL: none
    Column("monthly_budget", BigInteger),  # of a UTC month; NULL: none
    Column("keep", Float(53)),  # seconds that its batches stay in the ledger whole; NULL: for good
    Column("next_at", Time),  # the first time that nothing was decided of; NULL: it is paused
    Column("seen", Text),  # JSON: the manifest as it was when all of it was on record; NULL: not known
    Column("created_at", Time, nullable=False),
    CheckConstraint(f"goes_into IN ({_one_of(Into)})", name="goes_into"),
    CheckConstraint(f"overlap IN ({_one_of(OverlapPolicy)})", name="overlap"),
    CheckConstraint(f"catch_up IN ({_one_of(CatchUp)})", name="catch_up"),
    Index("ix_schedules_next_at", "next_at"),
)

#: What a schedule's attempts have cost in a UTC month, by the moment of the intent.
schedule_months = Table(
    "schedule_months",
    metadata,
    Column("schedule_id", Integer, ForeignKey("schedules.id"), primary_key=True, autoincrement=False),
    Column("month", Integer, primary_key=True, autoincrement=False),  # UTC, from the year 0
    Column("spent", BigInteger, nullable=False),  # reserved and charged
)

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),  # its first letters, by which it is found
    Column("digest", Text, nullable=False),  # SHA-256 of all of it
    Column("daily_budget", BigInteger),  # NULL: none, as for who makes no batches within one
    Column("writes_to", Destination),  # NULL: anywhere
    Column("reads", Text, nullable=False, server_default="[]"),  # JSON: prefixes of objects
    Column("created_at", Time, nullable=False),
    Column("used_at", Time),  # give or take a minute
    Column("revoked_at", Time),  # NULL: it opens
    CheckConstraint(f"role IN ({_one_of(Role)})", name="role"),
)

#: Sessions of browsers that a log-out ended, as long as their cookies would open something.
ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("ended_at", Time, nullable=False),
)

access_log = Table(
    "access_log",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Time, nullable=False),
    Column("token_id", Integer, ForeignKey("access_tokens.id")),  # NULL: somebody at a terminal
    Column("who", Text, nullable=False),  # the token's name, or USER@HOST
    Column("action", Text, nullable=False),
    Column("subject", Text),
    Column("detail", Text, nullable=False, server_default="{}"),  # JSON
)

batches = Table(
    "batches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("dest", Destination, nullable=False),
    Column("path", Text, nullable=False),
    Column("columns", Text, nullable=False),
    Column("source", Text, nullable=False),
    *_state(BatchState),
    Column("reason", Text),
    Column("judged_from", Text),  # JSON: ended rows by error code that a person had seen when it was resumed
    Column("budget", BigInteger),
    Column("allow_partial", Boolean, nullable=False, server_default=false()),
    Column("reserved", BigInteger, nullable=False, server_default="0"),
    Column("charged", BigInteger, nullable=False, server_default="0"),
    Column("agreed", BigInteger, nullable=False, server_default="0"),
    Column("sandbox", Boolean, nullable=False, server_default=false()),
    Column("retries", Integer, nullable=False, server_default="2"),  # new attempts after failed provider tasks
    Column("failover", Text, nullable=False, server_default="off"),
    Column("providers", Text),  # JSON list of those the user allows; NULL: any
    Column("strict_size", Boolean, nullable=False, server_default=false()),  # --strict-size
    Column("decode", Boolean, nullable=False, server_default=false()),  # --verify decode
    Column("sidecar", Boolean, nullable=False, server_default=false()),  # --sidecar
    Column("reuse", Text),  # --reuse: jobs.policy.reuse.Reuse; NULL: it was not asked for
    Column("delimiter", Text),  # of a CSV manifest
    Column("notify", Text),  # --notify: JSON list of names of channels that hear of it beside all others
    Column("schedule_id", Integer, ForeignKey("schedules.id")),  # whose times pay for it; NULL: nobody's
    Column("token_id", Integer, ForeignKey("access_tokens.id")),  # whose it is; NULL: nobody's but the operators'
    Column("weight", Float(53), nullable=False, server_default="1"),
    Column("jobs_made", BigInteger, nullable=False, server_default="0"),  # numbers the jobs
    Column("created_at", Time, nullable=False),
    # The bulk of its rows lies in an archive, or is on its way there or back; see jobs/ledger/pruning.
    Column("archive", Destination),  # where; NULL: nowhere
    Column("archive_step", Text),  # jobs.states.ArchiveStep
    Column("archive_at", Time),  # when it was archived, or brought back; else the last sign of life of whoever is at it
    Column("archive_sums", Text),  # JSON: its money, which is in no attempt here any more
    CheckConstraint("reserved >= 0 AND charged >= 0", name="money"),
    CheckConstraint(f"failover IN ({_one_of(Failover)})", name="failover"),
)

token_holds = Table(
    "token_holds",
    metadata,
    Column("id", Id, primary_key=True),
    Column("token_id", Integer, ForeignKey("access_tokens.id"), nullable=False),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("day", Integer, nullable=False),  # UTC, from 1970: that of the acceptance
    Column("amount", BigInteger, nullable=False),
    Column("spent_before", BigInteger, nullable=False),  # what the batch had cost when it was accepted
    Index("ix_token_holds_day", "token_id", "day"),
    Index("ix_token_holds_batch", "batch_id"),
)

_not_over = text(f"state NOT IN ({_one_of(FIRING_OVER)})")

firings = Table(
    "firings",
    metadata,
    Column("id", Id, primary_key=True),
    Column("schedule_id", Integer, ForeignKey("schedules.id"), nullable=False),
    Column("at", Time, nullable=False),  # the schedule's time, or the moment it was asked for by hand
    Column("acts_at", Time, nullable=False),  # with its jitter, or when it is tried again
    Column("by_hand", Boolean, nullable=False, server_default=false()),
    *_state(FiringState),
    Column("batch_id", Integer, ForeignKey("batches.id")),
    Column("holder", Text),  # the process that reads its manifest
    Column("taken_at", Time),  # when it began
    # JSON: attempts that each account had made when its batch was recorded (jobs/ledger/schedules/bought.py).
    Column("attempts_before", Text),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("headway", Text),  # what showed that its batch goes on, and since when that is unchanged
    Column("headway_at", Time),
    Column("began_at", Time),
    Column("ended_at", Time),
    Column("exit_code", Integer),
    Column("code", Text),
    Column("message", Text),
    Column("detail", Text, nullable=False, server_default="{}"),  # JSON: what its plan said
    Index("ux_firings_time", "schedule_id", "at", unique=True),
    Index("ix_firings_not_over", "schedule_id", sqlite_where=_not_over, postgresql_where=_not_over),
)

shares = Table(
    "shares",
    metadata,
    Column("account_id", Integer, ForeignKey("accounts.id"), primary_key=True, autoincrement=False),
    Column("batch_id", Integer, ForeignKey("batches.id"), primary_key=True, autoincrement=False),
    Column("tag", Float(53), nullable=False),  # submits served there, by weight
)

_redone = text("revision > 1")

jobs = Table(
    "jobs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("position", Integer),  # NULL: not in the newest manifest
    Column("line", Integer, nullable=False),
    *_state(JobState),
    Column("carried", LargeBinary, nullable=False),
    Column("request", LargeBinary),
    Column("request_hash", Text),
    Column("path", Text),
    Column("provider", Text),
    Column("provider_model", Text),
    Column("price", BigInteger),
    Column("mode", Text),  # the provider's own route, where it has several
    Column("width", Integer),
    Column("height", Integer),
    Column("n", Integer, nullable=False, server_default="1"),  # images asked for
    Column("max_n", Integer, nullable=False, server_default="1"),  # images one provider task can make
    Column("revision", Integer, nullable=False, server_default="1"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("ready_at", Time, nullable=False, server_default="0"),
    Column("closed", Boolean, nullable=False, server_default=false()),
    Column("cancelled", Boolean, nullable=False, server_default=false()),
    Column("kept", Boolean, nullable=False, server_default=false()),
    Column("error_code", Text),
    Column("message", Text),
    Column("done_at", Time),
    Index("ux_jobs_key", "batch_id", "key", unique=True),
    Index("ix_jobs_position", "batch_id", "position"),
    Index("ix_jobs_state", "batch_id", "state", "n"),  # with n: rows and images are counted without reading the rows
    Index("ix_jobs_redone", "batch_id", "revision", sqlite_where=_redone, postgresql_where=_redone),
    Index(
        "ix_jobs_ready",
        "batch_id",
        "provider",
        "position",
        sqlite_where=text("state = 'ready'"),
        postgresql_where=text("state = 'ready'"),
    ),
    # Where nothing more is bought of one model, the rows of the others are found without reading those before them.
    Index(
        "ix_jobs_ready_model",
        "batch_id",
        "provider",
        "provider_model",
        "position",
        sqlite_where=text("state = 'ready'"),
        postgresql_where=text("state = 'ready'"),
    ),
)
BY_REQUEST = Index("ix_jobs_request", jobs.c.request_hash)  # what was asked for before, in any batch

#: What the columns of a job say of the request it stands for.
ASKED = (
    "request", "request_hash", "path", "provider", "provider_model", "price", "mode", "width", "height", "n",
    "max_n",
)  # fmt: skip

_in_flight = text(f"state IN ({_one_of(IN_FLIGHT)})")
_submitting = text("state = 'submitting'")
_unknown = text("state = 'unknown'")
#: Attempts whose money is at stake or was lost; the mass of the others is not read to find these.
_at_stake = text(f"state IN ({_one_of(AT_STAKE)})")
_polled = text("next_poll_at IS NOT NULL")

attempts = Table(
    "attempts",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("job_id", BigInteger, ForeignKey("jobs.id"), nullable=False),
    Column("account_id", Integer, ForeignKey("accounts.id"), nullable=False),
    *_state(AttemptState),
    Column("provider_model", Text, nullable=False),
    Column("slots", Text, nullable=False),  # JSON list of slot numbers
    Column("revision", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("price", BigInteger),  # an image; NULL: not known
    Column("mode", Text),  # the provider's own route, as it was asked for
    Column("reserved", BigInteger, nullable=False),
    Column("charged", BigInteger, nullable=False, server_default="0"),
    Column("task_id", Text),
    Column("poll_path", Text),
    Column("created_at", Time, nullable=False),
    Column("lease_until", Time, nullable=False),
    Column("holder", Text),  # the process that may send it, as in `workers`
    Column("accepted_at", Time),
    Column("next_poll_at", Time),  # NULL: not polled (any more)
    Column("polls", Integer, nullable=False, server_default="0"),
    Column("hinted_at", Time),  # when a callback last made its poll due
    Column("not_found_since", Time),
    Column(
        "doubt", Text
    ),  # how its task was last said to have ended, which is not yet believed (jobs/policy/doubts.py)
    Column("doubted_since", Time),
    Column("doubts", Integer, nullable=False, server_default="0"),  # answers that said so
    Column("came", Integer, nullable=False, server_default="0"),  # its images, while it is asked about for more
    Column("finished_at", Time),
    Column("error_code", Text),
    Column("message", Text),
    Column("raw", Text),
    Column("resolution", Text),  # how an unknown one was resolved: pay-again, give-up, found, policy
    Column("twin_of", BigInteger),  # the attempt that turned out to have made this provider task too
    Column("asked_resolution", Text),  # of the request; NULL: it names none
    Column("ran_at", Time),  # when a poll last said that it runs
    CheckConstraint("reserved >= 0 AND charged >= 0", name="money"),
    Index("ix_attempts_job", "job_id"),
    Index("ix_attempts_batch", "batch_id"),
    Index("ix_attempts_task", "account_id", "task_id"),
    Index("ix_attempts_in_flight", "account_id", sqlite_where=_in_flight, postgresql_where=_in_flight),
    Index("ix_attempts_submitting", "lease_until", sqlite_where=_submitting, postgresql_where=_submitting),
    Index("ix_attempts_at_stake", "batch_id", "state", sqlite_where=_at_stake, postgresql_where=_at_stake),
    Index("ix_attempts_unknown", "batch_id", sqlite_where=_unknown, postgresql_where=_unknown),
    Index("ix_attempts_polled", "account_id", "next_poll_at", sqlite_where=_polled, postgresql_where=_polled),
)

hints = Table(
    "hints",
    metadata,
    Column("attempt_id", BigInteger, ForeignKey("attempts.id"), primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("account_id", Integer, ForeignKey("accounts.id"), nullable=False),
    Column("heard_at", Time, nullable=False),
    Column("next_look_at", Time, nullable=False),
    Column("looks", Integer, nullable=False, server_default="0"),
    Index("ix_hints_due", "next_look_at"),
)

_generated = text("state = 'generated'")
_current = text("NOT surplus")
_attempted = text("attempt_id IS NOT NULL")
_settled = text("cost IS NOT NULL")
_taken_over = text("origin_id IS NOT NULL")
_was_stored = text("stored_at IS NOT NULL")

images = Table(
    "images",
    metadata,
    Column("id", Id, primary_key=True),
    Column("batch_id", Integer, ForeignKey("batches.id"), nullable=False),
    Column("job_id", BigInteger, ForeignKey("jobs.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    *_state(ImageState),
    Column("surplus", Boolean, nullable=False, server_default=false()),
    Column("attempt_id", BigInteger, ForeignKey("attempts.id")),
    # Not bought, but taken from where another image lies. Of one that was bought after all, `attempt_id` tells.
    Column("source_id", BigInteger),
    Column("origin_id", BigInteger),  # the first of them, however often it was taken since
    Column("lies_at", Destination),  # where it lies, when it is named and not copied; NULL: at its batch's own
    Column("url", Text),
    Column("spool", Text),
    Column("generated_at", Time),
    Column("expires_at", Time),
    Column("next_copy_at", Time),
    Column("lease_until", Time),
    Column("holder", Text),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("object_path", Text),
    Column("sha256", Text),
    Column("bytes", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
    Column("format", Text),
    Column("flags", Text),
    Column("stored_at", Time),
    Column("cost", BigInteger),  # micro-dollars, its part of what the provider's usage says; NULL: its attempt's price
    Column("error_code", Text),
    Column("message", Text),
    CheckConstraint("state <> 'stored' OR sha256 IS NOT NULL", name="stored_is_hashed"),
    Index(
        "ux_images_slot", "job_id", "revision", "slot", unique=True, sqlite_where=_current, postgresql_where=_current
    ),
    # Not partial as the one above: SQLite would use that only where a query says the very words of its condition.
    Index("ix_images_job", "job_id"),
    # Partial: else SQLite takes it to find a job's free slots, by reading every image that has no attempt yet.
    Index("ix_images_attempt", "attempt_id", sqlite_where=_attempted, postgresql_where=_attempted),
    Index("ix_images_batch", "batch_id", "state", "surplus", "bytes", "flags"),  # so that nothing else is read to count
    # The two behind the first: so that what waits is counted by destination without reading the images themselves.
    Index(
        "ix_images_due",
        "expires_at",
        "batch_id",
        "error_code",
        sqlite_where=_generated,
        postgresql_where=_generated,
    ),
    # Partial: a row that is only recorded is not written to it.
    Index("ix_images_stored", "batch_id", "stored_at", sqlite_where=_was_stored, postgresql_where=_was_stored),
    Index("ix_images_settled", "id", sqlite_where=_settled, postgresql_where=_settled),
    Index("ix_images_taken_from", "origin_id", "job_id", sqlite_where=_taken_over, postgresql_where=_taken_over),
)
#: What an image counts as; NULL where its price is not known. With its attempt beside it.
COST_OF_IMAGE = func.coalesce(images.c.cost, attempts.c.price)
#: An image's state, and whether it is one that was asked for; for statements that find their images by id, job or
#: attempt. Written so that no index of states serves them. PostgreSQL chooses that index where it last counted few such
#: images, or planned while there were few, and then reads every one in the ledger: a million, after a manifest of that
#: size was recorded.
state_of_found: ColumnElement[str] = images.c.state.concat("")
IS_MISSING = state_of_found == ImageState.MISSING.value
WAS_ASKED_FOR = cast(images.c.surplus, Integer) == 0
#: An image that the newest revision of its job asks for, and no more than it asks for.
IS_CURRENT = and_(images.c.job_id == jobs.c.id, images.c.revision == jobs.c.revision, WAS_ASKED_FOR)
_OTHERS = batches.alias()  # else a question that is about batches, too, would take them for its own
#: A row that waits, and will be bought when somebody works for its batch, which may be paused or at its budget.
WILL_BE_BOUGHT = and_(
    jobs.c.state == JobState.READY.value,
    jobs.c.position.is_not(None),
    jobs.c.batch_id.not_in(select(_OTHERS.c.id).where(_OTHERS.c.state == BatchState.CANCELLED.value)),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Time, nullable=False),
    Column("name", Text, nullable=False),
    Column("batch_id", Integer),
    Column("job_id", BigInteger),
    Column("attempt_id", BigInteger),
    Column("detail", Text, nullable=False),
    Index("ix_events_job", "job_id"),
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seen_at", Time, nullable=False),
    Column("looked_at", Time),  # when the laziest of its lanes last looked for work; NULL: not told
)

conditions = Table(
    "conditions",
    metadata,
    # What the log has told of the state of things (jobs/results/conditions.py): a batch, a pause, a limit.
    Column("name", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("since", Time, nullable=False),
    Column("detail", Text, nullable=False),  # JSON
)

#: What rows asked for before they were made anew. The images of then are paid, and stay where they are.
earlier_requests = Table(
    "earlier_requests",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("request_hash", Text, nullable=False),
    Column("manifest_hash", Text),  # of what the manifest asked for then; NULL: not on record
    Column("request", LargeBinary),  # canonical JSON, where it was another than the manifest's, as `redo --prompt` asks
    Index("ix_earlier_requests_request", "request_hash"),
)

_waits = text("next_at IS NOT NULL")

outbox = Table(
    "outbox",
    metadata,
    # A message for one channel of the settings, which is named here and whose address is nowhere on record.
    Column("id", Id, primary_key=True),
    Column("webhook_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("next_at", Time),  # when it is tried, or free for another to try; NULL: it was sent, or given up
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("problem", Text),  # the last one
    Column("sent_at", Time),
    Column("given_up_at", Time),
    Index("ix_outbox_due", "channel", "next_at", sqlite_where=_waits, postgresql_where=_waits),
)

destination_troubles = Table(
    "destination_troubles",
    metadata,
    Column("dest", Destination, primary_key=True),
    Column("holder", Text, primary_key=True),  # the process that says so, as in `workers`
    Column("kind", Text, primary_key=True),
    Column("since", Time, nullable=False),
    Column("until", Time, nullable=False),  # unless it is said again
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    CheckConstraint(f"kind IN ({_one_of(TroubleKind)})", name="kind"),
)

#: An account's number where any account is meant.
ANY_ACCOUNT = 0

copy_failures = Table(
    "copy_failures",
    metadata,
    # What the images share: 0 and empty texts mean any.
    Column("account_id", Integer, primary_key=True, autoincrement=False),
    Column("provider_model", Text, primary_key=True),
    Column("dest", Destination, primary_key=True),
    Column("images", Integer, nullable=False, server_default="0"),  # that failed since the last stored one
    Column("money", BigInteger, nullable=False, server_default="0"),
    Column("since", Time),
    Column("code", Text),
    Column("message", Text),
    Column("probe_at", Time),  # when one submit may try whether it is mended
    Column("probes", Integer, nullable=False, server_default="0"),
)
