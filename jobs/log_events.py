"""Every event that the log tells of: its name, its levels, its fields, and what it means.

Names and fields are stable: programs read them (docs/reference/log.md shows the same table). Fields hold names,
numbers, codes and addresses, and never a secret; `problem` is a sentence of a provider, a store or a database, with
keys removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: Nothing is said of a single image at info: a million of them would cost more than they tell.
Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of event. `levels`: the usual one first. `means`: a sentence's second half, after the level.

    `about`: what else the page says of it, of its levels and fields; people who work do not see that.
    """

    levels: tuple[Level, ...]
    fields: tuple[str, ...]
    means: str
    about: str = ""


def _info(means: str, *fields: str, about: str = "") -> EventKind:
    return EventKind(("info",), fields, means, about)


def _warning(means: str, *fields: str) -> EventKind:
    return EventKind(("warning",), fields, means)


def _error(means: str, *fields: str, about: str = "") -> EventKind:
    return EventKind(("error",), fields, means, about)


def _debug(means: str, *fields: str) -> EventKind:
    return EventKind(("debug",), fields, means)


_COUNTS = ("batch", "rows", "done", "partial", "failed", "held", "lost", "cancelled", "images", "charged_usd")
_OF_TIME = ("schedule", "at", "time_images", "time_charged_usd", "times_before", "images_before", "charged_before_usd")
_HELD_UP = ("batch", "reason", "rows_waiting", "at_most_usd", "problem")
_NOT_STORED = ("account", "provider_model", "dest", "images", "usd", "code", "problem")
_IMAGE = ("batch", "key", "image_id")

#: What the ledger tells of batches, accounts, limits, destinations and workers: said once, by one process, however many
#: work on it (docs/decisions/news.md).
NEWS: Mapping[str, EventKind] = {
    "batch_begun": _info("a batch has begun", "batch", "rows", "images", "at_most_usd", "budget_usd", "source", "dest"),
    "batch_goes_on": _info(
        "a batch goes on",
        *("batch", "was", "rows_waiting", "at_most_usd"),
        about="the figures are what is left to send when that is seen",
    ),
    "batch_finished": EventKind(
        ("info", "warning"),
        (*_COUNTS, "unknown_usd", "lost_usd", "seconds", *_OF_TIME),
        "a batch has finished",
        "a warning where rows failed, are held or lost. `schedule`, `at` and what follows are of the schedule's time "
        "that it has finished for; the last three are what times before it made that nothing has told",
    ),
    "batch_cancelled": _info("a batch was cancelled, and nothing of it is on its way any more", *_COUNTS, *_OF_TIME),
    "batch_paused": _info("a person paused a batch", *_HELD_UP),
    "batch_waits": _warning("the submits of a batch wait, and go on by themselves", *_HELD_UP),
    "batch_needs_person": _error("the submits of a batch wait until a person helps", *_HELD_UP),
    "account_paused": EventKind(
        ("error", "warning"),
        ("account", "provider", "code", "until", "problem"),
        "an account takes no submits, and is tried again by itself",
        "its key or balance was refused (error), or no submit was taken for a minute (warning)",
    ),
    "account_works_again": _info("an account takes submits again", "account", "provider", "was", "seconds"),
    "daily_budget_reached": _warning(
        "a daily budget leaves too little for the next row", "account", "budget_usd", "spent_usd", "again_at"
    ),
    "daily_budget_allows_again": _info("a daily budget allows submits again", "account"),
    "limit_learnt": _info("an answer of 429 has shown where a limit is", "account", "limit", "value"),
    "limit_raised": _info("a learnt limit has grown by half or more", "account", "limit", "value", "was"),
    "limit_cut": _warning("a learnt limit was cut by a third or more", "account", "limit", "value", "was"),
    "destination_refuses": _error(
        "a destination takes no writes: submits for it wait, and it is tried again by itself", "dest", "code", "problem"
    ),
    "destination_takes_again": _info("the destination takes writes again", "dest", "seconds"),
    "copies_fall_behind": _warning(
        "paid images would die before they are copied: submits for a destination wait", "dest", "problem"
    ),
    "copies_keep_up_again": _info("copies are fast enough again, and submits go on", "dest", "seconds"),
    "links_about_to_die": _error(
        "paid images have waited a quarter of an hour for their copies, and their links die within twelve hours",
        "batch",
        "dest",
        "images",
        "usd",
        "first_dies_at",
    ),
    "no_links_about_to_die": _info("no link of the batch's paid images dies soon any more", "batch"),
    "emergency_stop_begun": _warning("a person stopped all submits with `pause --all`", "by"),
    "emergency_stop_lifted": _info("a person lifted the emergency stop", "seconds"),
    "ledger_moved": _error(
        "the database was restored or failed over: submits wait for `lightfast resume --after-restore`"
    ),
    "ledger_trusted": _info("submits go on with the database as it is", "seconds"),
    "schedule_failed": _error(
        "a time of a schedule made nothing: what was asked of it is wrong, or costs more than it may spend",
        "schedule",
        "at",
        "code",
        "problem",
    ),
    "schedule_stopped": _error(
        "the batch of a schedule's time waits until a person helps",
        *("batch", "code", "problem", *_OF_TIME),
        about="what follows `at` is as with `batch_finished`, by now",
    ),
    "schedule_partial": _info(
        "a time of a schedule has bought what its budget allowed, as --partial says: the rest goes on at a later one",
        *("batch", "code", "problem", *_OF_TIME),
    ),
    "schedule_shrunk": _warning(
        "a schedule's manifest has at most half of the rows that it had the time before, and at least 10 fewer",
        "schedule",
        "at",
        "batch",
        "rows",
        "rows_before",
    ),
    "schedule_times_missed": _warning(
        "times of a schedule passed that nobody saw, since the last that began: once for all of them",
        "schedule",
        "times",
        "first_at",
        "last_at",
    ),
    "schedule_works_again": _info("a later time of a schedule is over, and went well", "schedule"),
    "worker_silent": _warning("a worker has given no sign of life for a minute", "worker", "seconds"),
    "worker_back": _info("a worker that was silent gives signs of life again", "worker"),
}

#: What a process tells of its own.
_OF_A_PROCESS: Mapping[str, EventKind] = {
    "attempt_found_by_callback": _debug("a callback named the task of an unknown attempt", "attempt_id", "task_id"),
    "batch_archived": _info("a schedule's batch was archived, as --keep says", "batch", "rows", "images", "archive"),
    "batch_not_archived": _warning("a schedule's batch could not be archived, and stays whole", "batch", "problem"),
    "callback_named_another_task": _warning("a callback named another task", "attempt_id", "task_id"),
    "claim_failed": _warning("the ledger could not be asked for work, and is asked again", "lane", "times", "problem"),
    "connections_wait": _warning(
        "the web process can take no connection, mostly since it may open no more files: they wait", "times", "problem"
    ),
    "copy_failed": _error("a copy failed by a fault of Lightfast, and is tried again", "image_id", "problem"),
    "daily_budget_changes": _warning("a daily budget changes", "account", "kept", "here"),
    "destination_fails_verification": _error("the destination kept other bytes than it was given", "dest", "images"),
    "destination_slows_down": _info("a destination asks for fewer copies at once", "dest", "copies"),
    "fact_set_aside": _error("an answer could not be recorded, and is kept in the rescue file", "facts", "file"),
    "facts_replayed": _info("answers of a process that ended are recorded", "lanes"),
    "group_not_recorded": _warning(
        "answers could not be recorded together, and are recorded one by one", "facts", "problem"
    ),
    "hints_not_written": _warning("callbacks could not be recorded; polls find the images", "hints", "problem"),
    "hints_wait": _warning("callbacks wait for the ledger", "problem"),
    "image_kept": _warning("an image is kept on this disk until it can be stored", *_IMAGE, "attempt_id", "file"),
    "image_lost": _warning("a paid image is lost", *_IMAGE, "code"),
    "image_needs_a_person": _warning("a paid image cannot be stored without you", "batch", "key", "code", "problem"),
    "image_not_kept": _warning("an image could not be kept on this disk", "image_id", "attempt_id", "problem"),
    "images_are_stored_again": _warning("images can be stored again", *_NOT_STORED),
    "ledger_at_risk": _warning("a setting of the database server puts what is paid at risk", "problem"),
    "ledger_is_away": _warning("the ledger cannot be reached, and is tried again", "problem"),
    "ledger_is_locked": _warning(
        "another program writes to the ledger, perhaps a backup or a database shell: nothing new is sent until it has "
        "finished, and answers that come meanwhile are recorded then",
        "seconds",
    ),
    "ledger_is_read_only": _warning("the ledger can only be read", "problem"),
    "ledger_takes_no_writes": _warning("the ledger takes no writes", "problem"),
    "ledger_takes_writes_again": _warning("the ledger takes writes again"),
    "listening": _info("the web process listens", "address", "paths", "sandbox"),
    "log": EventKind(
        ("info", "debug", "warning", "error"), ("logger", "message", "times"), "a line of a library, mostly Celery's"
    ),
    "not_ready": _warning("the web process cannot use the ledger", "times", "problem"),
    "message_given_up": _error(
        "a message is sent no more: `lightfast doctor` counts what was not told", "channel", "type", "tries", "problem"
    ),
    "message_not_sent": _warning("a message was not taken, and is sent again", "channel", "type", "tries", "problem"),
    "nothing_can_be_stored": _warning(
        "paid images fail to be stored, one after the other: no more of their kind is bought", *_NOT_STORED
    ),
    "openai_batch_put_off": _warning(
        "a batch of OpenAI's API could not be read or ended, and is tried again", "batch", "problem"
    ),
    "openai_batches_not_seen": _warning("the web process could not look for batches of OpenAI's API", "problem"),
    "paid_images_wait": _warning("paid images wait for a person", "batch", "problem", "help"),
    "path_conflict": _warning(
        "another object has an image's path; the image is stored beside it", "batch", "key", "path"
    ),
    "path_refused": _warning("the destination refuses an image's path", "batch", "key", "path", "problem"),
    "poll_failed": _error(
        "a poll failed by a fault of Lightfast, and is tried again", "attempt_id", "account", "problem"
    ),
    "polls_together_off": _warning(
        "a provider refuses to be asked about many tasks at once; each is asked about alone",
        "account",
        "code",
        "seconds",
    ),
    "recorder_failed": _error("the recorder failed by a fault of Lightfast", "problem"),
    "rescue_fact_refused": _error("an answer of a rescue file does not fit the ledger", "fact", "problem"),
    "rescue_failed": _error("no rescue file could be written", "facts", "problem"),
    "rescue_file_stays": _warning("a rescue file whose answers are recorded cannot be removed", "file", "problem"),
    "rescue_folder_refuses": _warning("a folder takes no rescue file", "folder", "problem"),
    "rescue_line_unreadable": _error("a line of a rescue file cannot be read", "line"),
    "rescue_lines_kept": _error("lines of a rescue file are kept aside", "file", "lines"),
    "rescue_replayed": _warning("answers that were kept in a file are recorded now", "file", "facts"),
    "reuse_gone": _warning("an image that was to be taken from another row is gone", *_IMAGE, "problem"),
    "wrong_copy_left": _warning(
        "a copy that the store made for --reuse is not the image, and could not be deleted; its row does not name it",
        "path",
        "problem",
    ),
    "rows_moved": _warning("rows go to another provider", "count"),
    "sidecar_conflict": _warning("another object has a sidecar's path", "batch", "key", "path"),
    "sidecar_refused": _warning("the destination refuses a sidecar", "batch", "key", "path", "problem"),
    "sign_of_life_failed": _warning("a worker's sign of life could not be written", "times", "problem"),
    "submit_failed": _error("a submit failed by a fault of Lightfast", "attempt_id", "problem"),
    "references_brought": _info("reference files of a schedule's manifest are at its destination", "files", "dest"),
    "schedule_ended": _info("a time of a schedule is over, or has stopped", "schedule", "exit_code", "code"),
    "schedule_fired": _info("a time of a schedule has come", "schedule", "at"),
    "schedule_missed": _warning(
        "nobody saw a time of a schedule, and it is not caught up", "schedule", "at", "problem"
    ),
    "schedule_put_right": _warning(
        "a clock was far ahead and is back: the schedule's next time is counted from now again", "schedule", "at"
    ),
    "schedule_put_off": _warning(
        "a time of a schedule could not begin, and is tried again: told at the first try and at growing distances",
        "schedule",
        "at",
        "times",
        "until",
        "problem",
    ),
    "schedule_queued": _info("a time of a schedule waits for the one before it", "schedule", "at"),
    "schedule_skipped": _warning("a time of a schedule was skipped", "schedule", "at", "problem"),
    "settings_changed": _warning(
        "a file of settings has changed since this process began, which keeps the old ones until it is started again",
        "files",
        "problem",
    ),
    "schedule_trouble": _error("a time of a schedule met a fault of Lightfast", "schedule", "problem"),
    "submits_became_unknown": _warning(
        "submits were cut off before their answers: their outcomes are unknown", "count"
    ),
    "unknown_paid_again": _warning("attempts whose outcomes are unknown are made again, as on_unknown says", "count"),
    "wakeup_not_published": _warning("Redis took no wakeups; workers go on by themselves", "times", "problem"),
    "work_failed": _error("a lane failed by a fault of Lightfast", "lane", "problem"),
    "worker_drained": _info("a worker has ended in order", "unknown", "unknown_usd", "rescued"),
    "worker_started": _info("a worker has started", "pid", "lanes"),
    "worker_unhealthy": _error("a worker does not do its work, and a restart would help", "pid", "problem"),
    # Of one process, for whoever looks for a fault there: the ledger's news tells people.
    "copies_are_behind_here": _debug("this process finds that copies fall behind", "dest", "problem"),
    "copies_keep_up_here": _debug("this process finds that copies keep up again", "dest"),
    "destination_refused_here": _debug("a destination refused a write of this process", "dest", "code", "problem"),
    "destination_took_here": _debug("a destination took a write of this process again", "dest"),
    "message_sent": _debug("a message was sent", "channel", "type", "tries"),
    "messages_wait": _debug("the outbox could not be read or written", "problem"),
    "news_failed": _debug("how things stand could not be read from the ledger", "problem"),
    "poll_refused": _debug("a provider refused a poll", "account", "code", "message"),
}

EVENTS: Mapping[str, EventKind] = {**NEWS, **_OF_A_PROCESS}
