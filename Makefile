# From a machine with Python 3.11 or newer and make: `make run` sets up and serves, `make test` runs the tests.
# Package indexes, proxies and certificates are taken from the configuration of pip and uv; none is named here.

# The python3 on the PATH, or the distribution's own of the same version where it can make environments: that one is
# built with profile-guided optimization, and one that a version manager compiled often is not (1.5 times as slow).
PYTHON ?= $(shell own="/usr/bin/python$$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"; \
  "$$own" -c 'import ensurepip, venv' >/dev/null 2>&1 && echo "$$own" || echo python3)
HOST ?= 127.0.0.1
PORT ?= 8181
DATABASE ?= sqlite:///engine.db
POLICIES ?= policies
UV_VERSION := 0.13.8
# Many tests wait for servers of their own, so three share even two processors.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(max(3, len(os.sched_getaffinity(0))), 8))' 2>/dev/null || echo 3)
# Never by its whole path: one with a space in it would be two, of which `clean` removes the first.
ENV := .venv
BIN := $(ENV)/bin
READY := $(ENV)/.ready

# The environment is this folder's own, whatever another project left in the shell.
# Bytecode is kept even where an image forbids it (PYTHONDONTWRITEBYTECODE): compiling at each start costs a second.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE
export UV_PROJECT_ENVIRONMENT := $(ENV)
export UV_PYTHON_DOWNLOADS := never

.PHONY: help setup run test campaigns demo check format coverage bench nightly clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1 \t\2/p' Makefile | expand -t 18

setup: $(READY) ## create .venv with the locked packages (a second call does nothing)

$(READY): pyproject.toml uv.lock verifier/pyproject.toml witness/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'policy_engine needs Python 3.11 or newer; "$(PYTHON)" is older or missing.' \
	       'Name a newer one: make setup PYTHON=python3.12' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(ENV) || { \
	  echo '"$(PYTHON) -m venv" failed. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/python -m uv sync --quiet --frozen --all-extras --inexact --compile-bytecode --python $(BIN)/python || { \
	  echo 'uv could not fetch the locked files; trying pip with its own configuration.' >&2; \
	  $(BIN)/python -m uv export --quiet --frozen --all-extras --no-emit-workspace -o $(ENV)/locked.txt && \
	  $(BIN)/python -m pip install --quiet --require-hashes -r $(ENV)/locked.txt && \
	  $(BIN)/python -m pip install --quiet --no-deps --editable . --editable verifier --editable witness ; }
	@$(BIN)/python -m compileall -q policy_engine verifier witness migrations
	@touch $(READY)

run: setup ## serve the sample policy and the sample world on 127.0.0.1:8181
	$(BIN)/policy-engine serve --host $(HOST) --port $(PORT) --database $(DATABASE) --policies $(POLICIES)

test: setup ## run the tests (under ten minutes on two processors)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

campaigns: setup ## run the longer tests, which the build server runs behind these
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m campaign

demo: setup ## the directive of June 2026, from first letter to end
	$(BIN)/policy-engine demo

check: setup ## lint, format, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

coverage: setup ## branch coverage: all of core, at least 95% elsewhere
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal -m 'not nightly'
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='policy_engine/core/*' --fail-under=100
	$(BIN)/coverage report --omit='policy_engine/core/*' --fail-under=95

bench: setup ## speed, side by side with other engines and a do-nothing server
	$(BIN)/python -m benchmarks $(BENCH)

nightly: setup ## every test with many more examples, and the long campaigns (some: NIGHTLY=tests/rules)
	TMPDIR=$${TMPDIR:-/tmp} HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n 2 --dist worksteal -m 'nightly or not nightly' $(NIGHTLY)

clean: ## remove the environment and everything that can be made again
	rm -rf $(ENV) $(ENV)-* out dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
