"""The commands that keep things going: migrate, serve, sandbox."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import Config, Json, Sandbox
from cli.flow.session import note, show_json
from jobs.errors import BadInput
from providers.registry import PROVIDERS, base_url_variable, key_variable

if TYPE_CHECKING:
    from jobs.settings.model import Settings
    from web.app import Listen

Port = Annotated[int, typer.Option(min=1, max=65535, help="Where it listens.")]
Host = Annotated[str, typer.Option(help="The address it listens on. 0.0.0.0: every one of this machine.")]
MetricsPort = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Serves /metrics there, and nowhere else.", show_default=False),
]
MetricsHost = Annotated[
    str | None, typer.Option(help="The address of --metrics-port (default: 127.0.0.1).", show_default=False)
]
HostNames = Annotated[
    list[str] | None,
    typer.Option(
        "--host-name", metavar="NAME", help="A name that the pages answer to. Repeatable.", show_default=False
    ),
]
TrustProxy = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A proxy whose X-Forwarded headers are believed.", show_default=False),
]
Work = Annotated[bool, typer.Option("--work", help="Works batches and schedules too, in this process (SQLite).")]
Stall = Annotated[
    str | None,
    typer.Option(
        metavar="6h",
        help="A batch of OpenAI's API that waits for a person for so long expires (default: at its window's end).",
        show_default=False,
    ),
]
Scenario = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What trouble to make; see docs/reference/sandbox.md.")
]


def migrate(*, json: Json = False, config: Config = None) -> int:
    """Brings the database to the newest schema; makes it where there is none."""
    from jobs.ledger import open_ledger
    from jobs.settings.sources import load_settings

    ledger = open_ledger(load_settings(config).database_url, upgrade=True)
    try:
        note(f"{ledger.address} has the newest schema.")
        if json:
            show_json({"ledger": ledger.address})
    finally:
        ledger.close()
    return 0


def serve(  # noqa: PLR0913  one parameter an option
    *,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    host_name: HostNames = None,
    trust_proxy: TrustProxy = None,
    work: Work = False,
    max_stall: Stall = None,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """The web server, until SIGTERM. With --work the whole of Lightfast: batches and schedules are worked here too."""
    from cli.flow.environment import ledger_line, settings_for
    from cli.flow.settings import NOWHERE, read_settings

    if metrics_host is not None and metrics_port is None:
        raise BadInput("--metrics-host says where --metrics-port listens, which is not given: no metrics are served.")
    import web.app
    from worker.registration.options import read_duration, read_option

    where = web.app.Listen(
        port=port,
        host=host,
        metrics_port=metrics_port,
        metrics_host=metrics_host or web.app.LOOPBACK,
        host_names=host_name or (),
        trust_proxy=trust_proxy,
        max_stall=read_option("--max-stall", max_stall, read_duration, None),
    )
    if not work:
        settings = read_settings(config, sandbox_url=NOWHERE if sandbox else None)
        web.app.serve(settings, where, ledger=ledger_line(settings))
        return 0
    with settings_for(config, sandbox=sandbox) as settings:
        return _serve_and_work(settings, where)


def _serve_and_work(settings: Settings, where: Listen) -> int:
    import asyncio

    from cli.flow.environment import ledger_line
    from cli.flow.serving import held_ledger, work_for_all
    from web.app import serving
    from worker.runtime.telemetry import configure

    with held_ledger(settings, "serve --work"):
        configure(settings.log)
        ledger = ledger_line(settings)
        return asyncio.run(work_for_all(settings, lambda wake: serving(settings, where, wake, ledger=ledger)))


def sandbox(*, port: Port = 8765, scenario: Scenario = None) -> int:
    """Runs the stand-in until Ctrl-C, in place of this process."""
    if scenario is not None and not scenario.is_file():
        raise BadInput(f"--scenario {scenario}: there is no such file.")
    if sys.stderr.isatty():
        _say_how(port)
    command = [sys.executable, "-m", "sandbox", "--port", str(port)]
    command += ["--scenario", str(scenario)] if scenario else []
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606  our own module


def _say_how(port: int) -> None:
    """Prints the variables with which another terminal's commands reach it; --sandbox starts another stand-in."""
    sys.stderr.write("In another terminal:  export LIGHTFAST_ALLOW_PRIVATE_HOSTS=1 LIGHTFAST_SANDBOX=1\n")
    for provider in PROVIDERS:
        key, base = key_variable(provider), base_url_variable(provider)
        sys.stderr.write(f"  export {key}=any {base}=http://127.0.0.1:{port}/{provider}\n")
    sys.stderr.write(
        "Then  lightfast run MANIFEST --to DEST  goes there. Ctrl-C ends it. More: docs/reference/sandbox.md\n"
    )
