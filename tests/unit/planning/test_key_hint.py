"""Whoever plans a manifest without a key for the first time hears which column could be it."""

from __future__ import annotations

import contextlib
import shlex

import orjson
import pytest

from jobs.ledger import open_ledger
from jobs.ledger.batches.values import NewBatch
from jobs.planning.intake import Intake, record, survey
from jobs.planning.key_hint import key_hint
from jobs.planning.planner import PlanOptions
from providers.catalog.models import Catalog
from tests.support.planned_rows import EVERYONE, manifest_of, plan, table


def told(tmp_path, *rows, name="m.csv", **options):
    content = table(*rows) if name == "m.csv" else "".join(orjson.dumps(row).decode() + "\n" for row in rows)
    chosen = PlanOptions(**{"batch": "b", "configured": EVERYONE, **options})
    return list(key_hint(manifest_of(tmp_path, content, name), chosen, Catalog.load()))


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
@pytest.mark.parametrize(
    ("column", "option"),
    [
        ("sku", "--map key=sku"),
        ("Variant SKU", "--map 'key=Variant SKU'"),
        ("productId", "--map key=productId"),
        ("Handle", "--map key=Handle"),
        ("ID", "--map key=ID"),
        ("EAN-13", "--map key=EAN-13"),
        ("Item No.", "--map 'key=Item No.'"),
        ("Key", "--map key=Key"),
        ("keys", "--map key=keys"),
    ],
)
def test_a_column_that_tells_all_rows_apart_is_told_with_the_option_that_makes_it_the_key(
    tmp_path, column, option, name
):
    rows = [{"prompt": "a lamp", column: "A-1", "Price": "1"}, {"prompt": "a vase", column: "A-2", "Price": "2"}]

    (line,) = told(tmp_path, *rows, name=name)

    assert f'"{column}" ("A-1") has a value of its own in each row: {option} uses it' in line
    content = table(*rows) if name == "m.csv" else "".join(orjson.dumps(row).decode() + "\n" for row in rows)
    mapping = dict([shlex.split(option)[1].split("=", 1)])
    assert [each.row.key for each in plan(tmp_path, content, name, mapping=mapping)] == ["A-1", "A-2"]


def test_the_likeliest_of_several_is_told_and_one_that_a_template_uses_is_none_the_less_a_key(tmp_path):
    rows = [{"id": "1", "Handle": "lamp", "SKU": "A-1"}, {"id": "2", "Handle": "vase", "SKU": "A-2"}]

    (line,) = told(tmp_path, *rows, prompt="Photo of {SKU}")

    assert "--map key=SKU uses it" in line


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (("Handle", "heron-lamp", "oslo-table"), ("Variant SKU", "000010", "000020")),  # a spreadsheet takes zeros away
        (("Handle", "heron-lamp", "oslo-table"), ("Variant SKU", "HL-S", "OT-S")),  # another variant may come first
        (("Handle", "heron-lamp", "oslo-table"), ("SKU", "1001", "1002")),
        (("ID", "4005", "4010"), ("SKU", "00001", "00002")),
        (("ID", "4005", "4010"), ("SKU", "L-1", "00002")),
        (("ID", "4005", "4010"), ("GTIN", "4006381333931", "4006381333948")),  # 4.01E+12
        (("ID", "4005", "4010"), ("SKU", "1E5", "2E5")),
        (("ID", "4005", "4010"), ("SKU", "MAR-1", "MAR-2")),
        (("id", "11", "12"), ("uuid", "0b7fa4e2-4a58-4c9e-8d8e-2f6a9f7f0c11", "1c7fa4e2-4a58-4c9e-8d8e-2f6a9f7f0c11")),
    ],
)
def test_readable_keys_are_told_before_numbers_and_those_before_what_a_spreadsheet_rewrites(tmp_path, better, worse):
    rows = [{"prompt": f"a {at}", worse[0]: worse[at], better[0]: better[at]} for at in (1, 2)]

    (line,) = told(tmp_path, *rows)

    assert f"--map key={better[0]} uses it" in line


@pytest.mark.parametrize(
    ("head", "options"), [("Title", {"prompt": "A {Title}, {Handle|grey}"}), ("prompt", {}), ("A", {"prompt": "{A}"})]
)
def test_rows_without_a_prompt_are_no_doubles_though_nobody_has_said_to_leave_them_out(tmp_path, head, options):
    rows = [{"Handle": "lamp", head: "Lamp"}, {"Handle": "lamp", head: " "}, {"Handle": "vase", head: "Vase"}]

    (line,) = told(tmp_path, *rows, **options)

    assert '"Handle" ("lamp") has a value of its own in each row with a prompt: --map key=Handle uses it' in line


def test_what_stands_inside_of_objects_can_be_the_key(tmp_path):
    rows = [{"prompt": "a", "product": {"sku": "A-1"}}, {"prompt": "b", "product": {"sku": "A-2"}}]

    (line,) = told(tmp_path, *rows, name="m.jsonl")

    assert "--map key=product.sku uses it" in line


@pytest.mark.parametrize("values", [("A-1", "A-1"), ("A-1", ""), ("A-1", "#N/A"), ("A-1", "x" * 1100)])
def test_a_column_with_doubles_gaps_or_what_is_no_key_is_not_told(tmp_path, values):
    assert told(tmp_path, *({"prompt": f"a {at}", "sku": text} for at, text in enumerate(values))) == []


def test_where_one_column_has_doubles_the_next_is_told(tmp_path):
    rows = [{"prompt": "a", "Handle": "lamp", "Barcode": "1"}, {"prompt": "b", "Handle": "lamp", "Barcode": "2"}]

    (line,) = told(tmp_path, *rows)

    assert "--map key=Barcode uses it" in line


def test_a_products_further_lines_that_are_skipped_are_no_doubles(tmp_path):
    rows = [{"Handle": "lamp", "Title": "Lamp"}, {"Handle": "lamp", "Title": ""}, {"Handle": "vase", "Title": "Vase"}]

    (line,) = told(tmp_path, *rows, prompt="A {Title}", skip_empty="Title")

    assert "--map key=Handle uses it" in line


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"key": "a", "sku": "A-1"}, {}),
        ({"sku": "A-1"}, {"mapping": {"key": "sku"}}),
        ({"sku": "A-1"}, {"mapping": {"key": ""}}),
        ({"sku": "A-1", "id": "2"}, {"mapping": {"key": "{sku}-{id}"}}),
        ({"Colour": "red"}, {}),
    ],
)
def test_nothing_is_told_where_there_is_a_key_or_none_is_wanted_or_none_looks_like_one(tmp_path, row, options):
    assert told(tmp_path, {"prompt": "a", **row}, **options) == []


def test_it_is_told_at_the_first_plan_only_since_another_key_would_buy_all_rows_again(tmp_path, sqlite_ledger_url):
    content = table({"prompt": "a", "sku": "A-1", "Key": "k1"}, {"prompt": "b", "sku": "A-2", "Key": "k2"})
    options = PlanOptions(batch="b", configured=EVERYONE)
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        intake = Intake(manifest=manifest_of(tmp_path, content), options=options, catalog=Catalog.load(), ledger=ledger)
        first = survey(intake, None, [])
        new = NewBatch(name="b", dest="/d", path="{batch}/{key}/{index}.{ext}", columns=first.columns, source="m.csv")
        batch = record(intake, first, new, 0.0)
        later = survey(intake, batch, [])

    assert len([hint for hint in first.hints if "--map key=Key" in hint]) == 1
    assert later.hints == ()


def test_empty_rows_are_counted_to_the_end_of_the_file(tmp_path):
    content = "prompt,sku\n" + "".join(f"a {at},s{at}\n" for at in range(1_100)) + ",\n" * 3
    options = PlanOptions(batch="b", configured=EVERYONE)

    seen = survey(Intake(manifest=manifest_of(tmp_path, content), options=options, catalog=Catalog.load()), None, [])

    assert (seen.rows, seen.empty) == (1_100, 3)
    assert any("in each of the first 1,000 rows" in hint for hint in seen.hints)
