"""The whole command with --failover against the stand-in: what one provider fails, another makes, and is named."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.support import command

ROWS = 4


@pytest.fixture
def lightfast(sandbox):
    sandbox.play(takes={"default": [0.05, 0.1]}, rules=[{"trouble": "fail", "provider": "maxapi.dev"}])
    plain = command.bare_environment()
    quick = {"first_poll_after": 0.2, "poll_every": 0.2, "submits_per_second": 50, "max_in_flight": 50}
    named = command.account_settings("MAXAPI_IO", "MAXAPI_DEV", **quick)
    keys = {name: value for name, value in sandbox.settings.items() if not name.startswith("APIMASTER")}
    mode = {"LIGHTFAST_ACCOUNTS__MAXAPI_DEV__ROUTE_MODE": "mix"}
    environment = plain | keys | named | mode | {"LIGHTFAST_RETRIES": "0"}

    def call(*arguments, without=""):
        seen = {name: value for name, value in environment.items() if not (without and without in name)}
        return command.lightfast(*arguments, environment=seen)

    Path("m.csv").write_text("key,prompt,provider\n" + "".join(f"k{row},A lamp {row},\n" for row in range(ROWS)))
    return call


RUN = ("run", "m.csv", "--to", "out", "--yes", "--json", "--provider", "maxapi.dev,maxapi.io")


def providers(lightfast):
    lines = csv.DictReader(io.StringIO(lightfast("results", "m").stdout))
    return [(line["key"], line["lf_status"], line["lf_provider"]) for line in lines]


def test_what_one_provider_fails_another_makes_for_money_agreed_to(lightfast):
    Path("m.csv").write_text(Path("m.csv").read_text() + "pinned,A vase,maxapi.dev\n")

    done = lightfast(*RUN, "--failover", "equal", "--budget", "1")

    assert done.returncode == 3, done.stderr  # the row that names its provider has failed
    made = [(f"k{row}", "done", "maxapi.io") for row in range(ROWS)]
    assert providers(lightfast) == [*made, ("pinned", "failed", "maxapi.dev")]
    told = lightfast("why", "m", "k0").stdout
    assert told.index("maxapi.dev") < told.index("another provider") < told.index("account maxapi-io")
    assert json.loads(done.stdout)["usd"]["charged"] == pytest.approx(ROWS * 0.02)


def test_without_leave_none_moves_and_without_a_budget_only_what_the_agreed_money_pays(lightfast):
    """Four rows were agreed to at $0.012 each; elsewhere an image costs $0.02."""
    off = lightfast(*RUN)
    dear = lightfast(*RUN, "--batch", "dear", "--failover", "equal")
    wrong = lightfast(*RUN, "--batch", "wrong", "--failover", "sometimes")

    assert [done.returncode for done in (off, dear, wrong)] == [3, 3, 2]
    assert json.loads(off.stdout)["rows"] == {"failed": ROWS}
    assert json.loads(dear.stdout)["rows"] == {"done": 2, "failed": 2}
    assert "expected equal, any-size or off" in wrong.stderr


def test_a_start_without_an_account_that_is_owed_images_stops_and_doctor_says_so(lightfast, sandbox):
    sandbox.play(takes={"default": [60, 60]})
    lightfast(*RUN, "--stop-after", "1s")
    assert len(sandbox.tasks()) == ROWS

    less = lightfast("run", "m.csv", "--to", "out", "--yes", without="MAXAPI_DEV")
    doctor = lightfast("doctor", without="MAXAPI_DEV")

    assert less.returncode == 2, less.stderr
    for said in (less.stderr, doctor.stdout):
        assert "account maxapi-dev (maxapi.dev) is no longer configured" in said
        assert f"{ROWS} open provider tasks" in said
        assert "MAXAPI_DEV_API_KEY" in said
