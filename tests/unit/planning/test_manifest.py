from __future__ import annotations

import csv
import gzip
import io
import string

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jobs.errors import BadInput
from jobs.manifest.columns import near_misses
from jobs.manifest.names import clean_name
from jobs.manifest.reader import ReadOptions, open_manifest


def write(tmp_path, content, name="m.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, **options):
    return open_manifest(path, name=path.name, options=ReadOptions(**options))


def cells(path, **options):
    return [dict(raw.cells) for raw in read(path, **options).rows()]


def problem(path, **options):
    with pytest.raises(BadInput) as caught:
        list(read(path, **options).rows())
    return str(caught.value)


# -- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delimiter", "looks"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "pipe")])
def test_the_delimiter_is_found_from_the_header(tmp_path, delimiter, looks):
    path = write(tmp_path, f"prompt{delimiter}Price\na lamp{delimiter}9\n")

    assert read(path).looks == f"{looks}, UTF-8"
    assert cells(path) == [{"prompt": "a lamp", "Price": "9"}]


def test_a_known_column_outweighs_commas_in_a_header(tmp_path):
    path = write(tmp_path, "prompt;Title, long, in English\na;b\n")

    assert read(path).columns == ("prompt", "Title, long, in English")


def test_an_asked_delimiter_wins(tmp_path):
    assert cells(write(tmp_path, "prompt|a,b\nx|y\n"), delimiter="|") == [{"prompt": "x", "a,b": "y"}]


def test_bom_crlf_quoted_newlines_and_blank_lines(tmp_path):
    path = write(tmp_path, b'\xef\xbb\xbfprompt,note\r\n\r\n"two\r\nlines","say ""hi"""\r\n\r\nnext,\r\n')

    rows = list(read(path).rows())

    assert [dict(row.cells) for row in rows] == [
        {"prompt": "two\r\nlines", "note": 'say "hi"'},
        {"prompt": "next", "note": ""},
    ]
    assert [(row.position, row.line) for row in rows] == [(0, 3), (1, 6)]


def test_other_encodings(tmp_path):
    assert cells(write(tmp_path, "prompt\nStühle\n".encode("cp1252")), encoding="cp1252") == [{"prompt": "Stühle"}]
    assert cells(write(tmp_path, "prompt\nStühle\n".encode("utf-16")), encoding="utf-16") == [{"prompt": "Stühle"}]


@pytest.mark.parametrize("name", ["m.csv.gz", "download"])
def test_gzip_is_known_by_its_bytes(tmp_path, name):
    assert cells(write(tmp_path, gzip.compress(b"prompt\na\n"), name)) == [{"prompt": "a"}]


def test_jsonl_keeps_what_is_no_text_as_json(tmp_path):
    path = write(tmp_path, '{"prompt": "a", "n": 2, "tags": ["x", 1], "gone": null}\n\n{"prompt": "b", "late": true}\n')
    manifest = read(path)

    rows = list(manifest.rows())

    assert manifest.format == "json"
    assert [row.line for row in rows] == [1, 3]
    assert rows[0].cells == {"prompt": "a", "n": "2", "tags": '["x",1]', "gone": ""}
    assert manifest.columns == ("prompt", "n", "tags", "gone", "late")


def test_columns_that_come_late_in_jsonl_are_known_after_a_pass(tmp_path):
    lines = [b'{"prompt": "a"}'] * 1500 + [b'{"prompt": "a", "late": 1}']
    manifest = read(write(tmp_path, b"\n".join(lines), "m.jsonl"))

    before = manifest.columns
    list(manifest.rows())

    assert (before, manifest.columns) == (("prompt",), ("prompt", "late"))


def test_openai_batch_lines_carry_their_own_fields_and_are_read_by_their_body(tmp_path):
    body = {
        "model": "gpt-image-2", "prompt": "a lamp", "n": 2, "size": "auto", "background": "opaque",
        "response_format": "b64_json", "images": [{"image_url": "https://a.example/1.png"}],
    }  # fmt: skip
    line = {"custom_id": "r-1", "method": "POST", "url": "/v1/images/generations", "body": body}
    manifest = read(write(tmp_path, orjson.dumps(line), "batch.jsonl"))

    (row,) = manifest.rows()

    assert manifest.format == "openai-jsonl"
    assert manifest.columns == ("custom_id", "method", "url", "body")
    assert orjson.loads(row.cells["body"]) == body
    assert {name: row.fields[name] for name in row.fields if name not in line} == {
        "model": "gpt-image-2", "prompt": "a lamp", "n": "2", "image_urls": '["https://a.example/1.png"]',
        "options": '{"background":"opaque"}', "key": "r-1",
    }  # fmt: skip


def test_a_results_file_is_read_without_our_columns(tmp_path):
    path = write(tmp_path, 'key,lf_status,prompt,lf_urls\na,done,p,"[""x""]"\n')

    assert read(path).columns == ("key", "prompt")
    assert cells(path) == [{"key": "a", "prompt": "p"}]


def test_a_ragged_row_is_that_rows_fault_alone(tmp_path):
    rows = list(read(write(tmp_path, "prompt,a\np,1,2\nq\nr,3\n")).rows())

    assert [row.fault and row.fault.what for row in rows] == [
        "3 cells where the header has 2; a cell that holds the delimiter must stand in quotes",
        "1 cell where the header has 2",
        None,
    ]


def test_a_manifest_is_read_again_and_again(tmp_path):
    manifest = read(write(tmp_path, "prompt\na\nb\n"))

    assert list(manifest.rows()) == list(manifest.rows())


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ["m.csv is empty"]),
        (b"\xef\xbb\xbf\n \n", ["m.csv is empty"]),
        (b"prompt\nok\nSt\xfchle\n", ["line 3", "0xfc is not UTF-8", "--encoding cp1252"]),
        (b"prompt\n" + b"\n".join([b"ok"] * 40_000) + b"\n\xff\n", ["line 40002", "0xff"]),
        ("prompt\nok\n".encode("utf-16-le"), ["UTF-16-LE without a byte order mark", "--encoding utf-16-le"]),
        ("prompt\nok\n".encode("utf-16-be"), ["UTF-16-BE without a byte order mark", "--encoding utf-16-be"]),
        (b"PK\x03\x04....", [".xlsx", "damaged"]),
        (gzip.compress(b"prompt\na\n" * 1000, mtime=0)[:-20], ["damaged gzip"]),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', ["line 2", "0xff is not UTF-8"]),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_line(tmp_path, content, says):
    message = problem(write(tmp_path, content))

    assert [part for part in says if part not in message] == [], message


def test_a_missing_file_and_a_folder(tmp_path):
    assert "no such file" in problem(tmp_path / "nowhere.csv")
    assert "is a folder" in problem(tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"encoding": "klingon"}, "klingon"),
        ({"encoding": "base64"}, "base64"),
        ({"encoding": "utf-8\0"}, "not known"),
        ({"delimiter": "ab"}, "one character"),
    ],
)
def test_bad_reading_options(tmp_path, options, says):
    assert says in problem(write(tmp_path, "prompt\na\n"), **options)


@pytest.mark.parametrize("encoding", ["utf-7", "UTF7", "unicode_escape", "raw-unicode-escape", "punycode", "idna"])
def test_what_makes_half_characters_of_a_file_is_no_encoding_of_it(tmp_path, encoding):
    assert "is not known" in problem(write(tmp_path, "prompt\n+2AA- \\ud800\n"), encoding=encoding)


def test_near_misses():
    legal = ["prompt", "image_urls", "ratio"]

    assert near_misses("promt", legal) == ["prompt"]
    assert near_misses("Image URLs", legal) == ["image_urls"]
    assert near_misses("Title", legal) == []


# -- properties ----------------------------------------------------------------------------------------------------

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.lists(
    TEXTS.filter(lambda name: clean_name(name) and not clean_name(name).startswith("lf_")),
    min_size=2,
    max_size=4,
    unique_by=clean_name,
)


@st.composite
def tables(draw):
    names = draw(NAMES)
    row = st.lists(TEXTS, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, max_size=5))


#: csv.writer ends lines with a bare newline only safely when it quotes everything: else it leaves "\r" in cells bare.
WRITING = st.fixed_dictionaries({"delimiter": st.sampled_from(",;\t|")}).flatmap(
    lambda chosen: st.sampled_from(
        [
            {**chosen, "quoting": csv.QUOTE_ALL, "lineterminator": "\n"},
            {**chosen, "quoting": csv.QUOTE_ALL, "lineterminator": "\r\n"},
            {**chosen, "quoting": csv.QUOTE_MINIMAL, "lineterminator": "\r\n"},
        ]
    )
)


@settings(max_examples=150, deadline=None)
@given(table=tables(), writing=WRITING, bom=st.booleans(), packed=st.booleans())
def test_any_table_a_csv_writer_writes_is_read_back(tmp_path_factory, table, writing, bom, packed):
    names, rows = table
    # Several lines that each have as many tabs as the header has are taken for rows.
    assume(writing["delimiter"] != "\t" or not any("\t" in cell for row in rows for cell in row))
    text = io.StringIO(newline="")
    csv.writer(text, **writing).writerows([["key of it", *names], *(["k", *row] for row in rows)])
    content = text.getvalue().encode("utf-8-sig" if bom else "utf-8")
    path = tmp_path_factory.mktemp("m") / "m.csv"
    path.write_bytes(gzip.compress(content, 1) if packed else content)

    manifest = read(path, delimiter=writing["delimiter"])

    assert manifest.columns == ("key of it", *map(clean_name, names))
    assert [list(raw.cells.values()) for raw in manifest.rows()] == [["k", *row] for row in rows]


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(st.text(string.ascii_letters + " _-", min_size=1, max_size=9), min_size=2, max_size=5, unique=True),
    delimiter=st.sampled_from(",;\t"),
)
def test_the_delimiter_of_any_plain_header_is_found(tmp_path_factory, names, delimiter):
    path = tmp_path_factory.mktemp("m") / "m.csv"
    path.write_text(delimiter.join(names) + "\n")

    assert read(path).delimiter == delimiter
