"""What may stand in no file of the repository."""

from __future__ import annotations

import subprocess

import pytest

from tests.support import ROOT

#: Written in pieces, so that this file keeps its own rule.
REGISTRIES = tuple("".join(parts) for parts in (("pypi", ".org"), ("pythonhosted", ".org"), ("npmjs", ".org")))
INDEX_OPTIONS = ("--" + "index-url", "--extra-" + "index-url", "find-" + "links")


def test_no_tracked_file_names_a_package_registry():
    found = [
        (name, word)
        for name in tracked_files()
        if (text := _text(ROOT / name)) is not None
        for word in (*REGISTRIES, *INDEX_OPTIONS)
        if word in text
    ]

    assert found == []


def tracked_files():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


def _text(path):
    try:
        return path.read_text()
    except (UnicodeDecodeError, OSError):
        return None
