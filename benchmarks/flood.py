"""A thousand wrong callbacks a second at `lightfast serve`, beside a `lightfast run` on the same SQLite ledger.

Prints how soon they, and the probes among them, are answered, and what the web process grew by.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.house import House, house
from benchmarks.measure import show
from jobs.ledger import open_ledger
from sandbox.launch import Box, running

CALLERS = 24  # connections that stay
SLOW = 300  # connections that begin a request and never end it
RATE = 1000.0  # requests a second
LARGE = 10_000_000  # bytes
SCENARIO = {"takes": {"default": [1.0, 3.0]}, "pictures": {"tiny": True}}
LIMITS = {"submits_per_second": 40.0, "max_in_flight": 100}
LOCKED = ("database is locked", "claim_failed", "hints_not_written", "Traceback")


@dataclass(slots=True)
class Said:
    """What was answered, and after how many seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)  # from when they were sent
    delays: list[float] = field(default_factory=list)  # from when they were due: a busy machine sends late, too
    probes: list[float] = field(default_factory=list)
    broken: int = 0

    def told(self) -> Iterator[tuple[str, str]]:
        """Lines of a table."""
        yield "answers", ", ".join(f"{count:,} of {status}" for status, count in sorted(self.statuses.items()))
        yield "... after", _spread(self.waits)
        yield "... after they were due", _spread(self.delays)
        yield "... connections that broke off", str(self.broken)
        yield "/livez beside them, after", _spread(self.probes)


def _spread(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return "not measured"
    cuts = statistics.quantiles(seconds, n=100)
    return f"median {cuts[49] * 1000:.1f} ms, 95 % {cuts[94] * 1000:.1f} ms, 99 % {cuts[98] * 1000:.1f} ms"


def measure(seconds: float, rows: int) -> list[tuple[str, str]]:
    """Floods a door beside a run."""
    with tempfile.TemporaryDirectory() as name, running(SCENARIO) as box, house(Path(name), box.url, LIMITS) as here:
        run = here.start("run", str(_manifest(here.folder, rows)), "--to", "images", "--yes", "--quiet")
        genuine = _genuine_address(here, box)
        asyncio.run(_flood(here, genuine, 1.0))  # what the first requests load is no growth
        before = here.memory()
        said, took = asyncio.run(_flood(here, genuine, seconds))
        after = here.memory()
        ended = run.wait(300)
        with contextlib.closing(open_ledger(f"sqlite:///{here.folder}/lightfast.db")) as ledger:
            kept = ledger.hints.waiting()
        complaints = {words: here.said().count(words) for words in LOCKED}
    return [
        ("requests a second", f"{sum(said.statuses.values()) / took:,.0f}"),
        *said.told(),
        ("memory of the web process", f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after"),
        ("hints that wait in the ledger", str(kept)),
        ("the run beside it ended with", str(ended)),
        ("complaints in both logs", str({words: count for words, count in complaints.items() if count} or "none")),
    ]


def _manifest(folder: Path, rows: int) -> Path:
    path = folder / "lamps.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["key", "prompt"])
        lines.writerows((f"lamp-{number:05}", f"photo of lamp {number}") for number in range(rows))
    return path


def _genuine_address(here: House, box: Box) -> str:
    """The path one of the run's attempts is called back at: a leaked one."""
    end = time.monotonic() + 300
    while not box.tasks(limit="1"):
        if time.monotonic() > end:
            raise RuntimeError(here.said())
        time.sleep(0.1)
    with contextlib.closing(open_ledger(f"sqlite:///{here.folder}/lightfast.db")) as ledger:
        return f"/hooks/maxapi.io/{ledger.hints.token(next(iter(ledger.reports.audit())).attempt)}"


# -- the flood -----------------------------------------------------------------------------------------------------


def _requests(genuine: str) -> Iterator[bytes]:
    """Rubbish of all kinds, for ever."""
    forged = "/hooks/maxapi.io/7.Zm9yZ2VkZm9yZ2VkZm9yZ2Vk"
    task = b'{"code":0,"data":{"taskId":"t-%d","status":"SUCCESS"}}'
    for number in itertools.count():
        yield _http("POST", forged, task % number)
        yield _http("POST", genuine, task % number)
        yield _http("POST", genuine, b"no json at all")
        yield _http("POST", genuine, b"[" * 2000)
        yield _http("POST", genuine, b'{"data":[[{"taskId":{}}]]}')
        yield _http("GET", genuine, b"")
        yield _http("DELETE", forged, b"")
        yield _http("POST", f"/hooks/maxapi.io/{number}.x", task % number)
        yield _http("POST", "/nowhere", b"x" * 1000)
        yield _http("PUT", genuine, task % number)


def _http(method: str, path: str, body: bytes) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _flood(here: House, genuine: str, seconds: float) -> tuple[Said, float]:
    said, requests = Said(), _requests(genuine)
    began = time.monotonic()
    end = began + seconds
    callers = [_call(here, requests, said, began + n / RATE, end) for n in range(CALLERS)]
    slow = asyncio.create_task(_hold(here, genuine))
    await asyncio.gather(*callers, _probe(here, said, end), _large(here, genuine, said, end))
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    return said, time.monotonic() - began


async def _call(here: House, requests: Iterator[bytes], said: Said, due: float, end: float) -> None:
    """One connection's share, at fixed times."""
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            sent = time.monotonic()
            writer.write(next(requests))
            said.statuses[await _status(reader)] += 1
            said.waits.append(time.monotonic() - sent)
            said.delays.append(time.monotonic() - due)
        except (ConnectionError, asyncio.IncompleteReadError):
            said.broken += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        due += CALLERS / RATE
    writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    await reader.readexactly(length)
    return int(head.split()[1])


async def _probe(here: House, said: Said, end: float) -> None:
    while time.monotonic() < end:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(_http("GET", "/livez", b""))
        await _status(reader)
        said.probes.append(time.monotonic() - began)
        writer.close()
        await asyncio.sleep(0.05)


async def _large(here: House, genuine: str, said: Said, end: float) -> None:
    """Ten megabytes: declared and sent, declared and kept back, and without a length."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    chunked = f"POST {genuine} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    declared = f"POST {genuine} HTTP/1.1\r\nHost: here\r\nContent-Length: {LARGE}\r\n\r\n".encode()
    for body in itertools.cycle((_http("POST", genuine, b"x" * LARGE), declared, chunked + chunk * (LARGE // 65536))):
        if time.monotonic() > end:
            return
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(body)
            said.statuses[await _status(reader)] += 1
            writer.close()
        await asyncio.sleep(0.3)


async def _hold(here: House, genuine: str) -> None:
    """Callers who never come to the end of what they say."""
    held = []
    begun = f"POST {genuine} HTTP/1.1\r\nHost: here\r\n".encode()
    try:
        for number in itertools.count():
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(begun if number % 2 else begun + b"Content-Length: 100\r\n\r\nslow")
            held.append(writer)
            await asyncio.sleep(1.0 if number > SLOW else 0.01)
    finally:
        for writer in held:
            writer.close()


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--rows", type=int, default=600)
    given = options.parse_args()
    show("Wrong callbacks, 1,000 a second", measure(given.seconds, given.rows))


if __name__ == "__main__":
    main()
