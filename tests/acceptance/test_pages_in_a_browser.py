"""The pages as people use them: a real browser, a real server, a run beside it, and the stand-in as provider."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import pytest

from jobs.ledger import open_ledger
from jobs.policy.access import Role
from jobs.states import BatchState, JobState
from tests.support import command
from tests.support.access import make
from tests.support.browser import browser, tab  # noqa: F401  fixtures
from tests.support.patience import AT_LAST, until

QUICK = {"takes": {"default": [0.2, 0.4]}, "pictures": {"tiny": True}}
AXE = Path(__file__).parent.parent / "support" / "axe" / "axe.min.js"
ROWS = ["key,prompt,provider", "lamp,a lamp,maxapi.io", "rug,<b>a rug</b> & <script>alert(1)</script>,maxapi.io"]
LIMITS = {"first_poll_after": 0.2, "poll_every": 0.2, "submits_per_second": 50, "max_in_flight": 20}

pytestmark = pytest.mark.timeout(900)
with_a_worker = pytest.mark.parametrize("server", [("--work",)], indirect=True)


@pytest.fixture
def environment(sandbox):
    accounts = command.account_settings("MAXAPI_IO", "MAXAPI_DEV", "APIMASTER", **LIMITS)
    return command.bare_environment() | sandbox.settings | accounts


@pytest.fixture
def ledger():
    with contextlib.closing(open_ledger("sqlite:///lightfast.db")) as opened:
        yield opened


@pytest.fixture
def server(request, ledger, environment):
    """A server of this folder's ledger; its address. A test that is marked so gives it more words."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = getattr(request, "param", ())
    process = command.Started(("lightfast", "serve", "--port", str(port), *more), environment)
    until(lambda: "listening" in process.says(), meanwhile=lambda: lives(process))
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate()


def lives(process):
    assert process.poll() is None, process.communicate()


@pytest.fixture
def page(tab, server):  # noqa: F811
    """A tab that counts what it asks other hosts for."""
    tab.set_default_timeout(AT_LAST * 1000)
    strangers = []
    tab.on("request", lambda request: strangers.append(request.url) if not request.url.startswith(server) else None)
    yield tab
    assert strangers == []


def log_in(page, server, token):
    page.goto(f"{server}/")
    page.get_by_label("Your token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Batches").wait_for()


def run(environment, rows, *options):
    Path("m.csv").write_text("\n".join(rows) + "\n")
    return command.Started(("lightfast", "run", "m.csv", "--to", "out", "--yes", *options), environment)


def faults(page):
    """What axe-core finds serious."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


def test_a_batch_is_seen_to_finish_without_reloading_and_a_rows_markup_is_text(
    page, server, ledger, sandbox, environment
):
    sandbox.play(
        takes={"default": [0.2, 0.4]}, pictures={"tiny": True}, rules=[{"prompt": "a lamp", "trouble": "stuck"}]
    )
    log_in(page, server, make(ledger, "ops", Role.OPERATOR).text)
    process = run(environment, ROWS)
    page.get_by_role("link", name="m", exact=True).click()
    page.locator(".figures dd").filter(has_text=re.compile("^1")).first.wait_for()
    page.evaluate("window.neverReloaded = true")
    sandbox.finish()

    page.locator(".badge", has_text="finished").wait_for()
    assert page.evaluate("window.neverReloaded")
    process.communicate()
    assert process.returncode == 0
    page.get_by_role("link", name="2 done").click()
    page.get_by_role("link", name="rug").click()
    assert page.locator("dd", has_text="<script>alert(1)</script>").is_visible()
    assert page.locator(".pictures img").first.get_attribute("alt") == "<b>a rug</b> & <script>alert(1)</script>"
    shown = "[...document.querySelectorAll('.pictures img')].every(each => each.complete && each.naturalWidth)"
    until(lambda: page.evaluate(shown))


def test_troubles_are_told_and_a_person_resolves_them(page, server, ledger, sandbox, environment):
    sandbox.play(**QUICK)
    rows = [*ROWS[:2], "bad,a vase [fail],maxapi.io", "gone,a heron [cut],maxapi.io"]
    run(environment, rows, "--max-stall", "1s").communicate()
    log_in(page, server, make(ledger, "ops", Role.OPERATOR).text)

    page.get_by_role("link", name="m", exact=True).click()
    page.get_by_role("link", name="1 failed").click()
    page.get_by_role("link", name="bad").click()
    assert page.locator(".story li", has_text="the provider's task failed").count() >= 1

    page.get_by_role("link", name="Unknown").click()
    page.get_by_role("link", name="Decide … about gone").click()
    assert page.get_by_role("button", name=re.compile(r"Pay again, \$\d")).is_visible()
    page.get_by_role("button", name="Give it up").click()
    page.get_by_text("Nothing is unknown").wait_for()
    assert ledger.unknowns.all() == []


def test_pause_resume_the_emergency_stop_and_the_log_out(page, server, ledger, sandbox, environment):
    sandbox.play(**QUICK, rules=[{"prompt": "a lamp", "trouble": "stuck"}])
    process = run(environment, ROWS)
    log_in(page, server, make(ledger, "ops", Role.OPERATOR).text)

    page.get_by_role("link", name="m", exact=True).click()
    page.get_by_role("link", name="Pause …").click()
    page.get_by_role("button", name="Pause it").click()
    page.get_by_role("link", name="Resume …").wait_for()
    assert ledger.batches.find("m").state is BatchState.PAUSED
    page.get_by_role("link", name="Resume …").click()
    page.get_by_role("button", name="Resume it").click()
    page.get_by_role("link", name="Pause …").wait_for()
    assert ledger.batches.find("m").state is BatchState.ACTIVE

    page.get_by_role("link", name="Stop all").click()
    page.get_by_role("button", name="Stop all submits").click()
    page.get_by_role("heading", name="All submits are stopped").wait_for()
    assert ledger.emergency_stop.current().by == "ops"
    page.get_by_role("link", name="Let them go on …").click()
    page.get_by_role("button", name="Let them go on").click()
    page.get_by_role("heading", name="Batches").wait_for()
    assert ledger.emergency_stop.current() is None
    sandbox.finish()
    process.communicate()
    assert process.returncode == 0

    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in").wait_for()
    page.goto(f"{server}/batches/m")
    page.get_by_role("heading", name="Log in").wait_for()


def drop(page, name, rows):
    """Drops a file onto the page, as from a folder's window."""
    made = page.evaluate_handle(
        "([name, text]) => { const all = new DataTransfer(); all.items.add(new File([text], name)); return all }",
        [name, "\n".join(rows) + "\n"],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": made})


@with_a_worker
def test_a_manifest_is_dropped_its_price_is_agreed_to_and_it_is_made(page, server, ledger, sandbox):
    sandbox.play(**QUICK)
    log_in(page, server, make(ledger, "ops", Role.OPERATOR).text)
    page.get_by_role("link", name=re.compile("^New")).click()
    page.get_by_label("Destination").fill("out")
    plan = page.locator("#plan")
    drop(page, "lamps.csv", ["key,prompt,n", "lamp,a lamp,1", "rug,a rug,a few"])
    plan.get_by_role("heading", name="Bad rows").wait_for()
    assert plan.locator("td", has_text="a few").is_visible()
    assert plan.get_by_role("button").count() == 0

    drop(page, "lamps.csv", ROWS)
    agree = plan.get_by_role("button", name=re.compile(r"^Make 2 images for \$\d"))
    agree.wait_for()
    assert ledger.batches.all() == []
    agree.click()

    page.get_by_role("heading", name="lamps").wait_for()
    page.locator(".badge", has_text="finished").wait_for()
    page.get_by_role("link", name="2 done").wait_for()
    assert len(list(Path("out").rglob("*.jpg"))) + len(list(Path("out").rglob("*.png"))) == 2


@with_a_worker
def test_a_schedule_is_paused_resumed_and_run_now_by_its_page(page, server, ledger, sandbox, environment):
    sandbox.play(**QUICK)
    Path("m.csv").write_text("\n".join(ROWS) + "\n")
    words = ("lightfast", "schedule", "add", "daily", "0 9 * * *", "m.csv", "--to", "out", "--budget", "5", "--yes")
    added = command.Started(words, environment)
    assert (added.communicate(), added.returncode)[1] == 0
    log_in(page, server, make(ledger, "ops", Role.OPERATOR).text)
    page.get_by_role("link", name="Schedules").click()
    page.get_by_role("link", name="daily").click()
    for word, then in (("Pause", "Resume"), ("Resume", "Pause")):
        page.get_by_role("link", name=f"{word} …").click()
        page.get_by_role("button", name=word).click()
        page.get_by_role("link", name=f"{then} …").wait_for()
        assert (ledger.schedules.find("daily").next_at is None) == (word == "Pause")

    page.get_by_role("link", name="Run now …").click()
    page.get_by_role("button", name="Run now").click()

    until(lambda: [each for each in ledger.batches.all() if is_made(ledger, each)])
    page.reload()
    page.locator(".story").get_by_role("link", name=re.compile("^daily")).click()
    page.locator(".badge", has_text="finished").wait_for()


def is_made(ledger, batch):
    return [result.state for result in ledger.reports.results(batch.name)] == [JobState.DONE] * 2


PAGES = (
    *("/", "/batches/m", "/batches/m/rows", "/batches/m/row?key=bad", "/batches/m/pictures", "/batches/m/pause"),
    *("/batches/m/retry", "/unknown", "/batches/m/unknown?key=gone", "/accounts", "/workers", "/stop"),
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_serious_fault_for_readers_who_do_not_see_and_fit_a_phone(
    page, server, ledger, sandbox, environment, scheme
):
    sandbox.play(**QUICK)
    rows = [*ROWS, "bad,a vase [fail],maxapi.io", "gone,a heron [cut],maxapi.io"]
    run(environment, rows, "--max-stall", "1s").communicate()
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{server}/login")
    assert faults(page) == []
    log_in(page, server, make(ledger, "ops", Role.OPERATOR).text)

    page.set_viewport_size({"width": 360, "height": 740})
    for path in PAGES:
        answer = page.goto(server + path)
        assert answer.status == 200, path
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        assert faults(page) == [], path


def test_a_page_is_light_and_asks_for_nothing_while_it_is_hidden(page, server, ledger, sandbox, environment):
    sandbox.play(**QUICK)
    run(environment, ROWS).communicate()
    log_in(page, server, make(ledger, "ops", Role.OPERATOR).text)
    sizes = []
    page.on("response", lambda answer: sizes.append(len(answer.body())))
    page.goto(f"{server}/batches/m")
    page.wait_for_load_state("networkidle")
    assert sum(sizes) < 150_000

    page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5_000)  # real time: two looks would have come
    assert asked == []
