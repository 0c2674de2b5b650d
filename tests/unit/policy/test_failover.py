"""Where a row may go: the same model, equal pixels, money agreed to, and never one that names its provider. Pure."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.policy.failover import Failover, StuckRow, elsewhere
from providers.token_prices import TokenPrices
from providers.types import Request, Route

REQUEST = Request(prompt="a lamp", model="gpt-image-2", ratio="1:1", resolution="1k")


def route(provider, *, price=20_000, pixels=(1024, 1024), model="gpt-image-2"):
    return Route(provider=provider, model=model, provider_model="m", pixels=pixels, max_n=4, price=price)


def stuck(**changes):
    values = {"request": REQUEST, "provider": "maxapi.io", "pixels": (1024, 1024), "price": 20_000, "images": 2}
    return StuckRow(**{**values, "allowed": (), "closed": frozenset(), **changes})


def goes(routes, *, policy=Failover.EQUAL, spare=0, **changes):
    found = elsewhere(stuck(**changes), policy, routes, spare)
    return found.provider if found else None


def test_the_best_route_at_another_provider_is_taken():
    assert goes([route("maxapi.io"), route("maxapi.dev"), route("apimaster")]) == "maxapi.dev"


def test_off_means_nowhere_and_off_is_the_default():
    from jobs.ledger.batches.values import NewBatch  # noqa: PLC0415  for its default

    assert goes([route("maxapi.dev")], policy=Failover.OFF) is None
    assert {field.name: field.default for field in dataclasses.fields(NewBatch)}["failover"] is Failover.OFF


def test_a_row_that_names_its_provider_stays():
    pinned = dataclasses.replace(REQUEST, provider="maxapi.io")

    assert goes([route("maxapi.dev")], request=pinned) is None


@pytest.mark.parametrize(("policy", "provider"), [(Failover.EQUAL, None), (Failover.ANY_SIZE, "maxapi.dev")])
@pytest.mark.parametrize("pixels", [(1024, 768), None])
def test_other_or_unknown_pixels_are_not_equal(policy, provider, pixels):
    assert goes([route("maxapi.dev", pixels=pixels)], policy=policy) == provider


def test_pixels_nobody_knows_are_equal_to_nothing():
    assert goes([route("maxapi.dev", pixels=None)], pixels=None) is None


def test_another_model_is_never_the_same():
    assert goes([route("maxapi.dev", model="grok-imagine-pro")], policy=Failover.ANY_SIZE) is None


def test_neither_a_provider_it_failed_at_nor_one_the_user_left_out_is_asked():
    both = [route("maxapi.dev"), route("apimaster")]

    assert goes(both, closed=frozenset({"maxapi.dev"})) == "apimaster"
    assert goes(both, allowed=("maxapi.io", "apimaster")) == "apimaster"
    assert goes(both, allowed=("maxapi.io",)) is None


@pytest.mark.parametrize(("spare", "provider"), [(0, None), (19_999, None), (20_000, "apimaster")])
def test_a_dearer_route_is_taken_only_from_money_that_is_to_spare(spare, provider):
    assert goes([route("apimaster", price=30_000)], spare=spare) == provider


def test_a_cheaper_one_needs_none_and_one_without_a_price_replaces_only_another_such():
    assert goes([route("maxapi.dev", price=4_900)]) == "maxapi.dev"
    assert goes([route("maxapi.dev", price=None)], spare=10**9) is None
    assert goes([route("maxapi.dev", price=None)], price=None) == "maxapi.dev"


def test_a_route_that_is_billed_by_tokens_is_held_against_the_money_to_spare_with_the_rows_own_prompt():
    tokens = TokenPrices(text_input=350_000, image_input=350_000, image_output=700_000)
    by_tokens = dataclasses.replace(route("maxapi.dev", price=19_900), tokens=tokens)
    long = dataclasses.replace(REQUEST, prompt="a lamp, " * 1_000)

    assert goes([by_tokens]) == "maxapi.dev"
    assert goes([by_tokens], request=long) is None  # $0.0028 for its text, and nothing to spare
