"""The encoder of NSynth's WaveNet autoencoder as code compiled for the processor it runs on.

`Network` computes what `synths.nsynth.wavenet_encoder`'s graph computes on XNNPACK, in as little as
two thirds of the time where the network is large: the rows of a few moments go through a whole
layer while they lie in the nearest caches.
"""

from __future__ import annotations

from collections.abc import Iterable

import llvmlite.ir as ir
import numpy as np

from synths.engines.crew import Crew, Field, aligned, zeros
from synths.engines.kernels import Code, EntryPoint, packed
from synths.engines.llvm import F32, I64, LOWEST, PTR, Function
from synths.engines.processors import Processor
from synths.nsynth.wavenet_variables import HOP_LENGTH, dilation

_PASSES = 4     # of a product's rows, in the moments that go through a layer together


class EncoderCode(Code):
    """The encoder's layers `first` to `last`, each for all moments."""

    # Even layers read `even` and write `odd`, both [n, width]; odd layers the other way round.
    # `n` is the number of moments; `taps` and `hidden` are each thread's own.
    STATE = ("barrier", "threads", "layers", "n", "even", "odd", "zeros", "taps", "hidden")
    LAYER = ("dilation", "taps", "taps_bias", "residual", "residual_bias")

    def __init__(self, processor: Processor, width: int, shares: Iterable[int]) -> None:
        super().__init__(processor, 3 * width)
        self.width = width
        self.block = _PASSES * processor.rows
        self.write_product("product", {self.block, *(n % self.block for n in shares)}, False)
        self._write_gather()
        self._write_layers()
        self.compile()

    def _write_gather(self) -> None:
        """Activations of t - d, t, t + d side by side, for some moments t; silence around all."""
        f = Function(self.module, "gather", PTR, PTR, PTR, I64, I64, I64, I64)
        out, x, silence, d, n, first, last = f.args
        b, row_bytes = f.b, 4 * self.width
        vector = ir.VectorType(F32, self.lanes)

        def moment(t: ir.Value) -> None:
            target = f.at(out, f.times(b.sub(t, first), self.pitch))

            def tap(k: ir.Value) -> None:
                place = b.add(t, f.times(b.sub(k, I64(1)), d))
                known = b.icmp_unsigned("<", place, n)      # below 0 is far above n
                source = b.select(known, f.at(x, f.times(place, row_bytes)), silence)

                def copy(i: ir.Value) -> None:
                    value = f.load(vector, source, f.times(i, 4))
                    value = f.larger(value, ir.Constant(vector, None))
                    f.store(value, target, f.times(b.add(f.times(k, self.width), i), 4))
                f.loop(0, self.width, self.lanes, copy)
            f.loop(0, 3, 1, tap)
        f.loop(first, last, 1, moment)
        b.ret_void()

    def _write_layers(self) -> None:
        f = EntryPoint(self)
        b, get, of, width = f.b, f.state, f.layer, self.width
        n, silence, taps, hidden = get("n", I64), get("zeros"), f.own("taps"), f.own("hidden")
        first, last = f.share(n)
        tiles = I64(0), I64(width // self.tile)

        def layer(i: ir.Value) -> None:
            even = b.icmp_signed("==", b.and_(i, I64(1)), I64(0))
            x = b.select(even, get("even"), get("odd"))
            out = b.select(even, get("odd"), get("even"))

            def block(t: ir.Value) -> None:
                end = b.add(t, I64(self.block))
                end = b.select(b.icmp_signed("<", end, last), end, last)
                rows = b.sub(end, t)
                here = f.times(t, 4 * width)
                f.call("gather", taps, x, silence, of(i, "dilation", I64), n, t, end)
                f.call("product", hidden, I64(self.pitch), silence, I64(0), of(i, "taps_bias"),
                       I64(0), taps, PTR(None), of(i, "taps"), I64(3 * width), rows, *tiles,
                       F32(0))
                f.call("product", f.at(out, here), I64(4 * width), f.at(x, here), I64(4 * width),
                       of(i, "residual_bias"), I64(0), hidden, PTR(None), of(i, "residual"),
                       I64(width), rows, *tiles, LOWEST)
            f.loop(first, last, self.block, block)
            f.barrier()
        f.loop(f.first, f.last, 1, layer)
        b.ret_void()


class Network:
    """The encoder set up for sounds of some frames.

    Parameters
    ----------
    start, layers, bottleneck
        Of `synths.nsynth.wavenet_encoder.Encoder`.
    frames : int
    threads : int
    target : Processor
        What to compile for, from `processors.processor`.
    """

    def __init__(self, start: tuple, layers: list[tuple], bottleneck: tuple, frames: int,
                 threads: int, target: Processor) -> None:
        kernel, self._start_bias = start
        self._start = kernel[0, :, 0]       # [3, width]
        kernel, self._bias = bottleneck
        self._bottleneck = kernel[0, 0]     # [width, channels]
        n, width = frames * HOP_LENGTH, self._start.shape[1]
        self._buffers = [zeros(n, width) for _ in range(2)]
        self._layers = len(layers)
        edges = [n * k // threads for k in range(threads + 1)]
        code = EncoderCode(target, width, np.diff(edges).tolist())
        room = code.block, code.pitch // 4
        state: dict[str, Field] = {
            "n": n, "even": self._buffers[0], "odd": self._buffers[1], "zeros": zeros(3 * width),
            "taps": [zeros(*room) for _ in range(threads)],
            "hidden": [zeros(*room) for _ in range(threads)]}
        entries: list[dict[str, Field]] = [
            {"dilation": dilation(i),
             "taps": aligned(packed(taps.reshape(3 * width, width), code.lanes)),
             "taps_bias": taps_bias, "residual": aligned(packed(residual[0, 0], code.lanes)),
             "residual_bias": residual_bias}
            for i, (taps, taps_bias, residual, residual_bias) in enumerate(layers)]
        self._crew = Crew(code, state, entries, threads)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """From samples [frames * 512] to encodings [frames, channels]."""
        line, x = np.pad(samples, 1), self._buffers[0]
        np.multiply(line[:-2, None], self._start[0], out=x)
        for k in (1, 2):
            x += line[k:len(line) - 2 + k, None] * self._start[k]
        x += self._start_bias
        with self._crew:
            self._crew.run(0, self._layers)
        x = self._buffers[self._layers % 2]
        # The mean over a frame and the last layer, which is linear, change places.
        mean = x.reshape(-1, HOP_LENGTH, x.shape[1]).mean(axis=1, dtype=np.float64)
        return (mean @ self._bottleneck + self._bias).astype(np.float32)
