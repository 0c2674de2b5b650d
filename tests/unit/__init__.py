"""One part at a time: no process, no server, no network."""
