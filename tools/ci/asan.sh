#!/usr/bin/env bash
# Tests under AddressSanitizer, which sees a read or write outside of any allocation, in any code.
#
#   tools/ci/asan.sh          kernels, without the slowest tests
#   tools/ci/asan.sh all      every test of every crate, the whole exactness suite too
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "no nightly toolchain, which AddressSanitizer needs (rustup toolchain install nightly): skipped"
    exit 0
fi
export RUSTFLAGS="-Zsanitizer=address"
# Leaks are no question of memory safety, and looking for them needs ptrace, which containers forbid.
export ASAN_OPTIONS=detect_leaks=0
# A target directory of its own, because the flag compiles everything anew.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/asan
# A target that is named keeps the sanitizer out of build scripts and procedural macros. Kernels take minutes to
# compile with it, and less with fewer optimisations.
test() {
    cargo +nightly test --quiet --target x86_64-unknown-linux-gnu \
        --config profile.dev.package.tritwise-kernels.opt-level=1 "$@"
}
if [ "${1:-}" = all ]; then
    test --workspace --lib --tests --features download,grammar
    test --release -p tritwise --test exactness -- --ignored
else
    test -p tritwise-kernels --test neighbours --test integer_conformance --test binary --test table_conformance -- \
        --skip extremes --skip widest
fi
