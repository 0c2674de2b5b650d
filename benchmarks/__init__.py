"""Measures what Lightfast costs. `make bench` runs all; `python -m benchmarks.cpu` one. Nothing here is asserted."""
