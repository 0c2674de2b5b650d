"""A batch that was archived is gone on with by the same command, and nothing of it is paid twice."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import command, provider_servers

TIMES = {
    "batches": ("created_at",),
    "jobs": ("done_at",),
    "images": ("generated_at", "expires_at", "stored_at"),
    "attempts": ("created_at", "accepted_at", "finished_at", "lease_until"),
    "events": ("at",),
}


@pytest.fixture
def lightfast(providers):
    accounts = command.account_settings(*provider_servers.VARIABLES.values(), first_poll_after=0.2)
    environment = command.bare_environment() | providers.environment() | accounts
    environment |= {"LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1"}

    def call(*arguments):
        done = command.lightfast(*arguments, environment=environment)
        assert done.returncode == 0, done.stderr
        return done

    return call


def manifest(keys):
    with Path("shop.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["key", "prompt", "Title"], *([key, f"A {key}", key.title()] for key in keys)])


def grow_old(days=200):
    """All that happened, happened so much earlier."""
    with closing(sqlite3.connect("lightfast.db")) as ledger:
        for table, names in TIMES.items():
            earlier = ", ".join(f"{name} = {name} - {days * 86_400}" for name in names)
            ledger.execute(f"UPDATE {table} SET {earlier}")
        ledger.commit()


def test_the_same_command_brings_a_batch_back_and_pays_for_what_is_new_alone(lightfast):
    manifest(["lamp", "vase"])
    lightfast("run", "shop.csv", "--to", "out", "--yes")
    grow_old()
    before = lightfast("results", "shop").stdout
    lightfast("prune", "--yes")
    assert lightfast("results", "shop").stdout == before
    manifest(["lamp", "vase", "sofa"])
    plan = json.loads(lightfast("plan", "shop.csv", "--to", "out", "--json").stdout)
    assert (plan["rows"]["new"], plan["rows"]["done"]) == (1, 2)

    done = lightfast("run", "shop.csv", "--to", "out", "--yes")

    assert "shop was archived" in done.stderr
    assert "brought back first" in done.stderr
    assert lightfast("results", "shop").stdout.splitlines()[:3] == before.splitlines()
    keys = [line["key"] for line in csv.DictReader(lightfast("audit", "--format", "csv").stdout.splitlines())]
    assert keys == ["lamp", "vase", "sofa"]
