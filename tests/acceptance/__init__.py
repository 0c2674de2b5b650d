"""Whole commands and workers as processes, as a user or operator meets them."""
