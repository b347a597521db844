"""Writes the vocabularies and expected ids under crates/tritwise-tokenizer/tests/fixtures/.

Two small vocabularies are trained on the sentences below, one byte-level, one like
SentencePiece's; each is written as a tokenizer.json and as the values a GGUF file would have.
The expected ids come from Hugging Face's `tokenizers`, which is told the splitting rule of
every `tokenizer.ggml.pre` in the words of the models' own tokenizer.json files.

    pip install tokenizers==0.23.3 && python vocabularies.py
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FIXTURES = Path(__file__).resolve().parents[2] / "crates/tritwise-tokenizer/tests/fixtures"

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind; it's asleep.",
    "They'll say that we've seen it all before: the rain, the train, the plain in Spain.",
    "Es grünt so grün, wenn Spaniens Blüten blühen. Größe, Straße, Übermut.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ",
    "다람쥐 헌 쳇바퀴에 타고파.",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश।",
    "صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "fn main() { let x = 3.14159; println!(\"{x:>8.3}\"); } // 0xFF == 255",
    "1 22 333 4444 55555 666666 7777777 88888888 999999999",
    "🦀🚀👩‍👩‍👧‍👦 🇪🇺 e\u0301 é",
] * 3

LINES = [
    "",
    " ",
    "  ",
    "   \n",
    "\t\t x",
    "\n\n\n",
    "\r\n a\r\n\r\n b ",
    "Hello, world!",
    " Hello  world   with    spaces     ",
    "don't DON'T we'Ll I'VE they're 'tis 's",
    "3.14159 1,000,000 2024-11-21 ١٢٣٤٥ Ⅷ ½ x²",
    "12 123 1234 12345 1234567890",
    "foo_bar.baz(qux)[0] += `ls -l | wc`; // $HOME <= ~ ^ = >",
    "snake_case CamelCase kebab-case",
    "Grüße aus Köln: Äpfel, Öl & Übermut",
    "Съешь ещё этих мягких булок",
    "ἐν ἀρχῇ ἦν ὁ λόγος",
    "天地玄黄，宇宙洪荒。",
    "いろはにほへと、ちりぬるを。",
    "다람쥐 헌 쳇바퀴에 타고파",
    "ऋषियों को सताने वाले",
    "الشَمسِ إِذ بَزَغَت",
    "เป็นมนุษย์สุดประเสริฐ",
    "🦀 crab, 🚀 rocket, 👩‍👩‍👧‍👦 family, 🇪🇺 flag, 👍🏽",
    "e\u0301 \u00e9 \u1e69 \u0073\u0323\u0307",
    "\u0000\u0001\u007f\u0080\u00ad\u200b\ufeff",
    "\u00a0\u2003\u3000 unusual spaces\u2028and\u2029lines\u0085",
    "<|begin|>not special<|eot_id|> unless asked <|end|>",
    "a<|tool|>b <|tool|> c",
    "<s>text</s> <0x41> ▁ <unk>",
    "=" * 70 + "\n" + "-" * 33,
    "supercalifragilisticexpialidocious " * 3,
]

L3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = L3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"


def split(expression):
    return pre_tokenizers.Split(Regex(expression), "isolated")


def byte_level(use_regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


# name in GGUF: (pre-tokenizer as in a model's tokenizer.json, ignore_merges)
PRES = {
    "llama-bpe": ([split(L3), byte_level()], True),
    "falcon3": ([split(L3), byte_level()], True),
    "qwen2": ([split(QWEN2), byte_level()], False),
    "qwen35": ([split(QWEN35), byte_level()], False),
    "gpt-2": ([byte_level(use_regex=True)], False),
    # llama.cpp's own expressions: its vectors for Falcon are the reference there, because
    # Falcon's tokenizer.json splits digits after it has spelled bytes, and takes 0xBC ("¼") for one.
    "falcon": (
        [
            split(r"[\p{P}\$\+<=>\^~\|`]+"),
            split(GPT2),
            split("[0-9][0-9][0-9]"),
            byte_level(),
        ],
        False,
    ),
    "default": (
        [
            split(r"[\p{P}\$\+<=>\^~\|]+"),
            split(GPT2),
            split(r"\p{N}+"),
            split("[0-9][0-9][0-9]"),
            byte_level(),
        ],
        False,
    ),
    "smollm": ([pre_tokenizers.Digits(individual_digits=True), byte_level(use_regex=True)], False),
}

SPECIAL = ["<|begin|>", "<|end|>", "<|eot_id|>"]
ADDED = ["<|tool|>"]


def byte_level_vocabulary():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRES["llama-bpe"][0])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    # A token that no merge leads to: only ignore_merges finds it.
    model = json.loads(tokenizer.to_str())["model"]
    model["vocab"]["ĠHello"] = len(model["vocab"])
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer.model = models.BPE(vocab=model["vocab"], merges=merges, ignore_merges=True)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ADDED])
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)]),
    ])

    ids = {}
    for name, (steps, ignore_merges) in PRES.items():
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tokenizer.model = models.BPE(vocab=model["vocab"], merges=merges, ignore_merges=ignore_merges)
        ids[name] = [encode(tokenizer, line, special=False) for line in LINES]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRES["llama-bpe"][0])
    tokenizer.model = models.BPE(vocab=model["vocab"], merges=merges, ignore_merges=True)
    parsed = [encode(tokenizer, line, special=True) for line in LINES]

    texts = [tokenizer.id_to_token(id) for id in range(tokenizer.get_vocab_size())]
    gguf = {
        "model": "gpt2",
        "tokens": texts,
        "token_types": [3 if text in SPECIAL else 4 if text in ADDED else 1 for text in texts],
        "merges": [" ".join(merge) for merge in merges],
        "bos": begin,
        "eos": tokenizer.token_to_id("<|end|>"),
        "add_bos": True,
    }
    return tokenizer, gguf, {"lines": LINES, "ids": ids, "parsed": parsed}


def sentence_piece_vocabulary():
    trainee = Tokenizer(models.BPE())
    space = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainee.normalizer = space
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False, limit_alphabet=150, max_token_length=12)
    trainee.train_from_iterator(SENTENCES, trainer)
    trained = json.loads(trainee.to_str())["model"]
    characters = sorted(text for text in trained["vocab"] if len(text) == 1)
    merged = ["".join(merge) for merge in trained["merges"]]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    texts = ["<unk>", "<s>", "</s>", *bytes_, *merged, *characters, *ADDED]
    pieces = {text: -float(rank) for rank, text in enumerate(merged)}
    pieces |= {text: -float(len(merged) + rank) for rank, text in enumerate(characters)}

    # SentencePiece merges any two neighbours whose concatenation is a piece; a list of
    # merges says the same when it has every split of every piece, best score first.
    vocab = {text: id for id, text in enumerate(texts)}
    splits = []
    for text in merged:
        halves = [(text[:at], text[at:]) for at in range(1, len(text))]
        halves = [(a, b) for a, b in halves if a in pieces and b in pieces]
        splits += sorted(halves, key=lambda half: (vocab[half[0]], vocab[half[1]]))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=splits, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = space
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    specials = [AddedToken(text, special=True, normalized=False) for text in texts[:3]]
    tokenizer.add_special_tokens(specials)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ADDED])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    types = [2, 3, 3, *[6] * 256, *[1] * (len(merged) + len(characters)), *[4] * len(ADDED)]
    gguf = {
        "model": "llama",
        "tokens": texts,
        "scores": [pieces.get(text, 0.0) for text in texts],
        "token_types": types,
    }
    plain = [encode(tokenizer, line, special=False) for line in LINES]
    parsed = [encode(tokenizer, line, special=True) for line in LINES]
    return tokenizer, gguf, {"lines": LINES, "ids": {"": plain}, "parsed": parsed}


def encode(tokenizer, line, special):
    tokenizer.encode_special_tokens = not special
    ids = tokenizer.encode(line, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    return ids


def write(name, tokenizer, gguf, cases):
    (FIXTURES / f"{name}.tokenizer.json").write_text(tokenizer.to_str() + "\n")
    for suffix, value in [("gguf", gguf), ("cases", cases)]:
        text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
        (FIXTURES / f"{name}.{suffix}.json").write_text(text + "\n")


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    write("byte-level", *byte_level_vocabulary())
    write("sentence-piece", *sentence_piece_vocabulary())
