from __future__ import annotations

import re

import pytest

from jobs import errors
from jobs.errors import CODES, BadInput, LightfastError, NeedsPerson, StoreError
from tests.support import ROOT

DOCS = ROOT / "docs" / "reference" / "errors.md"


def test_the_documented_codes_are_the_codes():
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", DOCS.read_text(), re.MULTILINE)

    assert dict(rows) == CODES


def test_codes_are_sorted_so_that_a_new_one_has_one_place():
    assert list(errors.OWN_CODES) == sorted(errors.OWN_CODES)


def test_no_code_means_two_things():
    from providers.codes import CODES as PROVIDERS  # noqa: PLC0415  only here

    assert not PROVIDERS.keys() & errors.OWN_CODES.keys()


@pytest.mark.parametrize(
    ("error", "code"), [(LightfastError("x"), 1), (BadInput(["a", "b"]), 2), (NeedsPerson("x"), 4)]
)
def test_the_class_decides_the_exit_code(error, code):
    assert error.exit_code == code


def test_bad_input_shows_every_problem():
    assert str(BadInput(["first", "second"])) == "first\nsecond"


def test_a_store_error_carries_facts():
    error = StoreError(code="AccessDenied", message="s3://b refuses writes", retryable=False, denied=True)

    assert (error.code, error.retryable, error.denied) == ("AccessDenied", False, True)
    assert "AccessDenied" in str(error)
