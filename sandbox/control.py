"""GET and POST below /_control/: what happened, and what shall happen. See docs/reference/sandbox.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from sandbox.apis.registry import check_rules
from sandbox.delivery.answers import HANGING, give
from sandbox.delivery.cdn import Cdn
from sandbox.troubles.scenario import BadScenario, Scenario
from sandbox.values import Answer
from sandbox.world import World, task_document


class Control:
    """The stand-in's own API; no provider has it."""

    def __init__(self, world: World, cdn: Cdn) -> None:
        self._world = world
        self._cdn = cdn
        self._answers: dict[tuple[str, str], Callable[[web.BaseRequest, dict[str, Any]], Any]] = {
            ("GET", "stats"): self._stats,
            ("GET", "tasks"): self._tasks,
            ("GET", "submits"): self._submits,
            ("GET", "scenario"): self._scenario,
            ("POST", "scenario"): self._arrange,
            ("POST", "topup"): self._top_up,
            ("POST", "revoke"): self._revoke,
            ("POST", "finish"): self._finish,
            ("POST", "answer"): self._give_answers,
            ("POST", "reset"): self._reset,
        }

    async def serve(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        """Any request to it."""
        answer = self._answers.get((request.method, name))
        if answer is None:
            return (await give(request, Answer.of({"error": f"no {request.method} {name}"}, 404)))[0]
        try:
            text = await request.read()
            body = orjson.loads(text) if text else {}
            return (await give(request, Answer.of(answer(request, body))))[0]
        except (ValidationError, orjson.JSONDecodeError, KeyError, TypeError, ValueError, BadScenario) as error:
            return (await give(request, Answer.of({"error": str(error)}, 400)))[0]

    def _stats(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same shape for all
        return {**self._world.stats(), "keys_seen_at_cdn": self._cdn.keys_seen}

    def _tasks(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same
        """`?prompt=` a part of it, `?provider=`, `?id=`, `?limit=`."""
        query = request.query
        found = [
            task
            for task in self._world.tasks.values()
            if query.get("prompt", "") in task.order.prompt
            and query.get("provider", task.provider) == task.provider
            and query.get("id", task.id) == task.id
        ]
        return {"tasks": [task_document(task) for task in found[-int(query.get("limit", 100_000)) :]]}

    def _submits(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same
        """Every POST for images in order; `?prompt=` a part of it, `?since=` Unix seconds."""
        part, since = request.query.get("prompt", ""), float(request.query.get("since", 0))
        return {
            "submits": [
                asdict(submit) for submit in self._world.submits if part in (submit.prompt or "") and submit.at >= since
            ]
        }

    def _scenario(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same
        return self._world.scenario.model_dump(mode="json")

    def _arrange(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:
        scenario = Scenario.model_validate(body)
        check_rules(scenario)
        self._world.arrange(scenario)
        HANGING.hold_again()
        return self._scenario(request, body)

    def _top_up(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same
        provider, key = body["provider"], body.get("key", "sandbox-key")
        if provider not in self._world.providers:
            raise ValueError(f"no provider {provider!r}; known: {', '.join(self._world.providers)}")
        self._world.top_up(provider, key, float(body["usd"]))
        return {"balance": self._world.purse(provider, key).balance / 1_000_000}

    def _revoke(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same
        self._world.revoke(body["key"], back=bool(body.get("back")))
        return {"known": self._world.knows(body["key"])}

    def _finish(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same
        return {"finished": self._world.finish(str(body.get("prompt", "")))}

    def _give_answers(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same
        HANGING.let_go()
        return {}

    def _reset(self, request: web.BaseRequest, body: dict[str, Any]) -> Any:  # noqa: ARG002  the same
        self._world.reset()
        self._world.arrange(self._world.scenario)
        self._cdn.keys_seen = 0
        return {}
