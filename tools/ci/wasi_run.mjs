// Runs a WASI program under Node, as cargo's runner for wasm32-wasip1:
// CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings --no-incremental-marking …/wasi_run.mjs". It sees the repository, the folder of
// temporary files, and the environment.
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { WASI } from "node:wasi";

const [program, ...args] = process.argv.slice(2);
const repository = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const wasi = new WASI({
  version: "preview1",
  args: [program, ...args],
  env: process.env,
  // Not the root: under it, no file is found.
  preopens: { [repository]: repository, [tmpdir()]: tmpdir(), ".": process.cwd() },
  returnOnExit: true,
});
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exitCode = wasi.start(instance);
