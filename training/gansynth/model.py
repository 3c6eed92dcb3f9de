"""GANSynth's generator in PyTorch, with the official topology at any width.

Magenta: ``magenta/models/gansynth/lib/networks.py`` (``generator``) and ``layers.py``; paper:
Engel et al., "GANSynth: Adversarial Neural Audio Synthesis" (ICLR 2019), after Karras et al.,
"Progressive Growing of GANs" (ICLR 2018). Equalised learning rates, leaky ReLU of 0.2, pixel
normalisation, nearest-neighbour growth from 2 x 16 to 128 x 1024, final stage only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

LATENTS = 256
PITCH_COUNT = 61
BLOCKS = 7
START = (2, 16)
ROWS = START[0] * 2 ** (BLOCKS - 1)


def needed_rows(first: int, end: int) -> list[tuple[int, int]]:
    """Return, for every block, the rows that rows ``first..end`` of the output depend on.

    A block's two convolutions reach two rows to either side; the edges of the image stay edges.
    """
    ranges = []
    low, high = first, end
    for index in reversed(range(BLOCKS)):
        height = START[0] * 2 ** index
        low, high = max(0, low - 2), min(height, high + 2)
        ranges.append((low, high))
        low, high = low // 2, -(-high // 2)
    return ranges[::-1]


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Scale the feature vector of every pixel to unit mean square."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def activate(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU, then pixel normalisation."""
    return normalise(F.leaky_relu(x, 0.2))


class Convolution(nn.Module):
    """A convolution with equalised learning rate: weights near one, scaled when used."""

    def __init__(self, inputs: int, outputs: int, size: int, slope: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = math.sqrt(2.0 / ((1.0 + slope ** 2) * inputs * size * size))

    def forward(self, x: torch.Tensor, steady: bool = False) -> torch.Tensor:
        """Convolve; if ``steady``, along frequency alone, as if nothing changed in time."""
        weight, middle = self.weight * self.scale, self.weight.shape[-1] // 2
        if steady:
            return F.conv2d(x, weight.sum(dim=2, keepdim=True), self.bias, padding=(0, middle))
        return F.conv2d(x, weight, self.bias, padding=middle)


class Generator(nn.Module):
    """The generator: ``(z, pitch)`` to magnitude and instantaneous frequency.

    The first layer is a dense one from 317 inputs (256 latents, 61 one-hot pitches) to a
    2 x 16 image. Here the latents enter through ``directions``, one fixed unit vector per
    meaning (orthonormal rows): a Gaussian z becomes one Gaussian number per direction.
    ``start_kernel`` is the dense matrix as the official checkpoints hold it.
    """

    def __init__(self, directions, fmap_base: int, fmap_max: int) -> None:
        super().__init__()
        directions = torch.as_tensor(directions, dtype=torch.float32)
        # Magenta's num_filters, with an fmap_decay of 1
        widths = [min(fmap_base // 2 ** block, fmap_max) for block in range(1, BLOCKS + 1)]
        self.widths, self.fmap_base, self.fmap_max = widths, fmap_base, fmap_max
        size, first = START[0] * START[1], widths[0]
        self.register_buffer("directions", directions)
        # One vector per direction, much the same at every place of the start image: the places
        # then agree on what the instrument is.
        timbre = torch.randn(len(directions), first, 1, 1)
        timbre = timbre / timbre.square().mean(dim=1, keepdim=True).sqrt() * 0.6
        timbre = timbre * (1.0 + 0.15 * torch.randn(len(directions), first, 1, START[1]))
        self.timbre = nn.Parameter(timbre.expand(-1, -1, *START).reshape(len(directions), -1))
        self.pitch = nn.Parameter(torch.randn(PITCH_COUNT, first * size))
        self.start_bias = nn.Parameter(torch.zeros(first))
        self.start_scale = math.sqrt(2.0 / (size * (LATENTS + PITCH_COUNT)))
        self.first = nn.ModuleList([
            Convolution(widths[max(block - 1, 0)], widths[block], 3, 0.0)
            for block in range(BLOCKS)])
        self.second = nn.ModuleList([
            Convolution(widths[block], widths[block], 3, 0.0) for block in range(1, BLOCKS)])
        self.to_rgb = Convolution(widths[-1], 2, 1, 1.0)
        self.activate = activate    # the trainer may put a compiled one here

    def start(self, z: torch.Tensor, pitch: torch.Tensor) -> torch.Tensor:
        """Return the start image ``[notes, channels, 2, 16]``; ``pitch`` counts from 0."""
        # Pixel normalisation of the 317 inputs, the one-hot's single one included.
        norm = torch.rsqrt((z.square().sum(dim=1, keepdim=True) + 1.0)
                           / (LATENTS + PITCH_COUNT) + 1e-8)
        x = ((z * norm) @ self.directions.t()) @ self.timbre + norm * self.pitch[pitch]
        x = x.view(len(z), self.widths[0], *START) + self.start_bias.view(1, -1, 1, 1)
        return self.activate(x)

    def block(self, index: int, x: torch.Tensor, steady: bool = False) -> torch.Tensor:
        """Apply one block, its doubling left out."""
        x = self.activate(self.first[index](x, steady))
        return self.activate(self.second[index - 1](x, steady)) if index else x

    def forward(self, z: torch.Tensor, pitch: torch.Tensor,
                window: tuple[int, int] | None = None,
                features: list[tuple[int, torch.Tensor]] | None = None) -> torch.Tensor:
        """Return ``[notes, 2, rows, 1024]`` in -1..1.

        ``window = (first, end)`` asks for these rows of 128 only, and computes of every block no
        more than they depend on: the same values, sooner. Into ``features`` goes, for every block,
        its first row and what it gives.
        """
        first, end = window or (0, ROWS)
        needed = needed_rows(first, end)
        x, top = self.block(0, self.start(z, pitch)), 0
        if features is not None:
            features.append((0, x))
        for index in range(1, BLOCKS):
            low, high = needed[index]
            x = double(x)[:, :, low - 2 * top:high - 2 * top]
            top = low
            x = self.block(index, x)
            if features is not None:
                features.append((top, x))
        return torch.tanh(self.to_rgb(x[:, :, first - top:end - top]))

    def steady_rows(self, z: torch.Tensor, pitch: torch.Tensor, split: int,
                    rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute some rows only, as if nothing changed in time from block ``split`` on.

        Earlier blocks are computed in full. From ``split`` on, kernels act along frequency alone,
        on each of ``rows [notes, count]``. Return output ``[notes, 2, count, 1024]``, the last
        features ``[notes, c, count, 1024]`` and the features before the split.
        """
        x = self.start(z, pitch)
        for index in range(split):
            x = self.block(index, x if index == 0 else double(x))
        before = x
        x = x if split == 0 else double(x)
        x = torch.stack([note[:, chosen] for note, chosen in zip(x, rows)])
        x = x.contiguous(memory_format=torch.channels_last)
        for index in range(split, BLOCKS):
            if index > split:
                x = x.repeat_interleave(2, dim=3)
            x = self.block(index, x, steady=True)
        return torch.tanh(self.to_rgb(x, steady=True)), x, before

    def start_kernel(self) -> torch.Tensor:
        """Return the dense start layer ``[317, channels, 2, 16]``, raw (before scaling)."""
        dense = torch.cat([self.directions.t() @ self.timbre, self.pitch]) / self.start_scale
        return dense.view(LATENTS + PITCH_COUNT, self.widths[0], *START)


def double(x: torch.Tensor) -> torch.Tensor:
    """Double both axes by repetition."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
