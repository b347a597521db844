#!/usr/bin/env python3
"""Perplexity of a checkpoint folder on a text file, with transformers in f32.

The definition, which the Rust example `perplexity` shares:

* The whole file is tokenised at once, without adding special tokens; those written in the text count as themselves.
* The tokens are cut into non-overlapping windows of `ctx`; a last, shorter window counts if it has at least 2 tokens.
* Each window is run alone, from position 0, as it is: no token is put before it.
* Tokens 1.. of each window are predicted. The first is not, and neither its nll nor its bytes count.
* nll per token = -Σ ln p / number of predicted tokens; perplexity = exp of that.
* bits per byte = -Σ log2 p / Σ bytes of the predicted tokens, where a token's bytes are those of the text it stands for.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer

import reference


def token_bytes(folder, tokenizer):
    """Bytes of text that each token id stands for; byte-level BPE only, where a token has one character per byte."""
    description = json.loads((folder / "tokenizer.json").read_text())
    if (description.get("decoder") or {}).get("type") != "ByteLevel":
        raise SystemExit(f"{folder}/tokenizer.json: only tokenizers with a ByteLevel decoder have their bytes counted")
    added = {token["id"]: token["content"] for token in description["added_tokens"]}
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    return [len(added[i].encode()) if i in added else len(tokenizer.id_to_token(i)) for i in range(size)]


@torch.no_grad()
def window_nlls(model, windows):
    """-ln p of tokens 1.. of each of the equally long windows, summed per window in f64."""
    windows = torch.tensor(windows)
    logits = model(windows, use_cache=False).logits[:, :-1]
    chosen = logits.gather(-1, windows[:, 1:, None]).double().squeeze(-1)
    return (logits.double().logsumexp(-1) - chosen).sum(-1).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder with tokenizer.json")
    parser.add_argument("--file", type=Path, required=True, help="UTF-8 text")
    parser.add_argument("--ctx", type=int, default=256, help="tokens per window (default: %(default)s)")
    parser.add_argument("--windows", type=int, help="stop after this many windows")
    parser.add_argument("--report", type=int, nargs="*", default=[8, 64], help="also report after so many windows")
    parser.add_argument("--batch", type=int, default=8, help="windows per forward call (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    data = args.file.read_bytes()
    ids = tokenizer.encode(data.decode(), add_special_tokens=False).ids
    sizes = token_bytes(args.model, tokenizer)
    assert sum(sizes[i] for i in ids) == len(data), "the tokens' bytes do not add up to the file"
    windows = [ids[i : i + args.ctx] for i in range(0, len(ids), args.ctx)]
    windows = [window for window in windows if len(window) >= 2][: args.windows]
    print(f"{len(data)} bytes, {len(ids)} tokens, {len(windows)} windows of {args.ctx}")

    model = reference.load(args.model)
    nll, tokens, size, done = 0.0, 0, 0, 0
    start = time.monotonic()
    reports = sorted({n for n in args.report if n < len(windows)} | {len(windows)})
    while done < len(windows):
        # A batch ends where a report is due, and where windows have another length.
        end = min(done + args.batch, next(n for n in reports if n > done))
        batch = [window for window in windows[done:end] if len(window) == len(windows[done])]
        nll += sum(window_nlls(model, batch))
        tokens += sum(len(window) - 1 for window in batch)
        size += sum(sizes[i] for window in batch for i in window[1:])
        done += len(batch)
        if done in reports:
            print(
                f"{done} windows, {tokens} tokens, {size} bytes: nll/token {nll / tokens:.4f}, "
                f"perplexity {math.exp(nll / tokens):.4f}, bits/byte {nll / math.log(2) / size:.4f} "
                f"({time.monotonic() - start:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
