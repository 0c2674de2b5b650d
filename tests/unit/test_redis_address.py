"""`redis_url`, as servers and their providers write it."""

from __future__ import annotations

import pytest
import redis
from kombu import Connection

from jobs.errors import BadInput
from jobs.settings.redis_address import read_redis_url
from jobs.settings.sources import load_settings
from worker.broker import celery_settings, client

HARD = "p@ss/w#r?d:100%"


@pytest.mark.parametrize(
    ("url", "host", "port", "db", "user", "password"),
    [
        ("redis://localhost:6379/0", "localhost", 6379, 0, "", None),
        ("redis://cache", "cache", 6379, 0, "", None),
        ("redis://:secret@cache:7000/3", "cache", 7000, 3, "", "secret"),
        ("rediss://default:secret@cache.test/2", "cache.test", 6379, 2, "default", "secret"),
        ("redis://cache?db=4", "cache", 6379, 4, "", None),
        ("redis://[::1]:7000/1", "::1", 7000, 1, "", None),
        ("valkeys://u:secret@cache", "cache", 6379, 0, "u", "secret"),
        ("redis://u:p%40ss%2Fw%23r%3Fd%3A100%25@cache/1", "cache", 6379, 1, "u", HARD),
        ("redis://u:p@ss/w#r?d:100%@cache/1", "cache", 6379, 1, "u", HARD),
        ("redis://cache/0?health_check_interval=10", "cache", 6379, 0, "", None),
        ("redis://cache/0?username=u&password=p%40ss%2Fw%23r%3Fd%3A100%25", "cache", 6379, 0, "u", HARD),
        ("redis://u:secret@cache:65535/0?username=x&password=y", "cache", 65535, 0, "u", "secret"),
    ],
)
def test_worker_and_doctor_read_the_same_in_a_url(url, host, port, db, user, password):
    address = read_redis_url(url)
    by_redis = client(address, seconds=1).connection_pool.connection_kwargs
    settings = celery_settings(address)
    by_celery = Connection(settings["broker_url"], ssl=settings.get("broker_use_ssl")).info()

    assert (by_redis["host"], by_redis["port"], by_redis["db"]) == (host, port, db)
    assert (by_redis["username"] or "", by_redis["password"]) == (user, password)
    assert (by_celery["hostname"], by_celery["port"], int(by_celery["virtual_host"])) == (host, port, db)
    assert (by_celery["userid"] or "", by_celery["password"]) == (user, password)
    assert password is None or password not in f"{address} {address!r}"


@pytest.mark.parametrize(
    "url", ["unix://u:p@/run/redis.sock?db=2", "redis+socket://u:p@/run/redis.sock?virtual_host=2"]
)
def test_a_unix_socket_is_understood_by_both_in_either_spelling(url):
    address = read_redis_url(url)

    assert client(address, seconds=1).connection_pool.connection_kwargs["path"] == "/run/redis.sock"
    assert celery_settings(address) == {"broker_url": "redis+socket://u:p@/run/redis.sock?virtual_host=2"}


@pytest.mark.parametrize(
    ("query", "verify", "check_hostname"),
    [
        ("", "required", True),
        ("?ssl_cert_reqs=CERT_REQUIRED", "required", True),
        ("?ssl_cert_reqs=none", "none", False),
        ("?ssl_cert_reqs=CERT_NONE", "none", False),
        ("?ssl_check_hostname=false", "required", False),
    ],
)
def test_certificates_are_checked_by_both_unless_the_url_says_otherwise(query, verify, check_hostname):
    address = read_redis_url(f"rediss://cache/0{query}")
    asked = celery_settings(address)["broker_use_ssl"]
    connection = client(address, seconds=1).connection_pool.connection_class

    assert connection is redis.SSLConnection
    assert (asked["ssl_cert_reqs"], asked["ssl_check_hostname"]) == (verify, check_hostname)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sentinel://a:26379;sentinel://b:26379", "Sentinel is not supported"),
        ("redis+sentinel://tellnobody@a:26379/mymaster", "Sentinel is not supported"),
        ("redis+cluster://a:6379", "Cluster is not supported"),
        ("redis://:tellnobody@a:6379,b:6379", "several servers"),
        ("redis://:tellnobody@a:port/0", "should be redis://"),
        ("redis://:tellnobody@a:0/0", "port after the host should be a number from 1 to 65535"),
        ("rediss://a:70000?password=tellnobody", "port after the host should be a number from 1 to 65535"),
        ("redis://:tellnobody@a/nought", "should be a number"),
        ("amqp://u:tellnobody@a", "should be redis://"),
        ("unix://relative", "should be redis://"),
        ("rediss://:tellnobody@a?ssl_min_version=TLSv1_3", "ssl_min_version is not known"),
        ("rediss://:tellnobody@a?ssl_cert_reqs=maybe", "ssl_cert_reqs should be"),
    ],
)
def test_what_cannot_serve_is_refused_in_words_without_the_password(monkeypatch, url, words):
    monkeypatch.setenv("LIGHTFAST_REDIS_URL", url)

    with pytest.raises(BadInput, match=words) as refused:
        load_settings()

    assert "tellnobody" not in str(refused.value)
