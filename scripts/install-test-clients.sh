#!/usr/bin/env bash
# Clients that others wrote, for the tests that let them talk to the server: Python's `websockets`, npm's `ws` and a
# headless Chromium. The first two go under target/test-clients/, the browser is the system's package.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

websockets=15.0.1
msgpack=1.1.2
ws=8.23.0
clients=target/test-clients

find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome || command -v chrome; }

missing=()
command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
find_chromium >/dev/null || missing+=(chromium)
if [ ${#missing[@]} -gt 0 ]; then
    apt_install "The tests with foreign clients need Python, Node.js and Chromium; missing: ${missing[*]}" "${missing[@]}"
fi

# A stamp per client names the version that is in place; anything else is installed anew.
mkdir -p "$clients"
stamp="websockets $websockets msgpack $msgpack"
if [ "$(cat "$clients/python.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "Installing Python's websockets $websockets and msgpack $msgpack under $clients/python"
    rm -rf "$clients/python"
    python3 -m venv "$clients/python"
    "$clients/python/bin/pip" install --quiet --disable-pip-version-check "websockets==$websockets" "msgpack==$msgpack"
    say "$stamp" >"$clients/python.stamp"
fi
stamp="ws $ws"
if [ "$(cat "$clients/node.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "Installing npm's ws $ws under $clients/node"
    rm -rf "$clients/node"
    mkdir -p "$clients/node"
    npm install --silent --no-audit --no-fund --prefix "$clients/node" "ws@$ws"
    say "$stamp" >"$clients/node.stamp"
fi
