"""The folder of this machine that an export writes in first. What a killed one left in it is found and removed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "lightfast-export-"
#: Its process holds a lock on this file in it. A folder without such a file is just being made.
_LOCK = "lock"


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A folder of its own below TMPDIR, gone at the end. Those of dead processes are removed before."""
    _remove_left_ones()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        draft = Path(name) / "draft"
        with draft.open("wb") as file:
            with contextlib.suppress(OSError):  # a file system without locks: then nothing of it is removed either
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(draft.with_name(_LOCK))
            yield Path(name)


def _remove_left_ones() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("rb") as file:  # held; another user's; gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
