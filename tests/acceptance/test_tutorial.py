"""The tutorial's commands do what its page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from tests.support.patience import AT_LAST

TUTORIALS = ROOT / "docs" / "tutorial"


def blocks(page, language):
    """What stands in the fences of that language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (TUTORIALS / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def typed(page, folder):
    """Types a tutorial's commands in an empty folder; what they said."""
    for manifest in [block for block in blocks(page, "") if block.startswith("key,")][:1]:
        (folder / "products.csv").write_text(manifest)
    script = "set -eu\n" + "".join(blocks(page, "sh"))
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=AT_LAST,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_newcomer_who_types_the_tutorials_commands_ends_with_its_files(tmp_path):
    said = typed("first_batch.md", tmp_path)

    assert "every row is done" in said
    assert (tmp_path / "images/products/oslo-table/1.png").exists()
    assert not (tmp_path / "images/products/moth-rug").exists()
    assert (tmp_path / "done.csv").read_text().count("\n") == 5
    assert "heron-lamp" in (tmp_path / "sheet.html").read_text()


def test_a_nightly_catalogue_pays_for_what_is_new_and_changed(tmp_path):
    said = typed("nightly_catalogue.md", tmp_path)

    nights = re.findall(r"by hand  (.*)", said)
    assert [night for night in nights if "3 new, 3 images" in night]
    assert [night for night in nights if "1 new, 1 changed, 1 gone, 2 images" in night]
    assert [night for night in nights if night.startswith("done: nothing is new")]
    assert [night for night in nights if "3 images would cost" in night]
    images = sorted(
        path.relative_to(tmp_path / "images/nightly").as_posix() for path in (tmp_path / "images").rglob("*.png")
    )
    assert images == [
        "heron-lamp/0.png",
        "moss-rug/0.png",
        "oslo-table/0.png",
        "oslo-table/0.r2.png",
        "reed-chair/0.png",
    ]
    listed = (tmp_path / "night.csv").read_text()
    assert [name in listed for name in ("heron-lamp", "oslo-table", "moss-rug", "reed-chair")] == [
        True,
        True,
        True,
        False,
    ]


def test_a_data_set_is_made_in_an_evening_and_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    said = typed("data_set_in_an_evening.md", tmp_path)

    loaded = {split: (int(number), rooms) for split, number, rooms in re.findall(r"(\w+) (\d+) pictures of (.*)", said)}
    assert loaded.keys() == {"train", "test"}
    assert sum(number for number, _ in loaded.values()) == 24
    assert re.search(r"A .*, (watercolor|oil on canvas)\. In the (library|kitchen|hall)\.", said)
    assert "./shards holds this very export already" in said
    assert len((tmp_path / "parquet/missing.jsonl").read_text().splitlines()) == 1
