"""A task that a person found is asked about where its kind is kept."""

from __future__ import annotations

import pytest

from jobs.ledger.batches.values import UnknownAttempt
from jobs.settings.model import Settings
from worker.recovery.provider_task import call_for


@pytest.mark.parametrize(("edits", "place"), [(True, "/v1/images/edits/"), (False, "/v1/images/generations/")])
def test_a_task_made_from_references_has_its_own_place(tmp_path, edits, place):
    names = {"batch": "b", "key": "k", "account": "main", "provider": "maxapi.dev", "provider_model": "gpt-image-2"}
    unknown = {"slots": (0,), "money": 1, "price_known": True, "sent_at": 0.0, "code": None, "message": None}
    attempt = UnknownAttempt(attempt_id=1, **names, **unknown, edits=edits)

    call = call_for(Settings(database_url=f"sqlite:///{tmp_path / 'l.db'}"), attempt, "T1")

    assert call.path == f"{place}T1"
