"""CSV files as spreadsheets, shops and databases write them: no single row costs the file, and no row is swallowed."""

from __future__ import annotations

import csv
import gzip
import io
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BadInput
from jobs.manifest.reader import ReadOptions, open_manifest

HUGE = 20_000_000


def read(tmp_path, content, **options):
    path = tmp_path / "m.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_manifest(path, name="m.csv", options=ReadOptions(**options))


def cells(tmp_path, content, **options):
    return [dict(row.cells) for row in read(tmp_path, content, **options).rows()]


def rows(tmp_path, content, **options):
    """Each row's cells, or what is wrong with it: the line, and a piece of the reason."""
    return [
        list(row.cells.values()) if row.fault is None else (row.line, row.fault.what)
        for row in read(tmp_path, content, **options).rows()
    ]


def refused(tmp_path, content, **options):
    with pytest.raises(BadInput) as caught:
        list(read(tmp_path, content, **options).rows())
    return str(caught.value)


# -- quotes --------------------------------------------------------------------------------------------------------


def test_a_file_with_tabs_that_knows_no_quotes_is_read_as_it_stands(tmp_path):
    text = 'Prompt\tKind\na cow\tx\n"G O" painted on a wall\ty\n"tall lamp\tz\na 7" tube\tz\n"end\tz'

    assert rows(tmp_path, text) == [
        ["a cow", "x"],
        ['"G O" painted on a wall', "y"],
        ['"tall lamp', "z"],
        ['a 7" tube', "z"],
        ['"end', "z"],
    ]


def test_a_quoted_cell_of_several_lines_that_breaks_is_not_taken_for_its_first_line(tmp_path):
    good, bad, *rest = rows(tmp_path, 'k\tprompt\na\tok\nb\t"first\nthen "so" it\ngoes"\nc\tok\n')

    assert good == ["a", "ok"]
    assert bad[0] == 3
    assert rest[-1] == ["c", "ok"]
    assert all(isinstance(each, tuple) for each in rest[:-1])


def test_a_quote_inside_a_cell_is_taken_as_spreadsheets_take_it(tmp_path):
    assert rows(tmp_path, 'a,b\n"G O" on a wall,x\n12" lamp,y\n') == [["G O on a wall", "x"], ['12" lamp', "y"]]


def test_quotes_that_a_database_wrote_with_a_backslash_are_read(tmp_path):
    text = 'a,b\n"say \\"hi, you\\" now",x\n"6\\"",y\n"a \\", b",z\n'

    assert rows(tmp_path, text) == [['say "hi, you" now', "x"], ['6"', "y"], ['a ", b', "z"]]


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ('a,b\nok,1\n"never closed, 2\nok,3\n', 3, 'a quote (") that opens here is never closed'),
        ('a,b\nok,1\n"lamp, 5\nok,3\nok,"3"\n', 3, 'the quote (") that opens here closes on line 5 in the middle'),
        ('a,b\nok,1\nx,"y" z,2\nok,3\n', 3, 'the quote (") that opens here closes in the middle of a cell'),
        (
            'a,b,c\nok,1,1\nx,"tall,2\nok,3,3\ny,z,5"\n',
            3,
            "closes on line 5, which makes 2 cells where the header has 3",
        ),
    ],
)
def test_a_stray_quote_costs_its_own_row_and_says_where_it_stands(tmp_path, text, line, why):
    told = rows(tmp_path, text)

    ((bad_line, fault),) = [each for each in told if isinstance(each, tuple)]
    assert bad_line == line
    assert why in fault
    assert len(told) == text.count("\n") - 1


def test_a_quote_that_closes_lines_below_by_accident_swallows_no_rows(tmp_path):
    text = "Name\tKind\tNote\n" + '"tall\tx\t1\n' + "lamp\ty\t2\n" * 3 + 'tube 7"\tz\t3\n'

    assert [each[0] for each in rows(tmp_path, text)] == ['"tall', "lamp", "lamp", "lamp", 'tube 7"']


@pytest.mark.parametrize("long", [b"x" * HUGE, b'"' + (b"x" * 999 + b"\n") * 1_001 + b'"', b'"' + b"x" * HUGE])
def test_a_cell_that_is_too_long_costs_one_row_and_no_memory(tmp_path, long):
    path = tmp_path / "m.csv.gz"
    path.write_bytes(gzip.compress(b"prompt,a\nok,1\n" + long + b"\nok,2\n", 1))
    manifest = open_manifest(path, name="m.csv", options=ReadOptions())

    told = list(manifest.rows())

    assert "a cell is longer than 1,000,000 characters" in told[1].fault.what
    assert told[1].line == 3
    assert [list(told[at].cells.values()) for at in (0, -1)] == [["ok", "1"], ["ok", "2"]]


WORDS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=6)


@given(
    good=st.lists(st.lists(WORDS, min_size=3, max_size=3), max_size=6),
    broken=st.text('ab",;\t|\\ ', max_size=12),
    at=st.integers(0, 6),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_one_broken_line_costs_at_most_its_own_row(tmp_path_factory, good, broken, at, delimiter, quoting):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows([["A", "B", "C"], *good])
    lines = text.getvalue().splitlines(keepends=True)
    lines.insert(1 + min(at, len(good)), broken + "\n")

    told = rows(tmp_path_factory.mktemp("m"), "".join(lines), delimiter=delimiter)

    others = [each for each in told if each in good] if len(told) > len(good) else told
    assert others == good or told == [
        *good[: min(at, len(good))],
        told[min(at, len(good))],
        *good[min(at, len(good)) :],
    ]


# -- more and fewer cells ------------------------------------------------------------------------------------------


def test_empty_cells_beyond_the_header_are_no_fault(tmp_path):
    assert rows(tmp_path, "id;Name\n1;oak\n2;lamp;\n3;vase;; ;\n") == [["1", "oak"], ["2", "lamp"], ["3", "vase"]]


def test_cells_of_columns_without_a_name_may_be_missing(tmp_path):
    assert rows(tmp_path, "id;Name;;\n1;oak\n2;lamp;;\n") == [["1", "oak"], ["2", "lamp"]]


def test_rows_in_which_nothing_stands_are_left_out_and_counted_and_keep_their_number(tmp_path):
    manifest = read(tmp_path, "key,prompt\na,a heron\n,\n , \n\n,,,\nb,a lamp\n")

    told = list(manifest.rows())

    assert [row.cells["key"] for row in told] == ["a", "b"]
    assert [(row.position, row.line) for row in told] == [(0, 2), (4, 7)]
    assert manifest.empty_rows == 3


def test_objects_in_which_nothing_stands_are_left_out_and_counted(tmp_path):
    manifest = read(tmp_path, '{"prompt": "a"}\n{}\n{"prompt": null}\n{"prompt": " "}\n')

    assert len(list(manifest.rows())) == 1
    assert manifest.empty_rows == 3


# -- columns -------------------------------------------------------------------------------------------------------


def test_a_column_without_a_name_comes_back_under_its_number_where_something_stands_in_it(tmp_path):
    manifest = read(tmp_path, "key,,prompt,,\na,,lamp,,\nb,x,vase,,\n")

    told = [dict(row.cells) for row in manifest.rows()]

    assert told == [{"key": "a", "prompt": "lamp"}, {"key": "b", "column_2": "x", "prompt": "vase"}]
    assert manifest.columns == ("key", "column_2", "prompt")


def test_columns_that_share_a_name_come_back_under_different_ones(tmp_path):
    manifest = read(tmp_path, "prompt,Tag,Tag,Tag_2,Tag\nlamp,a,b,c,d\n")

    assert cells(tmp_path, "prompt,Tag,Tag,Tag_2,Tag\nlamp,a,b,c,d\n") == [
        {"prompt": "lamp", "Tag": "a", "Tag_2_": "b", "Tag_2": "c", "Tag_3": "d"}
    ]
    assert manifest.columns == ("prompt", "Tag", "Tag_2_", "Tag_2", "Tag_3")


@pytest.mark.parametrize(
    "name",
    [
        "\ufeffImage Src",
        "\u00ef\u00bb\u00bfImage Src",
        " Image Src\t",
        "Image\u00a0Src",
        "Image\u200b Src\u200d",
        '"Image\r\nSrc"',
        "Image  Src\u00ad",
    ],
)
def test_what_nobody_sees_of_a_name_does_not_matter(tmp_path, name):
    assert cells(tmp_path, f"key,{name}\na, x \n") == [{"key": "a", "Image Src": " x "}]


def test_letters_of_a_name_that_are_composed_or_not_are_the_same(tmp_path):
    assert read(tmp_path, "key,Gro\u0308\u00dfe\n").columns == ("key", "Gr\u00f6\u00dfe")


def test_a_byte_order_mark_below_a_blank_line_is_no_part_of_the_name(tmp_path):
    assert cells(tmp_path, b"\n\t\xef\xbb\xbfID,Name\n1,oak\n") == [{"ID": "1", "Name": "oak"}]


# -- delimiter and header ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n", "sep=;;;\n", "\ufeffsep=;\n"])
def test_excels_own_first_line_names_the_delimiter(tmp_path, first):
    text = f"{first}key;a,b,c\r\n1;x\r\n"

    assert cells(tmp_path, text) == [{"key": "1", "a,b,c": "x"}]
    assert [row.line for row in read(tmp_path, text).rows()] == [3]


def test_pipes_inside_cells_do_not_make_a_delimiter(tmp_path):
    text = "Name,Sizes S|M|L|XL\nlamp,S|M\nvase,\n"

    assert read(tmp_path, text).looks == "comma, UTF-8"


def test_a_column_that_the_user_names_decides_the_delimiter(tmp_path):
    assert read(tmp_path, "a|b,c|d,e\n", names=frozenset({"b,c"})).delimiter == "|"


TITLED = '"PRICE LIST";;\n;;\nCODE;;NAME\n001;;oak table\n'


def test_a_header_below_title_rows_is_found_by_the_names_that_the_user_says(tmp_path):
    manifest = read(tmp_path, TITLED, names=frozenset({"CODE", "NAME"}))

    assert manifest.looks == "semicolon, header on line 3, UTF-8"
    assert [(row.line, dict(row.cells)) for row in manifest.rows()] == [(4, {"CODE": "001", "NAME": "oak table"})]


def test_a_header_below_title_rows_may_be_named_by_its_line(tmp_path):
    manifest = read(tmp_path, TITLED, header_row=3)

    assert manifest.columns == ("CODE", "NAME")
    assert manifest.looks == "semicolon, header on line 3, UTF-8"


@pytest.mark.parametrize(
    "above", ["Export 2026\n\n", "Export, of shop, 2026\n", '"Export\nof shop",,\n', "Supplier,ACME\nDate,2026\n"]
)
def test_titles_of_any_form_stand_above_a_header(tmp_path, above):
    text = f"{above}key,prompt\na,lamp\n"

    assert cells(tmp_path, text, names=frozenset({"prompt"})) == [{"key": "a", "prompt": "lamp"}]


def test_a_cell_of_a_row_that_reads_like_a_column_makes_no_header(tmp_path):
    text = "Handle,Title,Option\nlamp,Lamp,prompt\n"

    assert read(tmp_path, text, names=frozenset({"prompt"})).columns == ("Handle", "Title", "Option")


def test_prompts_with_commas_under_one_name_are_whole(tmp_path):
    assert cells(tmp_path, "prompt\na lamp, red\na vase\n") == [{"prompt": "a lamp, red"}, {"prompt": "a vase"}]


def test_blanks_behind_delimiters_do_not_hide_quotes(tmp_path):
    assert rows(tmp_path, 'key, prompt\n1, "a lamp, oak"\n2, "vase"\n') == [["1", "a lamp, oak"], ["2", "vase"]]
    assert rows(tmp_path, "key, prompt\n1, lamp\n") == [["1", " lamp"]]


def test_of_files_that_were_put_together_the_second_header_is_no_row(tmp_path):
    told = rows(tmp_path, "\ufeffkey,prompt\na,x\n\ufeffkey,prompt\n\ufeffb,y\n")

    assert told == [["a", "x"], (3, "the header stands here again"), ["b", "y"]]


@pytest.mark.parametrize("end", ["\x1a", "\0" * 60, "\0" * 60 + "\n"])
def test_what_a_full_disk_or_dos_leaves_at_the_end_is_no_row(tmp_path, end):
    assert rows(tmp_path, f"key,prompt\na,x\n{end}") == [["a", "x"]]


def test_a_first_row_is_the_header_where_nothing_says_otherwise(tmp_path):
    assert read(tmp_path, "Option,Value\nprompt,x\n").columns == ("Option", "Value")
    assert read(tmp_path, "prompt,Title,x\nTitle,Color,\n", names=frozenset({"prompt", "Title"})).columns[0] == "prompt"


@pytest.mark.parametrize("row", [None, 1, 2])
def test_excels_own_first_line_is_never_the_header(tmp_path, row):
    assert read(tmp_path, "sep=;\nkey;prompt\na;b\n", header_row=row).columns == ("key", "prompt")


def test_a_file_in_which_nothing_stands_is_empty(tmp_path):
    assert "is empty" in refused(tmp_path, ";;;\n;;;\n")


def test_a_header_row_beyond_the_file_is_refused(tmp_path):
    assert "m.csv has no line 9" in refused(tmp_path, TITLED, header_row=9)


# -- encodings -----------------------------------------------------------------------------------------------------

STOOLS = "ID\tName\r\n1\tStühle\r\n"


def test_the_encoding_of_last_week_does_not_spoil_a_file_that_was_saved_as_utf_8_since(tmp_path):
    content = "\ufeffkey;prompt\n1;Stehleuchte weiß\n".encode()

    assert cells(tmp_path, content, encoding="cp1252") == [{"key": "1", "prompt": "Stehleuchte weiß"}]
    assert "UTF-8" in read(tmp_path, content, encoding="cp1252").looks


@pytest.mark.parametrize("asked", [None, "utf-8", "utf-16", "utf-16le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("written", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_a_byte_order_mark_is_believed(tmp_path, written, asked):
    content = ("\ufeff" + STOOLS).encode(written)

    assert cells(tmp_path, content, encoding=asked) == [{"ID": "1", "Name": "Stühle"}]


def test_an_encoding_that_is_asked_for_is_used_in_spite_of_the_mark_of_utf_8(tmp_path):
    assert cells(tmp_path, b"\xef\xbb\xbfName,a\nSt\xfchle,\n", encoding="cp1252") == [{"Name": "Stühle", "a": ""}]


@pytest.mark.parametrize("asked", ["utf-16", "utf-16-le"])
def test_utf_16_without_a_mark_is_read_when_it_is_asked_for(tmp_path, asked):
    assert cells(tmp_path, STOOLS.encode("utf-16-le"), encoding=asked) == [{"ID": "1", "Name": "Stühle"}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"id,Name\n1,TAMA\xd1O grande\n", "line 2, character 7: byte 0xd1 is not UTF-8. As cp1252"),
        (b"id,Name\r\r1,TAMA\xd1O grande\r", "line 3, character 7: byte 0xd1 is not UTF-8. As cp1252"),
        (b"id,Name\n" + b"1,ok\n" * 30_000 + b"2,caf\xe9\n", "line 30002, character 6: byte 0xe9 is not UTF-8."),
        (b"id,Name\n1,TAMA\xd1O\n", 'here as "1,TAMAÑO": --encoding cp1252'),
        ("id,Name\n1,オーク材のテーブル\n".encode("cp932"), "--encoding cp932"),
        ("id,Name\n1,Стол дубовый\n2,Лампа настольная\n".encode("cp1251"), "--encoding cp1251"),
        ("id,Name\n1,Krzesło dębowe\n2,Łóżko żółte\n".encode("cp1250"), "--encoding cp1250"),
        ("1,Größe\n2,Stühle\n3,St".encode() + b"\xfchle\n", "line 3, character 5: byte 0xfc is not UTF-8. Most of"),
    ],
)  # fmt: skip
def test_a_wrong_byte_is_named_with_an_encoding_that_reads_the_file(tmp_path, content, says):
    assert says in refused(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("编号,名称\n1,橡木桌子\n".encode("utf-16-le"), "--encoding utf-16-le"),
        ("编号,名称\n1,橡木桌子\n".encode("utf-16-be"), "--encoding utf-16-be"),
        ("\ufeffid,Name\n1,oak\n".encode("utf-16-le")[:-1], "byte 0x0a is not UTF-16. Perhaps the file breaks off"),
        (b"\x7fELF\0\0\1\xff\0\n\0\0\xe8" * 9, "It looks like no text at all"),
    ],
)  # fmt: skip
def test_bytes_with_nuls_are_utf_16_or_no_text(tmp_path, content, says):
    assert says in refused(tmp_path, content)


def test_an_encoding_that_cannot_read_all_of_the_file_is_not_proposed(tmp_path):
    told = refused(tmp_path, b"id,Name\n1,TAMA\xd1O\n" + b"2,ok\n" * 20_000 + b"3,\x81\x8d\x8f\x90\x9d\n")

    assert "byte 0xd1" in told
    assert "--encoding cp1252" not in told.partition("Export")[0]


def test_a_wrong_byte_in_an_encoding_that_was_asked_for_is_named(tmp_path):
    told = refused(tmp_path, "id,Name\n1,Stühle\n".encode(), encoding="ascii")

    assert "line 2, character 5: byte 0xc3 is not ascii" in told


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        (
            'key\tprompt\t\nA\t"a red shoe\non a table"\tcheck with Bob\nB\ta lamp\t\n',
            ["a red shoe\non a table", "a lamp"],
        ),
        ('prompt\t\n"a blue shoe\non a table"\t\n', ["a blue shoe\non a table"]),
        ('key\tprompt\nk1\t"\n\t x yb"\n', ["\n\t x yb"]),
        ('key\tprompt\nk1\t"a cow\nk2\ta dog"\nk3\ta cat\n', ['"a cow', 'a dog"', "a cat"]),
    ],
)
def test_a_prompt_of_several_lines_between_tabs_is_one_and_two_rows_with_stray_quotes_are_two(
    tmp_path, content, prompts
):
    assert [row["prompt"] for row in cells(tmp_path, content)] == prompts


def test_a_column_of_one_cell_in_quotes_keeps_its_lines(tmp_path):
    assert cells(tmp_path, 'prompt\n"a blue shoe\non a table"\n', delimiter="tab") == [
        {"prompt": "a blue shoe\non a table"}
    ]
