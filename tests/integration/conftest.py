"""Fixtures that integration tests share."""

from __future__ import annotations

import pytest

from sandbox.launch import running
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
