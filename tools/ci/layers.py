"""Hold the crate graph to the table below, and README.md's list of dependencies to the crate graph.

A new edge, inside or to the outside, fails the build until this table (and
the ones in docs/architecture.md and README.md) is changed on purpose.
"""

import json
import pathlib
import re
import subprocess
import sys

OURS = "tritwise"
ALLOWED = {
    "tritwise-tensor": {"half", "thiserror"},
    "tritwise-gguf": {"thiserror"},
    "tritwise-tokenizer": {"minijinja", "minijinja-contrib", "serde_json", "thiserror", "tokenizers"},
    "tritwise-sampling": {"libm", "rand_core", "rand_xoshiro", "thiserror"},
    "tritwise-kernels": {"bytemuck", "half", "libm", "memmap2", "thiserror", "tritwise-tensor"},
    "tritwise-loader": {
        "half", "memmap2", "safetensors", "serde", "serde_json",
        "tritwise-gguf", "tritwise-tensor", "tritwise-tokenizer",
    },
    "tritwise-model": {"thiserror", "tritwise-kernels", "tritwise-tensor"},
    "tritwise": {
        "serde_json", "sha2", "thiserror", "tritwise-kernels", "tritwise-loader", "tritwise-model",
        "tritwise-sampling", "tritwise-tensor", "tritwise-tokenizer",
    },
}
# What a crate depends on only under a feature that is off by default. Such a
# tree may hold C: no user builds it without asking.
OPTIONAL = {
    "tritwise-loader": {"sha1", "sha2", "ureq"},  # download
    "tritwise": {"llguidance"},  # grammar
}
# Crates that compile C or C++; none may be in the tree that users build.
NATIVE = {"cc", "cmake", "bindgen", "onig_sys"}
README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def check_readme(outside: set[str], packages: int) -> list[str]:
    """The section "Dependencies": a table of `outside`, and the sentence that counts `packages`."""
    section = README.read_text(encoding="utf-8").split("\n## Dependencies\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    counted = int(re.search(r"(\d+) packages", section)[1])
    wrong = [f"README.md does not say what {name} is for" for name in sorted(outside - named)]
    wrong += [f"README.md lists {name}, which no crate depends on" for name in sorted(named - outside)]
    wrong += [f"README.md counts {counted} packages; there are {packages}"] if counted != packages else []
    return wrong


def check_lints() -> list[str]:
    """The list of denied lints is written in each crate's lib.rs, since Cargo cannot share a part of one: it is one list."""
    libs = {path.parts[-3]: path.read_text(encoding="utf-8") for path in README.parent.glob("crates/*/src/lib.rs")}
    lists = {name: re.findall(r"not\(test\),\s*deny\((.*?)\)", text, re.S) for name, text in libs.items() if name != "tritwise-kernels"}
    first = lists["tritwise-gguf"]
    return [f"{name} denies other lints than tritwise-gguf" for name, found in sorted(lists.items()) if not found or found != first]


def main() -> int:
    metadata = json.loads(
        subprocess.run(["cargo", "metadata", "--format-version", "1", "--locked"],
                       check=True, capture_output=True, text=True).stdout
    )
    wrong = []
    found, optional = {}, {}
    for package in metadata["packages"]:
        if package["source"] is None and "/crates/" in package["manifest_path"].replace("\\", "/"):
            name = package["name"]
            normal = [d for d in package["dependencies"] if d["kind"] is None]
            found[name] = {d["name"] for d in normal if not d["optional"]}
            optional[name] = {d["name"] for d in normal if d["optional"]}
    for name in sorted(ALLOWED.keys() | found.keys()):
        if name not in found or name not in ALLOWED:
            wrong.append(f"{name}: {'not in the workspace' if name not in found else 'not in the table'}")
            continue
        for kind, real, table in (
            ("depends", found[name], ALLOWED[name]),
            ("optionally depends", optional[name], OPTIONAL.get(name, set())),
        ):
            if real != table:
                wrong.append(f"{name}: {kind} on {sorted(real - table)} beyond the table, lacks {sorted(table - real)}")
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "-p", OURS, "-e", "normal,build", "--prefix", "none", "--format", "{p}"],
        check=True, capture_output=True, text=True,
    ).stdout
    packages = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    native = sorted({name for name, _ in packages} & NATIVE)
    wrong += [f"{name} is in the default tree: pure Rust is a promise" for name in native]
    outside = set().union(*ALLOWED.values(), *OPTIONAL.values()) - ALLOWED.keys()
    wrong += check_readme(outside, len(packages)) + check_lints()
    for line in wrong:
        print(line)
    if not wrong:
        extra = sorted(set().union(*optional.values()))
        print(f"{len(found)} crates, {len(packages)} packages in the default tree, none compiles C; optional: {', '.join(extra)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
