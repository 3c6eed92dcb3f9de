"""Muon for the network's matrices, Adam for the rest.

Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024): the momentum of each
matrix is made near-orthogonal by five Newton-Schulz iterations before it is applied.  The scale,
0.2 sqrt(max(rows, columns)), gives updates of the size of Adam's (Liu et al., Muon is scalable for
LLM training, 2025), so that one learning rate serves both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Adam's: the first and last layers, whose rows are not alike, and all biases.
_ADAM = ("startconv_w", "ae_startconv_w", "logits_w")


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Matrices [n, rows, columns] with their singular values brought near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon:
    """Optimiser over named parameters whose kernels are stacked [layers, (taps,) in, out].

    Parameters
    ----------
    named : sequence of (name, parameter)
    momentum : float
    """

    def __init__(self, named: Sequence[tuple[str, Tensor]], momentum: float = 0.95):
        self.momentum = momentum
        self.matrices = [(n, p) for n, p in named if n.endswith("_w") and n not in _ADAM]
        chosen = {n for n, _ in self.matrices}
        self.adam = torch.optim.Adam([p for n, p in named if n not in chosen],
                                     betas=(0.9, 0.999), eps=1e-8, foreach=True)
        self.names = {p: n for n, p in named}
        self.moments = {n: torch.zeros_like(p) for n, p in self.matrices}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply the parameters' gradients."""
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        for name, parameter in self.matrices:
            moment = self.moments[name].mul_(self.momentum).add_(parameter.grad)
            update = parameter.grad + self.momentum * moment
            # [layers, taps in, out]: the taps of a kernel are one matrix.
            columns = parameter.shape[-1]
            layers = parameter.shape[0] if parameter.ndim > 2 else 1
            flat = orthogonal(update.reshape(layers, -1, columns))
            scale = 0.2 * max(flat.shape[1], columns) ** 0.5
            parameter.add_(flat.reshape(parameter.shape), alpha=-rate * scale)

    def state(self) -> dict[str, Tensor]:
        """Arrays to keep, by name."""
        kept = {f"moment/{n}": m for n, m in self.moments.items()}
        for parameter, state in self.adam.state.items():
            for kind in ("exp_avg", "exp_avg_sq"):
                kept[f"{kind}/{self.names[parameter]}"] = state[kind]
            kept["adam_steps"] = state["step"]
        return kept

    def restore(self, kept: dict[str, Tensor]) -> None:
        """Go on from `state`; what is missing starts afresh."""
        for name, moment in self.moments.items():
            if f"moment/{name}" in kept:
                moment.copy_(kept[f"moment/{name}"])
        for group in self.adam.param_groups:
            for parameter in group["params"]:
                name = self.names[parameter]
                if f"exp_avg/{name}" in kept and "adam_steps" in kept:
                    self.adam.state[parameter] = {
                        "step": kept["adam_steps"].clone().float(),
                        **{k: kept[f"{k}/{name}"].to(parameter.device).clone()
                           for k in ("exp_avg", "exp_avg_sq")}}
