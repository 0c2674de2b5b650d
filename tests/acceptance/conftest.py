"""Servers in the place of the three providers, made from their pages alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import any_server


@pytest.fixture(scope="session")
def provider_servers() -> Iterator[any_server.Providers]:
    with any_server.serving() as served:
        yield served


@pytest.fixture
def providers(provider_servers) -> any_server.Providers:
    """The three providers, with no order yet."""
    provider_servers.forget()
    return provider_servers
