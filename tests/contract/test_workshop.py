"""Continuous integration and the commit hooks run what `make check` and `make test` run, and fetch nothing."""

from __future__ import annotations

import re

import yaml
from pre_commit.clientlib import load_config

from tests.support import ROOT


def test_continuous_integration_checks_and_tests_on_the_oldest_python_that_is_promised():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    [job] = workflow["jobs"].values()
    steps = job["steps"]

    assert [step["run"] for step in steps if "run" in step] == ["make setup", "make check", "make test"]
    assert [step["with"]["python-version"] for step in steps if "python-version" in step.get("with", {})] == ["3.11"]
    assert workflow["permissions"] == {"contents": "read"}
    assert {"push", "pull_request"} == set(workflow[True]), "YAML reads `on` as true"


def test_every_target_that_a_page_names_is_there():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = {word for page in pages for word in re.findall(r"`make ([a-z-]+)`", page.read_text("utf-8"))}

    assert named <= targets


def test_commit_hooks_are_valid_and_run_from_the_repositorys_own_tools():
    load_config(ROOT / ".pre-commit-config.yaml")  # raises where it is not valid
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]

    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)
