"""Fixtures that integration tests share."""

from __future__ import annotations

import pytest

from jobs.policy.access import Role
from sandbox.launch import running
from tests.support.access import make
from tests.support.sandbox_client import QUICK


@pytest.fixture(scope="module")
def one_box():
    with running() as box:
        yield box


@pytest.fixture
def box(one_box):
    one_box.arrange(QUICK)
    one_box.reset()
    return one_box


@pytest.fixture
def operator(ledger):
    return make(ledger, "ops", Role.OPERATOR)


@pytest.fixture
def viewer(ledger):
    return make(ledger, "screen", Role.VIEWER)


@pytest.fixture
def woken():
    """The lanes that were woken."""
    return []
