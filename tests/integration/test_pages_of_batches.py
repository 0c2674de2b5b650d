"""What pages show and do: the same as commands and the API, for whoever may."""

from __future__ import annotations

import contextlib
import re
import time
from types import SimpleNamespace

import pytest

from jobs.facts import SubmitRefused
from jobs.ledger import open_ledger
from jobs.ledger.access.values import Acceptance
from jobs.policy.access import Role
from jobs.settings.model import Settings
from jobs.states import BatchState
from providers.types import Kind
from tests.support import picture_ledger, stocked_ledger
from tests.support.access import make
from tests.support.shop_ledger import open_shop
from tests.support.visits import browser, form_token, log_in, send
from web.app import WebLedger, make_app
from web.one_time_link import OneTimeLink
from web.pages.shared_text import LOOKS_A_SECOND, SharedTexts

NOW = stocked_ledger.NOW
MARKUP = "<script>alert(1)</script><b>"


@contextlib.contextmanager
def opened(folder, **options):
    """The pages of the ledger in a folder: its ledger, and a maker of browsers that are logged in."""
    url = f"sqlite:///{folder / 'lightfast.db'}"
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(contextlib.closing(open_ledger(url)))
        web_ledger = stack.enter_context(contextlib.closing(WebLedger(lambda: open_ledger(url))))
        settings = Settings(database_url=url, **options.pop("settings", {}))
        app = make_app(web_ledger, settings=settings, **options)
        stack.enter_context(browser(app))  # its life is the app's

        def visit(role=Role.OPERATOR, name=None):
            asker = make(ledger, name or role.value, role)
            at = stack.enter_context(contextlib.closing(browser(app)))
            log_in(at, asker.text)
            return at

        yield SimpleNamespace(ledger=ledger, visit=visit, app=app)


@pytest.fixture
def shop(tmp_path):
    open_shop(tmp_path, tmp_path / "out")
    with opened(tmp_path) as it:
        yield it


def show(at, path, status=200):
    answer = at.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


def test_a_batch_is_shown_with_its_counts_its_money_and_what_it_waits_for(shop):
    text = show(shop.visit(), "/batches/shop")

    assert "2<small>of 5," in text
    assert "of $1.00 (list prices)" in text
    assert "outcome unknown, at most $0.02" in text
    assert "no balance (402)" in text
    for chip in ("<b>1</b> waiting for their turn", "<b>1</b> held", "<b>1</b> skipped"):
        assert chip in text
    assert "nobody works on it now" in text


def test_a_part_that_has_not_changed_is_not_sent_again(shop):
    at = shop.visit()
    look = re.search(r'hx-get="(/batches/shop/live\?v=\w+)"', show(at, "/batches/shop"))[1]

    unchanged = at.get(look, headers={"HX-Request": "true"})
    assert (unchanged.status_code, unchanged.content) == (204, b"")
    assert float(unchanged.headers["x-look-every"]) == 2.0
    shop.ledger.batches.pause("shop", "on your word")
    shop.app.state.pages.texts.forget()
    changed = at.get(look, headers={"HX-Request": "true"})
    assert changed.status_code == 200
    assert "paused" in changed.text


def test_the_more_look_the_longer_each_waits():
    texts = SharedTexts(lambda: 100.0)

    waits = [texts.interval() for _ in range(400)]

    assert waits[0] == 2.0
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(2 + 399 / LOOKS_A_SECOND)


def test_many_who_look_at_once_have_a_part_rendered_once(shop):
    made = []
    for _ in range(50):
        shop.app.state.pages.texts.get("part", lambda: made.append(1) or "text")

    assert made == [1]


def test_rows_come_by_state_and_by_their_keys_and_each_has_its_story(shop):
    at = shop.visit()

    assert re.findall(r"key=(\w+)\"", show(at, "/batches/shop/rows?state=done")) == ["lamp"]
    assert re.findall(r"key=(\w+)\"", show(at, "/batches/shop/rows?search=va")) == ["vase"]
    assert "No such row" in show(at, "/batches/shop/rows?search=nothing")
    story = show(at, "/batches/shop/row?key=vase")
    assert "moderation: rejected: public figure" in story
    assert "certainly not accepted" in story
    assert "line 3 of shop.csv" in story
    show(at, "/batches/shop/row?key=nobody", 404)
    show(at, "/batches/shop/row?key=%00", 404)
    show(at, "/batches/nothing", 404)


def test_stored_markup_is_text_everywhere(tmp_path):
    rows = [picture_ledger.row(0, MARKUP)]
    picture_ledger.store(picture_ledger.open_pictures(tmp_path), tmp_path / "out", rows)
    with opened(tmp_path) as web:
        at = web.visit()
        for path in ("/batches/b/rows", f"/batches/b/row?key={MARKUP}", "/batches/b/pictures", "/batches/b"):
            text = show(at, path)
            assert "<script>alert" not in text
            assert "<b>" not in text.replace("<b>1</b>", "").replace("<b>$0.02</b>", "")
        assert 'alt="A &lt;script&gt;' in show(at, "/batches/b/pictures")


def test_pictures_come_page_by_page_through_the_server_alone(tmp_path):
    rows = [picture_ledger.row(number, f"k{number:03}") for number in range(60)]
    picture_ledger.store(picture_ledger.open_pictures(tmp_path), tmp_path / "out", rows)
    with opened(tmp_path) as web:
        at = web.visit()
        first = show(at, "/batches/b/pictures")
        more = re.search(r'hx-get="([^"]+)"', first)[1].replace("&amp;", "&")
        second = at.get(more, headers={"HX-Request": "true"}).text

        assert len(re.findall("<img", first)) == 48
        assert len(re.findall("<img", second)) == 12
        assert "hx-get" not in second
        picture = at.get(re.search(r'<img src="([^"]+)"', first)[1].replace("&amp;", "&"))
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
        assert picture.headers["x-content-type-options"] == "nosniff"


def test_a_batch_is_paused_resumed_and_cancelled_by_a_page_that_says_what_that_means(shop):
    at = shop.visit()
    assert "1 row, at most $0.02, wait." in show(at, "/batches/shop/pause")

    send(at, "/batches/shop/pause")
    assert shop.ledger.batches.find("shop").state is BatchState.PAUSED
    send(at, "/batches/shop/resume")
    assert shop.ledger.batches.find("shop").state is BatchState.ACTIVE
    assert "cannot be taken back" in show(at, "/batches/shop/cancel")
    send(at, "/batches/shop/cancel")
    assert shop.ledger.batches.find("shop").state is BatchState.CANCELLED
    assert "is cancelled" in send(at, "/batches/shop/pause", 409, page="/stop").text
    assert [entry.action for entry in shop.ledger.access.log(3)] == ["batch cancel", "batch resume", "batch pause"]


def test_who_only_sees_has_no_buttons_and_can_do_nothing(shop):
    at = shop.visit(Role.VIEWER)

    for path in ("/", "/batches/shop", "/unknown", "/accounts", "/workers", "/schedules", "/batches/shop/row?key=sofa"):
        actions = re.findall(r'<form[^>]*action="([^"]+)"', show(at, path))
        assert set(actions) <= {"/logout"}
        for word in ("Pause", "Cancel", "Decide …", "Stop all", "New<"):
            assert f">{word}" not in show(at, path), (path, word)
    token = form_token(at.get("/"))
    for path in (
        "/batches/shop/pause",
        "/batches/shop/retry",
        "/batches/shop/unknown",
        "/accounts/main/probe",
        "/stop/lift",
    ):
        assert at.post(path, data={"form_token": token}).status_code == 403, path
    for path in ("/batches/shop/pause", "/batches/shop/retry", "/stop", "/new"):
        show(at, path, 403)
    assert shop.ledger.batches.find("shop").state is BatchState.ACTIVE


def test_a_producer_sees_and_steers_its_own_batches_alone(shop):
    mine = make(shop.ledger, "catalog", Role.PRODUCER)
    by = Acceptance(token_id=mine.token.id, amount=None)
    rows = stocked_ledger.rows(2)
    shop.ledger.batches.record_manifest(stocked_ledger.new_batch("mine"), rows, acceptance=by, now=NOW)
    at = browser(shop.app)
    log_in(at, mine.text)

    text = show(at, "/")
    assert "/batches/mine" in text
    assert "shop" not in text
    for path in ("", "/live", "/rows", "/row?key=lamp", "/pictures", "/pause", "/retry", "/image?key=lamp&index=0"):
        show(at, f"/batches/shop{path}", 404)
    for path in ("/unknown", "/accounts", "/schedules", "/workers", "/stop"):
        show(at, path, 403)
    send(at, "/batches/mine/pause")
    assert at.post("/batches/shop/pause", data={"form_token": form_token(at.get("/"))}).status_code == 404
    at.close()


def test_an_unknown_outcome_is_decided_with_its_money_named(shop):
    at = shop.visit()
    assert "1 attempt, at most $0.02" in show(at, "/unknown")
    asks = "/batches/shop/unknown?key=sofa"
    assert "Pay again, $0.02" in show(at, asks)

    send(at, "/batches/shop/unknown", 409, page=asks, how="pay-again", key="sofa", price="$0.01")
    send(at, "/batches/shop/unknown", 422, page=asks, how="found", key="sofa", task_id="")
    send(at, "/batches/shop/unknown", 422, page=asks, how="nonsense", key="sofa")
    assert len(shop.ledger.unknowns.all()) == 1
    send(at, "/batches/shop/unknown", page=asks, how="pay-again", key="sofa", price="$0.02")
    assert shop.ledger.unknowns.all() == []
    assert "Nothing is unknown" in show(at, "/unknown")


def test_a_retry_names_what_it_costs_and_costs_no_more(tmp_path):
    (tmp_path / "out").mkdir()
    with opened(tmp_path) as web:
        stocked_ledger.stock(web.ledger, stocked_ledger.rows(1), name="shop", dest=str(tmp_path / "out"))
        (sent,) = web.ledger.claims.submits("main", NOW, lease=60.0, at_most=1, horizon=5.0).intents
        why = {"kind": Kind.PERMANENT, "code": "bad_request", "message": "no"}
        web.ledger.facts.record([SubmitRefused(attempt_id=sent.attempt_id, at=NOW, **why)])
        retried(web)


def retried(web):
    at = web.visit()
    asked = show(at, "/batches/shop/retry")
    assert "1 row tried again. That costs at most $0.02." in asked
    cost = re.search(r'name="cost" value="(\d+)"', asked)[1]

    send(at, "/batches/shop/retry", 402, cost="1", key="", buy_again="")
    send(at, "/batches/shop/retry", cost=cost, key="", buy_again="")
    assert [entry.action for entry in web.ledger.access.log(1)] == ["batch retry"]


def test_results_are_downloaded_as_a_file_in_each_format(shop):
    at = shop.visit()
    page = show(at, "/batches/shop")
    links = re.findall(r'href="(/batches/shop/results/[a-z]+)"', page)

    assert links == [f"/batches/shop/results/{each}" for each in ("csv", "jsonl", "parquet")]
    for link in links:
        answer = at.get(link)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="shop.{link.rpartition("/")[2]}"'
        assert answer.content
    assert at.get(links[0]).text.count("\n") == 1 + 5
    show(at, "/batches/shop/results/exe", 422)


def test_an_accounts_submits_and_refusals_are_drawn_over_time(tmp_path):
    with opened(tmp_path) as web:
        stocked_ledger.stock(web.ledger, stocked_ledger.rows(9))
        now = time.time()
        web.ledger.accounts.note_minute(now - 600)
        for at, most in ((now - 500, 3), (now - 300, 1)):
            *_, sent = web.ledger.claims.submits("main", at, lease=90, at_most=most).intents
            web.ledger.accounts.note_minute(at)
        refused = SubmitRefused(
            attempt_id=sent.attempt_id, at=now - 299, kind=Kind.THROTTLED, code="rate_limited", message="slowly", raw=""
        )
        web.ledger.facts.record([refused])
        web.ledger.accounts.note_minute(now - 200)

        accounts = show(web.visit(), "/accounts")

    assert "Over the last day" in accounts
    assert "main: submits a minute; 1 refused" in accounts
    assert "main: in flight" in accounts


def test_accounts_workers_and_schedules_are_shown(shop):
    at = shop.visit()

    accounts = show(at, "/accounts")
    assert "main" in accounts
    assert "no balance (402)" in accounts
    assert "Nobody works on this ledger now." in show(at, "/workers")
    assert "No schedule yet" in show(at, "/schedules")
    assert "Over the last day" not in accounts
    assert "Its next submit is the probe" in show(at, "/accounts/main/probe")
    send(at, "/accounts/main/probe")
    assert shop.ledger.accounts.all()[0].paused_until is None


CSV = "key,prompt\nlamp,a lamp\nvase,a vase\n"


def new(at, path="/new", text=CSV, **fields):
    token = form_token(at.get("/new"))
    files = {"manifest": ("spring.csv", text)}
    return at.post(path, data={"form_token": token, **fields}, files=files, follow_redirects=False)


def agreed_by(plan):
    """What the plan's button agrees to, and what it says."""
    found = re.search(r'name="at_most_usd" value="([\d.]+)">([^<]+)<', plan.text)
    assert found, plan.text
    return float(found[1]), found[2]


@pytest.fixture
def makes(tmp_path):
    keys = {"accounts": {"main": {"provider": "maxapi.io", "api_key": "key"}}}
    with opened(tmp_path, settings=keys) as it:
        yield it


def test_a_manifest_is_planned_with_its_price_and_goes_when_that_is_agreed_to(makes, tmp_path):
    at = makes.visit()
    plan = new(at, "/new/plan", to=str(tmp_path / "out"))
    assert plan.status_code == 200
    amount, button = agreed_by(plan)
    assert re.fullmatch(r"Make 2 images for \$[\d.]+", button)
    assert makes.ledger.batches.all() == []

    assert new(at, to=str(tmp_path / "out"), at_most_usd="0.000001").status_code == 402
    assert makes.ledger.batches.all() == []
    made = new(at, to=str(tmp_path / "out"), at_most_usd=f"{amount:.6f}")
    assert (made.status_code, made.headers["location"]) == (303, "/batches/spring"), made.text
    assert makes.ledger.batches.find("spring").dest == str(tmp_path / "out")


def test_where_images_are_billed_by_usage_the_most_that_they_may_cost_is_agreed_to(tmp_path):
    by_usage = {"accounts": {"main": {"provider": "maxapi.dev", "api_key": "key"}}}
    with opened(tmp_path, settings=by_usage) as makes:
        at, to = makes.visit(), str(tmp_path / "out")
        plan = new(at, "/new/plan", to=to)
        amount, button = agreed_by(plan)
        assert re.search(r"costs about</dt><dd>\$[\d.]+<small>at most \$[\d.]+, set aside", plan.text), plan.text
        assert button.startswith("Make 2 images for at most $")

        assert new(at, to=to, at_most_usd=f"{amount - 0.000001:.6f}").status_code == 402
        assert new(at, to=to, at_most_usd=f"{amount:.6f}").status_code == 303
        batch = makes.ledger.batches.find("spring")
        assert batch.agreed == round(amount * 1_000_000)


@pytest.mark.parametrize("path", ["/", "/new", "/stop", "/accounts", "/batches/nowhere", "/login"])
def test_every_page_of_a_stand_in_s_ledger_says_that_nothing_is_bought(tmp_path, path):
    with opened(tmp_path, settings={"sandbox": True}) as rehearsal:
        assert "SANDBOX" in rehearsal.visit().get(path).text


def test_pages_of_a_ledger_that_pays_do_not_say_sandbox(makes):
    at = makes.visit()

    assert not any("SANDBOX" in at.get(path).text for path in ("/", "/new", "/stop", "/login"))


def test_a_budget_is_the_most_that_is_agreed_to(makes, tmp_path):
    plan = new(makes.visit(), "/new/plan", to=str(tmp_path / "out"), budget_usd="0.05", partial="true")

    assert agreed_by(plan)[0] <= 0.05


def test_what_is_wrong_with_a_manifest_is_told_and_nothing_is_recorded(makes, tmp_path):
    at = makes.visit()

    plan = new(at, "/new/plan", text="key,prompt,ratio\nlamp,a <b>lamp,7:5\n", to=str(tmp_path / "out"))
    assert "7:5" in plan.text
    assert "at_most_usd" not in plan.text
    assert new(at, to="ftp://x").status_code == 422
    assert new(at, text="key,prompt,ratio\nlamp,a lamp,7:5\n", to=str(tmp_path / "out")).status_code == 422
    assert makes.ledger.batches.all() == []


def test_what_is_wrong_is_told_in_the_words_of_the_form(makes, tmp_path):
    at = makes.visit()

    homeless = new(at, "/new/plan").text
    assert "“Destination” is missing" in homeless
    dear = new(at, "/new/plan", to=str(tmp_path / "out"), budget_usd="0.000001").text
    assert "“Budget” needs to be at least $" in dear
    assert "“Work until the budget is used” works" in dear
    assert "`" not in homeless + dear


@pytest.mark.parametrize("to", ["\0", "file:///a%00b", "http://[", "~nobody-of-this-name/x"], ids=ascii)
def test_a_destination_that_none_can_be_is_told(makes, to):
    at = makes.visit()

    assert new(at, to=to).status_code == 422
    assert "at_most_usd" not in new(at, "/new/plan", to=to).text
    assert makes.ledger.batches.all() == []


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape", "punycode"])
def test_a_form_in_a_charset_that_none_is_in_gets_a_page(makes, charset):
    at = makes.visit()
    parts = [("form_token", "", form_token(at.get("/new"))), ("+2AA-", "", "1"), ("\\ud800", "", "1")]
    parts += [("budget_usd", "", "+2AA-"), ("manifest", '; filename="a.csv"', CSV)]
    body = "".join(f'--XX\r\nContent-Disposition: form-data; name="{n}"{f}\r\n\r\n{v}\r\n' for n, f, v in parts)
    kind = f"multipart/form-data; boundary=XX; charset={charset}"

    for path in ("/new", "/new/plan"):
        answer = at.post(path, content=f"{body}--XX--\r\n", headers={"Content-Type": kind})
        assert answer.status_code in (403, 422), answer.text


def test_a_new_batch_needs_a_form_of_the_visitors_own_page(makes, tmp_path):
    at = makes.visit()
    files = {"manifest": ("spring.csv", CSV)}

    for path in ("/new", "/new/plan"):
        assert at.post(path, data={"to": str(tmp_path), "form_token": "x"}, files=files).status_code == 403
        assert at.post(path, files=files, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert makes.ledger.batches.all() == []


def test_who_came_by_the_one_time_link_makes_batches_that_are_nobodys(tmp_path):
    link, keys = OneTimeLink(), {"accounts": {"main": {"provider": "maxapi.io", "api_key": "key"}}}
    with opened(tmp_path, settings=keys, link=link) as web:
        at = browser(web.app)
        send(at, "/open", page=link.path(), code=link.code.get_secret_value())
        made = new(at, to=str(tmp_path / "out"))

        assert made.status_code == 303, made.text
        assert web.ledger.batches.find("spring").token_id is None
        assert web.ledger.access.log(1)[0].action == "batch create"
        at.close()
