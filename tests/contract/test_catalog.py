from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from jobs.errors import CODES as ALL_CODES
from providers.catalog.models import Catalog, Unmakeable
from providers.codes import CODES
from providers.dialects import answers
from providers.registry import BASE_URLS, DIALECTS, PROVIDERS
from providers.types import Kind, Request, Route

CATALOG = Catalog.load()

# As printed on MaxAPI.io's page, kept apart from catalog.toml on purpose.
IO_PAGE = """
1:1   1024x1024 2048x2048 -
3:2   1536x1024 2048x1360 -
2:3   1024x1536 1360x2048 -
4:3   1024x768  2048x1536 -
3:4   768x1024  1536x2048 -
5:4   1280x1024 2560x2048 -
4:5   1024x1280 2048x2560 -
16:9  1536x864  2048x1152 3840x2160
9:16  864x1536  1152x2048 2160x3840
2:1   2048x1024 2688x1344 3840x1920
1:2   1024x2048 1344x2688 1920x3840
21:9  2016x864  2688x1152 3840x1648
9:21  864x2016  1152x2688 1648x3840
"""
CELLS = [
    (line.split()[0], resolution, cell)
    for line in IO_PAGE.strip().splitlines()
    for resolution, cell in zip(("1k", "2k", "4k"), line.split()[1:], strict=True)
]


def pixels(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


LEGAL = [(ratio, resolution, pixels(cell)) for ratio, resolution, cell in CELLS if cell != "-"]
ILLEGAL = [(ratio, resolution) for ratio, resolution, cell in CELLS if cell == "-"]
PRICES = {"1k": 20_000, "2k": 40_000, "4k": 60_000}


def ask(**values) -> Request:
    return Request(**{"prompt": "a lamp", "model": "gpt-image-2", **values})


def only_route(provider: str, **values) -> Route:
    (route,) = CATALOG.routes(ask(provider=provider, **values))
    return route


def problems(providers=None, **values) -> dict[str, tuple[str, str]]:
    with pytest.raises(Unmakeable) as raised:
        CATALOG.routes(ask(**values), providers)
    return {problem.column: (problem.value, problem.legal) for problem in raised.value.problems}


# -- pixels and prices ---------------------------------------------------------------------------------------------


def test_there_are_32_legal_combinations():
    assert len(LEGAL) == 32


@pytest.mark.parametrize(("ratio", "resolution", "size"), LEGAL)
@pytest.mark.parametrize("references", [(), ("https://example.com/a.png",)])
def test_maxapi_io_makes_the_documented_pixels_at_the_documented_price(ratio, resolution, size, references):
    route = only_route("maxapi.io", ratio=ratio, resolution=resolution, references=references)

    kind = "image-to-image" if references else "text-to-image"
    assert route.provider_model == f"gpt-image-2/{kind}"
    assert (route.pixels, route.price, route.max_n) == (size, PRICES[resolution], 10)
    assert (route.ratio, route.resolution, route.link_life) == (ratio, resolution, 7 * 86_400)


@pytest.mark.parametrize(("ratio", "resolution", "size"), LEGAL)
def test_a_documented_size_is_its_ratio_and_resolution_at_maxapi_io_and_itself_elsewhere(ratio, resolution, size):
    routes = {route.provider: route for route in CATALOG.routes(ask(size=size))}

    assert (routes["maxapi.io"].ratio, routes["maxapi.io"].resolution) == (ratio, resolution)
    assert routes["maxapi.io"].price == PRICES[resolution]
    assert {route.pixels for route in routes.values()} == {size}
    assert routes["apimaster"].resolution == resolution


@pytest.mark.parametrize(("ratio", "resolution"), ILLEGAL)
def test_4k_is_legal_for_the_six_wide_and_tall_ratios_only(ratio, resolution):
    value, legal = problems(provider="maxapi.io", ratio=ratio, resolution=resolution)["ratio"]

    assert value == ratio
    assert legal == "maxapi.io takes 16:9 9:16 2:1 1:2 21:9 9:21 at 4k; apimaster can make this row"


def test_4k_with_references_and_no_ratio_needs_a_ratio_at_maxapi_io():
    found = problems(provider="maxapi.io", resolution="4k", references=("https://example.com/a.png",))

    assert found["ratio"][0] == ""
    assert "16:9" in found["ratio"][1]


def test_a_square_at_4k_is_made_at_maxapi_dev_by_size_alone():
    assert "takes others by size" in problems(provider="maxapi.dev", resolution="4k", ratio="1:1")["ratio"][1]
    for size in ((2880, 2880), (4096, 4096)):
        assert {route.pixels for route in CATALOG.routes(ask(provider="maxapi.dev", size=size))} == {size}
    assert problems(size=(4096, 4096), provider="apimaster")["size"][0] == "4096x4096"


@pytest.mark.parametrize(
    "size",
    [(1000, 1000), (3856, 2160), (3840, 1264), (512, 512), (3840, 2176), (0, 0), (4096, 2160), (16, 40_960)],
)
def test_sizes_outside_openais_limits_are_illegal_everywhere(size):
    assert set(problems(size=size)) == {"size"}


@pytest.mark.parametrize("size", [(1344, 960), (3840, 1280), (1024, 640), (2160, 3840), (2880, 2880)])
def test_sizes_inside_openais_limits_are_legal_where_pixels_are_taken(size):
    assert {"maxapi.dev", "apimaster"} <= {route.provider for route in CATALOG.routes(ask(size=size))}


def test_apimaster_promises_only_the_documented_pixels():
    known = {
        (ratio, resolution): only_route("apimaster", ratio=ratio, resolution=resolution).pixels
        for ratio in ("1:1", "16:9", "3:2", "3:1", "1:3", "9:21")
        for resolution in ("1k", "2k", "4k")
    }

    assert known["1:1", "4k"] == (2880, 2880)
    assert known["16:9", "1k"] == (1536, 864)
    assert {pixels for (ratio, _), pixels in known.items() if ratio not in ("1:1", "16:9")} == {None}


def test_grok_prices_and_n():
    routes = [CATALOG.routes(ask(model=f"grok-imagine-{tier}"))[0] for tier in ("lite", "standard", "pro")]

    assert [route.price for route in routes] == [1_000, 1_200, 1_500]
    assert [route.max_n for route in routes] == [4, 10, 10]
    assert [route.pixels for route in routes] == [None] * 3


def test_a_default_ratio_does_not_touch_lite_and_a_given_one_is_illegal():
    completed = CATALOG.complete(ask(model="grok-imagine-lite"))

    assert (completed.ratio, completed.resolution) == (None, None)
    found = problems(model="grok-imagine-lite", ratio="1:1", resolution="1k")
    assert set(found) == {"ratio", "resolution"}
    assert "orientation in the prompt" in found["ratio"][1]


# -- choice and price ----------------------------------------------------------------------------------------------


def test_the_cheapest_priced_route_is_first_and_the_unpriced_last():
    places = [("maxapi.dev", "official-cheap"), ("maxapi.dev", "mix"), ("maxapi.io", None), ("apimaster", None)]
    assert [(route.provider, route.mode) for route in CATALOG.routes(ask())] == places
    assert [route.expected for route in CATALOG.routes(ask())] == [4_987, 12_000, 20_000, None]


def test_named_providers_are_tried_in_the_order_given_and_accounts_only_narrow():
    named = CATALOG.routes(ask(), ["apimaster", "maxapi.io"])
    among = CATALOG.routes(ask(), among=["apimaster", "maxapi.io"])

    assert [route.provider for route in named] == ["apimaster", "maxapi.io"]
    assert [route.provider for route in among] == ["maxapi.io", "apimaster"]


def test_your_prices_go_before_the_catalogues():
    yours = CATALOG.with_prices(
        {"apimaster": {"gpt-image-2": {"1k": 0.005}}, "maxapi.dev": {"gpt-image-2": {"any": 1}}}
    )

    first, *_, last = yours.routes(ask())
    assert (first.provider, first.price, first.price_is_yours) == ("apimaster", 5_000, True)
    assert (last.provider, last.price) == ("maxapi.dev", 1_000_000)
    assert yours.routes(ask(resolution="2k", provider="apimaster"))[0].price is None
    assert not CATALOG.routes(ask())[0].price_is_yours


@pytest.mark.parametrize(
    ("model", "prices", "said"),
    [
        ("gpt-image-3", {"1k": 1.0}, "no model 'gpt-image-3'"),
        ("gpt-image-2", {"8k": 1.0}, "no resolution '8k'"),
        ("gpt-image-2", {"1k": -1.0}, "no price"),
        ("gpt-image-2", {"1k": float("nan")}, "no price"),
    ],
)
def test_a_price_for_nothing_known_is_told(model, prices, said):
    with pytest.raises(ValueError, match=said):
        CATALOG.with_prices({"maxapi.io": {model: prices}})


@pytest.mark.parametrize(("mode", "price"), [("mix", 12_000), ("official-cheap", 5_432), ("official", None)])
def test_the_price_at_maxapi_dev_follows_the_route_mode_that_the_row_or_the_account_asks_for(mode, price):
    by_account = CATALOG.with_route_mode("maxapi.dev", mode)

    (by_row,) = CATALOG.routes(ask(provider="maxapi.dev", options={"route_mode": mode}))
    assert (by_row.mode, by_row.price) == (mode, price)
    assert by_account.routes(ask(provider="maxapi.dev")) == [by_row]


def test_cadence_is_the_accounts_where_it_says_so():
    route = CATALOG.with_cadence("apimaster", 1.0, None).routes(ask(provider="apimaster"))[0]

    assert (route.first_poll_after, route.poll_every, route.submit_timeout) == (1.0, 4.0, 200.0)


def test_a_route_is_found_again_at_run_time():
    for model in CATALOG.models():
        for route in CATALOG.routes(ask(model=model)):
            assert CATALOG.route_of(route.provider, route.provider_model, ask(model=model), route.mode) == route
    with pytest.raises(Unmakeable):
        CATALOG.route_of("maxapi.io", "gpt-image-1", ask())


def test_a_providers_own_id_is_a_model():
    assert CATALOG.routes(ask(provider="maxapi.dev", model="openai/gpt-image-2-beta"))[0].model == "gpt-image-2"
    found = problems(model="gpt-image-2/text-to-image", references=("https://example.com/a.png",))
    assert "takes no references" in found["image_urls"][1]


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "column", "value", "said"),
    [
        ({"ratio": "7:5"}, "ratio", "7:5", "gpt-image-2 takes 1:1 3:2 2:3 4:3 3:4 5:4 4:5 16:9 9:16"),
        ({"ratio": "3:1", "provider": "maxapi.io"}, "ratio", "3:1", "apimaster can make this row"),
        ({"resolution": "8k"}, "resolution", "8k", "gpt-image-2 takes 1k 2k 4k"),
        ({"n": 0}, "n", "0", "gpt-image-2 takes 1 to 10"),
        ({"n": 11}, "n", "11", "gpt-image-2 takes 1 to 10"),
        ({"n": 11, "model": "grok-imagine-lite"}, "n", "11", "1 to 10"),
        ({"model": "gpt-imge-2"}, "model", "gpt-imge-2", "one of gpt-image-2 grok-imagine-lite"),
        ({"provider": "maxapi.ai"}, "provider", "maxapi.ai", "one of maxapi.io maxapi.dev apimaster"),
        ({"model": "grok-imagine-pro", "provider": "apimaster"}, "model", "grok-imagine-pro", "apimaster has"),
        ({"references": ("https://a.example/b",) * 17}, "image_urls", "17 references", "at most 16"),
        ({"references": ("ftp://a.example/b",)}, "image_urls", "ftp://a.example/b", "http"),
        ({"references": ("photo.png",)}, "image_urls", "photo.png", "http"),
        ({"references": ("http://[::1",)}, "image_urls", "http://[::1", "http"),
        ({"references": ("https://a.example/b\x00",)}, "image_urls", "https://a.example/b�", "http"),
        ({"quality": "best"}, "quality", "best", "maxapi.dev takes auto low medium high"),
        ({"quality": "high", "provider": "apimaster"}, "quality", "high", "maxapi.dev can make this row"),
        ({"prompt": "x" * 32_001, "provider": "maxapi.dev"}, "prompt", "32,001 characters", "at most 32,000"),
        ({"size": (1024, 1024), "ratio": "16:9"}, "size", "1024x1024", "leave out ratio and resolution"),
        ({"options": {"seed": 1}}, "options", "seed: 1", "apimaster takes official_fallback"),
        ({"options": {"background": "transparent"}}, "options", "background: 'transparent'", "auto opaque"),
        ({"options": {"moderation": "\ud800"}}, "options", "moderation", "plain JSON values"),
        ({"options": {"official_fallback": 1}}, "options", "official_fallback: 1", "true false"),
        ({"options": {"output_compression": True}}, "options", "output_compression: True", "0 to 100"),
        ({"options": {"output_compression": 50}}, "options", "output_compression: 50", "with output_format jpeg"),
    ],
)
def test_a_bad_value_is_told_with_its_column_and_what_is_legal(values, column, value, said):
    shown, legal = problems(**values)[column]

    assert shown == value
    assert said in legal


@pytest.mark.parametrize("field", ["model", "prompt", "n", "async", "size", "image_urls", "callBackUrl", "user_id"])
def test_no_option_can_take_the_place_of_a_field_that_decides_what_is_bought(field):
    assert set(problems(options={field: "x"})) == {"options"}


def test_a_request_is_legal_if_any_allowed_provider_makes_it():
    assert [route.provider for route in CATALOG.routes(ask(ratio="3:1"))] == ["apimaster"]
    assert {route.provider for route in CATALOG.routes(ask(quality="low"))} == {"maxapi.dev"}
    assert problems(["maxapi.io", "maxapi.dev"], ratio="3:1")["ratio"][1].endswith("apimaster can make this row")
    assert [route.provider for route in CATALOG.routes(ask(prompt="x" * 32_001))] == ["maxapi.io", "apimaster"]


def test_every_problem_of_a_row_is_told_at_once():
    assert set(problems(ratio="7:5", n=0, references=("x",), quality="best")) == {"ratio", "n", "image_urls", "quality"}


def test_16_references_are_legal_everywhere_but_the_same_answer_is_not_given_to_17():
    assert len(CATALOG.routes(ask(references=("https://a.example/b",) * 16))) == 4
    assert problems(references=("https://a.example/b",) * 17)


def test_with_references_the_first_of_them_decides_the_ratio():
    completed = CATALOG.complete(ask(references=("https://a.example/b",), resolution="2K"))

    assert (completed.ratio, completed.resolution) == (None, "2k")
    assert [route.provider for route in CATALOG.routes(completed)] == ["maxapi.io", "apimaster"]
    assert CATALOG.complete(completed) == completed


def test_what_is_remembered_stays_small_and_is_no_ones_to_change():
    catalog = Catalog.load()
    for width in range(1024, 1024 + 16 * 5000, 16):
        with pytest.raises(Unmakeable):
            catalog.routes(ask(size=(width, 1)))
    catalog.routes(ask()).clear()

    assert len(catalog._answers) <= 4_096
    assert catalog.routes(ask())


# -- house rules ---------------------------------------------------------------------------------------------------


def test_every_code_a_dialect_can_give_is_explained():
    modules = [answers, *(importlib.import_module(type(dialect).__module__) for dialect in DIALECTS.values())]
    values = [value for module in modules for value in vars(module).values()]
    tables = [each for value in values if isinstance(value, dict) for each in value.values()]
    given = {each[1] for each in (*values, *tables) if isinstance(each, tuple) and each and isinstance(each[0], Kind)}

    assert len(given) > 8
    assert given <= set(CODES)
    assert list(CODES) == sorted(CODES)
    assert set(CODES) <= set(ALL_CODES)


def test_every_provider_has_a_dialect_a_base_url_and_an_offer():
    offered = {route.provider for model in CATALOG.models() for route in CATALOG.routes(ask(model=model))}

    assert set(PROVIDERS) == set(DIALECTS) == set(BASE_URLS) == offered


def test_a_request_survives_json():
    request = replace(ask(size=(1536, 1024), options={"moderation": "low"}), references=("https://a.example/b",))

    assert Request.from_json(request.to_json()) == request
