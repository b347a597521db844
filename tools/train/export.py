"""Write a checkpoint as a Hugging Face folder (`BitNetForCausalLM`).

The masters are stored as bf16 and quantised again by whoever loads them
(`quantization_mode: online`); rounding them first can move a weight that lies
on a rounding boundary, so the exported folder is what evaluate.py measures.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import model as M
from tokenizer import END, END_ID, STORY, STORY_ID


def hf_config(config: M.Config) -> dict:
    return {
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "hidden_act": "relu2",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": True,
        "bos_token_id": STORY_ID,
        "eos_token_id": END_ID,
        "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"},
    }


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of train.py: checkpoint.pt and tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()

    state = torch.load(args.run / "checkpoint.pt", map_location="cpu")
    config = M.Config(**state["config"])
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {name: master.to(torch.bfloat16).contiguous() for name, master in state["masters"].items()}
    save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    write_json(args.out / "config.json", hf_config(config))
    write_json(args.out / "generation_config.json",
               {"bos_token_id": STORY_ID, "eos_token_id": END_ID, "do_sample": True, "temperature": 0.8, "top_k": 40})
    write_json(args.out / "tokenizer_config.json",
               {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": STORY, "eos_token": END, "add_bos_token": True,
                "model_max_length": config.context})
    shutil.copyfile(args.run / "tokenizer.json", args.out / "tokenizer.json")

    matrices = [t for name, t in tensors.items() if t.dim() == 2 and "embed" not in name]
    count = sum(t.numel() for t in matrices)
    zeros = sum((M.ternarise(t) == 0).sum().item() for t in matrices)
    total = sum(t.numel() for t in tensors.values())
    print(f"{args.out}: {total} parameters, {count} of them ternary ({zeros / count:.1%} zero), "
          f"from step {state['step']} ({state['tokens'] / 1e6:.2f} M tokens)")


if __name__ == "__main__":
    main()
