# make demo    the page: talk with it, see what is in the prompt, look after what it remembers
# make model   the trained models that come with the repository, where none was made here
# make repro   everything from a fresh machine: the environment, then every stage that is stale
# make test    the test suite          make lint   ruff          make deps   rewrite dvc.yaml's lists of modules and params
# make bench   beside other implementations, in one run, after `make repro`
# make macbook the 13.9M-parameter profile on TinyStories, then every stage
# make release the models of the last `make repro` become those that come with the repository

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

MODEL := data/export/chat/config.json

.PHONY: demo model repro test lint deps bench macbook release lock
.DEFAULT_GOAL := repro

demo: .venv/installed $(MODEL)
	$(BIN)/personacore demo

model: .venv/installed $(MODEL)

repro: .venv/installed
	$(BIN)/dvc repro

test: .venv/installed $(MODEL)
	$(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

deps: .venv/installed
	$(BIN)/python -m tools.deps

bench: .venv/installed  # llama.cpp is compiled here, which takes ten minutes once
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks.same_story
	$(BIN)/python -m benchmarks.bench

macbook: .venv/installed
	$(BIN)/personacore profile macbook
	$(BIN)/dvc repro

release: .venv/installed
	rm -rf released
	$(BIN)/dvc push --remote released export

lock: .venv/installed  # after a change of pyproject.toml; a local build's tag, as of torch, is no part of a version
	$(BIN)/python -m pip install --quiet --upgrade --editable '.[dev,demo,fast,serve]'
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+[a-z0-9.]*$$//' > requirements.lock

# The lock holds every package, direct and transitive; the project itself is installed in place.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "PersonaCore needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	git rev-parse 2>/dev/null || $(BIN)/dvc config --local core.no_scm true  # a zip download has no history
	touch $@

$(MODEL): dvc.lock | .venv/installed
	$(BIN)/dvc pull --remote released export
	touch $@
