"""List the inner loops of kernels with what a compiler put into them: where sums live on the stack, a kernel is slow.

    tools/loops.py target/release/examples/bench                         loops that store vectors to the stack
    tools/loops.py target/release/examples/bench --all 'avx512.*attend'  all loops of functions whose names match

A kernel's loop should hold its sums in registers. Whether it does changes with what stands beside it and with the compiler,
and no test sees it: attention stored sixteen sums in every step for some time (docs/speed.md). Some loops have more sums
than an instruction set has registers, so a line of this list is a place to look, not a fault. Innermost loops only, with two
multiply-adds or more, of functions on x86-64; needs `objdump` (binutils).
"""

import argparse
import re
import subprocess
from collections.abc import Iterator

MULTIPLY = re.compile(r"vfmadd|vpdpwssd|vpdpbusd|vpmaddwd|vpmaddubsw")
STORE = re.compile(r"vmov\w+\s+[XYZ]MMWORD PTR \[rsp")
LOAD = re.compile(r"\s[xyz]mm.*[XYZ]MMWORD PTR \[rsp")
RELOAD = re.compile(r"mov\s+r\w+,QWORD PTR \[rsp")
COMPARE = re.compile(r"^cmp")
FUNCTION = re.compile(r"([0-9a-f]+) <(.*)>:$")
INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\t(.*)")
JUMP = re.compile(r"j\w+\s+([0-9a-f]+)")

LONGEST = 300
"""Instructions of a loop at most, so that a function's outermost one is not taken for it."""


def functions(binary: str, pattern: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Names and instructions, as address and text, of the functions whose names match."""
    command = ["objdump", "-d", "--no-show-raw-insn", "-M", "intel", "-C", binary]
    body = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as objdump:
        for line in objdump.stdout:
            if start := FUNCTION.match(line):
                if body:
                    yield name, body
                name = start[2]
                body = [] if re.search(pattern, name) else None
            elif body is not None and (found := INSTRUCTION.match(line)):
                body.append((int(found[1], 16), found[2]))
    if objdump.returncode:
        raise SystemExit(f"objdump cannot read {binary}")
    if body:
        yield name, body


def innermost(body: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """The instructions of loops that hold no other loop: from where a jump goes back to, up to the jump."""
    index = {address: i for i, (address, _) in enumerate(body)}
    spans = []
    for i, (_, text) in enumerate(body):
        jump = JUMP.match(text)
        first = index.get(int(jump[1], 16)) if jump else None
        if first is not None and first <= i < first + LONGEST:
            spans.append((first, i))
    for span in spans:
        if not any(other != span and span[0] <= other[0] and other[1] <= span[1] for other in spans):
            yield body[span[0] : span[1] + 1]


def count(what: re.Pattern, texts: list[str]) -> int:
    return sum(bool(what.search(text)) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("pattern", nargs="?", default="tritwise_kernels.*x86_64", help="of names, a regular expression")
    parser.add_argument("--all", action="store_true", help="also loops that store no vectors to the stack")
    args = parser.parse_args()
    print("address   instructions  multiply-adds  stack: stores  loads  addresses  comparisons")
    for name, body in functions(args.binary, args.pattern):
        lines = []
        for loop in innermost(body):
            texts = [text for _, text in loop]
            multiplies, stores = count(MULTIPLY, texts), count(STORE, texts)
            if multiplies >= 2 and (args.all or stores):
                rest = f"{count(LOAD, texts):6} {count(RELOAD, texts):10} {count(COMPARE, texts):12}"
                lines.append(f"{loop[0][0]:8x} {len(texts):13} {multiplies:14} {stores:14} {rest}")
        if lines:
            print(name, *lines, sep="\n")


if __name__ == "__main__":
    main()
