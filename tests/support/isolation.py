"""Tests of a package that start no process and use no network are held to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

#: Audit events of Python: a process is started, or a socket is given an address. A socket pair has none.
_FORBIDDEN = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.sendto",
        "subprocess.Popen",
    }
)
#: What was tried since the last test that ended, and whether tests of such a package run. An audit hook stays for good.
_tried: list[str] = []
_is_forbidden = False
_is_hooked = False


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _is_forbidden and event in _FORBIDDEN:
        _tried.append(f"{event} {arguments!r:.200}")
        raise AssertionError(f"a test of this package may start no process and use no network: {_tried[-1]}")


@pytest.fixture(scope="package", autouse=True)
def no_process_and_no_network() -> Iterator[None]:
    """Raises where a test or a fixture of the package starts a process, or connects or binds a socket."""
    global _is_forbidden, _is_hooked  # noqa: PLW0603  an audit hook cannot be taken out again
    if not _is_hooked:
        sys.addaudithook(_watch)
        _is_hooked = True
    _is_forbidden = True
    yield
    _is_forbidden = False


@pytest.fixture(autouse=True)
def nothing_forbidden_was_tried(no_process_and_no_network: None) -> Iterator[None]:
    """Fails a test that tried it though the code under test caught the exception."""
    _tried.clear()
    yield
    assert not _tried
