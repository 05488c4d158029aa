#!/usr/bin/env bash
# Imports a dump of an older Veza server, with the configuration of scripts/run.sh. docs/migration.md describes it. Stop the
# server first. `chat-server import veza-legacy --help` lists the options.
set -euo pipefail
if [ $# -lt 1 ] || [[ $1 == -* ]]; then
    printf 'usage: %s DUMP [--dry-run] [--files DIR] [--report FILE]\n' "$0" >&2
    exit 2
fi
# Paths are those of the caller.
arguments=("$(realpath -- "$1")")
shift
while [ $# -gt 0 ]; do
    arguments+=("$1")
    case $1 in
        --files | --report) [ $# -lt 2 ] || { shift && arguments+=("$(realpath -m -- "$1")"); } ;;
    esac
    shift
done
cd "$(dirname "$0")/.."
. scripts/lib.sh
read_env
exec cargo run --release --bin chat-server -- import veza-legacy --yes "${arguments[@]}"
