"""Messages on their way to people and programs: over which channels, and sent until they are taken."""
