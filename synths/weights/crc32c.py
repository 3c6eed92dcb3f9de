"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints and of Google Cloud Storage.

A CRC is linear: the remainder of a long message is the exclusive or of the remainders of its
parts, each moved to its place.  So the words of a block are folded in halves, all pairs at once
in NumPy, instead of walked byte by byte in Python.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78    # reflected, as in RFC 3720, appendix B.4
_BLOCK = 1 << 18            # bytes folded at a time: with its tables this stays in the cache


def crc32c(data, crc: int = 0) -> int:
    """CRC-32C of bytes.

    Parameters
    ----------
    data : bytes-like
        The bytes, or any contiguous buffer of them.
    crc : int
        CRC of what went before, so that a stream can be summed piece by piece.

    Returns
    -------
    int
        0 .. 2**32 - 1.
    """
    data = np.frombuffer(data, np.uint8)
    register = crc ^ 0xFFFFFFFF
    for start in range(0, data.size, _BLOCK):
        block = data[start:start + _BLOCK]
        register = _shift_by(register, block.size) ^ _remainder(block)
    return register ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The form in which TensorFlow and LevelDB store a CRC (`crc32c.h`, Mask)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _remainder(block: np.ndarray) -> int:
    """The register after `block`, from a register of zero."""
    size = 4
    while size < block.size:
        size *= 2
    padded = np.zeros(size, np.uint8)     # zeros in front leave a register of zero as it is
    padded[size - block.size:] = block
    words = padded.view("<u4")
    level = 2                             # the earlier word of a pair moves on by 2**level bytes
    while words.size > 1:
        words = _apply(level, words[0::2]) ^ words[1::2]
        level += 1
    return int(_apply(2, words)[0])


def _apply(level: int, words: np.ndarray) -> np.ndarray:
    low, high = _tables(level)
    return low[words & 0xFFFF] ^ high[words >> 16]


def _shift_by(register: int, size: int) -> int:
    """The register after `size` bytes of zero."""
    level = 0
    while size:
        if size & 1:
            register = int(_apply(level, np.array([register], np.uint32))[0])
        size >>= 1
        level += 1
    return register


@cache
def _tables(level: int) -> tuple[np.ndarray, np.ndarray]:
    """What 2**level bytes of zero make of the low and of the high half of a register."""
    columns = _columns(level)
    halves = []
    for half in (columns[:16], columns[16:]):
        table = np.zeros(1, np.uint32)
        for column in half:
            table = np.concatenate([table, table ^ column])
        halves.append(table)
    return halves[0], halves[1]


@cache
def _columns(level: int) -> np.ndarray:
    """The same map as `_tables`, bit by bit."""
    if level == 0:
        columns = np.array([1 << bit for bit in range(32)], np.uint32)
        for _ in range(8):
            columns = (columns >> 1) ^ np.where(columns & 1, _POLYNOMIAL, 0).astype(np.uint32)
        return columns
    return _apply(level - 1, _columns(level - 1))
