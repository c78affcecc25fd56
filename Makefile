# make repro   everything from a fresh machine: the environment, then every stage that is stale
# make test    the test suite          make lint   ruff          make deps   rewrite dvc.yaml's lists of modules and params
# make bench   beside other implementations, in one run
# make demo    the page: talk with it, see what is in the prompt, look after what it remembers
# make macbook the 13.9M-parameter profile on TinyStories, then every stage

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test lint deps lock bench demo macbook
.DEFAULT_GOAL := repro

repro: .venv/installed
	git rev-parse 2>/dev/null || $(BIN)/dvc config --local core.no_scm true  # a zip download has no history
	$(BIN)/dvc repro

test: .venv/installed
	$(BIN)/pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

deps: .venv/installed
	$(BIN)/python -m tools.deps

bench: .venv/installed  # llama.cpp is compiled here, which takes ten minutes once
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks.same_story
	$(BIN)/python -m benchmarks.bench

demo: .venv/installed
	$(BIN)/personacore demo

macbook: .venv/installed
	$(BIN)/personacore profile macbook
	$(BIN)/dvc repro

lock: .venv/installed  # after a change of pyproject.toml; a local build's tag, as of torch, is no part of a version
	$(BIN)/python -m pip install --quiet --upgrade --editable '.[dev,demo,fast,serve]'
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+[a-z0-9.]*$$//' > requirements.lock

# The lock holds every package, direct and transitive; the project itself is installed in place.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PersonaCore needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
