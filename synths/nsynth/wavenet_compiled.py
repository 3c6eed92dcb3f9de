"""The WaveNet decoder as code compiled for the processor it runs on.

`Decoder` computes what `synths.nsynth.wavenet.Decoder` computes on XNNPACK, in up to half the time where
the network is large.

A step of the official network is a chain of some hundred products of a few rows, one for each
clip, by weights that no cache holds: at best it takes as long as reading those weights once.  Each
thread owns some columns of every product, and reads no weights but theirs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import llvmlite.ir as ir
import numpy as np

from synths.engines.kernels import (
    BIT,
    F32,
    F64,
    I8,
    I32,
    I64,
    LOWEST,
    PTR,
    Code,
    Crew,
    Function,
    Processor,
    Run,
    aligned,
    interleaved,
    numbers,
    packed,
    packed_bytes,
    wholes,
    zeros,
)
from synths.nsynth import wavenet
from synths.nsynth.wavenet import CODES, HOP_LENGTH, TOGETHER

# Steps from one return to Python, and its Ctrl-C, to the next; they divide a frame.
_AT_ONCE = 16
# Rows in the product of a block of past moments, clips times steps.
_BLOCK_ROWS = 384


class _DecoderCode(Code):
    """The decoder's steps.

    Parameters
    ----------
    processor : Processor
    width, skip_width : int
        Channels; multiples of `2 * processor.lanes`.
    clips : int
        Rows of most products.
    past_rows : iterable of int
        Rows of the products of past moments.
    int8 : bool
        Whether the large products are of bytes; they need `processor.dot`.
    """

    STATE = ("meeting", "threads", "layers", "clips", "recent", "start", "start_bias",
             "skip_start", "skip_start_bias", "skips", "out1", "out1_bias", "condition", "hidden",
             "logits", "logits_bias", "odds", "uniforms", "drawn", "zeros", "gated", "past_bytes",
             "past_scales", "bytes", "scales")
    # A layer's inputs are a ring of `period` steps.
    LAYER = ("inputs", "period", "past", "older", "older_block", "newer", "newer_block",
             "condition", "present", "residual", "residual_bias", "skip", "skip_bias")

    def __init__(self, processor: Processor, width: int, skip_width: int, clips: int,
                 past_rows: Iterable[int], int8: bool) -> None:
        super().__init__(processor, max(width, skip_width), TOGETHER * width)
        self.width, self.skip_width, self.int8 = width, skip_width, int8
        self.past_pitch = 8 * width
        self.gated_pitch = 4 * TOGETHER * width + 64 if int8 else self.pitch
        every = {clips, *past_rows}
        self.write_product("gates", {clips}, int8, gates=True)
        if int8:
            self.write_product("product", {clips}, of_bytes=False)
            self.write_product("bytes_product", every, of_bytes=True)
            self._write_quantise()
        else:
            self.write_product("product", every, of_bytes=False)
        self._write_draw()
        self._write_steps()
        self.compile()

    def _write_quantise(self) -> None:
        """Rows of float32 as bytes, each row with its own scale and zero, as XNNPACK does it.

        A row is `inputs` numbers at `a`, and as many at `second` if that is not null.
        """
        f = Function(self.module, "quantise", PTR, PTR, PTR, PTR, I64, I64, I64, I64)
        out, scales, a, second, pitch, inputs, first, last = f.args
        b, lanes = f.b, self.lanes
        vector, whole = ir.VectorType(F32, lanes), ir.VectorType(I32, lanes)
        number = functools.partial(numbers, lanes)
        parts = b.select(b.icmp_unsigned("==", second, PTR(None)), I64(1), I64(2))

        def row(r: ir.Value) -> None:
            def part(p: ir.Value) -> ir.Value:
                chosen = b.select(b.icmp_signed("==", p, I64(0)), a, second)
                return f.at(chosen, f.times(r, pitch))

            def bounds(p: ir.Value, low: ir.Value, high: ir.Value) -> list[ir.Value]:
                source = part(p)

                def both(i: ir.Value, low: ir.Value, high: ir.Value) -> tuple[ir.Value, ir.Value]:
                    x = f.load(vector, source, f.times(i, 4))
                    return f.smaller(x, low), f.larger(x, high)
                return f.loop(0, inputs, lanes, both, low, high)

            low, high = f.loop(0, parts, 1, bounds, number(0), number(0))
            low = f.call(f"llvm.vector.reduce.fmin.v{lanes}f32", low, result=F32)
            high = f.call(f"llvm.vector.reduce.fmax.v{lanes}f32", high, result=F32)
            flat = b.fcmp_ordered("==", low, high)
            span = b.fdiv(F32(255), b.fsub(high, low))
            factor = b.select(flat, F32(1), span)
            low_end, high_end = b.fmul(low, factor), b.fmul(high, factor)
            # The zero is a byte itself: the one that is nearer to either end's.
            errors = b.fadd(b.fadd(F32(-128), low_end), b.fadd(F32(127), high_end))
            zero = b.select(b.fcmp_ordered(">", errors, F32(0)), b.fsub(F32(-128), low_end),
                            b.fsub(F32(127), high_end))
            zero = f.smaller(f.larger(zero, F32(-128)), F32(127))
            zero = b.fptosi(f.call("llvm.rint.f32", zero, result=F32), I32)
            zero = b.add(zero, I32(128))    # LLVM multiplies unsigned rows by signed weights
            f.store(b.fdiv(F32(1), factor), scales, f.times(r, 8))
            f.store(zero, f.at(scales, f.times(r, 8)), 4)
            factor, zero = f.splat(factor, lanes), f.splat(zero, lanes)

            def convert(p: ir.Value) -> None:
                source = part(p)
                target = f.at(f.at(out, f.times(r, self.bytes_pitch)), f.times(p, inputs))

                def bytes_(i: ir.Value) -> None:
                    x = b.fmul(f.load(vector, source, f.times(i, 4)), factor)
                    x = f.call(f"llvm.rint.v{lanes}f32", x, result=vector)
                    x = b.add(b.fptosi(x, whole), zero)
                    x = b.select(b.icmp_signed("<", x, wholes(lanes, 0)), wholes(lanes, 0), x)
                    x = b.select(b.icmp_signed(">", x, wholes(lanes, 255)), wholes(lanes, 255),
                                 x)
                    f.store(b.trunc(x, ir.VectorType(I8, lanes)), target, i)
                f.loop(0, inputs, lanes, bytes_)
            f.loop(0, parts, 1, convert)

        f.loop(first, last, 1, row)
        b.ret_void()

    def _write_draw(self) -> None:
        """Draw a clip's code: the first whose cumulated odds reach the clip's number."""
        f = Function(self.module, "draw", PTR, F64, result=I64)
        row, number = f.args
        b, lanes = f.b, self.lanes
        vector = ir.VectorType(F32, lanes)
        (high,) = f.loop(0, CODES, lanes,
                         lambda i, high: [f.larger(f.load(vector, row, f.times(i, 4)), high)],
                         numbers(lanes, LOWEST.constant))
        high = f.splat(f.call(f"llvm.vector.reduce.fmax.v{lanes}f32", high, result=F32), lanes)

        def weigh(i: ir.Value) -> None:
            at = f.at(row, f.times(i, 4))
            f.store(f.exp(b.fsub(f.load(vector, at), high)), at)
        f.loop(0, CODES, lanes, weigh)

        def add(i: ir.Value, total: ir.Value) -> ir.Value:
            return b.fadd(total, b.fpext(f.load(F32, row, f.times(i, 4)), F64))
        (total,) = f.loop(0, CODES, 1, lambda i, total: [add(i, total)], F64(0))
        mark = b.fmul(number, total)

        def count(i: ir.Value, total: ir.Value, code: ir.Value) -> list[ir.Value]:
            total = add(i, total)
            return [total, b.add(code, b.zext(b.fcmp_ordered("<", total, mark), I64))]
        _, code = f.loop(0, CODES, 1, count, F64(0), I64(0))
        # Where rounding leaves the last sum below the mark, it is the last code.
        b.ret(b.select(b.icmp_signed("<", code, I64(CODES)), code, I64(CODES - 1)))

    # Steps ---------------------------------------------------------------------------------------

    def _write_steps(self) -> None:
        """A thread's share of the steps `first` to `last`."""
        f = Run(self)
        b, width, get, of = f.b, self.width, f.get, f.of
        clips, layers, silence = get("clips", I64), get("layers", I64), get("zeros")
        own_bytes, own_scales, none = f.own("bytes"), f.own("scales"), PTR(None)
        tiles = {n: f.share(I64(n // self.tile))
                 for n in (2 * width, width, self.skip_width, CODES)}

        def remainder(t: ir.Value, n: ir.Value) -> ir.Value:
            """T mod n, a power of two."""
            return b.and_(t, b.sub(n, I64(1)))

        def product(out: ir.Value, a: ir.Value, weights: ir.Value, columns: int, *,
                    out_pitch: int = self.pitch, base: ir.Value = silence, base_pitch: int = 0,
                    bias: ir.Value = silence, bias_pitch: int = 0, inputs: ir.Value = I64(width),
                    rows: ir.Value = clips, floor: ir.Value = LOWEST, name: str = "product",
                    scales: ir.Value = none) -> None:
            f.call(name, out, I64(out_pitch), base, I64(base_pitch), bias, I64(bias_pitch), a,
                   scales, weights, inputs, rows, *tiles[columns], floor)

        def rows_of(a: ir.Value, pitch: int, inputs: ir.Value) -> dict[str, ir.Value]:
            """The clips' rows as a product takes them.

            Each thread makes its own bytes: that takes less time than to meet once more.
            """
            if not self.int8:
                return {"a": a}
            f.call("quantise", own_bytes, own_scales, a, none, I64(pitch), inputs, I64(0), clips)
            return {"a": own_bytes, "scales": own_scales}

        large = "bytes_product" if self.int8 else "product"

        def step(t: ir.Value) -> None:
            def inputs_at(layer: ir.Value, t: ir.Value) -> ir.Value:
                place = remainder(t, of(layer, "period", I64))
                return f.at(of(layer, "inputs"), f.times(f.times(place, clips), self.pitch))

            def line_of_past(layer: ir.Value) -> ir.Value:
                place = remainder(t, of(layer, "older_block", I64))
                return f.at(of(layer, "past"), f.times(f.times(place, clips), self.past_pitch))

            def past(layer: ir.Value) -> None:
                """Of a layer's gates, where a block of steps begins."""
                def block(name: str) -> tuple[ir.Value, dict]:
                    size = of(layer, name, I64)
                    begins = b.icmp_signed("==", remainder(t, size), I64(0))
                    return begins, {"rows": f.times(size, clips), "out_pitch": self.past_pitch}

                later = b.add(t, b.lshr(of(layer, "period", I64), I64(1)))
                older, newer = inputs_at(layer, t), inputs_at(layer, later)
                begins, shape = block("older_block")
                with b.if_then(begins):
                    if self.int8:   # both moments are one row
                        every, scales = get("past_bytes"), get("past_scales")
                        f.call("quantise", every, scales, older, newer, I64(self.pitch),
                               I64(width), *f.share(shape["rows"]))
                        f.meet()
                        product(of(layer, "past"), every, of(layer, "older"), 2 * width,
                                inputs=I64(2 * width), name="bytes_product", scales=scales,
                                **shape)
                        f.meet()
                    else:
                        product(of(layer, "past"), older, of(layer, "older"), 2 * width, **shape)
                if not self.int8:
                    begins, shape = block("newer_block")
                    with b.if_then(begins):
                        line = line_of_past(layer)
                        product(line, newer, of(layer, "newer"), 2 * width, base=line,
                                base_pitch=self.past_pitch, **shape)

            f.loop(I64(0), layers, 1, past)
            f.meet()  # what the first layer's input replaces has been read

            x = inputs_at(I64(0), t)
            product(x, get("recent"), get("start"), width, bias=get("start_bias"), inputs=I64(4))
            f.meet()
            product(get("skips"), x, get("skip_start"), self.skip_width,
                    bias=get("skip_start_bias"))

            def layer(i: ir.Value) -> None:
                x, following = inputs_at(i, t), b.add(i, I64(1))
                is_last = b.icmp_signed("==", following, layers)
                slot = b.urem(i, I64(TOGETHER)) if self.int8 else I64(0)
                gated = f.at(get("gated"), f.times(slot, 4 * width))
                product(gated, weights=of(i, "present"), columns=2 * width, name="gates",
                        out_pitch=self.gated_pitch, base=line_of_past(i),
                        base_pitch=self.past_pitch, bias=of(i, "condition"),
                        bias_pitch=self.past_pitch, **rows_of(x, self.pitch, I64(width)))
                f.meet()
                with b.if_then(b.not_(is_last)):
                    product(inputs_at(following, t), weights=of(i, "residual"), columns=width,
                            base=x, base_pitch=self.pitch, bias=of(i, "residual_bias"), name=large,
                            **rows_of(gated, self.gated_pitch, I64(width)))
                # In int8 the skips of some layers are one product, at the last of them.
                complete = b.or_(is_last, b.icmp_signed("==", slot, I64(TOGETHER - 1)))
                with b.if_then(complete if self.int8 else BIT(1)):
                    inputs = f.times(b.add(slot, I64(1)), width)
                    product(get("skips"), weights=of(i, "skip"), columns=self.skip_width,
                            inputs=inputs, base=get("skips"), base_pitch=self.pitch,
                            bias=of(i, "skip_bias"), name=large,
                            floor=b.select(is_last, F32(0), LOWEST),
                            **rows_of(get("gated"), self.gated_pitch, inputs))
                f.meet()
            f.loop(I64(0), layers, 1, layer)

            inputs = I64(self.skip_width)
            product(get("hidden"), get("skips"), get("out1"), self.skip_width, inputs=inputs,
                    base=get("condition"), base_pitch=self.pitch, bias=get("out1_bias"),
                    floor=F32(0))
            f.meet()
            product(get("odds"), get("hidden"), get("logits"), CODES, inputs=inputs,
                    bias=get("logits_bias"), out_pitch=4 * CODES)
            f.meet()

            def draw(clip: ir.Value) -> None:
                place = b.add(f.times(remainder(t, I64(HOP_LENGTH)), clips), clip)
                code = f.call("draw", f.at(get("odds"), f.times(clip, 4 * CODES)),
                              f.load(F64, get("uniforms"), f.times(place, 8)), result=I64)
                f.store(b.trunc(code, I8), get("drawn"), place)
                recent = f.at(get("recent"), f.times(clip, self.pitch))
                for k in range(2):
                    f.store(f.load(F32, recent, 4 * k + 4), recent, 4 * k)
                f.store(b.sitofp(b.sub(code, I64(CODES // 2)), F32), recent, 8)
            f.loop(*f.share(clips), 1, draw)
            f.meet()

        f.loop(f.first, f.last, 1, step)
        b.ret_void()


class Decoder:
    """The network set up to generate a fixed number of clips side by side.

    Parameters
    ----------
    prefix, batch, precision, temperature, threads
        As of `synths.nsynth.wavenet.Decoder`.
    target : Processor
        What to compile for, from `kernels.processor`.
    """

    def __init__(self, prefix: Path, batch: int, precision: str = "float32",
                 temperature: float = 1.0, threads: int = 1, *, target: Processor) -> None:
        weights = wavenet.load(prefix)
        self.batch = batch
        self._heard = wavenet.frames_heard(len(weights.layers))
        int8, width = precision == "int8", weights.width
        most = 1 << (max(_BLOCK_ROWS // batch, 4).bit_length() - 1)
        known = 1 if int8 else 2    # dilations ahead, the older moment; int8 waits for both moments
        older = [min(known * layer.dilation, most) for layer in weights.layers]
        newer = [min(layer.dilation, block) for layer, block in zip(weights.layers, older)]
        rows = [batch * block for block in older]
        code = _DecoderCode(target, width, weights.skip_width, batch,
                            {*rows, *(batch * block for block in newer)}, int8)
        self._order = interleaved(2 * width, code.lanes)

        def matrix(values: np.ndarray) -> np.ndarray:
            return aligned(packed(values, code.lanes))

        def large(values: np.ndarray, order: np.ndarray | slice = slice(None)) -> np.ndarray:
            if not int8:
                return matrix(values[:, order])
            values, scale = wavenet.quantise(values)
            return aligned(packed_bytes(values[:, order], scale[order], code.lanes))

        # What changes from frame to frame.
        pitch = code.pitch // 4
        self._recent, self._condition = zeros(batch, pitch), zeros(batch, pitch)
        self._uniforms = zeros(HOP_LENGTH, batch, dtype=np.float64)
        self._drawn = zeros(HOP_LENGTH, batch, dtype=np.uint8)
        self._rings = [zeros(2 * layer.dilation, batch, pitch) for layer in weights.layers]
        self._conditions = [zeros(batch, 2 * width) for _ in weights.layers]
        self._conditioning = wavenet.Conditioning(weights, batch)
        self._biases = [layer.bias for layer in weights.layers]     # added with the conditions

        start = np.zeros([4, width], np.float32)    # products take inputs by four
        start[:3] = weights.start / 128
        heat = np.float32(1 / temperature)
        state = {
            "clips": batch, "recent": self._recent, "uniforms": self._uniforms,
            "drawn": self._drawn, "condition": self._condition,
            "start": matrix(start), "start_bias": weights.start_bias,
            "skip_start": matrix(weights.skip_start), "skip_start_bias": weights.skip_start_bias,
            "out1": matrix(weights.out1), "out1_bias": weights.out1_bias,
            "logits": matrix(weights.logits * heat), "logits_bias": weights.logits_bias * heat,
            "skips": zeros(batch, pitch), "hidden": zeros(batch, pitch),
            "odds": zeros(batch, CODES), "zeros": zeros(2 * width + CODES),
            "gated": zeros(batch, code.gated_pitch // 4),
            "past_bytes": zeros(max(rows) if int8 else 0, code.bytes_pitch, dtype=np.uint8),
            "past_scales": zeros(max(rows) if int8 else 0, 2),
            "bytes": [zeros(batch, code.bytes_pitch, dtype=np.uint8) for _ in range(threads)],
            "scales": [zeros(batch, 2) for _ in range(threads)]}
        layers = []
        for i, layer in enumerate(weights.layers):
            entry = {"inputs": self._rings[i], "period": 2 * layer.dilation,
                     "past": zeros(rows[i], 2 * width), "older_block": older[i],
                     "newer_block": newer[i], "condition": self._conditions[i],
                     "present": large(layer.taps[2], self._order),
                     "residual": large(layer.res), "residual_bias": layer.res_bias}
            if int8:
                entry |= {"older": large(layer.taps[:2].reshape(2 * width, -1), self._order),
                          "newer": 0, "skip": 0, "skip_bias": 0}
                together = weights.layers[i - i % TOGETHER:i + 1]
                if len(together) == TOGETHER or layer is weights.layers[-1]:
                    # The last layer of some has the skips of all.
                    entry |= {"skip": large(np.concatenate([one.skip for one in together])),
                              "skip_bias": np.sum([one.skip_bias for one in together], axis=0)}
            else:
                entry |= {"older": large(layer.taps[0], self._order),
                          "newer": large(layer.taps[1], self._order),
                          "skip": large(layer.skip), "skip_bias": layer.skip_bias}
            layer.taps = layer.res = None   # their copies have taken their place
            layers.append(entry)
        self._crew = Crew(code, state, layers, threads)

    def generate(self, encodings: np.ndarray, uniforms: np.ndarray,
                 made: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """As `synths.nsynth.wavenet.Decoder.generate`."""
        begin = 0 if made is None else made.shape[1] // HOP_LENGTH
        for array in (*self._rings, self._recent):
            array[...] = 0
        with self._crew:
            for frame in range(max(0, begin - self._heard), encodings.shape[1]):
                terms, output = self._conditioning(encodings[:, frame])
                self._condition[:, :output.shape[1]] = output
                for condition, term, bias in zip(self._conditions, terms, self._biases):
                    condition[...] = (term + bias)[:, self._order]
                first = frame * HOP_LENGTH
                self._uniforms[...] = uniforms[:, first:first + HOP_LENGTH].T
                known = wavenet.known_codes(made, frame) if frame < begin else None
                if known is not None:
                    for i, codes in enumerate(known):
                        self._crew.run(first + i, first + i + 1)
                        self._recent[:, 2] = codes[:, 0]
                    continue
                for t in range(first, first + HOP_LENGTH, _AT_ONCE):
                    self._crew.run(t, t + _AT_ONCE)
                yield self._drawn.T.copy()
