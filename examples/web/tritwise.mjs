// The JavaScript side of src/lib.rs, for browsers and Node.

/**
 * Instantiates the module and opens a model in it.
 *
 * @param {BufferSource} module the bytes of tritwise_web.wasm
 * @param {Uint8Array} gguf the bytes of a GGUF file
 * @returns {Promise<{isa: string, generate: Function}>} the model
 * @throws {Error} with the reason, if the model is refused
 */
export async function open(module, gguf) {
  const decoder = new TextDecoder();
  let pieces = () => {};
  let reason = "";

  // The memory's buffer is another one each time it has grown, so it is looked up each time.
  const bytes = (at, length) => new Uint8Array(exports.memory.buffer, at >>> 0, length >>> 0);
  const text = (at, length) => decoder.decode(bytes(at, length).slice());
  const host = {
    piece: (at, length) => pieces(text(at, length)),
    failed: (at, length) => { reason = text(at, length); },
    random: (at, length) => {
      // getRandomValues takes at most 65,536 bytes at once.
      const all = bytes(at, length);
      for (let from = 0; from < all.length; from += 65536) {
        crypto.getRandomValues(all.subarray(from, from + 65536));
      }
    },
  };
  const { instance } = await WebAssembly.instantiate(module, { host });
  const exports = instance.exports;

  const hand = (data) => {
    const at = exports.allocate(data.length);
    bytes(at, data.length).set(data);
    return [at, data.length];
  };
  const call = (run) => {
    reason = "";
    let done = 0;
    try {
      done = run();
    } catch (trap) {
      throw new Error(reason || String(trap), { cause: trap });
    }
    if (!done) throw new Error(reason);
  };
  const collect = (run) => {
    let all = "";
    pieces = (piece) => { all += piece; };
    run();
    return all;
  };

  call(() => exports.open(...hand(gguf)));
  return {
    isa: collect(exports.isa),

    /**
     * Continues `prompt`. The same seed gives the same text here as everywhere else.
     *
     * @param {string} prompt
     * @param {{seed?: number | bigint, maxTokens?: number, onPiece?: (text: string) => void}} options
     * @returns {string} the new text
     */
    generate(prompt, { seed = 0, maxTokens = 64, onPiece = () => {} } = {}) {
      let all = "";
      pieces = (piece) => { all += piece; onPiece(piece); };
      call(() => exports.generate(...hand(new TextEncoder().encode(prompt)), BigInt(seed), maxTokens));
      return all;
    },
  };
}
