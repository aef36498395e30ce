# Every target does its own set-up from nothing but python3 and the package registries.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-stamp
DEV_STAMP := $(VENV)/.dev-stamp
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(RUN_STAMP) ## Create .venv with the command lingma-gateway in it

.PHONY: run
run: $(RUN_STAMP) ## Serve on http://127.0.0.1:8317 with the bundled Lingma simulator (PORT, HOST and every setting from the environment)
	@exec $(BIN)/lingma-gateway up

.PHONY: test
test: test-unit test-contract test-matrix test-fuzz test-conformance test-e2e test-examples test-clients test-deploy ## Run every test (installs what it needs, a Redis server included)

.PHONY: test-unit
test-unit: $(DEV_STAMP) redis-server ## Unit and property tests
	$(PYTEST) tests/unit -n $(WORKERS)

.PHONY: test-contract
test-contract: $(DEV_STAMP) redis-server ## Every implementation of a port against one suite, on a real Redis
	$(PYTEST) tests/contract -n $(WORKERS)

.PHONY: test-matrix
test-matrix: $(DEV_STAMP) ## Every upstream answer through every client encoder (REWRITE_SNAPSHOTS=1 writes the snapshots)
	$(PYTEST) tests/matrix -n $(WORKERS)

.PHONY: test-fuzz
test-fuzz: $(DEV_STAMP) ## Thousands of bad requests, each with a legal answer (FUZZ_SEED=..., FUZZ_ONLY=chat:1234)
	$(PYTEST) tests/fuzz $(if $(FUZZ_ONLY),-s -k one_request,-n $(WORKERS))

.PHONY: test-conformance
test-conformance: $(DEV_STAMP) redis-server ## Official SDKs against a live gateway
	$(PYTEST) tests/conformance -n $(WORKERS)

.PHONY: test-e2e
test-e2e: $(DEV_STAMP) redis-server ## Gateways, workers and Redis as processes: kill, cut, drain
	$(PYTEST) tests/e2e -n $(WORKERS)

.PHONY: test-examples
test-examples: $(DEV_STAMP) ## Every script under examples/ against a live gateway
	$(PYTEST) tests/examples

.PHONY: test-clients
test-clients: $(DEV_STAMP) ## Codex, Claude Code and Gemini CLI against a live gateway (skipped without npm or a registry)
	@$(BIN)/python scripts/ensure_clients.py
	$(PYTEST) tests/clients -n $(WORKERS)

.PHONY: test-deploy
test-deploy: $(DEV_STAMP) ## Helm chart, deploy/k8s, Dockerfile, Compose files: rendered, validated, held against the code
	$(PYTEST) tests/deploy tests/images/test_compose.py tests/images/test_dockerfile.py --ignore tests/deploy/apiserver -n $(WORKERS)

.PHONY: test-apiserver
test-apiserver: $(DEV_STAMP) ## The chart on a real kube-apiserver (skipped without Go and etcd; the first time it is built, for minutes)
	@$(BIN)/python scripts/ensure_apiserver.py
	$(PYTEST) tests/deploy/apiserver

.PHONY: test-jaeger
test-jaeger: $(DEV_STAMP) redis-server ## Traces as a real Jaeger shows them (skipped without Go; the first time it is built, for minutes)
	@$(BIN)/python scripts/ensure_jaeger.py
	$(PYTEST) tests/e2e/tracing tests/deploy/test_jaeger.py

.PHONY: test-images
test-images: $(DEV_STAMP) redis-server ## Build both container images and run them; Compose files, the load balancer (as root on Debian; 4 minutes)
	$(PYTEST) tests/images

.PHONY: test-rehearsal
test-rehearsal: $(DEV_STAMP) redis-server ## Ten hosts as network namespaces: every part replaced and cut off under load (as root on Linux; 4 to 5 minutes)
	$(PYTEST) tests/rehearsal

.PHONY: check
check: $(DEV_STAMP) ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: fmt
fmt: $(DEV_STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(DEV_STAMP) redis-server ## Cost per event and per turn, as ratios and CPU per unit
	$(BIN)/python -m tests.bench

.PHONY: docs
docs: $(DEV_STAMP) ## Write the reference pages and .env.example from the code
	$(BIN)/python scripts/render_docs.py

.PHONY: chart
chart: $(DEV_STAMP) ## Write what is generated in helm/ (schema, table of values) and deploy/k8s
	PYTHONPATH=. $(BIN)/python scripts/render_chart.py
	PYTHONPATH=. $(BIN)/python scripts/render_manifests.py

.PHONY: lock
lock: $(DEV_STAMP) ## Resolve both lock files anew
	$(BIN)/python -m pip install --quiet uv
	scripts/lock.sh $(BIN)/uv

.PHONY: redis-server
redis-server: $(DEV_STAMP)
	@$(BIN)/python scripts/ensure_redis.py

$(VENV)/bin/python:
	@scripts/make_venv.sh $(PYTHON) $(VENV)

$(RUN_STAMP): requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the runtime dependencies into $(VENV) (first run only)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_STAMP): requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the development dependencies into $(VENV) (first run only)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(RUN_STAMP)
