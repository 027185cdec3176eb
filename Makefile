# Everything a user or a developer starts: `make run`, `make test`, `make check`.
PYTHON ?= python3
BIN := .venv/bin
INSTALL = @$(PYTHON) install.py
LOCK := --quiet --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock"
export PYTHONDONTWRITEBYTECODE :=
export STRATA_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data),)

# `make run EXTRAS="cluster figures"` installs more.
EXTRAS ?=

.PHONY: run test dev check picture format benchmarks lock audit-dependencies image test-image clean help

help:            ## what can be made
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

run:             ## start the dashboard with a worker beside it (Ctrl+C stops it)
	$(INSTALL) $(EXTRAS)
	@$(BIN)/strata run

test: dev .venv/.chromium  ## run every test
	$(BIN)/python -m pytest

check: dev  ## lint, format, types, which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

picture: dev  ## print how the science hangs together: packages, files, levels, upward imports, cycles
	@PYTHONPATH=. $(BIN)/python .ci/imports.py

format: dev  ## put the code in the house's form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

benchmarks: dev  ## print the speed figures beside their baselines
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.loss

lock: dev  ## pin every package with its hashes, and the CPU builds of torch where their index can be reached
	$(BIN)/uv pip compile $(LOCK) --universal --all-extras --group dev -o requirements.lock pyproject.toml
	sed -n 's/^\(torch==[^ ]*\).*/\1+cpu/p' requirements.lock | $(BIN)/uv pip compile $(LOCK) --torch-backend cpu --no-deps \
	  -o requirements-cpu.lock - || echo "The index of torch's builds cannot be reached: requirements-cpu.lock is as it was."

audit-dependencies: dev  ## ask whether a weakness of a pinned package is known
	$(BIN)/python .ci/audit_dependencies.py

dev:
	$(INSTALL) dev

# The browser tests need a Chromium of the system (and their driver libatomic); where it may, this installs Debian's.
# Without one they fail and say so.
.venv/.chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium libatomic1 >/dev/null; } || true
	@touch $@

IMAGE := $(shell docker info >/dev/null 2>&1 && echo docker build || { command -v podman >/dev/null && echo podman build --format docker; } \
  || echo buildah build --format docker)
IMAGE_OPTIONS ?=

image:           ## build the image `strata` with docker, podman or buildah, whichever works here
	$(IMAGE) --tag strata --build-arg STRATA_TORCH=$(or $(STRATA_TORCH),cpu) $(IMAGE_OPTIONS) .

test-image: dev  ## build the image and run it without a daemon (root on Debian)
	@command -v buildah debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends buildah debootstrap; }
	$(BIN)/python -m pytest -m image tests/test_image.py

clean:           ## remove what can be made again (never the database in var/)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache artefacts
