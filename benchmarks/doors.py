"""Pages and the API where a million rows are on record: how soon each answers, and what open pages cost.

The ledger is filled as by `benchmarks.growth`; `lightfast serve` runs beside it, as its own process. A page is opened
as by a person who comes back to it: with seconds between two times, so that nothing of it is at hand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import html
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import httpx

from benchmarks.cpu import SIZE, server, spread
from benchmarks.growth import Grown, grown
from benchmarks.growth import more as cost_of_run
from benchmarks.house import served
from benchmarks.measure import LIGHTFAST, clean_environment, cpu_below, show
from sandbox.servers import free_port

START = 60.0  # seconds
ROUNDS, PAUSE = 7, 2.5  # times that each page is opened, and seconds between two rounds
OPEN, LOOKED = 200, 30.0  # pages that are open, and seconds for which they are
#: Paths of pages, with the ledger's one large batch.
PAGES = (
    "/",
    "/batches/seed",
    "/batches/seed/rows",
    "/batches/seed/rows?state=failed",
    "/batches/seed/rows?search={key}",
    "/batches/seed/row?key={key}",
    "/batches/seed/pictures",
    "/batches/seed/retry",
    "/unknown",
    "/accounts",
    "/schedules",
    "/workers",
    "/stop",
    "/new",
)
API = ("/api/v1/batches", "/api/v1/batches/seed", "/api/v1/batches/seed/rows", "/api/v1/accounts")
FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A `serve` of a large ledger, and who may see all of it."""

    url: str
    token: str
    process: int

    @contextlib.contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """Somebody who is logged in."""
        with httpx.Client(base_url=self.url, timeout=START, follow_redirects=True) as client:
            asked = client.get("/login")
            found = FORM_TOKEN.search(asked.text)
            if found is None:
                raise RuntimeError(asked.text)
            fields = {"form_token": html.unescape(found[1]), "token": self.token, "next": "/"}
            client.post("/login", data=fields).raise_for_status()
            yield client

    def program(self) -> httpx.Client:
        """A program with a token."""
        return httpx.Client(base_url=self.url, timeout=START, headers={"Authorization": f"Bearer {self.token}"})


def measure(rows: int, *, postgresql: bool = False, rounds: int = ROUNDS) -> list[tuple[str, str]]:
    """A ledger of so many rows, with `serve` beside it."""
    with server(SIZE) as url, grown(rows, url, postgresql=postgresql) as one:
        alone = [_cost_of_run(one, number) for number in range(3)]
        with _served(one) as web:
            lines = [*_pages(one, web, rounds), *_api(web, rounds)]
            part, beside = asyncio.run(_with_open_pages(one, web, len(alone)))
    ratios = [more / less for more, less in zip(beside, alone, strict=True)]
    return [
        *lines,
        (f"{OPEN} open pages of that batch", f"{100 * part:.1f} % of a core"),
        (f"CPU of an image of a run, with {OPEN} open pages beside without", spread(ratios)),
    ]


@contextlib.contextmanager
def _served(one: Grown) -> Iterator[Served]:
    command = [LIGHTFAST, "token", "create", "bench", "--role", "operator"]
    made = subprocess.run(
        command, cwd=one.folder, env=clean_environment({}), capture_output=True, text=True, check=True
    )
    with served(one.folder, free_port()) as here:
        yield Served(url=f"http://127.0.0.1:{here.port}", token=made.stdout.strip(), process=here.web.pid)


def _pages(one: Grown, web: Served, rounds: int) -> Iterator[tuple[str, str]]:
    with web.browser() as browser, web.program() as program:
        (row,) = program.get("/api/v1/batches/seed/rows", params={"limit": 1}).json()["rows"]
        paths = [path.format(key=row["key"]) for path in PAGES]
        took = _each(browser, paths, rounds)
    for path, name in zip(paths, PAGES, strict=True):
        first, *later = took[path]
        yield f"{one.rows:,} rows: {name}", f"{1000 * median(later):.0f} ms ({1000 * first:.0f} the first time)"


def _api(web: Served, rounds: int) -> Iterator[tuple[str, str]]:
    with web.program() as program:
        took = _each(program, API, rounds)
    for path, (_, *later) in took.items():
        yield f"... {path}", f"{1000 * median(later):.0f} ms"


def _each(client: httpx.Client, paths: Sequence[str], rounds: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {path: [] for path in paths}
    for _ in range(rounds):
        for path in paths:
            began = time.perf_counter()
            client.get(path).raise_for_status()
            took[path].append(time.perf_counter() - began)
        time.sleep(PAUSE)
    return took


async def _with_open_pages(one: Grown, web: Served, rounds: int) -> tuple[float, list[float]]:
    """Part of a core that open pages take where nothing else is asked; and what an image of a run costs beside them."""
    with web.browser() as browser:
        cookies = dict(browser.cookies)
    async with httpx.AsyncClient(base_url=web.url, timeout=START, cookies=cookies) as client:
        looks = [asyncio.create_task(_look(client)) for _ in range(OPEN)]
        await asyncio.sleep(LOOKED / 3)  # all have opened
        before, began = _spent(one, web), time.monotonic()
        await asyncio.sleep(LOOKED)
        part = (_spent(one, web) - before) / (time.monotonic() - began)
        beside = [await asyncio.to_thread(_cost_of_run, one, 100 + number) for number in range(rounds)]
        for each in looks:
            each.cancel()
        ended = await asyncio.gather(*looks, return_exceptions=True)
    if broken := [each for each in ended if not isinstance(each, asyncio.CancelledError)]:
        raise RuntimeError(f"pages were not answered: {broken[0]!r}")
    return part, beside


def _spent(one: Grown, web: Served) -> float:
    """CPU seconds so far, of PostgreSQL too, which counts for the pages."""
    return cpu_below([web.process]) + one.spent()


def _cost_of_run(one: Grown, number: int) -> float:
    """Of the run alone: what PostgreSQL does for the pages meanwhile is told with them."""
    return cost_of_run(one, number, with_server=False)


async def _look(client: httpx.AsyncClient) -> None:
    """As the script of a page does."""
    version = ""
    while True:
        answer = await client.get("/batches/seed/live", params={"v": version})
        answer.raise_for_status()
        if found := re.search(r"live\?v=([0-9a-f]+)", answer.text):
            version = found[1]
        await asyncio.sleep(float(answer.headers["X-Look-Every"]))


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--postgresql", action="store_true")
    given = options.parse_args()
    kind = "PostgreSQL" if given.postgresql else "SQLite"
    show(f"Pages and the API ({kind})", measure(given.rows, postgresql=given.postgresql))


if __name__ == "__main__":
    main()
