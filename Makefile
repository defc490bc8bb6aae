# make test | lint | demo | gpu | lock. Each makes its own environment in .venv if there is none, or if
# requirements.lock or pyproject.toml changed since it was made.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# One process per core, one thread per process: the tests' tensors are too small to share between threads.
PYTEST_FLAGS ?= -n logical --maxprocesses 8 --dist worksteal --durations 5

.DEFAULT_GOAL := test
.PHONY: demo gpu test lint lock

demo: $(READY)
	$(BIN)/python experiments/demo.py

# Checks and measures everything that needs a GPU, in at most ten minutes; writes docs/performance-gpu.md.
gpu: $(READY)
	$(BIN)/python experiments/gpu.py

test: lint
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The stamp is written last, so an interrupted installation is started afresh, never taken for a finished one.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("swahr needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.11" % v[:2])'
	@echo "making the environment in $(VENV) (a few minutes, once)"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python $(PIP_INSTALL) -r requirements.lock
	$(BIN)/python $(PIP_INSTALL) --no-deps --editable .
	@touch $@

# Resolves pyproject.toml afresh in an empty environment, e.g. make lock PIN=torch==2.13.0 to hold a version.
# Left out: this project itself, the index-specific ending of torch's version, and the accelerator libraries,
# which torch's own metadata pins per platform.
lock:
	rm -rf .cache/lock
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python $(PIP_INSTALL) --editable '.[dev]' $(PIN)
	{ echo "# Written by 'make lock$(if $(PIN), PIN=$(PIN))' from pyproject.toml; do not edit."; \
	  .cache/lock/bin/python -m pip freeze --exclude-editable \
	  | sed 's/+[a-z0-9]*$$//' | grep -v -i -E '^(nvidia-|cuda-|triton)'; } > .cache/requirements.lock
	mv .cache/requirements.lock requirements.lock
	rm -rf .cache/lock
