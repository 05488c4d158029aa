#!/usr/bin/env bash
# Installs third-party programs for the tests: Python's `websockets`, `moto` (an S3 server), npm's `ws`, a headless
# Chromium, oathtool, zbarimg and clamd. The first three go into target/test-clients/; the others are system packages.
# Also extracts promtool, which checks the rules in deploy/prometheus, from Debian's package. Installing that package
# would start a Prometheus on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

websockets=15.0.1
msgpack=1.1.2
moto=5.2.5
flask=3.1.3
flask_cors=6.0.5
ws=8.23.0
clients=target/test-clients

find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome || command -v chrome; }

missing=()
command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
find_chromium >/dev/null || missing+=(chromium)
# An authenticator app and a reader of QR codes, for the tests of two-factor authentication.
command -v oathtool >/dev/null || missing+=(oathtool)
command -v zbarimg >/dev/null || missing+=(zbar-tools)
# A virus scanner, for the tests of files. Its database is the tests' own.
[ -x /usr/sbin/clamd ] || missing+=(clamav-daemon)
# `make lint` runs ShellCheck if it is installed. It is not required on systems without Debian's packages.
if command -v apt-get >/dev/null && [ -z "${NO_INSTALL:-}" ]; then
    command -v shellcheck >/dev/null || missing+=(shellcheck)
fi
if [ ${#missing[@]} -gt 0 ]; then
    apt_install "The tests need programs of others. Missing packages: ${missing[*]}." "${missing[@]}"
fi

# The stamp names the installed versions; a different stamp means a fresh installation.
mkdir -p "$clients"
stamp="websockets $websockets msgpack $msgpack moto $moto flask $flask flask-cors $flask_cors"
if [ "$(cat "$clients/python.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "Installing Python's websockets $websockets, msgpack $msgpack and moto $moto in $clients/python"
    rm -rf "$clients/python"
    python3 -m venv "$clients/python"
    # moto[server] would install the libraries of all its services. Its S3 needs only these.
    "$clients/python/bin/pip" install --quiet --disable-pip-version-check "websockets==$websockets" \
        "msgpack==$msgpack" "moto[s3]==$moto" "flask==$flask" "flask-cors==$flask_cors"
    say "$stamp" >"$clients/python.stamp"
fi
npm_install ws "$ws" "$clients/node"
promtool=$clients/promtool/promtool
if ! "$promtool" --version >/dev/null 2>&1; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die \
        "The tests of deploy/prometheus need promtool. This system is not Debian or Ubuntu: copy it to $promtool and try again."
    say "Extracting promtool from Debian's package prometheus to $promtool"
    rm -rf "$clients/promtool"
    mkdir -p "$clients/promtool/package"
    # Without package lists, apt does not find the package.
    (cd "$clients/promtool" && apt-get download prometheus 2>/dev/null) || {
        apt_update
        (cd "$clients/promtool" && apt-get download prometheus)
    }
    dpkg-deb -x "$clients"/promtool/prometheus_*.deb "$clients/promtool/package"
    mv "$clients/promtool/package/usr/bin/promtool" "$promtool"
    rm -rf "$clients/promtool/package" "$clients"/promtool/prometheus_*.deb
    "$promtool" --version >/dev/null
fi
