"""Wrong input ends with 2, names what is wrong and what is legal, spends nothing and leaves no file behind."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import COMMANDS, load
from tests.support import command

KEYS = {"MAXAPI_IO_API_KEY": "key-1", "MAXAPI_DEV_API_KEY": "key-2", "APIMASTER_API_KEY": "key-3"}
HEADER = "key,prompt,model,provider,ratio,resolution,n,image_urls\n"
GOOD = HEADER + "a,A brass lamp,,,,,,\n"


def lightfast(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
    plain = command.bare_environment()
    nobodys = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}
    return command.lightfast(*arguments, environment=plain | nobodys | environment, stdin=stdin)


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def refused(*arguments: str, **environment: str) -> str:
    """Runs it, checks that it was refused without a trace, and returns what was said."""
    before = files()

    done = lightfast("run", *arguments, "--yes", **(KEYS | environment))

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert files() == before
    assert done.stdout == ""
    return done.stderr


ROWS = {
    "no prompt column": ("key,titel\na,b\n", ['no column "prompt"', "--map prompt="]),
    "empty prompt": (HEADER + "a,,,,,,,\n", ["line 2", "key a", "column prompt is empty"]),
    "duplicate key": (GOOD + "a,Another,,,,,,\n", ["line 3", "column key", '"a"', "line 2"]),
    "unknown model": (HEADER + "a,A lamp,gpt-image-3,,,,,\n", ["line 2", "column model", "gpt-image-3", "gpt-image-2"]),
    "4k square": (HEADER + "a,A lamp,,maxapi.io,1:1,4k,,\n", ["line 2", "column ratio", '"1:1"', "at 4k", "16:9"]),
    "ratio nobody has": (HEADER + "a,A lamp,,,7:5,,,\n", ["line 2", "column ratio", '"7:5"', "4:3"]),
    "n of zero": (HEADER + "a,A lamp,,,,,0,\n", ["line 2", "column n", '"0"', "from 1 to 10"]),
    "n of eleven": (HEADER + "a,A lamp,,,,,11,\n", ["column n", '"11"', "from 1 to 10"]),
    "n in words": (HEADER + "a,A lamp,,,,,two,\n", ["column n", '"two"', "from 1 to 10"]),
    "n of two and a half": (HEADER + "a,A lamp,,,,,2.5,\n", ["column n", '"2.5"', "from 1 to 10"]),
    "lite with a ratio": (HEADER + "a,A lamp,grok-imagine-lite,,16:9,,,\n", ["line 2", "column ratio", '"16:9"']),
    "17 references": (
        HEADER + "a,A lamp,,,,,," + "|".join(f"https://e.example/{i}.png" for i in range(17)) + "\n",
        ["line 2", "column image_urls", "16"],
    ),
    "no link": (HEADER + "a,A lamp,,,,,,photo.png\n", ["column image_urls", "photo.png", "https://"]),
    "key that climbs": (HEADER + "..,A lamp,,,,,,\n", ["line 2", "column key", '".."']),
    "key with NUL": (HEADER + "a\0b,A lamp,,,,,,\n", ["line 2", "column key"]),
    "key too long": (HEADER + "k" * 1100 + ",A lamp,,,,,,\n", ["line 2", "column key"]),
    "unclosed quote": (GOOD + 'b,"A lamp,,,,,,\n', ["line 3", "never closed"]),
    "empty file": ("", ["empty"]),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_wrong_manifest_is_refused_with_line_column_value_and_what_is_legal(case):
    text, told = ROWS[case]
    Path("m.csv").write_text(text)

    said = refused("m.csv", "--to", "out")

    for words in told:
        assert words in said


def test_two_rows_with_one_path_are_refused():
    Path("m.csv").write_text("key,prompt,Shelf\na,A lamp,x\nb,A vase,x\n")

    said = refused("m.csv", "--to", "out", "--path", "{Shelf}/{index}.{ext}")

    assert "line 3" in said
    assert "line 2" in said


FILES = {
    "invalid UTF-8": ("m.csv", b"key,prompt\na,caf\xe9\n", ["line 2", "not UTF-8", "--encoding"]),
    "broken JSON": ("m.jsonl", b'{"prompt": "a"}\n' * 6 + b'{"prompt": \n', ["line 7", "broken JSON"]),
    "a field of 20 MB": ("m.csv", b"key,prompt\na," + b"x" * 20_000_000 + b"\n", ["line 2", "1,000,000"]),
    "damaged gzip": ("m.csv.gz", gzip.compress(b"key,prompt\n" + b"a,b\n" * 9)[:-9], ["damaged gzip"]),
    "a spreadsheet": ("m.csv", b"PK\x03\x04 and so on", [".xlsx", "damaged"]),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_read_is_refused_with_its_reason(case):
    name, content, told = FILES[case]
    Path(name).write_bytes(content)

    said = refused(name, "--to", "out")

    for words in told:
        assert words in said


OPTIONS = {
    "missing file": (["none.csv", "--to", "out"], {}, ["none.csv", "no such file"]),
    "a folder": ([".", "--to", "out", "--batch", "b"], {}, ["folder"]),
    "budget below the estimate": (["m.csv", "--to", "out", "--budget", "0.001"], {}, ["at least $0.01", "--partial"]),
    "budget without a price": (
        ["m.csv", "--to", "out", "--budget", "5", "--provider", "apimaster"],
        {},
        ["price", "apimaster", "[accounts.NAME.prices]"],
    ),
    "daily budget without a price": (
        ["m.csv", "--to", "out", "--provider", "apimaster"],
        {"LIGHTFAST_DAILY_BUDGET": "5"},
        ["daily_budget cannot be kept", "apimaster", "[accounts.NAME.prices]"],
    ),
    "no key at all": (["m.csv", "--to", "out"], dict.fromkeys(KEYS, ""), ["MAXAPI_IO_API_KEY", "--sandbox"]),
    "no key for the provider": (
        ["m.csv", "--to", "out", "--provider", "maxapi.dev"],
        {"MAXAPI_DEV_API_KEY": ""},
        ["maxapi.dev", "MAXAPI_DEV_API_KEY"],
    ),
    "unknown settings": (
        ["m.csv", "--to", "out"],
        {"LIGHTFAST_BUDGET": "5", "LIGHTFAST_DRAIN_SECONDS": "soon"},
        ["LIGHTFAST_BUDGET", "LIGHTFAST_DRAIN_SECONDS", '"soon"', "number"],
    ),
    "no destination": (["m.csv"], {}, ["--to DEST", "s3://bucket/prefix"]),
    "strange destination": (["m.csv", "--to", "ftp://host/x"], {}, ["ftp://host/x", "s3://"]),
    "destination without a slash": (["m.csv", "--to", "s3:/shop/x"], {}, ["Did you mean s3://shop/x?", "./s3:/shop/x"]),
    "destination too long": (["m.csv", "--to", "x" * 5000], {}, ["name too long", "bad_path"]),
    "encoding of nothing": (["m.csv", "--to", "out", "--encoding", "undefined"], {}, ["undefined", "utf-8"]),
    "database's port": (["m.csv"], {"LIGHTFAST_DATABASE_URL": "postgresql://h:x/y"}, ["DATABASE_URL", "HOST/NAME"]),
    "settings too deep": (["m.csv", "--config", "deep.toml"], {}, ["deep.toml", "not TOML"]),
    "destination is a file": (["m.csv", "--to", "m.csv"], {}, ["m.csv"]),
    "stdin without a name": (["-", "--to", "out"], {}, ["--batch NAME"]),
    "strange batch": (["m.csv", "--to", "out", "--batch", "a/b"], {}, ["--batch", '"a/b"']),
    "many strange options": (
        ["m.csv", "--to", "out", "--max-stall", "soon", "--budget", "much", "--allow-failed", "few", "--changed", "no"],
        {},
        ["--max-stall", '"soon"', "15m", "--budget", '"much"', "--allow-failed", '"few"', "2%", "--changed", "redo"],
    ),
    "unknown column": (["m.csv", "--to", "out", "--map", "key=Handel"], {}, ["Handel", "Columns: key, prompt"]),
    "unknown option": (["m.csv", "--tu", "out"], {}, ["--tu"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_wrong_options_and_settings_are_refused_by_name(case):
    arguments, environment, told = OPTIONS[case]
    Path("m.csv").write_text(GOOD)
    Path("deep.toml").write_text(f"x = {'[' * 5000}{']' * 5000}")

    said = refused(*arguments, **environment)

    for words in told:
        assert words in said


def test_a_wrong_bucket_is_refused(s3_server):
    Path("m.csv").write_text(GOOD)

    said = refused("m.csv", "--to", "s3://no-such-bucket-here/x", **s3_server.environment)

    assert "s3://no-such-bucket-here" in said
    assert "no such bucket" in said


def test_without_a_terminal_money_needs_yes():
    Path("m.csv").write_text(GOOD)

    done = lightfast("run", "m.csv", "--to", "out", **KEYS)

    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert "$0.0054" in done.stderr
    assert files() == {"m.csv"}


def test_a_plan_by_tokens_says_what_it_assumes_and_the_most_that_is_set_aside():
    Path("m.csv").write_text("key,prompt,quality\na,A lamp,medium\nb,A vase,medium\n")

    said = lightfast("plan", "m.csv", **KEYS).stdout
    told = json.loads(lightfast("plan", "m.csv", "--json", **KEYS).stdout)

    assert "official-cheap" in said
    assert "~0.0013" in said
    assert "estimated: 1,756 output tokens an image (1024x1024, medium)\n" in said
    assert "set aside: $0.002756 at most; the bill is usually less" in said
    (route,) = told["routes"]
    assert (route["route_mode"], route["assumed"][:5]) == ("official-cheap", "1,756")
    assert told["usd"] < told["usd_at_most"] == route["usd_at_most"]


def test_a_budget_at_the_estimate_has_no_room_for_what_the_last_image_holds():
    Path("m.csv").write_text("key,prompt,quality\na,A lamp,medium\nb,A vase,medium\n")

    said = refused("m.csv", "--to", "out", "--budget", "0.0026")

    assert "more that the last one holds while it is made" in said


def test_an_account_that_says_mix_stays_with_mix():
    Path("m.csv").write_text(GOOD)
    mine = {"LIGHTFAST_ACCOUNTS__DEV__PROVIDER": "maxapi.dev", "LIGHTFAST_ACCOUNTS__DEV__API_KEY": "k"}

    said = lightfast("plan", "m.csv", **mine, LIGHTFAST_ACCOUNTS__DEV__ROUTE_MODE="mix").stdout

    assert "0.0120" in said
    assert "official-cheap" not in said


def test_submit_needs_postgresql():
    Path("m.csv").write_text(GOOD)

    done = lightfast("submit", "m.csv", "--to", "out", "--yes", **KEYS)

    assert done.returncode == 2
    assert "PostgreSQL" in done.stderr
    assert "lightfast run" in done.stderr
    assert files() == {"m.csv"}


def test_a_plan_shows_rows_prompts_routes_and_money_and_leaves_nothing():
    Path("products.csv").write_text("Handle;Title\nheron;Heron Lamp\nvase;Terra Vase\nnone;\n")
    arguments = ["--map", "key=Handle", "--skip-empty", "Title", "--prompt", "Photo of {Title}", "--resolution", "2k"]

    done = lightfast("plan", "products.csv", *arguments, "--to", "out", MAXAPI_IO_API_KEY="k")

    assert done.returncode == 0
    for words in (
        "3 rows: 2 new, 0 changed, 0 done, 1 skipped (Title empty), 0 bad",
        "semicolon, UTF-8",
        "out/products/KEY/0.png",
        "written, read, deleted",
        "lightfast.db (new)",
        '"Photo of Heron Lamp"',
        "2048x2048",
        "0.0400",
        "2 images, $0.08",
    ):
        assert words in done.stdout
    assert "Nothing was spent" in done.stderr
    assert files() == {"products.csv"}


def test_a_plan_shows_bad_rows_beside_the_good_ones_and_ends_with_2():
    Path("m.csv").write_text(GOOD + "b,A vase,,,7:5,,,\n")

    done = lightfast("plan", "m.csv", "--json", **KEYS)

    document = json.loads(done.stdout)
    assert done.returncode == 2
    assert (document["schema"], document["rows"]["new"], document["rows"]["bad"], document["images"]) == (2, 1, 1, 1)
    assert [(bad["line"], bad["key"], bad["column"], bad["value"]) for bad in document["bad"]] == [
        (3, "b", "ratio", "7:5")
    ]


def test_standard_input_is_a_manifest_when_it_has_a_name():
    done = lightfast("plan", "-", "--batch", "spring", stdin=GOOD.encode(), **KEYS)

    assert done.returncode == 0, done.stderr
    assert "spring (new) -> DEST/spring/KEY/0.png" in done.stdout


def test_a_refusal_is_one_document_where_one_is_asked_for():
    done = lightfast("run", "none.csv", "--to", "out", "--json", **KEYS)

    document = json.loads(done.stdout)
    assert (document["schema"], document["exit_code"]) == (2, 2)
    assert "none.csv" in document["error"][0]


def test_help_and_version_import_nothing_heavy():
    heavy = (
        "sqlalchemy",
        "pydantic",
        "aiohttp",
        "botocore",
        "rich",
        "alembic",
        "celery",
        "obstore",
        "orjson",
        "asyncio",
    )
    code = (
        "import sys; sys.argv = ['lightfast', '--help']\n"
        "from cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "plan" in done.stdout
    assert done.stderr.strip() == "[]"


def test_commands_that_only_read_the_ledger_load_no_network_client():
    commands = ("status", "accounts", "why", "results", "unknown", "steer", "money")
    modules = ", ".join(f"cli.commands.{name}" for name in commands)
    code = f"import sys, {modules}; print([name for name in ('aiohttp', 'botocore', 'obstore') if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_command_has_a_help_page():
    assert all(load(name).help for name in COMMANDS)


def test_a_typing_mistake_in_a_command_is_a_usage_error_with_the_near_miss():
    done = lightfast("pln")

    assert done.returncode == 2
    assert "'plan'" in done.stderr
