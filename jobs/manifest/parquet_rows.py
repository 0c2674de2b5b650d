"""The rows of a Parquet file, a few at a time: values keep their types, and bytes (images) are not read at all."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.errors import BadInput, LightfastError
from jobs.formatting import as_stands
from jobs.manifest.names import header_of
from jobs.manifest.packed import is_blown_up
from jobs.manifest.raw_rows import OWN_PREFIX, RawRow, as_text, bounded

#: Rows held at once.
_BATCH = 1_000
#: Rows whose bytes tell whether a column of bytes is text.
_LOOKED_AT = 100
#: Bytes of a column's values, in the middle, beyond which they are no texts of a manifest.
_LONG = 10_000
#: How Parquet names the elements of a list, which is no name of the user's.
_ELEMENTS = (".list.element", ".list.item", ".bag.array_element", ".array")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetShape:
    """What of a file is read; found by `parquet_shape`."""

    leaves: tuple[str, ...]  # Parquet's own paths of the columns that are read
    columns: Mapping[str, str]  # as they are named here, and in the file
    left_out: tuple[str, ...]  # columns of bytes
    repeated: Mapping[str, tuple[str, ...]]  # name that several columns share -> their own, in order


def parquet_shape(path: Path, name: str) -> ParquetShape:
    """Looks at the file's schema. `BadInput` where it is damaged or two columns share a name."""
    with _Opened(path, name) as file:
        columns = [file.schema.column(number) for number in range(len(file.schema.names))]
        tops = file.schema_arrow.names
        if repeated := [each for each, times in Counter(tops).items() if times > 1]:
            raise BadInput(f"{name}: column {', '.join(repeated)} is there more than once; each needs its own name.")
        bytes_ = [each.path for each in columns if _is_bytes(each) and not _holds_text(file, each.path)]
        leaves = [each.path for each in columns if each.path not in bytes_ and not each.path.startswith(OWN_PREFIX)]
        _demand_bounded(file, leaves, name)
    own = [each for each in tops if any(leaf == each or leaf.startswith(f"{each}.") for leaf in leaves)]
    header = header_of(own)
    return ParquetShape(
        leaves=tuple(leaves),
        columns=dict(zip(header.names, own, strict=True)),
        repeated=header.repeated,
        left_out=tuple(dict.fromkeys(map(_as_named, bytes_))),
    )


def parquet_rows(path: Path, name: str, shape: ParquetShape) -> Iterator[RawRow]:
    """One pass over the file."""
    position = 0
    with _Opened(path, name) as file:
        for batch in file.iter_batches(batch_size=_BATCH, columns=list(shape.leaves), use_threads=False):
            values = {name: _values(batch.column(own)) for name, own in shape.columns.items()}
            for row in zip(*values.values(), strict=True):
                own = dict(zip(values, row, strict=True))
                cells = {each: value if type(value) is str else as_text(value) for each, value in own.items()}
                yield bounded(RawRow(position, position + 1, cells, cells, typed=own))
                position += 1


class _Opened:
    """A Parquet file while it is read; what is wrong with it is a `BadInput`."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    def __enter__(self) -> Any:
        try:
            from pyarrow import parquet  # noqa: PLC0415  large, and optional
        except ImportError as error:
            message = f"{self._name} is a Parquet file: reading it needs pyarrow.  pip install pyarrow"
            raise LightfastError(message) from error
        try:
            self._file = parquet.ParquetFile(self._path, coerce_int96_timestamp_unit="us", pre_buffer=False)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error
        return self._file

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._file.close()
        if isinstance(error, OSError | ValueError) and type(error).__module__.startswith("pyarrow"):
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> BadInput:
        return BadInput(f"{self._name} is a damaged Parquet file: {str(error).splitlines()[0]}")


def _is_bytes(column: Any) -> bool:
    return column.physical_type in {"BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"} and column.logical_type.type == "NONE"


def _holds_text(file: Any, leaf: str) -> bool:
    """Whether bytes are text, which older writers (Hive, Impala) do not say."""
    if "." in leaf or any(each.total_uncompressed_size > _LONG * each.num_values for each in _chunks(file, leaf)):
        return False
    batch = next(file.iter_batches(batch_size=_LOOKED_AT, columns=[leaf], use_threads=False), None)
    found = [value for value in (batch.column(0).to_pylist() if batch else []) if value]
    try:
        return bool(found) and "\0" not in "".join(value.decode() for value in found)
    except UnicodeDecodeError:
        return False


def _demand_bounded(file: Any, leaves: Sequence[str], name: str) -> None:
    """Raises `BadInput` where values that are read would take all memory."""
    for leaf in leaves:
        for each in _chunks(file, leaf):
            packed, unpacked = each.total_compressed_size, each.total_uncompressed_size
            if is_blown_up(packed, unpacked) and unpacked > _LONG * each.num_values:
                raise BadInput(
                    f"{name} is no table of texts: its column {_as_named(leaf)} unpacks from {packed:,} to "
                    f"{unpacked:,} bytes, and is not read."
                )


def _chunks(file: Any, leaf: str) -> Iterator[Any]:
    """The column as it stands in each group of rows."""
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        chunks = map(group.column, range(group.num_columns))
        yield from (each for each in chunks if each.path_in_schema == leaf)


def _as_named(leaf: str) -> str:
    for elements in _ELEMENTS:
        leaf = leaf.replace(elements, "")
    return leaf


# -- values --------------------------------------------------------------------------------------------------------


def _values(column: Any) -> list[object]:
    try:
        found = column.to_pylist()
    except ValueError:  # nanoseconds, which Python's own times do not have
        import pyarrow as pa  # noqa: PLC0415  large, and optional

        found = column.cast(pa.string()).to_pylist()
    return [value if type(value) in (str, int, bool) else _as_json(value) for value in found]


def _as_json(value: object) -> object:
    """A value as JSON can hold it. Times as ISO 8601 has them, exact decimals as text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, dict):
        return {str(name): _as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return _pairs(value) if _is_map(value) else [_as_json(each) for each in value]
    return _OTHERS.get(type(value), str)(value)


def _is_map(value: list[Any] | tuple[Any, ...]) -> bool:
    return bool(value) and all(isinstance(each, tuple) and isinstance(each[0], str) for each in value)


def _pairs(value: Any) -> dict[str, object]:
    return {name: _as_json(each) for name, each in value}


_OTHERS: dict[type, Callable[[Any], str]] = {
    bytes: lambda value: value.decode("utf-8", "replace"),
    dt.datetime: as_stands,
    dt.date: as_stands,
    dt.time: as_stands,
}
