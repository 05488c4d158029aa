#!/usr/bin/env bash
# Installs third-party programs for the tests: Python's `websockets`, `moto` (an S3 server), npm's `ws`, a headless
# Chromium, oathtool, zbarimg, clamd and Redis. The first three go into target/test-clients/; the others are system packages.
# Also extracts promtool, which checks the rules in deploy/prometheus, and nginx, which the load test compares with,
# from Debian's packages. Installing these would start their services on this machine.
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
# Redis, for the tests of several nodes: the program without the service.
[ -x /usr/bin/redis-check-rdb ] || missing+=(redis-tools)
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

# Takes one program from a package of Debian that is not installed: that would start its service on this machine.
# from_package PACKAGE PATH_IN_IT WHAT_NEEDS_IT: to $clients/PROGRAM/PROGRAM
from_package() {
    local package=$1 path=$2 needed_by=$3 name folder
    name=$(basename "$path") folder=$clients/$(basename "$path")
    [ ! -x "$folder/$name" ] || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die \
        "$needed_by need $name. This system is not Debian or Ubuntu: copy it to $folder/$name and try again."
    say "Extracting $name from Debian's package $package to $folder/$name"
    rm -rf "$folder"
    mkdir -p "$folder/package"
    # Without package lists, apt does not find the package.
    (cd "$folder" && apt-get download "$package" 2>/dev/null) || {
        apt_update
        (cd "$folder" && apt-get download "$package")
    }
    dpkg-deb -x "$folder/$package"_*.deb "$folder/package"
    mv "$folder/package/$path" "$folder/$name"
    rm -rf "$folder/package" "$folder/$package"_*.deb
}
from_package prometheus usr/bin/promtool "The tests of deploy/prometheus"
"$clients/promtool/promtool" --version >/dev/null
from_package age usr/bin/age "The tests of encrypted backups"
"$clients/age/age" --version >/dev/null
from_package nginx usr/sbin/nginx "The tests of loadtest's uploads"
"$clients/nginx/nginx" -v 2>/dev/null
