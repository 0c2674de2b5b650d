"""What tests in virtual time stand on."""

from __future__ import annotations

import pytest

from worker.local import serve as serving


@pytest.fixture
def looks_seldom(monkeypatch):
    """Nights are long: a worker that serves does not look every second."""
    monkeypatch.setattr(serving, "LOOK_EVERY", 1800.0)
