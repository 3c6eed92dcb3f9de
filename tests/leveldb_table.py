"""Writes what `synths.weights.tensor_bundle` reads, byte by byte, where TensorFlow would not."""

import numpy as np
from google_crc32c import value as crc32c

from synths.weights.tensor_bundle import masked

_MAGIC = 0xDB4775248B80FB57


def varint(number):
    """A number as in LevelDB and protocol buffers: seven bits a byte, the lowest first."""
    out = b""
    while number >= 128:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def table(blocks, kind=0):
    """A table with one block for each of `blocks`, lists of keys and values.

    `kind` is the compression that the blocks claim.
    """
    data = b""

    def block(pairs, kind):
        nonlocal data
        content = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value
                           for key, value in pairs)
        content += (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
        handle = varint(len(data)) + varint(len(content))
        content += bytes([kind])
        data += content + masked(crc32c(content)).to_bytes(4, "little")
        return handle
    handles = [(pairs[-1][0], block(pairs, kind)) for pairs in blocks]
    footer = block([], 0) + block(handles, 0)
    return data + footer.ljust(40, b"\0") + _MAGIC.to_bytes(8, "little")


def checkpoint(variables):
    """Index and data of a checkpoint of float32 arrays."""
    data, pairs = b"", [(b"", b"\x08\x01")]
    for name in sorted(variables):
        raw = np.asarray(variables[name], "<f4").tobytes()
        shape = b"".join(b"\x12" + varint(len(size) + 1) + b"\x08" + size
                         for size in map(varint, np.shape(variables[name])))
        pairs.append((name.encode(), b"\x08\x01\x12" + varint(len(shape)) + shape
                      + b"\x20" + varint(len(data)) + b"\x28" + varint(len(raw))
                      + b"\x35" + masked(crc32c(raw)).to_bytes(4, "little")))
        data += raw
    return table([pairs]), data
