# `make run` and `make test` announce every package before they install it. NO_INSTALL=1 forbids installing.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run build test lint format bench prerequisites test-clients formatter

prettier = target/tools/prettier/node_modules/.bin/prettier
javascript = 'web/*.js' 'tests/**/*.mjs' 'src/control/dashboard/assets/*.js' 'loadtest/src/report/*.js' \
	'loadtest/src/compare/peers/*.js'

scripts = .ci/run scripts/*.sh loadtest/peers/*.sh

help: ## print this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST)

run: prerequisites ## build and run the server on 127.0.0.1:8080, with a private PostgreSQL unless .env sets a URL
	@scripts/run.sh

build: prerequisites ## build target/release/chat-server
	cargo build --release --bin chat-server

test: prerequisites test-clients lint ## check the format, run the lints and all tests
	cargo test --workspace --features test-db

lint: prerequisites formatter ## check the format and run the lints
	cargo fmt --all --check
	$(prettier) --check --log-level warn $(javascript)
	cargo clippy --workspace --all-targets --features test-db -- -D warnings
	@! command -v shellcheck >/dev/null || shellcheck --external-sources --severity=warning $(scripts)

format: prerequisites formatter ## format Rust and JavaScript
	cargo fmt --all
	$(prettier) --write --log-level warn $(javascript)

bench: prerequisites ## run the load generator: make bench ARGS="..."; without ARGS it prints its help
	cargo run --release -p loadtest -- $(or $(ARGS),--help)

prerequisites: ## check for Rust, a C linker and PostgreSQL; install missing packages
	@scripts/prerequisites.sh

test-clients: prerequisites ## install the third-party clients that the tests use
	@scripts/install-test-clients.sh

formatter: prerequisites ## install prettier, which formats the JavaScript
	@scripts/install-formatter.sh
