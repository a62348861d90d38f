# The course's commands: `make help` lists them. Needs make and Python 3.11, 3.12 or 3.13; everything else goes into .venv.

PYTHON ?= python3
PORT ?= 8888

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMP := $(VENV)/.studyguide-stamp
LOCK := requirements.lock

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup lab test lint doctor sync solved bench lock

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  make lab HEADLESS=1   print the address and open no browser; PORT=9000 chooses the port"
	@echo "  make setup PYTHON=python3.12   choose the Python that a new .venv is made with"
	@echo "  make lock UPGRADE=1   take the newest versions that pyproject.toml allows"

setup: $(STAMP) ## make .venv and fill it, as far as that is not done

lab: setup ## open the course in JupyterLab
	JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter" JUPYTER_CONFIG_DIR="$(CURDIR)/.jupyter/local" \
		$(BIN)/python -m jupyterlab --port=$(PORT) $(if $(filter 1,$(HEADLESS)),--no-browser)

test: lint ## everything that CI runs: lint, tests, doctests and all notebooks
	$(BIN)/python -m pytest -n 2 --dist loadscope

lint: setup ## ruff and import-linter
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python $(BIN)/lint-imports --no-logo

doctor: setup ## say what works on this machine
	@$(BIN)/python -m studyguide.course.doctor

sync: setup ## run all notebooks again and write their outputs, links and the syllabus in README.md
	$(BIN)/python -m studyguide.course.notebooks sync

solved: setup ## write the notebooks with all exercises solved to build/solved
	$(BIN)/python -m studyguide.course.notebooks solved

bench: setup ## time the package against independent libraries
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

lock: $(UV) ## write requirements.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --group pyproject.toml:offline --group pyproject.toml:benchmarks --group pyproject.toml:dev \
		--universal --python-version 3.11 --no-header --no-annotate $(if $(UPGRADE),--upgrade) --quiet -o $(LOCK)

# .venv, made by the system's Python and filled by a uv that lives in it.

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "There is no $(PYTHON) here. Install Python 3.11, 3.12 or 3.13, or name one: make setup PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "The course needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is $$("$(PYTHON)" -V). Name another: make setup PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. Install it (Debian, Ubuntu: sudo apt install python3-venv), then try again."; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)

$(UV): $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' $(LOCK))"
	@touch $@

$(STAMP): $(UV) $(LOCK) pyproject.toml
	$(UV) pip install --python $(BIN)/python --no-deps --compile-bytecode --requirement $(LOCK)
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
