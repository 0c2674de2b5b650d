"""The web door tells a probe the truth, and Prometheus what the ledger counts."""

from __future__ import annotations

import contextlib

import pytest
from fastapi.testclient import TestClient

from jobs.errors import WrongSchema
from jobs.ledger import open_ledger
from web.app import Door, make_app


@contextlib.contextmanager
def opened(url):
    door = Door(lambda: open_ledger(url))
    with contextlib.closing(door), TestClient(make_app(door)) as client:
        yield client


def test_ready_with_a_ledger_on_either_database(ledger_url):
    with opened(ledger_url) as client:
        assert client.get("/livez").text == "ok\n"
        assert client.get("/readyz").status_code == 200


def test_metrics_count_jobs_money_and_flight(sqlite_ledger_url):
    with opened(sqlite_ledger_url) as client:
        page = client.get("/metrics")

    assert page.headers["content-type"].startswith("text/plain")
    assert "lightfast_at_risk_images 0.0" in page.text
    assert "lightfast_workers 0.0" in page.text


def test_alive_but_not_ready_without_its_database_and_no_password_is_told():
    with opened("postgresql+psycopg://mia:tellnobody@127.0.0.1:1/lost") as client:
        assert client.get("/livez").status_code == 200
        answer = client.get("/readyz")

    assert answer.status_code == 503
    assert "tellnobody" not in answer.text


def test_not_ready_on_a_schema_of_another_version():
    def open_a_newer_one():
        raise WrongSchema("the ledger is newer than this program")

    with TestClient(make_app(Door(open_a_newer_one))) as client:
        answer = client.get("/readyz")

    assert (answer.status_code, answer.text) == (503, "not ready: WrongSchema\n")


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/", "/admin"])
def test_nothing_else_is_served(sqlite_ledger_url, path):
    with opened(sqlite_ledger_url) as client:
        assert client.get(path).status_code == 404
