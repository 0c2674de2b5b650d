"""How many images a second one account can have, and one batch, whatever the number of workers: on PostgreSQL.

Claims of submits, claims of polls, and records of what a submit or a provider task ended in lock the account's row.
Claims of submits lock each batch that has rows for the provider; the same records, and those of copies, lock the
batch's row, too. Under one lock, transactions run one after
the other. Here one process makes them, with nothing beside them: the time that they take for an image bounds the images
a second. Many images share a transaction where there is much to do, so each size of groups is told. Two polls an image.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.measure import Findings, show
from jobs.facts import Fact, ImageChecked, ImageStored, MadeImage, SubmitAccepted, TaskStillRunning, TaskSucceeded
from jobs.ledger import Ledger, open_ledger
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.values import NewBatch, Row
from providers.types import Link, Request
from sandbox import servers

IMAGES = 640  # of each group size
TOGETHER = (1, 8, 64)
LEASE = 60.0
CLAIMS = "claims of submits"
#: An account that holds up nothing.
UNBOUND = AccountLimits(
    name="main", provider="maxapi.io", submits_per_second=1e6, polls_per_second=1e6, max_in_flight=10_000_000
)

Seconds = dict[str, list[float]]  # of each transaction, by what it did


@dataclass(slots=True)
class _Work:
    """One account's and one batch's images, made in groups of `together`."""

    ledger: Ledger
    together: int
    account: Seconds = field(default_factory=lambda: defaultdict(list))  # of transactions that lock its row
    batch: Seconds = field(default_factory=lambda: defaultdict(list))  # the same of the batch's

    def make(self) -> int:
        """Makes a group's images; how many these were."""
        now, claims = time.time(), self.ledger.claims
        with self._locking(CLAIMS, self.account, self.batch):
            intents = claims.submits("main", now, lease=LEASE, at_most=self.together, horizon=1e6).intents
        tasks = [intent.attempt_id for intent in intents]
        self._record(
            "accepted",
            [SubmitAccepted(attempt_id=n, at=now, task_id=f"t-{n}", poll_path=None, next_poll_at=now) for n in tasks],
        )
        self._poll(len(tasks), now)
        running = [TaskStillRunning(attempt_id=n, at=now, next_poll_at=now) for n in tasks]
        self.ledger.facts.record(running)
        self._poll(len(tasks), now)
        self._record("done", [_done(n, now) for n in tasks])
        copies, _ = claims.copies(now + 1, holder="one", lease=LEASE, at_most=len(tasks))
        self.ledger.facts.record([_checked(copy.image_id) for copy in copies])
        with self._locking("stored", self.batch):
            self.ledger.facts.record([ImageStored(image_id=copy.image_id, at=now) for copy in copies])
        return len(copies)

    def _poll(self, tasks: int, now: float) -> None:
        with self._locking("claims of polls", self.account):
            self.ledger.claims.polls("main", now + 1, lease=LEASE, at_most=tasks)

    def _record(self, name: str, facts: Sequence[Fact]) -> None:
        with self._locking(name, self.account, self.batch):
            self.ledger.facts.record(facts)

    @contextlib.contextmanager
    def _locking(self, name: str, *rows: Seconds) -> Iterator[None]:
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        for each in rows:
            each[name].append(took)


def _done(attempt_id: int, now: float) -> TaskSucceeded:
    image = MadeImage(link=Link(url=f"https://cdn.example/{attempt_id}.png"), spool=None, expires_at=now + 86_400)
    return TaskSucceeded(attempt_id=attempt_id, at=now, images=(image,))


def _checked(image_id: int) -> ImageChecked:
    return ImageChecked(
        image_id=image_id,
        object_path=f"b/{image_id}.png",
        sha256=f"{image_id:064x}",
        bytes=200_000,
        width=1024,
        height=1024,
        format="png",
    )


def measure(most: int = IMAGES, together: Sequence[int] = TOGETHER) -> Findings:
    """Each group size in turn, in the same ledger; a first group of each warms up. `most`: images of a size."""
    lines, numbers = [], {}
    with servers.postgres(durable=True) as server, contextlib.closing(open_ledger(server.url)) as ledger:
        ledger.accounts.sync([UNBOUND])
        for size in together:
            images = min(most, 128 * size)  # alone, each takes long
            work = _worked(ledger, size, images)
            for name, seconds in (("account", work.account), ("batch", work.batch)):
                # Medians: other work on the machine stretches some of them.
                parts = {part: median(took) * len(took) / images * 1000 for part, took in seconds.items()}
                each = numbers[f"{name}_ms_{size}"] = sum(parts.values())
                pace = f"{each:.2f} ms an image, {1000 / each:,.0f} images a second"
                lines += [
                    (f"{size} in a transaction: the {name}'s row", pace),
                    ("... of that", ", ".join(f"{part} {took:.2f}" for part, took in parts.items())),
                ]
                numbers[f"claims_ms_{size}"] = parts[CLAIMS]
    return Findings(lines=lines, numbers=numbers)


def _worked(ledger: Ledger, together: int, images: int) -> _Work:
    new = NewBatch(name=f"b-{together}", dest="s3://bucket", path="", columns=("key",), source="b.csv")
    ledger.batches.record_manifest(new, list(_rows(images + together, together)), now=time.time())
    _Work(ledger=ledger, together=together).make()
    work, made = _Work(ledger=ledger, together=together), 0
    while made < images:
        made += work.make()
    return work


def _rows(number: int, together: int) -> Iterator[Row]:
    for at in range(number):
        request = Request(prompt=f"A lamp of kind {at}, of {together}, in a quiet room", model="gpt-image-2")
        yield Row(
            position=at, line=at + 2, key=f"lamp-{at}", carried=b'{"key":"lamp"}', request=request,
            request_hash=request.hash(), path=f"b/{at}.{{ext}}", provider="maxapi.io",
            provider_model="gpt-image-2/text-to-image", price=20_000, pixels=(1024, 1024), max_n=1,
        )  # fmt: skip


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=IMAGES)
    show("Locks (PostgreSQL, one account, one batch)", measure(options.parse_args().images).lines)


if __name__ == "__main__":
    main()
