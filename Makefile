# `make run` and `make test` announce every package before they install it. NO_INSTALL=1 forbids installing.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run build test lint checks format bench fuzz types advisories prerequisites test-clients formatter \
	cargo-deny

prettier = target/tools/prettier/node_modules/.bin/prettier
javascript = 'web/*.js' 'sdk/js/*.js' 'sdk/js/node/*.js' 'sdk/scenarios/*.mjs' 'tests/**/*.mjs' \
	'src/control/dashboard/assets/*.js' 'loadtest/src/report/*.js' 'loadtest/src/compare/peers/*.js'

deny = target/tools/cargo-deny/bin/cargo-deny
fuzz_targets = fuzz/targets/*.rs

scripts = .ci/run benches/*.sh deploy/compose/*.sh scripts/*.sh loadtest/peers/*.sh

help: ## print this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST)

run: prerequisites ## build and run the server on 127.0.0.1:8080, with a private PostgreSQL unless .env sets a URL
	@scripts/run.sh

build: prerequisites ## build target/release/chat-server
	cargo build --release --bin chat-server

# Clippy compiles the packages of the workspace here, so one build has lints and tests. `cargo clippy` sets the same
# variables, but a build of its own would examine all dependencies without compiling them.
linted = RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__ cargo

# Tests wait for timers and for the disk most of the time: twice as many threads as cores keep the cores busy.
test: prerequisites test-clients checks ## check the format, run the lints and all tests
	$(linted) build --workspace --all-targets --features test-db
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(nproc)))} $(linted) test --workspace --features test-db

lint: checks ## check the format and the dependencies, and run the lints
	cargo clippy --workspace --all-targets --features test-db -- -D warnings

checks: prerequisites formatter cargo-deny
	cargo fmt --all --check
	rustfmt --check --edition 2024 $(fuzz_targets)
	$(prettier) --check --log-level warn $(javascript)
	$(deny) check --hide-inclusion-graph licenses bans sources
	@! command -v shellcheck >/dev/null || shellcheck --external-sources --severity=warning $(scripts)

format: prerequisites formatter ## format Rust and JavaScript
	cargo fmt --all
	rustfmt --edition 2024 $(fuzz_targets)
	$(prettier) --write --log-level warn $(javascript)

bench: prerequisites ## run the load generator: make bench ARGS="..."; without ARGS it prints its help
	cargo run --release -p loadtest -- $(or $(ARGS),--help)

fuzz: prerequisites ## feed random bytes to the parsers: make fuzz ARGS="text inflate"; FUZZ_SECONDS and FUZZ_RUNS bound it
	@scripts/fuzz.sh $(ARGS)

types: test-clients ## write the types of sdk/js and sdk/python, after a change of docs/asyncapi.yaml
	target/test-clients/python/bin/python sdk/generate.py

advisories: cargo-deny ## look for published vulnerabilities in the dependencies, if their database can be reached
	@scripts/check-advisories.sh

prerequisites: ## check for Rust, a C linker and PostgreSQL; install missing packages
	@scripts/prerequisites.sh

test-clients: prerequisites ## install the third-party clients that the tests use
	@scripts/install-test-clients.sh

formatter: prerequisites ## install prettier, which formats the JavaScript
	@scripts/install-formatter.sh

cargo-deny: prerequisites ## install cargo-deny, which checks the dependencies
	@scripts/install-cargo-deny.sh
