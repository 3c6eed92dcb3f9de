"""Muon, the optimiser of both trainings' matrices.

Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024): the momentum of each
matrix is made near-orthogonal by five Newton-Schulz iterations before it is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

MOMENTUM = 0.95


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Matrices [n, rows, columns] with their singular values brought near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon:
    """Optimiser of kernels, whose updates `matrices` turns into matrices [n, rows, columns].

    `scale` is nearly the root mean square of an update at a learning rate of 1.  At 0.2 it is
    Adam's (Liu et al., Muon is scalable for LLM training, 2025).  The iterations run in `dtype`.
    """

    def __init__(self, parameters: Mapping[str, Tensor], matrices: Callable[[Tensor], Tensor],
                 scale: float = 0.2, dtype: torch.dtype = torch.float32):
        self.parameters, self.matrices = dict(parameters), matrices
        self.scale, self.dtype = scale, dtype
        self.moments = {name: torch.zeros_like(p) for name, p in self.parameters.items()}

    @torch.no_grad()
    def step(self, rate: float,
             part: Callable[[str, Tensor], Tensor] = lambda name, kernel: kernel) -> None:
        """Apply the gradients to a part of each kernel; a kernel without a gradient stays."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            moment = self.moments[name].mul_(MOMENTUM).add_(parameter.grad)
            update, kernel = (part(name, x) for x in (parameter.grad + MOMENTUM * moment,
                                                      parameter))
            flat = self.matrices(update).to(self.dtype)
            rate_here = rate * self.scale * max(flat.shape[1:]) ** 0.5
            kernel.add_(orthogonal(flat).reshape(kernel.shape), alpha=-rate_here)
