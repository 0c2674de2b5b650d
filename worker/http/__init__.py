"""The one HTTP session of a process: calls to providers and downloads."""
