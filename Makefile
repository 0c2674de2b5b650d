# Everything starts from a fresh clone with python3 and make: the first target builds .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: docs help setup demo test test-fast test-long simulate check format cluster bench soak screenshots constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## build .venv with .venv/bin/lightfast

# pip is the second choice: it finds a package index where only pip was told of one.
$(READY): pyproject.toml constraints.txt
	@echo "building .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@UV_COMPILE_BYTECODE=1 $(BIN)/uv pip install --quiet -p $(BIN)/python -c constraints.txt -e '.[parquet,servers,dev]' \
		|| $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[parquet,servers,dev]'
	@touch $@

demo: $(READY)  ## make the images of examples/catalog.csv, in the sandbox, into ./demo-output
	@$(BIN)/lightfast demo

# The tests start many processes. Each would compile every module again where Python is told to keep no bytecode.
test test-fast test-long: export PYTHONDONTWRITEBYTECODE :=

# Four at a time on two cores: most of them wait for other processes.
test: $(READY)  ## run the tests, with real servers from the package registry; about twenty minutes on two cores
	@$(BIN)/python -m pytest -n 4 --dist worksteal

test-fast: $(READY)  ## run the tests that start no process and use no network; a minute on two idle cores
	@$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit tests/contract

test-long: $(READY)  ## run what is long or statistical: benchmarks, small soaks, more seeds and examples; half an hour
	@$(BIN)/python -m pytest -n 4 --dist worksteal -m long
	@$(BIN)/python -m pytest -n 2 --dist worksteal --hypothesis-profile=long tests/unit tests/contract

simulate: $(READY)  ## 5,000 small batches through hours of trouble, in virtual time
	@$(BIN)/python -W ignore -m tests.simulation --seeds 5000

check: $(READY)  ## format, lint, types, import contract
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

docs: $(READY)  ## build the pages as a site, in docs/_build; a broken link fails
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build
	@echo "docs/_build/index.html"

format: $(READY)  ## put the code in its usual shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

cluster: $(READY)  ## the Procfile's processes here, with Redis, PostgreSQL and S3, against the sandbox
	@$(BIN)/python -m sandbox.cluster

soak: $(READY)  ## kill everything at random while the sandbox counts charges; half an hour
	@$(BIN)/python -m tests.soak

bench: $(READY)  ## measure everything, and write docs/performance.md from it; ONLY="start plan": those alone
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

screenshots: $(READY)  ## pictures of the pages, into docs/pages; with Debian's chromium
	@$(BIN)/python -W ignore -m tests.screenshots

constraints: $(READY)  ## pin the newest versions in constraints.txt
	@$(BIN)/uv pip compile --quiet --upgrade --universal --all-extras --no-header --no-annotate pyproject.toml -o constraints.txt

clean:  ## remove what the targets made
	rm -rf docs/_build .venv .mypy_cache .ruff_cache .hypothesis .cluster build *.egg-info demo-output
