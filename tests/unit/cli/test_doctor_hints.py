"""What `doctor` says of a key that is refused."""

from __future__ import annotations

import pytest

from cli.commands.doctor import _key
from jobs.settings.model import AccountSettings
from providers.types import Kind, Unreadable

REFUSED = Unreadable(code="bad_key", message="unauthorized", kind=Kind.ACCOUNT)


@pytest.mark.parametrize(
    ("provider", "other"), [("maxapi.io", "maxapi.dev"), ("maxapi.dev", "maxapi.io"), ("apimaster", None)]
)
def test_only_who_may_have_taken_one_company_for_another_hears_of_the_other(provider, other):
    account = AccountSettings(provider=provider, api_key="k", base_url="http://127.0.0.1:1")

    said = _key("main", account, REFUSED).text

    assert "refuses the key: unauthorized" in said
    assert ("another company" in said) == (other is not None)
    assert other is None or f"{other} is another company" in said
