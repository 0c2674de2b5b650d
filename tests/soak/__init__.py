"""The soak: kills real processes at random, counts what is paid. `make soak`; docs/explanation/soak.md."""
