"""Trouble on order: the words, the scenarios they stand in, and when they strike."""
