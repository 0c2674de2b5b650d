"""The rows that a survey has planned, kept in a temporary file until they are recorded."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Self

from jobs.errors import LightfastError
from jobs.ledger.batches.plain_rows import PlainRows
from jobs.ledger.batches.values import Row
from jobs.ledger.database.many import TOGETHER


class PlannedRows:
    """Rows in their order, as the ledger keeps them. With `with`: at its end they are gone.

    The file lies in the folder for temporary files (`TMPDIR`) and has no name: however the process ends, nothing of it
    stays. Only this process writes and reads it, so what is unpickled are its own values.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._chunks = 0
        self._whole = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    @property
    def are_whole(self) -> bool:
        """Whether every row of the last pass is here. Not where the disk took no more: then each is planned again."""
        return self._whole

    def begin(self) -> None:
        """Those of another pass follow; what is here is let go of."""
        self._drop()
        with contextlib.suppress(OSError):
            self._file = tempfile.TemporaryFile(prefix="lightfast-")  # noqa: SIM115  open until the rows are on record

    def add(self, rows: Sequence[Row]) -> None:
        """The next ones."""
        if self._file is None:
            return
        try:
            for start in range(0, len(rows), TOGETHER):
                chunk = PlainRows.of(rows[start : start + TOGETHER])
                pickle.dump((chunk.count, chunk.columns), self._file, pickle.HIGHEST_PROTOCOL)
                self._chunks += 1
        except OSError:
            self._drop()

    def end(self) -> None:
        """The pass is over."""
        if self._file is None:
            return
        try:
            self._file.flush()
        except OSError:
            self._drop()
        else:
            self._whole = True

    def __iter__(self) -> Iterator[PlainRows]:
        """All of them, as often as they are asked for; some at once.

        Raises:
            LightfastError: The file cannot be read.
        """
        if self._file is None or not self._whole:
            raise LightfastError("The rows that were planned are not kept.")
        try:
            self._file.seek(0)
            for _ in range(self._chunks):
                yield PlainRows(*pickle.load(self._file))  # noqa: S301  our own, of a file that nobody else can open
        except (OSError, EOFError, pickle.UnpicklingError) as trouble:
            raise LightfastError(
                f"A temporary file in {tempfile.gettempdir()} cannot be read again: {trouble}. Nothing was recorded; "
                "run again. TMPDIR names another folder."
            ) from trouble

    def _drop(self) -> None:
        file, self._file, self._chunks, self._whole = self._file, None, 0, False
        if file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take is tried once more here
                file.close()
