"""All providers, by the names users write."""

from __future__ import annotations

from collections.abc import Mapping

from providers.dialects.apimaster import DIALECT as APIMASTER
from providers.dialects.maxapi_dev import DIALECT as MAXAPI_DEV
from providers.dialects.maxapi_io import DIALECT as MAXAPI_IO
from providers.types import Dialect, ManyTasks

DIALECTS: Mapping[str, Dialect] = {dialect.provider: dialect for dialect in (MAXAPI_IO, MAXAPI_DEV, APIMASTER)}

PROVIDERS = tuple(DIALECTS)

#: Those that can be asked about many tasks in one request.
MANY_TASKS: Mapping[str, ManyTasks] = {APIMASTER.provider: APIMASTER}

#: Where each one's API is; the API's own path is appended by its dialect.
BASE_URLS: Mapping[str, str] = {
    "maxapi.io": "https://api.maxapi.io",
    "maxapi.dev": "https://api.maxapi.dev",
    "apimaster": "https://apimaster.ai",
}

#: The API's own path, which its dialect appends; people copy it along with the base URL, and settings take it off.
API_PATHS: Mapping[str, str] = {"maxapi.io": "/api/v1", "maxapi.dev": "/v1", "apimaster": "/v1"}


def key_variable(provider: str) -> str:
    """The variable that holds a provider's key: MAXAPI_IO_API_KEY."""
    return f"{_in_capitals(provider)}_API_KEY"


def base_url_variable(provider: str) -> str:
    """The variable that holds a provider's base URL: MAXAPI_IO_BASE_URL."""
    return f"{_in_capitals(provider)}_BASE_URL"


def _in_capitals(provider: str) -> str:
    return provider.upper().replace(".", "_").replace("-", "_")
