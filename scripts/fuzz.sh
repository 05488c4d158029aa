#!/usr/bin/env bash
# Feeds random bytes to the parts of the server that read what strangers send, with cargo-fuzz and libFuzzer.
#
#   scripts/fuzz.sh                       every target for FUZZ_SECONDS (60)
#   scripts/fuzz.sh text inflate          these targets only
#   FUZZ_RUNS=10000000 scripts/fuzz.sh    every target until it has run so often, or FUZZ_SECONDS have passed
#
# A finding stops the script. Its input is in target/fuzz/artifacts/TARGET: `FUZZ_INPUT=FILE scripts/fuzz.sh TARGET`
# runs it again. fuzz/seeds/TARGET has the inputs to begin with. What the fuzzer adds is in target/fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

cargo_fuzz=0.13.2
tool=target/tools/cargo-fuzz
seconds=${FUZZ_SECONDS:-60}
runs=${FUZZ_RUNS:--1}

command -v c++ >/dev/null || apt_install "libFuzzer needs a C++ compiler." g++
if [ "$("$tool/bin/cargo-fuzz" --version 2>/dev/null)" != "cargo-fuzz $cargo_fuzz" ]; then
    say "Building cargo-fuzz $cargo_fuzz in $tool"
    cargo install cargo-fuzz --version "=$cargo_fuzz" --locked --root "$tool" --target-dir "$tool/build"
    rm -rf "$tool/build"
fi
PATH=$PWD/$tool/bin:$PATH

# The targets must be tested with the dependencies that the server has.
cp Cargo.lock fuzz/Cargo.lock

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename --suffix=.rs fuzz/targets/*.rs)
for target in "${targets[@]}"; do
    [ -f "fuzz/targets/$target.rs" ] || die "There is no target $target. The targets are the files of fuzz/targets/."
    corpus=target/fuzz/corpus/$target artifacts=target/fuzz/artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    inputs=("$corpus" "fuzz/seeds/$target")
    [ -z "${FUZZ_INPUT:-}" ] || inputs=("$FUZZ_INPUT")
    say "Fuzzing $target"
    # Without a sanitizer, no unstable flag of the compiler is needed. Debug assertions and overflow checks are on.
    cargo fuzz run --sanitizer none --target-dir target/fuzz/build "$target" "${inputs[@]}" -- \
        -runs="$runs" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$artifacts/" -print_final_stats=1
done
