"""MaxAPI.dev billed by tokens: set aside at most, charged by usage, and the books agree with the provider's own."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.commands.again import _with_prompt
from jobs.facts import ImageLost, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.reports.books import Tally
from jobs.policy.token_costs import expected
from jobs.results.completion import Reason, RunState, waits_for
from jobs.settings.model import AccountSettings
from jobs.states import JobState
from providers.catalog.models import Catalog
from providers.dialects.maxapi_dev import DIALECT
from providers.token_prices import AXIS, LARGEST, TokenPrices, Usage, assumed, output_tokens
from providers.types import MICROS, Request
from tests.integration.ledger.test_copy_failures import store
from tests.support import stocked_ledger as ledger_stock
from tests.support.dialect_shapes import answer
from tests.support.ledger_sums import check_money
from tests.support.results_samples import a_result
from tests.support.stocked_ledger import NOW
from tests.support.worker_world import row, settings, stock
from worker.local.run import run_batch
from worker.registration.again import price_of
from worker.runtime.limits import limits_of
from worker.services import build

PRICES = TokenPrices(text_input=350_000, image_input=350_000, image_output=700_000)
CATALOG = Catalog.load()
A = "https://cdn.maxapi.dev/0.png"


def ask(**fields):
    return CATALOG.routes(CATALOG.complete(Request(**{"prompt": "a lamp", "model": "gpt-image-2", **fields})))


# -- the arithmetic ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "quality", "tokens"),
    [
        ((1024, 1024), "low", 196),
        ((1024, 1024), "high", 7_024),
        ((1536, 1024), "high", 5_488),
        ((1024, 1536), "high", 5_488),
        ((3584, 2048), "high", 12_329),
        ((2048, 1152), "medium", 1_413),
    ],
)
def test_output_tokens_are_those_that_openais_calculator_tells(pixels, quality, tokens):
    assert output_tokens(pixels, quality) == tokens


@given(width=st.integers(1, 240), height=st.integers(1, 240), quality=st.sampled_from([*AXIS, "auto", None]))
def test_no_legal_size_costs_more_than_what_is_taken_where_the_pixels_are_not_known(width, height, quality):
    size = (width * 16, height * 16)
    if 655_360 <= size[0] * size[1] <= 8_294_400 and max(size) <= 3 * min(size):
        assert output_tokens(size, quality) <= output_tokens(LARGEST, None)


def test_a_charge_is_rounded_up_to_a_whole_micro_dollar_once():
    assert PRICES.charge(Usage(text=12, image=0, output=7_024)) == 4_921  # 4.2 + 4,916.8
    assert PRICES.charge(Usage(text=1, image=0, output=0)) == 1


@given(prompt=st.text(max_size=300), quality=st.sampled_from([*AXIS, None]), n=st.integers(1, 10))
def test_what_is_set_aside_holds_any_usage_by_the_arithmetic(prompt, quality, n):
    bound = n * (PRICES.bound((1024, 1024), quality, 2) + PRICES.prompt(prompt))
    used = Usage(text=n * len(prompt.encode()), image=n * 2 * 1_536, output=n * output_tokens((1024, 1024), quality))

    assert PRICES.charge(used) <= bound


# -- the catalogue -------------------------------------------------------------------------------------------------


def test_the_cheapest_priced_route_is_the_one_that_is_billed_by_tokens():
    best, mix, io, *_ = ask()

    assert [(route.provider, route.mode) for route in (best, mix, io)] == [
        ("maxapi.dev", "official-cheap"),
        ("maxapi.dev", "mix"),
        ("maxapi.io", None),
    ]
    assert best.expected <= best.price < mix.price
    assert best.assumed == (
        "7,024 output tokens an image (1024x1024, high, the dearest, as no quality is named): "
        "the most that it can have, and usually it has fewer"
    )


@pytest.mark.parametrize(
    ("pixels", "quality", "is_the_most"),
    [
        ((1024, 1024), "low", False),
        ((1024, 1024), "high", False),
        ((1024, 1024), "auto", True),
        ((1024, 1024), None, True),
        (None, "low", True),
    ],
)
def test_an_estimate_is_called_the_most_where_the_quality_or_the_pixels_are_not_known(pixels, quality, is_the_most):
    assert ("the most that it can have, and usually it has fewer" in assumed(pixels, quality)) is is_the_most


def test_where_the_pixels_are_not_known_the_largest_are_assumed_and_mix_is_cheaper():
    assert ask(references=(A,))[0].mode == "mix"


def test_the_rows_or_the_accounts_own_mode_is_kept_to():
    assert {route.mode for route in ask(provider="maxapi.dev", options={"route_mode": "mix"})} == {"mix"}
    by_account = CATALOG.with_route_mode("maxapi.dev", "mix")
    (route,) = by_account.routes(by_account.complete(Request(prompt="x", model="gpt-image-2", provider="maxapi.dev")))
    assert (route.mode, route.price) == ("mix", 12_000)


def test_a_price_of_the_users_own_is_by_the_image():
    mine = CATALOG.with_prices({"maxapi.dev": {"gpt-image-2": {"1k": 0.01}}})
    best = mine.routes(mine.complete(Request(prompt="x", model="gpt-image-2")))[0]

    assert (best.mode, best.price, best.tokens) == ("mix", 10_000, None)


def test_beside_a_price_of_the_users_own_other_resolutions_are_still_billed_by_their_tokens():
    mine = CATALOG.with_route_mode("maxapi.dev", "official-cheap")
    mine = mine.with_prices({"maxapi.dev": {"gpt-image-2": {"1k": 0.01}}})
    asked = {"prompt": "x", "model": "gpt-image-2", "provider": "maxapi.dev"}
    billed = {}
    for resolution in ("1k", "2k"):
        (route,) = mine.routes(mine.complete(Request(**asked, resolution=resolution)))
        billed[resolution] = mine.tokens_of("maxapi.dev", route.provider_model, route.mode, route.price_of("x"))
        assert billed[resolution] == route.tokens

    assert [tokens is None for tokens in billed.values()] == [True, False]


# -- the answer ----------------------------------------------------------------------------------------------------

USED = {"input_tokens": 50, "input_tokens_details": {"text_tokens": 20, "image_tokens": 30}, "output_tokens": 196}


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (USED, Usage(text=20, image=30, output=196)),
        ({"input_tokens": 50, "output_tokens": 196}, Usage(text=50, image=0, output=196)),
        ({**USED, "input_tokens": 60}, Usage(text=30, image=30, output=196)),
        ({"output_tokens": 196}, None),
        ({"input_tokens": "50", "output_tokens": "196"}, None),
        ({"input_tokens": 50, "output_tokens": -1}, None),
        ({"input_tokens": 50, "output_tokens": True}, None),
        (None, None),
        ([], None),
    ],
)
def test_usage_is_read_where_it_is_whole(told, usage):
    for body in (
        {"status": "succeeded", "data": [{"url": A}], "usage": told},
        {"created": 1, "data": [{"url": A}], "usage": told},
    ):
        assert DIALECT.read_poll(answer(body)).usage == usage
    assert DIALECT.read_submit(answer(body), base_url="https://api.maxapi.dev").usage == usage


# -- a run against the stand-in ------------------------------------------------------------------------------------


def services_at(sandbox, tmp_path, **account):
    fast = {"submits_per_second": 100.0, "polls_per_second": 200.0, "max_in_flight": 20}
    quick = {"first_poll_after": 0.1, "poll_every": 0.05, "api_key": "sandbox-key", **fast, **account}
    mine = AccountSettings(provider="maxapi.dev", base_url=f"{sandbox.url}/maxapi.dev", **quick)
    here = settings(tmp_path).model_copy(update={"accounts": {"main": mine}, "allow_private_hosts": True})
    services = build(here)
    services.ledger.accounts.sync(limits_of(here))
    return services


def by_tokens(place: int, prompt: str, *, n: int = 1, quality: str | None = None):
    plain = row(place, n=n, max_n=10)
    request = dataclasses.replace(plain.request, prompt=prompt, quality=quality)
    route = ask(prompt=prompt, n=n, quality=quality, provider="maxapi.dev", options={"route_mode": "official-cheap"})[0]
    told = {"request": request, "request_hash": request.hash(), "pixels": route.pixels, "price": route.price_of(prompt)}
    return dataclasses.replace(
        plain, **told, provider="maxapi.dev", provider_model=route.provider_model, mode=route.mode
    )


async def test_the_books_agree_with_the_providers_own_to_the_micro_dollar(sandbox, tmp_path):
    sandbox.play(takes={"default": [0.05, 0.1]}, pictures={"tiny": True})
    services = services_at(sandbox, tmp_path, route_mode="mix")  # what was planned is asked for all the same
    rows = [
        by_tokens(0, "a heron lamp", quality="low"),
        by_tokens(1, "vases", n=3, quality="medium"),
        by_tokens(2, "a chair", n=7, quality="low"),
        by_tokens(3, "no quality is asked for"),
    ]
    stock(services, tmp_path, rows, budget=100_000)
    try:
        ending = await run_batch(services, "b", max_stall=30.0)

        found = {result.key: result for result in services.ledger.reports.results("b")}
        (entry,) = services.ledger.reports.money()
        assert (ending.exit_code, services.ledger.reports.progress("b").jobs) == (0, {JobState.DONE: 4})
        assert entry.money.charged == sandbox.stats()["total"]["money_micros"] == entry.money.stored
        assert (entry.money.closes, entry.money.in_flight) == (True, 0)
        assert entry.money.refunded > 0  # what was set aside beyond the usage is free again
        for result in found.values():
            assert result.cost == sum(image.cost for image in result.images)
        assert (
            sum(line.charged for line in services.ledger.reports.audit(None, None, None, None)) == entry.money.charged
        )
        _demand_learnt(services, rows[2])
    finally:
        await services.close()


def _demand_learnt(services, lamp):
    """Eight like this one are settled, one and seven of two rows: the next plan estimates by them."""
    (route, *_) = ask(prompt="another", quality="low", provider="maxapi.dev", options={"route_mode": "official-cheap"})

    price, assumed = expected(route, lamp.request, services.ledger.reports.learnt().costs)
    arithmetic, without = expected(route, dataclasses.replace(lamp.request, quality="high"), {})

    assert price in range(138, 142)  # 196 output tokens, and a few of the prompt
    assert assumed == "what the last 8 images like it have cost"
    assert (arithmetic, without) == (route.estimate, route.assumed)


@pytest.mark.parametrize("said", ["absent", "zero", "garbage"])
async def test_where_usage_tells_nothing_what_was_set_aside_counts_and_is_told(sandbox, tmp_path, said):
    sandbox.play(takes={"default": [0.05, 0.1]}, pictures={"tiny": True})
    services = services_at(sandbox, tmp_path)
    lamp = by_tokens(0, f"a lamp [usage {said}]", quality="low")
    stock(services, tmp_path, [lamp])
    try:
        await run_batch(services, "b", max_stall=30.0)

        (entry,) = services.ledger.reports.money()
        assert (entry.money.charged, entry.money.closes) == (lamp.price, True)
        assert "charge_estimated" in [event.name for event in services.ledger.reports.story("b", "k0").events]
        list((tally := Tally()).count(services.ledger.reports.audit(None, None, None, None)))
        assert (tally.estimated, tally.estimates, tally.least) == (lamp.price, 1, 0)
    finally:
        await services.close()


async def test_a_charge_above_what_was_set_aside_is_on_record_as_it_is(sandbox, tmp_path):
    sandbox.play(takes={"default": [0.05, 0.1]}, pictures={"tiny": True})
    services = services_at(sandbox, tmp_path)
    lamp = by_tokens(0, "a lamp [usage over 4]", quality="low")
    stock(services, tmp_path, [lamp])
    try:
        await run_batch(services, "b", max_stall=30.0)

        (entry,) = services.ledger.reports.money()
        assert entry.money.charged == sandbox.stats()["total"]["money_micros"] > lamp.price
        assert entry.money.closes
        assert "charged_above" in [event.name for event in services.ledger.reports.story("b", "k0").events]
    finally:
        await services.close()


async def test_a_budget_is_never_crossed_by_what_images_turn_out_to_cost(sandbox, tmp_path):
    sandbox.play(takes={"default": [0.05, 0.1]}, pictures={"tiny": True})
    services = services_at(sandbox, tmp_path)
    rows = [by_tokens(place, f"lamp {place}", quality="medium") for place in range(20)]
    budget = rows[0].price * 5
    stock(services, tmp_path, rows, budget=budget, allow_partial=True)
    try:
        ending = await run_batch(services, "b", max_stall=5.0)

        (entry,) = services.ledger.reports.money()
        assert ending.exit_code == 4
        assert entry.money.charged == sandbox.stats()["total"]["money_micros"] <= budget
        assert budget - entry.money.charged < rows[0].price  # the rest was given back, and used
        assert budget < MICROS
    finally:
        await services.close()


def test_what_a_lost_image_has_cost_does_not_stick_to_the_one_that_is_made_in_its_place():
    ledger = open_ledger("sqlite://")
    ledger_stock.stock(ledger, ledger_stock.rows(1))
    (first,) = ledger.claims.submits("main", NOW, lease=90).intents
    done = TaskSucceeded(attempt_id=first.attempt_id, at=NOW, images=(ledger_stock.made(),), at_once=True)
    ledger.facts.record([dataclasses.replace(done, cost=123)])
    (due,), _ = ledger.claims.copies(NOW + 1, holder="me", lease=0, at_most=1)
    ledger.facts.record([ImageLost(image_id=due.image_id, at=NOW, code="link_dead", message="gone")])
    lost = check_money(ledger).lost
    ledger.batches.retry("spring", NOW)
    (again,) = ledger.claims.submits("main", NOW + 9, lease=90).intents
    ledger.facts.record([dataclasses.replace(done, attempt_id=again.attempt_id)])

    money = check_money(ledger)
    assert (lost, money.lost, money.waiting) == (123, 123, ledger_stock.PRICE)
    ledger.close()


def test_shares_of_a_charge_are_whole_and_come_to_it():
    ledger = open_ledger("sqlite://")
    ledger_stock.stock(ledger, ledger_stock.rows(1, n=7))
    (one,) = ledger.claims.submits("main", NOW, lease=90).intents
    images = tuple(ledger_stock.made(f"https://cdn.example/{place}.png") for place in range(7))
    ledger.facts.record([TaskSucceeded(attempt_id=one.attempt_id, at=NOW, images=images, at_once=True, cost=1_000)])

    (result,) = ledger.reports.results("spring")
    shares = [image.cost for image in result.images]
    assert (sum(shares), result.cost) == (1_000, 1_000)
    assert set(shares) == {142, 143}
    check_money(ledger)
    ledger.close()


@pytest.mark.parametrize(("mode", "price"), [(None, 12_000), ("mix", 12_000), ("official-cheap", 5_435)])
def test_what_making_a_row_anew_costs_is_told_for_the_route_it_is_made_by(mode, price):
    request = CATALOG.complete(Request(prompt="a lamp", model="gpt-image-2"))
    dev = {"provider": "maxapi.dev", "provider_model": "openai/gpt-image-2-beta"}

    assert price_of(CATALOG, a_result(request=request, mode=mode, **dev)) == price


def test_a_row_that_is_made_anew_with_a_longer_prompt_is_told_and_set_aside_at_what_that_may_cost():
    request = CATALOG.complete(Request(prompt="a lamp", model="gpt-image-2"))
    dev = {"provider": "maxapi.dev", "provider_model": "openai/gpt-image-2-beta", "mode": "official-cheap"}
    row = a_result(request=request, **dev)

    longer = _with_prompt(row, "a lamp, " * 1_000)

    assert price_of(CATALOG, longer) == price_of(CATALOG, row) + 2_797  # 7,994 bytes more, at $0.35 for a million
    ledger = open_ledger("sqlite://")
    ledger_stock.stock(ledger, [ledger_stock.priced(ledger_stock.row(0), price_of(CATALOG, row))])
    ledger.batches.redo("spring", [("k0", longer.request)], NOW, {"k0": price_of(CATALOG, longer)})
    assert [one.price for one in ledger.claims.submits("main", NOW, lease=90).intents] == [price_of(CATALOG, longer)]
    ledger.close()


def test_a_budget_is_not_called_used_while_its_next_row_fits_it():
    """All rows together may be set aside at more than the budget, and cost less: nobody works yet, and it has room."""
    ledger = open_ledger("sqlite://")
    price = ledger_stock.PRICE
    ledger_stock.stock(ledger, ledger_stock.rows(3), budget=5 * price // 2)
    before = waits_for(
        RunState(progress=ledger.reports.progress("spring", NOW), accounts=ledger.accounts.all(), now=NOW)
    )
    for intent in ledger.claims.submits("main", NOW, lease=90).intents:
        done = TaskSucceeded(attempt_id=intent.attempt_id, at=NOW, images=(ledger_stock.made(),), at_once=True)
        ledger.facts.record([dataclasses.replace(done, cost=price)])
    copies, _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=9)
    store(ledger, copies)

    after = waits_for(
        RunState(progress=ledger.reports.progress("spring", NOW), accounts=ledger.accounts.all(), now=NOW)
    )
    ledger.close()
    assert (before, len(copies), after) == (None, 2, Reason.BUDGET_USED)
