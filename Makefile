# For a fresh machine with Python 3.11 or later:
#   make run    the server with demo data and a simulated patrol day, on http://127.0.0.1:8000 (PORT)
#   make test   the whole suite; on PostgreSQL too where its server is installed (.ci/run installs it)
#   make bench  how fast it is, beside its floors
#   make bench-likeness  how well it tells what is the same: on days whose truth is known, and on a public set

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

.PHONY: run test bench bench-likeness

run: $(VENV)/to-run
	@$(BIN)/python -m tests.demo

test: $(VENV)/to-test
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

bench: $(VENV)/to-test
	@$(BIN)/python -m tests.bench

bench-likeness: $(VENV)/to-test
	@$(BIN)/python -m tests.bench.likeness

$(VENV)/to-run: requirements.txt | $(BIN)/python
	@echo "Installing what the server needs (a minute or two, once) …"
	@$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/to-test: requirements-test.txt requirements.txt | $(BIN)/python
	@echo "Installing what the tests need (a minute or two, once) …"
	@$(BIN)/python -m pip install --quiet -r requirements-test.txt
	@# GDAL's validator of GeoPackages is Python alone, but declares GDAL itself, of which there is no wheel.
	@$(BIN)/python -m pip install --quiet --no-deps gdal-utils==3.13.3.0
	@touch $@ $(VENV)/to-run

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=…")'
	@$(PYTHON) -m venv $(VENV)
