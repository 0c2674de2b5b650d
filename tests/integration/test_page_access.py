"""Who gets into the pages, and who does not: each attack is refused."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from jobs.ledger import open_ledger
from jobs.policy.access import Role
from tests.support.access import make
from tests.support.visits import browser, form_token, log_in, send
from web import sessions, tokens
from web.addresses import Addresses, addresses_of
from web.app import WebLedger, make_app, server_of
from web.one_time_link import OneTimeLink


class Clock:
    """Seconds since 1970 that pass when a test says so."""

    now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def ledger(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as opened:
        yield opened


@pytest.fixture
def make_web(sqlite_ledger_url, monkeypatch):
    """Makes a server's app; several of them are processes of one cluster."""
    monkeypatch.setattr(tokens, "WRONG_AFTER", 0.0)
    with contextlib.ExitStack() as opened:

        def made(url=sqlite_ledger_url, **options):
            web_ledger = opened.enter_context(contextlib.closing(WebLedger(lambda: open_ledger(url))))
            return make_app(web_ledger, **options)

        yield made


@pytest.fixture
def app(make_web):
    return make_web()


@pytest.fixture
def web(app):
    with browser(app) as it:
        yield it


@pytest.fixture
def ops(ledger):
    return make(ledger, "ops", Role.OPERATOR)


def is_in(at, path="/"):
    """Whether pages open."""
    answer = at.get(path, follow_redirects=False)
    assert answer.status_code in (200, 303), answer.text
    return answer.status_code == 200


def cookie(at):
    return next(each for each in at.cookies.jar if "lightfast_" in each.name)


def test_people_log_in_with_a_token_and_out_again(web, ledger, ops):
    assert not is_in(web)
    log_in(web, ops.text)

    assert is_in(web)
    assert "ops" in web.get("/").text
    assert ops.text not in web.get("/").text + cookie(web).value
    assert [entry.action for entry in ledger.access.log(5)] == ["log in"]

    taken = cookie(web).value
    send(web, "/logout", page="/")
    assert not is_in(web)
    web.cookies.set(cookie_name(ledger), taken, domain="localhost.local")
    assert not is_in(web), "a cookie that was copied before the log-out"


def cookie_name(ledger):
    return f"lightfast_{ledger.ledger_id[:8]}"


def test_a_session_opens_every_process_of_the_cluster(web, make_web, ops):
    log_in(web, ops.text)

    with browser(make_web(), cookies=dict(web.cookies)) as other:
        assert is_in(other)


def test_a_log_out_ends_the_session_at_every_process_of_the_cluster(web, make_web, ops):
    log_in(web, ops.text)
    with browser(make_web(), cookies=dict(web.cookies)) as other:
        assert is_in(other)
        send(web, "/logout", page="/")

        assert not is_in(other)


def test_the_cookie_is_for_this_server_alone_and_for_no_script(web, ops):
    set_cookie = log_in(web, ops.text).headers["set-cookie"]

    assert "HttpOnly" in set_cookie
    assert "samesite=strict" in set_cookie.lower()
    assert "path=/" in set_cookie.lower()
    assert "Secure" not in set_cookie
    assert "domain" not in set_cookie.lower()


def test_behind_tls_the_cookie_is_secure_and_bound_to_its_host(app, ops):
    with browser(app, base_url="https://localhost") as web:
        set_cookie = log_in(web, ops.text).headers["set-cookie"]

        assert set_cookie.startswith("__Host-lightfast_")
        assert "Secure" in set_cookie
        assert is_in(web)


@pytest.mark.parametrize(
    "forge", [lambda said: said[:-2] + "xx", lambda said: "x" + said, lambda _: "{}", lambda _: "é\0"]
)
def test_a_forged_cookie_opens_nothing(web, ledger, ops, forge):
    log_in(web, ops.text)
    forged = forge(cookie(web).value)

    web.cookies.clear()
    assert not is_in_with(web, f"{cookie_name(ledger)}={forged}")


def is_in_with(at, said):
    answer = at.get("/", headers={"Cookie": said.encode("latin-1", "replace")}, follow_redirects=False)
    return answer.status_code == 200


def test_another_ledgers_cookie_opens_nothing(web, make_web, tmp_path, ledger, ops):
    url = f"sqlite:///{tmp_path / 'other.db'}"
    with contextlib.closing(open_ledger(url)) as other:
        theirs = make(other, "ops", Role.OPERATOR)
    with browser(make_web(url)) as at:
        log_in(at, theirs.text)
        said = cookie(at).value

    assert not is_in_with(web, f"{cookie_name(ledger)}={said}")


def test_a_revoked_token_ends_its_session_at_the_next_request(web, ledger, ops):
    log_in(web, ops.text)
    assert is_in(web)
    ledger.access.revoke("ops", 2.0)

    assert not is_in(web)
    answer = web.get("/batches", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login?next=%2Fbatches")


def test_a_session_that_was_planted_is_another_after_the_log_in(web, app, ops):
    web.get("/login")
    planted = cookie(web).value
    log_in(web, ops.text)

    assert cookie(web).value != planted
    with contextlib.closing(browser(app, cookies={cookie(web).name: planted})) as attacker:
        assert not is_in(attacker)


def test_a_session_ends_when_it_is_not_used_and_after_a_week_in_any_case(app, web, ops):
    clock = Clock()
    app.state.pages.sessions._clock = clock
    log_in(web, ops.text)
    began = clock.now

    while clock.now < began + sessions.LONGEST - sessions.IDLE:
        clock.now += sessions.IDLE - 60
        assert is_in(web)
    clock.now = began + sessions.LONGEST + 1
    assert not is_in(web)

    log_in(web, ops.text)
    clock.now += sessions.IDLE + 1
    assert not is_in(web)


def test_a_page_that_looks_by_itself_does_not_keep_a_session_alive(app, web, ops):
    clock = Clock()
    app.state.pages.sessions._clock = clock
    log_in(web, ops.text)

    clock.now += sessions.IDLE / 2
    assert "set-cookie" not in web.get("/batches").headers
    assert "set-cookie" in web.get("/").headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9999"},
    ],
)
def test_a_form_of_another_site_is_refused(web, ledger, ops, headers):
    log_in(web, ops.text)
    token = form_token(web.get("/stop"))

    assert web.post("/stop", data={"form_token": token}, headers=headers).status_code == 403
    log_in(web, ops.text, 403, **headers)
    assert ledger.emergency_stop.current() is None


@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
def test_a_form_without_the_sessions_own_token_is_refused(web, ledger, ops, token):
    log_in(web, ops.text)

    assert web.post("/stop", data={"form_token": token}).status_code == 403
    assert web.post("/stop", data={"x": ""}).status_code == 403
    assert web.post("/stop", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 422
    assert ledger.emergency_stop.current() is None


def test_a_form_of_another_persons_session_is_refused(web, app, ledger, ops):
    with contextlib.closing(browser(app)) as attacker:
        log_in(attacker, make(ledger, "eve", Role.VIEWER).text)
        theirs = form_token(attacker.get("/"))
    log_in(web, ops.text)

    assert web.post("/stop", data={"form_token": theirs}).status_code == 403


def test_a_viewer_and_a_producer_stop_nothing(web, app, ledger):
    for role in (Role.VIEWER, Role.PRODUCER):
        with contextlib.closing(browser(app)) as at:
            log_in(at, make(ledger, role.value, role).text)
            token = form_token(at.get("/"))
            assert at.post("/stop", data={"form_token": token}).status_code == 403
            assert at.get("/stop").status_code == 403
            assert 'href="/stop"' not in at.get("/").text
    assert ledger.emergency_stop.current() is None


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/%0d%0aSet-Cookie:x=1",
        "/batches/x\r\nSet-Cookie: x=1",
        "javascript:alert(1)",
        "/.evil.example",
        "/api/v1/batches",
        "",
    ],
)
def test_a_log_in_leads_to_no_other_place_than_a_page(web, ops, to):
    answer = log_in(web, ops.text, to=to)

    assert answer.headers["location"] == "/"
    assert "x=1" not in str(answer.headers)


def test_a_log_in_leads_to_the_page_that_was_wanted(web, ops):
    wanted = "/workers?key=a%2Fb%26c"
    to_log_in = web.get(wanted, follow_redirects=False).headers["location"]
    asked = web.get(to_log_in)

    to = re.search(r'name="next" value="([^"]+)"', asked.text)[1].replace("&amp;", "&")
    assert log_in(web, ops.text, to=to).headers["location"] == wanted


def test_who_follows_a_link_of_another_site_is_let_in_by_a_second_look(web, ops):
    """Browsers keep a strict cookie to themselves then."""
    answer = web.get("/workers?x=%22%3E", headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 200
    assert 'content="0; url=/workers?x=%22%3E"' in answer.text


def test_wrong_tokens_at_the_log_in_are_answered_late_and_few_at_a_time(web, ops, monkeypatch):
    waited = []

    async def wait(seconds):
        waited.append(seconds)

    monkeypatch.setattr(tokens, "_wait", wait)
    monkeypatch.setattr(tokens, "WRONG_AFTER", 1.0)
    answer = log_in(web, "lf_" + "A" * 43, 401)
    assert "wrong, or revoked" in answer.text
    log_in(web, "nonsense", 401)
    assert waited == [1.0, 1.0]

    monkeypatch.setattr(tokens, "WRONG_AT_ONCE", 0)
    log_in(web, "nonsense", 429)
    log_in(web, ops.text)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "localhost@evil.example", "10.0.0.7"])
def test_pages_do_not_answer_to_a_name_that_nobody_chose(web, ops, host):
    log_in(web, ops.text)

    for path in ("/", "/login", "/open"):
        assert web.get(path, headers={"Host": host}).status_code == 421
    assert web.get("/livez", headers={"Host": host}).status_code == 200


def test_names_that_were_chosen_and_numbers_of_an_open_listener_are_answered(make_web, ops):
    with browser(make_web(addresses=addresses_of("0.0.0.0", ["shop.example"], ["https://hooks.example:8443/x"]))) as at:
        for host in (
            "shop.example",
            "SHOP.example:8000",
            "hooks.example",
            "10.0.0.7:8000",
            "[fd00::7]:8000",
            "localhost",
        ):
            assert at.get("/login", headers={"Host": host}).status_code == 200, host
        assert at.get("/login", headers={"Host": "evil.example"}).status_code == 421


def test_nobody_is_believed_who_says_that_he_comes_by_a_proxy(make_web):
    app = make_web()

    assert not server_of(app, port=1, host="127.0.0.1").proxy_headers
    trusting = server_of(app, port=1, host="127.0.0.1", trust_proxy="10.0.0.1")
    assert (trusting.proxy_headers, trusting.forwarded_allow_ips) == (True, "10.0.0.1")


@pytest.mark.parametrize(
    "path", ["/livez", "/", "/login", "/nothing", "/api/v1/batches", "/static/lightfast.css", "/hooks/x/y"]
)
def test_every_answer_says_what_a_browser_may_do_with_it(web, path):
    headers = web.get(path, follow_redirects=False).headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_pages_are_kept_by_no_cache_and_assets_for_good(web, ops):
    log_in(web, ops.text)
    page = web.get("/")

    assert page.headers["cache-control"] == "no-store"
    for asset in re.findall(r'"(/static/[^"]+)"', page.text):
        answer = web.get(asset)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "lightfast.css/..", "app.py", "."])
def test_no_other_file_is_served_beside_the_assets(web, name):
    assert web.get(f"/static/{name}").status_code == 404


# -- without a token -----------------------------------------------------------------------------------------------


@pytest.fixture
def link():
    return OneTimeLink()


@pytest.fixture
def first(make_web, link):
    with browser(make_web(link=link)) as it:
        yield it


def code_of(link):
    return link.code.get_secret_value()


def use(at, link, status=303, **fields):
    return send(at, "/open", status, page=link.path(), **{"code": code_of(link), **fields})


def test_the_one_time_link_opens_the_pages_once_by_its_button(first, link, ledger):
    for _ in range(3):  # looks use nothing up
        assert first.get(link.path()).status_code == 200
    assert not is_in(first)
    use(first, link)

    assert is_in(first)
    send(first, "/stop", 200)
    stopped = ledger.emergency_stop.current()
    assert "@" in stopped.by
    assert [entry.who for entry in ledger.access.log(5)] == [stopped.by, stopped.by]
    looked = first.get(link.path(), follow_redirects=False)
    assert (looked.status_code, looked.headers["location"]) == (303, "/")
    first.cookies.clear()
    looked = first.get(link.path())
    assert (looked.status_code, "This link was used before" in looked.text) == (401, True)
    send(first, "/open", 401, page="/login", code=code_of(link))
    assert not is_in(first)


def test_the_first_token_ends_what_the_one_time_link_opened(first, link, ledger):
    use(first, link)
    assert is_in(first)
    make(ledger, "ops", Role.OPERATOR)

    assert not is_in(first)
    assert first.get(link.path()).status_code == 404
    ledger.access.revoke("ops", 2.0)
    assert not is_in(first), "a revoked token is on record, too"


def test_a_wrong_code_opens_nothing_and_uses_nothing_up(first, link):
    use(first, link, 401, code="x" * 43)
    use(first, link, 401, code="")

    use(first, link)
    assert is_in(first)


@pytest.mark.parametrize(
    "said",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
    ],
)
def test_the_one_time_link_is_not_for_who_comes_by_a_proxy(first, link, said):
    assert first.get(link.path(), headers=said).status_code == 404
    use(first, link)
    assert first.get("/", headers=said, follow_redirects=False).status_code == 303


def test_the_one_time_link_is_not_for_another_machine(make_web, link):
    app = make_web(link=link, addresses=Addresses(any_number=True))
    with contextlib.closing(browser(app, client=("10.0.0.9", 50_000))) as stranger:
        assert stranger.get(link.path()).status_code == 404
    with contextlib.closing(browser(app)) as at:
        assert at.get(link.path(), headers={"Host": "10.0.0.7"}).status_code == 404


def test_another_server_of_the_same_ledger_does_not_take_what_the_link_opened(first, link, make_web):
    use(first, link)

    for its_link in (None, OneTimeLink()):
        with browser(make_web(link=its_link), cookies=dict(first.cookies)) as other:
            assert not is_in(other)


def test_many_who_press_the_button_at_once_open_it_once(link):
    async def race():
        return await asyncio.gather(*(asyncio.to_thread(link.use, code_of(link)) for _ in range(20)))

    assert asyncio.run(race()).count(True) == 1


def test_without_a_token_and_without_the_link_nothing_opens(web):
    assert not is_in(web)
    assert "token create" in web.get("/login").text
    assert web.get("/open", params={"code": "x"}).status_code == 404
