"""Tokens: what is shown once, and what is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.access import digest, is_same, is_token, make_token


def test_no_two_tokens_are_alike_and_only_the_first_letters_and_a_hash_are_kept():
    made = [make_token() for _ in range(100)]
    texts = {one.secret.get_secret_value() for one in made}

    assert len(texts) == len({one.digest for one in made}) == 100
    assert all(is_token(text) and len(text) == 46 for text in texts)
    for one in made:
        text = one.secret.get_secret_value()
        assert text.startswith(one.prefix)
        assert is_same(text, one.digest)
        assert text[len(one.prefix) :] not in repr(one)


@given(st.text())
def test_any_other_text_is_no_token(text):
    made = make_token()

    assert not is_token(text) or is_same(text, digest(text))
    assert not is_same(text, made.digest)
    assert not is_same(text, None)
