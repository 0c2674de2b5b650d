"""What a person sees at a terminal: whole words, whole commands, nothing that the terminal obeys, answers to Ctrl-C."""

from __future__ import annotations

import errno
import itertools
import re
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import main as entry
from cli.flow import consent
from cli.output import terminal
from jobs.command_lines import command
from jobs.errors import BadInput, Interrupted
from jobs.formatting import plain
from worker.registration.preflight import _n

ODD = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\x00\r"


# -- lines ---------------------------------------------------------------------------------------------------------


def test_a_long_line_breaks_between_words_below_its_label():
    line = "money       $480.04 of $500.00 (list prices), unknown at most $0.44, lost $0.00, and so on and on"

    assert list(terminal.fitted(line, 60)) == [
        "money       $480.04 of $500.00 (list prices), unknown at",
        "            most $0.44, lost $0.00, and so on and on",
    ]
    assert list(terminal.fitted(line, None)) == [line]


def test_a_command_to_paste_stays_on_one_line_however_long_it_is():
    again = command("redo", "shop", *itertools.chain.from_iterable(("--key", f"key number {n}") for n in range(9)))
    line = f"  3 images only a new one can replace, which costs money, so that you should look first:  {again}"

    broken = list(terminal.fitted(line, 60))

    assert broken[-1].strip() == again
    assert all(len(each) <= 60 for each in broken[:-1])


@pytest.mark.parametrize("label", ["next        ", "            ", ""])
def test_a_command_alone_stays_behind_its_label(label):
    line = f"{label}lightfast results {'shop' * 30} --per image -o done.csv"

    assert list(terminal.fitted(line, 60)) == [line]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]) | st.just(" ")), st.integers(40, 120))
def test_nothing_is_lost_by_breaking(text, width):
    assert "".join("".join(terminal.fitted(text, width)).split()) == "".join(text.split())


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_written(text):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", plain(text + ODD))


def test_what_is_hidden_in_a_text_is_seen():
    assert plain("a\x1b[31mred") == r"a\x1b[31mred"
    assert plain("Grüße, 日本\tzwei\n") == "Grüße, 日本\tzwei\n"


def test_a_count_that_grows_does_not_swallow_the_next_line(capsys):
    terminal.tally("20,000 rows read")
    terminal.put("error: shop.csv: no header")

    assert capsys.readouterr().err == f"\r20,000 rows read\r{' ' * 16}\rerror: shop.csv: no header\n"


# -- questions -----------------------------------------------------------------------------------------------------

QUESTIONS = {
    "money": (lambda: consent.agree(20_000, yes=False, sandbox=False, command="run"), "Nothing was spent."),
    "anything else": (
        lambda: consent.confirm("Give it up?", yes=False, sandbox=False, command="give-up"),
        "Nothing was changed.",
    ),
}


@pytest.fixture
def answered(monkeypatch):
    monkeypatch.setattr(consent, "is_terminal", lambda: True)

    def answer(read):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=read))

    return answer


def pressed():
    raise KeyboardInterrupt


@pytest.mark.parametrize("question", QUESTIONS)
def test_ctrl_c_at_a_question_says_that_nothing_happened_on_a_line_of_its_own(question, answered, capsys):
    ask, nothing = QUESTIONS[question]
    answered(pressed)

    with pytest.raises(Interrupted, match=f"stopped by Ctrl-C. {nothing}") as ended:
        ask()

    assert ended.value.exit_code == 130
    assert capsys.readouterr().err.endswith("[y/N] \n")


@pytest.mark.parametrize("question", QUESTIONS)
def test_ctrl_d_at_a_question_is_a_no_on_a_line_of_its_own(question, answered, capsys):
    ask, nothing = QUESTIONS[question]
    answered(lambda: "")

    with pytest.raises(BadInput, match=f"You did not agree. {nothing}"):
        ask()

    assert capsys.readouterr().err.endswith("[y/N] \n")


def test_ctrl_c_anywhere_else_is_told_in_words_and_ends_with_130(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lightfast", "status"])
    monkeypatch.setattr(entry.Lazy, "resolve_command", lambda *_: pressed())

    with pytest.raises(SystemExit) as ended:
        entry.main()

    assert ended.value.code == 130
    assert "error: stopped by Ctrl-C. What is on record stays" in capsys.readouterr().err


# -- what the machine refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_file_that_cannot_be_written_is_no_mistake_of_lightfast(number, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(number, "No", "/shop/lightfast-sandbox.port")

    monkeypatch.setattr(sys, "argv", ["lightfast", "status"])
    monkeypatch.setattr(entry.Lazy, "resolve_command", refuse)

    with pytest.raises(SystemExit) as ended:
        entry.main()

    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "error: /shop/lightfast-sandbox.port cannot be written: No. What is paid stays on record" in said
    assert "mistake" not in said


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1000000", "1234567890123"])
def test_a_number_of_images_is_not_shortened(text):
    assert _n(text) == int(text)


def test_a_number_that_no_count_of_images_has_is_refused_as_it_was_typed():
    with pytest.raises(BadInput, match=f'--n: "{"9" * 5000}"'):
        _n("9" * 5000)


def test_yes_says_what_it_agrees_to():
    costs = dict.fromkeys(("run", "submit", "retry", "redo", "resume"), "Agree to the cost without being asked.")
    free = dict.fromkeys(("adopt", "give-up", "unknown"), "Do it without being asked.")

    told = {name: option.help for name in costs | free for option in entry.load(name).params if option.name == "yes"}

    assert told == costs | free
