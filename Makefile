# What to type: `make demo` or `make test` on a fresh clone; the rest is for daily work.

PYTHON ?= python3
VENV ?= .venv
OUT ?= astrobench-demo

bin := $(VENV)/bin
# -qq: errors only
pip := $(bin)/python -m pip -qq --disable-pip-version-check

.PHONY: help demo test check fast bench docs format clean

help:
	@echo "make demo    simulate a night, make its picture, say where everything lies"
	@echo "make test    all checks and tests, in $(VENV)"
	@echo "make fast    the tests without the slow ones"
	@echo "make check   lint, types and import contracts"
	@echo "make bench   benchmarks, tables printed"
	@echo "make docs    write the table of steps into README.md"
	@echo "make format  lay out the code"
	@echo "make clean   remove what these commands made"

demo: $(VENV)/installed
	@$(bin)/astrobench demo -o $(OUT)

test: check
	@$(bin)/python -m pytest

check: $(VENV)/installed-test
	@$(bin)/ruff check
	@$(bin)/mypy
	@$(bin)/lint-imports --no-logo

fast: $(VENV)/installed-test
	@$(bin)/python -m pytest -m "not slow" tests

bench: $(VENV)/installed-test
	@for each in benchmarks/*.py; do echo "== $$each"; $(bin)/python $$each || exit 1; done

docs: $(VENV)/installed
	@$(bin)/python -m astrobench.steps.table README.md

format: $(VENV)/installed-test
	@$(bin)/ruff check --fix --exit-zero --quiet
	@$(bin)/ruff format

clean:
	rm -rf .venv .venv-ci astrobench-demo astrobench-out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find astrobench widgets tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# Stamps: a second call installs nothing unless pyproject.toml has changed.
$(VENV)/installed: $(VENV)/python-is-there pyproject.toml
	@echo "Installing astrobench into $(VENV) ..."
	@$(pip) install --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/python-is-there pyproject.toml
	@echo "Installing astrobench and what its tests need into $(VENV) ..."
	@$(pip) install --editable ".[test]"
	@touch $(VENV)/installed $@

$(VENV)/python-is-there:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "astrobench needs Python 3.11 or newer; '$(PYTHON)' is older or missing." >&2; \
	  echo "Install one and name it, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "The virtual environment could not be made. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@
