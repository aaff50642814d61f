# `make run` and `make test` set everything up in .venv by themselves; they need Python 3.11, pip and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist worksteal
PIP := $(BIN)/python -m pip install --quiet

.PHONY: run test fast lint dashboard setup clean

run: $(VENV)/.installed
	$(BIN)/nas run examples/pocket-vision.yaml --workers 2 --export exports/pocket-vision

test: $(VENV)/.tested-with
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# The tests that take seconds, for the moment between two edits.
fast: $(VENV)/.tested-with
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not browser"

lint: $(VENV)/.tested-with
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dashboard: $(VENV)/.installed
	$(BIN)/nas dashboard

setup: $(VENV)/.tested-with

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Blockwright needs Python 3.11 or newer; say make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[dashboard]"
	touch $@

$(VENV)/.tested-with: $(VENV)/.installed requirements-dev.txt
	$(PIP) --editable ".[dashboard,postgres]" --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
