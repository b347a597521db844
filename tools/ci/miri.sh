#!/usr/bin/env bash
# Tests in Miri, which interprets them and stops at undefined behaviour: a read or write out of bounds or of
# uninitialised memory, a data race, a reference that outlives its claim, code for a feature that the CPU lacks.
#
#   tools/ci/miri.sh          a selection, more than a quarter of an hour
#   tools/ci/miri.sh all      everything that Miri can run
#
# Kernels run with the features of an instruction set turned on, whatever this CPU has: Miri knows what intrinsics do,
# and `is_x86_feature_detected!` follows the flags. Tests are smaller there (`cfg!(miri)`).
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! cargo +nightly miri --version >/dev/null 2>&1 &&
    ! rustup component add --toolchain nightly miri rust-src >/dev/null 2>&1; then
    echo "no Miri (rustup component add --toolchain nightly miri rust-src): skipped"
    exit 0
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri
avx2=+avx2,+fma,+f16c
# For the products of AVX-VNNI Miri asks for features of AVX-512 too, which are not enough of them for our AVX-512 kernels.
avxvnni=$avx2,+avxvnni,+avx512vnni,+avx512vl
avx512=$avx2,+avx512f,+avx512bw,+avx512vl,+avx512vnni,+avx512vbmi,+gfni,+avx512vpopcntdq

# miri FEATURES ARGUMENTS: tests of the kernels, on a CPU that has those features.
# Only this crate is compiled for them, so that what it depends on is compiled once.
miri() {
    local flags="[\"-Ctarget-feature=$1\"]"
    shift
    cargo +nightly miri test --quiet -Zprofile-rustflags \
        --config "profile.dev.package.tritwise-kernels.rustflags=$flags" -p tritwise-kernels "$@"
}

miri -avx2 --lib parallel
miri $avxvnni --test neighbours
miri $avxvnni --test integer_conformance
# Miri does not know the floating-point maximum of AVX-512, so no more than integers and bits runs.
miri $avx512 --test integer_conformance
miri $avx512 --lib pairs_give
miri $avx512 --test binary every_
if [ "${1:-}" = all ]; then
    miri -avx2 --test neighbours --test integer_conformance --test binary
    miri $avx2 --test binary
    cargo +nightly miri test --quiet -p tritwise-tensor -p tritwise-gguf -p tritwise-sampling --lib
    cargo +nightly miri test --quiet -p tritwise-gguf --tests
fi
