# `make run` and `make test` are the two commands; both say before they install anything (NO_INSTALL=1 forbids it).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run build test lint format bench prerequisites test-clients formatter

prettier = target/tools/prettier/node_modules/.bin/prettier
javascript = 'web/*.js' 'tests/**/*.mjs' 'src/control/dashboard/assets/*.js' 'loadtest/src/report/*.js'

scripts = .ci/run scripts/*.sh loadtest/peers/*.sh

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST)

run: prerequisites ## build and run the server on 127.0.0.1:8080, with a private PostgreSQL unless .env names one
	@scripts/run.sh

build: prerequisites ## build target/release/chat-server
	cargo build --release --bin chat-server

test: prerequisites test-clients lint ## everything that must hold: format, lints, all tests
	cargo test --workspace --features test-db

lint: prerequisites formatter ## format and lints only
	cargo fmt --all --check
	$(prettier) --check --log-level warn $(javascript)
	cargo clippy --workspace --all-targets --features test-db -- -D warnings
	@! command -v shellcheck >/dev/null || shellcheck --external-sources --severity=warning $(scripts)

format: prerequisites formatter ## format Rust and JavaScript
	cargo fmt --all
	$(prettier) --write --log-level warn $(javascript)

bench: prerequisites ## the load-testing harness: make bench ARGS="...", or without ARGS its help
	cargo run --release -p loadtest -- $(or $(ARGS),--help)

prerequisites: ## check for a Rust toolchain, a C linker and PostgreSQL; install what is missing
	@scripts/prerequisites.sh

test-clients: prerequisites ## install the foreign clients that tests use
	@scripts/install-test-clients.sh

formatter: prerequisites ## install prettier, which formats the JavaScript
	@scripts/install-formatter.sh
