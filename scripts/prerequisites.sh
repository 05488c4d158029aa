#!/usr/bin/env bash
# What building and running need besides git and make: a Rust toolchain, a C compiler and linker, and PostgreSQL's
# server programs. Installs the last two on Debian and Ubuntu, after saying so; NO_INSTALL=1 forbids it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

postgres_least=15

rust_least=$(sed -nE 's/^rust-version = "([0-9.]+)"/\1/p' Cargo.toml)
rustup='curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh'
command -v cargo >/dev/null || die "There is no Rust toolchain. Type this and try again:" "  $rustup"
rust_found=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n' "$rust_least" "$rust_found" | sort -V | head -n 1)" != "$rust_least" ]; then
    die "Rust $rust_found is too old, $rust_least is needed. Type this and try again:" \
        "  rustup update    (or, where there is no rustup: $rustup)"
fi

can_link() {
    local out
    out=$(mktemp) || return
    printf 'int main(void) { return 0; }\n' | cc -x c -o "$out" - 2>/dev/null
    local result=$?
    rm -f "$out"
    return $result
}

# Ubuntu 22.04 and Debian 11 have an older one; their packages do not help.
too_old() {
    die "PostgreSQL $postgres_least or later is needed, and this system's packages have $1. Type these and try again:" \
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

apt_install "A C linker and PostgreSQL's server programs are needed; missing: ${missing[*]}" "${missing[@]}"
can_link || die "cc still cannot link a program after the installation"
postgres_bin "$postgres_least" >/dev/null || too_old "an older one"
