#!/usr/bin/env bash
# Builds and runs the server with the variables of .env, if the file exists. Its lines are NAME=value without quotes, as
# for `docker run --env-file`. Variables that are already set take precedence.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -f .env ]; then
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        case $line in
            '' | '#'*) ;;
            [A-Za-z_]*=*)
                name=${line%%=*}
                [ -n "${!name+set}" ] || export "$name=${line#*=}"
                ;;
            *) printf '.env: this line is not NAME=value: %s\n' "${line%%=*}" >&2 && exit 2 ;;
        esac
    done <.env
fi
exec cargo run --release --bin chat-server -- serve "$@"
