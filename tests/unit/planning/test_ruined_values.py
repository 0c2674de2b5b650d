"""What a spreadsheet or a program made of a value is named as that, and no picture of it is bought without a word."""

from __future__ import annotations

import pytest

from jobs.states import JobState
from tests.support.planned_rows import plan, table


def bad(tmp_path, row, **options):
    (planned,) = plan(tmp_path, table({"key": "k", **row}), **options)
    assert planned.row.state is JobState.INVALID
    return planned.row.message


def looked_at(tmp_path, row, **options):
    (planned,) = plan(tmp_path, table({"key": "k", **row}), **options)
    assert planned.row.state is JobState.READY, planned.problems
    return [f"{each.column}: {each.value}: {each.legal}" for each in planned.doubts]


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ("16:09", "a spreadsheet has made a time of it; did you mean 16:9?"),
        ("16:09:00", "a time of it; did you mean 16:9?"),
        ("4:09 PM", "a time of it; did you mean 16:9?"),
        ("4:03", "a time of it; did you mean 4:3?"),
        ("09:16", "a time of it; did you mean 9:16?"),
        ("1899-12-30 16:09:00", "a time of it; did you mean 16:9?"),
        ("0 days 03:02:00", "a time of it; did you mean 3:2?"),
        ("0.672916667", "a time of it, as a part of a day; did you mean 16:9?"),
        ("0,16875", "as a part of a day; did you mean 4:3?"),
        ("0.7083333", "a spreadsheet may have made this number of a ratio"),
        ("17:00", "a spreadsheet may have made this time of a ratio"),
        ("03. Feb", "a date of it; did you mean 3:2 or 2:3?"),
        ("2-Mar", "a date of it; did you mean 2:3 or 3:2?"),
        ("02.Mrz", "a date of it; did you mean 2:3 or 3:2?"),
        ("2026-03-04 00:00:00", "a date of it; did you mean 4:3 or 3:4?"),
        ("4/3/2026", "a date of it; did you mean 4:3 or 3:4?"),
        ("1.78", "did you mean 16:9?"),
        ("1", "did you mean 1:1?"),
        ("16x9", "did you mean 16:9?"),
        ("16/9", "did you mean 16:9?"),
        ("1920:1080", "did you mean 16:9?"),
        ("portrait_16_9", "did you mean 9:16?"),
        ("#N/A", "a spreadsheet's error stands here"),
        ("nan", "stands for a missing value"),
    ],
)
def test_what_became_of_a_ratio_is_told_with_the_ratio_it_was(tmp_path, ratio, said):
    assert said in bad(tmp_path, {"prompt": "a", "ratio": ratio})


@pytest.mark.parametrize(
    "text", ["#NAME?", "#REF!", "#N/A", "#VALUE!", "#DIV/0!", "#NV", "#BEZUG!", "#¿NOMBRE?", "########", "Err:502"]
)
def test_a_spreadsheets_error_is_no_prompt_no_key_and_no_column_of_a_prompt(tmp_path, text):
    assert f'column prompt: "{text}". a spreadsheet\'s error' in bad(tmp_path, {"prompt": text})
    assert f'column key: "{text}". a spreadsheet\'s error' in bad(tmp_path, {"key": text, "prompt": "a"})
    assert f'column Title: "{text}". a spreadsheet\'s error' in bad(tmp_path, {"Title": text}, prompt="A {Title|x}")


@pytest.mark.parametrize("text", ["nan", "NaN", "null", "NULL", "undefined", "<NA>", "NaT", "[object Object]"])
def test_a_missing_value_is_no_prompt_no_key_and_no_column_of_a_prompt(tmp_path, text):
    assert "column prompt: " in bad(tmp_path, {"prompt": text})
    assert "column key: " in bad(tmp_path, {"key": text, "prompt": "a"})
    assert "column Title: " in bad(tmp_path, {"Title": text}, prompt="A {Title}")


@pytest.mark.parametrize("text", ["None", "N/A", "TRUE", "FALSCH", "-"])
def test_what_may_be_a_word_is_no_prompt_and_is_told_in_a_column_of_a_prompt(tmp_path, text):
    why = "truth value" if text in {"TRUE", "FALSCH"} else "stands for a missing value"
    assert why in bad(tmp_path, {"prompt": text})
    assert why in bad(tmp_path, {"prompt": text}, prompt="{prompt}, in a studio")
    (told,) = looked_at(tmp_path, {"Color": text}, prompt="A lamp, {Color}")
    assert told.startswith(f"Color: {text}: the prompt says this word")
    assert looked_at(tmp_path, {"prompt": "a", "Color": text}) == []


@pytest.mark.parametrize("text", ["#1 fan!", "a #wow! lamp", "Nancy", "null island", "The #NAME? of the rose"])
def test_texts_that_only_begin_like_one_are_texts(tmp_path, text):
    assert looked_at(tmp_path, {"Title": text}, prompt="Photo: {Title}") == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("1,02E+12", "a long number that a spreadsheet has rounded"),
        ("1.02E+12", "a long number that a spreadsheet has rounded"),
        ("02.Mrz", "a date that a spreadsheet has made of the key"),
        ("2-Mar", "a date that a spreadsheet has made of the key"),
        ("Mar-02", "a date that a spreadsheet has made of the key"),
    ],
)
def test_a_key_that_a_spreadsheet_has_changed_is_told_before_money(tmp_path, key, said):
    (told,) = looked_at(tmp_path, {"key": key, "prompt": "a"})

    assert said in told


@pytest.mark.parametrize("key", ["E12", "1E3X", "march-2", "2-marble", "1020000000123", "2026-03-02", "A-1"])
def test_keys_like_any_other_are_not_told(tmp_path, key):
    assert looked_at(tmp_path, {"key": key, "prompt": "a"}) == []


@pytest.mark.parametrize("text", ["Café", "don\u2019t", "90°", "при", "a \U0001f600 face", "x" * 300 + " für"])
def test_a_prompt_that_was_decoded_wrongly_is_told_with_the_place(tmp_path, text):
    wrong = text.encode().decode("cp1252")

    (told,) = looked_at(tmp_path, {"prompt": wrong})

    assert told.partition(": ")[2][:3] in wrong
    assert "export it again as UTF-8" in told
    assert looked_at(tmp_path, {"prompt": text}) == []


@pytest.mark.parametrize("character", ["\ufffd", "€".encode("cp1252").decode("latin-1")])
def test_a_character_that_could_not_be_read_is_told(tmp_path, character):
    assert len(looked_at(tmp_path, {"prompt": f"a lamp for {character}10"})) == 1


@pytest.mark.parametrize("prompt", ["„Spaß“", "« ÉTÉ »", "Ångström, Ñandú", "写真", "PÃO”", "CAFÉ»"])
def test_letters_with_accents_are_nothing_to_look_at(tmp_path, prompt):
    assert looked_at(tmp_path, {"prompt": prompt}) == []


def test_a_number_with_a_decimal_comma_is_named(tmp_path):
    assert "a number with a decimal comma; did you mean 2?" in bad(tmp_path, {"prompt": "a", "n": "2,0"})


@pytest.mark.parametrize(
    "prompt", ["a red fox --ar 16:9", "fox --v 6 --style raw", "--no text, a fox", "fox --stylize 250"]
)
def test_parameters_of_midjourney_are_told(tmp_path, prompt):
    (told,) = looked_at(tmp_path, {"prompt": prompt})

    assert "this is Midjourney's, and a word of the prompt here" in told


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<p>Brass lamp</p>", "<p>"),
        ("Brass lamp<br />with shade", "<br />"),
        ("Brass<BR>lamp", "<BR>"),
        ('<div class="x">Lamp</div>', '<div class="x">'),
        ("Salt &amp; pepper", "&amp;"),
        ("caf&#233; &nbsp;", "&#233;"),
        ("<!-- x -->lamp", "<!--"),
    ],
)
def test_html_in_a_prompt_is_told_with_its_column(tmp_path, text, found):
    row = {"Body (HTML)": text, "Title": "Lamp"}

    (told,) = looked_at(tmp_path, {"prompt": text})
    (of_body,) = looked_at(tmp_path, row, prompt="{Title}: {Body (HTML)}")
    (of_template,) = looked_at(tmp_path, row, prompt="<b>{Title}</b>")

    assert told.startswith(f"prompt: {found}: this is HTML, and is sent as it stands")
    assert of_body.startswith(f"Body (HTML): {found}: this is HTML")
    assert of_template.startswith("prompt: <b>: this is HTML")
    assert looked_at(tmp_path, row, prompt="{Title}") == []


@pytest.mark.parametrize(
    "prompt", ["Salt & pepper", "R&D; lamp", "a < b > c", "5 <10 cm", "<lora:x:1> fox", "a <3 card", "AT&T", "&;", "<>"]
)
def test_signs_that_are_no_html_are_nothing_to_look_at(tmp_path, prompt):
    assert looked_at(tmp_path, {"prompt": prompt}) == []


@pytest.mark.parametrize("prompt", ["a fox -- in the snow", "fox--ar 16:9", "a fox --all day", "2--3 foxes"])
def test_dashes_are_nothing_to_look_at(tmp_path, prompt):
    assert looked_at(tmp_path, {"prompt": prompt}) == []
