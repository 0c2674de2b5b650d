"""Whoever plans a shop's export as it came hears which options make its products' pictures, in one step."""

from __future__ import annotations

import pytest

from jobs.planning.first_plan import FirstPlan, first_plan
from jobs.planning.planner import PlanOptions
from providers.catalog.models import Catalog
from tests.support.planned_rows import EVERYONE, manifest_of, table

#: As Shopify writes it: further lines of a product have no title.
SHOPIFY = [
    {"Handle": "lamp", "Title": "Lämpchen; rot", "Body (HTML)": "<p>Rot,\n1,5 m</p>", "Variant SKU": "0010"},
    {"Handle": "lamp", "Variant SKU": "0011"},
    {"Handle": "lamp"},
    {"Handle": "vase", "Title": "Vase", "Variant SKU": "0020"},
]
#: As WooCommerce writes it: variations have a name and lack other columns.
WOOCOMMERCE = [
    {"ID": "40", "SKU": "001", "Name": "Lamp", "Categories": "Home > Light"},
    {"ID": "41", "SKU": "001-0", "Name": "Lamp - red", "Parent": "001"},
    {"ID": "45", "SKU": "002", "Name": "Vase", "Categories": "Home"},
]


def found(tmp_path, rows, *, may_key=True, **options):
    chosen = PlanOptions(**{"batch": "b", "configured": EVERYONE, **options})
    return first_plan(manifest_of(tmp_path, table(*rows)), chosen, Catalog.load(), may_key=may_key)


def test_a_shops_export_gets_a_prompt_a_key_and_a_column_that_tells_rows_without_a_prompt(tmp_path):
    plan = found(tmp_path, SHOPIFY)

    assert plan == FirstPlan(prompt="Photo of {Title}", skip_empty="Title", key="Handle")
    assert plan.words == ["--prompt", "Photo of {Title}", "--skip-empty", "Title", "--map", "key=Handle"]
    assert plan.effects == "leave out rows without Title and know rows by Handle"


def test_where_each_row_has_a_prompt_none_is_left_out(tmp_path):
    assert found(tmp_path, WOOCOMMERCE) == FirstPlan(prompt="Photo of {Name}", key="ID")


EXPORTED = [
    {"ID": "39", "Type": "simple, virtual", "Name": "Voucher", "Categories": "Gifts", "Tags": "a", "Tax class": ""},
    {"ID": "40", "Type": "variable", "Name": "Lamp", "Categories": "Light", "Tags": "b", "Tax class": ""},
    {"ID": "41", "Type": "variation", "Name": "Lamp - red", "Tax class": "parent", "Parent": "40"},
    {"ID": "42", "Type": "variation, virtual", "Name": "Lamp - blue", "Tax class": "parent", "Parent": "40"},
]


def test_variations_of_products_are_told_with_the_column_that_leaves_them_out_and_no_other(tmp_path):
    told = (
        '2 rows are variations of other products (column "Type"), and would get pictures of their own: '
        "--skip-empty Categories leaves them out"
    )

    assert found(tmp_path, EXPORTED) == FirstPlan(prompt="Photo of {Name}", key="ID", hint=told)
    rows = [{**row, "Categories": ""} for row in EXPORTED]
    assert found(tmp_path, rows).hint == told.replace("Categories", "Tags")


@pytest.mark.parametrize(
    "changed",
    [
        {1: {"Categories": "", "Tags": ""}},  # a product would be left out, too
        {2: {"Categories": "Light", "Tags": "b"}},  # a variation would stay
        {2: {"Parent": ""}},  # whatever else this file calls a variation
        {2: {"Type": "simple"}, 3: {"Type": "simple"}},
    ],
)
def test_what_is_not_certain_of_variations_is_not_told(tmp_path, changed):
    rows = [{**row, **changed.get(at, {})} for at, row in enumerate(EXPORTED)]

    assert found(tmp_path, rows).hint == ""


def test_who_leaves_rows_out_already_hears_no_more_of_variations(tmp_path):
    assert found(tmp_path, EXPORTED, skip_empty="Tags").hint == ""


def test_what_the_user_has_said_stays(tmp_path):
    assert found(tmp_path, SHOPIFY, prompt="{Title}") == FirstPlan(skip_empty="Title", key="Handle")
    assert found(tmp_path, SHOPIFY, prompt="{Title}", mapping={"key": "Handle"}) == FirstPlan(skip_empty="Title")
    assert found(tmp_path, SHOPIFY, prompt="{Title}", skip_empty="Title") == FirstPlan(key="Handle")
    assert found(tmp_path, WOOCOMMERCE, prompt="{Name}, {Categories}") == FirstPlan(skip_empty="Categories", key="ID")


def test_a_batch_on_record_keeps_its_key(tmp_path):
    assert found(tmp_path, SHOPIFY, prompt="{Title}", may_key=False) == FirstPlan(skip_empty="Title")


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([{"Colour": "red"}], {}),  # nothing says what it is
        ([{"Title": "a", "Type": "b"}, {"Title": "a"}, {"Type": "b"}], {"prompt": "{Title} {Type}"}),  # no one column
        ([{"Title": "a", "Type": "b"}, {"Type": "b"}], {"prompt": "{Title}", "skip_empty": "Type"}),  # one can be named
        ([{"Title": "Shirt", "size": "XL"}], {}),  # no row could be made with it
        ([{"Title": "Shirt"}], {"prompt": "{Title}"}),  # nothing is lacking
    ],
)
def test_nothing_is_proposed_that_would_not_work_or_is_not_needed(tmp_path, rows, options):
    assert found(tmp_path, rows, **options) is None
