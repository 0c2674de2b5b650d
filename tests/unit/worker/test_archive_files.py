"""Files of an archive: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.ledger.pruning.values import ColumnKind, Table
from worker.archives.files import INDEX, Index, PartWriter, is_as_written, rows_of

COLUMNS = {
    "job_id": ColumnKind.INTEGER,
    "said": ColumnKind.TEXT,
    "at": ColumnKind.NUMBER,
    "kept": ColumnKind.TRUTH,
    "raw": ColumnKind.BYTES,
}
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "job_id": st.integers(0, 2**62),
            "said": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            "at": st.none() | st.floats(allow_nan=False),
            "kept": st.none() | st.booleans(),
            "raw": st.none() | st.binary(),
        }
    ),
    max_size=20,
)


def file_of(pages):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events-000.parquet"
        writer = PartWriter(path, Table.EVENTS, COLUMNS)
        for page in pages:
            writer.add(page)
        return writer.close(), path.read_bytes()


@given(pages=st.lists(ROWS, max_size=3))
def test_what_goes_in_comes_out(pages):
    rows = [row for page in pages for row in page]

    part, data = file_of(pages)

    assert list(rows_of(data)) == rows
    assert is_as_written(data, part, COLUMNS)
    assert part.rows == len(rows)
    if rows:
        assert list(rows_of(data, rows[0]["job_id"])) == [row for row in rows if row["job_id"] == rows[0]["job_id"]]
        assert (part.first_job, part.last_job) == (min(r["job_id"] for r in rows), max(r["job_id"] for r in rows))


def test_a_file_with_other_rows_than_the_ledgers_is_not_believed():
    row = {"job_id": 1, "said": "a", "at": 1.0, "kept": True, "raw": b"x"}
    part, data = file_of([[row]])
    other, _ = file_of([[row | {"said": "b"}]])

    assert not is_as_written(data, dataclasses.replace(part, content=other.content), COLUMNS)
    assert not is_as_written(data, dataclasses.replace(part, sha256=other.sha256), COLUMNS)


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"format": 2}', b'{"format": 1, "batch": "x"}'])
def test_a_list_of_files_that_is_none_is_not_believed(text):
    with pytest.raises(ValueError, match=r".+"):
        Index.from_json(text)


def test_the_list_of_files_says_what_it_was_told():
    part, _ = file_of([[]])
    index = Index(batch="shop", ledger="1f", written_at="2026-11-26T03:00:00Z", parts=(part,))

    assert Index.from_json(index.to_json()) == index
    assert INDEX == "archive.json"
