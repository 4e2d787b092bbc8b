# `make demo` and `make test` set themselves up on a fresh machine: Python 3.11 or later and make.
#
#   TORCH=cpu   (default) the versions in constraints/cpu.txt
#   TORCH=cuda  whatever CUDA build of PyTorch the package index offers
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu   take torch from PyTorch's own index
#   PYTHON=python3.12   the interpreter .venv is made with

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= cpu
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo

ifeq ($(TORCH),cpu)
CONSTRAINTS := -c constraints/cpu.txt
else ifeq ($(TORCH),cuda)
CONSTRAINTS :=
else
$(error TORCH must be cpu or cuda, not '$(TORCH)')
endif
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test test-all lint docs clean
.DEFAULT_GOAL := demo

demo: $(VENV)/run
	$(BIN)/hanllama run demo --output $(DEMO)

# The fast tests, and the slow ones that keep the largest promises.
test: $(VENV)/dev
	$(BIN)/python -m pytest -m "not slow" -n auto

test-all: $(VENV)/dev
	$(BIN)/python -m pytest

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/run
	$(BIN)/python docs/generate.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: $(VENV)/bin/python pyproject.toml constraints/cpu.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check $(CONSTRAINTS) $(INDEX) -e .
	@touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/python -m pip install -q --disable-pip-version-check $(CONSTRAINTS) $(INDEX) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist
