"""Hashes the token ids of a corpus of 250 kB in many scripts, as Hugging Face's `tokenizers` gives them in Python.

The corpus is not stored: this script and crates/tritwise-tokenizer/tests/corpus.rs make it by the same rule from the
ingredients below, which go into the fixture beside the hashes.

    pip install tokenizers==0.23.3 && python corpus.py
"""

import json

from tokenizers import Tokenizer, models, pre_tokenizers

from chat_templates import fnv
from vocabularies import FIXTURES, PRES, SENTENCES

LINES = 3000
BLOCK = 50

TEXTS = sorted({word for sentence in SENTENCES for word in sentence.split(" ")}) + [
    " ", " ", " ", " ", "  ", "\n", "\r\n", "\t", " " * 17, "\n\n\n\n", " \t \n ", "\u3000", "\u00a0", "\u2028", " " * 300,
    "'s", "'LL", "don't", "I've", "...", "!?", "—", "(x)", "[i]", "{\"k\": [1, 2.5e-3, null]}", "0x7fff_ffff", "::<Vec<u8>>()",
    "#include <stdio.h>\n", "for (int i = 0; i < n; ++i) {\n\t\ta[i] += b[i];\n\t}", "SELECT * FROM t WHERE a<>'b';", "\\n\\t\\u0041",
    "https://example.org/a?b=c&d=%20#e", "1,234,567.89", "2024-12-31T23:59:59Z", "١٢٣", "१२३", "½", "x²", "Ⅷ", "①",
    "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇪🇺🇺🇳", "❤️", "🧑🏿‍🚀", "\u200d", "\ufe0f", "\ufeff", "\u200b", "\u00ad",
    "e\u0301", "é", "s\u0323\u0307", "ṩ", "ş̈̈̈̈̈̈̈̈", "한글", "\u1112\u1161\u11ab", "ﬁ", "ǅ", "İi̇", "ß", "Σς",
    "中文字符", "日本語テキスト", "繁體中文", "𠜎𠜱", "العربية", "مرحبا", "\u0640\u0640", "עִבְרִית", "हिन्दी", "क्ष", "ไทย", "ที่", "ខ្មែរ", "தமிழ்", "አማርኛ",
    "\x00", "\x01", "\x1b[31m", "\x7f", "\x85", "\u2066", "\ufffd", "\uffff", "\U0010ffff", "\U000e0041",
    "<|eot_id|>", "<|end|>", "<|tool|>", "<s>", "</s>", "<0x41>", "▁", "Ġ", "<|", "|>", "<unk>",
]
# First and last character; any between is as likely.
RANGES = [
    (0x21, 0x7E), (0x61, 0x7A), (0xA1, 0x17F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x45F), (0x5D0, 0x5EA), (0x621, 0x652),
    (0x900, 0x97F), (0xE01, 0xE5B), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2190, 0x22FF), (0x3041, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0x1F300, 0x1F6FF), (0x20000, 0x2A6DF), (0x0, 0x1F),
]


def corpus():
    state = 1

    def draw(below):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % below

    for _ in range(LINES):
        line = ""
        for _ in range(1 + draw(16)):
            if draw(4) > 0:
                line += TEXTS[draw(len(TEXTS))]
            else:
                low, high = RANGES[draw(len(RANGES))]
                for _ in range(1 + draw(4)):
                    line += chr(low + draw(high - low + 1))
            if draw(2) == 0:
                line += " "
        yield line


def hashes(tokenizer, lines):
    """One hash for the ids of each block of lines, an id that is none after each line."""
    encoded = [tokenizer.encode(line, add_special_tokens=False).ids + [2**32 - 1] for line in lines]
    return [fnv([id for ids in encoded[at : at + BLOCK] for id in ids]) for at in range(0, len(lines), BLOCK)]


def main():
    lines = list(corpus())
    expected = {}
    for name in ("byte-level", "sentence-piece"):
        tokenizer = Tokenizer.from_file(str(FIXTURES / f"{name}.tokenizer.json"))
        expected[name] = hashes(tokenizer, lines)
        if name == "byte-level":
            model = json.loads(tokenizer.to_str())["model"]
            merges = [tuple(merge) for merge in model["merges"]]
            for rule, (steps, ignore_merges) in PRES.items():
                tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
                tokenizer.model = models.BPE(vocab=model["vocab"], merges=merges, ignore_merges=ignore_merges)
                expected[rule] = hashes(tokenizer, lines)
    size = sum(len(line.encode()) for line in lines)
    fixture = {"lines": LINES, "block": BLOCK, "bytes": size, "texts": TEXTS, "ranges": RANGES, "hashes": expected}
    (FIXTURES / "corpus.json").write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    print(f"{LINES} lines, {size} bytes")


if __name__ == "__main__":
    main()
