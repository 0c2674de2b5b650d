"""The address of the broker: one reading of `redis_url` for workers, beat, web and doctor. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from pydantic import SecretStr

_TCP = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}  # whether it means TLS
_UNIX = ("unix", "redis+socket")
_SENTINEL = re.compile(r"(redis|rediss|valkey)?\+?sentinels?$")
_PORT = 6379
_HIGHEST_PORT = 65_535

#: A password may hold / # ? : as they stand, as well as percent-encoded.
_SHAPE = re.compile(
    r"(?:(?P<login>.*?)@)?(?P<host>\[[^\]@]*\]|[^@:/?#\[\]]*)(?::(?P<port>\d{1,5}))?(?P<path>/[^?#@]*)?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_EXPECTED = "should be redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… with TLS, or unix:///FILE?db=DB"
_VERIFY = ("required", "optional", "none")
#: The refusal of a Redis Cluster, and of a URL with several hosts.
ONE_SERVER = "the broker needs one Redis or Valkey server without cluster mode. A small one will do"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where the broker is. `path`: of a Unix socket; then host, port and TLS do not count."""

    host: str = "localhost"
    port: int = _PORT
    path: str = ""
    username: str = ""
    password: SecretStr | None = None
    db: int = 0
    tls: bool = False
    verify: str = "required"  # whether the server's certificate is checked: required, optional, none
    check_hostname: bool = True
    ca_certs: str = ""  # a file; "": the system's, or that of SSL_CERT_FILE
    certfile: str = ""  # our own certificate, where the server asks for one
    keyfile: str = ""

    def __str__(self) -> str:
        """For people, without user and password."""
        where = f"unix://{self.path}" if self.path else f"redis{'s' * self.tls}://{self.host}:{self.port}"
        return f"{where}, database {self.db}"


def read_redis_url(url: str) -> RedisAddress:
    """What a `redis_url` says, as redis-py, Celery and the providers of Redis write it.

    Raises:
        ValueError: It says nothing that can be understood or kept; without any part of the password.
    """
    scheme, _, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if _SENTINEL.fullmatch(scheme):
        raise ValueError(
            "Redis Sentinel is not supported: give the address of the server, or of a proxy that follows the primary. "
            "A broker that is away for a while costs time only"
        )
    if scheme in ("redis+cluster", "rediss+cluster"):
        raise ValueError(f"Redis Cluster is not supported: {ONE_SERVER}")
    if scheme not in _TCP and scheme not in _UNIX:
        raise ValueError(_EXPECTED)
    found = _SHAPE.fullmatch(rest)
    if re.search("[,;]", found["host"] if found else rest):
        raise ValueError(f"several servers are not supported: {ONE_SERVER}")
    if found is None or (scheme in _UNIX and (found["host"] or not found["path"])):
        raise ValueError(_EXPECTED)
    port = int(found["port"] or _PORT)
    if not 1 <= port <= _HIGHEST_PORT:
        raise ValueError(f"the port after the host should be a number from 1 to {_HIGHEST_PORT}")
    query = dict(parse_qsl(found["query"] or ""))
    login, _, secret = (found["login"] or "").partition(":")
    user = unquote(login) or query.get("username", "")
    password = unquote(secret) or query.get("password")  # as redis-py has it: the login in front of the host wins
    is_unix = scheme in _UNIX
    return RedisAddress(
        host=unquote(found["host"].strip("[]")) or "localhost",
        port=port,
        path=unquote(found["path"]) if is_unix else "",
        username=user,
        password=SecretStr(password) if password else None,
        db=_database("" if is_unix else unquote(found["path"] or ""), query),
        tls=_TCP.get(scheme, False),
        **_tls(query),  # type: ignore[arg-type]  # names and kinds are those above
    )


def _database(path: str, query: dict[str, str]) -> int:
    said = path.strip("/") or query.get("db") or query.get("virtual_host", "").strip("/") or "0"
    if not said.isascii() or not said.isdecimal():
        raise ValueError("the database after the host should be a number, as in redis://HOST:6379/0")
    return int(said)


def _tls(query: dict[str, str]) -> dict[str, object]:
    """The ssl_… parameters. One that is not understood might ask for more safety than it gets."""
    asked = {name.removeprefix("ssl_"): value for name, value in query.items() if name.startswith("ssl_")}
    verify = asked.pop("cert_reqs", "required").lower().removeprefix("cert_")
    if verify not in _VERIFY:
        raise ValueError("ssl_cert_reqs should be required, optional or none")
    check_hostname = asked.pop("check_hostname", "true").lower() not in ("false", "0", "no")
    files = {name: asked.pop(name, "") for name in ("ca_certs", "certfile", "keyfile")}
    if asked:
        known = "ssl_cert_reqs, ssl_check_hostname, ssl_ca_certs, ssl_certfile, ssl_keyfile"
        raise ValueError(f"?ssl_{min(asked)} is not known; known are {known}")
    return {"verify": verify, "check_hostname": check_hostname and verify != "none", **files}
