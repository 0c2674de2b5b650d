"""A task that is called done before its images are there: asked on, stored, and paid once, by all dialects."""

from __future__ import annotations

import dataclasses

from jobs.settings.model import AccountSettings
from jobs.states import JobState
from tests.support.worker_world import row, settings, stock
from worker.local.run import run_batch
from worker.runtime.limits import limits_of
from worker.services import build

MODELS = {
    "maxapi.io": "gpt-image-2/text-to-image",
    "maxapi.dev": "openai/gpt-image-2-beta",
    "apimaster": "gpt-image-2",
}
#: What the answers say at first, by provider: APIMaster makes one image a task, so none can be left out.
WORDS = ("poll none x2", "poll none null x1", "poll none absent x2", "poll status FAILURE x1")


def at(provider: str, place: int, prompt: str, *, n: int = 1):
    plain = row(place, n=n, max_n=4)
    request = dataclasses.replace(plain.request, prompt=prompt)
    key = {"request": request, "request_hash": request.hash(), "pixels": (1024, 1024)}
    return dataclasses.replace(plain, **key, provider=provider, provider_model=MODELS[provider])


def services_at(sandbox, tmp_path):
    fast = {"submits_per_second": 100.0, "polls_per_second": 200.0, "max_in_flight": 20}
    quick = {"first_poll_after": 0.1, "poll_every": 0.05, "api_key": "sandbox-key", **fast}
    accounts = {name: AccountSettings(provider=name, base_url=f"{sandbox.url}/{name}", **quick) for name in MODELS}
    here = settings(tmp_path).model_copy(update={"accounts": accounts, "allow_private_hosts": True})
    services = build(here)
    services.ledger.accounts.sync(limits_of(here))
    return services


async def test_pictures_that_come_after_the_word_done_are_stored_and_none_is_paid_twice(sandbox, tmp_path):
    sandbox.play(takes={"default": [0.05, 0.1]}, pictures={"tiny": True})
    services = services_at(sandbox, tmp_path)
    wishes = [(provider, f"{provider} {word} [{word}]", 1) for provider in MODELS for word in WORDS]
    wishes += [(provider, f"{provider} four [poll short 3 x2]", 4) for provider in ("maxapi.io", "maxapi.dev")]
    rows = [at(provider, place, prompt, n=n) for place, (provider, prompt, n) in enumerate(wishes)]
    stock(services, tmp_path, rows)
    try:
        ending = await run_batch(services, "b", max_stall=60.0)

        progress = services.ledger.reports.progress("b")
        assert (ending.exit_code, progress.jobs) == (0, {JobState.DONE: len(rows)})
        assert progress.images_stored == sum(n for _, _, n in wishes)
        assert sandbox.stats()["repeated"] == {}
        (*entries,) = services.ledger.reports.money()
        assert all(entry.money.closes and not entry.money.undelivered for entry in entries)
    finally:
        await services.close()
