"""Bytes that should be a picture: checked, described, and kept on their way."""
