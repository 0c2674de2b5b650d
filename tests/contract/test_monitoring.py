"""The dashboard and the alert rules of `ops/` name what the metrics have, and each alert says what to do."""

from __future__ import annotations

import contextlib
import json
import re
import time

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from jobs.errors import CODES
from jobs.facts import SubmitRefused, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.states import TroubleKind
from providers.dialects.answers import ACCOUNT_CODES
from providers.types import Kind
from tests.support import ROOT, stocked_ledger
from web.metrics import NEEDS, WAITS, LedgerMetrics

DOCS = ROOT / "docs" / "how-to"


@pytest.fixture
def ledger(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as opened:
        yield opened


def scraped(ledger):
    registry = CollectorRegistry()
    registry.register(LedgerMetrics(lambda: ledger))
    return generate_latest(registry).decode()


def told(ledger):
    return dict(line.rsplit(" ", 1) for line in scraped(ledger).splitlines() if line[0] != "#")


def metrics_of(text):
    """The metrics that a page of Prometheus has, with the labels that it has for each."""
    families = re.findall(r"^# TYPE (\w+) (\w+)", text, re.MULTILINE)
    return {name for name, _ in families} | {re.split(r"[{ ]", line)[0] for line in text.splitlines() if line[0] != "#"}


def labels_of(text, metric):
    return {
        label
        for labels in re.findall(rf"^{metric}{{(.*?)}} ", text, re.MULTILINE)
        for label in re.findall(r"(\w+)=", labels)
    }


def stocked(ledger):
    """Something of all: an image that waits with its link, a destination in trouble, an account without money."""
    now = time.time()
    stocked_ledger.stock(ledger, stocked_ledger.rows(8))
    ledger.accounts.sync([stocked_ledger.account(daily_budget=1_000_000)], daily_budget=2_000_000)
    first, second, *_ = ledger.claims.submits("main", now, lease=90, at_most=3).intents
    made = stocked_ledger.made(expires_at=now + 900)
    ledger.facts.record([TaskSucceeded(attempt_id=first.attempt_id, at=now, images=(made,))])
    refused = {"kind": Kind.ACCOUNT, "code": "no_balance", "message": "top up"}
    ledger.facts.record([SubmitRefused(attempt_id=second.attempt_id, at=now, **refused)])
    trouble = {"kind": TroubleKind.BEHIND, "since": now, "code": "copies_behind", "message": "slow"}
    ledger.destinations.say_troubles("me", [DestinationTrouble(dest="/tmp/dest", **trouble)], now)
    ledger.workers.touch("here:1", now, now)
    return ledger


def alerts():
    (group,) = yaml.safe_load((ROOT / "ops" / "alerts.yml").read_text())["groups"]
    return group["rules"]


def dashboard():
    return json.loads((ROOT / "ops" / "grafana-dashboard.json").read_text())


def expressions():
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]
    queries = [one["query"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    return [*panels, *queries, *(rule["expr"] for rule in alerts())]


def test_every_metric_that_alerts_and_dashboard_name_is_one_that_is_served(ledger):
    served = metrics_of(scraped(stocked(ledger)))
    named = {name for expression in expressions() for name in re.findall(r"lightfast_\w+", expression)}

    assert named - served == set()
    assert len(named) > 20


def test_every_label_that_they_select_by_is_one_that_the_metric_has(ledger):
    text = scraped(stocked(ledger))
    wrong = [
        (metric, label)
        for expression in expressions()
        for metric, selected in re.findall(r"(lightfast_\w+){(.*?)}", expression)
        for label in re.findall(r"(\w+)[=!]", selected)
        if label not in labels_of(text, metric)
    ]

    assert wrong == []


def test_every_metric_stands_in_the_table_of_the_docs_and_the_reverse(ledger):
    page = (DOCS / "cluster.md").read_text()
    served = metrics_of(scraped(stocked(ledger))) - {"lightfast_unstored_in_a_row"}
    named = set(re.findall(r"`(lightfast_\w+)", page))

    assert served - named == set()
    assert {
        name for name in named if name.removesuffix("_total") not in {one.removesuffix("_total") for one in served}
    } <= {"lightfast_unstored_in_a_row"}


def test_each_alert_says_in_short_what_it_is_and_leads_to_what_to_do():
    page = (DOCS / "monitoring.md").read_text()
    for rule in alerts():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert re.fullmatch(r"\d+m", rule["for"])
        assert (path, anchor) == ("docs/how-to/monitoring.md", rule["alert"].lower())
        assert (
            f"\n### {rule['alert']}\n\n`{rule['labels']['severity']}` after {rule['for']}: `{rule['expr']}`\n" in page
        )


def test_the_alert_of_a_refused_account_names_every_code_that_only_a_person_can_end():
    chosen = [re.search(r'code[=!]~"(.*?)"', rule["expr"]) for rule in alerts() if "account_trouble" in rule["expr"]]

    assert [set(found[1].split("|")) for found in chosen if found] == [ACCOUNT_CODES, ACCOUNT_CODES]


def test_panels_have_numbers_of_their_own_and_lie_side_by_side():
    panels = dashboard()["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}

    assert len({panel["id"] for panel in panels}) == len(places) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_the_metrics_tell_which_batches_need_a_person_and_why(ledger):
    """Each reason is told, most of them as 0."""
    found = told(stocked(ledger))

    needs = {reason: found[f'lightfast_batches_need_person{{reason="{reason}"}}'] for reason in NEEDS}
    assert needs == {**dict.fromkeys(NEEDS, "0.0"), "account_paused": "1.0"}
    assert {found[f'lightfast_batches_wait{{reason="{reason}"}}'] for reason in WAITS} == {"0.0"}
    assert found['lightfast_account_trouble{account="main",code="no_balance"}'] == "1.0"


def test_the_metrics_tell_what_daily_budgets_leave(ledger):
    found = told(stocked(ledger))

    assert found['lightfast_daily_budget_usd{account=""}'] == "2.0"
    spent = 2 * stocked_ledger.PRICE / 1_000_000
    assert float(found['lightfast_daily_budget_left_usd{account="main"}']) == pytest.approx(1.0 - spent)


def test_failed_rows_are_counted_by_code_and_words_of_a_provider_make_no_label(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(4))
    intents = ledger.claims.submits("main", time.time(), lease=90).intents
    codes = ["moderation", "moderation", "a word of theirs", "another word"]
    for intent, code in zip(intents, codes, strict=True):
        kind = Kind.MODERATION if code in CODES else Kind.PERMANENT
        fact = SubmitRefused(attempt_id=intent.attempt_id, at=time.time(), kind=kind, code=code, message="no")
        ledger.facts.record([fact])

    rows = {name: value for name, value in told(ledger).items() if name.startswith("lightfast_failed_rows")}
    assert rows == {'lightfast_failed_rows{code="moderation"}': "2.0", 'lightfast_failed_rows{code="other"}': "2.0"}
