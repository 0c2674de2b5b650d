"""`results` on a ledger that has lived through a little of everything."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re

import openpyxl
import pytest

from cli.commands.results import write_results
from cli.flow.outputs import OutputOptions
from cli.flow.session import open_session
from jobs.errors import BadInput
from tests.support.shop_ledger import call, open_shop


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def told(tmp_path, dest):
    open_shop(tmp_path, dest)
    return tmp_path


def test_results_are_one_line_a_row_in_the_manifests_order(told, dest):
    rows = list(csv.DictReader(io.StringIO(call("results", "shop").stdout)))

    assert [(row["key"], row["Title"], row["lf_status"]) for row in rows] == [
        ("lamp", "Lamp", "done"),
        ("vase", "Vase", "failed"),
        ("sofa", "Sofa", "held"),
        ("rug", "Rug", "skipped"),
        ("desk", "Desk", "ready"),
    ]
    assert json.loads(rows[0]["lf_urls"]) == [(dest / f"shop/lamp/{slot}.png").as_uri() for slot in (0, 1)]
    assert rows[0]["lf_cost_usd"] == "0.04"
    assert [row["lf_error"] for row in rows] == ["", "moderation", "outcome_unknown", "empty_column", ""]


def test_whoever_writes_addresses_of_a_folder_hears_that_they_lead_to_this_machine(told, monkeypatch):
    note = "the addresses in it begin with file:// and lead to this machine alone"

    assert note in call("results", "shop", "-o", "done.csv").stderr
    assert "file://" in (told / "done.csv").read_text()
    assert note not in (told / "done.csv").read_text()
    assert note not in call("results", "shop", "--columns", "*,-lf_*", "-o", "own.csv").stderr
    assert note not in call("results", "shop").stderr, "a program reads it"
    monkeypatch.setenv("LIGHTFAST_STORAGE__PUBLIC_URL", "https://cdn.example")
    assert note not in call("results", "shop", "-o", "public.csv").stderr


@pytest.mark.parametrize("where", [[], ["-o", "import.csv"], ["-o", "import.xlsx"], ["-o", "import.csv", "--json"]])
def test_whoever_replaces_a_column_hears_how_many_of_its_values_on_stderr(told, where):
    done = call("results", "shop", "--columns", "*,-lf_*,Title=lf_url", *where)

    assert '1 value of your column "Title" is replaced by lf_url.' in done.stderr
    assert "is replaced" not in done.stdout
    assert "replaced" not in call("results", "shop", "--columns", "*,-lf_*,New Image=lf_url").stderr


def test_results_per_image_go_to_a_file_that_appears_whole(told):
    outcome = call("results", "shop", "--per", "image", "-o", "done.jsonl", "--only", "done")

    lines = [json.loads(line) for line in (told / "done.jsonl").read_text().splitlines()]
    assert [(line["lf_key"], line["lf_index"]) for line in lines] == [("lamp", 0), ("lamp", 1)]
    assert outcome.stdout == ""
    assert "2 lines -> done.jsonl" in outcome.stderr
    assert not list(told.glob(".lightfast-*"))


def test_results_that_fail_leave_the_old_file(told):
    (told / "done.csv").write_text("old")

    with pytest.raises(BadInput, match="no column"):
        call("results", "shop", "-o", "done.csv", "--columns", "nothing")

    assert (told / "done.csv").read_text() == "old"
    assert not list(told.glob(".lightfast-*"))


def test_a_csv_for_excel_has_a_mark_the_manifests_delimiter_and_the_images_paths(told):
    outcome = call("results", "shop", "--excel", "-o", "for-excel.csv", "--columns", "key,Title,lf_path")

    assert (
        (told / "for-excel.csv").read_bytes().startswith(b"\xef\xbb\xbfkey;Title;lf_path\nlamp;Lamp;shop/lamp/0.png\n")
    )
    assert "Excel" not in outcome.stderr
    text = call("results", "shop", "--delimiter", "tab", "--columns", "key,Title").stdout
    assert text.startswith("key\tTitle\nlamp\tLamp\n")


def test_a_workbook_appears_whole_and_is_replaced_only_when_asked(told):
    outcome = call("results", "shop", "-o", "shop.xlsx")

    assert "5 lines -> shop.xlsx" in outcome.stderr
    rows = list(openpyxl.load_workbook(told / "shop.xlsx").active.iter_rows(values_only=True))
    assert rows[0][:4] == ("key", "Title", "lf_key", "lf_status")
    assert [row[3] for row in rows[1:]] == ["done", "failed", "held", "skipped", "ready"]
    with pytest.raises(BadInput, match="--overwrite writes it anew"):
        call("results", "shop", "-o", "shop.xlsx")
    call("results", "shop", "-o", "shop.xlsx", "--overwrite")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--excel", "--format", "jsonl"], "--excel is for csv and xlsx"),
        (["--delimiter", ";", "-o", "x.xlsx"], "--delimiter is for csv"),
        (["-o", "x.xls"], 'no format ends with ".xls"'),
    ],
)
def test_what_is_for_other_formats_is_refused(told, options, says):
    with pytest.raises(BadInput, match=says):
        call("results", "shop", *options)


def test_results_go_to_a_bucket_with_addresses_people_can_open(told, s3):
    call("results", "shop", "-o", f"{s3.url}/reports/shop.csv")

    assert s3.read("reports/shop.csv").startswith(b"key,Title,lf_key,")


def test_results_are_behind_the_public_address_where_there_is_one(told, monkeypatch):
    monkeypatch.setenv("LIGHTFAST_STORAGE__PUBLIC_URL", "https://img.shop.com/s/")

    text = call("results", "shop", "--columns", "Image Src=lf_url", "--only", "done").stdout

    assert text == "Image Src\nhttps://img.shop.com/s/shop/lamp/0.png\n"


def test_the_contact_sheet_finds_its_pictures_by_relative_paths(told):
    (told / "sheets").mkdir()

    call("results", "shop", "-o", "sheets/shop.html")

    page = (told / "sheets/shop.html").read_text()
    assert 'href="../out/shop/lamp/0.png"' in page
    assert (told / "sheets/../out/shop/lamp/0.png").exists()
    assert "lightfast unknown shop --key sofa" in page


def test_the_sheet_of_a_bucket_signs_its_pictures_and_says_so(told, s3, capsys):
    with open_session(None, sandbox=False) as session:
        in_bucket = dataclasses.replace(session.ledger.batches.find("shop"), dest=s3.url)
        write_results(session, in_bucket, OutputOptions(format="html", output="shop.html"))

    assert "X-Amz-Signature" in (told / "shop.html").read_text()
    assert "for 7 days" in capsys.readouterr().err


def test_the_sheet_of_a_folder_shows_small_copies_that_are_made_once(told):
    for words in ("-o shop.html", "-o shop.html --overwrite"):
        call("results", "shop", *words.split())
        copies = {path.name: path.stat().st_mtime_ns for path in (told / ".lightfast/thumbnails").iterdir()}
        told.joinpath(f"seen-{len(list(told.glob('seen-*')))}").write_text(json.dumps(copies))

    first, second = (json.loads(path.read_text()) for path in sorted(told.glob("seen-*")))
    shown = re.findall(r'src="(\.lightfast/thumbnails/[^"]+)"', (told / "shop.html").read_text())
    assert first == second
    assert {path.rpartition("/")[2] for path in shown} == set(first)


def test_a_picture_that_is_gone_does_not_stop_the_sheet(told, dest):
    (dest / "shop/lamp/0.png").unlink()

    call("results", "shop", "-o", "shop.html")

    assert 'href="out/shop/lamp/0.png"' in (told / "shop.html").read_text()


def test_small_copies_of_a_bucket_are_made_when_they_are_asked_for(told, s3):
    with open_session(None, sandbox=False) as session:
        in_bucket = dataclasses.replace(session.ledger.batches.find("shop"), dest=s3.url)
        for slot in (0, 1):
            data = (told / f"out/shop/lamp/{slot}.png").read_bytes()
            s3.client.put_object(Bucket=s3.name, Key=f"shop/lamp/{slot}.png", Body=data)
        for name, wish in (("full", None), ("small", True)):
            write_results(session, in_bucket, OutputOptions(format="html", output=f"{name}.html", thumbnails=wish))

    full, small = ((told / f"{name}.html").read_text() for name in ("full", "small"))
    assert "thumbnails/" not in full
    assert small.count('src=".lightfast/thumbnails/') == 2


@pytest.mark.parametrize("words", ["-o done.csv --thumbnails", "--format html --thumbnails"])
def test_small_copies_need_a_sheet_that_is_a_file(told, words):
    with pytest.raises(BadInput, match="--thumbnails"):
        call("results", "shop", *words.split())
