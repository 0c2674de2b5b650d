"""Callbacks of providers: taken from strangers, buffered, and recorded as hints."""
