"""What makes a fixture sharp: tokens that leave a correct engine no excuse, and the mistakes that its logits must show.

Int8 rounding is discontinuous: two correct engines whose x * s straddle a half round it differently, and one such flip
moves a logit by far more than any float error. So tokens are chosen, one after another, so that in float64 no input of a
linear layer comes near a tie and no position has two near-equal best logits.
"""

import numpy as np

import bitnet_numpy
from bitnet_numpy import LINEARS, rms_norm, rope
from tokenizer import VOCAB

# An f32 engine's x * s differs from the exact one by up to 2.6e-4 where it is rounded (`check` prints it).
TIE_DISTANCE = 4e-4
# Distance of the best logit from the second, relative to the largest |logit|.
TOP1_MARGIN = 2e-2
# What a mistake must move a logit by, relative to the largest |logit|.
SEEN = 5e-3
NORMS = ("attn_norm", "q_norm", "k_norm", "attn_sub_norm", "post_attn_norm", "ffn_norm", "ffn_sub_norm", "post_ffn_norm")

# --------------------------------------------------------------------------------------------------------------- tokens


def choose_tokens(models, rng, count):
    """A sequence whose every position keeps TIE_DISTANCE and TOP1_MARGIN in each of the (float64) models."""
    tokens, caches = [], [[] for _ in models]
    while len(tokens) < count:
        for token in rng.permutation(VOCAB):
            trials = [list(cache) for cache in caches]
            if all(keeps_distance(model, token, trial) for model, trial in zip(models, trials)):
                tokens.append(int(token))
                caches = trials
                break
        else:
            raise SystemExit(f"no token keeps the distances at position {len(tokens)}: try another seed")
    return tokens


def keeps_distance(model, token, cache):
    """Whether `token`, after those in `cache`, is rounded and predicted with room to spare, and does not predict itself."""
    row = model.forward([token], cache)[0]
    second, best = np.sort(row)[-2:]
    return tie_distance(model) > TIE_DISTANCE and best - second > TOP1_MARGIN * np.abs(row).max() and row.argmax() != token


def choose_text(model, encode, decode, rng, count):
    """A text of `count` tokens that keeps TIE_DISTANCE, and does with the end token that `encode` appends as well."""
    text, cache = "", []
    for position in range(count):
        for token in rng.permutation(np.arange(1, VOCAB)):
            trial, longer = list(cache), text + decode(token)
            ids = encode(longer)
            if ids[:-1] != encode(text)[:-1] + [token]:
                continue  # became part of another token
            model.forward([token], trial)
            kept = tie_distance(model) > TIE_DISTANCE
            if kept and position == count - 1:
                model.forward(ids[-1:], list(trial))
                kept = tie_distance(model) > TIE_DISTANCE
            if kept:
                text, cache = longer, trial
                break
        else:
            raise SystemExit(f"no token keeps the distances at position {position} of a text: try another seed")
    return text


def tie_distance(model):
    """How far the nearest x * s of the model's last call lies from half-way between two integers, in [0, 0.5]."""
    return min(np.abs(np.abs(scaled - np.floor(scaled)) - 0.5).min() for scaled in model.scaled())


# ------------------------------------------------------------------------------------------------------------- mistakes


def check_sensitive(folder, tokens):
    """Prints, and bounds, how far the usual mistakes move the logits: a test with tolerance 1e-3 must see each of them."""
    exact = bitnet_numpy.Model(folder).forward(tokens)
    moved = {name: np.abs(model.forward(tokens) - exact).max() for name, model in mistakes(folder).items()}
    moved = {name: distance / np.abs(exact).max() for name, distance in moved.items()}
    print("    moved by " + ", ".join(f"{name} {distance:.2f}" for name, distance in moved.items()))
    assert min(moved.values()) > SEEN, f"{folder.name}: a mistake would go unseen"


def mistakes(folder):
    """{name: model}: the folder's model with one thing wrong, for each thing of the model that can be."""
    model = bitnet_numpy.Model(folder)
    first = model.layers[0]
    found = {}

    def mistaken(**changes):
        wrong = bitnet_numpy.Model(folder)
        for name, value in changes.items():
            setattr(wrong, name, value)
        return wrong

    def layers(change):
        wrong = bitnet_numpy.Model(folder)
        for layer in wrong.layers:
            change(layer)
        return wrong

    found["activation"] = mistaken(act=bitnet_numpy.squared_relu if model.act is bitnet_numpy.silu else bitnet_numpy.silu)
    found["rope pairs"] = mistaken(interleaved=True)
    found["int8"] = bitnet_numpy.Model(folder, int8=not first["q"].int8)
    eps = 1e-6 if model.eps == 1e-5 else 1e-5
    found["norm eps"] = layers(lambda layer: [setattr(layer[x], "eps", eps) for x in LINEARS if first[x].eps == model.eps])
    found["norm eps"].eps = eps
    if model.embedding_scale != 1:
        found["embedding scale"] = mistaken(embedding_scale=1.0)

    # Norms: the weight left out, and all of it.
    found["head scale"] = mistaken(norm=np.ones_like(model.norm))
    for name in NORMS:
        if first[name] is not None:
            found[f"{name} scale"] = layers(lambda layer: layer.update({name: np.ones_like(layer[name])}))
            found[f"no {name}"] = layers(lambda layer: layer.update({name: None}))
    if first["q_norm"] is not None:
        found["q/k norms after rope"] = mistaken(
            place=lambda x, weight, at, parameters: rms_norm(rope(x, at, parameters), weight, model.eps)
        )
    if first["post_attn_norm"] is not None:
        present = [x for x in NORMS if first[x] is not None]
        found["norms without 1 +"] = layers(lambda layer: layer.update({x: layer[x] - 1 for x in present}))
        found["norms without 1 +"].norm = model.norm - 1
    if first["q"].norm is not None:
        for name in LINEARS:
            found[f"{name} norm scale"] = layers(lambda layer: setattr(layer[name], "norm", np.ones_like(layer[name].norm)))
            found[f"no {name} norm"] = layers(lambda layer: setattr(layer[name], "norm", None))
        for name, other in (("k", "q"), ("v", "q"), ("up", "gate")):
            found[f"{name} norm of {other}"] = layers(lambda layer: setattr(layer[name], "norm", layer[other].norm))
        if first["q"].eps != model.eps:
            found["eps of input norms"] = layers(lambda layer: [setattr(layer[x], "eps", model.eps) for x in LINEARS])

    # A norm of the result, or of what is made of it, hides a scale: only those it cannot hide count.
    hides = {"q": "q_norm", "k": "k_norm", "v": "attn_sub_norm", "o": "post_attn_norm"}
    hides |= {"gate": "ffn_sub_norm", "up": "ffn_sub_norm", "down": "post_ffn_norm"}
    followed = {"v": "o", "gate": "down", "up": "down"}
    for name in LINEARS:
        if first[hides[name]] is None and (name not in followed or first[followed[name]].norm is None):
            found[f"{name} scale"] = layers(lambda layer: invert_scale(layer[name]))
        if any(several_scales(layer[name].weights) for layer in model.layers):
            found[f"one {name} scale"] = layers(lambda layer: one_scale(layer[name]))

    found |= {name: layers(change) for name, change in rope_mistakes(first["rope"]).items()}
    if first["rope"].get("rope_type") == "yarn":
        magnitude = bitnet_numpy.frequencies(first["rope"], model.head_dim)[1]
        found["yarn magnitude"] = mistaken(place=lambda *rest: model.place(*rest) / magnitude)
    if any(layer["window"] for layer in model.layers):
        found["no window"] = layers(lambda layer: layer.update(window=None))
        for step in (-1, 1):
            found[f"window {step:+}"] = layers(lambda layer: layer.update(window=layer["window"] and layer["window"] + step))
        for part in ("window", "rope"):
            others = [layer[part] for layer in reversed(model.layers)]
            found[f"{part} of the other layers"] = layers(lambda layer: None)
            for layer, other in zip(found[f"{part} of the other layers"].layers, others):
                layer[part] = other
    return found


def rope_mistakes(parameters):
    """{name: change of a layer} for the parts of RoPE that `parameters` has."""

    def changed(**changes):
        return lambda layer: layer.update(rope={k: v for k, v in (layer["rope"] | changes).items() if v is not None})

    wrong = {"rope theta": changed(rope_theta=1e4 if parameters["rope_theta"] > 1e4 else 5e5)}
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        wrong[f"no {kind}"] = changed(rope_type=None)
        wrong[f"{kind} factor"] = changed(factor=2 * parameters["factor"])
        context = parameters["original_max_position_embeddings"] * parameters["factor"]
        wrong[f"{kind} with the long context"] = changed(original_max_position_embeddings=context)
    if kind == "yarn":
        wrong["yarn without ramp"] = changed(beta_fast=1e9, beta_slow=1e8)
    if "beta_fast" in parameters:
        wrong["yarn betas"] = changed(beta_fast=None, beta_slow=None)
    if kind == "llama3":
        low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
        wrong["llama3 without middle, kept"] = changed(high_freq_factor=low + 1e-3)
        wrong["llama3 without middle, divided"] = changed(low_freq_factor=high - 1e-3)
        wrong["llama3 on all"] = changed(low_freq_factor=1e8, high_freq_factor=1e9)
    return wrong


def magnitudes(weights):
    return np.abs(weights[weights != 0])


def several_scales(weights):
    """Whether the non-zero weights differ in magnitude by more than float64 makes them."""
    return magnitudes(weights).max() > 1.001 * magnitudes(weights).min()


def invert_scale(linear):
    linear.weights = linear.weights / magnitudes(linear.weights).mean() ** 2


def one_scale(linear):
    linear.weights = np.sign(linear.weights) * magnitudes(linear.weights).mean()


def check_interleaved(folder, tokens):
    """RoPE on pairs (2i, 2i + 1) of a model whose q and k rows are permuted per head gives the same logits."""
    halves, interleaved = (bitnet_numpy.Model(folder, interleaved=x) for x in (False, True))
    for layer in interleaved.layers:
        for name in "qk":
            rows, cols = layer[name].weights.shape
            heads = rows // interleaved.head_dim
            grouped = layer[name].weights.reshape(heads, 2, interleaved.head_dim // 2, cols)
            layer[name].weights = grouped.swapaxes(1, 2).reshape(rows, cols)
    difference = np.abs(halves.forward(tokens) - interleaved.forward(tokens)).max()
    assert difference < 1e-9, f"{folder.name}: the two RoPE layouts differ by {difference}"
