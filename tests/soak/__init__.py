"""A soak: real processes killed at random while the sandbox counts what is paid. `make soak`; docs/soak.md."""
