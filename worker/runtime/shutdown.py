"""How a local run is told to stop: Ctrl-C once, Ctrl-C again, SIGTERM or a closed terminal as often as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jobs.errors import Interrupted

INTERRUPTED = Interrupted.exit_code
TERMINATED = 143


@dataclass(slots=True, eq=False)
class StopSignal:
    """`first`: take no more work. `second`: wait for nothing. `exit_code` says who asked."""

    first: asyncio.Event = field(default_factory=asyncio.Event)
    second: asyncio.Event = field(default_factory=asyncio.Event)
    exit_code: int = 0
    open_submits: Callable[[], int] = lambda: 0  # submits on their way; the run puts its worker's count here

    def interrupt(self) -> None:
        """Ctrl-C."""
        if self.first.is_set():
            self.second.set()
        self._stop(INTERRUPTED)

    def terminate(self) -> None:
        """SIGTERM; a second one changes nothing."""
        self._stop(TERMINATED)

    def handlers(self) -> dict[signal.Signals, Callable[[], None]]:
        """What each signal does. A closed terminal must leave no submit unanswered; after `nohup` it means nothing."""
        told = {signal.SIGINT: self.interrupt, signal.SIGTERM: self.terminate}
        return told if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else {**told, signal.SIGHUP: self.terminate}

    def _stop(self, exit_code: int) -> None:
        self.exit_code = self.exit_code or exit_code
        self.first.set()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While it lasts, the process's signals come here. To be used on the main thread's event loop."""
        loop = asyncio.get_running_loop()
        handlers = self.handlers()
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
