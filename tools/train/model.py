"""A BitNet b1.58 transformer with the 2B-4T block, written as plain functions.

Sources:
  * BitNet b1.58, "The Era of 1-bit LLMs", arXiv 2402.17764: ternary weights
    by the mean absolute value, int8 activations by the row maximum.
  * BitNet b1.58 2B4T technical report, arXiv 2504.12285: squared ReLU, and
    the sub-norms before the output projections of attention and FFN.
  * Straight-through estimator, arXiv 1308.3432: rounding passes its gradient
    on unchanged.

The f32 *masters* are what the optimizer updates and what is exported. Before
each step `materialise` turns them into the matrices that are multiplied:
ternary (quantisation on) or merely rounded to the compute type (off). The
forward pass sees only those, so weights are quantised once per step, and the
gradient of a materialised matrix is, by the straight-through estimator, the
gradient of its master.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Matrices that read the same input are multiplied as one.
FUSED = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
NORMS = ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")
HF_NAMES = {
    "attn_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "attn_sub_norm": "self_attn.attn_sub_norm",
    "o": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "ffn_sub_norm": "mlp.ffn_sub_norm",
    "down": "mlp.down_proj",
}


@dataclass
class Config:
    """Sizes of the model. Every matrix input width must be a multiple of 256."""

    vocab: int = 4096
    hidden: int = 256
    ffn: int = 1024
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    context: int = 512
    rope_theta: float = 10000.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        assert self.hidden % 256 == 0 and self.ffn % 256 == 0, "matrix input widths must be multiples of 256"
        assert self.hidden % self.heads == 0 and self.heads % self.kv_heads == 0

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def matrix_shapes(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of the seven matrices of a layer."""
        h, f, kv = self.hidden, self.ffn, self.kv_heads * self.head_dim
        return {"q": (h, h), "k": (kv, h), "v": (kv, h), "o": (h, h), "gate": (f, h), "up": (f, h), "down": (h, f)}

    def norm_sizes(self) -> dict[str, int]:
        return {"attn_norm": self.hidden, "attn_sub_norm": self.hidden, "ffn_norm": self.hidden, "ffn_sub_norm": self.ffn}

    def to_dict(self) -> dict:
        return asdict(self)


def init_masters(config: Config, seed: int) -> dict[str, Tensor]:
    """Fresh f32 parameters, by Hugging Face name.

    Matrices start at half the variance-preserving width; those that write to
    the residual stream are smaller still by sqrt(2 * layers), as in GPT-2.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: tuple[int, ...], std: float) -> Tensor:
        return torch.randn(shape, generator=generator) * std

    masters = {"model.embed_tokens.weight": normal((config.vocab, config.hidden), 0.04)}
    for layer in range(config.layers):
        for name, size in config.norm_sizes().items():
            masters[hf_name(layer, name)] = torch.ones(size)
        for name, (rows, cols) in config.matrix_shapes().items():
            std = 0.5 * cols**-0.5
            if name in ("o", "down"):
                std *= (2 * config.layers) ** -0.5
            masters[hf_name(layer, name)] = normal((rows, cols), std)
    masters["model.norm.weight"] = torch.ones(config.hidden)
    return masters


def hf_name(layer: int, name: str) -> str:
    return f"model.layers.{layer}.{HF_NAMES[name]}.weight"


def ternarise(weight: Tensor) -> Tensor:
    """absmean quantisation: W -> m * clamp(round(W / m), -1, 1), m = mean |W| (arXiv 2402.17764, eq. 1-3)."""
    weight = weight.float()
    scale = 1.0 / weight.abs().mean().clamp_(min=1e-5)
    return (weight * scale).round_().clamp_(-1, 1) / scale


def quantise_rows(x: Tensor) -> Tensor:
    """absmax int8 quantisation of each token's activations, dequantised again; f32 in and out."""
    scale = 127.0 / x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
    return (x * scale).round().clamp(-128, 127) / scale


def materialise(masters: dict[str, Tensor], config: Config, quantised: bool, dtype: torch.dtype) -> dict:
    """The weights that the forward pass multiplies: leaves of the autograd graph, fused where inputs are shared."""

    def matrix(layer: int, name: str) -> Tensor:
        master = masters[hf_name(layer, name)]
        return (ternarise(master) if quantised else master).to(dtype)

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().clone().requires_grad_()

    layers = []
    for layer in range(config.layers):
        weights = {name: leaf(masters[hf_name(layer, name)]) for name in NORMS}
        for fused, parts in FUSED.items():
            weights[fused] = leaf(torch.cat([matrix(layer, part) for part in parts]))
        layers.append(weights)
    return {
        "embed": leaf(masters["model.embed_tokens.weight"].to(dtype)),
        "norm": leaf(masters["model.norm.weight"]),
        "layers": layers,
    }


def gradients(weights: dict, config: Config) -> dict[str, Tensor]:
    """Gradients of the materialised weights, by the name of their masters, in f32 (straight-through estimator)."""
    grads = {"model.embed_tokens.weight": weights["embed"].grad.float(), "model.norm.weight": weights["norm"].grad.float()}
    shapes = config.matrix_shapes()
    for layer, layer_weights in enumerate(weights["layers"]):
        for name in NORMS:
            grads[hf_name(layer, name)] = layer_weights[name].grad.float()
        for fused, parts in FUSED.items():
            rows = [shapes[part][0] for part in parts]
            for part, grad in zip(parts, layer_weights[fused].grad.split(rows)):
                grads[hf_name(layer, part)] = grad.float()
    return grads


def rope_tables(config: Config, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin of the rotary angles, [length, head_dim] (RoFormer, arXiv 2104.09864; rotate-half layout)."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    angles = torch.arange(length, dtype=torch.float64)[:, None] * config.rope_theta**-half
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    x = x.float()
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """RMSNorm (arXiv 1910.07467), in f32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * gain


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(dim)) v over earlier positions; all [batch, heads, length, dim].

    Written out because torch.compile turns it into two batched products and
    one fused softmax, which on a CPU trains faster than the library's flash
    attention at these lengths. The first half of the queries skips the second
    half of the keys, which it cannot see.
    """
    length, dim = q.shape[-2:]
    results = []
    for begin, end in ((0, length // 2), (length // 2, length)):
        scores = (q[:, :, begin:end] @ k[:, :, :end].transpose(-1, -2)).float() * dim**-0.5
        visible = torch.ones(end - begin, end, dtype=torch.bool).tril(begin)
        weights = scores.masked_fill(~visible, -1e30).softmax(dim=-1)
        results.append(weights.to(v.dtype) @ v[:, :, :end])
    return torch.cat(results, dim=2)


def linear(x: Tensor, weight: Tensor, quantised: bool) -> Tensor:
    """BitLinear: quantise the f32 activations (straight-through), then multiply in the type of the weights."""
    if quantised:
        x = x + (quantise_rows(x) - x).detach() if x.requires_grad else quantise_rows(x)
    return F.linear(x.to(weight.dtype), weight)


def final_hidden(weights: dict, tokens: Tensor, cos: Tensor, sin: Tensor, config: Config, quantised: bool) -> Tensor:
    """Tokens [batch, length] to normalised hidden states [batch, length, hidden]."""
    batch, length = tokens.shape
    dtype = weights["embed"].dtype
    heads, kv_heads, dim, eps = config.heads, config.kv_heads, config.head_dim, config.eps
    x = F.embedding(tokens, weights["embed"])
    for w in weights["layers"]:
        qkv = linear(norm(x, w["attn_norm"], eps), w["qkv"], quantised)
        q, k, v = qkv.view(batch, length, heads + 2 * kv_heads, dim).transpose(1, 2).split((heads, kv_heads, kv_heads), dim=1)
        q, k = rotate(q, cos, sin).to(dtype), rotate(k, cos, sin).to(dtype)
        k, v = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (k, v))
        attention = causal_attention(q, k, v)
        attention = attention.transpose(1, 2).reshape(batch, length, config.hidden)
        x = x + linear(norm(attention, w["attn_sub_norm"], eps), w["o"], quantised)

        gate, up = linear(norm(x, w["ffn_norm"], eps), w["gate_up"], quantised).split(config.ffn, dim=-1)
        inner = F.relu(gate.float()).square() * up.float()
        x = x + linear(norm(inner, w["ffn_sub_norm"], eps), w["down"], quantised)
    return norm(x, weights["norm"], eps).to(dtype)


def loss(weights: dict, tokens: Tensor, targets: Tensor, cos: Tensor, sin: Tensor, config: Config, quantised: bool) -> Tensor:
    """Summed cross-entropy in nats; the output matrix is the embedding and is never quantised."""
    hidden = final_hidden(weights, tokens, cos, sin, config, quantised)
    logits = F.linear(hidden, weights["embed"]).float()
    return F.cross_entropy(logits.view(-1, config.vocab), targets.reshape(-1), reduction="sum")
