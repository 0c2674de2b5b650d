"""What the log tells: every event stands in one table, and the page shows that table."""

from __future__ import annotations

import ast
import re

from jobs.log_events import EVENTS, NEWS
from tests.contract.test_house_rules import modules, name_of, tree
from tests.support import ROOT

#: What is said of any event.
ANY = {"level", "exc_info"}


def emitted():
    """Each call that says an event: where, its name, its level, its fields, and whether it has others besides."""
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("emit", "telemetry.emit") and node.args:
                event, named = node.args[0], {word.arg: word.value for word in node.keywords if word.arg}
                if isinstance(event, ast.Constant) and isinstance(event.value, str):
                    level = ast.literal_eval(named["level"]) if isinstance(named.get("level"), ast.Constant) else None
                    level = level or (None if "level" in named else "info")
                    yield (
                        f"{name_of(path)}:{node.lineno}",
                        event.value,
                        level,
                        set(named) - ANY,
                        len(named) < len(node.keywords),
                    )


def test_every_event_that_a_process_says_stands_in_the_table_with_its_level_and_fields():
    wrong = [
        (where, name)
        for where, name, level, fields, _ in emitted()
        if name not in EVENTS
        or not fields <= set(EVENTS[name].fields)
        or (level is not None and level not in EVENTS[name].levels)
    ]

    assert wrong == []


def test_the_table_has_no_event_and_no_field_that_nothing_says():
    said, open_ = {}, set()
    for _, name, _, fields, more in emitted():
        said.setdefault(name, set()).update(fields)
        open_ |= {name} if more else set()
    dynamic = {"ledger_is_read_only", "ledger_takes_no_writes"}  # named by what the database said
    assert set(EVENTS) - set(NEWS) - set(said) == dynamic

    unsaid = {
        name: set(kind.fields) - said[name] for name, kind in EVENTS.items() if name in said and name not in open_
    }
    assert {name: fields for name, fields in unsaid.items() if fields} == {}


def test_names_and_fields_are_plain_words_and_none_is_for_a_secret():
    words = {word for name, kind in EVENTS.items() for word in (name, *kind.fields)}

    assert [word for word in words if not re.fullmatch(r"[a-z][a-z_]*", word)] == []
    assert [word for word in words if re.search(r"key_|api|secret|token|password|prompt", word)] == []


def test_the_page_shows_the_table():
    page = (ROOT / "docs" / "reference" / "log.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))

    assert rows == {
        name: f"{', '.join(kind.levels)} | {' '.join(f'`{field}`' for field in kind.fields)} | "
        f"{'; '.join(filter(None, (kind.means, kind.about)))}"
        for name, kind in EVENTS.items()
    }


def test_what_people_see_of_an_event_says_nothing_of_its_levels_and_fields():
    shown = {name: kind.means for name, kind in EVENTS.items()}
    about = [
        name
        for name, means in shown.items()
        if re.search(r"a warning where|\(warning\)|`schedule`|what follows", means)
    ]

    assert about == []
