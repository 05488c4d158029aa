#!/usr/bin/env bash
# Builds and runs the server with the variables of .env, if the file exists. Its lines are NAME=value without quotes, as
# for `docker run --env-file`. Variables that are already set take precedence.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/lib.sh
read_env
exec cargo run --release --bin chat-server -- serve "$@"
