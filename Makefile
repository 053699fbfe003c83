# make demo   the whole loop on this machine, offline: a corpus becomes pairs, the pairs a model, and a report
# make test   all tests
# Both set up what they need in .venv first.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: venv setup demo demo-short test unit slow check format clean vllm-env

venv: $(BIN)/python

setup: $(VENV)/.dev

demo: $(VENV)/.train
	$(BIN)/reinstruct run examples/demo.toml

demo-short: $(VENV)/.train
	$(BIN)/reinstruct run examples/demo.toml --limit 300 --out demo-short

test: unit slow

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Files in the order of tests/conftest.py, the longest first. Those of a real vLLM are skipped without `make vllm-env`.
slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder

# An environment of its own with a vLLM for CPUs, for tests and benchmarks of the real one. Made once, in .bench/vllm.
vllm-env: $(BIN)/python
	$(BIN)/python benchmarks/vllm_env.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo demo-short .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "reinstruct needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone, so that no other package chooses its build.
$(VENV)/.torch: | $(BIN)/python
	$(PIP) $(TORCH)
	touch $@

$(VENV)/.train: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[train]'
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[train,pipelines,dev]'
	touch $(VENV)/.train $@
