#!/usr/bin/env bash
# Kernels and models on 64-bit Arm: tests are cross-compiled, and run on CPUs that QEMU emulates with and without the
# instructions that kernels are made of. A seed must give the text that x86 gives. `arm.sh all` also runs the whole
# exactness suite, some eighty minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=aarch64-unknown-linux-gnu
sysroot=/usr/aarch64-linux-gnu
missing=$(for tool in qemu-aarch64 aarch64-linux-gnu-gcc; do command -v "$tool" >/dev/null || echo "$tool"; done)
if [ -n "$missing" ] || [ ! -e "$sysroot/lib/libc.so.6" ]; then
    packages="qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    # shellcheck disable=SC2086 # several words
    if ! { apt-get update -qq && apt-get install -qq -y $packages; } >/dev/null 2>&1; then
        echo "apt-get cannot install $packages: skipped"
        exit 0
    fi
fi
if ! rustup target add "$target" >/dev/null 2>&1; then
    echo "rustup cannot add $target: skipped"
    exit 0
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L $sysroot"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# QEMU must refuse what a CPU lacks, or this shows nothing.
cat >"$out/refuses.rs" <<'RUST'
fn main() {
    let instruction = std::env::args().nth(1);
    // SAFETY: the register that is declared overwritten is all that these write.
    unsafe {
        match instruction.as_deref() {
            Some("sdot") => std::arch::asm!(".inst 0x4e809400 // sdot v0.4s, v0.16b, v0.16b", out("v0") _),
            Some("smmla") => std::arch::asm!(".inst 0x4e80a400 // smmla v0.4s, v0.16b, v0.16b", out("v0") _),
            _ => panic!("which instruction?"),
        }
    }
}
RUST
rustc --edition 2024 --target "$target" -C linker="$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER" -o "$out/refuses" "$out/refuses.rs"

# Always of both packages, so that features agree and nothing is compiled twice.
run() { cargo test --quiet --target "$target" -p tritwise-kernels -p tritwise "$@" </dev/null; }

# The instruction sets that a model is offered, from the error that lists them.
isas() { { TRITWISE_ISA=none run --test text -- a_prompt_in_pieces 2>&1 || true; } | sed -n 's/.* it has \(.*\)$/\1/p' | head -n 1; }

# What is quick: each instruction of each kernel is executed.
quick() {
    TRITWISE_EXPECT_ISA=$1 run --test integer_conformance -- every_number_of_tokens operands a_layout
    run --test float_conformance --test table_conformance
    run --test screen -- kernels_give_the_bits
    run --test text -- the_same_seed
    run --test bundled -- a_seed_is_a_text
}

# CPU, what it has of the above, and the instruction sets it must be offered.
while IFS='|' read -r cpu instructions expected; do
    export QEMU_CPU=$cpu
    for instruction in sdot smmla; do
        status=0
        { qemu-aarch64 -L "$sysroot" "$out/refuses" "$instruction"; } >/dev/null 2>&1 </dev/null || status=$?
        case " $instructions " in
            *" $instruction "*) [ $status = 0 ] || { echo "$cpu: QEMU refuses $instruction"; exit 1; } ;;
            *) [ $status = 132 ] || { echo "$cpu: QEMU runs $instruction ($status)"; exit 1; } ;;
        esac
    done
    found=$(isas)
    [ "$found" = "$expected" ] || { echo "$cpu is offered \"$found\", not \"$expected\""; exit 1; }
    echo "$cpu: $expected"
    quick "${expected%%,*}"
done <<'CPUS'
neoverse-n1|sdot|aarch64-dotprod, aarch64-neon, scalar
cortex-a53||aarch64-neon, scalar
max|sdot smmla|aarch64-i8mm, aarch64-dotprod, aarch64-neon, scalar
CPUS

# The last CPU has all of them. Left out is what takes an emulated CPU minutes, and is the same code on every instruction set.
run --test integer_conformance --test attention_conformance -- --skip widest_exact --skip rows_of_a_prompt
# Whole logits, with every instruction set, against the digests that x86 recorded.
run --test exactness
if [ "${1:-}" = all ]; then
    CARGO_PROFILE_RELEASE_DEBUG=0 run --release --test exactness -- --ignored --nocapture
fi
