"""The commands that keep things going: migrate, serve, sandbox."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.flow.options import Config, Json
from cli.flow.session import note, show_json
from jobs.errors import BadInput
from providers.registry import PROVIDERS, base_url_variable, key_variable

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
    config: Config = None,
) -> int:
    """The web server, until SIGTERM."""
    from cli.flow.environment import ledger_line
    from jobs.settings.sources import load_settings

    if metrics_host is not None and metrics_port is None:
        raise BadInput("--metrics-host says where --metrics-port listens, which is not given: no metrics are served.")
    settings = load_settings(config)
    import web.app

    where = web.app.Listen(
        port=port,
        host=host,
        metrics_port=metrics_port,
        metrics_host=metrics_host or web.app.LOOPBACK,
        host_names=host_name or (),
        trust_proxy=trust_proxy,
    )
    web.app.serve(settings, where, ledger=ledger_line(settings))
    return 0


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
