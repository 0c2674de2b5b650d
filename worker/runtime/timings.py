"""How long a worker waits for what, and how much it does at once: every figure of its loops in one place.

Values in `Services`, so that a test or a simulation sets its own. Decisions that are pure have theirs in `jobs.policy`;
limits of one request or one file stand with the module that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.policy import liveness


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds, except where a field counts things. The defaults are what a worker does."""

    # -- lanes

    #: One run of a lane in a Celery worker: short, so that a process that must end is never kept.
    lane_run: float = 20.0
    #: From one look for work to the next where no wakeup came: another process may have made some.
    idle: float = 3.0
    #: The same for polls that callbacks may make due, where the process that takes them cannot wake this one.
    idle_hinted: float = 0.4
    #: From one sweep to the next.
    sweep_every: float = 30.0
    #: After a claim that failed; doubled each time, up to the longest.
    claim_backoff: float = 1.0
    longest_claim_backoff: float = 15.0
    #: Between two claims of a lane: work that comes in the meantime shares one transaction.
    submit_pause: float = 0.1
    poll_pause: float = 0.1
    copy_pause: float = 0.1
    #: Times as long between two claims of polls or copies, where the last one found many. Claims of submits are never
    #: further apart: their rate would not be used fully.
    pauses_where_many: int = 2
    #: For polls and copies on their way when the worker ends; none of them is lost when it is cut off.
    drain_rest: float = 3.0
    #: For the last records when the worker ends.
    last_records: float = 5.0

    # -- how many at once

    #: Submits of one claim; the ledger bounds what is in flight.
    submits_at_once: int = 64
    #: Polls of one account on their way: as many as come due between two claims of a busy account, and more.
    polls_at_once: int = 64
    #: Copies that run. With the limit of one image this bounds what downloads may fill a disk with: 4 GB.
    copies_at_once: int = 16
    #: Copies that are claimed in all: the next are at hand without another claim.
    copies_claimed: int = 48

    # -- signs of life

    #: See `jobs.policy.liveness`, which says how these belong to the ledger's limit of silence.
    sign_every: float = liveness.SIGN_EVERY
    sign_retry: float = liveness.SIGN_RETRY
    #: Between two touches of the heartbeat file; a probe calls one stale that is 45 s old (docs/how-to/cluster.md).
    heartbeat_every: float = 10.0
    #: Between two looks of a Celery worker process at its heartbeat and at how long no wakeup came.
    watch_every: float = 1.0

    # -- what the log tells

    #: Between two looks of all workers together at how things stand, and of a run that works alone.
    news_every: float = 10.0
    news_every_alone: float = 5.0
    #: Part of the time that these looks may take.
    news_part: float = 0.02

    # -- messages to people and programs

    #: For what is still to be told when a run ends; the rest is sent by the next one.
    last_messages: float = 3.0

    # -- a local run

    #: Between two counts of its batch.
    count_every: float = 1.0
    #: The same while nobody watches, and images come as they should.
    count_every_unwatched: float = 5.0
    #: Without anything to record, after which it is counted all the same: the batch may be over.
    lull: float = 0.5
    #: Part of the time that counting may take.
    counting_part: float = 0.05
    #: For a ledger that cannot be reached: a database that restarts is back by then.
    ledger_away: float = 900.0
    #: Without a claim that came back, until it is said that the ledger takes no writes.
    ledger_locked: float = 15.0

    # -- submits

    #: Between two tries at a reference that may answer later.
    reference_retry: float = 2.0

    # -- polls

    #: Between two looks at what all workers have learnt of durations.
    durations_every: float = 3.0
    #: The slowest that an overdue task is polled.
    slowest_poll: float = 600.0
    #: Until the next poll where the provider refuses the key.
    poll_refused: float = 60.0
    #: For which a provider must say again and again that it does not know a task until it counts as forgotten, while it
    #: tells of other tasks of the account.
    forgotten_after: float = 86_400.0
    #: After which it counts as forgotten though no other task is there to tell of: no link lives that long.
    forgotten_for_sure: float = 8 * 86_400.0

    # -- copies

    #: A link's life where nobody says anything about it.
    unknown_link_life: float = 86_400.0
    #: Beyond an image's time for which it is tried on though every link is dead or gives something else: a CDN may be
    #: out of order.
    gone_after: float = 3_600.0
    #: The same where the provider, or the CDN, gives no answer at all: nobody has said then that it is lost.
    unanswered_after: float = 86_400.0
    #: For a record, before bytes whose link dies soon are kept on our disk.
    record_patience: float = 5.0
