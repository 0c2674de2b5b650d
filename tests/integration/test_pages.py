"""The pages: a site that builds without a fault, loads nothing from elsewhere, and has no dead link."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cli.main import COMMANDS
from jobs.manifest.raw_rows import KNOWN_COLUMNS
from jobs.settings.model import AccountSettings, Settings, Storage
from jobs.settings.notifications import WebhookSettings
from tests.support import ROOT
from tests.support.patience import AT_LAST

#: Pages that are read in the repository, outside the site.
BESIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
#: What a browser fetches by itself when it shows a page.
LOADED = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\"")
#: Private words of an earlier time, each with the field's word in the glossary's place.
OLD_WORDS = re.compile(r"(?i)\b(bells?|crews?|shifts?|watchman|rung|twins|hopeless|illness|wellness)\b")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does."""
    built = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-b", "html"]
    made = subprocess.run(
        [*words, ROOT / "docs", built], capture_output=True, text=True, timeout=AT_LAST, check=False, cwd=ROOT
    )
    assert made.returncode == 0, made.stderr
    return built


def test_the_site_builds_without_a_warning_and_has_every_page(site):
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}

    assert pages <= {page.relative_to(site) for page in site.rglob("*.html")}


def test_a_reader_without_a_network_sees_all_of_the_site(site):
    loaded = {
        found[1] or found[2] for page in site.rglob("*.html") for found in LOADED.finditer(page.read_text("utf-8"))
    }

    assert loaded
    assert [address for address in loaded if re.match(r"(?:\w+:)?//", address)] == []


@pytest.mark.parametrize("name", BESIDE)
def test_links_in_the_repositorys_own_pages_lead_somewhere(name):
    linked = [found for found in LINK.findall((ROOT / name).read_text("utf-8")) if "://" not in found]

    assert [each for each in linked if not (ROOT / each).exists()] == []


def test_pages_use_the_fields_words():
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in BESIDE)]

    assert [
        (page.relative_to(ROOT).as_posix(), found[0])
        for page in pages
        for found in OLD_WORDS.finditer(page.read_text("utf-8"))
    ] == []


def first_cells(page, section=""):
    """The code words that begin a table's lines on a page of the reference, or in a section of it."""
    text = (ROOT / "docs" / "reference" / page).read_text("utf-8")
    text = text.partition(f"\n## {section}\n")[2].partition("\n##")[0] if section else text
    return re.findall(r"^\| (`[^|]*`) \|", text, flags=re.MULTILINE)


def test_the_reference_has_every_command():
    told = {word for cell in first_cells("commands.md") for word in re.findall(r"`([a-z-]+)", cell)}

    assert told == set(COMMANDS)


def test_the_reference_has_every_setting():
    models = (Settings, AccountSettings, Storage, WebhookSettings)
    fields = {f"`{name}`" for model in models for name in model.model_fields} - {
        "`accounts`",
        "`storage`",
        "`channels`",
        "`webhook`",
    }

    assert set(first_cells("settings.md")) == fields


def test_the_reference_has_every_known_column():
    assert set(first_cells("manifest.md", "Columns")) == {f"`{name}`" for name in KNOWN_COLUMNS}


def test_every_file_that_a_page_names_is_there():
    named = re.compile(r"`((?:benchmarks|cli|docs|examples|jobs|providers|sandbox|tests|web|worker)/[\w/.-]+)`")
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in BESIDE if name != "CHANGELOG.md")]

    assert [
        (page.relative_to(ROOT).as_posix(), path)
        for page in pages
        for path in named.findall(page.read_text("utf-8"))
        if "_build" not in path and not re.search(r"NAME|NNNN", path) and not (ROOT / path).exists()
    ] == []
