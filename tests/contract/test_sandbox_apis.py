"""The sandbox plays every provider, and each dialect understands its own, also where there is trouble."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from providers.dialects.answers import error_words
from providers.registry import PROVIDERS, key_variable
from providers.types import Accepted, Ambiguous, Empty, Failed, Kind, Link, Refused, Running, Succeeded
from sandbox.apis.fields import Fields
from sandbox.apis.registry import APIS, check_rules
from sandbox.apis.service import _without
from sandbox.troubles.scenario import BadScenario, Scenario
from sandbox.troubles.words import WORDS, read_trouble
from sandbox.values import Answer, Links, Order, Refusal, Task
from sandbox.world import World
from tests.support.dialect_shapes import CATALOG, answer, read_poll, read_submit

DOCS = Path(__file__).parents[2] / "docs" / "reference"
NAMES = [api.name for api in APIS]
BY_NAME = {api.name: api for api in APIS}
MADE, OVER = 1_760_000_000.0, 1_760_000_010.0
LINKS = Links(urls=("https://cdn.example/0.png", "https://cdn.example/1.png"), expires_at=OVER + 60)


def api_of(provider):
    return BY_NAME[provider](World(Scenario(), NAMES))


def task_of(api, outcome="success"):
    order = Order(model="m", prompt="a lamp", n=2, pixels=(64, 64), price=1, echo={})
    return Task(
        id=api.new_id(order),
        provider=api.name,
        key="k",
        order=order,
        created_at=MADE,
        ends_at=OVER,
        outcome=outcome,
        delivered=2,
        link_life=api.link_life,
    )


def test_the_sandbox_plays_every_provider_and_no_other():
    assert set(NAMES) == set(PROVIDERS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_pages_of_settings_and_of_the_sandbox_name_every_provider(provider):
    settings, sandbox = ((DOCS / name).read_text() for name in ("settings.md", "sandbox.md"))

    assert f"`{provider}`" in next(line for line in settings.splitlines() if line.startswith("| `provider`"))
    assert f"`{key_variable(provider)}`" in settings
    assert f"`http://HOST:PORT/{provider}`" in sandbox


@pytest.mark.parametrize("provider", PROVIDERS)
def test_links_live_as_long_as_the_catalogue_says(provider):
    assert {offer.link_life for offer in CATALOG._offers if offer.provider == provider} == {api_of(provider).link_life}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_task_goes_from_the_submit_to_its_images(provider):
    api = api_of(provider)
    task = task_of(api)
    status = api.accepted_status

    accepted = read_submit(provider, answer(api.accepted(task, "http://127.0.0.1:1"), status))
    running = read_poll(provider, answer(api.shown(task, MADE + 1, None)))
    done = read_poll(provider, answer(api.shown(task, OVER, LINKS)))
    failed = read_poll(provider, answer(api.shown(task_of(api, "fail"), OVER, None)))

    assert isinstance(accepted, Accepted)
    assert accepted.task_id == task.id
    assert isinstance(running, Running)
    assert running.known
    assert isinstance(done, Succeeded)
    assert [Link(url=link.url) for link in done.links] == [Link(url=url) for url in LINKS.urls]
    assert isinstance(failed, Failed)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_acceptance_without_the_tasks_id_is_unknown(provider):
    api = api_of(provider)
    task = task_of(api)

    outcome = read_submit(provider, answer(_without(api.accepted(task, "http://127.0.0.1:1"), task.id)))

    assert isinstance(outcome, Ambiguous)
    assert outcome.code == "no_task_id"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("kind", "asks_for", "code"),
    [
        ("key", Kind.ACCOUNT, "bad_key"),
        ("balance", Kind.ACCOUNT, "no_balance"),
        ("throttled", Kind.THROTTLED, "rate_limited"),
        ("moderation", Kind.MODERATION, "moderation"),
        ("invalid", Kind.PERMANENT, "invalid_parameters"),
    ],
)
def test_a_refusal_is_taken_for_what_it_is(provider, kind, asks_for, code):
    said = api_of(provider).answer_to(Refusal(kind, "no"))

    outcome = read_submit(provider, answer(said.body, said.status))

    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.code) == (asks_for, code)


def test_maxapi_io_tells_a_tasks_states_in_order():
    api = api_of("maxapi.io")
    task = task_of(api)
    moments = [MADE + tenth * (OVER - MADE) / 10 for tenth in range(10)]

    states = [api.shown(task, at, None)["data"]["status"] for at in moments]
    last = api.shown(task, OVER, LINKS)["data"]["status"]

    assert list(dict.fromkeys([*states, last])) == ["PENDING", "PROCESSING", "SUBMITTED", "SUCCESS"]


def test_a_provider_may_refuse_with_a_status_of_its_own_and_a_words_status_stays_as_it_is():
    class Unprocessable(BY_NAME["apimaster"]):
        statuses: ClassVar = {"invalid": 422}

    api = Unprocessable(World(Scenario(), NAMES))

    refusals = [Refusal("invalid", "no"), Refusal("invalid", "no", status=400), Refusal("key", "no")]
    assert [api.answer_to(refusal).status for refusal in refusals] == [422, 400, 401]


def test_a_prompt_may_stand_in_a_field_of_another_name():
    assert Fields({"description": "a crow"}).prompt("description") == "a crow"
    with pytest.raises(Refusal, match="description may have at most") as raised:
        Fields({"description": "x" * 32_001}).prompt("description")
    assert raised.value.param == "description"


def test_what_is_wrong_may_stand_in_a_field_of_another_name():
    said = answer({"why": "format is unknown"}, 422)

    assert error_words(said, {"why": "format is unknown"}, "why") == "format is unknown"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("word", "kind", "images"),
    [
        ("poll status dreaming", Running, 0),
        ("poll none", Empty, 0),
        ("poll none null", Empty, 0),
        ("poll none absent", Empty, 0),
        ("poll short 1", Succeeded, 1),
    ],
)
def test_a_word_that_changes_a_polls_answer_does_so_at_every_provider(provider, word, kind, images):
    api = api_of(provider)
    shown = api.shown(task_of(api), OVER, LINKS)

    outcome = read_poll(provider, answer(Answer.of(api.altered(shown, read_trouble(word))).body))

    assert isinstance(outcome, kind)
    assert len(getattr(outcome, "links", ())) == images
    assert getattr(outcome, "status", "dreaming") == "dreaming"
    assert read_poll(provider, answer(shown)).links


def test_a_word_that_a_provider_cannot_play_is_refused_loudly():
    by_word = {
        name: [word for word in ("sync", "b64", "usage zero", "webhook twice") if api.cannot_play(read_trouble(word))]
        for name, api in BY_NAME.items()
    }

    assert by_word["maxapi.io"] == ["sync", "b64", "usage zero"]
    assert by_word["maxapi.dev"] == ["webhook twice"]
    assert by_word["apimaster"] == ["usage zero", "webhook twice"]
    assert BY_NAME["maxapi.io"].cannot_play(read_trouble("b64 garbled")) == (
        "the sandbox cannot play [b64 garbled] for maxapi.io"
    )
    assert not [word for word in WORDS["poll"] if word != "NNN" and BY_NAME["maxapi.io"].cannot_play(poll_word(word))]


def poll_word(word):
    return read_trouble(f"poll {word}")


def test_an_answer_without_the_place_that_its_file_names_says_so():
    api = api_of("maxapi.io")

    for word in ("poll none", "poll status x"):
        with pytest.raises(Refusal, match=r"cannot play \[poll .*\] for maxapi.io: its answer has no data\.") as raised:
            api.altered({"job": {}}, read_trouble(word))
        assert raised.value.status == 501


def test_a_rule_for_a_provider_that_is_not_there_or_cannot_play_it_is_refused():
    rules = [
        {"trouble": "503", "provider": "maxapi"},
        {"trouble": "usage zero", "provider": "maxapi.io"},
        {"trouble": "usage zero"},
    ]

    with pytest.raises(BadScenario) as raised:
        check_rules(Scenario.model_validate({"rules": rules}))

    assert raised.value.lines == (
        f"rules[1].provider: no provider 'maxapi'; known: {', '.join(NAMES)}",
        "rules[2].trouble: the sandbox cannot play [usage zero] for maxapi.io",
    )
