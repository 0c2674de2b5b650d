"""One prompt a line, without a header."""

from __future__ import annotations

import gzip

import pytest

from jobs.errors import BadInput
from jobs.manifest.columns import header_hints
from jobs.manifest.reader import ReadOptions, open_manifest
from tests.support.planned_rows import manifest_of, plan, refused

LINES = 'A red cow in a field\n\nA blue dog, running\r\n  "quoted" cat \n'


def read(tmp_path, content, name="m.txt", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_manifest(path, name=name, options=ReadOptions(**{"text": True, **options}))


@pytest.mark.parametrize("content", [LINES, b"\xef\xbb\xbf" + LINES.encode(), gzip.compress(LINES.encode(), mtime=0)])
def test_each_line_that_is_not_blank_is_a_prompt_as_it_stands(tmp_path, content):
    manifest = read(tmp_path, content)

    assert manifest.looks == "a prompt a line, UTF-8"
    assert manifest.columns == ("prompt",)
    assert [(raw.position, raw.line, raw.cells["prompt"]) for raw in manifest.rows()] == [
        (0, 1, "A red cow in a field"), (1, 3, "A blue dog, running"), (2, 4, '"quoted" cat'),
    ]  # fmt: skip


def test_a_line_that_begins_like_json_is_a_prompt_too(tmp_path):
    assert [raw.cells["prompt"] for raw in read(tmp_path, "[a] cow\n{b} dog\n").rows()] == ["[a] cow", "{b} dog"]


def test_other_encodings(tmp_path):
    assert [raw.cells["prompt"] for raw in read(tmp_path, "Stühle\n".encode("cp1252"), encoding="cp1252").rows()] == [
        "Stühle"
    ]


def test_a_text_has_no_delimiter_and_no_header(tmp_path):
    with pytest.raises(BadInput, match="--delimiter is not possible here: --text has no columns"):
        read(tmp_path, LINES, delimiter=";")
    with pytest.raises(BadInput, match="--header-row is not possible here"):
        read(tmp_path, LINES, header_row=2)


# -- a text that is given without the option -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.txt", "A red cow in a field\nA blue dog\n"),
        ("m.txt", "A red cow, in a field, at noon\nA blue dog, running, at night\n"),
        ("m.csv", "A red cow in a field\nA blue dog\n"),
    ],
)
def test_a_file_without_a_header_is_refused_with_the_option_that_keeps_its_first_line(tmp_path, name, content):
    assert "each line a prompt, the first one too? Then --text reads it so" in refused(tmp_path, content, name=name)


def test_a_table_of_several_columns_is_not_taken_for_a_text(tmp_path):
    assert "--text" not in refused(tmp_path, "Title,Color\nLamp,red\n")


def test_a_first_line_that_is_used_as_the_header_and_reads_like_a_prompt_is_told(tmp_path):
    manifest = manifest_of(tmp_path, "A red cow in a field\nA blue dog\n")

    (hint,) = header_hints(manifest, {"prompt": "A red cow in a field"})

    assert 'no picture is made of "A red cow in a field"' in hint
    assert "--text" in hint
    assert not list(header_hints(manifest, {"prompt": "prompt"}))


def test_a_text_with_the_header_prompt_is_a_table_of_whole_lines(tmp_path):
    planned = plan(tmp_path, "prompt\nA cow, in a field\nA dog\n", name="m.txt")

    assert [each.row.request.prompt for each in planned] == ["A cow, in a field", "A dog"]
