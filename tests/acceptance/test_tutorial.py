"""The tutorial's commands do what its page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from tests.support.patience import AT_LAST

PAGE = (ROOT / "docs" / "tutorial" / "first_batch.md").read_text("utf-8")


def blocks(language):
    """What stands in the fences of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_a_newcomer_who_types_the_tutorials_commands_ends_with_its_files(tmp_path):
    manifest = next(block for block in blocks("") if block.startswith("key,"))
    (tmp_path / "products.csv").write_text(manifest)
    script = "set -eu\n" + "".join(blocks("sh"))

    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=AT_LAST,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "every row is done" in done.stdout
    assert (tmp_path / "images/products/oslo-table/1.png").exists()
    assert not (tmp_path / "images/products/moth-rug").exists()
    assert (tmp_path / "done.csv").read_text().count("\n") == 5
    assert "heron-lamp" in (tmp_path / "sheet.html").read_text()
