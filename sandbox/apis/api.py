"""What a provider of the sandbox is. One file of this package has all of it; `sandbox/apis/registry.py` lists it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Protocol

from aiohttp import web

from sandbox.troubles.words import Trouble
from sandbox.values import Answer, Json, Links, Order, Refusal, Task
from sandbox.world import World

#: Words that not every provider can play: kinds, and the verb of those about webhooks. A provider names its own.
SPECIAL: Final = frozenset({"sync", "b64", "usage", "webhook"})


class ProviderService(Protocol):
    """What the sandbox does for every provider alike (`sandbox/apis/service.py`)."""

    async def submit(self, request: web.BaseRequest, place: str = "generations") -> web.StreamResponse:
        """Takes or refuses an order. `place` goes to `Api.read_order`."""

    async def poll(self, request: web.BaseRequest, task_id: str, place: str | None = None) -> web.StreamResponse:
        """A task's state. `place`: the order must have come to this one."""

    async def cancel(self, request: web.BaseRequest, task_id: str) -> web.StreamResponse:
        """Ends a task that runs."""

    def check_key(self, request: web.BaseRequest) -> str:
        """The request's key; raises the Refusal of one that is missing or revoked."""

    async def links_of(self, task: Task, base: str) -> Links | None:
        """Where a task's images are; None unless it succeeded."""

    def undelivered(self, task: Task, now: float) -> Trouble | None:
        """What a question about many tasks leaves out of a task that has ended well."""


class Api(ABC):
    """One provider's API: its paths, what it takes, and its words for everything."""

    name: ClassVar[str]  # as users write it, and the first part of its paths: "apimaster"
    link_life: ClassVar[float]  # seconds that a link lives where the scenario says nothing
    accepted_status: ClassVar[int] = 200  # HTTP status of a submit that was taken
    #: The header with the key: `Authorization` has it after "Bearer", any other has it alone.
    key_header: ClassVar[str] = "Authorization"
    #: HTTP statuses of refusals that are not the usual ones: {"invalid": 422}. A word such as `[400]` keeps its own.
    statuses: ClassVar[Mapping[str, int]] = MappingProxyType({})
    #: Where a poll's answer has what words like `[poll none]` change. `task_at`: the object that speaks of the task, by
    #: names from the answer's root on; empty: the whole answer. In it, the state's name, and the names that lead to
    #: the list of images.
    task_at: ClassVar[tuple[str, ...]] = ()
    state_at: ClassVar[str] = "status"
    images_at: ClassVar[tuple[str, ...]]
    plays: ClassVar[frozenset[str]] = frozenset()  # those of `SPECIAL` that it can play

    def __init__(self, world: World) -> None:
        self._world = world

    @abstractmethod
    def find(
        self, service: ProviderService, request: web.BaseRequest, parts: tuple[str, ...]
    ) -> Awaitable[web.StreamResponse] | None:
        """Answers a request, mostly by `service.submit` or `service.poll`. None: it has no such path.

        `parts`: the method and the steps of the path below the provider's name: ("GET", "v1", "tasks", "t1").
        """

    @abstractmethod
    def new_id(self, order: Order) -> str:
        """A task's id."""

    @abstractmethod
    async def read_order(self, request: web.BaseRequest, place: str) -> Order:
        """Checks a submit; raises Refusal. `place`: as `find` has given it to `service.submit`.

        An order has the `model`, `prompt`, `n`, `pixels` (width, height), `price` (micro-dollars an image), and `echo`,
        the request's own fields, for `GET /_control/tasks`. `waits=True`: whoever asks waits for the images.
        """

    @abstractmethod
    def refused(self, refusal: Refusal) -> Answer:
        """An error, in the provider's words for `refusal.kind` and `refusal.message`.

        Kinds: invalid (400), key (401), balance (402), moderation (400), model and not_found (404), throttled (429),
        server (503). `refusal.status` has that number, or that of `statuses`, or another that a word of trouble asks
        for; `refusal.param` the wrong field; `refusal.after` the text of Retry-After.
        """

    def answer_to(self, refusal: Refusal) -> Answer:
        """`refused`, with the status that this provider gives such an error."""
        if not refusal.is_told:
            refusal.status = self.statuses.get(refusal.kind, refusal.status)
        return self.refused(refusal)

    @abstractmethod
    def accepted(self, task: Task, base: str) -> Json:
        """The answer to a submit that was taken: `task.id`. `base`: the sandbox's own address."""

    @abstractmethod
    def shown(self, task: Task, now: float, links: Links | None) -> Json:
        """The answer to a poll. `links.urls`: its images; None unless it succeeded.

        `task.is_over(now)`, `task.progress(now)` (0 to 1), `task.outcome` (success, fail, timeout, cancelled), and
        `task.reason` of a failure (moderation, invalid, points, or any text: `values.spoken` has the provider's words).
        """

    def finished(self, task: Task, links: Links) -> Json:
        """The answer to a submit that waits for its images (`Order.waits`, or the word `sync`)."""
        return self.shown(task, self._world.now(), links)

    def webhook(self, task: Task, now: float, links: Links | None) -> Json:
        """The body of a webhook, where an order names an address (`Order.callback`)."""
        return self.shown(task, now, links)

    def fails_without_balance(self) -> bool:
        """Whether an order that cannot be paid becomes a task that fails. Else it is refused."""
        return False

    # -- trouble -------------------------------------------------------------------------------------------------

    @classmethod
    def cannot_play(cls, trouble: Trouble) -> str:
        """Why a word means nothing at this provider; empty: it can be played."""
        special = {trouble.kind, trouble.verb} & (SPECIAL - cls.plays)
        return f"the sandbox cannot play {_written(trouble)} for {cls.name}" if special else ""

    def altered(self, shown: Json, trouble: Trouble) -> Json:
        """A poll's answer in another state (`status`), or called done without all of its images (`none`, `short`)."""
        told = copy.deepcopy(dict(shown))
        task = _at(told, self.task_at)
        if trouble.kind != "status":
            self.leave_out(task, trouble)
        elif isinstance(task, dict) and self.state_at in task:
            task[self.state_at] = (trouble.arguments or ("dreaming",))[0]
            task.pop(self.images_at[0], None)
        else:
            raise self._misplaced(trouble, self.state_at)
        return told

    def leave_out(self, task: Any, trouble: Trouble) -> None:
        """Takes images out of the object that speaks of a task."""
        *steps, name = self.images_at
        place = _at(task, tuple(steps))
        if not isinstance(place, dict) or not isinstance(place.get(name), list):
            raise self._misplaced(trouble, *self.images_at)
        if trouble.kind == "short":
            place[name] = place[name][: max(0, len(place[name]) - round(trouble.number(1)))]
        elif trouble.has("absent"):
            task.pop(self.images_at[0])
        elif trouble.has("null"):
            task[self.images_at[0]] = None
        else:
            place[name] = []

    def _misplaced(self, trouble: Trouble, *names: str) -> Refusal:
        where = ".".join((*self.task_at, *names))
        message = f"the sandbox cannot play {_written(trouble)} for {self.name}: its answer has no {where}"
        return Refusal("server", message, status=501)


def _at(value: Any, steps: tuple[str, ...]) -> Any:
    """What stands there; None where the answer has no such place."""
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _written(trouble: Trouble) -> str:
    """A word as a prompt has it: [poll none null]."""
    verb = trouble.verb if trouble.verb in ("poll", "cdn", "webhook") else ""
    return f"[{' '.join(filter(None, (verb, str(trouble.status or trouble.kind), *trouble.arguments)))}]"
