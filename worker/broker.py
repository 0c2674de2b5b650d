"""The broker's address for those who use it: Celery's settings, and a client for a look at it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from redis import Redis, RedisError

from jobs.formatting import in_words
from jobs.settings.redis_address import ONE_SERVER, RedisAddress

#: What is said where TLS is spoken on one side only or not trusted, and what helps; by whether the address means TLS.
_REMEDIES = {
    True: (
        (
            "CERTIFICATE_VERIFY_FAILED",
            "its certificate is not trusted here: name the file of its CA in SSL_CERT_FILE, or with ?ssl_ca_certs=FILE",
        ),
        ("Timeout", "or no TLS is spoken at this port: redis://"),
    ),
    False: (("losed by server", "it may want TLS: rediss://"),),
}


def celery_settings(address: RedisAddress) -> dict[str, Any]:
    """Celery's `broker_url` and `broker_use_ssl`. Without the latter it would check no certificate."""
    login = quote(address.username, safe="")
    if address.password:
        login += f":{quote(address.password.get_secret_value(), safe='')}"
    login += "@" if login else ""
    if address.path:
        return {"broker_url": f"redis+socket://{login}{quote(address.path)}?virtual_host={address.db}"}
    host = f"[{address.host}]" if ":" in address.host else address.host
    url = f"redis{'s' * address.tls}://{login}{host}:{address.port}/{address.db}"
    return {"broker_url": url, "broker_use_ssl": _tls(address)} if address.tls else {"broker_url": url}


def client(address: RedisAddress, *, seconds: float) -> Redis:
    """A connection of one's own, which waits so many seconds for each answer at most."""
    password = address.password.get_secret_value() if address.password else None
    login: dict[str, Any] = {"username": address.username or None, "password": password, "db": address.db}
    patience: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if address.path:
        return Redis(unix_socket_path=address.path, **login, **patience)
    tls: dict[str, Any] = {"ssl": True, **_tls(address)} if address.tls else {}
    return Redis(host=address.host, port=address.port, **login, **patience, **tls)


def _tls(address: RedisAddress) -> dict[str, Any]:
    return {
        "ssl_cert_reqs": address.verify,
        "ssl_check_hostname": address.check_hostname,
        "ssl_ca_certs": address.ca_certs or None,
        "ssl_certfile": address.certfile or None,
        "ssl_keyfile": address.keyfile or None,
    }


def unreachable(address: RedisAddress, *, seconds: float) -> str | None:
    """Why the broker does not answer, in words; None: it does."""
    try:
        with client(address, seconds=seconds) as asked:
            asked.ping()
    except (RedisError, OSError) as trouble:
        said = in_words(trouble)
        remedy = next((f"; {words}" for mark, words in _REMEDIES[address.tls] if mark in said), "")
        return f"{said}{remedy}"
    return None


def unusable(address: RedisAddress, *, seconds: float) -> str | None:
    """Why a broker that answers cannot serve, in words; None: it can, or is away, which costs only time."""
    try:
        with client(address, seconds=seconds) as asked:
            is_cluster = asked.info("cluster").get("cluster_enabled")
    except (RedisError, OSError):
        return None
    return f"{address} takes part in a Redis Cluster: {ONE_SERVER}" if is_cluster else None
