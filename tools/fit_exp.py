"""Coefficients of the exp polynomial in crates/tritwise-kernels/src/arch/generic/exp.rs.

exp(r) = 1 + r + r²·q(r) on |r| <= ln(2)/2 (widened a little, since the reduction
rounds), with the degree-4 q that makes the largest relative error smallest: a Remez
exchange in double precision. The coefficients are rounded to f32 afterwards. Prints
the coefficients and the error that remains. Needs nothing but Python.
"""

import math
import struct

DEGREE = 4
BOUND = math.log(2) / 2 * 1.0001


def target(r):
    """(exp(r) - 1 - r) / r², by its series, which does not cancel."""
    term, total = 0.5, 0.0
    for k in range(3, 30):
        total += term
        term *= r / k
    return total


def weight(r):
    """How much an error of q counts in the relative error of exp."""
    return r * r / math.exp(r)


def solve(matrix, right):
    """Gaussian elimination with pivoting."""
    n = len(right)
    rows = [row[:] + [b] for row, b in zip(matrix, right)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(i + 1, n):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i])]
    x = [0.0] * n
    for i in reversed(range(n)):
        x[i] = (rows[i][n] - sum(rows[i][k] * x[k] for k in range(i + 1, n))) / rows[i][i]
    return x


def value(coefficients, r):
    return sum(c * r**k for k, c in enumerate(coefficients))


def remez():
    n = DEGREE + 2
    points = [-BOUND * math.cos(math.pi * (i + 0.5) / n) for i in range(n)]
    for _ in range(50):
        matrix = [[r**k for k in range(DEGREE + 1)] + [(-1) ** i / weight(r)] for i, r in enumerate(points)]
        coefficients = solve(matrix, [target(r) for r in points])[:-1]
        grid = [-BOUND + 2 * BOUND * i / 20000 for i in range(20001)]
        error = [(value(coefficients, r) - target(r)) * weight(r) for r in grid]
        # The largest error of each run of one sign; r = 0 itself has none.
        peaks, start = [], 0
        for i in range(1, len(grid) + 1):
            if i == len(grid) or (error[i] > 0) != (error[start] > 0):
                peaks.append(max(range(start, i), key=lambda k: abs(error[k])))
                start = i
        while len(peaks) > n:
            peaks.remove(min((peaks[0], peaks[-1]), key=lambda k: abs(error[k])))
        if len(peaks) < n:
            break
        points = [grid[k] for k in peaks]
    return coefficients, max(abs(e) for e in error)


def main():
    coefficients, error = remez()
    rounded = [struct.unpack("f", struct.pack("f", c))[0] for c in coefficients]
    for k, c in enumerate(rounded):
        print(f"c{k + 2} = {c!r}")
    grid = [-BOUND + 2 * BOUND * i / 20000 for i in range(20001)]
    after = max(abs((value(rounded, r) - target(r)) * weight(r)) for r in grid)
    print(f"largest relative error {error:.3g}, with rounded coefficients {after:.3g} (2^-24 = {2**-24:.3g})")


if __name__ == "__main__":
    main()
