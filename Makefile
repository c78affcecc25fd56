# make repro   everything from a fresh machine: the environment, then every stage that is stale
# make test    the test suite          make lint   ruff          make deps   rewrite dvc.yaml's lists of modules and params
# make macbook the 13.9M-parameter profile on TinyStories, then `make repro`

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test lint deps lock macbook
.DEFAULT_GOAL := repro

repro: .venv/installed
	dvc repro

test: .venv/installed
	pytest

lint: .venv/installed
	ruff check .
	ruff format --check .

deps: .venv/installed
	python -m tools.deps

macbook: .venv/installed
	personacore profile macbook
	dvc repro

lock: .venv/installed  # after a change of pyproject.toml; a local build's tag, as of torch, is no part of a version
	$(BIN)/python -m pip install --quiet --upgrade --editable '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > requirements.lock

# The lock holds every package, direct and transitive; the project itself is installed in place.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PersonaCore needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@
