"""`python -m sandbox`: the stand-in, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from sandbox.apis.registry import check_rules
from sandbox.memory import Memory
from sandbox.server import SandboxServer
from sandbox.troubles.scenario import BadScenario, Scenario, read_scenario

PARENT_LOOK = 0.25  # seconds between two looks at the parent


def main() -> int:
    """Reads the command line, and serves."""
    options = _options()
    try:
        scenario = read_scenario(options.scenario) if options.scenario else Scenario()
        check_rules(scenario)
    except BadScenario as wrong:
        sys.stderr.writelines(f"error: {options.scenario}: {line}\n" for line in wrong.lines)
        return 2
    try:
        asyncio.run(_serve(options, scenario))
    except OSError as error:
        sys.stderr.write(f"error: cannot listen on {options.host}:{options.port}: {error.strerror}\n")
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, help="0 takes any that is free")
    parser.add_argument("--scenario", type=Path, metavar="FILE", help="how it behaves: docs/reference/sandbox.md")
    parser.add_argument("--seed", type=int, help="of its chance; else the scenario's")
    parser.add_argument("--state", type=Path, metavar="FILE", help="tasks survive a restart")
    parser.add_argument("--with-parent", action="store_true", help="ends when whoever started it is gone")
    return parser.parse_args()


async def _serve(options: argparse.Namespace, scenario: Scenario) -> None:
    parent = os.getppid()
    server = SandboxServer(scenario, seed=options.seed)
    memory = Memory(options.state, server.world) if options.state else contextlib.nullcontext()
    with memory:
        runner = await server.start(options.host, options.port)
        print(f"sandbox ready on {server.url}", flush=True)  # noqa: T201  what its starter waits for
        await _until_told(server, parent if options.with_parent else None)
        await server.close()
        await runner.cleanup()


async def _until_told(server: SandboxServer, parent: int | None) -> None:
    """Returns at SIGTERM, Ctrl-C, or when the parent is gone."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    ticking = loop.create_task(server.tick())
    while not told.is_set() and parent in (None, os.getppid()):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), PARENT_LOOK if parent else None)
    ticking.cancel()


if __name__ == "__main__":
    sys.exit(main())
