#!/usr/bin/env bash
# Kernels and text on x86-64 CPUs older than AVX2, as QEMU emulates them: the kernels' tests pass, the bundled model's text is
# the native one, and no instruction is executed that such a CPU lacks. Needs target/release/examples/generate.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(uname -m)" != x86_64 ] || [ "$(uname -s)" != Linux ]; then
    echo "not Linux on x86-64: skipped"
    exit 0
fi
if ! command -v qemu-x86_64 >/dev/null && ! { apt-get update -qq && apt-get install -qq -y qemu-user; } >/dev/null 2>&1; then
    echo "no qemu-x86_64, and apt-get cannot install it (qemu-user): skipped"
    exit 0
fi
target=${CARGO_TARGET_DIR:-target}
generate=$target/release/examples/generate
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# QEMU must refuse what a CPU lacks, or this shows nothing.
cat >"$out/refuses.rs" <<'RUST'
fn main() {
    let instruction = std::env::args().nth(1);
    // SAFETY: registers that are declared overwritten are all that these write.
    unsafe {
        match instruction.as_deref() {
            Some("ssse3") => std::arch::asm!("pshufb xmm0, xmm0", out("xmm0") _),
            Some("sse4.1") => std::arch::asm!("pmulld xmm0, xmm0", out("xmm0") _),
            Some("f16c") => std::arch::asm!("vcvtph2ps xmm0, xmm0", out("xmm0") _),
            Some("fma") => std::arch::asm!("vfmadd213ps xmm0, xmm0, xmm0", out("xmm0") _),
            Some("avx2") => std::arch::asm!("vpaddd ymm0, ymm0, ymm0", out("ymm0") _),
            _ => panic!("an instruction of which set?"),
        }
    }
}
RUST
rustc --edition 2024 -o "$out/refuses" "$out/refuses.rs"

# The instruction sets that a run is offered, from the error that lists them.
isas() { { "$@" "$generate" --isa none 2>&1 || true; } | sed -n 's/.*it has \(.*\)$/\1/p'; }

text() { "$@" "$generate" --prompt "Once upon a time there was a king" -n 24 --seed 7 2>/dev/null; }
text env >"$out/native"

# CPU, what it has of the above, and the instruction sets it must be offered.
while IFS='|' read -r cpu features expected; do
    for feature in ssse3 sse4.1 f16c fma avx2; do
        status=0
        { qemu-x86_64 -cpu "$cpu" "$out/refuses" "$feature"; } >/dev/null 2>&1 || status=$?
        case " $features " in
            *" $feature "*) [ $status = 0 ] || { echo "$cpu: QEMU refuses $feature"; exit 1; } ;;
            *) [ $status = 132 ] || { echo "$cpu: QEMU runs $feature ($status)"; exit 1; } ;;
        esac
    done
    found=$(isas qemu-x86_64 -cpu "$cpu")
    [ "$found" = "$expected" ] || { echo "$cpu is offered \"$found\", not \"$expected\""; exit 1; }
    text qemu-x86_64 -cpu "$cpu" >"$out/text"
    cmp "$out/native" "$out/text"
    echo "$cpu: $expected; the same text"
done <<'CPUS'
qemu64||scalar
core2duo|ssse3|scalar
Penryn|ssse3 sse4.1|x86_64-sse41, scalar
Nehalem|ssse3 sse4.1|x86_64-sse41, scalar
CPUS

# The least of the CPUs with SSE4.1. Left out is what takes an emulated CPU minutes and is the same code on every instruction set.
TRITWISE_EXPECT_ISA=x86_64-sse41 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Penryn" \
    cargo test --quiet -p tritwise-kernels --test '*conformance' --test binary --test fma --test neighbours --test page_edges \
    --test screen -- --skip rows_of_a_prompt --skip widest_exact --skip few_rows --skip logits_that_matter
