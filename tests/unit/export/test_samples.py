"""Names, splits, captions and records of samples."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BadInput
from jobs.export.card import card
from jobs.export.findings import NOT_LOOKED_AT, PictureFinding
from jobs.export.options import ExportOptions, SplitShare, read_columns, read_size, read_split, split_of
from jobs.export.records import record_shape
from jobs.export.samples import SampleNames, samples_of
from jobs.export.survey import SampleSurvey
from jobs.export.totals import Totals
from jobs.manifest.templates import Missing, parse
from tests.support.results_samples import a_missing_image, a_result, an_image
from tests.unit.results.test_contact_sheet import progress

BATCH = progress().batch
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


def made(result, **options):
    return list(samples_of(BATCH, result, ExportOptions(shape="webdataset", **options), SampleNames()))


def name_of(key):
    """As it is beside no other."""
    return SampleNames().of("b", key)


# -- names -----------------------------------------------------------------------------------------------------------


@given(TEXT, TEXT)
def test_two_keys_never_have_one_name_and_no_name_has_what_tools_trip_over(one, other):
    names = [name_of(key) for key in (one, other)]

    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert re.fullmatch(r"b__[\w-]+", name)
        assert name.count("__") == 1
        assert len(name.encode()) < 130


@pytest.mark.parametrize(
    ("one", "other"),
    [("a/b", "a.b"), ("a__b", "a-b"), ("Lamp", "lamp"), ("x" * 101, "x" * 102), ("a_", "a"), ("é", "e")],
)
def test_keys_that_look_alike_are_told_apart(one, other):
    assert name_of(one) != name_of(other)


def test_long_keys_of_which_half_a_hash_is_the_same_have_names_of_their_own():
    one, other = (f"{'x' * 100}-{number}" for number in (30366, 45423))
    assert len({hashlib.sha256(key.encode()).hexdigest()[:8] for key in (one, other)}) == 1

    assert name_of(one) != name_of(other)


def test_a_changed_key_never_takes_the_name_of_one_that_is_as_it_stands():
    changed = name_of("a/b").split("__")[1]

    assert name_of(changed) != name_of("a/b")


@pytest.mark.parametrize(
    "keys",
    [
        ("Lamp", "lamp", "LAMP"),
        ("stra\u00dfe", "STRASSE"),
        ("\u00c5", "\u212b", "\u00e5"),  # the letter, and the unit that is written with it
        ("\uac00", "\u1100\u1161"),  # a syllable in one character, and in two
        ("caf\u00e9", "cafe\u0301"),
    ],
)
def test_file_systems_that_overlook_case_or_how_a_character_is_composed_have_a_file_for_each_key(keys):
    names, again = SampleNames(), SampleNames()

    found = [names.of("b", key) for key in keys]

    folded = {unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold()) for name in found}
    assert len(folded) == len(keys)
    assert found[0] == f"b__{keys[0]}"
    assert [again.of("b", key) for key in keys] == found
    assert all(re.fullmatch(r"b__[\w-]+", name) for name in found)


def test_batches_whose_names_differ_in_case_alone_have_names_of_their_own():
    names = SampleNames()

    found = [names.of(batch, "lamp") for batch in ("spring", "Spring", "SPRING")]

    assert found[0] == "spring__lamp"
    assert len({name.casefold() for name in found}) == len(found)


def test_a_plain_key_stands_in_the_name_as_it_is():
    assert SampleNames().of("spring", "lamp-12345678") == "spring__lamp-12345678"


# -- which images, and what is said of them ----------------------------------------------------------------------------


def test_only_stored_images_of_the_newest_revision_are_samples():
    redone = a_result(revision=2, images=(a_missing_image(revision=2),), before=(an_image(),))
    partly = a_result(images=(an_image(0), a_missing_image(1), an_image(2)))

    assert made(redone) == []
    assert [each.index for each in made(partly)] == [0, 2]


def test_a_caption_is_made_of_the_finished_prompt_and_own_columns():
    result = a_result(carried={"prompt": "raw", "style": "oil", "deep": {"er": "x"}, "lf_row": "k"})

    (sample,) = made(result, caption=parse("{prompt} in {style}, {gone|none}, {deep.er}", "--caption"))

    assert sample.caption == "A lamp in oil, none, x"
    with pytest.raises(Missing):
        made(a_result(carried={"style": ""}), caption=parse("{style}", "--caption"))


def test_a_record_has_own_columns_and_provenance_and_costs_only_if_asked():
    def record(**options):
        asked = ExportOptions(shape="webdataset", **options)
        (sample,) = samples_of(
            BATCH, a_result(carried={"key": "own", "text": "t", "lf_row": "r"}), asked, SampleNames()
        )
        found = PictureFinding(duplicate_of="b__lamp__0")
        return record_shape(["key", "text", "size"], asked).record(sample, sha256="ee", finding=found)

    plain = record()
    assert (plain["key"], plain["lf_key"], plain["own_text"], plain["size"]) == ("own", "lamp", "t", None)
    assert (plain["sha256"], plain["source_sha256"], plain["flags"]) == ("ee", "ab" * 32, "near_duplicate")
    assert plain["duplicate_of"] == "b__lamp__0"
    assert "duplicate_of" not in record(near_duplicates="drop")
    assert (plain["model"], plain["provider"], plain["request"]) == ("gpt-image-2", "maxapi.io", '{"n":1}')
    assert (plain["width"], plain["height"], plain["time"]) == (1024, 1536, "2026-05-14T02:14:07Z")
    assert not {"lf_row", "price_usd", "cost_usd"} & plain.keys()
    assert (record(with_cost=True)["price_usd"], record(with_cost=True)["cost_usd"]) == (0.02, 0.02)
    assert list(record(columns=("model", "key"))) == ["model", "key"]


def test_own_columns_with_names_that_loaders_take_give_way():
    own = ["image", "text", "file_name", "back_file_name", "file_names", "filename"]

    shape = record_shape(own, ExportOptions(shape="imagefolder", columns=tuple(own)))

    assert [(each.source, each.name) for each in shape.columns] == [
        ("image", "own_image"),
        ("text", "own_text"),
        ("file_name", "own_filename"),
        ("back_file_name", "own_back_filename"),
        ("file_names", "own_filenames"),
        ("filename", "filename"),
    ]


@pytest.mark.parametrize("names", [["image", "own_image", "own_image_2"], ["own_text", "text"]])
def test_a_column_that_gives_way_takes_no_other_ones_name(names):
    shape = record_shape(names, ExportOptions(shape="imagefolder", columns=tuple(names)))

    assert len({each.name for each in shape.columns}) == len(names)
    assert [each.source for each in shape.columns] == names
    assert all(each.name == each.source for each in shape.columns if each.source.startswith("own_"))


def test_a_table_has_one_type_a_column_and_web_dataset_keeps_values_as_they_stand():
    lines = [{"size": 1, "deep": {"a": 1}, "mixed": 1}, {"size": 2, "deep": None, "mixed": "x"}]

    def records(shape):
        asked = ExportOptions(shape=shape, columns=("size", "deep", "mixed", "flags"))
        samples = [next(samples_of(BATCH, a_result(carried=line), asked, SampleNames())) for line in lines]
        kept = record_shape(["size", "deep", "mixed"], asked, lines)
        return [list(kept.record(sample, sha256="", finding=PictureFinding()).values()) for sample in samples]

    assert records("webdataset") == [[1, {"a": 1}, 1, ""], [2, None, "x", ""]]
    assert records("parquet") == [[1, '{"a":1}', "1", []], [2, None, "x", []]]


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([1, 2.5, None, 3], [1.0, 2.5, None, 3.0]),
        ([2.5, 2**53], [2.5, 2.0**53]),
        ([2.5, 2**53 + 1], ["2.5", "9007199254740993"]),
        ([1, 2**53 + 1], [1, 2**53 + 1]),
        ([1, True], ["1", "true"]),
        (["007", 7], ["007", "7"]),
        ([1, 2.5, "2,5"], ["1", "2.5", "2,5"]),
    ],
)
def test_a_column_of_whole_and_other_numbers_is_one_of_floats_where_no_value_loses_anything(values, written):
    lines = [{"a": value} for value in values]
    asked = ExportOptions(shape="parquet", columns=("a",))

    shape = record_shape(["a"], asked, lines)

    samples = [sample for line in lines for sample in made(a_result(carried=line))]
    found = [shape.record(each, sha256="", finding=NOT_LOOKED_AT)["a"] for each in samples]
    assert (found, [*map(type, found)]) == (written, [*map(type, written)])


def test_columns_that_are_not_there_are_named_with_near_ones():
    def problems(**options):
        with pytest.raises(BadInput) as told:
            record_shape(["style", "title"], ExportOptions(shape="webdataset", **options))
        return told.value.problems

    assert problems(caption=parse("{styl}", "--caption")) == (
        '--caption: there is no column "styl". Did you mean style?',
    )
    assert problems(split_by="titel") == ('--split-by: there is no column "titel". Did you mean title?',)
    assert "--with-cost" in problems(columns=("cost_usd",))[0]


def test_the_card_is_the_same_in_whichever_order_images_were_counted():
    """An export that goes on counts the images that are there before those that it reads."""
    options = ExportOptions(shape="parquet")
    values = ("oil", "Oil", "OIL", "oil", "Oil", "OIL")
    samples = [
        replace(sample, facts={"model": each, "provider": "p", "prompt": ""})
        for each in values
        for sample in made(a_result(carried={"style": each, "Style": each}))
    ]

    def told(order):
        totals = Totals()
        for sample in order:
            totals.add(sample, NOT_LOOKED_AT)
        survey = SampleSurvey(batches=[BATCH], options=options)
        return card(survey, record_shape(["style", "Style"], options), totals, {"train": 9}).decode()

    cards = {told(samples), told(samples[1:] + samples[:1]), told(samples[::-1])}

    assert len(cards) == 1
    assert cards.pop().count("| Oil | 2 |") == len(["Style", "style"])


def test_images_that_rows_lack_beside_others_are_counted_and_told_in_the_card():
    options = ExportOptions(shape="parquet")
    survey = SampleSurvey(batches=[BATCH], options=options, rows_going_on=2)
    rows = [
        a_result("whole", images=(an_image(0), an_image(1))),
        a_result("part", images=(an_image(0), a_missing_image(1), a_missing_image(2))),
        a_result("none", images=(a_missing_image(0), a_missing_image(1))),
    ]

    found = list(survey.walk((BATCH, each) for each in rows))

    assert (len(found), survey.rows_without, survey.rows_partial, survey.images_lacking) == (3, 1, 1, 2)
    text = card(survey, record_shape([], options), Totals(), {}).decode()
    assert "- 1 row without a stored image\n- 2 images of 1 row that has others: not made, or not stored\n" in text
    assert "**It was made while 2 rows could still get images, which are not in it.**" in text


def test_the_card_says_nothing_of_what_is_not_lacking():
    options = ExportOptions(shape="parquet")
    survey = SampleSurvey(batches=[BATCH], options=options)

    text = card(survey, record_shape([], options), Totals(), {}).decode()

    assert "that has others" not in text
    assert "could still get" not in text


def test_the_card_counts_values_of_columns_under_the_names_that_they_have_in_the_data_set():
    options = ExportOptions(shape="parquet", splits=read_split("train=50,test=50"), split_by="image")
    totals = Totals()
    for each in [*made(a_result("a", carried={"image": "front"})), *made(a_result("b", carried={"image": "front"}))]:
        totals.add(each, NOT_LOOKED_AT)
    survey = SampleSurvey(batches=[BATCH], options=options)

    text = card(survey, record_shape(["image"], options), totals, {}).decode()

    assert "\n| own\\_image | train |\n" in text
    assert "a hash of the column `own_image`" in text


# -- splits ------------------------------------------------------------------------------------------------------------


def test_variations_and_images_of_one_row_are_in_one_split():
    options = {"splits": read_split("train=50,test=50")}
    rows = [
        [a_result(f"k{n}{end}", carried={"lf_row": f"k{n}"}, images=(an_image(0), an_image(1))) for end in ("-a", "-b")]
        for n in range(40)
    ]

    splits = [{sample.split for result in row for sample in made(result, **options)} for row in rows]

    assert all(len(each) == 1 for each in splits)
    assert set().union(*splits) == {"train", "test"}


def test_a_row_is_in_one_split_whichever_batch_its_images_are_of():
    other = replace(BATCH, name="another-model")
    asked = ExportOptions(shape="webdataset", splits=read_split("train=50,test=50"))

    def splits_of(batch):
        return [
            sample.split for n in range(60) for sample in samples_of(batch, a_result(f"k{n}"), asked, SampleNames())
        ]

    assert splits_of(BATCH) == splits_of(other)
    assert set(splits_of(BATCH)) == {"train", "test"}


@pytest.mark.parametrize(
    ("split_by", "said"),
    [
        (None, "by a hash of the key of the manifest's row, whatever the batch: all images of a row and its"),
        ("style", "by a hash of the column `style`: all images with one value of it are in one split."),
    ],
)
def test_the_card_says_what_is_in_one_split(split_by, said):
    options = ExportOptions(shape="parquet", splits=read_split("train=50,test=50"), split_by=split_by)
    survey = SampleSurvey(batches=[BATCH], options=options)

    text = card(survey, record_shape(["style"], options), Totals(), {}).decode()

    assert said in text


def test_split_by_a_column_keeps_each_of_its_values_in_one_split():
    results = [a_result(f"k{n}", carried={"house": f"h{n % 20}"}) for n in range(200)]
    samples = [each for result in results for each in made(result, splits=read_split("a=60,b=40"), split_by="house")]

    of = {
        house: {each.split for each in samples if each.own["house"] == house} for house in {f"h{n}" for n in range(20)}
    }

    assert all(len(splits) == 1 for splits in of.values())
    assert set().union(*of.values()) == {"a", "b"}


def test_splits_are_as_large_as_asked():
    splits = read_split("train=90,validation=5,test=5")
    found = [split_of(str(number), splits) for number in range(20_000)]

    assert {name: round(found.count(name) / 200) for name in set(found)} == {"train": 90, "validation": 5, "test": 5}


def test_splits_of_fractions_of_a_percent_are_read():
    assert read_split("a=99.9, b=0.1") == (SplitShare("a", Fraction("99.9")), SplitShare("b", Fraction("0.1")))


@pytest.mark.parametrize(
    "text", ["", "train", "train=90", "train=90,test=20", "a=50,a=50", "A=100", "a=0,b=100", "a=-1"]
)
def test_bad_splits_are_refused(text):
    with pytest.raises(ValueError, match="percentages"):
        read_split(text)


@pytest.mark.parametrize("name", ["all", "yes", "null"])
def test_splits_with_names_that_loaders_take_for_something_else_are_refused(name):
    with pytest.raises(ValueError, match=f'another name than "{name}"'):
        read_split(f"{name}=50,test=50")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train", "dev", "val"), 'other names than "dev" and "val": loaders take both for validation'),
        (("valid", "validation"), '"valid" and "validation": loaders take both for validation'),
        (("test", "eval"), '"test" and "eval": loaders take both for test'),
        (("train", "train_large"), '"train" and "train_large": loaders take both for train'),
        (("train_val", "test"), 'another name than "train_val", which loaders take for train and for validation'),
        (("train", "dev_val"), 'another name than "dev_val", which loaders take for validation and for validation'),
    ],
)
def test_splits_that_loaders_take_for_one_are_refused(names, said):
    with pytest.raises(ValueError, match=said):
        read_split(",".join(f"{name}=5" for name in names))


def test_splits_with_names_that_only_the_card_tells_are_read():
    assert [each.name for each in read_split("train=80,holdout=10,retest=10")] == ["train", "holdout", "retest"]


def test_sizes_and_columns_are_read():
    assert [read_size(text) for text in ("500MB", "1.5 gb", "7", "2kB")] == [500_000_000, 1_500_000_000, 7, 2_000]
    assert read_columns(" a, b,a ") == ("a", "b")
    for text in ("0", "5TB", "", "-1MB"):
        with pytest.raises(ValueError, match="500MB"):
            read_size(text)
    with pytest.raises(ValueError, match="commas"):
        read_columns(",")
