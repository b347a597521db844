"""The tokenizer of the bundled model: byte-level BPE, trained on the corpus.

Byte-level BPE (the GPT-2 scheme) maps each byte to a printable character,
splits the text into words, numbers and punctuation with a fixed regular
expression, and then merges the most frequent adjacent pairs until the
vocabulary is full. Every byte has a token, so any text can be encoded.

Two special tokens come first: `<|story|>` (id 0) opens a book and serves as
the beginning-of-sequence token; `<|end|>` (id 1) closes it.
"""

import argparse
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

STORY, END = "<|story|>", "<|end|>"
STORY_ID, END_ID = 0, 1


def train_tokenizer(corpus: Path, vocab_size: int) -> Tokenizer:
    """Learn the merges from `corpus`, book by book, without the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[STORY, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=True,
    )
    tokenizer.train_from_iterator(split_books(corpus.read_text("utf-8")), trainer)
    assert tokenizer.token_to_id(STORY) == STORY_ID and tokenizer.token_to_id(END) == END_ID
    return tokenizer


def split_books(text: str) -> list[str]:
    """Cut the corpus at its `<|story|>` lines; the marker itself is removed."""
    return [book.strip() for book in text.split(STORY) if book.strip()]


def encode_training_text(tokenizer: Tokenizer, corpus: Path) -> np.ndarray:
    """All books as one stream of ids: `<|story|>` text `<|end|>`, repeated."""
    ids: list[int] = []
    for book in tokenizer.encode_batch(split_books(corpus.read_text("utf-8"))):
        ids += [STORY_ID, *book.ids, END_ID]
    return np.array(ids, dtype=np.int64)


def encode_verbatim(tokenizer: Tokenizer, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Encode `text` unchanged; returns the ids and how many bytes of it each one covers."""
    encoded = tokenizer.encode(text)
    alphabet_length = [len(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())]
    # A ByteLevel token has one character per byte, a special token stands for its own (ASCII) spelling.
    ids = np.array(encoded.ids, dtype=np.int64)
    sizes = np.array(alphabet_length, dtype=np.int64)[ids]
    assert sizes.sum() == len(text.encode("utf-8"))
    return ids, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="training text; each book begins with a <|story|> line")
    parser.add_argument("--out", type=Path, required=True, help="where to write tokenizer.json")
    parser.add_argument("--vocab", type=int, default=4096, help="number of tokens, specials included (default 4096)")
    args = parser.parse_args()
    tokenizer = train_tokenizer(args.corpus, args.vocab)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out))
    text = args.corpus.read_text("utf-8")[:1_000_000]
    print(f"{args.out}: {tokenizer.get_vocab_size()} tokens, {len(text.encode()) / len(tokenizer.encode(text).ids):.2f} bytes per token")


if __name__ == "__main__":
    main()
