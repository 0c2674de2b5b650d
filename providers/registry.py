"""All providers, by the names users write."""

from __future__ import annotations

from collections.abc import Mapping

from providers import apimaster, maxapi_dev, maxapi_io
from providers.dialect import Dialect

DIALECTS: Mapping[str, Dialect] = {
    dialect.provider: dialect for dialect in (maxapi_io.DIALECT, maxapi_dev.DIALECT, apimaster.DIALECT)
}

PROVIDERS = tuple(DIALECTS)

#: Where each one's API is; the API's own path is appended by its dialect.
BASE_URLS: Mapping[str, str] = {
    "maxapi.io": "https://api.maxapi.io",
    "maxapi.dev": "https://api.maxapi.dev",
    "apimaster": "https://apimaster.ai",
}
