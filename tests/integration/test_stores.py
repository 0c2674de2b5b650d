"""One contract for every destination: a folder, buckets at two servers that speak S3, Google's and Azure's manners."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from moto.server import ThreadedMotoServer

from jobs.errors import StoreError
from sandbox import servers
from tests.support.cloud_storage_servers import cloud, store_in
from worker.storage.base import CopyResult, CopySource, Probed, PutResult
from worker.storage.opening import open_store

PNG = "image/png"
DATA = bytes(range(256)) * 5000
ODD = [
    "batch/key with space/0.png",
    "ünï/日本語/0.png",
    "p%20q%2F.png",
    "a+b&c=d;e,f.png",
    "x#y?z.png",
    "dots.../end..",
    "q'\"<>|*~{}[]^`$!@().png",
    " lead and trail ",
    "decomposed cafe\u0301.png",
]


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def aws(endpoint, monkeypatch, tmp_path):
    """As a user would set it; nothing of the machine's own is read."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws.config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws.credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return endpoint


@pytest.fixture
def bucket(aws):
    client = boto3.client("s3")
    name = f"shop-img-{time.monotonic_ns()}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield client, name
    client.close()


@pytest.fixture(scope="module")
def rclone_server():
    with servers.rclone_s3() as server:
        yield server


@pytest.fixture
def rclone(rclone_server, monkeypatch):
    """A bucket at the lesser server."""
    for name, value in rclone_server.environment.items():
        monkeypatch.setenv(name, value)
    name = f"shop-{time.monotonic_ns()}"
    boto3.session.Session().client("s3").create_bucket(Bucket=name)  # boto3.client keeps the keys it saw first
    return name


@pytest.fixture(params=["folder", "s3", "rclone", "gs", "az"])
def store(request, tmp_path):
    if request.param == "folder":
        yield open_store(str(tmp_path / "out put"))
    elif request.param == "s3":
        yield open_store(f"s3://{request.getfixturevalue('bucket')[1]}/spring/2026")
    elif request.param == "rclone":
        yield open_store(f"s3://{request.getfixturevalue('rclone')}/spring/2026")
    else:
        with cloud(request.param) as made:
            yield store_in(made)


def kind_of(request):
    return request.node.callspec.params["store"]


def test_an_object_is_written_once_and_never_replaced(store):
    assert store.put_new("b/k/0.png", DATA, content_type=PNG) is PutResult.STORED
    assert store.put_new("b/k/0.png", b"other", content_type=PNG) is PutResult.EXISTS

    assert store.read("b/k/0.png") == DATA
    assert store.sha256_of("b/k/0.png") == hashlib.sha256(DATA).hexdigest()


def test_put_replaces_and_delete_may_come_twice(store):
    store.put("r.csv", b"old", content_type="text/csv")
    store.put("r.csv", b"new", content_type="text/csv")
    assert store.read("r.csv") == b"new"

    store.delete("r.csv")
    store.delete("r.csv")
    assert store.read("r.csv") is None
    assert store.sha256_of("r.csv") is None


def test_a_file_is_put_like_bytes(store, tmp_path):
    spool = tmp_path / "spool"
    spool.write_bytes(DATA)

    assert store.put_new("a.png", spool, content_type=PNG) is PutResult.STORED
    assert store.read("a.png") == DATA
    assert spool.read_bytes() == DATA


def test_an_object_larger_than_a_multipart_piece_is_whole(store):
    big = os.urandom(1000) * 12_000
    store.put("big", big, content_type=PNG)
    assert store.put_new("big2", big, content_type=PNG) is PutResult.STORED
    assert store.sha256_of("big") == store.sha256_of("big2") == hashlib.sha256(big).hexdigest()


def test_of_many_writers_of_one_path_one_wins(store, request):
    if kind_of(request) == "rclone":
        pytest.skip("it ignores conditions, so nobody can tell; docs/reference/storage.md says so")
    with ThreadPoolExecutor(8) as threads:
        puts = list(threads.map(lambda n: store.put_new("k", b"%d" % n, content_type=PNG), range(8)))

    assert puts.count(PutResult.STORED) == 1
    assert store.read("k") == b"%d" % puts.index(PutResult.STORED)


@pytest.mark.parametrize("path", ODD)
def test_odd_keys_arrive_as_given(store, path):
    assert store.put_new(path, b"x", content_type=PNG) is PutResult.STORED
    assert store.read(path) == b"x"
    assert store.put_new(path, b"x", content_type=PNG) is PutResult.EXISTS


def test_a_probe_leaves_nothing_behind_and_tells_of_a_store_that_ignores_conditions(store, request, tmp_path):
    probed = store.probe()

    assert bool(probed.warnings) == (kind_of(request) == "rclone")
    assert all("ignores If-None-Match" in warning for warning in probed.warnings)
    assert probed.words == "written, read, deleted"
    if kind_of(request) == "folder":
        assert not (tmp_path / "out put").exists()
    else:
        assert list(store.objects()) == []


def test_a_look_tells_what_is_there_without_its_bytes(store, request):
    told = {"lightfast-batch": "b", "lightfast-key": "日本 50%", "lightfast-index": "0"}
    store.put_new("b/k/0.png", DATA, content_type=PNG, metadata=told)

    seen = store.look("b/k/0.png")

    assert seen.size == len(DATA)
    assert seen.modified > 0
    assert dict(seen.metadata) == ({} if kind_of(request) == "folder" else told)
    assert store.look("b/k/1.png") is None
    assert store.look("b/k") is None


def copy_of(store, path, content=DATA):
    return CopySource(store=store, path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def test_a_store_that_copies_by_itself_writes_what_a_put_writes_and_replaces_nothing(store, request):
    old = {"lightfast-batch": "spring", "lightfast-key": "a"}
    new = {"lightfast-batch": "summer", "lightfast-key": "日本 50%", "lightfast-index": "0"}
    for path in ODD:
        store.put_new(f"from/{path}", DATA, content_type=PNG, metadata=old)
    store.put_new("taken", b"somebody's", content_type=PNG)

    done = {
        store.copy_new(f"to/{path}", copy_of(store, f"from/{path}"), content_type="image/webp", metadata=new)
        for path in ODD
    }

    if kind_of(request) in {"folder", "gs", "az"}:
        assert not store.copies_from(store)
        assert done == {CopyResult.UNABLE}
        return
    assert done == {CopyResult.COPIED}
    for path in ODD:
        assert store.read(f"to/{path}") == DATA
        assert store.look(f"to/{path}").metadata == new
        assert store.look(f"from/{path}").metadata == old
    assert store._head(f"to/{ODD[0]}")["ContentType"] == "image/webp"
    taken = store.copy_new("taken", copy_of(store, f"from/{ODD[0]}"), content_type=PNG, metadata=new)
    assert (taken, store.read("taken")) == (CopyResult.EXISTS, b"somebody's")


def test_a_copy_of_bytes_that_are_not_those_on_record_is_not_left(store):
    store.put_new("a", b"x" * len(DATA), content_type=PNG)

    for source in ("a", "gone"):
        assert store.copy_new("b", copy_of(store, source), content_type=PNG) is CopyResult.UNABLE
        assert store.read("b") is None


def test_objects_are_listed_by_the_paths_they_were_given(store):
    for path in (*ODD, ".lightfast/b.json"):
        store.put_new(path, b"x", content_type=PNG)

    assert sorted(store.objects()) == sorted([*ODD, ".lightfast/b.json"])
    assert list(store.objects(".lightfast")) == [".lightfast/b.json"]
    assert list(store.objects("nothing")) == []


def test_an_address_is_signed_for_a_time_where_the_store_signs(store, request):
    store.put_new("b/k 1/0.png", DATA, content_type=PNG)
    address = store.presign("b/k 1/0.png", 3600)

    if kind_of(request) == "folder":
        assert address.startswith("file:///")
        return
    parts = urllib.parse.urlsplit(address)
    query = dict(urllib.parse.parse_qsl(parts.query))
    assert urllib.parse.unquote(parts.path).endswith("/spring/2026/b/k 1/0.png")
    assert {"s3": "X-Amz-Expires", "rclone": "X-Amz-Expires", "gs": "X-Goog-Expires", "az": "se"}[
        kind_of(request)
    ] in query
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == DATA


# -- a server that ignores conditions ------------------------------------------------------------------------------


def test_where_conditions_are_ignored_a_look_before_keeps_what_is_there(rclone):
    first, second = (open_store(f"s3://{rclone}/p") for _ in range(2))
    first.put("k", b"a stranger's", content_type=PNG)

    assert second.put_new("k", b"ours", content_type=PNG) is PutResult.EXISTS
    assert second.put_new("other", b"ours", content_type=PNG) is PutResult.STORED
    assert second.put_new("other", b"again", content_type=PNG) is PutResult.EXISTS

    assert (first.read("k"), first.read("other")) == (b"a stranger's", b"ours")


def test_whether_conditions_are_kept_is_found_out_once(bucket, monkeypatch):
    _, name = bucket
    store = open_store(f"s3://{name}")
    looks = []
    look = store.look
    monkeypatch.setattr(store, "look", lambda path: (looks.append(path), look(path))[1])

    for number in range(5):
        assert store.put_new(f"k{number}", b"x", content_type=PNG) is PutResult.STORED

    assert looks == ["k0"]


# -- Google and Azure: what is asked of them -----------------------------------------------------------------------


def test_google_is_asked_to_create_with_type_and_metadata(tmp_path):
    with cloud("gs") as made:
        store = store_in(made)
        assert store.put_new("b/k/0.png", DATA, content_type=PNG, metadata={"lightfast-key": "ö"}) is PutResult.STORED
        assert store.put_new("b/k/0.png", b"other", content_type=PNG) is PutResult.EXISTS
        store.put("r.csv", b"x", content_type="text/csv")

    first, second, third = made.asked
    assert (first.method, urllib.parse.unquote(first.path)) == ("PUT", "/bucket/spring/2026/b/k/0.png")
    assert (first.headers["x-goog-if-generation-match"], first.headers["content-type"]) == ("0", PNG)
    assert first.headers["x-goog-meta-lightfast-key"] == "%C3%B6"
    assert first.headers["authorization"].startswith("Bearer ")
    assert second.headers["x-goog-if-generation-match"] == "0"
    assert "x-goog-if-generation-match" not in third.headers


def test_azure_is_asked_to_create_with_type_and_metadata(tmp_path):
    with cloud("az") as made:
        store = store_in(made)
        assert store.put_new("b/k/0.png", DATA, content_type=PNG, metadata={"lightfast-key": "ö"}) is PutResult.STORED
        assert store.put_new("b/k/0.png", b"other", content_type=PNG) is PutResult.EXISTS
        store.put("r.csv", b"x", content_type="text/csv")

    first, second, third = made.asked
    assert (first.method, urllib.parse.unquote(first.path)) == ("PUT", "/bucket/spring/2026/b/k/0.png")
    assert (first.headers["if-none-match"], first.headers["x-ms-blob-type"]) == ("*", "BlockBlob")
    assert first.headers["x-ms-blob-content-type"] == PNG
    assert first.headers["x-ms-meta-lightfast_key"] == "%C3%B6"
    assert first.headers["authorization"].startswith("SharedKey shopaccount:")
    assert second.headers["if-none-match"] == "*"
    assert "if-none-match" not in third.headers


# -- S3 ------------------------------------------------------------------------------------------------------------


def test_keys_type_and_metadata_as_others_see_them_at_s3(bucket):
    client, name = bucket
    store = open_store(f"s3://{name}/pre fix/")
    for path in ODD:
        store.put_new(path, b"x", content_type=PNG, metadata={"batch": "b", "key": path, "index": "0"})

    found = {item["Key"] for item in client.list_objects_v2(Bucket=name)["Contents"]}
    assert found == {f"pre fix/{path}" for path in ODD}
    for path in ODD:
        head = client.head_object(Bucket=name, Key=f"pre fix/{path}")
        assert head["ContentType"] == PNG
        assert head["Metadata"]["index"] == "0"
        assert urllib.request.unquote(head["Metadata"]["key"]) == path


def test_metadata_is_bounded(bucket):
    client, name = bucket
    open_store(f"s3://{name}").put_new("k", b"x", content_type=PNG, metadata={"key": "日" * 300})
    assert 1000 < len(client.head_object(Bucket=name, Key="k")["Metadata"]["key"]) <= 1200


def test_addresses_of_an_object(bucket):
    _, name = bucket
    store = open_store(f"s3://{name}/p")
    store.put_new("a b%.png", DATA, content_type=PNG)

    assert store.url_of("a b%.png") == f"s3://{name}/p/a b%.png"
    with urllib.request.urlopen(store.presign("a b%.png", 60)) as answer:
        assert answer.read() == DATA


def test_credentials_and_endpoint_come_from_a_profile_as_the_aws_cli_finds_them(bucket, monkeypatch, tmp_path, aws):
    _, name = bucket
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(variable)
    profile = f"region = eu-west-1\naws_access_key_id = AK\naws_secret_access_key = SK\nendpoint_url = {aws}\n"
    (tmp_path / "aws.config").write_text(f"[profile shop]\n{profile}")
    monkeypatch.setenv("AWS_PROFILE", "shop")

    assert open_store(f"s3://{name}").probe() == Probed()


def fails(call):
    with pytest.raises(StoreError) as caught:
        call()
    assert "very-secret" not in str(caught.value)
    return caught.value


def test_what_is_missing_is_told_at_once(aws, monkeypatch):
    assert fails(lambda: open_store("s3://no-such-bucket-here")).code == "bucket_missing"
    assert fails(lambda: open_store("s3://Bad_Bucket!/x")).code == "bad_destination"
    assert fails(lambda: open_store("s3://")).code == "bad_destination"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    error = fails(lambda: open_store("s3://shop-img"))
    assert (error.code, error.retryable) == ("bucket_unreachable", True)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert fails(lambda: open_store("s3://shop-img")).code == "bucket_no_credentials"
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    error = fails(lambda: open_store("s3://shop-img"))
    assert (error.code, error.denied) == ("bucket_no_credentials", True)


def test_a_bucket_that_goes_away_is_not_taken_for_missing_objects(bucket):
    client, name = bucket
    store = open_store(f"s3://{name}")
    client.delete_bucket(Bucket=name)

    for call in (
        lambda: store.put_new("k", b"x", content_type=PNG),
        lambda: store.read("k"),
        lambda: store.sha256_of("k"),
    ):
        error = fails(call)
        assert error.code == "bucket_missing"
        assert "NoSuchBucket" in error.message


@pytest.mark.parametrize("path", ["a\tb", "a//b", "../b"])
def test_a_path_s3_cannot_take_is_a_store_error(bucket, path):
    store = open_store(f"s3://{bucket[1]}")
    assert fails(lambda: store.put_new(path, b"x", content_type=PNG)).code == "bad_path"


def test_a_process_that_ends_right_after_a_put_ends_well(bucket):
    _, name = bucket
    script = (
        "from worker.storage.opening import open_store; "
        f"open_store('s3://{name}').put_new('k', b'x', content_type='a/b')"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], check=False, env=os.environ | {"PYTHONPATH": "."})
        assert done.returncode == 0


# -- other clouds, by construction ---------------------------------------------------------------------------------


def test_google_and_azure_are_opened_from_their_own_environment(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "shopaccount")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    azure = open_store("az://images/spring")

    assert azure.url_of("a.png") == "az://images/spring/a.png"
    assert azure.presign("a b.png", 60).startswith("https://shopaccount.blob.core.windows.net/images/spring/a%20b.png?")
    assert azure._attributes(PNG, {"request-hash": "ö"}) == {"Content-Type": PNG, "request_hash": "%C3%B6"}
    assert open_store("gs://images/spring").url_of("a.png") == "gs://images/spring/a.png"


def test_azure_without_an_account_is_told(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    assert fails(lambda: open_store("az://images")).code == "bucket_no_credentials"


@pytest.mark.parametrize("dest", ["ftp://host/x", "http://host/x", "S3//x://", "file://host/x"])
def test_what_is_no_destination_is_told(dest):
    assert fails(lambda: open_store(dest)).code == "bad_destination"
