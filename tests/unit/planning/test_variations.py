"""--dedup, --sample, --vary, --repeat: which rows a manifest's rows become, under which keys."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from jobs.errors import BadInput
from jobs.ledger import open_ledger
from jobs.ledger.batches.appended import shown_key
from jobs.ledger.batches.values import NewBatch
from jobs.ledger.database.schema import jobs
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.intake import Intake, record, survey
from jobs.planning.planner import PlanOptions
from jobs.planning.variations import Variations, made_of, read_variations
from providers.catalog.models import Catalog
from providers.types import Request
from tests.support.manifest_world import MAIN, NOW, finish

STYLES = "style=watercolor|oil on canvas|photo"
IN_STYLE = "{prompt}, {style}"


@pytest.fixture
def ledger(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as opened:
        opened.accounts.sync([MAIN])
        yield opened


@pytest.fixture
def intake(tmp_path, ledger):
    """An intake of these lines with variations."""

    def make(lines, *texts, head="key,prompt", prompt=IN_STYLE, mapping=None, limit=None, **asked):
        path = tmp_path / "m.csv"
        path.write_text("\n".join([head, *lines]) + "\n")
        variations = Variations(options=read_variations(texts, **asked))
        return Intake(
            manifest=variations.on(open_manifest(path, name="m.csv", options=ReadOptions())),
            options=PlanOptions(
                batch="b", prompt=prompt, mapping=mapping or {}, configured=frozenset({"maxapi.io"}), limit=limit
            ),
            catalog=Catalog.load(),
            ledger=ledger,
            skip_bad=True,
            variations=variations,
        )

    return make


def look(intake):
    return survey(intake, intake.ledger.batches.find("b"), [MAIN])


def recorded(intake):
    """The survey of what was recorded then."""
    seen = look(intake)
    path = "{batch}/{key}/{index}.{ext}"
    record(intake, seen, NewBatch(name="b", columns=seen.columns, source="m.csv", dest="/d", path=path), NOW)
    return seen


def rows(intake):
    """Key, prompt and carried columns of all rows, in order."""
    recorded(intake)
    with intake.ledger._database.reading() as tx:
        found = tx.execute(select(jobs).where(jobs.c.position.is_not(None)).order_by(jobs.c.position)).all()
    assert [row.position for row in found] == list(range(len(found)))
    return [
        (
            shown_key(row.key),
            Request.from_json(row.request).prompt if row.request else row.state,
            json.loads(row.carried),
        )
        for row in found
    ]


def keys(intake):
    return [key for key, _, _ in rows(intake)]


def test_each_row_comes_once_for_each_value_with_the_value_as_a_column(intake):
    found = rows(intake(["a,lamp", "b,vase"], STYLES))

    assert found[:2] == [
        ("a-watercolor", "lamp, watercolor", {"key": "a", "prompt": "lamp", "style": "watercolor", "lf_row": "a"}),
        (
            "a-oil-on-canvas",
            "lamp, oil on canvas",
            {"key": "a", "prompt": "lamp", "style": "oil on canvas", "lf_row": "a"},
        ),
    ]
    assert [key for key, _, _ in found[2:]] == ["a-photo", "b-watercolor", "b-oil-on-canvas", "b-photo"]


def test_several_columns_are_combined_and_known_ones_change_the_picture(intake):
    asked = intake(["a,lamp"], "style=ink|photo", "ratio=1:1|16:9", "light=dawn", prompt="{prompt}, {style}, {light}")

    assert keys(asked) == ["a-ink-1-1-dawn", "a-ink-16-9-dawn", "a-photo-1-1-dawn", "a-photo-16-9-dawn"]
    seen = look(asked)
    assert {line.ratio for line in seen.routes} == {"1:1", "16:9"}
    assert seen.columns == ("key", "prompt", "style", "ratio", "light")


def test_repeats_ask_for_the_same_and_the_first_keeps_its_key(intake):
    asked = intake(["a,lamp", "b,vase"], prompt="{prompt}", repeat=3)

    assert keys(asked) == ["a", "a-2", "a-3", "b", "b-2", "b-3"]
    seen = look(asked)
    assert (seen.rows, seen.images, seen.same.rows) == (6, 6, 0), "these repeats are wanted, and are no doubt"


def test_rows_that_are_made_of_one_row_remember_its_key_and_others_remember_nothing(intake):
    def made_of(asked):
        return [(key, own.get("lf_row", key)) for key, _, own in rows(asked)]

    assert made_of(intake(["a,lamp"], "style=ink|photo", repeat=2)) == [
        (key, "a") for key in ("a-ink", "a-ink-2", "a-photo", "a-photo-2")
    ]
    assert not any("lf_row" in own for _, _, own in rows(intake(["b,lamp", "c,vase"], prompt="{prompt}", sample=2)))


def test_rows_whose_key_names_the_varied_column_remember_one_row(intake):
    found = rows(intake(["a,lamp"], "style=ink|photo", mapping={"key": "{style}_{key}"}))

    assert {own.get("lf_row", key) for key, _, own in found} == {"*_a"}


@pytest.mark.parametrize("mapping", [{}, {"key": "{style}_{key}"}])
def test_what_is_made_of_a_row_has_it_in_common_whatever_its_values_were_before(intake, mapping):
    texts = ("style=ink", "style=photo|ink", "style=photo|oil")
    made = [rows(intake(["a,lamp", "b,vase"], text, mapping=mapping, repeat=n)) for n, text in enumerate(texts, 1)]

    assert len({own["lf_row"] for found in made for _, _, own in found}) == 2


def test_rows_without_a_key_are_known_by_their_number_in_the_manifest(intake):
    asked = intake(["lamp,x", "vase,y"], "style=ink|photo", head="prompt,z", repeat=2)

    assert keys(asked) == [
        f"{row}-{style}{more}" for row in (1, 2) for style in ("ink", "photo") for more in ("", "-2")
    ]


def test_a_key_template_that_names_the_column_says_it_once(intake):
    asked = intake(["a,lamp"], "style=ink|photo", "ratio=1:1|16:9", mapping={"key": "{style}_{key}"})

    assert keys(asked) == ["ink_a-1-1", "ink_a-16-9", "photo_a-1-1", "photo_a-16-9"]


def test_rows_that_ask_for_the_same_come_once_and_what_only_differs_elsewhere_is_the_same(intake):
    lines = ["a,lamp,red", "b,lamp,blue", "c,vase,red", "d, ,red", "e,lamp,red"]

    asked = intake(lines, "style=ink|photo", head="key,prompt,shelf", dedup=True)

    assert keys(asked) == ["a-ink", "a-photo", "c-ink", "c-photo", "d-ink", "d-photo"]
    by_shelf = intake(lines, head="key,prompt,shelf", prompt="{prompt} on {shelf}", dedup=True)
    assert keys(by_shelf) == ["a", "b", "c", "d"]


def test_a_larger_sample_contains_the_smaller_whatever_the_order_of_the_rows(intake):
    lines = [f"k{number},lamp {number}" for number in range(200)]

    few = keys(intake(lines, prompt="{prompt}", sample=10, seed=7))
    more = keys(intake(lines[::-1], prompt="{prompt}", sample=50, seed=7))

    assert len(few) == 10
    assert len(more) == 50
    assert {*few} < {*more}
    assert {*few} != {*keys(intake(lines, prompt="{prompt}", sample=10, seed=8))}
    assert keys(intake(lines, prompt="{prompt}", sample=500)) == [f"k{number}" for number in range(200)]


def test_the_sample_is_taken_of_what_dedup_leaves_before_it_is_varied(intake):
    lines = [f"k{number},lamp {number % 20}" for number in range(100)]

    asked = intake(lines, "style=ink|photo", dedup=True, sample=5, repeat=2)
    seen = look(asked)

    assert seen.rows == 5 * 2 * 2
    counts = seen.variations
    assert (counts.rows, counts.repeated, counts.not_sampled, counts.of_a_row) == (100, 80, 15, 4)
    assert made_of(counts, asked.variations.options) == (
        "100 rows in the manifest, 80 ask for the same as an earlier one (--dedup), 15 not in the sample (--sample); "
        "each of the others x 2 values of style x 2 of each (--repeat)"
    )


def test_a_sample_is_the_same_in_every_process_and_for_ever(intake):
    lines = [f"k{number},lamp {number}" for number in range(50)]

    assert keys(intake(lines, prompt="{prompt}", sample=3)) == ["k6", "k14", "k22"]
    assert keys(intake(lines, prompt="{prompt}", sample=3, seed=1)) == ["k15", "k27", "k32"]


def test_skipped_and_unreadable_rows_are_told_once_and_empty_ones_are_left_out(intake):
    lines = ["a,lamp", ",,", 'b,"open', ""]

    asked = intake(lines, STYLES)

    assert len(rows(asked)) == 3 + 1
    assert asked.manifest.empty_rows == 1


def test_limit_counts_rows_of_the_manifest(intake):
    assert keys(intake(["a,lamp", "b,vase", "c,bowl"], "style=ink|photo", limit=2)) == [
        "a-ink",
        "a-photo",
        "b-ink",
        "b-photo",
    ]


@pytest.mark.parametrize(
    ("texts", "asked", "words"),
    [
        (["style"], {}, "expected COLUMN=VALUE|VALUE"),
        (["style="], {}, "expected COLUMN=VALUE|VALUE"),
        (["=a|b"], {}, "expected COLUMN=VALUE|VALUE"),
        (["style=a||b"], {}, "a value is empty"),
        (["style=a|b|a"], {}, '"a" is there twice'),
        (["style=oil on canvas|Oil-on-canvas"], {}, 'and "oil on canvas" would make the same key'),
        (["style=!|?"], {}, '"!" has no letter or digit'),
        (["key=a|b"], {}, "key cannot be such a column"),
        (["lf_x=a|b"], {}, "lf_x cannot be such a column"),
        (["s=a|b", "s=c"], {}, "s is given twice"),
        ([f"s{n}=a|b|c|d|e|f|g|h|i|j" for n in range(5)], {}, "100,000 rows of each row; at most 10,000"),
        ([], {"seed": 3}, "--sample N"),
    ],
)
def test_what_cannot_be_meant_is_refused(texts, asked, words):
    with pytest.raises(BadInput) as told:
        read_variations(texts, **asked)

    assert words in str(told.value)


def test_a_column_that_the_manifest_has_and_one_that_changes_nothing_are_refused(intake):
    with pytest.raises(BadInput, match=r"m\.csv has a column prompt already"):
        intake(["a,lamp"], "prompt=a|b")
    with pytest.raises(BadInput, match=r"--vary style=…: nothing of a request is made of it"):
        look(intake(["a,lamp"], "style=ink|photo", prompt="{prompt}"))


def test_a_key_that_two_rows_would_get_is_a_bad_row(intake):
    seen = look(intake(["a,lamp", "a-ink,lamp"], "style=ink|photo", repeat=1))
    assert seen.bad == 0

    seen = look(intake(["a,lamp", "a-2,lamp"], prompt="{prompt}", repeat=2))
    assert seen.bad == 1
    assert "line 2 has the same key" in str(seen.problems[0])


values = st.lists(st.text(min_size=1, max_size=80).filter(lambda text: "|" not in text), min_size=1, max_size=6)


@given(values, st.integers(1, 4))
def test_keys_are_stable_safe_and_told_apart(texts, repeat):
    try:
        options = read_variations([f"style={'|'.join(texts)}"], repeat=repeat)
    except BadInput:
        return
    (column,) = options.columns
    assert len({part.casefold() for part in column.parts}) == len(column.values)
    for part in column.parts:
        assert not {*part} & {*"./\\ \0:?*"}
        assert len(part) < 60
    fewer = read_variations([f"style={texts[0]}"])
    assert fewer.columns[0].parts == column.parts[:1]


def test_values_and_repeats_that_are_added_later_cost_only_what_is_new(intake, ledger):
    def bought(text, **asked):
        seen = recorded(intake(["a,lamp", "b,vase"], text, **asked))
        finish(ledger, "b")
        return seen.images

    assert bought("style=ink|photo") == 4
    assert bought("style=photo|oil|ink") == 2
    assert bought("style=photo|oil|ink", repeat=2) == 6
    assert bought("style=photo|oil|ink", repeat=2) == 0
