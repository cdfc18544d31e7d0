# Every target works on a fresh clone with bash, make and Python 3.10 or newer. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory

PREFIX ?= /usr/local
# Test processes side by side; if not set, two for each processor, three where most of them wait. 0: one after the other, in this process.
export JOBS
export PIP_DISABLE_PIP_VERSION_CHECK := 1

bin := .venv/bin
ready := .venv/.ready

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

# The environment: made when missing, renewed when the pins or the project change.
$(ready): requirements/dev.txt pyproject.toml
	@if ! [[ -x $(bin)/python ]] || ! $(bin)/python -m pip --version >/dev/null 2>&1; then \
	  python=$$(tools/find-python); \
	  printf 'making .venv with %s\n' "$$python"; \
	  "$$python" -m venv --clear .venv; \
	fi
	@printf 'installing the pinned packages\n'
	@$(bin)/python -m pip install -qq --requirement requirements/dev.txt
	@$(bin)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: venv
venv: $(ready) ## make .venv, with everything that development needs

# What the system has to have. First of all, before anything is made, installed or run; root gets it installed.
checks := python shellcheck shfmt
tests := bats slurmctld munged cron csh ip zsh tclsh lua cc chromium
.PHONY: need-python need-check need-test
need-python: ; @tools/need python
need-check: ; @tools/need $(checks)
need-test: ; @tools/need $(checks) $(tests)
# In the order in which they are written, also under `make -j`.
.NOTPARALLEL:

.PHONY: demo
demo: need-python $(ready) ## run the main job against a local Globus: stage in, compute, stage out (VERBOSE=1 shows each command)
	@bash recipes/demo/run.sh $(if $(VERBOSE),--verbose) $(DEMO_FLAGS)

# What a contributor runs after a change, and the rest. `main` marks what is slow and nevertheless among the first.
quick := (main or not (slow or slurm or versions)) and not (pbs or chaos)
rest := (slow or slurm or versions) and not (main or pbs or chaos)
.PHONY: test
test: need-test check ## what has to pass after a change, in minutes: check, pytest and bats, with a real Slurm and the demo
	@tests/run.sh --filter-tags '!slow,!slurm' -- -m '$(quick)'

.PHONY: test-rest
test-rest: need-test $(ready) ## what `make test` leaves out: versions of globus-cli, faults, scenarios of schedulers, installation
	@tests/versions.sh --make
	@JOBS=$${JOBS:-$$((3 * $$(getconf _NPROCESSORS_ONLN)))} tests/run.sh --filter-tags slow --filter-tags slurm -- -m '$(rest)'

.PHONY: test-all
test-all: test test-rest ## all of it, but for `make chaos` and `make test-pbs`

.PHONY: chaos
chaos: $(ready) ## the long runs: thousands of requests killed at random (an hour or more)
	@$(bin)/python -m pytest -m chaos --timeout 0 -s

.PHONY: mutants
mutants: $(ready) ## break each guard once, and see that a test fails (NAMES='judge-* wait-*' for some)
	@$(bin)/python tests/mutants/run.py -j "$${JOBS:-$$(getconf _NPROCESSORS_ONLN)}" $(NAMES)

.PHONY: test-pbs
test-pbs: $(ready) ## the scenarios of chains on every variant of PBS: two releases, with job history and without
	@$(bin)/python -m pytest -n "$${JOBS:-4}" -m 'not slurm and (pbs or not chaos)' tests/py/test_staging_scenarios.py

.PHONY: test-versions
test-versions: $(ready) ## the main paths with every supported globus-cli
	@tests/versions.sh

.PHONY: check
check: need-check $(ready) ## formats, lints, types, and the arrows between rooms
	@failed=0; \
	  $(bin)/ruff check --quiet --output-format concise || failed=1; \
	  $(bin)/ruff format --check --quiet || failed=1; \
	  $(bin)/mypy --no-error-summary || failed=1; \
	  $(bin)/lint-imports --no-logo >.venv/lint-imports.log || { cat .venv/lint-imports.log; failed=1; }; \
	  tools/lint-shell || failed=1; \
	  exit $$failed

.PHONY: format
format: $(ready) ## rewrite to the house format what can be
	@$(bin)/ruff check --quiet --fix-only
	@$(bin)/ruff format --quiet
	@tools/lint-shell --fix

.PHONY: docs
docs: $(ready) ## write docs/commands.md and docs/sandbox/operations.md again, from the code
	@$(bin)/python tools/generate-docs
	@$(bin)/python tools/generate-operations

.PHONY: bench
bench: $(ready) ## every measurement, one after the other
	@for file in tests/bench/bench_*.py; do [[ -e $$file ]] || continue; printf '== %s\n' "$$file"; $(bin)/python "$$file"; done

.PHONY: install
install: ## install under PREFIX, with an environment of its own
	@tools/install "$(DESTDIR)$(PREFIX)"

.PHONY: uninstall
uninstall: ## remove what `make install` put under PREFIX
	@tools/install --remove "$(DESTDIR)$(PREFIX)"

# Needs uv (https://docs.astral.sh/uv/), the one tool that pins for several Pythons at once.
.PHONY: lock
lock: ## pin requirements/dev.txt again from dev.in
	uv pip compile --universal --python-version 3.10 --no-emit-index-url --no-header --no-annotate -q requirements/dev.in -o requirements/dev.txt
	sed -i '1i # Pinned from dev.in for Python 3.10 and newer (make lock). Edit dev.in, not this file.' requirements/dev.txt

.PHONY: clean
clean: ## remove the environment and everything built
	@rm -rf .venv build dist lib/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find bin lib tests recipes -name __pycache__ -type d -prune -exec rm -rf {} +
