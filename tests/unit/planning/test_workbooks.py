"""Workbooks as Excel, LibreOffice and programs write them."""

from __future__ import annotations

import datetime as dt
import zipfile

import openpyxl
import pytest

from jobs.errors import BadInput
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.planner import PlanOptions, prepare
from providers.catalog.models import Catalog
from tests.support.planned_rows import EVERYONE


def workbook(tmp_path, *sheets, name="m.xlsx"):
    """Each sheet is a title and its rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(tmp_path / name)
    return tmp_path / name


def read(path, **options):
    return open_manifest(path, name=path.name, options=ReadOptions(**options))


def rows_of(path, **options):
    return [(raw.line, dict(raw.carried)) for raw in read(path, **options).rows()]


def problem(path, **options):
    with pytest.raises(BadInput) as caught:
        list(read(path, **options).rows())
    return str(caught.value)


def test_cells_are_what_a_person_sees_and_keep_their_types(tmp_path):
    head = ["key", "prompt", "price", "ean", "sold", "on", "at", "ratio", "none"]
    cells = [
        7.0, "a cow\nat night", 1.5, 4006381333931.0, True,
        dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, 3, 4, 5), dt.time(16, 9), None,  # noqa: DTZ001  Excel knows no zones
    ]  # fmt: skip

    ((_, own),) = rows_of(workbook(tmp_path, ("Products", [head, cells])))

    assert list(own.values()) == [
        7, "a cow\nat night", 1.5, 4006381333931, True, "2026-01-02", "2026-01-02 03:04:05", "16:09:00", None,
    ]  # fmt: skip


def test_rows_are_planned_by_their_number_in_the_sheet_and_errors_of_formulas_stay_visible(tmp_path):
    path = workbook(tmp_path, ("S", [["key", "prompt"], [1, "a"], [], [None, " "], [2.0, "#NAME?"]]))
    manifest = read(path)
    planner = prepare(manifest, PlanOptions(batch="b", configured=EVERYONE), Catalog.load())

    planned = [planner.plan(raw) for raw in manifest.rows()]

    assert [(each.row.line, each.row.key, each.row.position) for each in planned] == [(2, "1", 0), (5, "2", 3)]
    assert [dict(raw.cells) for raw in manifest.rows()][1]["prompt"] == "#NAME?"
    assert manifest.unit == "row"


def test_the_first_sheet_that_can_be_seen_and_holds_something_is_read_or_the_one_that_is_named(tmp_path):
    path = workbook(
        tmp_path, ("empty", []), ("hidden", [["x"]]), ("Products", [["prompt"], ["a"]]), ("Old", [["y"], ["b"]])
    )
    book = openpyxl.load_workbook(path)
    book["hidden"].sheet_state = "hidden"
    book.save(path)

    assert read(path).looks == 'xlsx, sheet "Products" of 3'
    assert rows_of(path, sheet="old") == [(2, {"y": "b"})]
    assert 'has "empty", "hidden", "Products", "Old"' in problem(path, sheet="new")


def test_the_header_may_stand_below_a_title(tmp_path):
    rows = [["Spring catalogue"], [], ["id", "prompt"], [1, "a"], [2, "b"]]
    path = workbook(tmp_path, ("S", rows))

    manifest = read(path, names=frozenset({"prompt"}))

    assert manifest.looks == 'xlsx, sheet "S", header on row 3'
    assert [(raw.line, raw.cells["prompt"]) for raw in manifest.rows()] == [(4, "a"), (5, "b")]
    assert rows_of(path, header_row=3) == rows_of(path, names=frozenset({"prompt"}))
    assert "nothing stands in row 2" in problem(path, header_row=2)


def test_results_of_an_earlier_run_and_columns_without_a_name_are_no_columns(tmp_path):
    path = workbook(tmp_path, ("S", [["prompt", None, "lf_key"], ["a", None, "k"], ["b", "note", "k"]]))

    assert read(path).columns == ("prompt",)
    assert rows_of(path) == [(2, {"prompt": "a"}), (3, {"prompt": "b", "column_2": "note"})]


def test_a_formula_that_nobody_calculated_is_told(tmp_path):
    told = read(workbook(tmp_path, ("S", [["prompt"], ["=A1"]]))).notes

    assert 'cell A2 of sheet "S" has a formula without a value' in told[0]


def test_formulas_that_nobody_calculated_are_counted_wherever_they_stand(tmp_path):
    rows = [["key", "prompt"], *([number, "a cow"] for number in range(2, 150)), [150, "=A1"], [151, "=A2"]]

    (told,) = read(workbook(tmp_path, ("S", rows))).notes

    assert told.startswith('2 cells of sheet "S", the first B150, have a formula without a value, and are taken for')


def test_a_formula_whose_value_is_the_empty_text_is_calculated(tmp_path):
    """As Excel writes =IF(A1="","","x")."""
    path = repacked(workbook(tmp_path, ("S", [["prompt", "note"], ["a", "=A1"]])), b'<c r="B2">', b'<c r="B2" t="str">')

    assert read(path).notes == ()


def test_a_row_with_a_cell_that_is_too_long_is_bad(tmp_path):
    path = workbook(tmp_path, ("S", [["key", "prompt"], [1, "x"], [2, "a cow"]]))
    path = repacked(path, b"<t>x</t>", b"<t>" + b"x" * 1_000_001 + b"</t>")

    faults = {raw.cells["key"]: raw.fault and raw.fault.what for raw in read(path).rows()}

    assert faults["2"] is None
    assert "a cell is longer than 1,000,000 characters" in faults["1"]


def test_a_workbook_that_would_take_all_memory_is_refused_before_it_is_read(tmp_path):
    path = workbook(tmp_path, ("S", [["key", "prompt"], [1, "x"]]))
    blown = repacked(path, b"<t>x</t>", b"<t>" + b"x" * 65_000_000 + b"</t>")
    assert blown.stat().st_size < 300_000
    assert "its part xl/worksheets/sheet1.xml unpacks from" in problem(blown)

    long_text = b"<t>" + b"xy" * 4_100_000 + b"</t>"
    assert "longer than 8,000,000 characters" in problem(repacked(path, b"<t>x</t>", long_text))
    assert "longer than 8,000,000 characters" in problem(
        repacked(path, b"<row r=", b"<row x='" + b"y" * 8_300_000 + b"' r=")
    )


def repacked(path, before, after):
    """The workbook with other bytes in its parts."""
    found = path.with_name("repacked.xlsx")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(before, after, 1))
    return found


def test_what_a_file_says_of_its_own_size_is_not_believed(tmp_path):
    path = workbook(tmp_path, ("S", [["key", "prompt"], [1, "a"], [2, "b"]]))
    lying = tmp_path / "lying.xlsx"
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(lying, "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name).replace(b'<dimension ref="A1:B3"', b'<dimension ref="A1"'))

    assert [own["prompt"] for _, own in rows_of(lying)] == ["a", "b"]


@pytest.mark.parametrize("name", ["m.xlsx", "download", "m.csv"])
def test_a_workbook_is_known_by_its_bytes(tmp_path, name):
    assert rows_of(workbook(tmp_path, ("S", [["prompt"], ["a"]]), name=name)) == [(2, {"prompt": "a"})]


# -- what is refused -----------------------------------------------------------------------------------------------


def archive(tmp_path, *names, **content):
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, content.get(name, "x"))
    return path


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["products.csv", "readme.txt"], "a zip archive (products.csv, readme.txt): unpack it"),
        (["xl/workbook.bin"], "(.xlsb): save it as .xlsx"),
        (["Index/Document.iwa"], "Numbers"),
        (["mimetype"], "(.ods): save it as .xlsx or CSV"),
    ],
)
def test_other_archives_are_named(tmp_path, names, says):
    assert says in problem(archive(tmp_path, *names, mimetype="application/vnd.oasis.opendocument.spreadsheet"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04 and no more", "is damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel file (.xls), or one with a password"),
        (b"SQLite format 3\0", "SQLite database"),
        (b"%PDF-1.7", "a PDF"),
        (b"ARROW1\0\0", "write Parquet"),
    ],
)
def test_other_files_are_named(tmp_path, content, says):
    path = tmp_path / "m.csv"
    path.write_bytes(content)

    assert says in problem(path)


def test_a_workbook_without_its_sheet_is_damaged_and_one_without_rows_is_empty(tmp_path):
    path = workbook(tmp_path, ("S", [["prompt"], ["a"]]))
    cut = tmp_path / "cut.xlsx"
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(cut, "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name)[: -20 if "sheet1" in name else None])

    assert "damaged .xlsx" in problem(cut)
    assert "has no rows" in problem(workbook(tmp_path, ("S", [])))


@pytest.mark.parametrize(("option", "value"), [("delimiter", ";"), ("encoding", "cp1252"), ("text", True)])
def test_options_that_say_nothing_of_a_workbook_are_refused(tmp_path, option, value):
    path = workbook(tmp_path, ("S", [["prompt"], ["a"]]))

    assert f"--{option} is not possible here: m.xlsx is a workbook" in problem(path, **{option: value})


def test_escapes_of_half_characters_are_the_character_and_one_alone_is_none(tmp_path):
    path = workbook(tmp_path, ("S", [["prompt"], ["a _xD83E__xDE91_"], ["a _xD83E_"], ["a _xDE91__xD83E_"]]))

    assert [raw.cells["prompt"] for raw in read(path).rows()] == ["a 🪑", "a \ufffd", "a \ufffd\ufffd"]
