#!/usr/bin/env bash
# Checks for what the build and the server need besides git and make: a Rust toolchain, a C compiler and linker, and
# PostgreSQL's server programs. Announces and installs the last two on Debian and Ubuntu. NO_INSTALL=1 forbids it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

postgres_least=15

rust_least=$(sed -nE 's/^rust-version = "([0-9.]+)"/\1/p' Cargo.toml)
rustup='curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh'
command -v cargo >/dev/null || die "Rust is not installed. Run this command and try again:" "  $rustup"
rust_found=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n' "$rust_least" "$rust_found" | sort -V | head -n 1)" != "$rust_least" ]; then
    die "Rust $rust_found is too old; version $rust_least or later is required. Run this command and try again:" \
        "  rustup update    (without rustup: $rustup)"
fi

can_link() {
    local out
    out=$(mktemp) || return
    printf 'int main(void) { return 0; }\n' | cc -x c -o "$out" - 2>/dev/null
    local result=$?
    rm -f "$out"
    return $result
}

# The packages of Ubuntu 22.04 and Debian 11 are too old.
too_old() {
    die "PostgreSQL $postgres_least or later is required, but this system's packages have $1. Run these commands and try again:" \
        "  sudo apt-get install -y postgresql-common ca-certificates" \
        "  sudo sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf" \
        "  sudo /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y" \
        "  sudo apt-get install -y postgresql-17"
}

missing=()
can_link || missing+=(gcc libc6-dev)
if ! postgres_bin "$postgres_least" >/dev/null; then
    if command -v apt-cache >/dev/null; then
        offered=$(apt-cache policy postgresql | sed -nE 's/^ *Candidate: ([0-9]+).*/\1/p')
        if [ -n "$offered" ] && [ "$offered" -lt "$postgres_least" ]; then
            too_old "$offered"
        fi
    fi
    missing+=(postgresql)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

apt_install "The server needs a C linker and PostgreSQL's server programs. Missing packages: ${missing[*]}." "${missing[@]}"
can_link || die "After the installation, cc still cannot link a program. Check that \`cc\` works and try again."
postgres_bin "$postgres_least" >/dev/null || too_old "an older version"
