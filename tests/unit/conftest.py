"""No test here starts a process, binds a port or connects to anything."""

from __future__ import annotations

from tests.support.isolation import no_process_and_no_network, nothing_forbidden_was_tried

__all__ = ["no_process_and_no_network", "nothing_forbidden_was_tried"]
