"""`lightfast notify …`: whether people and programs can be told."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import typer

from cli.command import CONTEXT, Command
from cli.flow.options import Config, Json, Sandbox
from cli.flow.session import show, show_json
from cli.output import wording
from jobs.errors import BadInput

if TYPE_CHECKING:
    from jobs.settings.model import Settings
    from worker.notifications.channels import Channel
    from worker.notifications.sending import Outcome

NOBODY = (
    'Nobody is told anything: the settings have no notify = ["slack://…"], no [channels] and no [webhook]. '
    "See docs/how-to/notifications.md."
)


def send_test(*, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Sends one test message over every channel of the settings, and says what became of each."""
    from cli.flow.environment import settings_for
    from worker.notifications.channels import channels_of

    with settings_for(config, sandbox=sandbox) as settings:
        channels = channels_of(settings)
        if not channels:
            raise BadInput(NOBODY)
        outcomes = asyncio.run(_send(settings, channels))
    told = {one.name: outcome.problem for one, outcome in zip(channels, outcomes, strict=True)}
    if json:
        listed = [{"channel": name, "sent": problem is None, "problem": problem} for name, problem in told.items()]
        show_json({"command": "notify test", "channels": listed})
    else:
        lines = wording.aligned(
            [(name, f"not sent: {problem}" if problem else "sent") for name, problem in told.items()]
        )
        styles = ["red" if problem else "green" for problem in told.values()]
        show(list(zip(lines, styles, strict=True)), sandbox=settings.is_sandbox)
    return 1 if any(told.values()) else 0


async def _send(settings: Settings, channels: list[Channel]) -> list[Outcome]:
    from jobs.results.messages import for_people, for_program, message_for_test
    from worker.http.client import Http
    from worker.notifications.sending import People, send_to_program

    now = time.time()
    message, people = message_for_test(now, sandbox=settings.is_sandbox), People()
    http = Http(
        allow_private_hosts=settings.allow_private_hosts, user_agent=settings.user_agent, proxies=settings.proxies
    )
    webhook_id = f"msg_{secrets.token_hex(12)}"
    try:
        sent = (
            people.send(channel, for_people(message))
            if channel.secret is None
            else send_to_program(http, channel, webhook_id, for_program(message), now)
            for channel in channels
        )
        return await asyncio.gather(*sent)
    finally:
        await http.close()


app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def notify() -> None:
    """Whom Lightfast tells."""


app.command("test", cls=Command, context_settings=CONTEXT)(send_test)
