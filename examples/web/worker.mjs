// Runs the model apart from the page, which stays responsive meanwhile.
import { open } from "./tritwise.mjs";

const bytes = async (url) => {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
};

const model = Promise.all([
  bytes("target/wasm32-unknown-unknown/release/tritwise_web.wasm"),
  bytes("../../assets/stories-8m.gguf"),
]).then(([module, gguf]) => open(module, gguf));

onmessage = async ({ data: { prompt, seed } }) => {
  try {
    (await model).generate(prompt, { seed, onPiece: (piece) => postMessage({ piece }) });
    postMessage({ done: true });
  } catch (error) {
    postMessage({ failed: error.message });
  }
};
