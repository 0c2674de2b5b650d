"""The document of a batch's progress, and the page that says what its fields mean."""

from __future__ import annotations

import re

from cli.flow.execute import RunOutcome, document
from jobs.ledger.accounts.values import DayLimit, PeriodLimit
from jobs.ledger.accounts.worker_values import DestinationTrouble, EmergencyStop
from jobs.ledger.claims.values import Failing
from jobs.ledger.reports.values import BatchSchedule, StuckImage
from jobs.results.completion import Reason, RunState
from jobs.states import JobState, TroubleKind
from tests.support import ROOT
from tests.unit.cli.test_watch import BROKE, READY, account
from tests.unit.results.test_contact_sheet import progress
from worker.local.run import RunEnding

#: Of a batch; what `models` writes is held by its own test.
PAGE = (ROOT / "docs" / "reference" / "json.md").read_text().partition("## What can be made")[0]
#: What is keyed by a state or a code: its keys are not fields.
KEYED = {"rows": "STATE", "errors": "CODE", "copy_errors": "CODE", "copy_messages": "CODE"}

FAILING = Failing(
    account="main", provider="maxapi.io", provider_model=None, dest=None, images=2, money=40_000, since=0.0,
    code="not_an_image", message="HTML came", batch="shop", next_try_at=60.0,
)  # fmt: skip
EVERYTHING = progress(
    jobs={JobState.READY: 2, JobState.FAILED: 1},
    errors={"moderation": 1},
    copy_errors={"not_an_image": 2},
    copy_words={"not_an_image": "HTML came"},
    stuck=(StuckImage(key="k1", slot=0, code="bytes_unreadable", message="gone", money=20_000),),
    stop=EmergencyStop(since=0.0, by="mia@shop"),
    troubles=(
        DestinationTrouble(
            dest="/data/out", kind=TroubleKind.REFUSES, since=0.0, code="AccessDenied", message="no", said_by="w1"
        ),
    ),
    failing=(FAILING,),
    least_expiry=3600.0,
    unwritable="is read-only",
    schedule=BatchSchedule(
        name="nightly",
        month=PeriodLimit(budget=1_000_000, spent=40_000, again_at=86_400.0),
        month_allows=True,
        waiting_money=0,
        goes_on_at=3600.0,
    ),
)


class Ledger:
    """What surrounds the batch."""

    def __init__(self):
        self.accounts = self.reports = self.destinations = self

    def clock_offset(self):
        return 0.0

    def all(self):
        return [account(**BROKE)]

    def at_risk(self, _batch):
        return 3, 60_000

    def daily_budgets(self, _now):
        return [DayLimit(account=None, budget=1_000_000, spent=40_000, again_at=86_400.0)]

    def backlogs(self, _now):
        return {}


def fields_of(value, name=""):
    """The names of all fields, as the page writes them."""
    if isinstance(value, dict):
        if name in KEYED:
            return {f"{name}.{KEYED[name]}"}
        return set().union(*(fields_of(part, f"{name}.{field}" if name else field) for field, part in value.items()))
    if isinstance(value, list):
        assert value, f"an example of {name} is missing here"
        return set().union(*(fields_of(part, f"{name}[]") for part in value))
    return {name}


def ended(counted):
    ending = RunEnding(reason=Reason.ALL_PAUSED, standing=RunState(progress=counted, accounts=(), now=0.0))
    return document(RunOutcome(ending=ending, message="stopped.", code=4, seconds=3.0), Ledger())


def test_the_page_names_exactly_the_fields_that_there_are():
    rows = re.findall(r"^\| `([a-z_.\[\]A-Z]+)` \| ([a-zA-Z, ]+) \| \S", PAGE, re.MULTILINE)

    assert {name for name, _ in rows} == fields_of(ended(EVERYTHING))
    assert len(rows) == len({name for name, _ in rows})
    assert {kind.removesuffix(", null") for _, kind in rows} == {
        "text",
        "time",
        "count",
        "bytes",
        "USD",
        "number",
        "seconds",
        "boolean",
    }


def test_the_page_names_every_state_of_a_row_and_every_reason_to_end():
    assert all(f"`{state}`" in PAGE for state in JobState)
    assert all(f"`{reason}`" in PAGE for reason in Reason)


def test_fields_stay_where_there_is_nothing_to_tell():
    plain = ended(READY)

    assert plain.keys() == ended(EVERYTHING).keys()
    assert (plain["stopped"], plain["stuck"], plain["nothing_stored"], plain["errors"]) == (None, [], [], {})
    assert plain["rows"] == {"done": 3, "ready": 5}
