# Two commands for a newcomer: make demo, make test. Everything happens inside .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Waiting threads that spin make a small machine ten times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install demo test gate lint types clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml hatch_build.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/bench run --method pyramidflow,padim --dataset synthetic --preset demo --results demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Trains the small preset again and compares it with the committed baseline.
GATE := .cache/gate
gate: install
	rm -rf $(GATE)
	OMP_NUM_THREADS=1 $(BIN)/bench run --method padim,pyramidflow,cflow --preset gate --in-process --results $(GATE)
	$(BIN)/bench check --baseline results/baseline --results $(GATE) --complete

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .cache demo build dist
