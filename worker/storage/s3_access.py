"""The AWS configuration, found and obeyed as the aws cli does: one botocore session, which makes every client.

What it takes from where: docs/reference/storage.md. botocore reads nearly all of it by itself; what stands here is what
it does not read, or not from where other tools do.
"""

from __future__ import annotations

import enum
import functools
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  botocore's own tree
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.handlers import add_expect_header
from botocore.utils import get_environ_proxies

from jobs.errors import StoreError
from jobs.settings.proxies import read_proxies
from worker.storage.answers import refused, unreachable
from worker.storage.causes import cause_of, host_of, plain
from worker.storage.s3_put import RepeatedPuts

DEFAULT_REGION = "us-east-1"
AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")
#: Connections of one client: more than a process has copies under way at one destination.
CONNECTIONS = 32
#: Other bundles of certificates than botocore's own settings name (AWS_CA_BUNDLE, ca_bundle), the first that is set.
CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
CHECKSUMS = frozenset({"CRC32", "SHA256"})
ENCRYPTIONS = frozenset({"AES256", "aws:kms", "aws:kms:dsse"})
NO_ACCESS = (
    CredentialRetrievalError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
#: What stores say that want the bucket in the host's name, and what helps.
VIRTUAL_ONLY = ("SecondLevelDomainForbidden", "virtual-host", "virtual host", "PathStyle")
VIRTUAL_HELP = ". This store wants the bucket in the host name:  s3 = addressing_style = virtual  in ~/.aws/config"


class Patience(enum.Enum):
    """How long a client waits: seconds for an answer, and tries (0: as the AWS configuration says)."""

    WORK = (30, 0)  # a put of 25 MB over a slow line takes longer, but no single answer does
    PERSON = (6, 2)  # the first look and the probe: their objects are tiny, and somebody waits
    SIGN = (6, 1)  # no request is made


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSettings:
    """What the environment asks of every request, where botocore has no setting of its own."""

    checksum: str  # of each object that is written, as a header: "CRC32", "SHA256", or "": none
    payer: Mapping[str, str]  # for every request
    encryption: Mapping[str, Any]  # for those that write


class S3Access:
    """One bucket's whereabouts, credentials and settings. Temporary credentials are renewed by botocore as they age.

    Raises:
        StoreError: The configuration is not valid, there are no credentials, or the bucket is not there.
    """

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._region: str | None = None
        self._clients: dict[Patience, Any] = {}
        self._puts: dict[Patience, RepeatedPuts] = {}
        self._lock = threading.Lock()
        try:
            self._session = botocore.session.Session()
            self._take_ca_bundle()
            if self._session.get_credentials() is None:
                raise NoCredentialsError
            self._region = os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
            self.settings = _put_settings(self._session.get_config_variable("request_checksum_calculation"))
            self._region = self._look() or self._region or DEFAULT_REGION
            self._clients = {Patience.WORK: self._make(Patience.WORK)}  # now that the region is known
        except (BotoCoreError, ClientError) as error:
            raise self.problem(error, f"s3://{bucket}", "s3:ListBucket") from error
        #: Whether it is Amazon's own S3, and not something that speaks like it.
        self.is_amazons = (urlsplit(self._endpoint()).hostname or "").endswith(AWS_HOSTS)

    def client(self, patience: Patience) -> Any:
        """A client that waits so long; made once. Safe to use from threads."""
        with self._lock:
            if patience not in self._clients:
                self._clients[patience] = self._make(patience)
            return self._clients[patience]

    def puts(self, patience: Patience) -> RepeatedPuts:
        """What puts objects with such a client."""
        client = self.client(patience)
        with self._lock:
            if patience not in self._puts:
                self._puts[patience] = RepeatedPuts(client, functools.partial(_credentials, self._session))
            return self._puts[patience]

    def problem(self, error: BotoCoreError | ClientError, url: str, action: str, help_: str = "") -> StoreError:
        """What botocore raised, as a `StoreError`. `help_` is said of a refusal that it may explain."""
        if isinstance(error, ClientError):
            return self._answered(error, url, action, help_)
        if isinstance(error, (ConnectionError, HTTPClientError, IncompleteReadError)):
            where = str(error.kwargs.get("endpoint_url") or self._endpoint())
            return unreachable(url, action, cause_of(error, where, proxy=_proxy_for(where)))
        if isinstance(error, NO_ACCESS):
            found = "Credentials are looked for as the aws cli does (environment, AWS_PROFILE, …)"
            message = f"{url}: {plain(str(error))}. {found}"
            return StoreError(code="bucket_no_credentials", message=message, retryable=False, denied=True)
        if isinstance(error, ParamValidationError):
            message = f"{url}: {plain(str(error))}"
            return StoreError(code="bad_destination", message=message, retryable=False)
        return _misconfigured(f"{url}: {plain(str(error))}")

    # -- how -------------------------------------------------------------------------------------------------------

    def _take_ca_bundle(self) -> None:
        """Certificates for every client of the session, those that fetch credentials among them."""
        named = self._session.get_config_variable("ca_bundle")
        bundle = named or next((os.environ[name] for name in CA_BUNDLES if os.environ.get(name)), None)
        if bundle is None:
            return
        if not Path(bundle).exists():
            raise _misconfigured(f"s3://{self._bucket}: there is no file of certificates {bundle} (AWS_CA_BUNDLE, …)")
        self._session.set_config_variable("ca_bundle", bundle)

    def _make(self, patience: Patience) -> Any:
        seconds, tries = patience.value
        given: dict[str, Any] = {"retries": {"total_max_attempts": tries}} if tries else {}
        if patience is Patience.SIGN:
            given |= self._signing()
        config = Config(
            connect_timeout=3,
            read_timeout=seconds,
            max_pool_connections=CONNECTIONS,
            request_checksum_calculation="when_required",  # `PutSettings.checksum` goes as a header, which more take
            **given,
        )
        region = self._region or DEFAULT_REGION
        client = self._session.create_client("s3", region_name=region, config=config)
        if _is_direct(client.meta.endpoint_url):
            direct = config.merge(Config(proxies={}))
            client = self._session.create_client("s3", region_name=region, config=direct)
        # A server that does not answer `Expect: 100-continue` would be waited for, over TLS until the time is up.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        if patience is Patience.SIGN and self.settings.payer:  # whoever opens an address sends no header
            client.meta.events.register("before-sign.s3.GetObject", _agree_to_pay)
        return client

    def _signing(self) -> dict[str, Any]:
        """How addresses are signed: not in the older way, botocore's default, which many stores do not take.

        Amazon's have the region in their host, which botocore leaves out unless the style is virtual.
        """
        style = (self._session.get_config_variable("s3") or {}).get("addressing_style", "auto")
        regional = style == "auto" and "." not in self._bucket and self.is_amazons
        return {"signature_version": "s3v4", **({"s3": {"addressing_style": "virtual"}} if regional else {})}

    def _look(self) -> str | None:
        """The bucket's region. 403 is let pass: who may only put may not look, and the probe says what is refused."""
        client = self.client(Patience.PERSON)
        try:
            found = client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            answer = error.response.get("ResponseMetadata", {})
            if answer.get("HTTPStatusCode") == HTTPStatus.NOT_FOUND:  # nothing could say more
                raise
            if answer.get("HTTPStatusCode") != HTTPStatus.FORBIDDEN:
                client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)  # the answer to a HEAD does not say why
            found = {"BucketRegion": answer.get("HTTPHeaders", {}).get("x-amz-bucket-region")}
        region: str | None = found.get("BucketRegion")
        return region

    def _endpoint(self) -> str:
        known = next(iter(self._clients.values()), None)
        return known.meta.endpoint_url if known else "https://s3.amazonaws.com"

    def _answered(self, error: ClientError, url: str, action: str, help_: str) -> StoreError:
        said = error.response.get("Error", {})
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        own_code = str(said.get("Code", ""))
        if action == "s3:ListBucket" and status == "404" and url == f"s3://{self._bucket}":
            return StoreError(code="bucket_missing", message=f"{url}: there is no such bucket", retryable=True)
        if error.operation_name.startswith(("Assume", "GetRoleCredentials", "GetSessionToken")):
            action = f"{error.operation_name} for credentials"
        if any(word in own_code + str(said.get("Message", "")) for word in VIRTUAL_ONLY):
            help_ = VIRTUAL_HELP
        elif own_code == status and (proxy := _proxy_for(self._endpoint())):
            help_ = f" (perhaps an answer of the proxy {host_of(proxy)})"
        return refused(
            url,
            action,
            status=status,
            own_code="" if own_code == status else own_code,
            said=str(said.get("Message", "")),
            help_=help_,
        )


def _credentials(session: Any) -> Any:
    """As they are now. Raises NoCredentialsError where there are none any more."""
    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError
    return found.get_frozen_credentials()


def _agree_to_pay(request: Any, **_: object) -> None:
    request.params["x-amz-request-payer"] = "requester"


def _is_direct(url: str) -> bool:
    """Whether NO_PROXY names the address, by a network too: botocore knows only names there."""
    return read_proxies(None, os.environ)[0].is_direct(url)


def _proxy_for(url: str) -> str:
    proxy: str = "" if _is_direct(url) else get_environ_proxies(url).get(urlsplit(url).scheme, "")
    return proxy


def _put_settings(calculation: str) -> PutSettings:
    """From the variables that `object_store` and its kin read too; the aws cli has options instead."""
    checksum = os.environ.get("AWS_CHECKSUM_ALGORITHM", "").upper()
    if checksum and checksum not in CHECKSUMS:
        raise _misconfigured(f"AWS_CHECKSUM_ALGORITHM={checksum}: only CRC32 and SHA256 can be sent")
    encryption = os.environ.get("AWS_SERVER_SIDE_ENCRYPTION", "")
    if encryption and encryption not in ENCRYPTIONS:
        raise _misconfigured(
            f"AWS_SERVER_SIDE_ENCRYPTION={encryption}: only AES256, aws:kms and aws:kms:dsse can be asked for. "
            "A signed address opens no object that is encrypted with a customer's key (sse-c)"
        )
    key = os.environ.get("AWS_SSE_KMS_KEY_ID", "")
    asked = {"ServerSideEncryption": encryption or ("aws:kms" if key else ""), "SSEKMSKeyId": key}
    with_bucket_key = _is_true("AWS_SSE_BUCKET_KEY_ENABLED")
    payer = {"RequestPayer": "requester"} if _is_true("AWS_REQUEST_PAYER", "requester") else {}
    return PutSettings(
        checksum=checksum or ("CRC32" if calculation.lower() == "when_supported" else ""),
        payer=payer,
        encryption={
            **{name: value for name, value in asked.items() if value},
            **({"BucketKeyEnabled": True} if with_bucket_key else {}),
        },
    )


def _is_true(name: str, *more: str) -> bool:
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on", *more}


def _misconfigured(message: str) -> StoreError:
    return StoreError(code="bucket_misconfigured", message=message, retryable=False)
