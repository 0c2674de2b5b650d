"""New batches by the API: what is planned, accepted, refused, held of a day, and never made twice."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.policy.access import Role
from jobs.settings.model import Settings
from tests.support.access import make
from tests.support.visits import api_client
from web import uploads
from web.api.problems import MOST_FAULTS
from worker.registration import acceptance

CSV = b"key,prompt\na,a lamp\nb,a chair\n"


@pytest.fixture
def web(ledger_url, woken, tmp_path):
    account = {"provider": "maxapi.io", "api_key": "k"}
    settings = Settings(database_url=ledger_url, accounts={"main": account}, storage={"files": str(tmp_path / "files")})
    with api_client(ledger_url, woken.append, settings) as client:
        yield client


@pytest.fixture
def producer(ledger, tmp_path):
    return make(ledger, "shop", Role.PRODUCER, to=str(tmp_path / "shop"))


def ask(web, asker, content=CSV, *, code=201, what="batches", name="products.csv", headers=None, **fields):
    answer = web.post(
        f"/api/v1/{what}",
        headers={**asker.header, **(headers or {})},
        files={"manifest": (name, content)},
        data={"model": "gpt-image-2", **fields},
    )
    assert answer.status_code == code, answer.text
    return answer.json()


def test_a_plan_names_the_price_and_records_nothing(web, ledger, operator, tmp_path):
    told = ask(web, operator, what="plan", code=200, to=str(tmp_path / "out"))

    assert (told["batch"], told["images"], told["refused"]) == ("products", 2, None)
    assert told["usd"] > 0
    assert ledger.batches.all() == []
    assert not (tmp_path / "out").exists()


def test_a_batch_is_recorded_workers_are_woken_and_it_stands_in_the_log(web, ledger, operator, woken, tmp_path):
    told = ask(web, operator, to=str(tmp_path / "out"), batch="spring")

    assert (told["batch"], told["rows"], told["accepted"]["images"]) == ("spring", {"ready": 2}, 2)
    assert [entry.action for entry in ledger.access.log(5)] == ["batch create"]
    again = ask(web, operator, to=str(tmp_path / "out"), batch="spring")
    assert again["rows"] == {"ready": 2}  # the same manifest adds nothing


def test_json_names_a_manifest_by_its_address_and_no_file_of_the_server(web, operator, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_bytes(CSV)
    for manifest in (str(secret), f"file://{secret}", "-", ""):
        answer = web.post("/api/v1/batches", headers=operator.header, json={"manifest": manifest})
        assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/a.csv", "http://169.254.169.254/latest", "http://[::1]/a"])
def test_a_manifest_by_address_reaches_no_private_host(web, operator, address):
    answer = web.post("/api/v1/plan", headers=operator.header, json={"manifest": address})

    assert answer.status_code == 422
    assert "public" in answer.text or "private" in answer.text.lower()


def test_bad_rows_are_told_with_their_lines_and_nothing_is_recorded(web, ledger, operator, tmp_path):
    content = b"key,prompt,ratio\na,a lamp,1:1\nb,a chair,7:5\n"

    detail = ask(web, operator, content, code=422, to=str(tmp_path / "out"))["detail"]

    assert detail["code"] == "bad_rows"
    assert [(each["line"], each["column"]) for each in detail["bad"]] == [(3, "ratio")]
    assert ledger.batches.all() == []


@pytest.mark.parametrize(
    "fields",
    [{"no_such_option": "1"}, {"budget_usd": "much"}, {"n": "x"}, {"notify": "all"}, {"new_ledger": "true"}],
    ids=str,
)
def test_options_that_are_not_known_or_not_readable_are_refused(web, operator, tmp_path, fields):
    detail = ask(web, operator, code=422, to=str(tmp_path / "out"), **fields)["detail"]

    assert detail["code"] == "bad_request"


BAD_RATIO = b"key,prompt,ratio\na,a lamp --skip-bad,1:1\nb,a chair,7:5\n"


@pytest.mark.parametrize(
    ("content", "fields", "word"),
    [
        (BAD_RATIO, {}, "`skip_bad`"),
        (b"Handle,text\na,a lamp\n", {}, "`prompt`"),
        (CSV, {"provider": "nobody"}, "`provider`"),
        (CSV, {"map": "prompt=Nothing"}, "`map`"),
        (CSV, {"budget": "1"}, "budget_usd"),
    ],
)
def test_a_refusal_speaks_of_the_request_s_fields_and_of_no_option_of_a_terminal(
    web, operator, tmp_path, content, fields, word
):
    told = ask(web, operator, content, code=422, to=str(tmp_path / "out"), **fields)["detail"]["problems"]

    assert word in " ".join(told)
    assert "--" not in " ".join(told)


def test_a_plan_speaks_of_fields_and_leaves_prompts_as_they_are(web, operator, tmp_path):
    told = ask(web, operator, BAD_RATIO, what="plan", code=200, to=str(tmp_path / "out"))

    assert [each["prompt"] for each in told["samples"]] == ["a lamp --skip-bad"]
    assert "--" not in " ".join([*told["reasons"], *told["hints"], *told["refused"]["problems"]])


def test_more_than_was_agreed_to_is_not_recorded(web, ledger, operator, tmp_path):
    detail = ask(web, operator, code=402, to=str(tmp_path / "out"), at_most_usd="0.000001")["detail"]

    assert detail["code"] == "budget_exceeded"
    assert ledger.batches.all() == []


def test_a_producer_writes_below_its_prefix_alone(web, ledger, producer, tmp_path):
    for to in (str(tmp_path / "elsewhere"), str(tmp_path / "shop-2"), f"{tmp_path}/shop/../x", "s3://other/bucket"):
        assert ask(web, producer, code=403, to=to)["detail"]["code"] == "not_allowed"

    told = ask(web, producer)
    assert told["dest"] == str(tmp_path / "shop")
    assert ask(web, producer, batch="below", to=str(tmp_path / "shop" / "spring"))["dest"].endswith("shop/spring")
    assert ledger.batches.find("products").token_id == producer.token.id


def test_a_producer_names_no_file_of_the_server_and_objects_below_its_prefixes_alone(web, producer, tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    for reference in (str(tmp_path / "x.png"), "file:///etc/passwd", "s3://secret/x.png", "s3://open/../secret/x.png"):
        content = f"key,prompt,image_urls\na,a lamp,{reference}\n".encode()
        detail = ask(web, producer, content, code=422)["detail"]
        assert detail["code"] == "bad_rows", reference


def test_a_producer_sees_nothing_of_batches_that_are_not_its_own(web, ledger, operator, producer, tmp_path):
    ask(web, operator, to=str(tmp_path / "out"), batch="theirs")

    told = ask(web, producer, what="plan", code=200, batch="mine")
    assert (told["again"]["rows"], told["again"]["elsewhere"]) == (0, [])
    assert ask(web, producer, batch="theirs", code=409)["detail"]["code"] == "batch_name_taken"
    assert ask(web, producer, batch="mine", reuse="link")["accepted"]["images"] == 2


def test_of_many_producers_batches_at_once_no_more_are_accepted_than_the_day_leaves(web, ledger, tmp_path):
    one = make(ledger, "probe", Role.PRODUCER, to=str(tmp_path / "probe"))
    price = round(ask(web, one, what="plan", code=200)["usd"] * 1_000_000)
    shop = make(ledger, "shop", Role.PRODUCER, budget=price * 3, to=str(tmp_path / "shop"))

    def accepted(number):
        answer = web.post(
            "/api/v1/batches",
            headers=shop.header,
            files={"manifest": ("products.csv", CSV.replace(b"lamp", f"lamp {number}".encode()))},
            data={"model": "gpt-image-2", "batch": f"b{number}"},
        )
        return answer.status_code

    with ThreadPoolExecutor(50) as threads:
        codes = list(threads.map(accepted, range(50)))

    assert sorted(codes) == [201] * 3 + [402] * 47
    assert len(ledger.batches.all()) == 3


def test_viewers_make_nothing(web, ledger, tmp_path):
    viewer = make(ledger, "eyes", Role.VIEWER)

    ask(web, viewer, code=403, to=str(tmp_path / "out"))


def test_a_post_with_the_same_key_is_answered_as_before_and_does_nothing(web, ledger, operator, tmp_path):
    key = {"Idempotency-Key": "one"}
    first = ask(web, operator, to=str(tmp_path / "out"), headers=key)

    assert ask(web, operator, to=str(tmp_path / "out"), headers=key) == first
    assert len(ledger.access.log(9)) == 1
    answer = web.post("/api/v1/batches/products/pause", headers={**operator.header, **key})
    assert answer.status_code == 409


def test_an_upload_that_is_too_large_is_refused(web, operator, monkeypatch):
    monkeypatch.setattr(uploads, "MOST", 10)

    assert "bytes at most" in ask(web, operator, code=413)["detail"]


def test_an_upload_that_is_chunked_too_is_refused_whatever_length_it_says(web, operator):
    said = {**operator.header, "Content-Length": "10", "Transfer-Encoding": "chunked"}
    answer = web.post("/api/v1/plan", headers=said, files={"manifest": ("products.csv", CSV)})

    assert answer.status_code == 411


def test_a_manifest_of_more_rows_than_a_door_takes_is_refused(web, ledger, operator, tmp_path, monkeypatch):
    monkeypatch.setattr(acceptance, "MOST_ROWS", 1)

    detail = ask(web, operator, code=422, to=str(tmp_path / "out"))["detail"]

    assert "1 rows at most" in detail["message"]
    assert ledger.batches.all() == []


def test_of_a_request_with_many_faults_the_first_are_told(web, operator):
    answer = web.post("/api/v1/plan", headers=operator.header, json={f"a{number}": 1 for number in range(50_000)})

    assert answer.status_code == 422
    assert len(answer.json()["detail"]["problems"]) == MOST_FAULTS
    wrong = {"input_file_id": [{}] * 50_000}
    assert len(web.post("/v1/batches", headers=operator.header, json=wrong).content) < 10_000


@pytest.mark.parametrize("path", ["/api/v1/plan", "/api/v1/batches/x/retry", "/v1/batches"])
def test_json_that_is_too_large_is_not_read(web, operator, path):
    answer = web.post(path, headers=operator.header, json={"keys": ["x" * 5_000_000]})

    assert answer.status_code == 413


def test_what_a_killed_server_has_left_of_uploads_is_removed_by_the_next(ledger_url, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, mine = tmp_path / f"{uploads.PREFIX}left", tmp_path / f"{uploads.PREFIX}mine"
    for path in (left, mine):
        path.write_bytes(b"key,prompt\n")
        os.utime(path, (1.0, 1.0))

    with mine.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with api_client(ledger_url):
            assert [path.exists() for path in (left, mine)] == [False, True]


@pytest.mark.parametrize("name", ["products.csv.gz", "products.csv"])
def test_a_gzip_bomb_is_refused_before_it_is_unpacked(web, ledger, operator, tmp_path, name):
    bomb = gzip.compress(b"key,prompt\n" + b"\n" * 100_000_000, 9)

    detail = ask(web, operator, bomb, code=422, name=name, to=str(tmp_path / "out"))["detail"]

    assert "unpack" in detail["message"]
    assert ledger.batches.all() == []


def test_stored_markup_and_headers_in_a_file_s_name_are_plain_text(web, operator, tmp_path):
    told = ask(web, operator, name='../../x"\r\nSet-Cookie: a=b\r\n<script>.csv', to=str(tmp_path / "out"), batch="x")

    assert "/" not in told["source"]
    assert "\n" not in told["source"]
    assert json.dumps(told)


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"manifest": "https://x/\\ud800.csv"}', b'{"manifest": NaN}', b"\xff"],
    ids=["deep", "half a pair", "no number", "no text"],
)
def test_json_that_nobody_writes_is_refused_in_words(web, operator, body):
    for path in ("batches", "plan", "batches/x/retry"):
        headers = {**operator.header, "Content-Type": "application/json"}
        answer = web.post(f"/api/v1/{path}", headers=headers, content=body)
        assert 400 <= answer.status_code < 500, (path, answer.text[:200])


HALF, HUGE = "\ud800", 10**400
#: Each with the field that the refusal names.
RUBBISH = [
    *({name: text} for name in ("to", "prompt", "path", "skip_empty", "encoding", "batch") for text in ("\0", HALF)),
    *({name: [f"a={text}"]} for name in ("map", "vary") for text in ("\0", HALF)),
    *({name: number} for name in ("limit", "header_row", "sample", "repeat") for number in (-1, 0, HUGE)),
    {"sample": 1, "seed": HUGE},
    {"to": f"s3://x/{HALF}"},
    *(
        {"manifest": address}
        for address in ("http://[", "s3://[/a.csv", f"s3://x/{HALF}", "https://x/\0", "https://℀/x")
    ),
    *({name: amount} for name in ("budget_usd", "at_most_usd") for amount in (HALF, "\0", "9" * 1_020_000)),
]


@pytest.mark.parametrize("said", RUBBISH, ids=lambda said: ascii(said)[:60])
@pytest.mark.parametrize("what", ["plan", "batches"])
def test_rubbish_in_json_is_refused_with_the_name_of_its_field(web, ledger, operator, what, said):
    body = json.dumps({"manifest": "https://127.0.0.1:1/a.csv", **said})
    answer = web.post(f"/api/v1/{what}", headers={**operator.header, "Content-Type": "application/json"}, content=body)

    assert answer.status_code == 422, answer.text
    detail = answer.json()["detail"]
    assert detail["code"] == "bad_request"
    assert list(said)[-1] in detail["problems"][0]
    assert ledger.batches.all() == []


@pytest.mark.parametrize(
    "said",
    [{"to": to} for to in ("\0", "http://[", "s3://[/x", "file:///a%00b", "~nobody-of-this-name/x")]
    + [{"prompt": "{prompt}\0"}, {"limit": "-1"}, {"header_row": str(HUGE)}]
    + [{"encoding": encoding} for encoding in ("\0", "utf-8\0", "utf-7", "unicode_escape", "punycode", "undefined")],
    ids=lambda said: ascii(said)[:60],
)
def test_rubbish_beside_a_file_is_refused(web, ledger, operator, tmp_path, said):
    for what in ("plan", "batches"):
        detail = ask(web, operator, what=what, code=422, **{"to": str(tmp_path / "out"), **said})["detail"]
        assert next(iter(said)) in str(detail)

    assert ledger.batches.all() == []


@pytest.mark.parametrize("text", [b"a lamp", b"+2AA-", b"\\ud800"], ids=str)
@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "utf-7", "unicode_escape", "rot13", "klingon"])
@pytest.mark.parametrize("path", ["/api/v1/plan", "/v1/files"])
def test_a_form_in_a_charset_that_none_is_in_is_read_or_refused(web, operator, path, charset, text):
    file = "file" if path == "/v1/files" else "manifest"
    body = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % each
        for each in ((b"purpose", b"", text), (text, b"", text), (file.encode(), b'; filename="a.csv"', CSV))
    )
    kind = f"multipart/form-data; boundary=XX; charset={charset}"

    answer = web.post(path, headers={**operator.header, "Content-Type": kind}, content=body + b"--XX--\r\n")

    assert answer.status_code in (400, 422), answer.text
