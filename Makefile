# Two commands for a newcomer: make demo, make test. Everything happens inside .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Waiting threads that spin make a small machine ten times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-lowest golden gpu gate lint types defaults check hooks site dist clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## .venv with the package in place and the tools

$(VENV)/.installed: pyproject.toml hatch_build.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install ## three methods on generated images, minutes
	$(BIN)/bench run --method pyramidflow,padim,patchcore --dataset synthetic --preset demo --results demo

test: install ## the whole suite, without GPU, network or downloads
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# About 5 GB. What these versions stand on is newer and warns: warnings are no errors here.
LOWEST := .venv-lowest
test-lowest: $(LOWEST)/.installed ## the suite on the lowest versions that pyproject.toml names (Python 3.10)
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile -o filterwarnings=default

$(LOWEST)/.installed: pyproject.toml hatch_build.py
	python3.10 -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --upgrade pip uv
	$(LOWEST)/bin/uv pip compile --quiet --no-header --python-version 3.10 --resolution lowest-direct --extra dev pyproject.toml --output-file $(LOWEST)/versions.txt
	$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/versions.txt editables
	$(LOWEST)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

GOLDEN ?= tests/golden
golden: install ## the golden tests on the files of GOLDEN=DIR, and the largest error of each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/methods tests/evaluate --golden $(GOLDEN) --numprocesses 2 --dist loadfile

# Exit code 3: no GPU here.
gpu: install ## on a machine with a GPU: its tests, ratios and rows, in gpu/ (eight minutes)
	@$(BIN)/python benchmarks/gpu.py

GATE := .cache/gate
# The first three on two textures, the others on one: less than two minutes of one core in all. Not DRAEM: after so
# short a training its image score is the maximum of a nearly constant map, which other CPU instructions move: docs/ci.md.
GATED := patchcore,spade,dfr,stfpm,uninformed_students,patchsvdd,csflow,differnet,cutpaste,ae_ssim,vae,anogan,vtadl
gate: install ## trains a small preset again and compares with results/baseline
	rm -rf $(GATE)
	OMP_NUM_THREADS=1 $(BIN)/bench run --method padim,pyramidflow,cflow --preset gate --in-process --results $(GATE)
	OMP_NUM_THREADS=1 $(BIN)/bench run --method $(GATED) --category weave --preset gate --in-process --results $(GATE)
	$(BIN)/bench check --baseline results/baseline --results $(GATE) --complete

lint: install ## ruff, format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## mypy --strict
	$(BIN)/mypy

defaults: install ## versions and defaults on record, after a plugin or a field was added
	$(BIN)/python -m bench.plan.defaults

check: lint types test gate ## lint, types, test and gate: what a change must pass

hooks: install ## lint and types before each commit, by pre-commit
	$(BIN)/pre-commit install

site: install ## the leaderboard of the committed rows, in site/
	$(BIN)/bench site --out site

dist: install ## wheel and source distribution, in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist

clean: ## removes what the targets made
	rm -rf $(VENV) $(LOWEST) .cache demo site build dist
