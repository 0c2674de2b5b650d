"""S3 as the aws cli would find it: boto3 tells credentials, endpoint and region, and whether the bucket is there.

obstore reads no AWS profile; boto3 is slow at moving bytes. So one finds and the other carries.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  botocore's own tree
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
)
from obstore.store import S3Store

from jobs.errors import StoreError
from worker.storage.object_store_options import RETRY, client_options, configured, is_plain_http

#: A person waits for the first look at a bucket.
LOOK = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})
DEFAULT_REGION = "us-east-1"
AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")


class S3Access:
    """One bucket's whereabouts and credentials. Temporary credentials are renewed by botocore as they age."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        try:
            session = boto3.session.Session()
            self._credentials = self._credentials_of(session)
            client = session.client("s3", config=LOOK)
            region = self._look(client)
            self._endpoint = _own_endpoint(client.meta.endpoint_url)
        except BotoCoreError as error:
            raise self._problem(error) from error
        self._region = region or session.region_name or DEFAULT_REGION
        self._lock = threading.Lock()
        self._made: dict[timedelta, tuple[object, S3Store]] = {}

    @property
    def is_amazons(self) -> bool:
        """Whether it is Amazon's own S3, and not something that speaks like it."""
        return not self._endpoint

    def open_with(self, timeout: timedelta) -> S3Store:
        """A store with credentials that are valid now: a new one when they have changed, else the one before."""
        try:
            frozen = self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise self._problem(error) from error
        with self._lock:
            known, store = self._made.get(timeout, (None, None))
            if store is None or known != frozen:
                store = self._make(frozen, timeout)
                self._made[timeout] = (frozen, store)
            return store

    def _make(self, frozen: Any, timeout: timedelta) -> S3Store:
        values = {
            "endpoint": self._endpoint,
            "region": self._region,
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "session_token": frozen.token,
        }
        options = client_options(timeout, allow_http=is_plain_http(self._endpoint))
        return S3Store(self._bucket, config=configured(values), client_options=options, retry_config=RETRY)  # type: ignore[arg-type]

    def _credentials_of(self, session: Any) -> Any:
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        return credentials

    def _look(self, client: Any) -> str | None:
        """The bucket's region. 403 is let pass: who may only put may not look, and the probe says what is refused."""
        try:
            region: str | None = client.head_bucket(Bucket=self._bucket).get("BucketRegion")
        except ClientError as error:
            answer = error.response.get("ResponseMetadata", {})
            if answer.get("HTTPStatusCode") != 403:  # noqa: PLR2004  as the docstring says
                raise self._problem(error) from error
            region = answer.get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return region

    def _problem(self, error: BotoCoreError | ClientError) -> StoreError:
        where = f"s3://{self._bucket}"
        if isinstance(error, ClientError):
            return self._answered(where, error)
        if isinstance(error, (ConnectionError, HTTPClientError)):
            return StoreError(code="bucket_unreachable", message=f"{where}: {_line(error)}", retryable=True)
        if isinstance(error, ParamValidationError):
            return StoreError(code="bad_destination", message=f"{where}: no legal bucket name", retryable=False)
        message = (
            f"{where}: {_line(error)}. Credentials are looked for as the aws cli does (environment, AWS_PROFILE, …)"
        )
        return StoreError(code="bucket_no_credentials", message=message, retryable=False, denied=True)

    def _answered(self, where: str, error: ClientError) -> StoreError:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if status == 404:  # noqa: PLR2004  a HEAD has no body to say more
            return StoreError(code="bucket_missing", message=f"{where}: there is no such bucket", retryable=True)
        denied = status in {401, 403}
        code = "bucket_denied" if denied else "bucket_failing"
        return StoreError(code=code, message=f"{where}: {_line(error)}", retryable=True, denied=denied)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def _own_endpoint(url: str) -> str:
    """An endpoint that is not Amazon's; theirs follows from the region."""
    host = urlsplit(url).hostname or ""
    return "" if host.endswith(AWS_HOSTS) else url
