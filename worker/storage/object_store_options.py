"""How obstore speaks to every cloud."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONNECT_TIMEOUT = timedelta(seconds=3)

RETRY: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}


def client_options(timeout: timedelta, *, allow_http: bool = False) -> ClientConfig:
    """How every cloud is spoken to."""
    return {"timeout": timeout, "connect_timeout": CONNECT_TIMEOUT, "allow_http": allow_http}


def configured(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not set."""
    return {name: value for name, value in values.items() if value}


def is_plain_http(endpoint: str) -> bool:
    """Whether an endpoint is spoken to without TLS."""
    return urlsplit(endpoint).scheme == "http"
