"""Data sets on their way from a bucket to another place: read, written in parts, and gone on with after a kill."""
