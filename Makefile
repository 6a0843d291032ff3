# Every target works from a bare clone on a machine with only python3 (3.11 or newer) and make.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
UV_COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock" --quiet --group build

.PHONY: help run test test-postgres test-failover torture torture-log fuzz bench bench-quick bench-peers bench-size check format gen proto-image lock clean
.DEFAULT_GOAL := help

help: ## one line a target
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' Makefile

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "plugstatus needs Python 3.11 or newer: make run PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# --no-build-isolation: the build backend comes from the hashed lock file as well.
.venv/run.stamp: .venv/pyvenv.cfg pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.lock tests/docs/package-lock.json
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@cp tests/docs/package.json tests/docs/package-lock.json .venv
	PATH="$(CURDIR)/$(BIN):$$PATH" NODE_USE_SYSTEM_CA=1 npm ci --prefix .venv --ignore-scripts --no-audit --no-fund --silent
	@touch $@

run: .venv/run.stamp ## serve HTTP and gRPC on the embedded SQLite default
	@exec $(BIN)/plugstatus serve

# A module's tests stay together. One process more than there are cores, because many only wait.
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --numprocesses \
	$$($(BIN)/python -c 'import os; print(len(os.sched_getaffinity(0)) + 1)')

test: .venv/dev.stamp ## the whole test suite
	$(PYTEST)

# What make test runs on one kind of store only, on the other: rebuilding, erasure, the API.
ON_POSTGRES := tests/integration/test_rebuild.py tests/integration/test_rebuild_core.py \
	tests/integration/test_rebuild_cures.py tests/integration/test_erasure.py \
	tests/integration/test_retention_erasures.py tests/integration/test_retention_watchers.py \
	tests/integration/test_upkeep_model.py tests/integration/test_watch_progress.py \
	tests/api/test_forget.py tests/api/test_wait.py tests/api/test_retention.py \
	tests/api/test_large_callbacks.py tests/api/test_hostile_bodies.py tests/api/test_watch_limits.py
test-postgres: .venv/dev.stamp ## suites that `make test` runs on SQLite, on PostgreSQL
	PLUGSTATUS_TEST_STORES=postgres $(PYTEST) $(ON_POSTGRES)

# SEED=… plays one round again, SHORT=1 one of the size that `make test` plays.
MINUTES ?= 10
torture: .venv/dev.stamp ## rounds of faults and power failures for MINUTES=10, or the one of SEED=; needs cc
	@$(BIN)/python -m tests.faults.torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(SHORT),--short)

INPUTS ?= 1000000
fuzz: .venv/dev.stamp ## INPUTS=1000000 made-up bodies through ingress, fold and lists, each judged
	@$(BIN)/python -m tests.fuzz --inputs $(INPUTS) $(if $(SEED),--seed $(SEED))

EVENTS ?= 500000
torture-log: .venv/dev.stamp ## follow PostgreSQL's log while 24 writers append EVENTS=500000 under faults
	@$(BIN)/python -m tests.tailing --events $(EVENTS) $(if $(SEED),--seed $(SEED))

ROUNDS ?= 4
test-failover: .venv/dev.stamp ## kill the primaries of a PostgreSQL cluster; needs etcd (Debian: etcd-server)
	@$(BIN)/python -m tests.failover --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

bench: .venv/dev.stamp ## the benchmark table, each line against its other side; needs h2load and wrk
	@$(BIN)/python -m benchmarks

bench-quick: .venv/dev.stamp ## the same with few pairs, and without what takes minutes
	@$(BIN)/python -m benchmarks --quick

.venv/peers.stamp: .venv/dev.stamp benchmarks/peers.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement benchmarks/peers.lock
	@touch $@

bench-peers: .venv/peers.stamp ## the same beside FastAPI with SQLAlchemy, and beside eventsourcing
	@$(BIN)/python -m benchmarks peers

bench-size: .venv/dev.stamp ## the lines over 1,000,000 and 10,000,000 events; their stores, 9 GB, are made once
	@$(BIN)/python -m benchmarks size

check: .venv/dev.stamp ## format, lint, types, layers, proto, generated code, duplicated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	cd protos && ../$(BIN)/buf breaking --against ../tests/contract/status.v1.binpb
	$(BIN)/python protos/generate.py --check
	$(BIN)/pylint --score=no service tests migrations benchmarks

format: .venv/dev.stamp ## format the code and the proto
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --exit-zero --quiet .
	cd protos && ../$(BIN)/buf format --write

gen: .venv/dev.stamp ## generate the stubs below service/gen from protos/
	$(BIN)/python protos/generate.py

# The committed image is what clients hold. It is only ever replaced by one that does not break it.
proto-image: .venv/dev.stamp ## renew the breaking-change image, after passing the check against the old one
	cd protos && ../$(BIN)/buf breaking --against ../tests/contract/status.v1.binpb
	cd protos && ../$(BIN)/buf build --output ../tests/contract/status.v1.binpb

lock: .venv/dev.stamp ## renew the lock files from pyproject.toml
	$(UV_COMPILE) --output-file requirements.lock
	$(UV_COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(UV_COMPILE) --extra peers --constraint requirements-dev.lock --output-file benchmarks/peers.lock
	cd tests/docs && PATH="$(CURDIR)/$(BIN):$$PATH" NODE_USE_SYSTEM_CA=1 npm update --package-lock-only \
		--omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund --silent

clean: ## remove the virtual environment and caches, never ./data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
