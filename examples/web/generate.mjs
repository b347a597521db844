// Continues a text under Node: node generate.mjs MODULE MODEL PROMPT [SEED] [MAX_TOKENS]
import { readFile } from "node:fs/promises";
import { open } from "./tritwise.mjs";

const [module, gguf, prompt, seed = "0", maxTokens = "64"] = process.argv.slice(2);
if (prompt === undefined) {
  console.error("usage: node generate.mjs tritwise_web.wasm MODEL.gguf PROMPT [SEED] [MAX_TOKENS]");
  process.exit(2);
}
try {
  const model = await open(await readFile(module), await readFile(gguf));
  console.error(model.isa);
  process.stdout.write(prompt);
  model.generate(prompt, { seed: BigInt(seed), maxTokens: Number(maxTokens), onPiece: (text) => process.stdout.write(text) });
  process.stdout.write("\n");
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
