"""Compare the `unsafe` blocks in the crates and the examples with the table in docs/unsafe.md.

The table has rows `| file | count | claim | test |`; the count of `unsafe {`
blocks, `unsafe fn` and `unsafe impl` in each file must be the one listed, and
no other file may have any.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNSAFE = re.compile(r"\bunsafe\s*(\{|fn\b|impl\b|trait\b|extern\b)")


def code(line: str) -> str:
    """The line without its comment."""
    return line.split("//", 1)[0]


def main() -> int:
    counted = {}
    for path in sorted([*(ROOT / "crates").rglob("*.rs"), *(ROOT / "examples").rglob("*.rs")]):
        count = sum(len(UNSAFE.findall(code(line))) for line in path.read_text(encoding="utf-8").splitlines())
        if count:
            counted[path.relative_to(ROOT).as_posix().removeprefix("crates/")] = count
    listed = {}
    for line in (ROOT / "docs" / "unsafe.md").read_text(encoding="utf-8").splitlines():
        row = re.match(r"\|\s*`([^`]+\.rs)`\s*\|\s*(\d+)\s*\|", line)
        if row:
            listed[row[1]] = int(row[2])
    wrong = [
        f"{path}: {counted.get(path, 0)} in the code, {listed.get(path, 0)} in docs/unsafe.md"
        for path in sorted(counted.keys() | listed.keys())
        if counted.get(path, 0) != listed.get(path, 0)
    ]
    for line in wrong:
        print(line)
    if not wrong:
        print(f"{sum(counted.values())} unsafe blocks in {len(counted)} files, all listed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
