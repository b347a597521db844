"""Let an exported model tell a story, in f32 with exact quantisation.

Recomputes the whole context for each token: slow, but nothing to get wrong.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from evaluate import load_export, own_model
from tokenizer import END_ID, STORY_ID


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder written by export.py")
    parser.add_argument("--prompt", default="Once upon a time", help="how the story begins")
    parser.add_argument("--tokens", type=int, default=200, help="at most so many new tokens (default 200)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (default 0.8)")
    parser.add_argument("--top-k", type=int, default=40, help="choose among the k likeliest (default 40)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(args.seed)

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    masters, config = load_export(args.model)
    logits_of = own_model(masters, config)
    ids = [STORY_ID, *tokenizer.encode(args.prompt).ids]
    shown = ""
    with torch.no_grad():
        for _ in range(args.tokens):
            logits = logits_of(torch.tensor([ids[-config.context :]]))[0, -1]
            best, index = logits.topk(args.top_k if args.temperature > 0 else 1)
            weights = (best / max(args.temperature, 1e-6)).softmax(dim=0)
            token = index[torch.multinomial(weights, 1, generator=generator)].item()
            if token == END_ID:
                break
            ids.append(token)
            text = tokenizer.decode(ids)
            if not text.endswith("\ufffd"):
                print(text[len(shown) :], end="", flush=True)
                shown = text
    print()


if __name__ == "__main__":
    main()
