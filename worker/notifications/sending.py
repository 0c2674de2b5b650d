"""One message sent to one channel, once: what came of it, in words without any of the address."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from jobs.formatting import moment
from jobs.settings.notifications import heard, load_library
from worker.http.client import Http
from worker.notifications.channels import Channel

#: Seconds that a program may take to answer, as Standard Webhooks advise, and a person's service with its library.
PROGRAM_WAIT, PERSON_WAIT = 15.0, 20.0
GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Why it was not taken; None: it was. `final`: the receiver wants nothing more."""

    problem: str | None = None
    final: bool = False


async def send_to_program(http: Http, channel: Channel, webhook_id: str, payload: str, now: float) -> Outcome:
    """One POST, signed as Standard Webhooks say. Never raises but when cancelled."""
    from standardwebhooks import Webhook  # noqa: PLC0415  most start without it

    assert channel.secret is not None  # noqa: S101  a program has one
    signature = Webhook(channel.secret.get_secret_value()).sign(webhook_id, moment(now), payload)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signature,
    }
    exchange = await http.post(channel.address, payload.encode(), headers=headers, timeout=PROGRAM_WAIT)
    if exchange.response is None:
        return Outcome(problem=exchange.problem or "no answer")
    status = exchange.response.status
    if 200 <= status < 300:  # noqa: PLR2004  HTTP's own
        return Outcome()
    return Outcome(problem=f"it answered {status}", final=status == GONE)


class People:
    """Sends by the library, which blocks: each call in a thread of its own, and one at a time for a channel.

    A thread whose call hangs beyond `PERSON_WAIT` ends nothing and keeps nobody from ending: it is a daemon's. Its
    channel waits until it is back.
    """

    def __init__(self) -> None:
        self._threads: dict[str, threading.Thread] = {}

    def is_busy(self, channel: str) -> bool:
        """Whether a call for this channel still hangs."""
        thread = self._threads.get(channel)
        return thread is not None and thread.is_alive()

    async def send(self, channel: Channel, payload: str) -> Outcome:
        """Sends one message. Never raises but when cancelled."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Outcome] = loop.create_future()

        def answer(outcome: Outcome) -> None:
            if not answered.done():
                answered.set_result(outcome)

        def work() -> None:
            outcome = _tell(channel.address, json.loads(payload))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(answer, outcome)

        self._threads[channel.name] = threading.Thread(target=work, name="notify", daemon=True)
        self._threads[channel.name].start()
        try:
            async with asyncio.timeout(PERSON_WAIT):
                return await answered
        except TimeoutError:
            return Outcome(problem=f"no answer within {PERSON_WAIT:g} s")


def _tell(address: SecretStr, message: Mapping[str, str]) -> Outcome:
    library = load_library()
    try:
        # Without a limit of its own the library stays in this thread: its pool would be waited for at the end.
        asset = library.AppriseAsset(storage_mode="memory", async_mode=False, service_timeout=0)
        told = library.Apprise(asset=asset)
        told.add(address.get_secret_value())
        with heard():
            result = told.notify(title=message["title"], body=message["text"], body_format=library.NotifyFormat.TEXT)
    except Exception as trouble:  # noqa: BLE001  a plugin of the library's: any of a hundred
        return Outcome(problem=f"the library failed ({type(trouble).__name__})")
    return Outcome() if result else Outcome(problem=_problem(result))


def _problem(result: Any) -> str:
    """Of what the library says only what cannot hold a part of the address."""
    said = " ".join(entry.message for each in result for attempt in each.attempts for entry in attempt.logs)
    if status := re.search(r"\berror=(\d{3})\b", said):
        return f"it answered {status[1]}"
    return "no connection, or no answer" if "onnection" in said else "it was not taken"
