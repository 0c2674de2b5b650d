"""How fast both sides of the comparison go, so that they make the same requests. Times in seconds."""

from __future__ import annotations

SUBMITS_PER_SECOND = 200.0
POLLS_PER_SECOND = 500.0
IN_FLIGHT = 300

#: A task is done at its second poll: about a second after it was accepted.
FIRST_POLL_AFTER = 0.5
POLL_EVERY = 0.5
