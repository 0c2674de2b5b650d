"""The whole command against the stand-in: pay once, add rows, refuse changes, ask first, stop calmly."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.commands.demo import demo
from jobs.errors import LightfastError
from sandbox.launch import Box, running
from tests.support import ROOT, command
from tests.support.patience import AT_LAST, until

LIGHTFAST = Path(sys.executable).with_name("lightfast")


@pytest.fixture(scope="module")
def provider() -> Iterator[Box]:
    """A quick stand-in."""
    with running() as box:
        yield box


@pytest.fixture
def box(provider) -> Box:
    """The same, with all it had forgotten."""
    provider.arrange({"takes": {"default": [0.05, 0.1]}})
    provider.reset()
    return provider


@pytest.fixture
def environment(box) -> dict[str, str]:
    plain = command.bare_environment()
    return (
        plain
        | {"MAXAPI_IO_API_KEY": "key-of-a-test", "MAXAPI_IO_BASE_URL": f"{box.url}/maxapi.io"}
        | command.account_settings(
            "MAXAPI_IO", first_poll_after=0.2, poll_every=0.2, submits_per_second=50, max_in_flight=50
        )
        | {"LIGHTFAST_ALLOW_PRIVATE_HOSTS": "1"}
    )


@pytest.fixture
def lightfast(environment):
    return functools.partial(command.lightfast, environment=environment)


def write(*prompts: str, name: str = "m.csv") -> None:
    rows = [f"k{number},{prompt},shelf {number}" for number, prompt in enumerate(prompts)]
    Path(name).write_text("\n".join(["key,prompt,Shelf", *rows]) + "\n")


def spent(done: subprocess.CompletedProcess[str]) -> float:
    return json.loads(done.stdout)["usd"]["charged"]


RUN = ("run", "m.csv", "--to", "out", "--yes", "--json")


def test_rows_are_paid_once_new_ones_are_added_and_a_changed_one_is_refused_with_its_cost(lightfast, tmp_path):
    write("A lamp", "A vase")
    first = lightfast(*RUN)
    again = lightfast(*RUN)
    write("A lamp", "A vase", "A rug")
    longer = lightfast(*RUN)
    write("A lamp", "Two vases", "A rug")
    refused = lightfast(*RUN)
    redone = lightfast(*RUN, "--changed", "redo")

    assert [done.returncode for done in (first, again, longer, refused, redone)] == [0, 0, 0, 2, 0], refused.stderr
    assert [round(spent(done), 2) for done in (first, again, longer, redone)] == [0.04, 0.04, 0.06, 0.08]
    for words in ("line 3", "key k1", "--changed redo", "$0.02", "--changed keep"):
        assert words in refused.stderr
    assert {path.name for path in Path("out/m/k1").iterdir()} == {"0.png", "0.r2.png"}

    lines = list(csv.DictReader(io.StringIO(lightfast("results", "m").stdout)))
    assert [(line["key"], line["Shelf"], line["lf_status"]) for line in lines] == [
        ("k0", "shelf 0", "done"),
        ("k1", "shelf 1", "done"),
        ("k2", "shelf 2", "done"),
    ]

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    marked = lightfast("run", "../m.csv", "--to", "../out", "--yes", cwd=elsewhere)
    assert marked.returncode == 2, marked.stderr
    assert "--new-ledger" in marked.stderr
    assert list(elsewhere.iterdir()) == []


def test_at_a_terminal_it_asks_once_and_no_means_nothing(environment):
    write("A lamp")

    said_no, asked = _at_a_terminal(["run", "m.csv", "--to", "out"], environment, answer=b"n\n")
    assert (said_no, files()) == (2, {"m.csv"})
    assert "Spend at most $0.02?" in asked

    said_yes, _ = _at_a_terminal(["run", "m.csv", "--to", "out"], environment, answer=b"y\n")
    again, silent = _at_a_terminal(["run", "m.csv", "--to", "out"], environment, answer=b"")
    assert (said_yes, again) == (0, 0)
    assert "Spend" not in silent


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def _at_a_terminal(arguments: list[str], environment: dict[str, str], answer: bytes) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [LIGHTFAST, *arguments], env=environment | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, answer)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # the other end is closed: it has ended
        pass
    finally:
        os.close(ours)
    return process.wait(AT_LAST), said.decode(errors="replace")


def test_a_batch_without_money_goes_on_here_and_now_with_another_budget_that_is_agreed_to(lightfast):
    write("A lamp", "A vase", "A rug")
    stopped = lightfast(*RUN, "--budget", "0.05", "--partial")
    assert (stopped.returncode, json.loads(stopped.stdout)["reason"], spent(stopped)) == (4, "budget_used", 0.04)
    watched, status = lightfast("watch", "m", "--json"), lightfast("status", "m", "--json")
    assert watched.returncode == 4
    assert without_the_clock(stopped, "run") == without_the_clock(watched, "watch") == without_the_clock(status)

    below = lightfast("resume", "m", "--budget", "0.03", "--yes")
    unasked = lightfast("resume", "m", "--budget", "0.10")
    assert (below.returncode, unasked.returncode) == (2, 0), "the three rows were agreed to when the run began"
    assert "$0.04 is spent or reserved already" in below.stderr

    assert json.loads(lightfast("status", "m", "--json").stdout)["rows"] == {"done": 3}
    assert lightfast(*RUN, "--budget", "0.10").returncode == 0


def without_the_clock(done: subprocess.CompletedProcess[str], ended: str = "status") -> dict[str, object]:
    """The progress that a document tells, without what changes from second to second."""
    told = json.loads(done.stdout)
    assert (told.pop("schema"), told.pop("command")) == (2, ended)
    if ended != "status":
        assert (told.pop("exit_code"), told.pop("reason")) == (4, "budget_used")
        assert told.pop("message").startswith("the budget of this batch is used: $0.04 of $0.05")
        assert {type(told.pop("seconds")), told.pop("cut_off")["submits"]} == {
            float if ended == "run" else type(None),
            0,
        }
    for moving in ("images_a_minute", "seconds_left", "copies_a_second", "least_slack_seconds"):
        told.pop(moving)
    return told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_the_submits_in_the_air_and_the_same_command_goes_on(
    lightfast, box, environment, number, code
):
    write("A lamp [hang]", "A vase [hang]", "A rug [hang]")
    process = _started(environment, "run", "m.csv", "--to", "out", "--yes")
    _until_sent(box, 3, process)

    process.send_signal(number)
    until(lambda: "stopping: 3 submits on the way" in process.says())
    box.answer()
    _, said = process.communicate()

    assert process.returncode == code
    assert "stopping: 3 submits on the way" in said
    assert json.loads(lightfast("status", "m", "--json").stdout)["images"]["unknown"] == 0
    finished = lightfast(*RUN)
    assert (finished.returncode, round(spent(finished), 2)) == (0, 0.06)


def test_a_second_ctrl_c_quits_at_once_and_counts_what_became_unknown(lightfast, box, environment):
    write("A lamp [hang]", "A vase [hang]")
    process = _started(environment, "run", "m.csv", "--to", "out", "--yes")
    _until_sent(box, 2, process)

    process.send_signal(signal.SIGINT)
    until(lambda: "stopping" in process.says())  # two signals of one number at once are one
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate()  # and no answer has come

    assert process.returncode == 130
    assert "2 submits" in told
    assert "$0.04" in told
    assert "k1" in lightfast("unknown", "m").stdout


def test_a_second_run_on_one_ledger_names_the_first_and_ends_with_1(lightfast, box, environment):
    write("A lamp [hang]")
    process = _started(environment, "run", "m.csv", "--to", "out", "--yes")
    _until_sent(box, 1, process)

    second = lightfast(*RUN)

    process.kill()
    process.communicate()
    assert second.returncode == 1, second.stderr
    assert str(process.pid) in second.stderr


def test_failed_rows_are_retried_and_done_ones_redone_on_the_spot(lightfast):
    write("A lamp", "A vase [fail moderation]")
    first = lightfast(*RUN)
    allowed = lightfast(*RUN, "--allow-failed", "50%")
    without_yes = lightfast("redo", "m", "--key", "k0")
    redone = lightfast("redo", "m", "--key", "k0", "--prompt", "A lamp on {Shelf}", "--yes", "--json")
    retried = lightfast("retry", "m", "--error", "moderation", "--yes", "--json")

    assert [done.returncode for done in (first, allowed, without_yes, redone, retried)] == [3, 0, 2, 3, 3]
    assert [round(spent(done), 2) for done in (first, redone, retried)] == [0.02, 0.04, 0.04]
    assert {path.name for path in Path("out/m/k0").iterdir()} == {"0.png", "0.r2.png"}
    assert "--yes" in without_yes.stderr


def _started(environment: dict[str, str], *arguments: str) -> command.Started:
    return command.Started(("lightfast", *arguments), environment)


def _until_sent(box: Box, count: int, process: command.Started) -> None:
    def lives() -> None:
        assert process.poll() is None, process.communicate()

    until(lambda: len(box.submits()) >= count, meanwhile=lives)


SHOP = ROOT / "tests" / "support" / "files" / "shop_export.csv"


def test_a_shops_export_comes_back_with_new_first_pictures_and_nothing_else_changed(lightfast):
    """Variants and further pictures stand on lines without a title; what was refused keeps the picture it has."""
    text = SHOP.read_text().replace("Forbidden Mug,", "Forbidden Mug [refuse moderation],")
    Path("products_export.csv").write_text(text)
    made = {"heron-lamp", "oslo-table", "moon-vase"}

    ran = lightfast(
        *("run", "products_export.csv", "--map", "key=Handle", "--skip-empty", "Title", "--yes"),
        *("--prompt", "Lifestyle photo of {Title}", "--to", "out"),
    )
    done = lightfast("results", "products_export", "--columns", "*,-lf_*,Image Src=lf_url", "-o", "import.csv")

    assert (ran.returncode, done.returncode) == (3, 0), ran.stderr + done.stderr
    before, after = (list(csv.reader(io.StringIO(each))) for each in (text, Path("import.csv").read_text()))
    src, title = before[0].index("Image Src"), before[0].index("Title")
    new = [line[src] for line in after[1:] if line[0] in made and line[title]]
    assert new == [
        (Path("out/products_export").absolute() / key / "0.png").as_uri() for key in sorted(made, key=text.find)
    ]
    for old, line in zip(before, after, strict=True):
        line[src] = old[src] if old[0] in made and old[title] else line[src]
    assert after == before


def test_jsonl_comes_back_with_the_types_it_came_with(lightfast):
    own = {
        "key": "a", "prompt": "A lamp", "n": 2, "price": 9.5, "sold": True, "gone": None, "tags": ["x", 1, None],
        "made": {"by": {"name": "Mia"}, "at": []}, "text": "2", "Title": "Lamp", "none": "",
    }  # fmt: skip
    Path("m.jsonl").write_text(json.dumps(own) + "\n")

    ran = lightfast("run", "m.jsonl", "--prompt", "{Title} {tags} {sold}", "--to", "out", "--yes")
    lines, table = lightfast("results", "m", "--format", "jsonl").stdout, lightfast("results", "m").stdout

    assert ran.returncode == 0, ran.stderr
    line = json.loads(lines)
    assert {name: value for name, value in line.items() if not name.startswith("lf_")} == own
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["tags"], row["sold"], row["gone"]) == ('["x",1,null]', "true", "")
    shown = lightfast("results", "m", "--columns", "lf_prompt").stdout
    assert list(csv.reader(io.StringIO(shown)))[1] == ['Lamp ["x",1,null] true']


def test_a_demo_folder_with_something_of_ones_own_in_it_is_left_alone():
    demo(quiet=True)
    Path("demo-output/notes.txt").write_text("mine")

    with pytest.raises(LightfastError, match=r"notes\.txt"):
        demo(quiet=True)

    assert Path("demo-output/notes.txt").read_text() == "mine"


def test_the_demo_makes_every_row_and_again():
    codes = [demo(quiet=True), demo(quiet=True)]

    lines = list(csv.DictReader(io.StringIO(Path("demo-output/results.csv").read_text(encoding="utf-8-sig"))))
    assert codes == [0, 0]
    assert len(lines) >= 24
    assert {line["lf_status"] for line in lines} == {"done"}
    assert "heron-lamp-brass" in Path("demo-output/index.html").read_text()


def test_the_demo_leaves_a_folder_alone_that_it_has_not_made(lightfast):
    Path("demo-output").mkdir()
    Path("demo-output/mine.txt").write_text("mine")

    done = lightfast("demo")

    assert done.returncode == 1
    assert Path("demo-output/mine.txt").read_text() == "mine"
