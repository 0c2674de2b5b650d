"""The files of an archive: Parquet of a bounded number of rows each, and the list of them that makes it whole."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from jobs.errors import LightfastError
from jobs.ledger.pruning.values import ColumnKind, Table

#: Written last: an archive without it is none.
INDEX = "archive.json"
FORMAT = 1
#: Rows that are turned into Python's values at once.
_AT_ONCE = 1_000
#: Rows of a row group: large enough to compress well.
_ROW_GROUP = 10_000
CONTENT_TYPE = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file."""

    name: str
    table: Table
    rows: int
    bytes: int
    sha256: str  # of the file
    content: str  # of its rows, one after the other: what was read from the ledger is what is in it
    first_job: int  # the smallest and the greatest number of its jobs
    last_job: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What an archive consists of."""

    batch: str
    ledger: str  # its id
    written_at: str
    parts: tuple[Part, ...]  # of each table in the order in which they are read

    def of(self, table: Table) -> Iterator[Part]:
        """The files of one table."""
        return (part for part in self.parts if part.table is table)

    def to_json(self) -> bytes:
        """As it is written."""
        return orjson.dumps({"format": FORMAT, **asdict(self)}, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, text: bytes) -> Index:
        """The inverse.

        Raises:
            ValueError: It is no such list, or one of a newer format.
        """
        values = orjson.loads(text)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError("it is of another format")
        try:
            parts = tuple(Part(**{**each, "table": Table(each["table"])}) for each in values.pop("parts"))
            return cls(**values, parts=parts)
        except (TypeError, KeyError) as wrong:
            raise ValueError(f"it is not as it was written: {wrong}") from None


def demand_pyarrow() -> tuple[Any, Any]:
    """The library for Parquet.

    Raises:
        LightfastError: It is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  large, and optional
        from pyarrow import parquet  # noqa: PLC0415  the same
    except ImportError as error:
        raise LightfastError(
            "archives of batches are Parquet, which needs pyarrow, and it is not installed:  pip install pyarrow"
        ) from error
    return pa, parquet


class PartWriter:
    """Writes the rows of one file as they come."""

    def __init__(self, path: Path, table: Table, columns: Mapping[str, ColumnKind]) -> None:
        self._arrow, parquet = demand_pyarrow()
        self._table, self._path = table, path
        self._schema = self._arrow.schema([(name, _type(self._arrow, kind)) for name, kind in columns.items()])
        self._file = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._content = Content(columns)
        self._jobs: list[int] = []
        self._pending: list[Any] = []

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._content.rows

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Adds rows."""
        if rows:
            self._content.add(rows)
            numbers = [row["id" if self._table is Table.ROWS else "job_id"] for row in rows]
            self._jobs = [min([*self._jobs[:1], *numbers]), max([*self._jobs[1:], *numbers])]
            self._pending.append(self._arrow.Table.from_pylist(rows, schema=self._schema))
            if sum(each.num_rows for each in self._pending) >= _ROW_GROUP:
                self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._file.write_table(self._arrow.concat_tables(self._pending))
            self._pending.clear()

    def close(self) -> Part:
        """Ends the file; what is to be said of it."""
        self._flush()
        self._file.close()
        with self._path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        first, last = self._jobs or (0, 0)
        return Part(
            name=self._path.name,
            table=self._table,
            rows=self.rows,
            bytes=self._path.stat().st_size,
            sha256=sha256,
            content=self._content.sha256,
            first_job=first,
            last_job=last,
        )


class Content:
    """The hash of rows, whatever file they stand in."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._columns, self._digest = tuple(columns), hashlib.sha256()
        self.rows = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """The next rows."""
        for row in rows:
            self._digest.update(repr([row[name] for name in self._columns]).encode("utf-8", "surrogatepass"))
            self.rows += 1

    @property
    def sha256(self) -> str:
        """Of all rows so far."""
        return self._digest.hexdigest()


def rows_of(data: bytes, job_id: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file; of one job, or all."""
    _, parquet = demand_pyarrow()
    file = parquet.ParquetFile(io.BytesIO(data))
    whose = "id" if "request_hash" in file.schema_arrow.names else "job_id"
    for batch in file.iter_batches(batch_size=_AT_ONCE):
        if job_id is None:
            yield from batch.to_pylist()
        elif job_id in batch.column(whose).to_pylist():
            yield from (row for row in batch.to_pylist() if row[whose] == job_id)


def is_as_written(data: bytes, part: Part, columns: Iterable[str]) -> bool:
    """Whether a file that was read back has the very rows that went into it."""
    if hashlib.sha256(data).hexdigest() != part.sha256:
        return False
    content = Content(columns)
    content.add(rows_of(data))
    return (content.rows, content.sha256) == (part.rows, part.content)


def _type(arrow: Any, kind: ColumnKind) -> Any:
    return {
        ColumnKind.TEXT: arrow.large_string(),
        ColumnKind.INTEGER: arrow.int64(),
        ColumnKind.NUMBER: arrow.float64(),
        ColumnKind.TRUTH: arrow.bool_(),
        ColumnKind.BYTES: arrow.large_binary(),
    }[kind]
