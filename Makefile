# Everything a user or a developer starts: `make run`, `make test`, `make check`.
PYTHON ?= python3
BIN := .venv/bin
export STRATA_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data),)

.PHONY: run test check picture format benchmarks lock audit-dependencies clean help

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock"

help:            ## what can be made
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

run: .venv/.run  ## start the dashboard with a worker beside it (Ctrl+C stops it)
	@$(BIN)/python -m store attend $(BIN)/python -m streamlit run app.py

test: .venv/.dev .venv/.chromium  ## run every test
	$(BIN)/python -m pytest

check: .venv/.dev  ## lint, format, types, which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

picture: .venv/.dev  ## print how the science hangs together: packages, files, levels, upward imports, cycles
	@PYTHONPATH=. $(BIN)/python .ci/imports.py

format: .venv/.dev  ## put the code in the house's form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

benchmarks: .venv/.dev  ## print the speed figures beside their baselines
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.loss

lock: .venv/.dev ## pin everything with its hashes: requirements.lock (to run), requirements-dev.lock (to develop)
	$(BIN)/$(LOCK) -o requirements.lock requirements.txt requirements-cluster.txt requirements-figures.txt
	$(BIN)/$(LOCK) -o requirements-dev.lock -c requirements.lock requirements-dev.txt

audit-dependencies: .venv/.dev ## ask whether a weakness of a pinned package is known
	$(BIN)/python .ci/audit_dependencies.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Strata needs Python 3.11 or later; set PYTHON=/path/to/python3.11."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.run: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ .venv/.run

# The browser tests need a Chromium of the system; where it may, this installs Debian's. Without one they fail and say so.
.venv/.chromium: | .venv/bin/python
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || true
	@touch $@

clean:           ## remove what can be made again (never the database in var/)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache artefacts
