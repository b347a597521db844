"""Hugging Face transformers as the reference: loads a checkpoint folder in f32, on the CPU, without the network.

Four departures from a plain `from_pretrained`, and why:

* TORCHDYNAMO_DISABLE=1: transformers' BitNet functions are decorated with `torch.compile`, which may fuse and reorder
  float operations. Run eagerly they are the formulas as written.
* The 1bitLLM models (architecture `BitnetForCausalLM`, lower-case n) bring their own modelling file, which transformers
  does not have. Its graph is that of `BitNetForCausalLM` with two norms under other names and SiLU in config.json, so a
  copy of the folder with those names is loaded instead.
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
    if config["architectures"] == ["BitnetForCausalLM"]:
        with tempfile.TemporaryDirectory() as renamed:
            rename_1bitllm(Path(folder), config, Path(renamed))
            return load(renamed)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if int8:
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                module.register_forward_pre_hook(lambda _, inputs: (ActQuant.apply(inputs[0]),))
    torch.nn.Module.float(model)
    compute = {module.dtype for module in model.modules() if isinstance(module, BitLinear)}
    assert compute <= {torch.float32}, f"linear layers compute in {compute}, not in f32"
    return model.eval()


def rename_1bitllm(folder, config, target):
    """Writes the folder to `target` under the names of transformers' BitNet, which quantises master weights online."""
    names = {"inner_attn_ln": "attn_sub_norm", "ffn_layernorm": "ffn_sub_norm"}
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        tensors[name] = tensor
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    online = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
    config = config | {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "quantization_config": online}
    (target / "config.json").write_text(json.dumps(config))


@torch.no_grad()
def logits(model, tokens):
    """f32 logits [tokens, vocab] of one sequence, as a NumPy array."""
    out = model(torch.tensor([tokens]), use_cache=False).logits[0]
    assert out.dtype == torch.float32
    return np.ascontiguousarray(out.numpy())
