"""Results for Excel: what is text stays text, and what no sheet can hold is refused."""

from __future__ import annotations

import csv
import io
from datetime import datetime

import openpyxl
import pytest

from jobs.errors import BadInput
from jobs.manifest.raw_rows import as_text
from jobs.manifest.xlsx_rows import find_sheet
from jobs.results import spreadsheet
from jobs.results.rows import choose_columns, plain_address, row_lines
from jobs.results.spreadsheet import Excel, check_size, write_xlsx
from jobs.results.writers import write_csv
from tests.support.results_samples import a_result, an_image

#: Values that a spreadsheet program likes to make something else of.
TEXTS = [
    "=1+1", "=cmd|' /C calc'!A0", "+49 30 1234", "-5 degrees", "@shop", "#N/A", "007", "12345678901234567", "1e5",
    "TRUE", "2026-01-02", "16:9", "https://a.example/" + "x" * 3_000, "mailto:a@b.example", " blanks ", "two\nlines",
    "two\r\nlines", "_x0041_", "\x00\x0b\x1f", "<b>&amp;", "é漢🪑", "x" * 32_767,
]  # fmt: skip


def sheet_of(tmp_path, lines, columns):
    path = tmp_path / "out.xlsx"
    with path.open("wb") as file:
        write_xlsx(file, columns, lines)
    return path


def own_lines(values):
    return choose_columns("v", ["v"]), [{"v": value, "lf_key": "k"} for value in values]


def test_what_is_text_stays_text_for_the_sheet_and_for_who_reads_it_as_a_manifest(tmp_path):
    columns, lines = own_lines(TEXTS)
    path = sheet_of(tmp_path, lines, columns)

    cells = [row[0] for row in openpyxl.load_workbook(path).active.iter_rows(min_row=2)]
    assert {(cell.data_type, cell.hyperlink) for cell in cells} == {("s", None)}
    assert [row for _, (row,) in find_sheet(path, "out.xlsx", None).rows()][1:] == TEXTS


def test_values_of_other_types_are_read_again_as_the_same_text(tmp_path):
    values = [2, -7, 1.5, 2.0, 0.1 + 0.2, 1e300, 10**15, 123456789012345678, True, ["a", 1], {"b": None}, None, "last"]
    columns, lines = own_lines(values)

    found = [row for _, (row,) in find_sheet(sheet_of(tmp_path, lines, columns), "out.xlsx", None).rows()][1:]

    assert list(map(as_text, found)) == [as_text(value) for value in values if value is not None]
    assert found[:3] == [2, -7, 1.5]  # numbers that can be summed


def test_money_times_and_counts_can_be_calculated_with(tmp_path):
    result = a_result(images=(an_image(0),), cost=40_000)
    columns = choose_columns("lf_cost_usd,lf_done_at,lf_images,lf_error", ())

    path = sheet_of(tmp_path, row_lines([result], plain_address("s3://shop")), columns)

    row = next(openpyxl.load_workbook(path).active.iter_rows(min_row=2, values_only=True))
    assert row == (0.04, datetime(2026, 5, 14, 2, 14, 7), 1, None)  # noqa: DTZ001  Excel knows no time zones


def test_a_cell_that_no_sheet_can_hold_is_refused_by_row_and_column(tmp_path):
    columns, lines = own_lines(["x" * 32_768])

    with pytest.raises(BadInput, match=r"column 'v' of row k has 32,768. Leave it out \(--columns '\*,-v'\)"):
        sheet_of(tmp_path, lines, columns)


def test_more_rows_or_columns_than_a_sheet_has_are_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"1,048,575 rows below its header, and these are 1,048,576"):
        check_size(1_048_576, 3)
    with pytest.raises(BadInput, match="16,384 columns"):
        check_size(1, 16_385)
    check_size(1_048_575, 16_384)

    monkeypatch.setattr(spreadsheet, "MOST_ROWS", 3)
    columns, lines = own_lines(["a", "b", "c"])
    with pytest.raises(BadInput, match="2 rows below its header"):
        sheet_of(tmp_path, lines, columns)


def test_a_reader_that_has_seen_enough_ends_the_writing_and_nothing_else():
    class Closed(io.RawIOBase):
        def writable(self):
            return True

        def write(self, _):
            raise BrokenPipeError

    columns, lines = own_lines(["a"])

    with pytest.raises(BrokenPipeError):  # and no generator or file complains afterwards, which would be a warning
        write_xlsx(Closed(), columns, lines)


def test_a_csv_for_excel_has_a_mark_and_any_delimiter():
    columns, lines = own_lines(["é;ü", 'say "x"'])
    file = io.BytesIO()

    write_csv(file, columns, lines, delimiter=";", mark=True)

    assert file.getvalue().startswith(b"\xef\xbb\xbfv\n")
    assert list(csv.reader(io.StringIO(file.getvalue().decode("utf-8-sig")), delimiter=";")) == [
        ["v"], ["é;ü"], ['say "x"'],
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "is_changed"), [
    ("=1+1", True), ("@x", True), ("+49 1", True), ("-x", True), ("007", True), ("4006381333931", True),
    ("-12.5", False), ("0", False), ("0.5", False), ("12345", False), ("a =b", False), ("", False), (7, False),
])  # fmt: skip
def test_what_excel_would_change_in_a_csv_is_told_and_left_as_it_is(value, is_changed):
    columns, lines = own_lines([value])
    excel = Excel()

    assert list(excel.watch(columns, lines)) == lines
    assert bool(excel.note) is is_changed
    if is_changed:
        assert "1 cell" in excel.note
        assert "column v of row k" in excel.note
