"""Servers in the place of the three providers, made from their pages alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import provider_servers


@pytest.fixture(scope="session")
def all_providers() -> Iterator[provider_servers.Providers]:
    with provider_servers.serving() as served:
        yield served


@pytest.fixture
def providers(all_providers) -> provider_servers.Providers:
    """The three providers, with no order yet."""
    all_providers.forget()
    return all_providers
