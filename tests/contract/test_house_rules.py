"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import shlex
import tomllib
from fnmatch import fnmatch

import pytest
import yaml

from jobs import states
from sandbox.cluster import FORMATION, read_procfile
from tests.support import ROOT
from worker.celery import QUEUES

PARTS = ("providers", "jobs", "worker", "cli", "web", "sandbox")
SQL_LIBRARIES = {"sqlalchemy", "alembic", "sqlite3", "psycopg"}


def modules():
    return [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]


@functools.cache
def tree(path):
    """The syntax tree of a module, which many rules look at."""
    return ast.parse(path.read_text())


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def imported(path):
    """The top-level packages a module imports, wherever in it."""
    nodes = list(ast.walk(tree(path)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return frozenset(name.partition(".")[0] for name in names)


def test_every_queue_of_the_procfile_is_routed_and_the_reverse():
    words = shlex.split(read_procfile(ROOT / "Procfile")["worker"])

    assert sorted(words[words.index("--queues") + 1].split(",")) == sorted(QUEUES)


def test_the_cluster_runs_every_process_of_the_procfile():
    assert set(read_procfile(ROOT / "Procfile")) == {*FORMATION, "release"}


def test_compose_starts_what_the_procfile_starts_and_checks_the_health_of_what_holds_something():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    procfile = read_procfile(ROOT / "Procfile")

    for name, process in (("web", "web"), ("worker", "worker"), ("beat", "beat"), ("migrate", "release")):
        assert services[name]["command"][:3] == shlex.split(procfile[process])[:3]
    for name in ("postgres", "redis", "s3", "web", "sandbox"):
        assert services[name]["healthcheck"]["test"]
    assert "healthcheck" not in services["worker"], "the image's own check reads the heartbeat file"
    assert services["sandbox"]["profiles"] == ["sandbox"]
    assert "noeviction" in services["redis"]["command"]
    assert all(needed in services for service in services.values() for needed in service.get("depends_on", {})), (
        "a service waits for one that is not there"
    )


def test_the_web_process_is_open_to_the_world_only_where_somebody_said_so():
    """Beside containers, whose network is their own, nothing listens on every address by itself."""
    web = read_procfile(ROOT / "Procfile")["web"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    assert "--host ${WEB_HOST:-127.0.0.1} ${METRICS_PORT:+--metrics-port $METRICS_PORT}" in web
    assert [
        port for service in compose.values() for port in service.get("ports", []) if port[:10] != "127.0.0.1:"
    ] == []


def test_a_worker_has_longer_to_end_than_it_drains():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    assert int(services["worker"]["stop_grace_period"].removesuffix("s")) > 25


def test_money_and_times_are_written_in_one_module_only():
    """One figure must not come out in two ways. What is left: the name of a copy of the ledger file."""
    writes = re.compile(r"strftime\(|\.isoformat\(|/ (MICROS|1_000_000)\b|MICROS:|fromtimestamp\(")
    own = {"jobs/formatting.py", "jobs/ledger/database/ledger_file.py"}
    parts = [path for path in modules() if not name_of(path).startswith("sandbox/")]

    assert [name_of(path) for path in parts if writes.search(path.read_text()) and name_of(path) not in own] == []


def test_each_set_of_job_states_is_written_once():
    sets = [states.GOING_ON, states.ENDED_BADLY, states.NEEDS_A_PERSON, states.TRIED, states.ENDED, states.UNFINISHED]
    named = {frozenset(state.name for state in each) for each in sets}
    parts = [path for path in modules() if name_of(path) != "jobs/states.py" and "JobState." in path.read_text()]

    assert [f"{name_of(path)}:{line}" for path in parts for line, names in state_sets(path) if names in named] == []


def state_sets(path):
    """Where a module writes a tuple, list or set of job states, and their names."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Tuple | ast.List | ast.Set):
            continue
        if node.elts and all(isinstance(each, ast.Attribute) for each in node.elts):
            names = [re.fullmatch(r"JobState\.(\w+)(\.value)?", ast.unparse(each)) for each in node.elts]
            if all(names):
                yield node.lineno, frozenset(name[1] for name in names)


def test_sql_libraries_are_imported_in_the_ledger_only():
    strangers = [
        name_of(path)
        for path in modules()
        if SQL_LIBRARIES & imported(path) and not name_of(path).startswith("jobs/ledger/")
    ]

    assert strangers == []


def test_celery_is_imported_by_its_binding_only():
    known = {name_of(path) for path in modules() if {"celery", "kombu"} & imported(path)}

    assert known <= {"worker/celery.py", "worker/tasks.py"}


def test_the_sandbox_imports_nothing_of_ours():
    ours = set(PARTS) - {"sandbox"}

    assert [name_of(path) for path in modules() if path.parts[-2] == "sandbox" and ours & imported(path)] == []


def test_there_are_no_drawers():
    """A helper has a name or lives beside its caller."""
    drawers = {"utils.py", "util.py", "common.py", "helpers.py", "misc.py"}

    assert [name_of(path) for path in modules() if path.name in drawers] == []


def test_no_two_modules_define_a_public_function_of_one_name_and_one_body():
    seen = {}
    for path in modules():
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef) and len(node.body) > 1:
                seen.setdefault((node.name, ast.dump(ast.Module(node.body, []))), []).append(name_of(path))

    assert {name: where for (name, _), where in seen.items() if len(where) > 1} == {}


def test_no_two_classes_have_one_name():
    """Whoever searches for a class finds one."""
    seen = {}
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                seen.setdefault(node.name, []).append(name_of(path))

    assert {name: where for name, where in seen.items() if len(where) > 1} == {}


def test_every_constraint_is_one_exact_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert [line for line in lines if not re.match(r"^[a-z0-9._-]+==[\w.+!-]+( ;.*)?$", line)] == []


def test_every_module_folder_is_packaged():
    """A wheel, and so the image, would lack the others."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in modules()}

    assert [folder for folder in folders if not any(fnmatch(folder, pattern) for pattern in told)] == []


def test_every_ignored_rule_has_its_reason_on_its_line():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    ignored = [line for line in lines if re.match(r'^    "[A-Z]+[0-9]*",', line)]

    assert ignored
    assert [line for line in ignored if "#" not in line] == []


def test_every_exception_from_a_lint_rule_names_the_rule_and_its_reason():
    mentioned = re.compile(r"#\s*(?:noqa|type:\s*ignore).*")
    justified = re.compile(r"# (?:noqa: [A-Z]+\d+(?:, [A-Z]+\d+)*  \S.*|type: ignore\[[\w-]+(?:, ?[\w-]+)*\].*)")

    bare = [
        f"{name_of(path)}: {found}"
        for path in modules()
        for found in mentioned.findall(path.read_text())
        if not justified.match(found)
    ]

    assert bare == []


def test_the_architecture_page_has_a_line_for_each_package():
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    told = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, flags=re.MULTILINE))
    first_lines = {
        name_of(path.parent): ast.get_docstring(tree(path)).splitlines()[0].rstrip(".")
        for path in modules()
        if path.name == "__init__.py"
    }

    assert told == first_lines


@pytest.mark.parametrize("path", [".ci/run", "Makefile", "Procfile", "Dockerfile"])
def test_the_workshop_is_all_there(path):
    assert (ROOT / path).stat().st_size > 0


def test_the_program_is_installed_under_its_name():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="lightfast")

    assert [script.value for script in scripts] == ["cli.main:main"]


#: Where a test says what it waits for; the simulation and the soak have their own time, and the time of their users.
PATIENT = ("tests/support/patience.py", "tests/support/virtual_time.py", "tests/simulation/", "tests/soak/")
#: Seconds: a shorter limit may be over before a slow machine has done what is waited for.
SHORT = 30


def test_no_test_sleeps_or_waits_for_a_short_time_without_saying_why():
    """A test that hopes is red on a slow machine; docs/explanation/testing.md names what there is instead."""
    hopes = [
        f"{name_of(path)}:{line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if not name_of(path).startswith(PATIENT)
        for line in hopeful_lines(path.read_text())
    ]

    assert hopes == [], "virtual time, a gate or `until`; or say `# real time: why` on the line"


def test_a_hope_is_seen():
    text = (
        "time.sleep(0.1)\nthread.join(5)\nthread.join(timeout=5)\ntime.sleep(0.1)  # real time: a reason\nd.join(60)\n"
    )

    assert list(hopeful_lines(text)) == [1, 2, 3]


def hopeful_lines(text):
    lines, virtual = text.splitlines(), "mark.virtual_time" in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and (seconds := seconds_waited(node, virtual=virtual)) is not None:
            said = lines[node.lineno - 1 : node.end_lineno]
            if 0 < seconds < SHORT and not any("# real time: " in line for line in said):
                yield node.lineno


def seconds_waited(call, *, virtual):
    """The number in a call that waits; those of an event loop in virtual time are none."""
    name = ast.unparse(call.func)
    if virtual and name.startswith("asyncio."):
        return None
    at = {"asyncio.wait_for": 1}.get(name, 0)
    is_wait = name in ("time.sleep", "asyncio.sleep", "asyncio.timeout", "asyncio.wait_for")
    is_wait |= isinstance(call.func, ast.Attribute) and call.func.attr in ("wait", "join", "result", "communicate")
    given = [word.value for word in call.keywords if word.arg == "timeout"]
    given += call.args[at : at + 1] if is_wait else []
    return next((one.value for one in given if isinstance(one, ast.Constant) and type(one.value) in (int, float)), None)


def test_each_test_that_the_page_of_attacks_names_is_there():
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "explanation" / "attacks.md").read_text())
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), flags=re.MULTILINE)
    }

    assert len(named) > 40
    assert set(named) - there == set()
