"""LLVM's intermediate representation, written with llvmlite: a function in the making."""

from __future__ import annotations

import functools
from collections.abc import Callable

import llvmlite.ir as ir
import numpy as np

VOID, PTR, F32, F64 = ir.VoidType(), ir.PointerType(), ir.FloatType(), ir.DoubleType()
BIT, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
LOWEST = F32(float(np.float32(-3e38)))


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
