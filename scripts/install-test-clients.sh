#!/usr/bin/env bash
# Clients that others wrote, for the tests that let them talk to the server: Python's `websockets`, npm's `ws` and a
# headless Chromium. The first two go under target/test-clients/, the browser is the system's package. And promtool, which
# checks the rules of deploy/prometheus: taken out of Debian's package of Prometheus, whose installation would also
# start a Prometheus on this machine.
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
# `make lint` runs ShellCheck where it is installed. Systems without Debian's packages do without it.
if command -v apt-get >/dev/null && [ -z "${NO_INSTALL:-}" ]; then
    command -v shellcheck >/dev/null || missing+=(shellcheck)
fi
if [ ${#missing[@]} -gt 0 ]; then
    apt_install "The tests need Python, Node.js, Chromium and ShellCheck; missing: ${missing[*]}" "${missing[@]}"
fi

# The stamp names the installed versions; a different stamp means a fresh installation.
mkdir -p "$clients"
stamp="websockets $websockets msgpack $msgpack"
if [ "$(cat "$clients/python.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "Installing Python's websockets $websockets and msgpack $msgpack under $clients/python"
    rm -rf "$clients/python"
    python3 -m venv "$clients/python"
    "$clients/python/bin/pip" install --quiet --disable-pip-version-check "websockets==$websockets" "msgpack==$msgpack"
    say "$stamp" >"$clients/python.stamp"
fi
npm_install ws "$ws" "$clients/node"
promtool=$clients/promtool/promtool
if ! "$promtool" --version >/dev/null 2>&1; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die \
        "The tests of deploy/prometheus need promtool, and this is no Debian or Ubuntu. Put it at $promtool and try again."
    say "Extracting promtool from Debian's package prometheus to $promtool"
    rm -rf "$clients/promtool"
    mkdir -p "$clients/promtool/package"
    # A machine that has never updated its lists does not know the package.
    (cd "$clients/promtool" && apt-get download prometheus 2>/dev/null) || {
        apt_update
        (cd "$clients/promtool" && apt-get download prometheus)
    }
    dpkg-deb -x "$clients"/promtool/prometheus_*.deb "$clients/promtool/package"
    mv "$clients/promtool/package/usr/bin/promtool" "$promtool"
    rm -rf "$clients/promtool/package" "$clients"/promtool/prometheus_*.deb
    "$promtool" --version >/dev/null
fi
