"""A tokenizer for the fixtures, so that each folder is a whole checkpoint: printable ASCII characters and one merge."""

import json

# Byte-level BPE writes the space as Ġ. The tilde makes room for a merge.
TOKENS = ["<|end|>", "Ġ", *(chr(c) for c in range(0x21, 0x7E)), "th"]
MERGES = [("t", "h")]
VOCAB = len(TOKENS)


def write_tokenizer(folder, append_end=False):
    """Writes tokenizer.json and tokenizer_config.json. Token 0 is special; characters beyond ASCII have no token.

    With `append_end` every text ends with token 0, as the tokenizers of embedding models do it.
    """
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {"id": 0, "content": TOKENS[0], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": [text, {"SpecialToken": {"id": TOKENS[0], "type_id": 0}}],
        "pair": [text, {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": TOKENS[0], "type_id": 0}}],
        "special_tokens": {TOKENS[0]: {"id": TOKENS[0], "ids": [0], "tokens": [TOKENS[0]]}},
    }
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end | {"special": True}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {"type": "Sequence", "processors": [byte_level, template]} if append_end else None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(TOKENS)}, "merges": MERGES,
        },
    }  # fmt: skip
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": TOKENS[0], "bos_token": TOKENS[0]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
