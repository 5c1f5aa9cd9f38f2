# make demo   the main job end to end, on this machine's CPU
# make test   the tests
#
# Both set up what they need in .venv first; the second time that takes no time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: demo test lint types clean

demo: $(VENV)/ready
	$(BIN)/dsm demo --out $(DEMO)

test: $(VENV)/ready
	$(BIN)/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/ready
	$(BIN)/mypy

# Not compiled: Python compiles what is used when it is first used, which is a tenth of it.
$(VENV)/ready: pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint requirements.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
