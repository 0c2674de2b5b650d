"""Takes pictures of the pages into docs/pages, light, dark and on a phone: `make screenshots`.

It starts the stand-in, works the example's catalogue with a few rows in trouble, and opens each page in Chromium.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from jobs.ledger import open_ledger
from jobs.policy.access import Role
from sandbox.launch import running
from tests.support import ROOT, command
from tests.support.access import make
from tests.support.browser import program
from tests.support.patience import until

OUT = ROOT / "docs" / "pages"
#: Name and path of each. All are kept in each look, and the plan of a new batch.
PAGES = {
    "batches": "/",
    "batch": "/batches/catalog",
    "rows": "/batches/catalog/rows",
    "row": "/batches/catalog/row?key=vase-broken",
    "pictures": "/batches/catalog/pictures",
    "retry": "/batches/catalog/retry",
    "unknown": "/unknown",
    "decide": "/batches/catalog/unknown?key=heron-lost",
    "new": "/new",
    "accounts": "/accounts",
    "schedules": "/schedules",
    "schedule": "/schedules/nightly",
    "workers": "/workers",
    "stop": "/stop",
}
#: Width, height, colours.
LOOKS = {"light": (1200, 760, "light"), "dark": (1200, 760, "dark"), "phone": (360, 740, "dark")}
#: Colours of a picture: those of a page without photographs are few.
COLOURS = 96
TROUBLE = (
    "vase-broken,Terra Vase,Homeware,Terracotta,54.00,X-1,A terracotta vase that nobody can draw [fail]",
    "heron-lost,Heron Lamp,Lighting,Brass,129.00,X-2,A heron lamp whose answer was cut off [cut]",
)
RUN = ("run", "catalog.csv", "--to", "out", "--yes", "--max-stall", "2s")
SCHEDULE = ("schedule", "add", "nightly", "0 3 * * *", "night.csv", "--to", "nights", "--budget", "5", "--yes")
#: What each ends with; of the run: finished, and rows need a person.
COMMANDS = {RUN: 3, SCHEDULE: 0}
REST = ",gpt-image-2,maxapi.io,,,,,,,"


def main() -> None:
    """Everything, in a folder of its own."""
    OUT.mkdir(exist_ok=True)
    with running({"takes": {"default": [0.5, 4.0]}}) as box, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        manifest = (ROOT / "examples" / "catalog.csv").read_text().replace("{sandbox}", box.url)
        Path("catalog.csv").write_text(manifest + "".join(f"{line}{REST}\n" for line in TROUBLE))
        Path("night.csv").write_text("key,prompt\nowl,An owl at night\n")
        environment = {**command.bare_environment(), **_settings(box.url)}
        for line, expected in COMMANDS.items():
            worked = command.Started(("lightfast", *line), environment)
            said = worked.communicate()
            assert worked.returncode == expected, said
        with contextlib.closing(open_ledger("sqlite:///lightfast.db")) as ledger:
            token = make(ledger, "mia", Role.OPERATOR).text
        with _served(environment) as address, sync_playwright() as playwright:
            _take_all(playwright.chromium.launch(executable_path=program(), args=["--no-sandbox"]), address, token)


def _settings(url: str) -> dict[str, str]:
    providers = {"MAXAPI_IO": "maxapi.io", "MAXAPI_DEV": "maxapi.dev", "APIMASTER": "apimaster"}
    settings = {"LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1", "LIGHTFAST_SANDBOX": "1"}
    for variable, name in providers.items():
        settings |= {f"{variable}_API_KEY": "sandbox-key", f"{variable}_BASE_URL": f"{url}/{name}"}
    return settings | command.account_settings(
        "MAXAPI_IO", "MAXAPI_DEV", "APIMASTER", first_poll_after=0.3, poll_every=0.3
    )


@contextlib.contextmanager
def _served(environment: dict[str, str]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = command.Started(("lightfast", "serve", "--port", str(port)), environment)
    try:
        until(lambda: "listening" in process.says())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


def _take_all(browser: Browser, address: str, token: str) -> None:
    for look, (width, height, colours) in LOOKS.items():
        with browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours) as context:
            page = context.new_page()
            page.goto(f"{address}/login")
            _keep(page.screenshot(), f"login-{look}")
            page.get_by_label("Your token").fill(token)
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("heading", name="Batches").wait_for()
            for name, path in PAGES.items():
                page.goto(address + path)
                page.wait_for_load_state("networkidle")
                _keep(page.screenshot(), f"{name}-{look}")
            _plan(page, address)
            _keep(page.screenshot(full_page=True), f"plan-{look}")


def _plan(page: Page, address: str) -> None:
    """A manifest's plan, before anybody has agreed to it."""
    page.goto(f"{address}/new")
    page.get_by_label("Drop a manifest here").set_input_files("night.csv")
    page.get_by_label("Name").fill("night-2")
    page.get_by_label("Destination").fill("nights-2")
    page.get_by_label("Pay again").check()
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_role("button", name="Make 1 image").wait_for()


def _keep(picture: bytes, name: str) -> None:
    with Image.open(io.BytesIO(picture)) as opened:
        few = opened.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(OUT / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
