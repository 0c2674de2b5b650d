"""Shards of Parquet with the pictures in them, which `datasets` shows as pictures."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from jobs.export.records import RecordShape
from jobs.export.samples import ImageSample
from jobs.results.rows import Type
from jobs.results.writers import arrow_type, pyarrow_for

CONTENT_TYPE = "application/vnd.apache.parquet"
#: A row group ends with this many rows or bytes of pictures: a reader of one row reads its group.
_ROWS, _BYTES = 100, 32_000_000
_DTYPES = {
    Type.INTEGER: "int64", Type.OWN_INTEGER: "int64", Type.OWN_NUMBER: "float64", Type.OWN_TRUTH: "bool",
    Type.TIME: "timestamp[ms, tz=UTC]",
}  # fmt: skip


class ParquetShard:
    """One file. The same samples make the same bytes with the same release of pyarrow."""

    def __init__(self, path: Path, shape: RecordShape) -> None:
        arrow, parquet = pyarrow_for("--as parquet")
        picture = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        fields = [("image", picture), ("text", arrow.string())]
        fields += [(each.name, arrow_type(arrow, each.type)) for each in shape.columns]
        about = {"info": {"features": _features(shape)}}
        self._schema = arrow.schema(fields, metadata={"huggingface": orjson.dumps(about)})
        self._table = arrow.Table
        self._file = parquet.ParquetWriter(path, self._schema, use_dictionary=False)
        self._group: list[dict[str, object]] = []
        self._size = 0

    def add(self, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """One row: the picture, its caption and its record."""
        picture = {"bytes": data, "path": f"{sample.name}.{ending}"}
        self._group.append({"image": picture, "text": sample.caption, **record})
        self._size += len(data)
        if len(self._group) >= _ROWS or self._size >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._group:
            self._file.write_table(self._table.from_pylist(self._group, schema=self._schema))
        self._group, self._size = [], 0

    def close(self) -> None:
        """Ends the file."""
        self._flush()
        self._file.close()


def write_metadata(path: Path, shape: RecordShape, parts: Iterable[bytes]) -> None:
    """Records of an image folder, of lines of JSON, as a table whose columns have their types."""
    arrow, parquet = pyarrow_for("--as imagefolder")
    times = {each.name for each in shape.columns if each.source == "time" and each.name not in shape.own}
    types = {"file_name": Type.TEXT, "text": Type.TEXT}
    for each in shape.columns:  # flags are one text, as in lines of JSON
        types[each.name] = Type.TIME if each.name in times else Type.TEXT if each.type is Type.TEXTS else each.type
    schema = arrow.schema([(name, arrow_type(arrow, kind)) for name, kind in types.items()])
    with parquet.ParquetWriter(path, schema) as file:
        for lines in parts:
            records = [orjson.loads(line) for line in lines.splitlines()]
            for record in records:
                record.update({name: _as_time(record[name]) for name in times})
            file.write_table(arrow.Table.from_pylist(records, schema=schema))


def _as_time(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _features(shape: RecordShape) -> dict[str, Any]:
    """The columns as `datasets` names their types."""
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {"image": {"_type": "Image"}, "text": text}
    for each in shape.columns:
        value = {**text, "dtype": _DTYPES.get(each.type, "string")}
        features[each.name] = {"feature": value, "_type": "Sequence"} if each.type is Type.TEXTS else value
    return features
