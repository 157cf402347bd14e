# Every way to run, check and build Chargepool. `make help` lists them; .ci/run calls `make check` and `make test`.
# The first target that needs it builds .venv from the hash-locked requirements; after that nothing needs the network.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := pool_protocol pool_server car_agent tui chargepool
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-input
PYTEST_ARGS ?=
ROUNDS ?= 5

.PHONY: help
help: ## show this list
	@echo "Chargepool. Targets:"
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

##-- Run

.PHONY: demo
demo: $(VENV)/.demo-installed ## the whole road on this machine (SEED=7 repeats a run, CHAOS=1 kills processes, TUI=1 opens the dashboard, KEEP=1 keeps data and books)
	@$(BIN)/python -m chargepool.demo $(if $(SEED),--seed $(SEED)) $(if $(filter-out 0,$(CHAOS)),--chaos) $(if $(filter-out 0,$(TUI)),--tui) $(if $(filter-out 0,$(KEEP)),--keep)

.PHONY: soak
soak: $(VENV)/.demo-installed ## the demo under chaos with a new seed each round (ROUNDS=5), until one fails
	@for seed in $$(seq 1 $(ROUNDS)); do \
	    echo "soak: round $$seed of $(ROUNDS)"; \
	    $(BIN)/python -m chargepool.demo --seed "$$seed" --chaos </dev/null; \
	done

.PHONY: bench
bench: $(VENV)/.dev-installed ## tasks per second end to end beside an echo server, and the agent's efficiency
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

.PHONY: bench-unplug
bench-unplug: $(VENV)/.dev-installed ## from the source's report of unplugging to no worker process: p50, p99, max (EVENTS=60)
	@$(BIN)/python -m benchmarks.unplug --events $(or $(EVENTS),60)

.PHONY: bench-deciding
bench-deciding: $(VENV)/.dev-installed ## what verification's decision adds to a submitted batch of 100 results, us per task
	@$(BIN)/python -m benchmarks.deciding

.PHONY: payout-bar
payout-bar: $(VENV)/.dev-installed ## pays owners with hostile names through a bank and back, and checks it all (OWNERS=10000)
	@$(BIN)/python -m benchmarks.payout_bar --owners $(or $(OWNERS),10000)

.PHONY: bench-certificate
bench-certificate: $(VENV)/.dev-installed ## certified products of 1024 x 1024: overhead, lies refused (a few minutes)
	@$(BIN)/python -m benchmarks.certificate

.PHONY: bench-ledger
bench-ledger: $(VENV)/.dev-installed ## task settlements per second, durable, on SQLite and PostgreSQL, and the floor beneath (ROUNDS=5)
	@$(BIN)/python -m benchmarks.ledger_throughput --rounds $(or $(ROUNDS),5) $(if $(DATABASE_URL),--database-url $(DATABASE_URL))

.PHONY: bench-clearing
bench-clearing: $(VENV)/.dev-installed ## the auction and the price's limiter on random books, each held against an oracle (BOOKS=30000)
	@$(BIN)/python -m benchmarks.clearing --books $(or $(BOOKS),30000) --seed $(or $(SEED),1)

.PHONY: ledger-audit
ledger-audit: $(VENV)/.dev-installed ## random ledger operations against an independent auditor (OPERATIONS=100000 SEED=1; POSTGRESQL=1 or DATABASE_URL=...)
	@$(BIN)/python -m benchmarks.ledger_auditor --operations $(or $(OPERATIONS),100000) --seed $(or $(SEED),1) $(if $(filter-out 0,$(POSTGRESQL)),--postgresql) $(if $(DATABASE_URL),--database-url $(DATABASE_URL))

##-- Check

.PHONY: test
test: $(VENV)/.dev-installed ## all tests, in random order on two workers (PYTEST_ARGS="-k lease" narrows)
	@$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

.PHONY: check
check: lint types imports protocol-check ## everything that needs no test run: style, types, import rules, the wire

.PHONY: lint
lint: $(VENV)/.dev-installed ## ruff: rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/.dev-installed ## mypy --strict on every package, the tests and the stubs
	@$(BIN)/mypy

.PHONY: imports
imports: $(VENV)/.dev-installed ## who may import whom (import-linter)
	@$(BIN)/lint-imports --no-logo --no-cache

.PHONY: protocol-check
protocol-check: $(VENV)/.dev-installed ## buf lint, format and breaking; generated stubs up to date
	@VENV=$(VENV) scripts/check_protocol.sh

.PHONY: coverage
coverage: $(VENV)/.dev-installed ## the tests with branch coverage
	@$(BIN)/python -m pytest -n 2 --cov --cov-report=term $(PYTEST_ARGS)

##-- Change

.PHONY: format
format: $(VENV)/.dev-installed ## rewrite Python and proto files in the house format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .
	@$(BIN)/buf format --write

.PHONY: protocol
protocol: $(VENV)/.dev-installed ## make pool_protocol/v1 from proto/
	@$(BIN)/python scripts/generate_protocol.py

.PHONY: reference
reference: $(VENV)/.dev-installed ## rewrite the tables of docs/reference that repeat what the code says
	@$(BIN)/python -m scripts.generate_reference

.PHONY: lock
lock: ## resolve and hash-lock requirements*.txt again (needs the network; LOCK_ARGS=--upgrade takes newer versions)
	@scripts/lock.sh $(LOCK_ARGS)

.PHONY: venv
venv: $(VENV)/.dev-installed ## build .venv with everything that a developer needs

.PHONY: clean
clean: ## remove what the tools left, and .venv
	rm -rf $(VENV) build dist .demo .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov
	find $(PACKAGES) tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# ---------------------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@interpreter=$$(scripts/find_python.sh); \
	    echo "make: building $(VENV) with $$("$$interpreter" --version) (once; some minutes of downloads)"; \
	    "$$interpreter" -m venv $(VENV)

$(VENV)/.demo-installed: requirements.txt pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --require-hashes -r requirements.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# The development lock holds all that the demo's does, at the same versions.
$(VENV)/.dev-installed: requirements-dev.txt pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.demo-installed $@
