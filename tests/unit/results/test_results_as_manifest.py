"""A results file is the next manifest: the same rows with the same requests, so that nothing is paid again."""

from __future__ import annotations

import io
from functools import partial

import orjson
import pytest

from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.planner import PlanOptions, prepare
from jobs.results.rows import choose_columns
from jobs.results.spreadsheet import write_xlsx
from jobs.results.writers import with_own_types, write_csv, write_jsonl, write_parquet
from providers.catalog.models import Catalog
from tests.support.planned_rows import EVERYONE

CSV = (
    'key;prompt;ean;note;n\n007;"=a ""cow"", red";4006381333931;"two\nlines";2\n'
    "b-2; a dog _x0041_ ;0012;-3;\nc;1e5;+1;@x;1.0\n"
)
JSON = [
    {"key": 7, "prompt": "a cow\r\nat night", "n": 2, "tags": ["a", 1], "deep": {"x": 1.5}, "ean": 123456789012345678},
    {"key": "b", "prompt": "=1+1\x0b", "image_urls": ["https://a.example/1.png"], "ok": True, "deep": None},
    {"key": 2.0, "prompt": "true blue", "options": {"background": "opaque"}},
]
EXCEL = partial(write_csv, delimiter=";", mark=True)
FORMATS = {"xlsx": write_xlsx, "csv": EXCEL, "parquet": write_parquet, "jsonl": write_jsonl}


def planned(path):
    manifest = open_manifest(path, name=path.name, options=ReadOptions())
    planner = prepare(manifest, PlanOptions(batch="b", configured=EVERYONE), Catalog.load())
    return manifest, [planner.plan(raw).row for raw in manifest.rows()]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    ("name", "content"),
    [("m.csv", CSV.encode()), ("m.jsonl", b"\n".join(map(orjson.dumps, JSON))), ("m.json", orjson.dumps(JSON))],
)
def test_results_read_as_a_manifest_are_the_same_rows(tmp_path, ending, name, content):
    (tmp_path / name).write_bytes(content)
    manifest, before = planned(tmp_path / name)
    lines = [
        orjson.loads(row.carried) | {"lf_key": row.key, "lf_status": "done", "lf_urls": ["s3://x"]} for row in before
    ]
    file = io.BytesIO()

    columns = choose_columns(None, manifest.columns)
    FORMATS[ending](file, with_own_types(columns, lines) if ending == "parquet" else columns, lines)
    (tmp_path / f"results.{ending}").write_bytes(file.getvalue())
    _, after = planned(tmp_path / f"results.{ending}")

    assert len(before) == 3
    assert [row.request_hash for row in before if row.request_hash is None] == []
    assert [(row.key, row.request_hash) for row in after] == [(row.key, row.request_hash) for row in before]
