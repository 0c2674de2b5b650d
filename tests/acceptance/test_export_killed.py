"""A real `lightfast export` that is killed in the middle, and run again."""

from __future__ import annotations

import json

from tests.support import command
from tests.support.patience import until
from tests.support.picture_ledger import open_pictures, row, store

ROWS = 120
WORDS = (
    "lightfast",
    "export",
    "b",
    "--as",
    "webdataset",
    "--quiet",
    "--shard-size",
    "1",
    "--split",
    "train=70,test=30",
)


def exported(folder, dest):
    return {
        path.relative_to(folder / dest).as_posix(): path.read_bytes()
        for path in (folder / dest).glob("*.*")
        if path.is_file()
    }


def test_an_export_killed_in_the_middle_goes_on_and_is_whole_with_nothing_twice(tmp_path):
    ledger = open_pictures(tmp_path)
    store(ledger, tmp_path / "out", [row(number, f"k{number}") for number in range(ROWS)])
    ledger.close()

    def start(dest):
        environment = command.bare_environment() | {"TMPDIR": str(tmp_path)}  # it keeps what the kill leaves
        return command.Started((*WORDS, "--to", dest), environment, cwd=tmp_path)

    killed = start("ds")
    until((tmp_path / "ds/.lightfast/export/000003.json").exists, meanwhile=lambda: killed.poll() is None)
    killed.kill()
    killed.communicate()
    assert json.loads((tmp_path / "ds/.lightfast/export.json").read_text())["state"] == "begun"
    again, whole = start("ds"), start("whole")

    assert [each.communicate()[1] for each in (again, whole)] == ["", ""]
    assert (again.returncode, whole.returncode) == (0, 0)
    assert len(list((tmp_path / "ds").glob("*.tar"))) == ROWS
    assert exported(tmp_path, "ds") == exported(tmp_path, "whole")
    assert not list(tmp_path.glob("lightfast-export-*"))
    assert not list((tmp_path / "ds/.lightfast/parts").iterdir())
