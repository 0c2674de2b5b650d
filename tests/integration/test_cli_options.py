"""Option values, and where a manifest may come from."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shlex
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.main import app
from jobs import formatting
from jobs.errors import BadInput
from jobs.results.completion import Allowed
from providers.types import MICROS
from worker.registration.manifest_sources import local_source, shown_name
from worker.registration.options import read_allowed, read_duration, read_money, read_priority
from worker.registration.preflight import _mapping, normal_dest


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21_600), ("1h30m", 5400), ("2d", 172_800), ("45", 45)]
)
def test_times_are_read(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["soon", "m", "1x", "-5m", "1h 30", "5m ago"])
def test_other_times_are_refused(text):
    with pytest.raises(ValueError, match="such as"):
        read_duration(text)


@pytest.mark.parametrize(
    ("text", "micros"),
    [("25", 25_000_000), ("$12.50", 12_500_000), ("1,000.00", 1_000_000_000), ("1,234.50", 1_234_500_000)],
)
def test_money_is_read_exactly(text, micros):
    assert read_money(text) == micros


@pytest.mark.parametrize("text", ["2_500", "1e3", "Infinity", "NaN", "٢٥", "-5", "+5", "", "$", ".", "1 000"])
def test_other_writings_of_numbers_are_no_amounts(text):
    with pytest.raises(ValueError, match="an amount in USD such as"):
        read_money(text)


@pytest.mark.parametrize("text", ["0,10", "0,5", "0,500", "1,50", "1.000,50", "12,5", "1,0000", ",50"])
def test_a_decimal_comma_is_no_amount_a_hundred_times_as_large(text):
    with pytest.raises(ValueError, match="with a point before the cents"):
        read_money(text)


@given(st.integers(1, 999), st.integers(0, 999))
def test_a_comma_before_three_digits_alone_is_refused_with_both_amounts_that_it_can_mean(before, after):
    with pytest.raises(ValueError, match="a comma can stand between thousands, and before the cents") as refused:
        read_money(f"{before},{after:03}")

    thousands, cents = str(refused.value).partition(":")[0].split(" or ")
    assert read_money(thousands) == (before * 1_000 + after) * MICROS
    assert read_money(cents) == (before * 1_000 + after) * MICROS // 1_000


@given(st.integers(1, 10**15 - 1), st.integers(10**6, 10**9 - 1))
def test_an_amount_that_can_be_read_in_one_way_only_is_read(micros, whole):
    assert read_money(formatting.money(micros)) == read_money(formatting.dollars(micros)) == micros
    assert read_money(f"{whole:,}") == whole * MICROS


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "much", "1e99", "9" * 1_100_000], ids=lambda text: text[:9])
def test_other_money_is_refused(text):
    with pytest.raises(ValueError, match="USD"):
        read_money(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "high", "1000"])
def test_a_priority_that_is_no_share_is_refused(text):
    with pytest.raises(ValueError, match="such as 2"):
        read_priority(text)
    assert read_priority("2") == 2.0


def test_failed_rows_are_allowed_by_share_or_by_number():
    assert read_allowed("2%").covers(2, 100)
    assert not read_allowed("2%").covers(3, 100)
    assert read_allowed("3").covers(3, 10)
    assert not Allowed().covers(1, 1_000_000)


def test_a_folder_is_one_destination_however_it_is_written(tmp_path):
    assert (
        normal_dest("out") == normal_dest(f"file://{tmp_path}/out/") == normal_dest("./out/") == str(tmp_path / "out")
    )
    assert normal_dest("s3://bucket/prefix/") == "s3://bucket/prefix"


@pytest.mark.parametrize("dest", ["s3://", "s3:///", "gs://", "file://host/x", "file://x", "file://[x/y"])
def test_a_destination_without_its_place_is_no_folder_of_that_name(dest):
    with pytest.raises(BadInput, match=r"no bucket is named|three slashes"):
        normal_dest(dest)


@pytest.mark.parametrize("dest", ["http://[", "s3://[/x", "gs://[x]/y"])
def test_a_destination_whose_host_cannot_be_read_is_told(dest):
    with pytest.raises(BadInput, match=r"--to.* is no address that can be read"):
        normal_dest(dest)


@pytest.mark.parametrize(
    ("dest", "says"), [("file:///a%00b", "a NUL character"), ("~nobody-of-this-name", "no such user")]
)
def test_a_folder_that_cannot_be_named_is_told(dest, says):
    with pytest.raises(BadInput, match=f"--to.*{says}"):
        normal_dest(dest)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["m.csv", "--to", "http://["], "--to"),
        (["http://["], "manifest"),
        (["s3://[/m.csv"], "manifest"),
        (["caf\udce9.csv", "--to", "out"], "manifest"),
        (["m.csv", "--to", "out", "--limit", str(10**400)], "--limit"),
        (["m.csv", "--to", "out", "--header-row", str(10**400)], "--header-row"),
        (["m.csv", "--to", "caf\udce9"], "--to"),
        (["m.csv", "--to", "out", "--prompt", "caf\udce9"], "--prompt"),
    ],
    ids=lambda said: said if isinstance(said, str) else None,
)
@pytest.mark.parametrize("verb", [["plan"], ["run"], ["schedule", "add", "--budget", "5", "nightly", "0 3 * * *"]])
def test_rubbish_in_options_is_wrong_input(tmp_path, verb, words, says):
    (tmp_path / "m.csv").write_text("prompt\na lamp\n")
    done = CliRunner().invoke(app, [*verb, *words])

    assert isinstance(done.exception, BadInput), done.exception
    assert str(done.exception).startswith(says)


def test_a_manifest_in_a_bucket_is_brought_here_and_leaves_no_copy(s3):
    s3.client.put_object(Bucket=s3.name, Key="in/products.csv", Body=b"prompt\nA lamp\n")

    with local_source(f"{s3.url}/in/products.csv") as source:
        content = source.path.read_bytes()

    assert content == b"prompt\nA lamp\n"
    assert not source.path.exists()
    with pytest.raises(BadInput, match=r"none\.csv"), local_source(f"{s3.url}/in/none.csv"):
        pass


def test_a_manifest_behind_a_link_is_brought_here_and_its_signature_is_not_shown(tmp_path):
    Path("products.csv").write_text("prompt\nA lamp\n")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"

        with local_source(f"{base}/products.csv?signature=secret", allow_private_hosts=True) as source:
            content, name = source.path.read_text(), source.name
        with pytest.raises(BadInput, match="404"), local_source(f"{base}/none.csv", allow_private_hosts=True):
            pass

        server.shutdown()
    assert (content, name) == ("prompt\nA lamp\n", "http://127.0.0.1/products.csv")


class _Endless(http.server.BaseHTTPRequestHandler):
    """Sends a row now and then, until nobody reads any more."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.given_up.wait(0.05):  # real time: how often a row comes
                self.wfile.write(b"key,prompt\n")
        self.server.given_up.set()

    def log_message(self, *_):
        pass


def test_whoever_stops_while_a_manifest_comes_in_does_not_wait_for_its_end():
    class StoppedError(Exception):
        pass

    told = []

    def stop(rows):
        told.append(rows)
        if len(told) == 2:
            raise StoppedError

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Endless) as server:
        server.given_up = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        manifest = f"http://127.0.0.1:{server.server_port}/m.csv"

        with pytest.raises(StoppedError), local_source(manifest, allow_private_hosts=True, tell=stop):
            pass

        server.given_up.set()
        server.shutdown()
    assert told == [0, 0]


def test_other_addresses_are_no_manifest():
    with pytest.raises(BadInput, match="ftp://host"), local_source("ftp://host/m.csv"):
        pass
    assert shown_name("https://user:secret@host/m.csv?x=1") == "https://host/m.csv"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("mistyped", ["--yess", "--yet", "--buy-agan", "--overwrit"])
def test_a_mistyped_option_is_never_answered_with_one_that_agrees(mistyped):
    for words in (["run", "m.csv"], ["results", "m"]):
        done = CliRunner().invoke(app, [*words, mistyped])

        assert done.exit_code == 2
        assert "No such option" in done.stderr
        offered = done.stderr.partition("No such option")[2].split(None, 2)[2:]
        assert not any(consent in told for consent in ("--yes", "--buy-again", "--overwrite") for told in offered)


@pytest.mark.parametrize("verb", [["plan"], ["run"], ["submit"], ["schedule", "add", "nightly", "0 3 * * *"]])
@pytest.mark.parametrize(
    ("said", "option", "mapped"),
    [
        (["--key", "Handle"], "--key", ["--map", "key=Handle"]),
        (["--key=Variant SKU"], "--key", ["--map", "key=Variant SKU"]),
        (["--key-column", "Handle"], "--key-column", ["--map", "key=Handle"]),
    ],
)
def test_who_names_the_key_column_by_an_option_of_its_own_gets_the_command_with_the_right_one(
    monkeypatch, verb, said, option, mapped
):
    words = [*verb, *said, "m.csv", "--prompt", "A {Title}"]
    monkeypatch.setattr(sys, "argv", ["lightfast", *words])

    done = CliRunner().invoke(app, words)

    told, pasted = str(done.exception).splitlines()
    assert isinstance(done.exception, BadInput)
    assert told.startswith(f"{option} is no option here: the column that rows are known by is named with --map ")
    assert shlex.split(pasted) == ["lightfast", *verb, "m.csv", "--prompt", "A {Title}", *mapped]


@pytest.mark.parametrize("said", [["--key"], ["--key", "--yes"]])
def test_a_key_option_without_a_column_is_answered_without_a_command(monkeypatch, said):
    monkeypatch.setattr(sys, "argv", ["lightfast", "run", "m.csv", *said])

    done = CliRunner().invoke(app, ["run", "m.csv", *said])

    assert str(done.exception).endswith("is named with --map key=COLUMN.")


def test_a_known_column_is_taken_from_one_column_and_a_later_empty_one_takes_it_back():
    with pytest.raises(BadInput, match="--map key=Title: key is taken from sku already"):
        _mapping(["key=sku", "key=Title"])
    assert _mapping(["key=sku", "key="]) == {"key": ""}
