"""Hugging Face transformers as the reference: loads a checkpoint folder in f32, on the CPU, without the network.

Five departures from a plain `from_pretrained`, and why:

* TORCHDYNAMO_DISABLE=1: transformers' BitNet functions are decorated with `torch.compile`, which may fuse and reorder
  float operations. Run eagerly they are the formulas as written.
* The 1bitLLM models (architecture `BitnetForCausalLM`, lower-case n) bring their own modelling file, which transformers
  does not have. Its graph is that of `BitNetForCausalLM` with two norms under other names and SiLU in config.json, so a
  copy of the folder with those names is loaded instead.
* The BitNet embedding models are a Qwen3 or Gemma3 whose linear layers each have a norm of their input, `<linear>.norm`.
  transformers has that as `use_rms_norm`, `<linear>.rms_norm`, so a copy with that name and that setting is loaded.
* Packed checkpoints keep their bf16 norms and embedding whatever `dtype` says, and `model.float()` is refused for them;
  `torch.nn.Module.float` widens them all the same, which is exact.
* `int8=True` on a model without a quantization_config (TriLM) puts transformers' own activation quantiser before each
  linear layer but the head.
"""

import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.integrations.bitnet import ActQuant, BitLinear
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()


def load(folder, int8=False):
    """The folder's model in f32, in evaluation mode. See the module's documentation for `int8`."""
    config = json.loads((Path(folder) / "config.json").read_text())
    tensors = load_file(Path(folder) / "model.safetensors")
    renamed = None
    if config["architectures"] == ["BitnetForCausalLM"]:
        renamed = rename_1bitllm(config, tensors)
    elif any(name.endswith("_proj.norm.weight") for name in tensors):
        renamed = rename_embedding(config, tensors)
    if renamed:
        with tempfile.TemporaryDirectory() as copy:
            (Path(copy) / "config.json").write_text(json.dumps(renamed[0]))
            save_file(renamed[1], Path(copy) / "model.safetensors", metadata={"format": "pt"})
            return load(copy)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if int8:
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                module.register_forward_pre_hook(lambda _, inputs: (ActQuant.apply(inputs[0]),))
    torch.nn.Module.float(model)
    compute = {module.dtype for module in model.modules() if isinstance(module, BitLinear)}
    assert compute <= {torch.float32}, f"linear layers compute in {compute}, not in f32"
    return model.eval()


ONLINE = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}


def rename_1bitllm(config, tensors):
    """Both under the names of transformers' BitNet, which quantises master weights online."""
    names = {"inner_attn_ln": "attn_sub_norm", "ffn_layernorm": "ffn_sub_norm"}
    renamed = {}
    for name, tensor in tensors.items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        renamed[name] = tensor
    return config | {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "quantization_config": ONLINE}, renamed


def rename_embedding(config, tensors):
    """Both as a language model, tied, with transformers' norm in each linear layer."""
    norms = {"use_rms_norm": True, "rms_norm_eps": config["rms_norm_eps"]}
    architecture = config["architectures"][0].replace("TextModel", "ForCausalLM").replace("3Model", "3ForCausalLM")
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace("_proj.norm.", "_proj.rms_norm.")
        renamed[name if name.startswith("model.") else f"model.{name}"] = tensor
    return config | {"architectures": [architecture], "quantization_config": ONLINE | norms}, renamed


@torch.no_grad()
def logits(model, tokens):
    """f32 logits [tokens, vocab] of one sequence, as a NumPy array."""
    return array(model(torch.tensor([tokens]), use_cache=False).logits)


@torch.no_grad()
def hidden(model, tokens):
    """The f32 rows [tokens, hidden] after the last norm, which the head reads or an embedding is pooled from."""
    return array(model.model(torch.tensor([tokens]), use_cache=False).last_hidden_state)


def array(tensor):
    assert tensor.dtype == torch.float32
    return np.ascontiguousarray(tensor[0].numpy())
