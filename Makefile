# Every action of the project. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
BASALT_BIN := $(abspath $(TARGET)/release/basalt-server)
VENV := $(abspath .venv)
PEERS := $(or $(PEERS_BIN),$(abspath .cache/peers/bin))
PYTEST := BASALT_BIN=$(BASALT_BIN) $(VENV)/bin/python -m pytest -q

.PHONY: help build run check fmt sim test test-rust test-python test-loom test-fuzz test-peers fuzz bench ci test-tools clean

help: ## List the actions
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

build: ## Build the release binaries
	cargo build --release --workspace --bins

run: build ## Build, then serve on 127.0.0.1:6379 with config/basalt.conf; the data is in ./data
	@mkdir -p data
	exec $(BASALT_BIN) config/basalt.conf

check: ## Formatting, lints with warnings denied, layers
	cargo fmt --all --check
	cargo fmt --manifest-path tests/clients/rust/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	python3 tests/layers.py

fmt: ## Format the Rust code
	cargo fmt --all
	cargo fmt --manifest-path tests/clients/rust/Cargo.toml

test: build test-tools test-rust test-loom test-fuzz test-python ## Install what the tests need and run them all

sim: ## Rerun one simulated history in full: make sim SEED=n
	SEED=$(SEED) cargo test -p server --test simulation -- --nocapture --exact one_history_in_full

test-rust:
	BASALT_BIN=$(BASALT_BIN) cargo test --workspace --quiet

test-loom:
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(abspath $(TARGET))/loom cargo test -p keyspace --test baton_model --release

# Each target for a while, then the canaries: whether fuzzing finds bugs at all.
test-fuzz: test-tools
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),30) tests/fuzz/run all

fuzz: test-tools ## Fuzz each target for FUZZ_SECONDS (default 600); see docs/how-to/fuzz.md
	tests/fuzz/run all

test-python: test-tools
	$(PYTEST) tests

test-peers: build test-tools ## The tests that compare with the newest Redis and Valkey
	tests/get-peers .cache/peers
	PEERS_BIN=$(PEERS) $(PYTEST) tests

bench: build ## Measure beside Redis and Valkey; see docs/benchmarks.md
	tests/get-peers .cache/peers
	BASALT_BIN=$(BASALT_BIN) PEERS_BIN=$(PEERS) benches/run

ci: check test ## Exactly what CI runs

# Redis 7.0 from Debian, which judges behaviour, a C++ compiler for libFuzzer, and a Python environment with redis-py, with
# what keeps its data in Redis, and with Node.js. The tests fetch npm's packages and build the Rust clients themselves, into .cache.
test-tools: $(VENV)/.installed
	@if ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; then \
	  as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$as_root apt-get update -q; \
	  DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -qy --no-install-recommends redis-server redis-tools; \
	fi
	@if ! command -v g++ >/dev/null; then \
	  as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$as_root apt-get update -q; \
	  DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -qy --no-install-recommends g++; \
	fi

$(VENV)/.installed: tests/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r tests/requirements.txt
	@touch $@

clean: ## Remove what was built
	rm -rf $(TARGET) $(VENV) .cache
