"""The processors that there is compiled code for."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import llvmlite.binding as llvm


@dataclass(frozen=True)
class Processor:
    """What the code depends on."""

    name: str           # to LLVM
    features: str       # to LLVM
    lanes: int          # float32 numbers in a register
    # Rows of a product in one pass.  Each takes two registers, a tile's weights two and an input
    # one: 15 of AVX2's 16 registers, 27 of AVX-512's 32.  One more would be kept in memory.
    rows: int
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
    *widths : int
        The network's numbers of channels; they are to fill whole tiles.
    dots : bool
        Whether it has products of bytes.
    """
    return next((processor for processor in processors() if (processor.dot or not dots)
                 and not any(width % (2 * processor.lanes) for width in widths)), None)
