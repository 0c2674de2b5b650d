"""Wakeups say that there may be work in a lane. They carry nothing else, and losing one loses only time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

#: Takes a lane's name, and says whether anyone heard it.
Listener = Callable[[str], bool]


@dataclass(slots=True)
class Wakeups:
    """Wakes a lane of this process; where it does not run here now, the workers elsewhere."""

    far: Callable[[str], None] | None = None  # never blocks: a broker that hangs must hold up no lane
    _near: list[Listener] = field(default_factory=list)

    def hear(self, listener: Listener) -> None:
        """From now on `listener` hears every wakeup."""
        self._near.append(listener)

    def wake(self, lane: str) -> None:
        """Wakes the lane here, or else elsewhere."""
        heard = [listener(lane) for listener in self._near]
        if self.far is not None and not any(heard):
            self.far(lane)
