"""Draws the golden ids of crates/tritwise-sampling/tests/draw.rs.

An independent statement of the draw, from its description alone: SplitMix64 seeds
xoshiro256++ (https://prng.di.unimi.it), the upper 53 bits of each output are a number u
in [0, 1), and the token is the first whose running sum of exp(logit - best) exceeds
u times the sum. XTC takes a number before it and, where that is below its probability,
drops all of at least its threshold but the least probable. Needs nothing but Python:

    python tools/reference/sampling.py
"""

import math

MASK = (1 << 64) - 1


def splitmix64(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def rotate_left(x, k):
    return ((x << k) | (x >> (64 - k))) & MASK


def xoshiro256plusplus(seed):
    words = splitmix64(seed)
    s = [next(words) for _ in range(4)]
    while True:
        yield (rotate_left((s[0] + s[3]) & MASK, 23) + s[0]) & MASK
        t = (s[1] << 17) & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotate_left(s[3], 45)


def draws(seed, logits, count, xtc=None):
    best = max(logits)
    all_weights = [math.exp(logit - best) for logit in logits]
    generator = xoshiro256plusplus(seed)
    ids = []
    for _ in range(count):
        weights = all_weights
        if xtc:
            probability, threshold = xtc
            if (next(generator) >> 11) * 2.0**-53 < probability:
                least = threshold * sum(weights)
                top = sorted((weight, id) for id, weight in enumerate(weights) if weight >= least)
                dropped = {id for _, id in top[1:]}
                weights = [0.0 if id in dropped else weight for id, weight in enumerate(weights)]
        total = 0.0
        for weight in weights:
            total += weight
        threshold = (next(generator) >> 11) * 2.0**-53 * total
        running = 0.0
        for id, weight in enumerate(weights):
            running += weight
            if running > threshold:
                break
        ids.append(id)
    return ids


if __name__ == "__main__":
    narrow = [0.0, 1.0, 2.0, -1.0, 0.5, 1.5, -2.0, 0.25]
    for seed in (0, 1, 42, MASK):
        print(seed, draws(seed, narrow, 24))
    print("XTC", draws(7, narrow, 24, xtc=(0.5, 0.15)))
    wide = [i * 37 % 101 / 16 for i in range(1000)]
    print(7, draws(7, wide, 16))
