"""Machine code for large networks, made by LLVM for the processor at hand.

What libraries of products leave undone is done here: a product takes up to twelve rows in one pass
over its weights, which memory is asked for well ahead; what follows it (bias, activation) happens
while the result is still in registers; threads that share a chain of short products meet at a
barrier of their own.

It is written in LLVM's intermediate representation with llvmlite, on which numba is built.
`synths.nsynth.wavenet_compiled` and `synths.nsynth.wavenet_encoder_compiled` have the networks.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

VOID, PTR, F32, F64 = ir.VoidType(), ir.PointerType(), ir.FloatType(), ir.DoubleType()
BIT, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))

_UNROLLED = 4       # inputs of a product in one turn of its loop; of bytes, fours of inputs
_AHEAD = 8192       # bytes between the weights being read and those being fetched
_PATIENCE = 300     # looks at a barrier before the processor is offered to others
LOWEST = F32(float(np.float32(-3e38)))


@dataclass(frozen=True)
class Processor:
    """What the code depends on."""

    name: str           # to LLVM
    features: str       # to LLVM
    lanes: int          # float32 numbers in a register
    rows: int           # of a product in one pass: two registers hold each
    dot: str            # LLVM's name for the product of bytes; "" if there is none


# LLVM would cut registers of 512 bits in two on processors that clock lower with them.
WIDE_BYTES = Processor("cascadelake", "-prefer-256-bit", 16, 12, "llvm.x86.avx512.vpdpbusd.512")
WIDE = Processor("skylake-avx512", "-prefer-256-bit", 16, 12, "")
NARROW = Processor("haswell", "", 8, 6, "")


@functools.cache
def processors() -> list[Processor]:
    """What code can be written for on this machine, the fastest first."""
    if llvm.get_process_triple().split("-")[0] not in ("x86_64", "amd64"):
        return []
    has = llvm.get_host_cpu_features().get
    wide = all(map(has, ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")))
    narrow = all(map(has, ("avx2", "bmi", "bmi2", "lzcnt", "fma")))
    return [processor for processor, runs in (
        (WIDE_BYTES, narrow and wide and has("avx512vnni")), (WIDE, narrow and wide),
        (NARROW, narrow)) if runs]


def processor(*widths: int, dots: bool = False) -> Processor | None:
    """What to write a network's code for; None where only XNNPACK will do.

    Parameters
    ----------
    widths : int
        The network's numbers of channels; they are to fill whole tiles.
    dots : bool
        Whether it has products of bytes.
    """
    return next((processor for processor in processors() if (processor.dot or not dots)
                 and not any(width % (2 * processor.lanes) for width in widths)), None)


# Weights as the code reads them --------------------------------------------------------------


def interleaved(columns: int, lanes: int) -> np.ndarray:
    """The order of a gate's columns: a register of the first half, its fellow of the second."""
    return np.arange(columns).reshape(2, -1, lanes).swapaxes(0, 1).ravel()


def packed(matrix: np.ndarray, lanes: int) -> np.ndarray:
    """float32 [inputs, outputs] as tiles of two registers' outputs, all inputs of each."""
    return matrix.reshape(len(matrix), -1, 2 * lanes).swapaxes(0, 1)


def packed_bytes(matrix: np.ndarray, scale: np.ndarray, lanes: int) -> np.ndarray:
    """int8 [inputs, outputs], a scale for each output: tiles as `packed`, four inputs side by side.

    Each tile ends in its outputs' scales and sums.
    """
    inputs, tile = len(matrix), 2 * lanes
    sums = matrix.sum(axis=0, dtype=np.int32)
    return np.concatenate([
        matrix.reshape(inputs // 4, 4, -1, tile).transpose(2, 0, 3, 1).reshape(-1, inputs * tile),
        scale.astype(np.float32).reshape(-1, tile).view(np.int8),
        sums.reshape(-1, tile).view(np.int8)], axis=1)


# Code ----------------------------------------------------------------------------------------


class Function:
    """A function in the making: llvmlite's builder and what is needed often."""

    def __init__(self, module: ir.Module, name: str, *types: ir.Type,
                 result: ir.Type = VOID) -> None:
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(result, types), name)
        self.function.attributes.add("noinline")
        self.args = self.function.args
        self.b = ir.IRBuilder(self.function.append_basic_block())

    def call(self, name: str, *args: ir.Value, result: ir.Type = VOID) -> ir.Value:
        """A call of a function of this module, or of LLVM's own."""
        function = self.module.globals.get(name) or ir.Function(
            self.module, ir.FunctionType(result, [x.type for x in args]), name)
        return self.b.call(function, args)

    def at(self, pointer: ir.Value, offset: ir.Value | int) -> ir.Value:
        """An address so many bytes on."""
        offset = I64(offset) if isinstance(offset, int) else offset
        return self.b.gep(pointer, [offset], source_etype=I8)

    def load(self, type: ir.Type, pointer: ir.Value, offset: ir.Value | int = 0) -> ir.Value:
        """What stands so many bytes on."""
        return self.b.load(self.at(pointer, offset), typ=type, align=1 if type is I8 else 4)

    def store(self, value: ir.Value, pointer: ir.Value, offset: ir.Value | int = 0) -> None:
        """Write so many bytes on."""
        self.b.store(value, self.at(pointer, offset), align=1)

    def times(self, value: ir.Value, factor: ir.Value | int) -> ir.Value:
        """A product of whole numbers."""
        return self.b.mul(value, I64(factor) if isinstance(factor, int) else factor)

    def splat(self, value: ir.Value, lanes: int) -> ir.Value:
        """A register full of a number."""
        none = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
        first = self.b.insert_element(none, value, I32(0))
        return self.b.shuffle_vector(first, none, ir.Constant(ir.VectorType(I32, lanes), None))

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """X y + z, rounded once."""
        return self.call(f"llvm.fma.v{x.type.count}f32", x, y, z, result=x.type)

    def larger(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """The larger of two numbers, place by place."""
        return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

    def smaller(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """The smaller of two numbers, place by place."""
        return self.b.select(self.b.fcmp_ordered("<", x, y), x, y)

    def exp(self, x: ir.Value) -> ir.Value:
        """e^x of a register of numbers, to a unit in the last place or two.

        x = n ln 2 + r, and e^r by its series, as |r| < 0.35.
        """
        b, lanes = self.b, x.type.count
        number = functools.partial(numbers, lanes)
        x = self.larger(self.smaller(x, number(88)), number(-87))
        n = self.call(f"llvm.rint.v{lanes}f32", b.fmul(x, number(np.log2(np.e))), result=x.type)
        high = float(np.float32(0.693359375))       # few digits, so that n times it is exact
        r = self.fma(n, number(-high), x)
        r = self.fma(n, number(high - np.log(2)), r)
        series = number(1 / 5040)
        for divisor in (720, 120, 24, 6, 2, 1, 1):
            series = self.fma(series, r, number(1 / divisor))
        whole = b.fptosi(n, ir.VectorType(I32, lanes))
        exponent = b.shl(b.add(whole, wholes(lanes, 127)), wholes(lanes, 23))
        return b.fmul(series, b.bitcast(exponent, x.type))

    def loop(self, start: ir.Value | int, stop: ir.Value | int, step: ir.Value | int,
             body: Callable, *carried: ir.Value) -> list[ir.Value]:
        """`for i in range(start, stop, step): carried = body(i, *carried)`."""
        b = self.b
        start, stop, step = (I64(x) if isinstance(x, int) else x for x in (start, stop, step))
        before = b.block
        head, inside, after = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        i, values = b.phi(I64), [b.phi(x.type) for x in carried]
        b.cbranch(b.icmp_signed("<", i, stop), inside, after)
        b.position_at_end(inside)
        updated = body(i, *values) or ()
        following = b.add(i, step)
        for phi, first, again in zip([i, *values], [start, *carried], [following, *updated]):
            phi.add_incoming(first, before)
            phi.add_incoming(again, b.block)
        b.branch(head)
        b.position_at_end(after)
        return values


def numbers(lanes: int, value: float) -> ir.Constant:
    """A register full of a float32 number that is known now."""
    return ir.Constant(ir.VectorType(F32, lanes), [float(np.float32(value))] * lanes)


def wholes(lanes: int, value: int) -> ir.Constant:
    """A register full of a whole number that is known now."""
    return ir.Constant(ir.VectorType(I32, lanes), [value] * lanes)


def _give_way() -> int:
    """The address of the system's function that lets another thread run."""
    yielding = (ctypes.windll.kernel32.SwitchToThread if os.name == "nt"
                else ctypes.CDLL(None).sched_yield)
    return ctypes.cast(yielding, ctypes.c_void_p).value


class Code:
    """What a network's code is made of.

    The function `run(state, layers, thread, first, last)` is the way in.  `state` and each row of
    `layers` are numbers and addresses, 64-bit integers all, by the names in `STATE` and `LAYER`.
    Every thread calls it, and does its share.

    Parameters
    ----------
    processor : Processor
    width : int
        Most inputs of a product of float32; rows to be multiplied lie `pitch` bytes apart.
    bytes_width : int
        Most inputs of a product of bytes; such rows lie `bytes_pitch` apart.
    """

    # "meeting", "threads" and "layers" come first in every state.
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
        self._write_meeting()

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
        kinds = {PTR: ctypes.c_void_p, I64: ctypes.c_int64, F32: ctypes.c_float,
                 F64: ctypes.c_double, VOID: None}
        type = self.module.get_global(name).function_type
        return ctypes.CFUNCTYPE(*(kinds[one] for one in (type.return_type, *type.args)))(
            self._engine.get_function_address(name))

    # Products ------------------------------------------------------------------------------------

    def write_product(self, name: str, rows: set[int], of_bytes: bool,
                       gates: bool = False) -> None:
        """`out = max(base + bias + a @ weights, floor)`, or the activation of that.

        Some tiles of columns after each other; within a tile, as many rows at a time as registers
        hold.  `rows` are all numbers of them that will be asked for.  Inputs come by four, inputs
        of bytes by sixteen.
        """
        counts = {n % self.most_rows for n in rows} - {0}
        if max(rows) >= self.most_rows:
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
        """A product's tile for so many rows: two registers for each."""
        f = Function(self.module, name, PTR, I64, PTR, I64, PTR, I64, PTR, PTR, PTR, I64, F32)
        b, lanes = f.b, self.lanes
        (out, out_pitch, base, base_pitch, bias, bias_pitch, a, scales, weights, inputs,
         floor) = f.args
        vector, whole = ir.VectorType(F32, lanes), ir.VectorType(I32, lanes)

        def first(row: int, half: int) -> ir.Value:
            return b.fadd(*(f.load(vector, f.at(pointer, f.times(pitch, row) if row else 0),
                                   4 * lanes * half)
                            for pointer, pitch in ((base, base_pitch), (bias, bias_pitch))))

        # Sums are kept as [row][half]; in int8 what they start from is added in the end.
        places = [(row, half) for row in range(rows) for half in range(2)]
        if of_bytes:
            sums = [wholes(lanes, 0)] * len(places)
        else:
            sums = [first(*place) for place in places]

        if of_bytes:    # four in the place of a float32 number
            kind, pitch, size = whole, self.bytes_pitch, 1
        else:
            kind, pitch, size = vector, self.pitch, 4

        def turn(i: ir.Value, w: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            sums = list(sums)
            for u in range(_UNROLLED):
                ahead(w, 8 * lanes * u)
                halves = [f.load(kind, w, 4 * lanes * (2 * u + half)) for half in range(2)]
                for row in range(rows):
                    x = f.load(kind.element, f.at(a, f.times(i, size)), row * pitch + 4 * u)
                    x = f.splat(x, lanes)
                    for half in range(2):
                        sums[2 * row + half] = add(sums[2 * row + half], x, halves[half])
            return [f.at(w, 8 * lanes * _UNROLLED), *sums]

        def add(total: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
            return f.call(self._dot, total, x, y, result=whole) if of_bytes else f.fma(x, y, total)

        def ahead(w: ir.Value, offset: int) -> None:
            """Have memory send the weights of later turns."""
            for line in range(0, 8 * lanes, 64):
                f.call("llvm.prefetch.p0", f.at(w, offset + line + _AHEAD), I32(0), I32(3), I32(1))

        w, *sums = f.loop(0, inputs, _UNROLLED * 4 // size, turn, weights, *sums)
        if of_bytes:
            # The tile ends in its outputs' scales and sums.
            for row, half in places:
                scale = f.splat(f.load(F32, scales, 8 * row), lanes)
                zero = f.splat(f.load(I32, scales, 8 * row + 4), lanes)
                column = f.load(whole, w, 4 * lanes * (2 + half))
                exact = b.sitofp(b.sub(sums[2 * row + half], b.mul(zero, column)), vector)
                both = b.fmul(scale, f.load(vector, w, 4 * lanes * half))
                sums[2 * row + half] = f.fma(exact, both, first(row, half))
        for row in range(rows):
            at = f.at(out, f.times(out_pitch, row))
            if gates:
                f.store(self._activation(f, *sums[2 * row:2 * row + 2]), at)
            else:
                for half in range(2):
                    f.store(f.larger(sums[2 * row + half], f.splat(floor, lanes)), at,
                            4 * lanes * half)
        b.ret_void()

    def _activation(self, f: Function, opening: ir.Value, content: ir.Value) -> ir.Value:
        """sigmoid(opening) tanh(content), as one fraction of exponentials."""
        b, number = f.b, functools.partial(numbers, self.lanes)
        content = f.larger(f.smaller(content, number(15)), number(-15))     # where tanh is 1
        a, e = f.exp(b.fneg(opening)), f.exp(b.fmul(content, number(-2)))
        return b.fdiv(b.fsub(number(1), e),
                      b.fmul(b.fadd(number(1), a), b.fadd(number(1), e)))

    # Threads -------------------------------------------------------------------------------------

    def _write_meeting(self) -> None:
        """Wait until all threads are here; false if they have been called off.

        `meeting` is three numbers, each on a line of its own: how many are here, which meeting it
        is, and whether all are called off.
        """
        f = Function(self.module, "meet", PTR, I64, result=BIT)
        meeting, threads = f.args
        b = f.b
        number, off = f.at(meeting, 64), f.at(meeting, 128)
        with b.if_then(b.icmp_signed("==", threads, I64(1))):
            b.ret(BIT(1))
        this = b.load_atomic(number, "acquire", 8, typ=I64)
        here = b.atomic_rmw("add", meeting, I64(1), "acq_rel")
        with b.if_then(b.icmp_signed("==", here, b.sub(threads, I64(1)))):
            b.atomic_rmw("xchg", meeting, I64(0), "monotonic")
            b.atomic_rmw("add", number, I64(1), "release")
            b.ret(BIT(1))
        look, done, wait = (b.append_basic_block() for _ in range(3))
        before = b.block
        b.branch(look)
        b.position_at_end(look)
        looks = b.phi(I64)
        looks.add_incoming(I64(0), before)
        over = b.icmp_signed("!=", b.load_atomic(number, "acquire", 8, typ=I64), this)
        called_off = b.icmp_signed("!=", b.load_atomic(off, "monotonic", 8, typ=I64), I64(0))
        b.cbranch(b.or_(over, called_off), done, wait)
        b.position_at_end(done)
        b.ret(over)
        b.position_at_end(wait)
        f.call("llvm.x86.sse2.pause")
        with b.if_then(b.icmp_signed(">", looks, I64(_PATIENCE))):
            f.call("give_way", result=I32)
        looks.add_incoming(b.add(looks, I64(1)), b.block)
        b.branch(look)


class Run(Function):
    """The way into a code, `run(state, layers, thread, first, last)`, in the making."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.module, "run", PTR, PTR, I64, I64, I64)
        self._code = code
        self._state, self._table, self._thread, self.first, self.last = self.args
        self._threads = self.get("threads", I64)

    def get(self, name: str, type: ir.Type = PTR) -> ir.Value:
        """Of the state."""
        return self.load(type, self._state, 8 * self._code.STATE.index(name))

    def own(self, name: str) -> ir.Value:
        """This thread's of addresses, one for each."""
        return self.load(PTR, self.get(name), self.times(self._thread, 8))

    def of(self, layer: ir.Value, name: str, type: ir.Type = PTR) -> ir.Value:
        """Of a layer's numbers and addresses."""
        entry = self.at(self._table, self.times(layer, 8 * len(self._code.LAYER)))
        return self.load(type, entry, 8 * self._code.LAYER.index(name))

    def share(self, n: ir.Value) -> tuple[ir.Value, ir.Value]:
        """This thread's part of range(n)."""
        following = self.b.add(self._thread, I64(1))
        return (self.b.sdiv(self.times(self._thread, n), self._threads),
                self.b.sdiv(self.times(following, n), self._threads))

    def meet(self) -> None:
        """Go on when all threads are here, or return if they were called off."""
        arrived = self.call("meet", self.get("meeting"), self._threads, result=BIT)
        with self.b.if_then(self.b.not_(arrived)):
            self.b.ret_void()


# Memory and threads --------------------------------------------------------------------------


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """An array that begins with a line of the cache."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin:begin + size].view(dtype).reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins with a line of the cache."""
    copy = zeros(*array.shape, dtype=array.dtype)
    copy[...] = array
    return copy


class Crew:
    """Threads that run a code together; a context, outside of which there are none.

    Parameters
    ----------
    code : Code
    state : mapping
        What the code's `STATE` names, but for what the crew brings itself: numbers, arrays, and
        lists of arrays, one for each thread.
    layers : sequence of mapping
        What its `LAYER` names.
    threads : int
    """

    def __init__(self, code: Code, state: Mapping[str, int | np.ndarray | Sequence[np.ndarray]],
                 layers: Sequence[Mapping[str, int | np.ndarray]], threads: int) -> None:
        self._code, self._threads = code, threads
        self._meeting = zeros(3, 8, dtype=np.int64)
        state = {"meeting": self._meeting, "threads": threads, "layers": len(layers)} | dict(state)
        self._kept = [state, layers]    # as long as there are addresses of it

        def number(value: int | np.ndarray | Sequence[np.ndarray]) -> int:
            if isinstance(value, list):
                value = np.array([number(one) for one in value])
                self._kept.append(value)
            return value if isinstance(value, int) else value.ctypes.data

        self._state = np.array([number(state[name]) for name in code.STATE])
        self._layers = np.array([[number(layer[name]) for name in code.LAYER] for layer in layers])

    def __enter__(self) -> Crew:
        self._meeting[...] = 0
        self._pool = ThreadPoolExecutor(self._threads)
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown()

    def run(self, first: int, last: int) -> None:
        """The code from `first` to `last`, on all threads."""
        try:
            for share in [self._pool.submit(self._code.run, self._state.ctypes.data,
                                            self._layers.ctypes.data, thread, first, last)
                          for thread in range(self._threads)]:
                share.result()
        except BaseException:   # Ctrl-C: nobody waits for a thread that was never sent
            self._meeting[2] = 1
            raise
