# Sets Flambeau up in .venv and runs its checks. Every target sets up what it needs; `make` alone lists them.

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
SYSTEM_PYTHON := $(firstword $(shell command -v python python3))
else
BIN := .venv/bin
# The first interpreter that is new enough; when none is, the first that exists, so that its age can be named.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
SYSTEM_PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c '$(NEW_ENOUGH)' 2>/dev/null && { echo "$$p"; exit; }; done; command -v python3)
endif

PYTHON ?= $(SYSTEM_PYTHON)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PYTEST := $(BIN)/python -m pytest
# Two test processes with two threads each would wait for one another.
ONE_THREAD := OMP_NUM_THREADS=1
# Neighbouring tests share what they train, so each process begins with half of the list, and takes from the other's later.
TWO := -n 2 --dist worksteal
CPU_INDEX := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow kill lint bench readme setup clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  TORCH=cpu takes PyTorch's much smaller CPU build, as in: make demo TORCH=cpu"
	@echo "  PYTHON=... names the interpreter that .venv is made with; ARGS=... goes to pytest."

demo: .venv/.installed ## Train on 5,000 pictures that come with the package, predict one, write a report.
	@$(BIN)/python scripts/demo.py

test: .venv/.installed-dev ## Run the fast tests.
	$(ONE_THREAD) $(PYTEST) -m "not slow" $(TWO) $(ARGS)

test-slow: .venv/.installed-dev ## Run the slow tests: killed runs, tutorials in full.
	$(ONE_THREAD) $(PYTEST) -m slow $(TWO) --durations=15 $(ARGS)

kill: .venv/.installed-dev ## Kill a training process 200 times and compare what resumes (N=... for another number).
	$(BIN)/python scripts/kill_many.py $(or $(N),200)

lint: .venv/.installed-dev ## Check style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src

bench: .venv/.installed-dev ## Run the benchmarks, one by one.
	@set -e; for program in benchmarks/*.py; do \
		if [ -e "$$program" ]; then echo "== $$program"; $(BIN)/python "$$program"; fi; \
	done

readme: .venv/.installed-dev ## Run the commands and the Python of the README.
	$(BIN)/python scripts/readme.py

setup: .venv/.installed-dev ## Set up .venv with the tools for development, and the pre-commit hooks.
	$(BIN)/pre-commit install

clean: ## Remove .venv, builds and caches. Runs are kept.
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.installed: pyproject.toml constraints.txt
ifeq ($(strip $(PYTHON)),)
	@echo "error: Flambeau needs Python 3.11 or newer, and there is no python3 here."
	@echo "  what to do: sudo apt install python3 python3-venv    (Debian, Ubuntu)"
	@echo "              brew install python                      (macOS)"
	@echo "              winget install Python.Python.3.13        (Windows)"
	@exit 2
endif
	@"$(PYTHON)" scripts/preflight.py $(if $(TORCH),--torch $(TORCH))
	"$(PYTHON)" -m venv .venv
ifeq ($(TORCH),cpu)
	$(PIP) install --no-deps --index-url $(CPU_INDEX) --constraint constraints.txt torch torchvision
endif
	$(PIP) install --constraint constraints.txt --editable '.[tensorboard]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@
