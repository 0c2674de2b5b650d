"""The record of every batch, job, paid attempt and image; the only code that runs SQL."""
