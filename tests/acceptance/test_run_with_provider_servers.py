"""The whole command against servers made from the providers' pages alone, by keys, base URLs and AWS variables."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support import command, provider_servers
from tests.support.patience import AT_LAST, until

PROVIDERS = tuple(provider_servers.KEYS)
COLUMNS = ("key", "Title", "prompt", "model", "provider", "ratio", "resolution", "size", "n", "image_urls")


class Shell:
    """A stranger's terminal: an empty folder, no TTY, and nothing in the environment that is not said here."""

    def __init__(self, environment: dict[str, str]) -> None:
        plain = command.bare_environment()
        self.environment = plain | environment

    def start(self, *arguments: str, cwd: Path | None = None) -> command.Started:
        return command.Started(("lightfast", *arguments), self.environment, cwd=cwd)

    def __call__(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return command.lightfast(*arguments, environment=self.environment, cwd=cwd)

    def end(self, process: command.Started) -> subprocess.CompletedProcess[str]:
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode or 0, out, err)


#: Cadence and limits for tests of something else.
QUICK = {
    f"LIGHTFAST_ACCOUNTS__{account}__{name}": value
    for account in provider_servers.VARIABLES.values()
    for name, value in {
        "FIRST_POLL_AFTER": "0.3",
        "POLL_EVERY": "0.3",
        "SUBMITS_PER_SECOND": "20",
        "MAX_IN_FLIGHT": "20",
    }.items()
}
ELSEWHERE = {"LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1"}  # the pictures are on another port of this machine


@pytest.fixture
def quick(providers) -> Shell:
    return Shell(providers.environment() | QUICK | ELSEWHERE)


def write(name: str, rows: list[dict[str, Any]]) -> None:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def plain_rows(count: int) -> list[dict[str, Any]]:
    return [{"key": f"k{n}", "prompt": f"p {n}", "provider": PROVIDERS[n % 3]} for n in range(count)]


def wait_for(providers: provider_servers.Providers, posts: int, process: command.Started) -> None:
    def lives() -> None:
        assert process.poll() is None, process.communicate()

    until(lambda: len(providers.posts) >= posts, meanwhile=lives)


# -- everything a provider makes ---------------------------------------------------------------------------------------


def every_kind(cdn: str) -> list[dict[str, Any]]:
    """Rows of all providers and models."""
    one, two = f"{cdn}/ref.png", f"{cdn}/ref2.png"
    rows: list[dict[str, Any]] = [
        {"provider": "maxapi.io", "n": 3},
        {"provider": "maxapi.io", "ratio": "16:9", "resolution": "4k"},
        {"provider": "maxapi.io", "image_urls": json.dumps([one])},
        {"provider": "maxapi.io", "model": "grok-imagine-lite", "n": 6},
        {"model": "grok-imagine-standard", "ratio": "1:1"},
        {"model": "grok-imagine-pro", "n": 2},
        *({"provider": "maxapi.dev", "n": n} for n in (1, 2, 1)),
        {"provider": "maxapi.dev", "size": "1152x2048"},
        {"provider": "maxapi.dev", "image_urls": f"{one}|{two}"},
        {"provider": "apimaster", "n": 3},
        {"provider": "apimaster", "ratio": "3:1"},
        {"provider": "apimaster", "image_urls": one},
        {},
    ]
    names = ('Ünï, "quoted"', "two\nlines", " 图 ", "=1+1")
    told = [{"key": f"sku {n}", "Title": names[n % 4], "prompt": f"kind {n} 图"} for n in range(len(rows))]
    return [row | own for row, own in zip(rows, told, strict=True)]


def hashes(pictures: list[bytes]) -> Counter[str]:
    return Counter(hashlib.sha256(picture).hexdigest() for picture in pictures)


def test_a_batch_of_everything_is_paid_once_stored_whole_and_goes_on_as_the_manifest_grows(providers, s3, tmp_path):
    lightfast = Shell(providers.environment() | s3.server.environment | ELSEWHERE)
    rows = every_kind(providers.ports["cdn"])
    write("all.csv", rows)
    run = ("run", "all.csv", "--to", f"{s3.url}/spring", "--yes")

    done = lightfast(*run, "--json")

    assert (done.returncode, providers.complaints) == (0, []), done.stdout + done.stderr
    assert json.loads(done.stdout)["rows"] == {"done": len(rows)}
    assert_each_was_paid_and_stored(providers, s3, rows)
    assert_results_are_the_manifest_and_more(lightfast, s3, rows)
    assert json.loads(s3.read("spring/.lightfast/all.json"))

    paid = len(providers.orders)
    assert lightfast(*run).returncode == 0
    assert_another_folder_stops_at_the_mark(lightfast, run, tmp_path)
    assert len(providers.orders) == paid

    lightfast.environment |= QUICK
    write("all.csv", [*rows, *({"key": f"new {n}", "prompt": f"new {n}"} for n in range(10))])
    assert lightfast(*run).returncode == 0
    assert [order.prompt[:3] for order in providers.orders[paid:]] == ["new"] * 10

    write("all.csv", [*rows[:3], rows[3] | {"prompt": "another"}, *rows[4:]])
    changed = lightfast(*run)
    assert (changed.returncode, changed.stdout, len(providers.orders)) == (2, "", paid + 10)
    assert "line 6, key sku 3\n" in changed.stderr  # where it begins: a title before it takes two lines
    assert "--changed redo makes 6 images anew for $0.0060" in changed.stderr


def assert_each_was_paid_and_stored(providers, s3, rows):
    for row in rows:
        orders = [order for order in providers.orders if order.prompt == row["prompt"]]
        keys = s3.keys(f"spring/all/{row['key']}/")
        wanted = row.get("n", 1)
        assert sum(order.n for order in orders) == wanted
        assert {Path(key).stem for key in keys} == {str(index) for index in range(wanted)}
        assert hashes([s3.read(key) for key in keys]) == hashes(providers.images_of(row["prompt"]))
        for key in keys:
            told = s3.client.head_object(Bucket=s3.name, Key=key)
            kind = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}[key.rpartition(".")[2]]
            assert (told["ContentType"], told["Metadata"]["lightfast-index"]) == (kind, Path(key).stem)
    fan = [order.n for order in providers.orders if order.prompt == "kind 11 图"]
    assert fan == [1, 1, 1]


def assert_results_are_the_manifest_and_more(lightfast, s3, rows):
    told = lightfast("results", "all")
    lines = list(csv.DictReader(io.StringIO(told.stdout, newline="")))
    assert told.returncode == 0
    assert [{name: line[name] for name in COLUMNS} for line in lines] == [
        {name: str(row.get(name, "")) for name in COLUMNS} for row in rows
    ]
    for line in lines:
        urls, shas = json.loads(line["lf_urls"]), json.loads(line["lf_sha256"])
        stored = [s3.read(url.removeprefix(f"{s3.url}/")) for url in urls]
        assert [hashlib.sha256(picture).hexdigest() for picture in stored] == shas
        assert (line["lf_status"], line["lf_key"], line["lf_images"]) == ("done", line["key"], str(len(urls)))
    jsonl = lightfast("results", "all", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["key"] for line in jsonl] == [row["key"] for row in rows]


def assert_another_folder_stops_at_the_mark(lightfast, run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "all.csv").write_bytes(Path("all.csv").read_bytes())
    stopped = lightfast(*run, cwd=other)
    assert (stopped.returncode, stopped.stdout) == (2, "")
    assert "spring/.lightfast/all.json" in stopped.stderr
    assert [path.name for path in other.iterdir()] == ["all.csv"]


def test_pictures_at_the_address_the_user_named_need_no_leave(providers, monkeypatch):
    monkeypatch.setitem(providers.ports, "cdn", providers.ports["maxapi.io"])
    write("m.csv", [{"key": "k", "prompt": "one", "provider": "maxapi.io"}])

    done = Shell(providers.environment() | QUICK)("run", "m.csv", "--to", "out", "--yes")

    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in Path("out/m").rglob("*.png")] == providers.images_of("one")


def test_pictures_elsewhere_on_this_machine_wait_for_the_users_leave_and_say_so(providers):
    write("m.csv", [{"key": "k", "prompt": "one", "provider": "maxapi.io"}])
    run = ("run", "m.csv", "--to", "out", "--yes")

    refused = Shell(providers.environment() | QUICK)(*run, "--stop-after", "2s")
    allowed = Shell(providers.environment() | QUICK | ELSEWHERE)(*run)

    assert (refused.returncode, allowed.returncode) == (4, 0)
    assert "127.0.0.1 is a loopback address" in refused.stderr
    assert "LIGHTFAST_ALLOW_PRIVATE_HOSTS=1" in refused.stderr
    assert [path.read_bytes() for path in Path("out/m").rglob("*.png")] == providers.images_of("one")
    assert providers.paid() == {"one": 1}


# -- killed and stopped ------------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_at_once_and_holds_only_what_was_in_the_air(providers, quick):
    providers.manners.forms = False
    order, let_go = itertools.count(), threading.Event()
    # Accepted and paid; the first ten are answered at once, the others not yet.
    providers.manners.answer = lambda _order: None if next(order) < 10 else held_until(let_go)
    write("m.csv", plain_rows(60))
    killed = quick.start("run", "m.csv", "--to", "out", "--yes")
    wait_for(providers, 30, killed)
    until(lambda: answered_on_record() >= 10)  # a slow machine records them after the others have left
    killed.kill()
    quick.end(killed)
    let_go.set()
    providers.settle()
    sent = set(providers.paid())

    again = quick("run", "m.csv", "--to", "out", "--yes", "--json")

    assert again.returncode == 3, again.stderr
    assert max(providers.paid().values()) == 1
    held = {one["key"] for one in json.loads(quick("unknown", "m", "--json").stdout)["unknown"]}
    rows = json.loads(again.stdout)["rows"]
    assert rows == {"done": 60 - len(held), "held": len(held)}
    prompts = {f"p {key[1:]}" for key in held}
    # What was claimed and had not left is no mystery; but the kill may come between the note that one leaves and its
    # first byte.
    assert len(prompts - sent) <= 1
    assert len(held) < len(sent)  # nor is what was answered
    assert set(providers.paid()) == {f"p {n}" for n in range(60)} - (prompts - sent)
    assert prompts.isdisjoint(prompts_stored())


def answered_on_record() -> int:
    with contextlib.closing(sqlite3.connect("lightfast.db", timeout=AT_LAST)) as ledger:
        return int(ledger.execute("SELECT count(*) FROM attempts WHERE state <> 'submitting'").fetchone()[0])


def held_until(let_go: threading.Event) -> None:
    """An answer that does not come before the test says so."""
    assert let_go.wait(AT_LAST)


def prompts_stored() -> set[str]:
    return {f"p {path.parent.name[1:]}" for path in Path("out/m").rglob("*.png")}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_the_answers_and_leaves_nothing_unknown(providers, quick, number, code):
    let_go = threading.Event()
    providers.manners.answer = lambda _order: held_until(let_go)
    write("m.csv", plain_rows(100))
    process = quick.start("run", "m.csv", "--to", "out", "--yes")
    wait_for(providers, 12, process)
    process.send_signal(number)
    until(lambda: "stopping" in process.says())
    let_go.set()

    stopped = quick.end(process)

    assert stopped.returncode == code
    assert len(providers.posts) <= 60  # in flight at three accounts at most: nothing was sent after the signal
    assert json.loads(quick("unknown", "m", "--json").stdout)["unknown"] == []
    assert "the same command goes on" in stopped.stdout


def test_a_second_ctrl_c_quits_at_once_and_says_what_became_unknown(providers, quick):
    let_go = threading.Event()
    providers.manners.answer = lambda _order: held_until(let_go)
    write("m.csv", [{"key": f"k{n}", "prompt": f"p {n}", "provider": "maxapi.io"} for n in range(5)])
    process = quick.start("run", "m.csv", "--to", "out", "--yes")
    wait_for(providers, 5, process)
    process.send_signal(signal.SIGINT)
    until(lambda: "stopping" in process.says())
    process.send_signal(signal.SIGINT)

    stopped = quick.end(process)  # no answer has come
    let_go.set()

    assert stopped.returncode == 130
    assert "5 submits were cut off before their answers: their outcomes are unknown, at most $0.10." in stopped.stdout
    assert len(json.loads(quick("unknown", "m", "--json").stdout)["unknown"]) == 5


# -- answers nobody should give ----------------------------------------------------------------------------------------

BIG = "y" * 10_000_000


def envelope(order: provider_servers.Order, **extra: Any) -> bytes:
    """An acceptance with something more in it."""
    whole = {"code": 0, "data": {"taskId": order.task}}
    if order.provider == "maxapi.dev":
        whole = {"task_id": order.task}
    if order.provider == "apimaster":
        whole = {"code": 200, "data": [{"status": "submitted", "task_id": order.task}]}
    return json.dumps({**whole, **extra}).encode()


ANSWERS = {
    "nul": lambda order: envelope(order, msg="\0"),
    "bare nul": lambda order: envelope(order, msg="@").replace(b"@", b"\0"),
    "surrogate": lambda order: envelope(order, msg="\ud800 \udfff"),
    "no utf-8": lambda order: envelope(order, msg="@").replace(b"@", b"\xff\xfe"),
    "big": lambda order: envelope(order, msg=BIG),
    "refused nul": lambda _order: b'{"code":400,"msg":"\\u0000 \\ud800","error":{"message":"\\u0000"}}',
    "big id": lambda _order: json.dumps({"code": 0, "task_id": BIG, "data": {"taskId": BIG}}).encode(),
    "big garbage": lambda _order: BIG.encode(),
    "cut": lambda _order: "cut",
}
POLLS = {
    "poll nul": b'{"code":0,"data":{"status":"\\u0000"}}\0',
    "poll surrogate": b'{"code":0,"msg":"\\ud800","data":{"status":"\\udfff"}}',
    "poll big": json.dumps({"code": 0, "data": {"status": BIG}}).encode(),
}
ACCEPTED = ("nul", "surrogate", "no utf-8", "big", *POLLS, "fine")


def test_a_nul_a_lone_surrogate_and_ten_megabytes_cost_no_other_attempt_its_record(providers, quick):
    kinds = (*ANSWERS, *POLLS, "fine")
    write("m.csv", [{"key": f"{k}-{p}", "prompt": f"{k}/{p}", "provider": p} for k in kinds for p in PROVIDERS])
    providers.manners.forms = False
    providers.manners.answer = lambda order: ANSWERS.get(order.prompt.partition("/")[0], lambda _order: None)(order)
    providers.manners.poll = poll_badly_at_first(providers)

    done = quick("run", "m.csv", "--to", "out", "--yes")

    assert done.returncode == 3, done.stderr
    told = {line["key"]: line["lf_status"] for line in csv.DictReader(io.StringIO(quick("results", "m").stdout))}
    assert {key: told[key] for key in told if key.rpartition("-")[0] in ACCEPTED} == {
        f"{kind}-{provider}": "done" for kind in ACCEPTED for provider in PROVIDERS
    }
    assert set(told.values()) <= {"done", "held", "failed"}
    assert max(providers.paid().values()) == 1


def poll_badly_at_first(providers: provider_servers.Providers):
    def poll(order: provider_servers.Order) -> bytes | None:
        providers.turns[order.task] += 1
        return POLLS.get(order.prompt.partition("/")[0]) if providers.turns[order.task] == 1 else None

    return poll
