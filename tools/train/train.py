"""Train the bundled model on a CPU, against the clock.

Progress is wall-clock time divided by the time allowed, and everything that
changes during training hangs on it: learning rate, weight decay, window
length, and the moment when quantisation is switched on. However busy the
machine is, the rate has reached zero when the time is up.

    rate            warm-up, a plateau, then linear decay to zero
    weight decay    on, off for the last part
    quantisation    off at first (the network trains in bf16), then on to the end
    windows         short at first, --context tokens at the end

The hidden matrices are trained by Muon, the embedding and norm gains by
AdamW. A checkpoint (weights and optimizer state) is written every few minutes
and whenever training ends; --resume continues from it.

Example:
    python tokenizer.py --corpus train.txt --out run/tokenizer.json
    python train.py --corpus train.txt --heldout heldout.txt --run run --minutes 110
    python export.py --run run --out export
"""

import argparse
import csv
import datetime
import math
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import evaluate
import model as M
from muon import AdamW, Muon
from tokenizer import STORY_ID, encode_training_text, encode_verbatim


@dataclass
class Stage:
    """From `start` (a fraction of the time) on, each step sees `windows` windows of `length` tokens."""

    start: float
    length: int
    windows: int


def parse_stages(text: str) -> list[Stage]:
    stages = []
    for part in text.split(","):
        start, size = part.split(":")
        length, windows = size.split("x")
        stages.append(Stage(float(start), int(length), int(windows)))
    assert stages[0].start == 0 and stages == sorted(stages, key=lambda s: s.start), "stages must start at 0 and be in order"
    return stages


class Clock:
    """Wall-clock progress from 0 to 1."""

    def __init__(self, minutes: float, until: str | None, already: float) -> None:
        self.start = time.time() - already
        self.total = minutes * 60
        if until:
            hour, minute = map(int, until.split(":"))
            end = datetime.datetime.now().replace(hour=hour, minute=minute, second=0, microsecond=0)
            if end < datetime.datetime.now():
                end += datetime.timedelta(days=1)
            self.total = end.timestamp() - self.start

    def elapsed(self) -> float:
        return time.time() - self.start

    def progress(self) -> float:
        return self.elapsed() / self.total


class Windows:
    """Windows of the corpus: each pass cuts it at a fresh random offset and visits the pieces in random order.

    A share of the windows is moved to the next paragraph and given the token
    `<|story|>` in front, so that the model learns to begin a text there.
    """

    def __init__(self, ids: np.ndarray, newline: int, opening_share: float, seed: int) -> None:
        self.ids = ids
        self.opening_share = opening_share
        self.rng = np.random.default_rng(seed)
        blank = (ids[:-1] == newline) & (ids[1:] == newline)
        self.paragraphs = np.flatnonzero(blank) + 2
        self.queue: list[int] = []
        self.length = 0

    def next(self, count: int, length: int) -> torch.Tensor:
        """[count, length + 1] tokens: inputs and, one further, targets."""
        return torch.from_numpy(np.stack([self.window(length) for _ in range(count)]))

    def window(self, length: int) -> np.ndarray:
        if not self.queue or self.length != length:
            starts = np.arange(self.rng.integers(length), len(self.ids) - length - 1, length)
            self.queue, self.length = self.rng.permutation(starts).tolist(), length
        start = self.queue.pop()
        if self.rng.random() < self.opening_share:
            following = np.searchsorted(self.paragraphs, start)
            if following < len(self.paragraphs) and self.paragraphs[following] + length < len(self.ids):
                start = self.paragraphs[following]
                return np.concatenate(([STORY_ID], self.ids[start : start + length]))
        return self.ids[start : start + length + 1]


def learning_rate(progress: float, warmup: float, decay_from: float) -> float:
    """The factor on both peak rates: trapezoid from 0 to 1 to 0."""
    return max(0.0, min(progress / warmup, 1.0, (1 - progress) / (1 - decay_from)))


def save(path: Path, state: dict) -> None:
    """Write a checkpoint so that a crash at any moment leaves either the old or the new one."""
    partial_path = path.with_suffix(".tmp")
    torch.save(state, partial_path)
    os.replace(partial_path, path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    files = parser.add_argument_group("files")
    files.add_argument("--corpus", type=Path, required=True, help="training text; each book begins with a <|story|> line")
    files.add_argument("--heldout", type=Path, required=True, help="text that is evaluated on and never trained on")
    files.add_argument("--run", type=Path, required=True, help="folder with tokenizer.json; gets checkpoint.pt and log.csv")
    files.add_argument("--resume", action="store_true", help="continue from the checkpoint in --run")
    clock = parser.add_argument_group("time")
    clock.add_argument("--minutes", type=float, default=110, help="wall-clock time allowed (default 110)")
    clock.add_argument("--until", metavar="HH:MM", help="end at this local time instead")
    clock.add_argument("--checkpoint-minutes", type=float, default=5, help="time between checkpoints (default 5)")
    clock.add_argument("--eval-minutes", type=float, default=10, help="time between evaluations (default 10)")
    clock.add_argument("--eval-bytes", type=int, default=60_000, help="how much of the held-out text those use (default 60000)")
    size = parser.add_argument_group("model")
    size.add_argument("--hidden", type=int, default=256)
    size.add_argument("--ffn", type=int, default=1024)
    size.add_argument("--layers", type=int, default=7)
    size.add_argument("--heads", type=int, default=4)
    size.add_argument("--kv-heads", type=int, default=2)
    size.add_argument("--context", type=int, default=512)
    recipe = parser.add_argument_group("recipe (fractions are of the time allowed)")
    recipe.add_argument("--stages", type=parse_stages, default="0:128x32,0.15:256x24,0.55:512x16",
                        help="FROM:LENGTHxWINDOWS, comma-separated: window length and windows per step (default %(default)s)")
    recipe.add_argument("--micro-tokens", type=int, default=2048, help="tokens per forward and backward pass (default 2048)")
    recipe.add_argument("--quantise-from", type=float, default=0.15, help="when ternary weights and int8 activations begin (default 0.15)")
    recipe.add_argument("--warmup", type=float, default=0.01, help="end of the rate's warm-up (default 0.01)")
    recipe.add_argument("--decay-from", type=float, default=0.45, help="end of the rate's plateau (default 0.45)")
    recipe.add_argument("--muon-rate", type=float, default=0.02, help="peak rate for hidden matrices (default 0.02)")
    recipe.add_argument("--muon-decay", type=float, default=0.02, help="weight decay of hidden matrices (default 0.02)")
    recipe.add_argument("--momentum", type=float, default=0.95, help="momentum of Muon (default 0.95)")
    recipe.add_argument("--adam-rate", type=float, default=0.003, help="peak rate for embedding and gains (default 0.003)")
    recipe.add_argument("--adam-decay", type=float, default=0.1, help="weight decay of the embedding (default 0.1)")
    recipe.add_argument("--decay-until", type=float, default=0.6, help="when weight decay stops (default 0.6)")
    recipe.add_argument("--opening-share", type=float, default=0.15, help="share of windows that begin with <|story|> (default 0.15)")
    recipe.add_argument("--seed", type=int, default=1)
    recipe.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    tokenizer = Tokenizer.from_file(str(args.run / "tokenizer.json"))
    config = M.Config(tokenizer.get_vocab_size(), args.hidden, args.ffn, args.layers, args.heads, args.kv_heads, args.context)
    masters = M.init_masters(config, args.seed)
    is_hidden_matrix = {name: p.dim() == 2 and "embed" not in name for name, p in masters.items()}
    muon = Muon({name: p for name, p in masters.items() if is_hidden_matrix[name]})
    adam = AdamW({name: p for name, p in masters.items() if not is_hidden_matrix[name]})
    step = tokens_seen = 0
    already = 0.0
    checkpoint = args.run / "checkpoint.pt"
    if args.resume:
        state = torch.load(checkpoint)
        assert state["config"] == config.to_dict(), "the checkpoint has other sizes"
        for name, value in state["masters"].items():
            masters[name].copy_(value)
        muon.load(state["muon"])
        adam.load(state["adam"])
        step, tokens_seen, already = state["step"], state["tokens"], state["elapsed"]
    clock = Clock(args.minutes, args.until, already)

    print("encoding the corpus ...", flush=True)
    ids = encode_training_text(tokenizer, args.corpus)
    newline = tokenizer.encode("\n").ids[0]
    data = Windows(ids, newline, args.opening_share, seed=args.seed + step)
    heldout = args.heldout.read_text("utf-8")
    heldout_ids, heldout_sizes = encode_verbatim(tokenizer, heldout[: args.eval_bytes])
    count = sum(p.numel() for p in masters.values())
    print(f"{count / 1e6:.2f} M parameters, {len(ids) / 1e6:.2f} M tokens of training text, {clock.total / 60:.0f} minutes", flush=True)

    log_path = args.run / "log.csv"
    new_log = not (args.resume and log_path.exists())
    log = open(log_path, "w" if new_log else "a", newline="")
    rows = csv.writer(log)
    if new_log:
        rows.writerow(["seconds", "progress", "step", "tokens", "rate", "train_nats_per_token", "tokens_per_second", "heldout_bits_per_byte"])

    def save_checkpoint() -> None:
        save(checkpoint, {"config": config.to_dict(), "masters": masters, "muon": muon.state(), "adam": adam.state(),
                          "step": step, "tokens": tokens_seen, "elapsed": clock.elapsed()})

    def heldout_score(quantised: bool) -> float:
        return evaluate.score(evaluate.own_model(masters, config, quantised), heldout_ids, heldout_sizes).bits_per_byte

    compiled: dict[tuple[int, bool], object] = {}
    last_checkpoint = last_eval = last_row = clock.elapsed()
    row_nats = row_tokens = 0.0
    while (progress := clock.progress()) < 1:
        stage = [s for s in args.stages if s.start <= progress][-1]
        quantised = progress >= args.quantise_from
        key = (stage.length, quantised)
        if key not in compiled:
            cos, sin = M.rope_tables(config, stage.length)
            compiled[key] = torch.compile(partial(M.loss, cos=cos, sin=sin, config=config, quantised=quantised), dynamic=False)

        weights = M.materialise(masters, config, quantised, torch.bfloat16)
        batch = data.next(stage.windows, stage.length)
        batch_tokens = stage.windows * stage.length
        for micro in batch.split(max(1, args.micro_tokens // stage.length)):
            nats = compiled[key](weights, micro[:, :-1].contiguous(), micro[:, 1:].contiguous())
            (nats / batch_tokens).backward()
            row_nats += nats.item()

        factor = learning_rate(progress, args.warmup, args.decay_from)
        decay = progress < args.decay_until
        grads = M.gradients(weights, config)
        muon.step(grads, factor * args.muon_rate, args.momentum, args.muon_decay * decay)
        adam.step(grads, factor * args.adam_rate, args.adam_decay * decay)
        step += 1
        tokens_seen += batch_tokens
        row_tokens += batch_tokens

        now = clock.elapsed()
        evaluate_now = now - last_eval > args.eval_minutes * 60
        if step % 10 == 0 or evaluate_now:
            train_nats, speed = row_nats / row_tokens, row_tokens / (now - last_row)
            if not math.isfinite(train_nats):
                raise SystemExit(f"\nthe loss is {train_nats} at step {step}; the last checkpoint is intact")
            bits = heldout_score(quantised) if evaluate_now else None
            rows.writerow([f"{now:.0f}", f"{progress:.4f}", step, tokens_seen, f"{factor:.4f}", f"{train_nats:.4f}", f"{speed:.0f}",
                           f"{bits:.4f}" if bits else ""])
            log.flush()
            bar = "#" * int(progress * 20)
            line = f"[{bar:<20}] {progress:6.1%} step {step} {tokens_seen / 1e6:.2f} M tokens {train_nats:.3f} nats {speed:.0f} tok/s"
            print(f"\r{line}" + (f"  held-out {bits:.4f} bits per byte\n" if bits else "  "), end="", flush=True)
            last_row, row_nats, row_tokens = clock.elapsed(), 0.0, 0.0
            if evaluate_now:
                last_eval = now
        if now - last_checkpoint > args.checkpoint_minutes * 60:
            save_checkpoint()
            last_checkpoint = now

    save_checkpoint()
    print(f"\ndone: {step} steps, {tokens_seen / 1e6:.2f} M tokens, held-out {heldout_score(True):.4f} bits per byte (first {args.eval_bytes} characters)")


if __name__ == "__main__":
    main()
