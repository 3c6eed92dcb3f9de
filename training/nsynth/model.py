"""The NSynth WaveNet autoencoder in PyTorch: Magenta's topology at any width.

Engel et al., Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders (2017);
`magenta/models/nsynth/wavenet/h512_bo16.py`.  Parameters of all layers of a kind are stacked, and
`training.nsynth.export` knows which official variable each slice is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOP = 512
STAGES = 10
CLASSES = 256


@dataclass(frozen=True)
class Size:
    """Widths and layer counts; the official network is Size(512, 256, 30, 128, 30, 16)."""

    width: int = 32
    skip: int = 64
    layers: int = 20
    encoder_width: int = 32
    encoder_layers: int = 10
    channels: int = 16

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, by name; kernels are [tap, in, out], oldest tap first."""
        w, s, n, e, m, z = asdict(self).values()
        return {
            "ae_startconv_w": (3, e), "ae_startconv_b": (e,),
            "ae_dilatedconv_w": (m, 3, e, e), "ae_dilatedconv_b": (m, e),
            "ae_res_w": (m, e, e), "ae_res_b": (m, e),
            "ae_bottleneck_w": (e, z), "ae_bottleneck_b": (z,),
            "startconv_w": (3, w), "startconv_b": (w,),
            "skip_start_w": (w, s), "skip_start_b": (s,),
            "dilatedconv_w": (n, 3, w, 2 * w), "dilatedconv_b": (n, 2 * w),
            "cond_map_w": (n, z, 2 * w), "cond_map_b": (n, 2 * w),
            "res_w": (n, w, w), "res_b": (n, w),
            "skip_w": (n, w, s), "skip_b": (n, s),
            "out1_w": (s, s), "out1_b": (s,),
            "cond_map_out1_w": (z, s), "cond_map_out1_b": (s,),
            "logits_w": (s, CLASSES), "logits_b": (CLASSES,),
        }


def mu_law(audio: np.ndarray) -> np.ndarray:
    """Audio in -1..1 as the codes 0..255 that the network predicts; `utils.mu_law` plus 128."""
    codes = np.floor(np.sign(audio) * np.log1p(255 * np.abs(audio)) / np.log(256) * 128)
    return np.clip(codes, -128, 127).astype(np.int32) + 128


def signal_of(codes: Tensor) -> Tensor:
    """Mu-law codes 0..255 as the network's input in -1..1."""
    return (codes.float() - 128) / 128


class Autoencoder(nn.Module):
    """The network.  `encode` and `loss` run anywhere; `fused.Fused` does the same on a CPU, faster.

    The initial weights are uniform, with unit variance scaling, as Magenta's; the biases are 0.
    """

    def __init__(self, size: Size = Size(), seed: int = 0):
        super().__init__()
        self.size = size
        generator = torch.Generator().manual_seed(seed)
        for name, shape in size.shapes().items():
            value = torch.zeros(shape)
            if name.endswith("_w"):
                stacked = name.startswith(("ae_dil", "ae_res", "dil", "res", "cond_map_w",
                                           "skip_w"))
                fan_in = int(np.prod(shape[1 if stacked else 0:-1]))
                value = (torch.rand(shape, generator=generator) * 2 - 1) * (3 / fan_in) ** 0.5
            self.register_parameter(name, nn.Parameter(value))

    def load(self, values: Mapping[str, np.ndarray | Tensor]) -> None:
        """Set every parameter."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(torch.as_tensor(values[name]))

    def pooled(self, signal: Tensor) -> Tensor:
        """The encoder up to its pooling: signal [B, T] (code / 128) -> [B, T / HOP, width]."""
        x = F.pad(signal, (1, 1))
        x = torch.stack([x[:, :-2], x[:, 1:-1], x[:, 2:]], -1) @ self.ae_startconv_w
        x = x + self.ae_startconv_b
        for i in range(self.size.encoder_layers):
            d = 2 ** (i % STAGES)
            v = F.pad(F.relu(x), (0, 0, d, d))
            v = torch.cat([v[:, :-2 * d], v[:, d:-d], v[:, 2 * d:]], -1)
            v = F.relu(v @ self.ae_dilatedconv_w[i].flatten(0, 1) + self.ae_dilatedconv_b[i])
            x = x + v @ self.ae_res_w[i] + self.ae_res_b[i]
        return x.unflatten(1, (-1, HOP)).mean(2)

    def encode(self, signal: Tensor, pooled=None) -> Tensor:
        """Encodings [B, T / HOP, channels] of signal [B, T] (mu-law value -128..127 over 128)."""
        return (pooled or self.pooled)(signal) @ self.ae_bottleneck_w + self.ae_bottleneck_b

    def conditioning(self, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """What each layer [B, layers, frames, 2 width] and the output [B, frames, skip] add."""
        layers = torch.einsum("bfz,lzc->blfc", encoding, self.cond_map_w)
        layers = layers + (self.cond_map_b + self.dilatedconv_b)[:, None]
        out = encoding @ self.cond_map_out1_w + self.cond_map_out1_b + self.out1_b
        return layers, out

    def logits(self, history: Tensor, encoding: Tensor) -> Tensor:
        """Logits [B, T, 256] of each sample after the ones before it in `history` [B, T]."""
        layers, out = self.conditioning(encoding)
        x = F.pad(history, (3, 0))
        x = torch.stack([x[:, :-3], x[:, 1:-2], x[:, 2:-1]], -1) @ self.startconv_w
        x = x + self.startconv_b
        skip = x @ self.skip_start_w + (self.skip_start_b + self.skip_b.sum(0))
        for i in range(self.size.layers):
            d = 2 ** (i % STAGES)
            z = F.pad(x, (0, 0, 2 * d, 0))
            z = torch.cat([z[:, :-2 * d], z[:, d:-d], z[:, 2 * d:]], -1)
            z = z @ self.dilatedconv_w[i].flatten(0, 1)
            z = (z.unflatten(1, (-1, HOP)) + layers[:, i, :, None]).flatten(1, 2)
            gate, value = z.chunk(2, -1)
            h = torch.sigmoid(gate) * torch.tanh(value)
            x = x + h @ self.res_w[i] + self.res_b[i]
            skip = skip + h @ self.skip_w[i]
        y = F.relu(skip) @ self.out1_w
        y = F.relu((y.unflatten(1, (-1, HOP)) + out[:, :, None]).flatten(1, 2))
        return y @ self.logits_w + self.logits_b

    def loss(self, history: Tensor, targets: Tensor, encoding: Tensor) -> Tensor:
        """Mean nats per sample of targets [B, T] (codes 0..255)."""
        logits = self.logits(history, encoding)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten().long())

    @torch.no_grad()
    def nats(self, history: Tensor, targets: Tensor, encoding: Tensor) -> float:
        """`loss` as a number, without gradients."""
        return float(self.loss(history, targets, encoding))

    @torch.no_grad()
    def sample_once(self, history: Tensor, encoding: Tensor, uniforms: Tensor) -> Tensor:
        """One draw [B, T] (codes) for every sample, each after the true samples before it."""
        share = torch.softmax(self.logits(history, encoding).float(), -1).cumsum(-1)
        return torch.searchsorted(share, uniforms[..., None])[..., 0].clamp_(max=CLASSES - 1)
