# make demo   the main job end to end, on this machine's CPU
# make test   the tests, three at a time (TESTS=4: four), but for the slow ones
# make test-all   all of them, before a release
# make gpu    on a machine with CUDA: does it compute what the CPU does, and how fast (docs/gpu.md)
# make gpu-result   there too: what dsm learns that moco does not, from 8,000 synthetic videos
# make docs   the documentation as a site, site/index.html; a broken link, a misspelt word or a long sentence is an error
#
# They set up what they need in .venv first; the second time that takes no time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
# One more than two cores, as some tests wait for other processes.
TESTS ?= 3

.PHONY: demo test test-all gpu gpu-result lint types docs clean

demo: $(VENV)/core
	$(BIN)/dsm demo --out $(DEMO)

# A file's tests stay together, as they share what they made.
PYTEST = $(BIN)/python -m pytest --numprocesses $(TESTS) --dist loadfile

test: $(VENV)/dev
	$(PYTEST)

test-all: $(VENV)/dev
	$(PYTEST) -m "slow or not slow"

# With PYTHON's own torch, which must fit the driver. WHEELS is a folder of wheels, for machines without network.
BESIDE_TORCH := .beside-torch
WHEELS ?=
GPU = PYTHONPATH=$(CURDIR)/src:$(CURDIR)/$(BESIDE_TORCH) $(PYTHON)

# Both together take at most so many minutes: the benchmark begins no row that would end later. The tests are
# ended after so many seconds, so that the benchmark always runs; the table then says that they were cut off.
GPU_MINUTES ?= 8
GPU_TEST_SECONDS ?= 240

gpu: $(BESIDE_TORCH)/ready
	begun=$$(date +%s); cut=; rm -f runs/gpu-tests.xml; \
	timeout --signal INT --kill-after 20 $(GPU_TEST_SECONDS) \
		env $(GPU) -m pytest -m "gpu or not gpu" -rs tests/test_gpu.py --junitxml runs/gpu-tests.xml; tests=$$?; \
	case $$tests in 124|137) cut=--tests-cut;; esac; \
	$(GPU) benchmarks/gpu.py --minutes $(GPU_MINUTES) --begun $$begun --tests runs/gpu-tests.xml $$cut \
		--json runs/gpu.json; exit $$((tests + $$?))

gpu-result: $(BESIDE_TORCH)/ready
	$(GPU) benchmarks/gpu_result.py --json runs/gpu-result.json

# Of the second file only what PYTHON lacks: a full image has these, built to fit each other.
$(BESIDE_TORCH)/ready: requirements-gpu.txt requirements-gpu-bare.txt
	$(PYTHON) -m pip install --quiet --no-compile --no-deps --upgrade --target $(BESIDE_TORCH) \
		$(if $(WHEELS),--no-index --find-links $(WHEELS)) --requirement requirements-gpu.txt \
		$$($(PYTHON) benchmarks/lacking.py requirements-gpu-bare.txt)
	touch $@

lint: $(VENV)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/dev
	$(BIN)/mypy
	$(BIN)/mypy studies

SPELLED = README.md CHANGELOG.md CONTRIBUTING.md docs src studies benchmarks examples tests

docs: $(VENV)/docs
	$(BIN)/codespell $(SPELLED)
	$(BIN)/python docs/prose.py
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs site

# Empty is unset: without kept bytecode every process that a test begins would compile torch anew.
export PYTHONDONTWRITEBYTECODE =

# Not compiled: Python compiles what is used when it is first used, which is a tenth of it.
INSTALL = $(BIN)/python -m pip install --quiet --no-compile --constraint requirements.txt --editable

$(VENV)/core: pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(VENV)/dev: $(VENV)/core
	$(INSTALL) '.[dev]'
	touch $@

$(VENV)/docs: $(VENV)/core
	$(INSTALL) '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) $(BESIDE_TORCH) site
