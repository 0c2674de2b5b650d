"""Nothing that is paid can be stored: buying stops and says why, and all that was paid is stored once it is mended."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from jobs.ledger import open_ledger
from tests.support import command
from tests.support.patience import until

QUICK = {"takes": {"default": [0.3, 0.6]}, "pictures": {"tiny": True}}
#: Tasks that end when the test says so.
STUCK = {"trouble": "stuck"}
HTML = [{"trouble": "cdn html"}]
IN_FLIGHT = 20
RUN = ("run", "m.csv", "--to", "out", "--yes", "--json")
ACCOUNTS = ("maxapi-io", "maxapi-dev", "apimaster")
#: Each is made by one provider alone.
COLUMNS = {"maxapi.io": ",1:1,1k", "maxapi.dev": ",1:1,1k", "apimaster": ",1:1,1k"}


pytestmark = pytest.mark.timeout(600)  # real processes, hundreds of rows


@pytest.fixture
def lightfast(sandbox):
    plain = command.bare_environment()
    limits = {"first_poll_after": 0.2, "poll_every": 0.2, "submits_per_second": 50, "max_in_flight": 20}
    accounts = command.account_settings("MAXAPI_IO", "MAXAPI_DEV", "APIMASTER", **limits)
    return functools.partial(command.lightfast, environment=plain | sandbox.settings | accounts, timeout=280)


def write(rows: dict[str, str]) -> None:
    """`rows`: a provider each, by prompt."""
    lines = [f"{prompt},{prompt},{provider},1:1,1k" for prompt, provider in rows.items()]
    Path("m.csv").write_text("\n".join(["key,prompt,provider,ratio,resolution", *lines]) + "\n")


def lives(process: command.Started) -> None:
    assert process.poll() is None, process.communicate()


def stopped_accounts() -> set[str | None]:
    with contextlib.closing(open_ledger("sqlite:///lightfast.db", create=False)) as ledger:
        return {each.account for each in ledger.claims.failing(time.time())}


def bought(sandbox) -> Counter[str]:
    return Counter(task["prompt"] for task in sandbox.tasks())


def test_a_cdn_that_answers_with_a_page_stops_buying_ends_with_4_and_is_worked_off_when_it_is_mended(
    lightfast, sandbox
):
    sandbox.play(**QUICK, rules=[STUCK, *HTML])
    write({f"lamp {number}": tuple(COLUMNS)[number % 3] for number in range(600)})
    process = command.Started(("lightfast", *RUN, "--max-stall", "5s"), lightfast.keywords["environment"])
    until(lambda: len(sandbox.tasks()) == 3 * IN_FLIGHT, meanwhile=lambda: lives(process))
    sandbox.finish()
    until(lambda: stopped_accounts() == set(ACCOUNTS), meanwhile=lambda: lives(process))
    sandbox.finish()

    out, err = process.communicate()

    told = json.loads(out)
    assert (process.returncode, told["reason"]) == (4, "nothing_stored"), err
    assert sum(bought(sandbox).values()) <= 3 * 2 * IN_FLIGHT
    assert told["images"]["stored"] == 0
    for words in (*ACCOUNTS, "not_an_image", "Please wait a moment", "$"):
        assert words in told["message"]
    status = json.loads(lightfast("status", "m", "--json").stdout)
    assert {each["account"] for each in status["nothing_stored"]} == set(ACCOUNTS)
    assert all(IN_FLIGHT <= each["images"] <= 2 * IN_FLIGHT for each in status["nothing_stored"])

    sandbox.play(**QUICK)
    mended = lightfast(*RUN, "--max-stall", "60s")

    assert mended.returncode == 0, mended.stderr
    assert json.loads(mended.stdout)["images"]["stored"] == 600
    assert bought(sandbox) == Counter(f"lamp {number}" for number in range(600))


def test_a_share_that_fails_for_good_stops_nobody_and_is_told(lightfast, sandbox):
    sandbox.play(**QUICK)
    write({f"lamp {number}{' [cdn html]' if number % 10 < 3 else ''}": "maxapi.io" for number in range(200)})

    done = lightfast(*RUN[:-1], "--max-stall", "5s")

    assert done.returncode == 4, done.stderr
    assert sum(bought(sandbox).values()) == 200
    assert "in a row" not in done.stdout + done.stderr
    assert "60 paid images cannot be copied: 60 not_an_image" in done.stdout
    assert "lightfast give-up m --key" in done.stdout
    status = json.loads(lightfast("status", "m", "--json").stdout)
    assert (status["images"]["stored"], status["copy_errors"]) == (140, {"not_an_image": 60})
    assert status["nothing_stored"] == []


def test_a_row_that_only_a_person_can_help_ends_the_run_and_is_named_with_its_reason_and_what_ends_it(
    lightfast, sandbox
):
    sandbox.play(**QUICK)
    write({"a lamp": "maxapi.dev", "a heron [b64 garbled]": "maxapi.dev"})

    done = lightfast(*RUN[:-1], "--max-stall", "60s")

    assert done.returncode == 3, done.stderr
    assert "key a heron [b64 garbled], image 0 is paid and cannot be stored: bytes_unreadable" in done.stdout
    assert "lightfast give-up m --key 'a heron [b64 garbled]'" in done.stdout
    (held,) = [line for line in lightfast("results", "m").stdout.splitlines() if ",held," in line]
    assert "bytes_unreadable" in held
    status = json.loads(lightfast("status", "m", "--json").stdout)
    assert (status["state"], status["rows"]) == ("finished", {"done": 1, "held": 1})
    assert (status["images"]["stuck"], status["stuck"][0]["code"]) == (1, "bytes_unreadable")
    assert status["at_risk"]["images"] == 1

    again = lightfast(*RUN, "--max-stall", "60s")
    assert again.returncode == 3
    assert json.loads(again.stdout)["stuck"][0]["key"] == "a heron [b64 garbled]"
    assert lightfast("give-up", "m", "--key", "a heron [b64 garbled]", "--yes").returncode == 0
    assert json.loads(lightfast("status", "m", "--json").stdout)["rows"] == {"done": 1, "lost": 1}
    assert sum(bought(sandbox).values()) == 2


def test_whole_pictures_of_other_formats_are_kept_and_a_cdn_that_has_several_gives_a_png(lightfast, sandbox):
    sandbox.play(**QUICK)
    formats = ("gif", "bmp", "tiff", "avif")
    write({f"a {name} [as {name}]": "maxapi.io" for name in formats} | {"a lamp [cdn accept avif]": "maxapi.io"})

    done = lightfast(*RUN)

    assert done.returncode == 0, done.stderr
    made = {path.suffix for path in Path("out").rglob("0.*")}
    assert made == {".gif", ".bmp", ".tiff", ".avif", ".png"}
    flagged = [line for line in lightfast("results", "m").stdout.splitlines() if "other-format" in line]
    assert len(flagged) == len(formats)
    assert lightfast("verify", "m", "--deep").returncode == 0


def test_a_cdn_for_browsers_only_takes_our_agent_and_refuses_another_with_its_own_words(lightfast, sandbox):
    sandbox.play(**QUICK, rules=[{"trouble": "cdn browsers"}])
    write({"a lamp": "maxapi.io"})
    lightfast.keywords["environment"]["LIGHTFAST_USER_AGENT"] = "curl/8.5.0"

    refused = lightfast(*RUN, "--max-stall", "3s")

    assert refused.returncode == 4, refused.stderr
    assert 'answered 403: "error code: 1010"' in lightfast("why", "m", "a lamp").stdout
    assert 'answered 403: "error code: 1010"' in lightfast("status", "m").stdout
    assert "error code: 1010" in lightfast("results", "m").stdout
    del lightfast.keywords["environment"]["LIGHTFAST_USER_AGENT"]
    assert lightfast(*RUN).returncode == 0
    assert sum(bought(sandbox).values()) == 1
