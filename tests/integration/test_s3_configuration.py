"""Every setting of the AWS configuration that Lightfast takes, against servers of this machine.

docs/reference/storage.md lists them; each row there names its test here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import sys
import urllib.parse
import zlib
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from jobs.errors import BadInput, LightfastError, StoreError
from tests.support.certificates import authority
from tests.support.cloud_storage_servers import cloud, store_in
from tests.support.forward_proxy import forward_proxy
from tests.support.s3_server import Manners, minio_names, s3_server
from tests.support.shop_ledger import call
from worker.registration.manifest_sources import local_source
from worker.storage.base import Probed, PutResult
from worker.storage.opening import open_store
from worker.storage.s3_access import Patience, S3Access

PNG = "image/png"
#: Variables that would lead a store elsewhere than the test says.
OTHERS = ("PROXY", "CA_BUNDLE", "SSL_CERT")


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch, tmp_path):
    for name in [name for name in os.environ if any(part in name.upper() for part in OTHERS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws.config"))


@pytest.fixture
def server(monkeypatch):
    with s3_server() as served:
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        yield served


@pytest.fixture
def proxy():
    with forward_proxy() as passing:
        yield passing


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tls(ca, monkeypatch):
    with s3_server(tls=ca.server) as served:
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        yield served


def configure(text):
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(text)


def opened():
    return open_store("s3://shop-img/x")


def refusal(take=lambda: opened().probe()):
    with pytest.raises(StoreError) as caught:
        take()
    assert "very-secret" not in caught.value.message
    return caught.value


# -- where the bucket is -------------------------------------------------------------------------------------------


def test_addressing_style_virtual_puts_the_bucket_into_the_host_of_every_request(server, proxy, monkeypatch):
    configure("[default]\ns3 =\n  addressing_style = virtual\n")
    server.manners.only_virtual_hosts = True
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://localhost:{server.port}")
    monkeypatch.setenv("HTTP_PROXY", proxy.url)  # it knows the name shop-img.localhost

    store = opened()

    assert store.probe() == Probed()
    assert list(store.objects()) == []
    assert {each.host for each in server.asked} == {"shop-img.localhost"}
    assert urllib.parse.urlsplit(store.presign("k", 60)).hostname == "shop-img.localhost"


def test_a_store_that_wants_virtual_hosts_says_which_setting_helps(server):
    server.manners.only_virtual_hosts = True

    assert "addressing_style = virtual" in refusal().message


@pytest.mark.parametrize(
    "profile",
    [
        "[default]\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = {url}\n",
        "[default]\nendpoint_url = {url}\n",
    ],
)
def test_the_endpoint_of_a_profile_or_of_its_services_section_is_used(server, monkeypatch, profile):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    configure(profile.format(url=server.url))

    assert opened().probe() == Probed()


def test_the_endpoint_for_s3_goes_before_the_one_for_all_services(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)

    assert opened().probe() == Probed()


@pytest.mark.parametrize(
    ("profile", "host"),
    [
        ("use_fips_endpoint = true", "shop-img.s3-fips.eu-west-1.amazonaws.com"),
        ("use_dualstack_endpoint = true", "shop-img.s3.dualstack.eu-west-1.amazonaws.com"),
        ("s3 =\n  use_accelerate_endpoint = true", "shop-img.s3-accelerate.amazonaws.com"),
        ("s3 =\n  addressing_style = path", "s3.eu-west-1.amazonaws.com"),
        ("", "shop-img.s3.eu-west-1.amazonaws.com"),
    ],
)
def test_amazons_own_endpoints_are_those_of_the_configuration(server, monkeypatch, profile, host):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr(S3Access, "_look", lambda _: None)
    configure(f"[default]\nregion = eu-west-1\n{profile}\n")

    address = (
        S3Access("shop-img")
        .client(Patience.SIGN)
        .generate_presigned_url("get_object", Params={"Bucket": "shop-img", "Key": "k"})
    )

    assert urllib.parse.urlsplit(address).hostname == host


def test_addresses_are_signed_in_the_new_way_as_requests_are(server):
    store = opened()
    store.put("a", b"x", content_type=PNG)

    assert "X-Amz-Signature=" in store.presign("a", 60)
    assert server.puts()[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 ")


# -- certificates and proxies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "ca_bundle"])
def test_a_bundle_of_certificates_is_taken_from_each_place(tls, ca, monkeypatch, name):
    if name == "ca_bundle":
        configure(f"[default]\nca_bundle = {ca.bundle}\n")
    else:
        monkeypatch.setenv(name, str(ca.bundle))

    assert opened().probe() == Probed()


def test_the_bundle_that_aws_names_goes_before_the_others(tls, ca, monkeypatch, tmp_path):
    (tmp_path / "other.pem").write_bytes(authority(tmp_path).bundle.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    assert "not trusted" in refusal().message
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca.bundle))

    assert opened().probe() == Probed()


def test_a_certificate_that_is_not_trusted_is_told_with_the_setting_that_helps(tls):
    error = refusal()

    assert error.code == "bucket_unreachable"
    assert f"the certificate of localhost:{tls.port} is not trusted" in error.message
    assert "AWS_CA_BUNDLE" in error.message


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_https_goes_through_the_proxy(tls, ca, proxy, monkeypatch, name):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca.bundle))
    monkeypatch.setenv(name, proxy.url)

    assert opened().probe() == Probed()
    assert set(proxy.seen) == {("CONNECT", f"localhost:{tls.port}")}


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_http_goes_through_the_proxy(server, proxy, monkeypatch, name):
    monkeypatch.setenv(name, proxy.url)

    assert opened().probe() == Probed()
    assert len(proxy.seen) == len(server.asked) > 3
    assert all(target.startswith(f"{server.url}/shop-img") for _, target in proxy.seen)


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("hosts", ["127.0.0.1", "*", "example.com,127.0.0.0/8"])
def test_what_needs_no_proxy_goes_straight(server, proxy, monkeypatch, name, hosts):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv(name, hosts)

    assert opened().probe() == Probed()
    assert proxy.seen == []


# -- what is told of a request without an answer -------------------------------------------------------------------


def nowhere(monkeypatch, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    error = refusal()
    assert (error.code, error.retryable) == ("bucket_unreachable", True)
    return error.message


def test_the_cause_is_told_when_no_answer_comes(server, monkeypatch):
    assert "127.0.0.1:9 refuses connections" in nowhere(monkeypatch, "http://127.0.0.1:9")
    assert "name of bucket.invalid:80 is not known" in nowhere(monkeypatch, "http://bucket.invalid:80")
    assert f"127.0.0.1:{server.port} does not speak TLS" in nowhere(monkeypatch, f"https://127.0.0.1:{server.port}")


def test_a_server_that_says_nothing_is_told(server, monkeypatch):
    monkeypatch.setattr(Patience.PERSON, "_value_", (0.2, 1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert f"127.0.0.1:{port} does not answer in time" in nowhere(monkeypatch, f"http://127.0.0.1:{port}")


def test_a_proxy_that_is_away_or_refuses_is_named_without_its_password(tls, ca, proxy, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca.bundle))
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pass-word@127.0.0.1:9")
    said = nowhere(monkeypatch, tls.url)
    assert "the proxy 127.0.0.1:9 refuses connections" in said
    assert "pass-word" not in said

    proxy.allows = False
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert f"the proxy {proxy.url[7:]} does not let it pass: 403" in nowhere(monkeypatch, tls.url)


def test_who_has_only_all_proxy_is_told_that_s3_does_not_read_it(server, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    assert "HTTPS_PROXY" in nowhere(monkeypatch, "http://bucket.invalid:80")


# -- credentials and tries -----------------------------------------------------------------------------------------


def test_credentials_that_expire_are_renewed_while_the_store_is_open(server, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    script = tmp_path / "login.py"
    script.write_text(
        "import datetime, json, pathlib\n"
        f"file = pathlib.Path({str(tmp_path / 'times')!r})\n"
        "times = len(file.read_text()) + 1 if file.exists() else 1\n"
        "file.write_text('x' * times)\n"
        "ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'KEY{times}', 'SecretAccessKey': 's', 'SessionToken': 't',\n"
        "                  'Expiration': ends.isoformat()}))\n"
    )
    configure(f"[default]\ncredential_process = {sys.executable} {script}\n")

    store = opened()
    store.put("a", b"x", content_type=PNG)
    store.put("b", b"x", content_type=PNG)

    first, second = (each.access_key for each in server.puts())
    assert first != second
    assert {each.headers["x-amz-security-token"] for each in server.asked} == {"t"}


def test_a_profile_is_named_by_aws_profile(server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    configure("[profile shop]\naws_access_key_id = SHOPKEY\naws_secret_access_key = very-secret\n")
    monkeypatch.setenv("AWS_PROFILE", "shop")

    opened().put("a", b"x", content_type=PNG)

    assert server.puts()[0].access_key == "SHOPKEY"


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_requests_are_signed_for_the_region_the_bucket_is_in(server, monkeypatch, name):
    monkeypatch.setenv(name, "us-west-2")

    opened().put("a", b"x", content_type=PNG)

    head, put = server.asked[0], server.puts()[0]
    assert "/us-west-2/s3/" in head.headers["authorization"]
    assert "/eu-west-1/s3/" in put.headers["authorization"]  # what the bucket answered


@pytest.mark.parametrize("tries", [1, 2])
def test_tries_are_as_many_as_the_configuration_says(server, monkeypatch, tries):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", str(tries))
    store = opened()
    server.manners.answers = [(500, "InternalError")] * 9

    assert refusal(lambda: store.put("a", b"x", content_type=PNG)).code == "bucket_failing"
    assert len(server.puts()) == tries


# -- later puts, which botocore does not make from the beginning ---------------------------------------------------


def put_three(store):
    for name in ("one.png", "two and \u00fc+~'.png", "three.png"):
        described = {"lightfast-key": f"k {name}"}
        assert store.put_new(name, name.encode(), content_type=PNG, metadata=described) is PutResult.STORED


def signature(asked, secret):
    """What a server finds by the rules of signature version 4."""
    told = asked.headers["authorization"]
    scope = re.search(r"Credential=[^/]+/([^,]+)", told).group(1)
    names = re.search(r"SignedHeaders=([^,]+)", told).group(1)
    lines = "".join(f"{name}:{asked.headers[name].strip()}\n" for name in names.split(";"))
    canonical = f"{asked.method}\n{asked.path}\n\n{lines}\n{names}\n{asked.headers['x-amz-content-sha256']}"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{asked.headers['x-amz-date']}\n{scope}\n{hashed}"
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def test_later_puts_are_signed_and_described_as_the_first(server, monkeypatch):
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "AES256")
    put_three(opened())

    first, *later = [each for each in server.puts() if each.status == HTTPStatus.OK]
    assert len(later) == 2
    for each in (first, *later):
        body = server.objects[f"shop-img/{unquote(each.path.partition('/shop-img/')[2])}"]
        assert each.headers["authorization"].endswith(signature(each, "very-secret"))
        assert each.headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
        assert each.headers["x-amz-checksum-crc32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        assert each.headers["x-amz-meta-lightfast-key"].endswith(quote(unquote(each.path).rpartition("/")[2], "+~'"))
        assert each.headers.keys() == first.headers.keys()
        assert each.headers["x-amz-server-side-encryption"] == "AES256"


def test_a_later_put_is_signed_with_the_hash_that_is_known(server):
    store, body = opened(), bytes(2_000_000)
    known = hashlib.sha256(body).hexdigest()
    for name in ("one.png", "two.png"):
        assert store.put_new(name, body, content_type=PNG, sha256=known) is PutResult.STORED

    later = server.puts("two.png")[-1]
    assert later.headers["x-amz-content-sha256"] == known
    assert later.headers["authorization"].endswith(signature(later, "very-secret"))
    assert server.objects["shop-img/x/two.png"] == body


def test_a_hash_that_is_not_that_of_the_bytes_is_what_the_store_is_told(server):
    """So that a store which checks it refuses bytes that are not those that were found to be a whole image."""
    store = opened()
    put_three(store)

    store.put_new("four.png", b"x", content_type=PNG, metadata={"lightfast-key": "k"}, sha256="0" * 64)

    assert server.puts("four.png")[-1].headers["x-amz-content-sha256"] == "0" * 64


def test_a_later_put_never_writes_over_what_is_there(server):
    store = opened()
    put_three(store)

    assert store.put_new("three.png", b"other", content_type=PNG, metadata={"lightfast-key": "k"}) is PutResult.EXISTS
    assert server.objects["shop-img/x/three.png"] == b"three.png"


def test_a_later_put_that_fails_for_a_moment_is_repeated_and_then_told(server, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    store = opened()
    put_three(store)
    server.manners.answers = [(500, "InternalError")]

    store.put_new("four.png", b"x", content_type=PNG, metadata={"lightfast-key": "k"})
    assert [each.status for each in server.puts("four.png")] == [500, 200]

    server.manners.answers = [(503, "SlowDown")] * 9
    refused = refusal(lambda: store.put_new("five.png", b"x", content_type=PNG, metadata={"lightfast-key": "k"}))
    assert refused.code == "bucket_slow_down"
    assert len(server.puts("five.png")) == 2


def test_a_later_put_that_is_refused_is_told_with_its_reason(server):
    store = opened()
    put_three(store)
    server.manners.answers = [(403, "AccessDenied")] * 2

    refused = refusal(lambda: store.put_new("four.png", b"x", content_type=PNG, metadata={"lightfast-key": "k"}))
    assert refused.denied
    assert "AccessDenied" in refused.message


@pytest.mark.parametrize(
    ("environment", "profile"),
    [
        ({}, "s3 =\n  addressing_style = sideways"),
        ({}, "retry_mode = never"),
        ({"AWS_CA_BUNDLE": "/no/such/file.pem"}, ""),
        ({"AWS_SERVER_SIDE_ENCRYPTION": "sse-c"}, ""),
        ({"AWS_CHECKSUM_ALGORITHM": "CRC64NVME"}, ""),
    ],
)
def test_a_setting_that_cannot_be_obeyed_is_refused_in_words(server, monkeypatch, environment, profile):
    configure(f"[default]\n{profile}\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    error = refusal()

    assert (error.code, error.retryable) == ("bucket_misconfigured", False)
    assert (next(iter(environment.values()), "") or profile.split()[-1]) in error.message
    assert server.asked == []


# -- checksums and encryption --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({}, {"x-amz-checksum-crc32": base64.b64encode(zlib.crc32(b"x").to_bytes(4, "big")).decode()}),
        ({"AWS_CHECKSUM_ALGORITHM": "sha256"}, {"x-amz-checksum-sha256"}),
        ({"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}, {}),
        (
            {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_CHECKSUM_ALGORITHM": "CRC32"},
            {"x-amz-checksum-crc32"},
        ),
        ({"AWS_SERVER_SIDE_ENCRYPTION": "AES256"}, {"x-amz-checksum-crc32", "x-amz-server-side-encryption"}),
        (
            {"AWS_SSE_KMS_KEY_ID": "key-1", "AWS_SSE_BUCKET_KEY_ENABLED": "true"},
            {
                "x-amz-checksum-crc32",
                "x-amz-server-side-encryption",
                "x-amz-server-side-encryption-aws-kms-key-id",
                "x-amz-server-side-encryption-bucket-key-enabled",
            },
        ),
        ({"AWS_REQUEST_PAYER": "requester"}, {"x-amz-checksum-crc32", "x-amz-request-payer"}),
    ],
)
def test_checksum_and_encryption_headers_are_those_of_the_settings(server, monkeypatch, environment, sent):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    opened().put("a", b"x", content_type=PNG)

    (put,) = server.puts()
    kinds = ("x-amz-checksum", "x-amz-server", "x-amz-request", "content-md5", "x-amz-sdk-checksum")
    assert {name for name in put.headers if name.startswith(kinds)} == set(sent)
    assert all(put.headers[name] == value for name, value in (sent.items() if isinstance(sent, dict) else []))
    assert "aws-chunked" not in put.headers.get("content-encoding", "")


def test_whoever_asks_of_a_bucket_where_the_requester_pays_agrees_to_it(server, monkeypatch):
    monkeypatch.setenv("AWS_REQUEST_PAYER", "true")

    store = opened()
    store.probe()
    list(store.objects())

    assert {each.headers.get("x-amz-request-payer") for each in server.asked[1:]} == {
        "requester"
    }  # HEAD of a bucket is free
    assert "x-amz-request-payer=requester" in store.presign("a", 60)


def test_a_policy_that_denies_unencrypted_objects_is_told_with_what_to_set(server, monkeypatch):
    server.manners.demands_encryption = "aws:kms"
    error = refusal()
    assert (error.code, error.denied) == ("bucket_denied", True)
    assert "AWS_SERVER_SIDE_ENCRYPTION=aws:kms" in error.message

    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms")
    assert opened().probe() == Probed()


@pytest.mark.parametrize("demanded", ["x-amz-checksum-crc32", "content-md5"])
@pytest.mark.parametrize("calculation", ["when_supported", "when_required"])
def test_a_bucket_with_object_lock_gets_the_checksum_that_it_demands(server, monkeypatch, demanded, calculation):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", calculation)
    server.manners.demands = (demanded,)
    store = opened()

    assert store.put_new("a", b"x", content_type=PNG) is PutResult.STORED
    before = len(server.puts())
    assert store.put_new("b", b"x", content_type=PNG) is PutResult.STORED
    assert len(server.puts()) == before + 1  # it is learnt once


# -- stores that do not know a header ------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("refusal_", [(501, "NotImplemented"), (400, "NotImplemented"), (405, "MethodNotAllowed")])
def test_a_store_that_refuses_if_none_match_is_looked_at_before_each_put_and_a_probe_warns(server, refusal_, named):
    server.manners = Manners(unknown={"if-none-match": refusal_}, names_the_header=named)
    store = opened()

    probed = store.probe()

    assert [warning for warning in probed.warnings if "If-None-Match" in warning]
    assert store.put_new("k", b"ours", content_type=PNG) is PutResult.STORED
    assert store.put_new("k", b"again", content_type=PNG) is PutResult.EXISTS
    assert server.objects["shop-img/x/k"] == b"ours"
    assert "x-amz-checksum-crc32" in server.puts()[-1].headers


@pytest.mark.parametrize("named", [True, False])
def test_a_store_that_refuses_checksums_gets_none_and_keeps_its_conditions(server, named):
    server.manners = Manners(unknown={"x-amz-checksum-crc32": (501, "NotImplemented")}, names_the_header=named)
    store = opened()

    assert store.probe() == Probed()
    assert store.put_new("k", b"ours", content_type=PNG) is PutResult.STORED
    assert store.put_new("k", b"again", content_type=PNG) is PutResult.EXISTS
    assert server.puts()[-1].headers["if-none-match"] == "*"


def test_a_store_that_refuses_both_gets_neither(server):
    unknown = {"x-amz-checksum-crc32": (501, "NotImplemented"), "if-none-match": (501, "NotImplemented")}
    server.manners = Manners(unknown=unknown, names_the_header=False)

    assert len(opened().probe().warnings) == 1


def test_what_no_header_mends_is_no_passing_trouble_and_nothing_is_learnt_from_it(server):
    store = opened()
    server.manners.answers = [(501, "NotImplemented")] * 9

    error = refusal(lambda: store.put_new("k", b"x", content_type=PNG))

    assert (error.code, error.retryable) == ("bucket_refused", False)
    server.manners.answers = []
    assert store.probe() == Probed()


def test_a_name_that_the_store_does_not_take_costs_one_request_and_is_final(server):
    server.manners.refuses_name = minio_names
    store = opened()

    error = refusal(lambda: store.put_new("a\\b.png", b"x", content_type=PNG))

    assert (error.code, error.retryable) == ("bucket_refused", False)
    assert "XMinioInvalidObjectName" in error.message
    assert len(server.puts()) == 1


# -- what is said of the probe -------------------------------------------------------------------------------------


@pytest.fixture
def shop(server, monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-of-a-test")
    Path("m.csv").write_text("key,prompt\na,A lamp\n")
    return server


def test_plan_says_deleted_only_when_it_is_true(shop):
    assert "bucket: written, read, deleted" in call("plan", "m.csv", "--to", "s3://shop-img/x").stdout
    assert shop.objects == {}

    shop.manners.deletes = False
    said = call("plan", "m.csv", "--to", "s3://shop-img/x")

    (left,) = shop.objects
    assert "bucket: written, read, not deleted" in said.stdout
    assert f"s3://{left}" in said.stderr
    assert "AccessDenied" in said.stderr


def test_doctor_notes_what_stays_and_finds_no_problem_in_it(shop, monkeypatch):
    shop.manners.deletes = False

    found = json.loads(call("doctor", "--json", "--to", "s3://shop-img/x", code=1).stdout)["findings"]

    (bucket,) = [each for each in found if each["what"] == "bucket"]
    assert bucket["verdict"] == "note"
    assert "not deleted" in bucket["text"]
    assert next(iter(shop.objects)) in bucket["text"]


def test_probes_of_a_process_leave_one_object_where_nothing_may_be_deleted(server):
    server.manners.deletes = False
    store = opened()

    assert [store.probe().words for _ in range(3)] == ["written, read, not deleted"] * 3
    assert len(server.objects) == 1


# -- manifests and references --------------------------------------------------------------------------------------


def test_a_manifest_on_s3_obeys_the_same_configuration(tls, ca, proxy, monkeypatch):
    tls.objects["shop-img/in/m.csv"] = b"key,prompt\na,A lamp\n"
    tls.described["shop-img/in/m.csv"] = {}
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.bundle))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    with local_source("s3://shop-img/in/m.csv") as source:
        assert source.path.read_text() == "key,prompt\na,A lamp\n"

    assert proxy.seen


def test_why_a_manifest_on_s3_cannot_be_read_is_told(tls, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(LightfastError, match="certificate of localhost"), local_source("s3://shop-img/m.csv"):
        pass
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(LightfastError, match="refuses connections"), local_source("s3://shop-img/m.csv"):
        pass


def test_a_manifest_that_is_not_there_is_told(server):
    with pytest.raises(BadInput, match="there is no such object"), local_source("s3://shop-img/m.csv"):
        pass


# -- Google and Azure ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [("gs", "HTTP_PROXY"), ("az", "http_proxy"), ("gs", "ALL_PROXY")])
def test_google_and_azure_go_through_the_proxy_of_the_environment(proxy, monkeypatch, kind, name):
    monkeypatch.setenv(name, proxy.url)
    with cloud(kind) as made:
        assert store_in(made).probe() == Probed()
        assert len(proxy.seen) == len(made.asked) > 2

        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        proxy.seen.clear()
        assert store_in(made).probe() == Probed()
        assert proxy.seen == []


@pytest.mark.parametrize("kind", ["gs", "az"])
def test_google_and_azure_take_certificates_from_ssl_cert_file_and_tell_of_others(ca, monkeypatch, kind):
    with cloud(kind, tls=ca.server) as made:
        error = refusal(lambda: store_in(made).probe())
        assert error.code == "bucket_unreachable"
        assert "certificate" in error.message
        assert "SSL_CERT_FILE" in error.message

        monkeypatch.setenv("SSL_CERT_FILE", str(ca.bundle))
        assert store_in(made).probe() == Probed()


@pytest.mark.parametrize("kind", ["gs", "az"])
def test_why_google_or_azure_gave_no_answer_is_told(kind):
    with cloud(kind) as made:
        port = made.url.rpartition(":")[2]
    assert f"127.0.0.1:{port} refuses connections" in refusal(lambda: store_in(made).probe()).message
    made.url = "http://bucket.invalid"
    assert "bucket.invalid is not known" in refusal(lambda: store_in(made).probe()).message


@pytest.mark.parametrize("kind", ["gs", "az"])
def test_a_proxy_before_google_or_azure_that_is_away_or_refuses_is_named(ca, proxy, monkeypatch, kind):
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.bundle))
    with cloud(kind, tls=ca.server) as made:
        monkeypatch.setenv("HTTPS_PROXY", "http://user:pass-word@127.0.0.1:9")
        said = refusal(lambda: store_in(made).probe()).message
        assert "the proxy 127.0.0.1:9 refuses connections" in said
        assert "pass-word" not in said

        proxy.allows = False
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert f"the proxy {proxy.url[7:]} does not let it pass" in refusal(lambda: store_in(made).probe()).message
