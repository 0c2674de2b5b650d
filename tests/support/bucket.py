"""A bucket at a real S3 server, which a test has to itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox import servers


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket of its own at the S3 server; the AWS variables lead to it."""

    server: servers.S3
    name: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body
