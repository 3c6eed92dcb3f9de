"""The network on a CPU through `fused.c`, several times faster than PyTorch's own operations.

Needs a C compiler (cc, gcc or clang; the CC environment variable wins) and layers of widths that
are multiples of 32.  Otherwise `Fused.build` returns None, and training uses the model itself.
A processor with AVX-512 BF16 multiplies in bfloat16, unless the build is `exact`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.nsynth.model import HOP, Autoencoder, Size

_SOURCE = Path(__file__).with_name("fused.c")
_FLAGS = ("-O3", "-funroll-loops", "-march=native", "-ffast-math", "-shared", "-fPIC")
_ENCODER = ("ae_startconv_w", "ae_startconv_b", "ae_dilatedconv_w", "ae_dilatedconv_b", "ae_res_w",
            "ae_res_b")
_DECODER = ("startconv_w", "startconv_b", "skip_start_w", "skip_sum_b", "dilatedconv_w", "res_w",
            "res_b", "skip_w", "out1_w", "logits_w", "logits_b")


def _compile(size: Size, exact: bool) -> ctypes.CDLL | None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which(
        "clang")
    if not compiler or size.width % 32 or size.encoder_width % 32 or size.skip % 32:
        return None
    flags = [*_FLAGS, f"-DWIDTH={size.width}", f"-DSKIP={size.skip}",
             f"-DENC_WIDTH={size.encoder_width}"]
    flags += ["-DEXACT"] if exact else []
    if "gcc" in Path(compiler).name or Path(compiler).name == "cc":
        flags.append("-mprefer-vector-width=512")
    # Windows does not delete a library that is loaded.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        library = Path(folder, "fused.so")
        try:
            done = subprocess.run([compiler, *flags, str(_SOURCE), "-o", str(library), "-lm"],
                                  capture_output=True, text=True)
            return ctypes.CDLL(str(library)) if done.returncode == 0 else None
        except OSError:
            return None


def _pointer(tensor: Tensor | None):
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


class Fused:
    """`Autoencoder`'s `pooled`, `loss` and `sample_once`, one thread per clip."""

    def __init__(self, model: Autoencoder, library: ctypes.CDLL, threads: int = 1):
        self.model, self.library, self.threads = model, library, threads
        self.pool = ThreadPoolExecutor(threads)
        self.memory: dict[str, Tensor] = {}
        library.decoder.restype = ctypes.c_double
        library.decoder_memory.restype = library.encoder_memory.restype = ctypes.c_long

    @classmethod
    def build(cls, model: Autoencoder, threads: int = 1, exact: bool = False) -> Fused | None:
        """The fused network, or None where it cannot be had (see the module's head)."""
        library = _compile(model.size, exact)
        return cls(model, library, threads) if library else None

    def exact(self) -> Fused:
        """The same in float32, to measure with: another build only where this one has bfloat16."""
        if ctypes.c_int.in_dll(self.library, "exact").value:
            return self
        return Fused.build(self.model, self.threads, exact=True) or self

    def _memory(self, kind: str, samples: int, *kept: bool) -> Tensor:
        key = f"{kind} {samples} {kept}"
        if key not in self.memory:
            layers = self.model.size.layers if kind[0] == "d" else self.model.size.encoder_layers
            need = getattr(self.library, f"{kind.split()[0]}_memory")(
                ctypes.c_long(samples), ctypes.c_long(layers), *map(ctypes.c_int, kept))
            # NumPy asks for huge pages, PyTorch does not.
            self.memory[key] = torch.from_numpy(np.empty(need, np.uint8))
        return self.memory[key]

    def pooled(self, signal: Tensor) -> Tensor:
        """As `Autoencoder.pooled`, with gradients."""
        return _Encoder.apply(self, torch.is_grad_enabled(), signal.contiguous(),
                              *(getattr(self.model, n) for n in _ENCODER))

    def _decoder_weights(self) -> list[Tensor]:
        bias = self.model.skip_start_b + self.model.skip_b.sum(0)
        return [bias if n == "skip_sum_b" else getattr(self.model, n) for n in _DECODER]

    def loss(self, history: Tensor, targets: Tensor, encoding: Tensor) -> Tensor:
        """As `Autoencoder.loss`, with gradients."""
        layers, out = self.model.conditioning(encoding)
        return _Decoder.apply(self, history.contiguous(), targets.int().contiguous(),
                              layers.contiguous(), out.contiguous(), *self._decoder_weights())

    @torch.no_grad()
    def nats(self, history: Tensor, targets: Tensor, encoding: Tensor) -> float:
        """As `Autoencoder.nats`: the loss alone, in a third of the time."""
        losses = self._forward(history, targets.int().contiguous(), encoding)
        return float(np.sum(losses)) / targets.numel()

    @torch.no_grad()
    def sample_once(self, history: Tensor, encoding: Tensor, uniforms: Tensor) -> Tensor:
        """As `Autoencoder.sample_once`."""
        drawn = torch.zeros(history.shape, dtype=torch.int32)
        self._forward(history, drawn, encoding, uniforms.contiguous())
        return drawn

    def _forward(self, history: Tensor, targets: Tensor, encoding: Tensor,
                 uniforms: Tensor | None = None) -> list[float]:
        """Decode without gradients: the summed loss of each clip; `uniforms` draw the targets."""
        layers, out = (x.contiguous() for x in self.model.conditioning(encoding))
        history = history.contiguous()
        weights = [w.detach().contiguous() for w in self._decoder_weights()]
        return self._each(len(history), lambda b, slot: self._decode(
            weights, history[b], targets[b], layers[b], out[b], 1.0, slot,
            uniforms=None if uniforms is None else uniforms[b]))

    def _each(self, clips: int, work) -> list:
        slots = list(range(self.threads))

        def run(b: int):
            slot = slots.pop()
            try:
                return work(b, slot)
            finally:
                slots.append(slot)

        return list(self.pool.map(run, range(clips)))

    def _decode(self, weights, history, targets, layers, out, scale, slot, grads=None,
                g_layers=None, g_out=None, uniforms=None) -> float:
        samples = history.shape[-1]
        return self.library.decoder(
            *map(_pointer, weights), _pointer(history), _pointer(targets), _pointer(uniforms),
            _pointer(layers), _pointer(out), ctypes.c_long(samples),
            ctypes.c_long(self.model.size.layers), ctypes.c_float(scale),
            _pointer(self._memory(f"decoder {slot}", samples)),
            *(map(_pointer, grads) if grads else [None] * len(_DECODER)), _pointer(g_layers),
            _pointer(g_out))


class _Encoder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, fused: Fused, kept: bool, signal: Tensor, *weights: Tensor) -> Tensor:
        clips, samples = signal.shape
        weights = [w.detach().contiguous() for w in weights]
        pooled = torch.empty(clips, samples // HOP, fused.model.size.encoder_width)
        sizes = ctypes.c_long(samples), ctypes.c_long(fused.model.size.encoder_layers)
        # Each clip's working memory is kept for the backward pass, if there will be one.
        memory = [fused._memory(f"encoder {b}", samples, True) for b in range(kept * clips)]
        fused._each(clips, lambda b, slot: fused.library.encoder_forward(
            *map(_pointer, weights), _pointer(signal[b]), *sizes, ctypes.c_int(kept),
            _pointer(memory[b] if kept else fused._memory(f"encoder {slot}", samples, False)),
            _pointer(pooled[b])))
        ctx.saved = fused, signal, weights, sizes, memory
        return pooled

    @staticmethod
    def backward(ctx, grad: Tensor):
        fused, signal, weights, sizes, memory = ctx.saved
        grad = grad.contiguous()
        grads = [[torch.zeros_like(w) for w in weights] for _ in range(fused.threads)]
        fused._each(len(signal), lambda b, slot: fused.library.encoder_backward(
            _pointer(weights[2]), _pointer(weights[4]), _pointer(signal[b]), *sizes,
            _pointer(memory[b]), _pointer(grad[b]), *map(_pointer, grads[slot])))
        return (None, None, None, *(torch.stack(g).sum(0) for g in zip(*grads)))


class _Decoder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, fused: Fused, history, targets, layers, out, *weights) -> Tensor:
        clips, samples = history.shape
        weights = [w.detach().contiguous() for w in weights]
        # The gradients come with the loss: one pass, and no memory kept between clips.
        grads = [[torch.zeros_like(w) for w in weights] for _ in range(fused.threads)]
        g_layers, g_out = torch.empty_like(layers), torch.empty_like(out)
        layers, out = layers.detach(), out.detach()
        scale = 1 / (clips * samples)
        loss = fused._each(clips, lambda b, slot: fused._decode(
            weights, history[b], targets[b], layers[b], out[b], scale, slot, grads[slot],
            g_layers[b], g_out[b]))
        ctx.grads = [None, None, None, g_layers, g_out,
                     *(torch.stack(g).sum(0) for g in zip(*grads))]
        return torch.tensor(float(np.sum(loss)) * scale)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return tuple(None if g is None else g * grad for g in ctx.grads)
