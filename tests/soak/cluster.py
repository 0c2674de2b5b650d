"""Three workers, web, beat, Valkey and PostgreSQL, all killed at random; the Procfile's processes start again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3

from jobs.ledger import Ledger, open_ledger
from jobs.states import JobState
from sandbox import servers
from sandbox.cluster import BUCKET, Cluster, cluster
from sandbox.launch import Box
from tests.soak.judge import Findings, after_the_kills, books, in_the_end, look_at
from tests.soak.local import ROUNDS, settle
from tests.soak.work import NAME, PROVIDERS, ROOT, Batch, make_batch, scenario

FORMATION = {"web": 1, "worker": 3, "beat": 1}
BETWEEN = (0.5, 4.0)  # seconds between two kills
#: By how much slower than the kills the batch is sent: the servers are away for a part of the time.
SLOWER = 1.3
GONE = (0.0, 3.0)  # seconds a server stays away
#: Leases of killed workers' submits last so long, and longest at APIMaster: 12 min.
PATIENCE = 1000.0
Strike = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A cluster that works on a batch."""

    running: Cluster
    ledger: Ledger
    box: Box
    batch: Batch


@contextlib.contextmanager
def running_batch(
    folder: Path,
    plan: Mapping[str, object],
    formation: Mapping[str, int],
    rate: float,
    *,
    rows: int,
    providers: tuple[str, ...],
    options: tuple[str, ...] = (),
) -> Iterator[Stage]:
    """The batch is submitted; `rate`: submits a second of each account; `options`: more of `lightfast submit`."""
    folder.mkdir(parents=True)
    (folder / "scenario.json").write_text(json.dumps(plan))
    with (
        _environment(_rates(rate)),
        cluster(folder=folder, formation=formation, say=lambda _: None, scenario=folder / "scenario.json") as running,
        contextlib.closing(open_ledger(running.database.url)) as ledger,
    ):
        box = Box(running.stand_in.url, None)  # type: ignore[arg-type]  the cluster ends its process
        batch = make_batch(folder / "work", rows, providers, to=f"s3://{BUCKET}", environment=running.environment)
        batch.ask("submit", f"{NAME}.csv", "--to", batch.to, "--yes", "--quiet", *options)
        yield Stage(running=running, ledger=ledger, box=box, batch=batch)


def soak(folder: Path, *, rows: int, kills: int, seed: int, providers: tuple[str, ...] = PROVIDERS) -> Findings:
    """The same demands as of the local run."""
    found = Findings(title=f"cluster: 3 workers, web, beat, Valkey, PostgreSQL; {rows} rows, {', '.join(providers)}")
    began, chance = time.monotonic(), random.Random(seed)
    rate = max(1.0, rows / len(providers) / (max(kills, 1) * sum(BETWEEN) / 2 * SLOWER))
    with running_batch(folder, scenario(seed), FORMATION, rate, rows=rows, providers=providers) as stage:
        running, ledger, box, batch = stage.running, stage.ledger, stage.box, stage.batch
        struck = _kill_all_kinds(running, kills, chance, lambda: not is_over(ledger))
        found.show("kills -9 while it ran", struck.total(), must=struck.total() >= kills)
        found.show("... of", ", ".join(f"{name} {count}" for name, count in sorted(struck.items())))
        wait_until_over(ledger)
        found.show("seconds until every row was stored or held", f"{time.monotonic() - began:.0f}")
        listed = batch.listed()
        settle(box)
        after_the_kills(found, batch, look_at(box, stored_by(running), listed))
        listed_ever = pay_again(batch, ledger, listed)
        settle(box)
        last = look_at(box, stored_by(running), ())
        in_the_end(found, batch, last, listed_ever)
        books(found, last, batch.money(), batch.audited())
    found.show("seconds", f"{time.monotonic() - began:.0f}")
    return found


def _kill_all_kinds(running: Cluster, kills: int, chance: random.Random, lasts: Callable[[], bool]) -> Counter[str]:
    strikes: dict[str, Strike] = {member.name: member.kill for member in running.members}
    strikes["valkey"] = lambda: _kill_server(running.redis, chance)
    strikes["postgresql"] = lambda: _kill_server(running.database, chance)
    order = [name for _ in range(kills) for name in chance.sample(sorted(strikes), len(strikes))][:kills]
    struck: Counter[str] = Counter()
    for name in order:
        time.sleep(chance.uniform(*BETWEEN))
        if not lasts():
            break
        strikes[name]()
        struck[name.partition(".")[0]] += 1
    return struck


def _kill_server(server: servers.Server, chance: random.Random) -> None:
    server.kill()
    time.sleep(chance.uniform(*GONE))
    for _ in range(20):  # its children may still be going
        with contextlib.suppress(servers.ServerError):
            return server.start()
        time.sleep(1)
    raise RuntimeError(f"{server.name} did not come back")


def is_over(ledger: Ledger) -> bool:
    """Each row is done or held, and no image waits."""
    try:
        progress = ledger.reports.progress(NAME)
    except Exception:  # noqa: BLE001  PostgreSQL is coming back
        return False
    ended = progress.jobs.get(JobState.DONE, 0) + progress.jobs.get(JobState.HELD, 0)
    return ended == sum(progress.jobs.values()) and not progress.images_in_flight and not progress.images_generated


def wait_until_over(ledger: Ledger) -> None:
    end = time.monotonic() + PATIENCE
    while not is_over(ledger):
        if time.monotonic() > end:
            raise RuntimeError(f"not over: {ledger.reports.progress(NAME)}")
        time.sleep(1)


def pay_again(batch: Batch, ledger: Ledger, listed: list[str]) -> int:
    ever = 0
    for _ in range(ROUNDS):
        ever += len(listed)
        if not listed:
            break
        batch.pay_again()
        wait_until_over(ledger)
        listed = batch.listed()
    return ever


def stored_by(running: Cluster) -> dict[str, list[bytes]]:
    """What the bucket holds, by the rows' keys."""
    names = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key", "region_name")
    variables = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    given = {name: running.environment[variable] for name, variable in zip(names, variables, strict=True)}
    client = boto3.client("s3", **given)
    found: dict[str, list[bytes]] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{NAME}/"):
        for item in page.get("Contents", []):
            data = client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
            found.setdefault(item["Key"].split("/")[1], []).append(data)
    return found


def _rates(rate: float) -> dict[str, str]:
    names = [provider.upper().replace(".", "_") for provider in PROVIDERS]
    return {"PYTHONPATH": str(ROOT)} | {
        f"LIGHTFAST_ACCOUNTS__{name}__SUBMITS_PER_SECOND": f"{rate:.2f}" for name in names
    }


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The cluster's processes get what this process has."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
