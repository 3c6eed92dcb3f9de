"""Read TensorFlow checkpoints (version 2, "tensor bundles") without TensorFlow.

A checkpoint `model.ckpt-7` has an index, `model.ckpt-7.index`, and one or more data files,
`model.ckpt-7.data-00000-of-00001`, with the bytes of the tensors.  The index is a sorted table in
LevelDB's format: blocks of prefix-compressed keys, each with a checksum.  Its values are small
protocol buffers.  The empty key has a `BundleHeaderProto`, each variable name a `BundleEntryProto`.

Source: TensorFlow's `tensor_bundle.h`, `tensor_bundle.proto`, `tensor_slice.proto`, and LevelDB's
`doc/table_format.md`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from synths import CheckpointError

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_DTYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string",
           8: "complex64", 9: "int64", 10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128",
           19: "float16", 22: "uint32", 23: "uint64"}  # DataType in types.proto
_VERIFIED = 32 << 20  # bytes; larger models would take seconds, and were verified when downloaded
_MOST_AXES = 32  # limit of NumPy 1


@dataclass(frozen=True)
class _Entry:
    """The location of a tensor, or of one piece of a partitioned tensor."""

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int  # bytes
    size: int  # bytes
    crc: int  # masked
    slices: tuple[tuple[tuple[int, int], ...], ...]  # per piece and axis: start, length


def masked(crc: int) -> int:
    """Return a CRC in the masked form that TensorFlow and LevelDB store (`crc32c.h`, Mask)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def variables(prefix: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the type (such as "float32") and shape of every variable of a checkpoint, by name."""
    with _explained(Path(prefix)):
        return {key.decode(): (entry.dtype, entry.shape)
                for key, entry in _index(Path(prefix))[1].items() if key[:1] != b"\0"}


def shapes(prefix: str | Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every variable of a checkpoint, by name."""
    return {name: shape for name, (_, shape) in variables(prefix).items()}


def read(prefix: str | Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read some variables of a checkpoint, without reading the rest of the data files.

    The arrays keep the types that the checkpoint stores, except that bfloat16 becomes float32.
    """
    prefix, names = Path(prefix), list(names)
    with _explained(prefix), contextlib.ExitStack() as stack:
        shards, index = _index(prefix)
        for name in names:
            if name.encode() not in index:
                raise CheckpointError(f"The checkpoint {prefix} has no variable {name}: it belongs "
                                      "to another model.")
        pieces = {name: _pieces(name.encode(), index) for name in names}
        entries = [entry for parts in pieces.values() for _, entry in parts]
        verify = sum(entry.size for entry in entries) <= _VERIFIED
        files = {shard: stack.enter_context(open(_data_file(prefix, shard, shards), "rb"))
                 for shard in {entry.shard for entry in entries}}
        arrays = {}
        for name, parts in pieces.items():
            read = [(where, _tensor(files[entry.shard], name, entry, verify))
                    for where, entry in parts]
            arrays[name] = read[0][1]
            if index[name.encode()].slices:
                arrays[name] = np.empty(index[name.encode()].shape, read[0][1].dtype)
                for where, part in read:
                    arrays[name][where] = part
        return arrays


def check(prefix: str | Path) -> None:
    """Check that a checkpoint's files have their full lengths, without reading tensors."""
    prefix = Path(prefix)
    with _explained(prefix):
        shards, index = _index(prefix)
        entries = [entry for entry in index.values() if not entry.slices]
        for shard in {entry.shard for entry in entries}:
            file = _data_file(prefix, shard, shards)
            end = max(entry.offset + entry.size for entry in entries if entry.shard == shard)
            if os.stat(file).st_size < end:
                raise ValueError(f"{file.name} is cut short")


@contextlib.contextmanager
def _explained(prefix: Path) -> Iterator[None]:
    """Turn the errors that damaged files cause into a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"The checkpoint {prefix} is incomplete, because "
                              f"{Path(error.filename).name} is missing: download or copy it "
                              "again.") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = f" ({error})" if type(error) is ValueError else ""
        raise CheckpointError(f"The checkpoint {prefix} is damaged, or is not a TensorFlow "
                              f"version 2 checkpoint{reason}: download or copy it again.") from None


def _data_file(prefix: Path, shard: int, shards: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def _index(prefix: Path) -> tuple[int, dict[bytes, _Entry]]:
    """Return the number of data files, and the entries by name.

    The keys of the pieces of partitioned variables begin with a zero byte.
    """
    table = dict(_table(prefix.with_name(f"{prefix.name}.index").read_bytes()))
    header = _fields(table.pop(b""))  # num_shards, endianness, version
    if _last(header, 2, 0):
        raise ValueError("it is big-endian")
    return _last(header, 1, 0), {key: _entry(value) for key, value in table.items()}


# The table


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise ValueError("its index has no end mark")
    position = len(data) - _FOOTER
    for _ in range(2):  # the handle of the meta index, which is not used
        _, position = _varint(data, position)
    for _, handle in _block(data, data[position:-8]):
        yield from _block(data, handle)


def _block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block, given its handle (offset and size)."""
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    end = offset + size
    crc = int.from_bytes(data[end + 1:end + 5], "little")
    if end + 5 > len(data) - _FOOTER or masked(google_crc32c.value(data[offset:end + 1])) != crc:
        raise ValueError("a checksum of its index is wrong")
    if data[end] != 0:
        raise ValueError("its index is compressed")
    block = data[offset:end]
    entries_end = size - 4 * (int.from_bytes(block[-4:], "little") + 1)  # restarts follow
    key, position = b"", 0
    while position < entries_end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position:position + unshared]
        position += unshared
        yield key, block[position:position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count in range(10):  # 64 bits, seven per byte
        byte = data[position + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    raise ValueError("a number in its index is too long")


# The protocol buffers


def _fields(data: bytes) -> dict[int, list]:
    """Return the fields of a message: numbers as int, messages and strings as bytes."""
    fields: dict[int, list] = {}
    position = 0
    value: int | bytes
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            number, position = _varint(data, position)
            value = number - (1 << 64) if number >= 1 << 63 else number
        else:
            size, position = _varint(data, position) if kind == 2 else (
                {1: 8, 5: 4}[kind], position)
            text = data[position:position + size]
            if len(text) < size:
                raise ValueError("a message in its index is cut short")
            value = text if kind == 2 else int.from_bytes(text, "little")
            position += size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _last(fields: Mapping[int, list], number: int, default):
    """Return the last value of a field, which overrides earlier ones; its type must be right."""
    value = fields.get(number, [default])[-1]
    if type(value) is not type(default):
        raise ValueError("a field in its index has the wrong type")
    return value


def _entry(data: bytes) -> _Entry:
    fields = _fields(data)  # dtype, shape, shard_id, offset, size, crc32c, slices
    shape = [_last(_fields(axis), 1, 0) for axis in _fields(_last(fields, 2, b"")).get(2, [])]
    if len(shape) > _MOST_AXES or min(shape, default=0) < 0:
        raise ValueError("a shape in its index is invalid")
    slices = tuple(tuple((_last(extent, 1, 0), _last(extent, 2, -1))  # -1: the whole axis
                         for extent in map(_fields, _fields(piece).get(1, [])))
                   for piece in fields.get(7, []))
    dtype, shard, offset, size, crc = (_last(fields, number, 0) for number in (1, 3, 4, 5, 6))
    return _Entry(_DTYPES.get(dtype, "unknown"), tuple(shape), shard, offset, size, crc, slices)


# The tensors


def _pieces(key: bytes, index: Mapping[bytes, _Entry]) -> list[tuple[tuple[slice, ...], _Entry]]:
    """Return the entries of a variable's pieces, each with its slices of the variable."""
    entry = index[key]
    if not entry.slices:
        return [((), entry)]
    # A piece's key is 0, the name, the rank, and the start and length of each axis, in an encoding
    # that preserves their order (TensorFlow's `saved_tensor_slice_util.cc`).  The sorted keys
    # therefore match the sorted pieces.
    keys = sorted(name for name in index if name.startswith(b"\0" + key + b"\0\1"))
    pieces = [(tuple(slice(first, first + length) if length >= 0 else slice(None)
                     for first, length in extents), index[name])
              for extents, name in zip(sorted(entry.slices), keys, strict=True)]
    if sum(math.prod(piece.shape) for _, piece in pieces) != math.prod(entry.shape):
        raise ValueError(f"pieces of the variable {key.decode()} are missing")
    return pieces


def _tensor(file: BinaryIO, name: str, entry: _Entry, verify: bool) -> np.ndarray:
    if entry.dtype in ("string", "unknown"):
        raise ValueError(f"the variable {name} is not numeric")
    bfloat16 = entry.dtype == "bfloat16"
    stored = np.dtype("uint16" if bfloat16 else entry.dtype).newbyteorder("<")
    # Check this before allocating memory, since a damaged entry may state any size.
    if math.prod(entry.shape) * stored.itemsize != entry.size or not (
            0 <= entry.offset <= os.fstat(file.fileno()).st_size - entry.size):
        raise ValueError(f"the variable {name} is cut short")
    file.seek(entry.offset)
    array = np.fromfile(file, stored, math.prod(entry.shape)).reshape(entry.shape)
    if verify and masked(google_crc32c.value(array.tobytes())) != entry.crc:
        raise ValueError(f"the checksum of the variable {name} is wrong")
    if bfloat16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
