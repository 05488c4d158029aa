#!/usr/bin/env bash
# Installs prettier, which formats the JavaScript, in target/tools/prettier.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

prettier=3.10.1

command -v node >/dev/null && command -v npm >/dev/null || apt_install "Formatting JavaScript needs Node.js." nodejs npm
npm_install prettier "$prettier" target/tools/prettier
