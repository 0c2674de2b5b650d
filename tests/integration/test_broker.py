"""The broker as it is elsewhere: behind TLS, at a Unix socket, with a password, and as a cluster that cannot serve."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from kombu.exceptions import OperationalError

from jobs.settings.model import Settings
from jobs.settings.redis_address import read_redis_url
from sandbox import servers
from tests.support import tls
from tests.support.certificates import authority
from tests.support.shop_ledger import call
from worker import tasks
from worker.broker import celery_settings
from worker.celery import app
from worker.tasks import wakeups_wait

HARD = "p@ss/w#r?d:100%"
HIGHEST = 55_535  # port of a server that takes part in a cluster: it listens 10,000 above it, too


def celery_reaches(url):
    """Whether workers, beat and web reach it, as Celery is set up with this `redis_url`."""
    settings = celery_settings(read_redis_url(url))
    with app.connection(settings["broker_url"], ssl=settings.get("broker_use_ssl")) as connection:
        assert HARD not in connection.as_uri()
        try:
            connection.channel()  # asks for an answer
        except (*connection.connection_errors, OperationalError):
            return False
        return True


@pytest.fixture
def doctor(monkeypatch, postgres_ledger_url):
    """What doctor says of Redis."""
    monkeypatch.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)

    def look(url):
        monkeypatch.setenv("LIGHTFAST_REDIS_URL", url)
        return next(line for line in call("doctor", code=1).stdout.splitlines() if line.startswith("redis "))

    return look


def test_a_certificate_is_checked_by_worker_and_doctor_alike(doctor, redis_server, tmp_path, monkeypatch):
    ca = authority(tmp_path)
    with tls.relay(redis_server.port, ca.server) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        assert not celery_reaches(url)
        assert "its certificate is not trusted here" in doctor(url)

        for trusted in (f"{url}?ssl_ca_certs={ca.bundle}", url):
            if trusted == url:
                monkeypatch.setenv("SSL_CERT_FILE", str(ca.bundle))
            assert celery_reaches(trusted)
            assert f"rediss://127.0.0.1:{port}, database 0, answers" in doctor(trusted)


def test_a_certificate_for_another_host_is_not_accepted_by_either(doctor, redis_server, tmp_path):
    ca = authority(tmp_path)
    with tls.relay(redis_server.port, ca.server_named("elsewhere.test")) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={ca.bundle}"

        assert not celery_reaches(url)
        assert "does not answer" in doctor(url)


def test_tls_on_one_side_only_is_told(doctor, redis_server, tmp_path, monkeypatch):
    with tls.relay(redis_server.port, authority(tmp_path).server) as port:
        assert "it may want TLS: rediss://" in doctor(f"redis://127.0.0.1:{port}/0")

    monkeypatch.setattr("cli.commands.doctor.PATIENCE", 0.5)  # a server without TLS waits for more, and says nothing
    assert "no TLS is spoken at this port: redis://" in doctor(redis_server.url.replace("redis://", "rediss://"))


def test_a_unix_socket_and_a_hard_password_serve_worker_and_doctor(doctor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")
    with servers.valkey("--unixsocket", str(folder / "redis.sock"), "--requirepass", HARD) as server:
        for url in (
            f"unix://:{quote(HARD, safe='')}@{folder}/redis.sock?db=2",
            f"redis://default:{quote(HARD, safe='')}@127.0.0.1:{server.port}/2",
        ):
            told = doctor(url)
            assert "answers" in told
            assert HARD not in told
            assert celery_reaches(url)
            assert not wakeups_wait(url, ["copy"])


def test_a_server_of_a_cluster_is_refused_by_worker_beat_and_doctor_in_the_same_words(doctor, monkeypatch, capsys):
    port = next(port for port in iter(servers.free_port, None) if port < HIGHEST)
    with servers.valkey("--cluster-enabled", "yes", port=port) as server:
        url = server.url
        told = doctor(url).partition("problem")[2].strip()
        assert "takes part in a Redis Cluster" in told

        monkeypatch.setattr(tasks, "settings_or_exit", lambda: Settings(redis_url=url))
        with pytest.raises(SystemExit):
            tasks.start_beat()
    assert told in capsys.readouterr().err
