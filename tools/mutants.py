"""Take away one guard at a time, and see that a named test fails: the claim of docs/unsafe.md, repeated.

    tools/mutants.py                 all of them
    tools/mutants.py NAME...         those whose names begin so
    tools/mutants.py --list          their names, files and tests

Each is a bound that is checked, a feature that is looked for, or a step of a protocol, on which an `unsafe` block or
the meaning of a kernel rests. The script clones the repository, changes one place, runs the named test and wants it to
fail to pass *after* it has been compiled: a change that no longer applies or compiles is an error too. Then it is
undone. All tests are run unchanged first, and must pass. Most run in Miri, which compiles in seconds, has AVX2 on any
machine, and sees what a native run may survive; it comes with nightly Rust.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
ARCH = "crates/tritwise-kernels/src/arch"
PARALLEL = "crates/tritwise-kernels/src/parallel"
AVX2 = "+avx2,+fma,+f16c"
AVX512 = AVX2 + ",+avx512f,+avx512bw,+avx512vl,+avx512vnni"


@dataclasses.dataclass
class Mutation:
    """One place to change, and the test that must notice."""

    name: str
    what: str
    file: str
    old: str
    new: str
    binary: list[str]
    """The arguments of `cargo test` that choose what is compiled."""
    test: str
    """The test, or the beginning of several's names."""
    tool: str = "cargo"
    """`cargo`, `loom`, or `miri` with target features after a space."""


KERNELS = ["-p", "tritwise-kernels"]
LIB = [*KERNELS, "--lib"]
INTEGER = [*KERNELS, "--test", "integer_conformance"]

MUTATIONS = [
    Mutation(
        "gemm-out",
        "AVX2 `gemm` does not check that there is one sum per token and row",
        f"{ARCH}/x86_64/avx2/integer.rs",
        '        assert_eq!(out.len(), x.tokens() * panels.rows(), "one sum per token and row");\n',
        "",
        INTEGER,
        "operands_that_do_not_fit_panic",
        f"miri {AVX2}",
    ),
    Mutation(
        "gemv-x",
        "AVX2 `gemv` does not check that there is one activation per column",
        f"{ARCH}/x86_64/avx2/integer.rs",
        '        assert_eq!(x.len(), panels.cols(), "one activation per column");\n',
        "",
        INTEGER,
        "operands_that_do_not_fit_panic",
        f"miri {AVX2}",
    ),
    Mutation(
        "layout",
        "AVX2 `gemm` takes a layout that it has no kernel for",
        f"{ARCH}/x86_64/avx2/integer.rs",
        '        assert_eq!(panels.layout(), Layout::TwoBit, "a layout with kernels");\n        if self.vnni {\n',
        "        if self.vnni {\n",
        INTEGER,
        "a_layout_without_kernels_panics",
        f"miri {AVX2}",
    ),
    Mutation(
        "avx2-detect",
        "`Avx2::detect` does not look for AVX2",
        f"{ARCH}/x86_64/avx2/mod.rs",
        'is_x86_feature_detected!("avx2") && ',
        "",
        INTEGER,
        "every_number_of_tokens_and_panels",
        "miri +fma,+f16c,-avx2",
    ),
    Mutation(
        "f16c-detect",
        "`Avx2::detect` does not look for F16C",
        f"{ARCH}/x86_64/avx2/mod.rs",
        ' && is_x86_feature_detected!("f16c")',
        "",
        [*KERNELS, "--test", "float_conformance"],
        "add_adds",
        "miri +avx2,+fma,-f16c",
    ),
    Mutation(
        "vnni-detect",
        "`Avx2::detect_vnni` does not look for AVX-VNNI",
        f"{ARCH}/x86_64/avx2/mod.rs",
        ' && is_x86_feature_detected!("avxvnni")',
        "",
        INTEGER,
        "every_number_of_tokens_and_panels",
        f"miri {AVX2}",
    ),
    Mutation(
        "avx512-vnni-detect",
        "`Avx512::<true>::detect` does not look for VNNI",
        f"{ARCH}/x86_64/avx512/mod.rs",
        ' && is_x86_feature_detected!("avx512vnni");',
        ";",
        INTEGER,
        "operands_that_do_not_fit_panic",
        f"miri {AVX512},-avx512vnni",
    ),
    Mutation(
        "vbmi",
        "AVX-512's base-3 kernels run without a look at `vbmi`",
        f"{ARCH}/x86_64/avx512/integer.rs",
        '                assert!(self.vbmi, "a layout with kernels");\n                // SAFETY: as above, and `vbmi` tells that `detect` found those features too.\n                unsafe { base3::gemv(panels, x, out) }',
        "                // SAFETY: none.\n                unsafe { base3::gemv(panels, x, out) }",
        INTEGER,
        "a_layout_without_kernels_panics",
        f"miri {AVX512}",
    ),
    Mutation(
        "vpopcntdq",
        "AVX-512 counts ones with `vpopcntq` without a look at `vpopcntdq`",
        f"{ARCH}/x86_64/avx512/binary.rs",
        "if !self.vpopcntdq {",
        "if false {",
        [*KERNELS, "--test", "binary"],
        "every_bit_counts_once",
        f"miri {AVX512}",
    ),
    Mutation(
        "shard-row",
        "a shard gives out rows that its matrix does not have",
        f"{PARALLEL}/shards.rs",
        '        assert!(row < *rows, "row {row} of {rows}");\n',
        "        let _ = rows;\n",
        LIB,
        "a_row_out_of_range_panics",
        "miri -avx2",
    ),
    Mutation(
        "shard-width",
        "the last shard of columns is as wide as the others",
        f"{PARALLEL}/shards.rs",
        "columns.width.min((number - numbers.start) as usize * columns.shard_cols)",
        "(number - numbers.start) as usize * columns.shard_cols",
        LIB,
        "every_element_of_a_matrix_is_in_one_column_shard",
        "miri -avx2",
    ),
    Mutation(
        "cursor",
        "the cursor takes from a lane without a look at who was faster",
        f"{PARALLEL}/shards.rs",
        "if lane.compare_exchange(value, pack(left.start..middle), Ordering::Relaxed, Ordering::Relaxed).is_ok() {",
        "if { lane.store(pack(left.start..middle), Ordering::Relaxed); true } {",
        LIB,
        "model::every_number_comes_once",
        "loom",
    ),
    Mutation(
        "pool-wait",
        "`run` returns before the workers have left the region",
        f"{PARALLEL}/pool.rs",
        "        let empty = |gate: u32| gate & INSIDE == 0;\n",
        "        let empty = |_gate: u32| true;\n",
        LIB,
        "model::regions_hand_their_writes_on",
        "loom",
    ),
    Mutation(
        "pool-gate",
        "a worker enters a gate that is closed",
        f"{PARALLEL}/pool.rs",
        "let new = gate & OPEN != 0 && gate & !(OPEN | INSIDE) != seen;",
        "let new = gate & !(OPEN | INSIDE) != seen;",
        LIB,
        "model::regions_hand_their_writes_on",
        "loom",
    ),
    Mutation(
        "pool-leave",
        "a worker's leaving does not hand its writes on",
        f"{PARALLEL}/pool.rs",
        "self.gate.0.fetch_sub(1, Ordering::Release)",
        "self.gate.0.fetch_sub(1, Ordering::Relaxed)",
        LIB,
        "model::regions_hand_their_writes_on",
        "loom",
    ),
    Mutation(
        "pool-unwind",
        "`run` unwinds while workers are inside the region",
        f"{PARALLEL}/pool.rs",
        "let own = catch_unwind(AssertUnwindSafe(|| region(0)));",
        "let own: Result<(), Box<dyn Any + Send>> = Ok(region(0));",
        LIB,
        "panics_reach_the_caller_and_leave_the_pool_usable",
        "miri -avx2",
    ),
    Mutation(
        "release",
        "bytes beyond the end of a map are given back to the system",
        "crates/tritwise-loader/src/bytes.rs",
        " && range.end <= self.map.len()",
        "",
        ["-p", "tritwise-loader", "--lib"],
        "what_is_no_part_of_a_map_is_not_released",
    ),
]


def command(mutation: Mutation, target: pathlib.Path) -> tuple[list[str], dict[str, str]]:
    """What compiles the test, and with which environment."""
    tool, _, features = mutation.tool.partition(" ")
    # Those of tools/ci, whose dependencies are compiled already.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target if tool == "cargo" else target / tool)}
    if tool == "loom":
        environment["RUSTFLAGS"] = "--cfg loom"
        # Compiled in half the time, and run but once.
        flags = "profile.release.package.tritwise-kernels.opt-level=1"
        return ["cargo", "test", "--config", flags, "--release", *mutation.binary], environment
    if tool == "miri":
        flags = f'profile.dev.package.tritwise-kernels.rustflags=["-Ctarget-feature={features}"]'
        miri = ["cargo", "+nightly", "miri", "test", "-Zprofile-rustflags", "--config", flags]
        return [*miri, *mutation.binary], environment
    return ["cargo", "test", *mutation.binary], environment


def run(mutation: Mutation, clone: pathlib.Path, target: pathlib.Path) -> tuple[str, str]:
    """`passed`, `failed` or `broken` (not compiled, or no such test), and the output."""
    cargo, environment = command(mutation, target)

    def call(arguments: list[str], seconds: int | None) -> tuple[int, str]:
        done = subprocess.run(arguments, cwd=clone, env=environment, capture_output=True, text=True, check=False,
                              timeout=seconds)
        return done.returncode, done.stdout + done.stderr

    code, output = call([*cargo, "--no-run"], None)
    if code != 0:
        return "broken", output
    try:
        code, output = call([*cargo, mutation.test], 600)
    except subprocess.TimeoutExpired:
        return "failed", "error: took more than ten minutes"
    if code != 0:
        return "failed", output
    return ("broken" if re.search(r"^running [1-9]", output, re.MULTILINE) is None else "passed"), output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--changed-only", action="store_true", help="do not run the tests unchanged first")
    parser.add_argument("--target", type=pathlib.Path, default=ROOT / "target")
    arguments = parser.parse_args()
    names = tuple(arguments.names)
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name.startswith(names)]
    if arguments.list:
        for mutation in chosen:
            print(f"{mutation.name}: {mutation.what} ({mutation.file}); {mutation.tool}: {mutation.test}")
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        clone = pathlib.Path(folder) / "tritwise"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        unchanged = {}
        for mutation in chosen:
            test = (mutation.tool, *mutation.binary, mutation.test)
            if arguments.changed_only:
                unchanged[test] = ("passed", "")
            if test not in unchanged:
                unchanged[test] = run(mutation, clone, arguments.target)
                print(f"unchanged: {mutation.test} {unchanged[test][0]}", flush=True)
        for mutation in chosen:
            outcome, output = unchanged[mutation.tool, *mutation.binary, mutation.test]
            path = clone / mutation.file
            text = path.read_text(encoding="utf-8")
            places = text.count(mutation.old)
            if outcome == "passed" and places == 1:
                path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
                outcome, output = run(mutation, clone, arguments.target)
                path.write_text(text, encoding="utf-8")
                if outcome == "failed":
                    lines = [line for line in output.splitlines() if re.search("panicked at|error: |SIG", line)]
                    print(f"{mutation.name}: caught. {mutation.what}. {lines[0].strip() if lines else ''}", flush=True)
                    continue
            wrong += 1
            print(f"{mutation.name}: NOT CAUGHT ({places} places, {outcome}). {mutation.what}")
            print("\n".join(output.splitlines()[-30:]), flush=True)
    print(f"{len(chosen) - wrong} of {len(chosen)} mutations caught")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
