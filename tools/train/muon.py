"""Muon, and the small AdamW that looks after what Muon does not.

Muon (K. Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/)
replaces the momentum M of a matrix by the nearest semi-orthogonal matrix:
with M = U S V^T, the update is U V^T. Every direction of the matrix then
moves at the same speed, which at this size needs far fewer tokens than AdamW.

The orthogonalisation is five steps of a quintic Newton-Schulz iteration,
which needs only matrix products and tolerates bf16. Matrices of one shape are
stacked and iterated as a batch.
"""

import torch
from torch import Tensor

# p(s) = a s + b s^3 + c s^5 drives each singular value in (0, 1] towards 1; the
# coefficients (from the Muon article) trade exactness for a steep slope at 0.
NS_A, NS_B, NS_C = 3.4445, -4.7750, 2.0315


def orthogonalise(batch: Tensor, steps: int = 5) -> Tensor:
    """Approximate U V^T for each matrix of `batch` [count, rows, cols]; singular values end in about 0.7 .. 1.2."""
    x = batch.to(torch.bfloat16)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2).contiguous()
    # The Frobenius norm bounds the largest singular value.
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(steps):
        gram = torch.bmm(x, x.transpose(1, 2))
        poly = torch.baddbmm(gram, gram, gram, beta=NS_B, alpha=NS_C)
        x = torch.baddbmm(x, poly, x, beta=NS_A)
    if tall:
        x = x.transpose(1, 2)
    return x.float()


class Muon:
    """Muon with Nesterov momentum and decoupled weight decay, over matrices grouped by shape."""

    def __init__(self, params: dict[str, Tensor], momentum: dict[str, Tensor]) -> None:
        """`momentum` holds one tensor per parameter: the optimizer's state, kept by the caller."""
        self.params = params
        self.momentum = momentum
        self.groups: dict[tuple[int, int], list[str]] = {}
        for name, p in params.items():
            self.groups.setdefault(tuple(p.shape), []).append(name)

    @torch.no_grad()
    def step(self, grads: dict[str, Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        for (rows, cols), names in self.groups.items():
            updates = []
            for name in names:
                buffer = self.momentum[name].lerp_(grads[name], 1 - momentum)
                updates.append(grads[name].lerp(buffer, momentum))
            # Orthogonal columns have entries of 1/sqrt(rows); the factor makes tall matrices move as far per output.
            scale = lr * max(1.0, rows / cols) ** 0.5
            for name, update in zip(names, orthogonalise(torch.stack(updates))):
                self.params[name].mul_(1 - lr * weight_decay).sub_(update, alpha=scale)


class AdamW:
    """AdamW (arXiv 1711.05101) for the embedding and the norm gains."""

    def __init__(self, params: dict[str, Tensor], first: dict[str, Tensor], second: dict[str, Tensor], steps: int) -> None:
        """`first` and `second` hold the running moments after `steps` updates: state kept by the caller."""
        self.params, self.first, self.second, self.steps = params, first, second, steps
        self.betas, self.eps = (0.9, 0.95), 1e-10

    @torch.no_grad()
    def step(self, grads: dict[str, Tensor], lr: float, weight_decay: float) -> None:
        """One update. Only matrices decay; norm gains do not."""
        self.steps += 1
        beta1, beta2 = self.betas
        bias1, bias2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        for name, p in self.params.items():
            grad = grads[name]
            self.first[name].lerp_(grad, 1 - beta1)
            self.second[name].lerp_(grad.square(), 1 - beta2)
            if p.dim() == 2:
                p.mul_(1 - lr * weight_decay)
            p.addcdiv_(self.first[name] / bias1, (self.second[name] / bias2).sqrt_().add_(self.eps), value=-lr)
