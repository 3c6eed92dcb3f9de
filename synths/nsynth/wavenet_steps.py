"""A step of the WaveNet decoder as machine code; docs/decoder.md draws it.

A step of the official network is a chain of some hundred products of a few rows, one for each
clip, by weights that no cache holds: at best it takes as long as reading those weights once.  Each
thread owns some tiles of columns of every product, and reads no weights but theirs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import llvmlite.ir as ir

from synths.engines.kernels import Code, EntryPoint
from synths.engines.llvm import (
    BIT,
    F32,
    F64,
    I8,
    I32,
    I64,
    LOWEST,
    PTR,
    Function,
    numbers,
    wholes,
)
from synths.engines.processors import Processor
from synths.nsynth.wavenet_variables import CODES, HOP_LENGTH, TOGETHER


class StepCode(Code):
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

    # Arrays are float32 unless a type is named, rows of them a pitch apart; tiles are weights as
    # `packed` or `packed_bytes` gives them.
    STATE = (
        "barrier", "threads", "layers", "clips",        # the first and the last three numbers
        "recent",                                       # [clips, 3]: samples -128..127
        "start", "start_bias",                          # tiles of the first layer's input
        "skip_start", "skip_start_bias",                # tiles
        "skips",                                        # [clips, skip width]: their sum
        "out1", "out1_bias", "condition",               # tiles; [clips, skip width]
        "hidden",                                       # [clips, skip width]: out1's result
        "logits", "logits_bias",                        # tiles
        "odds",                                         # [clips, 256]: logits, then odds
        "uniforms", "drawn",                            # [512, clips]: float64 in, uint8 out
        "zeros",                                        # what is read where nothing is added
        "gated",                                        # [clips, width]; in int8 of five layers
        "past_bytes", "past_scales",                    # int8: quantised rows of past moments
        "bytes", "scales")                              # int8: each thread's own quantised rows
    LAYER = (
        "inputs", "period",                             # ring buffer [period, clips, width]
        "past",                                         # [older_block, clips, 2 width]
        "older", "older_block",                         # tiles of t - 2d (int8: t - d too); steps
        "newer", "newer_block",                         # tiles of t - d; steps (float32 only)
        "condition",                                    # [clips, 2 width], the biases included
        "present",                                      # tiles of t
        "residual", "residual_bias", "skip", "skip_bias")   # tiles; in int8 five layers' skips

    def __init__(self, processor: Processor, width: int, skip_width: int, clips: int,
                 past_rows: Iterable[int], int8: bool) -> None:
        super().__init__(processor, max(width, skip_width), TOGETHER * width)
        self.width, self.skip_width, self.int8 = width, skip_width, int8
        # In bytes.  Only rows that float32 products read need the code's own pitch.
        self.past_pitch = 8 * width
        self.gated_pitch = 4 * TOGETHER * width + 64 if int8 else self.pitch
        every = {clips, *past_rows}
        self.write_product("gates", {clips}, int8, gates=True)
        if int8:
            self.write_product("product", {clips}, of_bytes=False)
            self.write_product("bytes_product", every, of_bytes=True)
            _write_quantise(self)
        else:
            self.write_product("product", every, of_bytes=False)
        _write_draw(self)
        _Steps(self).write()
        self.compile()


class _Steps(EntryPoint):
    """A thread's share of the steps `first` to `last`."""

    def __init__(self, code: StepCode) -> None:
        super().__init__(code)
        self.code, self.width, self.skip_width = code, code.width, code.skip_width
        self.int8, self.pitch, self.past_pitch = code.int8, code.pitch, code.past_pitch

    def write(self) -> None:
        """Write the loop over steps."""
        self.clips, self.layers = self.state("clips", I64), self.state("layers", I64)
        self.silence = self.state("zeros")
        self.own_bytes, self.own_scales = self.own("bytes"), self.own("scales")
        self.tiles = {n: self.share(I64(n // self.code.tile))
                      for n in (2 * self.width, self.width, self.skip_width, CODES)}
        self.loop(self.first, self.last, 1, self._step)
        self.b.ret_void()

    def _step(self, t: ir.Value) -> None:
        """One sample of every clip."""
        self.loop(I64(0), self.layers, 1, lambda layer: self._write_past(layer, t))
        self.barrier()  # what the first layer's input replaces has been read
        self._write_start(t)
        self.loop(I64(0), self.layers, 1, lambda layer: self._write_layer(layer, t))
        self._write_odds()
        self.loop(*self.share(self.clips), 1, lambda clip: self._write_choice(clip, t))
        self.barrier()

    # Pieces ------------------------------------------------------------------------------------

    def _remainder(self, t: ir.Value, n: ir.Value) -> ir.Value:
        """T mod n, a power of two."""
        return self.b.and_(t, self.b.sub(n, I64(1)))

    def _inputs_at(self, layer: ir.Value, t: ir.Value) -> ir.Value:
        """The rows of a layer's ring buffer for the step t."""
        place = self._remainder(t, self.layer(layer, "period", I64))
        return self.at(self.layer(layer, "inputs"),
                       self.times(self.times(place, self.clips), self.pitch))

    def _past_at(self, layer: ir.Value, t: ir.Value) -> ir.Value:
        """What the past adds to a layer's gates at the step t."""
        place = self._remainder(t, self.layer(layer, "older_block", I64))
        return self.at(self.layer(layer, "past"),
                       self.times(self.times(place, self.clips), self.past_pitch))

    def _product(self, out: ir.Value, a: ir.Value, weights: ir.Value, columns: int, *,
                 out_pitch: int | None = None, base: ir.Value | None = None, base_pitch: int = 0,
                 bias: ir.Value | None = None, bias_pitch: int = 0,
                 inputs: ir.Value | None = None, rows: ir.Value | None = None,
                 floor: ir.Value = LOWEST, name: str = "product",
                 scales: ir.Value | None = None) -> None:
        """The thread's tiles of `out = max(base + bias + a @ weights, floor)`.

        By default of the clips' rows by `width` inputs, into rows that a product can read, with
        nothing added.
        """
        self.call(name, out, I64(self.pitch if out_pitch is None else out_pitch),
                  self.silence if base is None else base, I64(base_pitch),
                  self.silence if bias is None else bias, I64(bias_pitch), a,
                  PTR(None) if scales is None else scales, weights,
                  I64(self.width) if inputs is None else inputs,
                  self.clips if rows is None else rows, *self.tiles[columns], floor)

    def _layer_product(self) -> str:
        """Which product the layers' weights take; those of both ends are float32 always."""
        return "bytes_product" if self.int8 else "product"

    def _rows_of(self, a: ir.Value, pitch: int, inputs: ir.Value) -> dict[str, ir.Value]:
        """The clips' rows as a product of the layers' weights takes them.

        Each thread makes its own bytes: that takes less time than to wait once more.
        """
        if not self.int8:
            return {"a": a}
        self.call("quantise", self.own_bytes, self.own_scales, a, PTR(None), I64(pitch), inputs,
                  I64(0), self.clips)
        return {"a": self.own_bytes, "scales": self.own_scales}

    # A step, part by part ------------------------------------------------------------------------

    def _write_past(self, layer: ir.Value, t: ir.Value) -> None:
        """What t - 2d and t - d add to a layer's gates, where a block of steps begins."""
        later = self.b.add(t, self.b.lshr(self.layer(layer, "period", I64), I64(1)))
        older, newer = self._inputs_at(layer, t), self._inputs_at(layer, later)
        begins, rows = self._block(layer, "older_block", t)
        with self.b.if_then(begins):
            if self.int8:   # both moments are one row
                every, scales = self.state("past_bytes"), self.state("past_scales")
                self.call("quantise", every, scales, older, newer, I64(self.pitch),
                          I64(self.width), *self.share(rows))
                self.barrier()
                self._product(self.layer(layer, "past"), every, self.layer(layer, "older"),
                              2 * self.width, inputs=I64(2 * self.width), name="bytes_product",
                              scales=scales, rows=rows, out_pitch=self.past_pitch)
                self.barrier()
            else:
                self._product(self.layer(layer, "past"), older, self.layer(layer, "older"),
                              2 * self.width, rows=rows, out_pitch=self.past_pitch)
        if not self.int8:
            begins, rows = self._block(layer, "newer_block", t)
            with self.b.if_then(begins):
                line = self._past_at(layer, t)
                self._product(line, newer, self.layer(layer, "newer"), 2 * self.width, base=line,
                              base_pitch=self.past_pitch, rows=rows, out_pitch=self.past_pitch)

    def _block(self, layer: ir.Value, name: str, t: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Whether a block of a layer's steps begins at t, and its rows."""
        size = self.layer(layer, name, I64)
        begins = self.b.icmp_signed("==", self._remainder(t, size), I64(0))
        return begins, self.times(size, self.clips)

    def _write_start(self, t: ir.Value) -> None:
        """The first layer's input, from the last three samples, and the skips' beginning."""
        x = self._inputs_at(I64(0), t)
        self._product(x, self.state("recent"), self.state("start"), self.width,
                      bias=self.state("start_bias"), inputs=I64(4))
        self.barrier()
        self._product(self.state("skips"), x, self.state("skip_start"), self.skip_width,
                      bias=self.state("skip_start_bias"))

    def _write_layer(self, i: ir.Value, t: ir.Value) -> None:
        """A layer: its gates, then its share of the skips and the next layer's input."""
        b = self.b
        x, following = self._inputs_at(i, t), b.add(i, I64(1))
        is_last = b.icmp_signed("==", following, self.layers)
        # In int8 five layers' activations lie side by side.
        slot = b.urem(i, I64(TOGETHER)) if self.int8 else I64(0)
        gated = self.at(self.state("gated"), self.times(slot, 4 * self.width))
        self._product(gated, weights=self.layer(i, "present"), columns=2 * self.width,
                      name="gates", out_pitch=self.code.gated_pitch, base=self._past_at(i, t),
                      base_pitch=self.past_pitch, bias=self.layer(i, "condition"),
                      bias_pitch=self.past_pitch,
                      **self._rows_of(x, self.pitch, I64(self.width)))
        self.barrier()
        with b.if_then(b.not_(is_last)):
            self._product(self._inputs_at(following, t), weights=self.layer(i, "residual"),
                          columns=self.width, base=x, base_pitch=self.pitch,
                          bias=self.layer(i, "residual_bias"), name=self._layer_product(),
                          **self._rows_of(gated, self.code.gated_pitch, I64(self.width)))
        # Their skips are one product, at the last of them.
        complete = b.or_(is_last, b.icmp_signed("==", slot, I64(TOGETHER - 1)))
        with b.if_then(complete if self.int8 else BIT(1)):
            inputs = self.times(b.add(slot, I64(1)), self.width)
            self._product(self.state("skips"), weights=self.layer(i, "skip"),
                          columns=self.skip_width, inputs=inputs, base=self.state("skips"),
                          base_pitch=self.pitch, bias=self.layer(i, "skip_bias"),
                          name=self._layer_product(), floor=b.select(is_last, F32(0), LOWEST),
                          **self._rows_of(self.state("gated"), self.code.gated_pitch, inputs))
        self.barrier()

    def _write_odds(self) -> None:
        """The logits of the 256 codes."""
        inputs = I64(self.skip_width)
        self._product(self.state("hidden"), self.state("skips"), self.state("out1"),
                      self.skip_width, inputs=inputs, base=self.state("condition"),
                      base_pitch=self.pitch, bias=self.state("out1_bias"), floor=F32(0))
        self.barrier()
        self._product(self.state("odds"), self.state("hidden"), self.state("logits"), CODES,
                      inputs=inputs, bias=self.state("logits_bias"), out_pitch=4 * CODES)
        self.barrier()

    def _write_choice(self, clip: ir.Value, t: ir.Value) -> None:
        """Draw a clip's code and make it the most recent of its last three samples."""
        b = self.b
        place = b.add(self.times(self._remainder(t, I64(HOP_LENGTH)), self.clips), clip)
        code = self.call("draw", self.at(self.state("odds"), self.times(clip, 4 * CODES)),
                         self.load(F64, self.state("uniforms"), self.times(place, 8)), result=I64)
        self.store(b.trunc(code, I8), self.state("drawn"), place)
        recent = self.at(self.state("recent"), self.times(clip, self.pitch))
        for k in range(2):
            self.store(self.load(F32, recent, 4 * k + 4), recent, 4 * k)
        self.store(b.sitofp(b.sub(code, I64(CODES // 2)), F32), recent, 8)


# Functions that steps call -------------------------------------------------------------------


def _write_quantise(code: Code) -> None:
    """Rows of float32 as bytes, each row with its own scale and zero, as XNNPACK does it.

    A row is `inputs` numbers at `a`, and as many at `second` if that is not null.  Its scale
    (float32) and zero (int32) go side by side to `scales`.
    """
    f = Function(code.module, "quantise", PTR, PTR, PTR, PTR, I64, I64, I64, I64)
    out, scales, a, second, pitch, inputs, first, last = f.args
    b, lanes = f.b, code.lanes
    parts = b.select(b.icmp_unsigned("==", second, PTR(None)), I64(1), I64(2))

    def row(r: ir.Value) -> None:
        def part(p: ir.Value) -> ir.Value:
            chosen = b.select(b.icmp_signed("==", p, I64(0)), a, second)
            return f.at(chosen, f.times(r, pitch))

        factor, zero = _range_of(f, lanes, parts, part, inputs)
        f.store(b.fdiv(F32(1), factor), scales, f.times(r, 8))
        f.store(zero, f.at(scales, f.times(r, 8)), 4)
        factor, zero = f.splat(factor, lanes), f.splat(zero, lanes)

        def convert(p: ir.Value) -> None:
            source = part(p)
            target = f.at(f.at(out, f.times(r, code.bytes_pitch)), f.times(p, inputs))
            f.loop(0, inputs, lanes,
                   lambda i: _write_bytes(f, lanes, source, target, i, factor, zero))
        f.loop(0, parts, 1, convert)

    f.loop(first, last, 1, row)
    b.ret_void()


def _range_of(f: Function, lanes: int, parts: ir.Value, part, inputs: ir.Value,
              ) -> tuple[ir.Value, ir.Value]:
    """What a row is multiplied by to span 255 steps, and the byte that stands for zero."""
    b, number = f.b, functools.partial(numbers, lanes)

    def bounds(p: ir.Value, low: ir.Value, high: ir.Value) -> list[ir.Value]:
        source = part(p)

        def both(i: ir.Value, low: ir.Value, high: ir.Value) -> tuple[ir.Value, ir.Value]:
            x = f.load(ir.VectorType(F32, lanes), source, f.times(i, 4))
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
    return factor, b.add(zero, I32(128))    # LLVM multiplies unsigned rows by signed weights


def _write_bytes(f: Function, lanes: int, source: ir.Value, target: ir.Value, i: ir.Value,
                 factor: ir.Value, zero: ir.Value) -> None:
    """Some numbers of a row as bytes."""
    b, vector, whole = f.b, ir.VectorType(F32, lanes), ir.VectorType(I32, lanes)
    x = b.fmul(f.load(vector, source, f.times(i, 4)), factor)
    x = f.call(f"llvm.rint.v{lanes}f32", x, result=vector)
    x = b.add(b.fptosi(x, whole), zero)
    x = b.select(b.icmp_signed("<", x, wholes(lanes, 0)), wholes(lanes, 0), x)
    x = b.select(b.icmp_signed(">", x, wholes(lanes, 255)), wholes(lanes, 255), x)
    f.store(b.trunc(x, ir.VectorType(I8, lanes)), target, i)


def _write_draw(code: Code) -> None:
    """Draw a clip's code: the first whose cumulated odds reach the clip's number.

    `row` is float32 [256], logits; they are overwritten by the odds.
    """
    f = Function(code.module, "draw", PTR, F64, result=I64)
    row, number = f.args
    b, lanes = f.b, code.lanes
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
    _, code_drawn = f.loop(0, CODES, 1, count, F64(0), I64(0))
    # Where rounding leaves the last sum below the mark, it is the last code.
    b.ret(b.select(b.icmp_signed("<", code_drawn, I64(CODES)), code_drawn, I64(CODES - 1)))
