"""Why a store gave no answer, in words that hold no login."""

from __future__ import annotations

import pytest

from worker.storage.causes import cause_in_text, cause_of

PROXY = "http://user:s3cr3t/pw@127.0.0.1:1"


def test_a_proxys_login_that_cannot_be_read_is_not_shown():
    said = cause_of(ValueError("Failed to parse: 'user:s3cr3t' is not a valid host"), "https://b.test/k", proxy=PROXY)

    assert "through the proxy 127.0.0.1:1" in said
    assert not any(word in said for word in ("s3cr3t", "user", "pw"))


@pytest.mark.parametrize("login", ["user:s3cr3t/pw", "user:s3cr3t", "s3cr3t"])
def test_nor_where_a_library_has_only_text(monkeypatch, login):
    monkeypatch.setenv("https_proxy", f"http://{login}@127.0.0.1:1")

    said = cause_in_text(f"error - the proxy {login} for https://storage.test/x is odd")

    assert "s3cr3t" not in said
    assert "127.0.0.1:1" in said
