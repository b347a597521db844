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

Each CPU core gets a worker process with one thread, which does its share of
the batch alone. The workers meet twice a step, not in every operation as the
threads of one process do, so a core that is busy elsewhere costs little.

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
import torch.multiprocessing
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
    recipe.add_argument("--micro-tokens", type=int, default=1024, help="tokens per forward and backward pass (default 1024)")
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
    recipe.add_argument("--workers", type=int, default=2, help="processes that share each batch (default 2)")
    recipe.add_argument("--threads", type=int, default=2, help="CPU threads of all workers together (default 2)")
    return parser.parse_args()


def views(flat: torch.Tensor, shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Cut a flat tensor into named parts that share its memory."""
    parts = flat.split([shape.numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts)}


class Shared:
    """Everything the worker processes have in common, in shared memory.

    The workers take turns by barriers, so no lock is needed: between two
    barriers each part has one writer.
    """

    def __init__(self, config: M.Config, seed: int, workers: int) -> None:
        initial = M.init_masters(config, seed)
        self.shapes = {name: p.shape for name, p in initial.items()}
        count = sum(p.numel() for p in initial.values())
        self.masters = torch.cat([p.flatten() for p in initial.values()]).share_memory_()
        # Optimizer state: `first` is Muon's momentum and AdamW's first moment, `second` AdamW's second moment.
        self.first = torch.zeros(count).share_memory_()
        self.second = torch.zeros(count).share_memory_()
        self.grads = torch.zeros(workers, count).share_memory_()
        self.nats = torch.zeros(workers, dtype=torch.float64).share_memory_()
        self.progress = torch.zeros(1, dtype=torch.float64).share_memory_()
        self.barrier = torch.multiprocessing.get_context("spawn").Barrier(workers)

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        return views(flat, self.shapes)


@dataclass
class Position:
    """How far training has come."""

    step: int = 0
    tokens: int = 0
    elapsed: float = 0.0


class Log:
    """log.csv, and the progress line on the terminal."""

    HEAD = ["seconds", "progress", "step", "tokens", "rate", "train_nats_per_token", "tokens_per_second", "heldout_bits_per_byte"]

    def __init__(self, path: Path, append: bool) -> None:
        append = append and path.exists()
        self.file = open(path, "a" if append else "w", newline="")
        self.rows = csv.writer(self.file)
        if not append:
            self.rows.writerow(self.HEAD)

    def write(self, at: Position, progress: float, factor: float, nats: float, speed: float, bits: float | None) -> None:
        self.rows.writerow([f"{at.elapsed:.0f}", f"{progress:.4f}", at.step, at.tokens, f"{factor:.4f}", f"{nats:.4f}", f"{speed:.0f}",
                            f"{bits:.4f}" if bits else ""])
        self.file.flush()
        bar = "#" * int(progress * 20)
        line = f"[{bar:<20}] {progress:6.1%} step {at.step} {at.tokens / 1e6:.2f} M tokens {nats:.3f} nats {speed:.0f} tok/s"
        print(f"\r{line}" + (f"  held-out {bits:.4f} bits per byte\n" if bits else "  "), end="", flush=True)


def work(rank: int, args: argparse.Namespace, config: M.Config, shared: Shared, ids: np.ndarray, newline: int,
         clock: Clock, at: Position) -> None:
    """One worker process. All see the same batch; each takes its share of the windows, then of the matrices to update.

    Worker 0 also keeps the clock, the embedding and the norms, the log, the evaluations and the checkpoints.
    """
    torch.set_num_threads(max(1, args.threads // args.workers))
    lead = rank == 0
    masters, first, second = (shared.views(flat) for flat in (shared.masters, shared.first, shared.second))
    grads_here, grads_all = shared.views(shared.grads[rank]), [shared.views(g) for g in shared.grads]
    hidden = [name for name, p in masters.items() if p.dim() == 2 and "embed" not in name]
    hidden.sort(key=lambda name: tuple(masters[name].shape))
    mine = hidden[rank :: args.workers]
    muon = Muon({name: masters[name] for name in mine}, first)
    others = [name for name in masters if name not in hidden] if lead else []
    adam = AdamW({name: masters[name] for name in others}, first, second, at.step)
    data = Windows(ids, newline, args.opening_share, seed=args.seed + at.step)
    compiled: dict[tuple[int, bool], object] = {}

    if lead:
        log = Log(args.run / "log.csv", args.resume)
        tokenizer = Tokenizer.from_file(str(args.run / "tokenizer.json"))
        heldout = encode_verbatim(tokenizer, args.heldout.read_text("utf-8")[: args.eval_bytes])
        last_checkpoint = last_eval = last_row = clock.elapsed()
        row_nats = row_tokens = 0.0

    def heldout_score(quantised: bool) -> float:
        return evaluate.score(evaluate.own_model(masters, config, quantised), *heldout).bits_per_byte

    def save_checkpoint() -> None:
        save(args.run / "checkpoint.pt", {"config": config.to_dict(), "masters": masters, "first": first, "second": second,
                                          "step": at.step, "tokens": at.tokens, "elapsed": at.elapsed})

    while True:
        if lead:
            shared.progress[0] = clock.progress()
        shared.barrier.wait()  # the masters are up to date
        progress = shared.progress.item()
        if progress >= 1:
            break
        stage = [s for s in args.stages if s.start <= progress][-1]
        quantised = progress >= args.quantise_from
        key = (stage.length, quantised)
        if key not in compiled:
            cos, sin = M.rope_tables(config, stage.length)
            compiled[key] = torch.compile(partial(M.loss, cos=cos, sin=sin, config=config, quantised=quantised), dynamic=False)

        weights = M.materialise(masters, config, quantised, torch.bfloat16)
        batch = data.next(stage.windows, stage.length)[rank :: args.workers]
        batch_tokens = stage.windows * stage.length
        shared.nats[rank] = 0
        for micro in batch.split(max(1, args.micro_tokens // stage.length)):
            nats = compiled[key](weights, micro[:, :-1].contiguous(), micro[:, 1:].contiguous())
            (nats / batch_tokens).backward()
            shared.nats[rank] += nats.item()
        for name, grad in M.gradients(weights, config).items():
            grads_here[name].copy_(grad)
        shared.barrier.wait()  # the gradients are complete

        factor = learning_rate(progress, args.warmup, args.decay_from)
        decay = progress < args.decay_until
        summed = {name: torch.stack([g[name] for g in grads_all]).sum(0) for name in (*mine, *others)}
        muon.step(summed, factor * args.muon_rate, args.momentum, args.muon_decay * decay)
        adam.step(summed, factor * args.adam_rate, args.adam_decay * decay)
        if not lead:
            continue

        at.step += 1
        at.tokens += batch_tokens
        at.elapsed = now = clock.elapsed()
        row_nats += shared.nats.sum().item()
        row_tokens += batch_tokens
        evaluate_now = now - last_eval > args.eval_minutes * 60
        if at.step % 10 == 0 or evaluate_now:
            nats = row_nats / row_tokens
            if not math.isfinite(nats):
                raise SystemExit(f"\nthe loss is {nats} at step {at.step}; the last checkpoint is intact")
            bits = heldout_score(quantised) if evaluate_now else None
            log.write(at, progress, factor, nats, row_tokens / (now - last_row), bits)
            last_row, row_nats, row_tokens = now, 0.0, 0.0
            if evaluate_now:
                last_eval = now
        if now - last_checkpoint > args.checkpoint_minutes * 60:
            save_checkpoint()
            last_checkpoint = now

    if lead:
        save_checkpoint()
        print(f"\ndone: {at.step} steps, {at.tokens / 1e6:.2f} M tokens, "
              f"held-out {heldout_score(True):.4f} bits per byte (first {args.eval_bytes} characters)")


def main() -> None:
    args = arguments()
    tokenizer = Tokenizer.from_file(str(args.run / "tokenizer.json"))
    config = M.Config(tokenizer.get_vocab_size(), args.hidden, args.ffn, args.layers, args.heads, args.kv_heads, args.context)
    shared = Shared(config, args.seed, args.workers)
    at = Position()
    if args.resume:
        state = torch.load(args.run / "checkpoint.pt")
        assert state["config"] == config.to_dict(), "the checkpoint has other sizes"
        for flat, kind in ((shared.masters, "masters"), (shared.first, "first"), (shared.second, "second")):
            for name, view in shared.views(flat).items():
                view.copy_(state[kind][name])
        at = Position(state["step"], state["tokens"], state["elapsed"])
    clock = Clock(args.minutes, args.until, at.elapsed)

    print("encoding the corpus ...", flush=True)
    ids = encode_training_text(tokenizer, args.corpus)
    newline = tokenizer.encode("\n").ids[0]
    print(f"{shared.masters.numel() / 1e6:.2f} M parameters, {len(ids) / 1e6:.2f} M tokens of training text, "
          f"{clock.total / 60:.0f} minutes", flush=True)
    torch.multiprocessing.spawn(work, (args, config, shared, ids, newline, clock, at), nprocs=args.workers)


if __name__ == "__main__":
    main()
