"""Machine code for large networks, made by LLVM for the processor at hand.

What libraries of products leave undone is done here: a product takes up to twelve rows in one pass
over its weights, which memory is asked for well ahead; what follows it (bias, activation) happens
while the result is still in registers; threads that share a chain of short products wait for each
other at a barrier of their own.  docs/decoder.md draws it.

`synths.nsynth.wavenet_steps` and `synths.nsynth.wavenet_encoder_compiled` have the networks.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

from synths.engines.llvm import BIT, F32, F64, I32, I64, PTR, VOID, Function, numbers, wholes
from synths.engines.processors import Processor

_UNROLLED = 4       # inputs of a product in one turn of its loop; of bytes, fours of inputs
_AHEAD = 8192       # bytes between the weights being read and those being fetched
_SPINS = 300        # looks at a barrier before the processor is offered to others


# Weights as the code reads them --------------------------------------------------------------


def interleaved(columns: int, lanes: int) -> np.ndarray:
    """The order of a gate's columns: a register of the first half, its fellow of the second.

    So a tile of gates holds, in its two registers, what opens and what passes of the same channels,
    and the activation needs no others.  `matrix[:, interleaved(columns, lanes)]` applies it.
    """
    return np.arange(columns).reshape(2, -1, lanes).swapaxes(0, 1).ravel()


def packed(matrix: np.ndarray, lanes: int) -> np.ndarray:
    """float32 [inputs, outputs] as tiles [outputs / (2 lanes), inputs, 2 lanes]."""
    return matrix.reshape(len(matrix), -1, 2 * lanes).swapaxes(0, 1)


def packed_bytes(matrix: np.ndarray, scale: np.ndarray, lanes: int) -> np.ndarray:
    """int8 [inputs, outputs], a scale for each output: tiles as `packed`, four inputs side by side.

    int8 [outputs / (2 lanes), (inputs + 8) 2 lanes]: each tile ends in its outputs' scales
    (float32) and sums over inputs (int32).
    """
    inputs, tile = len(matrix), 2 * lanes
    sums = matrix.sum(axis=0, dtype=np.int32)
    return np.concatenate([
        matrix.reshape(inputs // 4, 4, -1, tile).transpose(2, 0, 3, 1).reshape(-1, inputs * tile),
        scale.astype(np.float32).reshape(-1, tile).view(np.int8),
        sums.reshape(-1, tile).view(np.int8)], axis=1)


# Code ----------------------------------------------------------------------------------------


def _give_way() -> int:
    """The address of the system's function that lets another thread run."""
    if sys.platform == "win32":
        yielding = ctypes.windll.kernel32.SwitchToThread
    else:
        yielding = ctypes.CDLL(None).sched_yield
    return ctypes.cast(yielding, ctypes.c_void_p).value or 0


class Code:
    """A network's machine code.

    The function `run(state, layers, thread, first, last)` is the way in; every thread calls it, and
    does its share.  `state` and each row of `layers` are pointer tables: numbers and addresses,
    64-bit integers all, by the names in `STATE` and `LAYER`.

    Parameters
    ----------
    processor : Processor
    width : int
        Most inputs of a product of float32; rows to be multiplied lie `pitch` bytes apart.
    bytes_width : int
        Most inputs of a product of bytes; such rows lie `bytes_pitch` bytes apart.

    Attributes
    ----------
    lanes : int
        float32 numbers in a register.
    tile : int
        Columns of a tile: two registers.
    most_rows : int
        Rows that go through a tile in one pass.
    """

    # "barrier", "threads" and "layers" come first in every state.
    STATE: tuple[str, ...]
    LAYER: tuple[str, ...]

    def __init__(self, processor: Processor, width: int, bytes_width: int = 0) -> None:
        self._processor = processor
        self.lanes, self.most_rows, self._dot = processor.lanes, processor.rows, processor.dot
        self.tile = 2 * self.lanes
        # A line more than the numbers, so that rows do not compete for the same places of a cache.
        self.pitch = 4 * width + 64
        self.bytes_pitch = bytes_width + 64
        self.module = ir.Module("network")
        self.module.triple = llvm.get_process_triple()
        self._write_barrier()

    def compile(self) -> None:
        """Turn what has been written into `run`."""
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module = llvm.parse_assembly(str(self.module))
        module.verify()
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            cpu=self._processor.name, features=self._processor.features, opt=3, jit=True)
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.add_global_mapping(module.get_function("give_way"), _give_way())
        self._engine.finalize_object()
        self.run = self.function("run")

    def function(self, name: str) -> Callable:
        """A function of the code.  While it runs, it leaves the interpreter's lock to others."""
        kinds: dict[ir.Type, Any] = {PTR: ctypes.c_void_p, I64: ctypes.c_int64,
                                     F32: ctypes.c_float, F64: ctypes.c_double, VOID: None}
        type = self.module.get_global(name).function_type
        prototype = ctypes.CFUNCTYPE(kinds[type.return_type], *(kinds[one] for one in type.args))
        return prototype(self._engine.get_function_address(name))

    # Products ------------------------------------------------------------------------------------

    def write_product(self, name: str, row_counts: set[int], of_bytes: bool,
                      gates: bool = False) -> None:
        """Write the function `out = max(base + bias + a @ weights, floor)`.

        Its arguments, in order: out, out_pitch, base, base_pitch, bias, bias_pitch, a, scales,
        weights, inputs, rows, first, last, floor.  `out`, `base` and `bias` are float32 [rows,
        columns]; a pitch is the bytes from a row to the next, 0 for one that serves all rows.  `a`
        is [rows, inputs] at the code's own `pitch` or `bytes_pitch`, `weights` what `packed` or
        `packed_bytes` gives; `first` to `last` are the tiles to compute.  `scales` has a row's
        scale (float32) and zero (int32) side by side; null where `a` is float32.

        Within a tile, as many rows at a time as registers hold: a function `{name}_{count}`.

        Parameters
        ----------
        name : str
        row_counts : set of int
            All numbers of rows that will be asked for.
        of_bytes : bool
            Inputs are bytes, a multiple of sixteen of them; else float32, a multiple of four.
        gates : bool
            Columns are `interleaved`; `out` is the activation, half as wide, and `floor` unused.
        """
        counts = {n % self.most_rows for n in row_counts} - {0}
        if max(row_counts) >= self.most_rows:
            counts.add(self.most_rows)
        for count in counts:
            self._write_tile(f"{name}_{count}", count, of_bytes, gates)
        f = Function(self.module, name, PTR, I64, PTR, I64, PTR, I64, PTR, PTR, PTR, I64, I64, I64,
                     I64, F32)
        (out, out_pitch, base, base_pitch, bias, bias_pitch, a, scales, weights, inputs, rows,
         first, last, floor) = f.args
        per_input = self.tile * (1 if of_bytes else 4)
        size = f.times(inputs, per_input)
        if of_bytes:
            size = f.b.add(size, I64(8 * self.tile))
        a_pitch = self.bytes_pitch if of_bytes else self.pitch

        def column(n: ir.Value) -> None:
            def some(r: ir.Value, count: int) -> None:
                def place(pointer: ir.Value, pitch: ir.Value | int, across: int) -> ir.Value:
                    return f.at(f.at(pointer, f.times(r, pitch)), f.times(n, across))
                # two registers of gates become one of results
                f.call(f"{name}_{count}", place(out, out_pitch, 4 * self.tile // (1 + gates)),
                       out_pitch, place(base, base_pitch, 4 * self.tile), base_pitch,
                       place(bias, bias_pitch, 4 * self.tile), bias_pitch, place(a, a_pitch, 0),
                       place(scales, 8, 0), f.at(weights, f.times(n, size)), inputs, floor)

            whole = f.b.sub(rows, f.b.urem(rows, I64(self.most_rows)))
            if self.most_rows in counts:
                f.loop(0, whole, self.most_rows, lambda r: some(r, self.most_rows))
            for count in counts - {self.most_rows}:
                with f.b.if_then(f.b.icmp_signed("==", f.b.sub(rows, whole), I64(count))):
                    some(whole, count)

        f.loop(first, last, 1, column)
        f.b.ret_void()

    def _write_tile(self, name: str, rows: int, of_bytes: bool, gates: bool) -> None:
        """A product's tile for so many rows: the sums of each stay in two registers."""
        f = Function(self.module, name, PTR, I64, PTR, I64, PTR, I64, PTR, PTR, PTR, I64, F32)
        b, lanes = f.b, self.lanes
        (out, out_pitch, base, base_pitch, bias, bias_pitch, a, scales, weights, inputs,
         floor) = f.args

        def start(row: int, half: int) -> ir.Value:
            return b.fadd(*(f.load(ir.VectorType(F32, lanes),
                                   f.at(pointer, f.times(pitch, row) if row else 0),
                                   4 * lanes * half)
                            for pointer, pitch in ((base, base_pitch), (bias, bias_pitch))))

        # Sums are kept as [row][half]; in int8 what they start from is added in the end.
        places = [(row, half) for row in range(rows) for half in range(2)]
        if of_bytes:
            w, *sums = self._multiplied(f, rows, of_bytes, a, weights, inputs,
                                        [wholes(lanes, 0)] * len(places))
            for place, (row, half) in enumerate(places):
                exact, scale = self._dequantised(f, sums[place], scales, w, row, half)
                sums[place] = f.fma(exact, scale, start(row, half))
        else:
            w, *sums = self._multiplied(f, rows, of_bytes, a, weights, inputs,
                                        [start(*place) for place in places])
        for row in range(rows):
            at = f.at(out, f.times(out_pitch, row))
            if gates:
                f.store(self._activation(f, *sums[2 * row:2 * row + 2]), at)
            else:
                for half in range(2):
                    f.store(f.larger(sums[2 * row + half], f.splat(floor, lanes)), at,
                            4 * lanes * half)
        b.ret_void()

    def _multiplied(self, f: Function, rows: int, of_bytes: bool, a: ir.Value, weights: ir.Value,
                    inputs: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        """The loop over a tile's inputs: where its weights end, and the sums."""
        lanes = self.lanes
        if of_bytes:    # four in the place of a float32 number
            kind, pitch, size = ir.VectorType(I32, lanes), self.bytes_pitch, 1
        else:
            kind, pitch, size = ir.VectorType(F32, lanes), self.pitch, 4

        def add(total: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
            return f.call(self._dot, total, x, y, result=kind) if of_bytes else f.fma(x, y, total)

        def turn(i: ir.Value, w: ir.Value, *carried: ir.Value) -> list[ir.Value]:
            sums = list(carried)
            for u in range(_UNROLLED):
                self._prefetch(f, w, 8 * lanes * u)
                halves = [f.load(kind, w, 4 * lanes * (2 * u + half)) for half in range(2)]
                for row in range(rows):
                    x = f.load(kind.element, f.at(a, f.times(i, size)), row * pitch + 4 * u)
                    x = f.splat(x, lanes)
                    for half in range(2):
                        sums[2 * row + half] = add(sums[2 * row + half], x, halves[half])
            return [f.at(w, 8 * lanes * _UNROLLED), *sums]

        return f.loop(0, inputs, _UNROLLED * 4 // size, turn, weights, *sums)

    def _prefetch(self, f: Function, weights: ir.Value, offset: int) -> None:
        """Have memory send the weights of later turns."""
        for line in range(0, 8 * self.lanes, 64):
            f.call("llvm.prefetch.p0", f.at(weights, offset + line + _AHEAD), I32(0), I32(3),
                   I32(1))

    def _dequantised(self, f: Function, total: ir.Value, scales: ir.Value, ends: ir.Value,
                     row: int, half: int) -> tuple[ir.Value, ir.Value]:
        """A sum of products of bytes without the row's zero, and the scale that makes it a number.

        The tile ends in its outputs' scales and sums.
        """
        b, lanes = f.b, self.lanes
        vector, whole = ir.VectorType(F32, lanes), ir.VectorType(I32, lanes)
        scale = f.splat(f.load(F32, scales, 8 * row), lanes)
        zero = f.splat(f.load(I32, scales, 8 * row + 4), lanes)
        column = f.load(whole, ends, 4 * lanes * (2 + half))
        exact = b.sitofp(b.sub(total, b.mul(zero, column)), vector)
        return exact, b.fmul(scale, f.load(vector, ends, 4 * lanes * half))

    def _activation(self, f: Function, opening: ir.Value, content: ir.Value) -> ir.Value:
        """sigmoid(opening) tanh(content), as one fraction of exponentials.

        The same as `_gated` in `synths.nsynth.wavenet`, which the scorer and XNNPACK run.
        """
        b, number = f.b, functools.partial(numbers, self.lanes)
        content = f.larger(f.smaller(content, number(15)), number(-15))     # where tanh is 1
        a, e = f.exp(b.fneg(opening)), f.exp(b.fmul(content, number(-2)))
        return b.fdiv(b.fsub(number(1), e),
                      b.fmul(b.fadd(number(1), a), b.fadd(number(1), e)))

    # Threads -------------------------------------------------------------------------------------

    def _write_barrier(self) -> None:
        """Wait until all threads are here; false if they have been called off.

        `barrier` is three numbers, each on a cache line of its own: how many threads have arrived,
        how often the barrier has opened, and whether all are called off.
        """
        f = Function(self.module, "wait", PTR, I64, result=BIT)
        barrier, threads = f.args
        b = f.b
        opened, off = f.at(barrier, 64), f.at(barrier, 128)
        with b.if_then(b.icmp_signed("==", threads, I64(1))):
            b.ret(BIT(1))
        before_us = b.load_atomic(opened, "acquire", 8, typ=I64)
        arrived = b.atomic_rmw("add", barrier, I64(1), "acq_rel")
        with b.if_then(b.icmp_signed("==", arrived, b.sub(threads, I64(1)))):
            b.atomic_rmw("xchg", barrier, I64(0), "monotonic")
            b.atomic_rmw("add", opened, I64(1), "release")
            b.ret(BIT(1))
        look, done, wait = (b.append_basic_block() for _ in range(3))
        before = b.block
        b.branch(look)
        b.position_at_end(look)
        spins = b.phi(I64)
        spins.add_incoming(I64(0), before)
        open_now = b.icmp_signed("!=", b.load_atomic(opened, "acquire", 8, typ=I64), before_us)
        called_off = b.icmp_signed("!=", b.load_atomic(off, "monotonic", 8, typ=I64), I64(0))
        b.cbranch(b.or_(open_now, called_off), done, wait)
        b.position_at_end(done)
        b.ret(open_now)
        b.position_at_end(wait)
        f.call("llvm.x86.sse2.pause")
        with b.if_then(b.icmp_signed(">", spins, I64(_SPINS))):
            f.call("give_way", result=I32)
        spins.add_incoming(b.add(spins, I64(1)), b.block)
        b.branch(look)


class EntryPoint(Function):
    """The way into a code, `run(state, layers, thread, first, last)`, in the making."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.module, "run", PTR, PTR, I64, I64, I64)
        self._code = code
        self._state, self._table, self._thread, self.first, self.last = self.args
        self._threads = self.state("threads", I64)

    def state(self, name: str, type: ir.Type = PTR) -> ir.Value:
        """Load a field of the shared state."""
        return self.load(type, self._state, 8 * self._code.STATE.index(name))

    def own(self, name: str) -> ir.Value:
        """Load the calling thread's entry of a per-thread pointer table."""
        return self.load(PTR, self.state(name), self.times(self._thread, 8))

    def layer(self, number: ir.Value, name: str, type: ir.Type = PTR) -> ir.Value:
        """Load a field of a layer's row of the pointer table."""
        row = self.at(self._table, self.times(number, 8 * len(self._code.LAYER)))
        return self.load(type, row, 8 * self._code.LAYER.index(name))

    def share(self, n: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The calling thread's part of range(n)."""
        following = self.b.add(self._thread, I64(1))
        return (self.b.sdiv(self.times(self._thread, n), self._threads),
                self.b.sdiv(self.times(following, n), self._threads))

    def barrier(self) -> None:
        """Go on when all threads are here, or return if they were called off."""
        arrived = self.call("wait", self.state("barrier"), self._threads, result=BIT)
        with self.b.if_then(self.b.not_(arrived)):
            self.b.ret_void()
