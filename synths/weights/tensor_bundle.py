"""Reads TensorFlow's checkpoints (version 2, "tensor bundles") without TensorFlow.

A checkpoint `model.ckpt-7` is an index, `model.ckpt-7.index`, and the tensors' bytes in one or
more `model.ckpt-7.data-00000-of-00001`.  The index is a sorted table in LevelDB's format (blocks
of prefix-compressed keys, each with a checksum) whose values are small protocol buffers: under
the empty key a `BundleHeaderProto`, under each variable's name a `BundleEntryProto`.

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

import google_crc32c
import numpy as np

from synths import CheckpointError
from synths.files import quoted, shortened

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_NAMES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string",
          8: "complex64", 9: "int64", 10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128",
          19: "float16", 22: "uint32", 23: "uint64"}    # DataType in types.proto
_BFLOAT16 = 14
_VERIFIED = 32 << 20    # bytes

# What an index may ask for; the official NSynth's has 30 kB, 300 names and 4 axes.
_MOST_INDEX = 64 << 20  # bytes of the file
_MOST_KEYS = 32 << 20   # bytes of all names together
_MOST_KEY = 4096        # bytes of one name
_MOST_AXES = 32         # as many as every NumPy takes
_MOST_VARINT = 10       # bytes: 64 bits, seven a byte


@dataclass(frozen=True)
class _Entry:
    """Where one tensor, or one piece of a partitioned one, lies."""

    dtype: int                                      # DataType in types.proto
    shape: tuple[int, ...]
    shard: int
    offset: int                                     # bytes
    size: int                                       # bytes
    crc: int                                        # masked
    slices: tuple[tuple[tuple[int, int], ...], ...]  # per piece and dimension: start, length


def crc32c(data) -> int:
    """CRC-32C (Castagnoli) of any buffer of bytes."""
    return google_crc32c.value(bytes(data))


def masked(crc: int) -> int:
    """The form in which TensorFlow and LevelDB store a CRC (`crc32c.h`, Mask)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def variables(prefix: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type ("float32"; "unknown") and shape of all variables of a checkpoint, by name.

    Raises
    ------
    CheckpointError
        As `shapes`.
    """
    return {name: (_NAMES.get(entry.dtype, "unknown"), entry.shape)
            for name, entry in _index(Path(prefix))[1].items() if not name.startswith("\0")}


def shapes(prefix: str | Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all variables of a checkpoint, by name.

    Parameters
    ----------
    prefix : str or Path
        The checkpoint's files without `.index` and `.data-...`.

    Raises
    ------
    CheckpointError
        The index is missing, cut short or of another format.
    """
    return {name: entry.shape for name, entry in _index(Path(prefix))[1].items()
            if not name.startswith("\0")}


def read(prefix: str | Path, names: Iterable[str], *,
         expected: Mapping[str, tuple[int, ...]] | None = None,
         verify: bool | None = None) -> dict[str, np.ndarray]:
    """Variables of a checkpoint; only the bytes of those asked for are read.

    Parameters
    ----------
    prefix : str or Path
        The checkpoint's files without `.index` and `.data-...`.
    names : iterable of str
        The variables to read.
    expected : mapping of str to tuple of int, optional
        Shapes that must be met, for all or some of the names.
    verify : bool, optional
        Whether to check the tensors' checksums.  None: if they are 32 MB or less together, which
        takes a fraction of a second; the official NSynth weights would take seconds at every
        start, and were checked when they were downloaded.  The index is always checked.

    Returns
    -------
    dict of str to ndarray
        In the variables' own types; bfloat16, which NumPy lacks, as float32.

    Raises
    ------
    CheckpointError
        A variable is not in the checkpoint, not of the expected shape or not of numbers; a file
        is missing, cut short or damaged.
    """
    prefix = Path(prefix)
    shards, index = _index(prefix)
    wanted = {name: _wanted(prefix, name, index, (expected or {}).get(name)) for name in names}
    if verify is None:
        verify = sum(entry.size for pieces in wanted.values() for _, entry in pieces) <= _VERIFIED
    with contextlib.ExitStack() as stack:
        files: dict[int, _Shard] = {}
        for pieces in wanted.values():
            for _, entry in pieces:
                if entry.shard not in files:
                    files[entry.shard] = stack.enter_context(_Shard(prefix, entry.shard, shards))
        return {name: _assembled(name, index[name].shape, pieces, files, verify)
                for name, pieces in wanted.items()}


def _wanted(prefix: Path, name: str, index: Mapping[str, _Entry],
            expected: tuple[int, ...] | None) -> list[tuple[tuple[slice, ...], _Entry]]:
    """The pieces of a variable that must be there, and of the expected shape."""
    if name not in index or name.startswith("\0"):
        raise CheckpointError(
            f"{_index_file(prefix)} has no variable {quoted(name)}: it is a checkpoint of another "
            "model, or of another part of it.")
    shape = index[name].shape
    if expected is not None and tuple(expected) != shape:
        raise CheckpointError(
            f"{_index_file(prefix)}: the variable {quoted(name)} has the shape {list(shape)} where "
            f"{list(expected)} is needed.")
    return _pieces(prefix, name, index)


def _assembled(name: str, shape: tuple[int, ...], pieces: list[tuple[tuple[slice, ...], _Entry]],
               files: Mapping[int, _Shard], verify: bool) -> np.ndarray:
    """A variable, read from the files of its pieces."""
    whole = None
    for place, entry in pieces:
        part = files[entry.shard].read(name, entry, verify)
        if len(pieces) == 1 and part.shape == shape:
            return part
        if whole is None:
            room = sum(file.size() for file in files.values())
            if math.prod(shape) * part.dtype.itemsize > 2 * room:  # bfloat16 doubles when read
                raise CheckpointError(f"The variable {quoted(name)} claims more than the files of "
                                      "its checkpoint hold: fetch or copy it anew.")
            whole = np.empty(shape, part.dtype)
        whole[place] = part
    assert whole is not None  # a variable has pieces
    return whole


def check(prefix: str | Path) -> None:
    """Make sure that a checkpoint's files are whole by their lengths, without reading tensors.

    Raises
    ------
    CheckpointError
        A file is missing, cut short or of another format.
    """
    prefix = Path(prefix)
    shards, index = _index(prefix)
    ends: dict[int, tuple[int, str]] = {}
    for name, entry in index.items():
        if not entry.slices:
            ends[entry.shard] = max(ends.get(entry.shard, (0, "")),
                                    (entry.offset + entry.size, name))
    for shard, (end, name) in ends.items():
        file = _data_file(prefix, shard, shards)
        if not file.is_file():
            raise _missing_data(prefix, file)
        if file.stat().st_size < end:
            raise _cut_short(file, name, end, file.stat().st_size)


def _index(prefix: Path) -> tuple[int, dict[str, _Entry]]:
    """The number of data files, and the entries by name.

    The pieces of partitioned variables stand under keys that begin with a zero byte.
    """
    file = _index_file(prefix)
    try:
        with open(file, "rb") as opened:
            # A read sets aside as many bytes as it is asked for, whatever the file has.
            length = os.fstat(opened.fileno()).st_size
            data = opened.read(min(length, _MOST_INDEX) + 1)
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint {shortened(prefix)}: {shortened(file)} does "
                              "not exist.") from None
    except OSError as error:
        raise CheckpointError(f"{shortened(file)} cannot be read: {error.strerror}.") from None
    if len(data) > _MOST_INDEX:
        raise CheckpointError(f"{shortened(file)} is larger than the index of a checkpoint can be, "
                              f"{_MOST_INDEX >> 20} MB: fetch or copy it anew.")
    try:
        # Latin-1 maps every byte to one character, so that the keys of pieces stay intact.
        table: dict[str, bytes] = {}
        room = _MOST_KEYS
        for key, value in _table(file, data):
            room -= len(key)
            if room < 0:
                raise ValueError("keys too long")
            table[key.decode("latin-1")] = value
        shards = _number_of_shards(file, table.pop("", b""))
        index = {}
        for kept, value in table.items():
            name = kept if kept[:1] == "\0" else kept.encode("latin-1").decode("utf-8")
            index[name] = _entry(value)
    except (IndexError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} is damaged: fetch or copy it anew.") from None
    return shards, index


# The table


def _table(file: Path, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise CheckpointError(
            f"{file} is not the index of a TensorFlow checkpoint, or its end is missing "
            f"({len(data)} bytes found).")
    position = len(data) - _FOOTER
    for _ in range(2):                       # the handle of the meta index, which is not used
        _, position = _varint(data, position)
    done = 0                                 # blocks lie one after the other, each used once
    for _, handle in _block(file, data, data[position:-8]):
        offset, after = _varint(handle, 0)
        if offset < done:
            raise CheckpointError(f"{shortened(file)} is damaged, a part of it is used twice: "
                                  "fetch or copy it anew.")
        done = offset + _varint(handle, after)[0]
        yield from _block(file, data, handle)


def _block(file: Path, data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block to which a handle, offset and size, points."""
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    end = offset + size
    if end + 5 > len(data) - _FOOTER:
        raise CheckpointError(f"{file} is cut short or damaged: fetch or copy it anew.")
    if masked(crc32c(data[offset:end + 1])) != int.from_bytes(data[end + 1:end + 5], "little"):
        raise CheckpointError(
            f"{file} is damaged, its checksum at byte {offset} is wrong: fetch or copy it anew.")
    if data[end] != 0:
        raise CheckpointError(
            f"{file} is compressed, which no TensorFlow since 1.1 writes: load it in TensorFlow "
            "and save it again.")
    block = data[offset:end]
    restarts = int.from_bytes(block[-4:], "little")
    entries_end = size - 4 * (restarts + 1)
    key = b""
    position = 0
    while position < entries_end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or unshared > _MOST_KEY:
            raise ValueError("key too long")
        key = key[:shared] + block[position:position + unshared]
        if len(key) > _MOST_KEY:
            raise ValueError("key too long")
        position += unshared
        yield key, block[position:position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count in range(_MOST_VARINT):
        byte = data[position + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    raise ValueError("number too long")


# The protocol buffers


def _fields(data: bytes) -> dict[int, list]:
    """The fields of a message: numbers as int, messages and strings as bytes."""
    fields: dict[int, list] = {}
    position = 0
    value: int | bytes
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            number, position = _varint(data, position)
            value = number - (1 << 64) if number >= 1 << 63 else number
        elif kind in (1, 2, 5):
            if kind == 2:
                size, position = _varint(data, position)
            else:
                size = 8 if kind == 1 else 4
            text = data[position:position + size]
            if len(text) < size:
                raise ValueError("message cut short")
            value = text if kind == 2 else int.from_bytes(text, "little")
            position += size
        else:
            raise ValueError("no such wire type")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _last(fields: dict[int, list], number: int, default):
    """The value that counts of a field, which must be of the type of its default."""
    value = fields.get(number, [default])[-1]
    if type(value) is not type(default):
        raise ValueError("field of another type")
    return value


def _number_of_shards(file: Path, data: bytes) -> int:
    fields = _fields(data)                    # num_shards, endianness, version
    if not isinstance(fields.get(1, [None])[-1], int):
        raise CheckpointError(
            f"{file} is not a TensorFlow checkpoint of version 2: its table has no header.")
    if _last(fields, 2, 0) != 0:
        raise CheckpointError(
            f"{file} was written on a big-endian machine: load it in TensorFlow and save it "
            "again on a common one.")
    return fields[1][-1]


def _entry(data: bytes) -> _Entry:
    fields = _fields(data)                    # dtype, shape, shard_id, offset, size, crc32c, slices
    shape = []
    for dimension in _fields(_last(fields, 2, b"")).get(2, []):
        shape.append(_last(_fields(dimension), 1, 0))
    if len(shape) > _MOST_AXES:
        raise ValueError("too many axes")
    slices = []
    for piece in fields.get(7, []):
        extents = []
        for extent in _fields(piece).get(1, []):
            extent = _fields(extent)
            extents.append((_last(extent, 1, 0), _last(extent, 2, -1)))   # -1: all of it
        slices.append(tuple(extents))
    dtype, shard, offset, size, crc = (_last(fields, number, 0) for number in (1, 3, 4, 5, 6))
    return _Entry(dtype, tuple(shape), shard, offset, size, crc, tuple(slices))


# The tensors


def _pieces(prefix: Path, name: str,
            index: Mapping[str, _Entry]) -> list[tuple[tuple[slice, ...], _Entry]]:
    """Where the bytes of a variable lie, and what part of it they are."""
    entry = index[name]
    if not entry.slices:
        return [((), entry)]
    # A piece's key is 0, the name, the rank, and start and length of each dimension, in a code
    # that sorts as the numbers do (TensorFlow's `saved_tensor_slice_util.cc`, OrderedCode): the
    # sorted keys are the sorted pieces.
    escaped = name.encode().replace(b"\0", b"\0\xff").replace(b"\xff", b"\xff\0")
    start = "\0" + escaped.decode("latin-1") + "\0\1"
    keys = sorted(key for key in index if key.startswith(start))
    pieces = []
    for key, extents in zip(keys, sorted(entry.slices)):
        place = tuple(slice(first, first + length) if length >= 0 else slice(None)
                      for first, length in extents)
        part = tuple(len(range(*where.indices(size))) for where, size in zip(place, entry.shape))
        if part != index[key].shape:
            break
        pieces.append((place, index[key]))
    if (len(pieces) != len(entry.slices) or len(keys) != len(pieces)
            or sum(math.prod(piece.shape) for _, piece in pieces) != math.prod(entry.shape)):
        raise CheckpointError(
            f"{_index_file(prefix)} lacks pieces of the partitioned variable {quoted(name)}: "
            "fetch or copy it anew.")
    return pieces


class _Shard:
    """One data file."""

    def __init__(self, prefix: Path, shard: int, shards: int):
        self.path = _data_file(prefix, shard, shards)
        try:
            self.file = self.path.open("rb")
        except FileNotFoundError:
            raise _missing_data(prefix, self.path) from None
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}.") from None

    def read(self, name: str, entry: _Entry, verify: bool) -> np.ndarray:
        dtype = _NAMES.get(entry.dtype)
        if dtype in (None, "string"):
            raise CheckpointError(
                f"{self.path}: the variable {quoted(name)} is of the type {dtype or entry.dtype}, "
                "which is not one of numbers.")
        stored = np.dtype("uint16" if entry.dtype == _BFLOAT16 else dtype).newbyteorder("<")
        size = math.prod(entry.shape) * stored.itemsize
        if min(entry.shape, default=0) < 0 or size != entry.size:
            raise CheckpointError(
                f"{self.path}: the variable {quoted(name)} has {entry.size} bytes, not those of "
                f"{dtype} {list(entry.shape)}: the checkpoint is damaged.")
        # Checked before memory is asked for: a damaged entry may claim any size.
        found = self.path.stat().st_size
        if entry.offset < 0 or entry.offset + entry.size > found:
            raise _cut_short(self.path, name, entry.offset + entry.size, found)
        array = np.empty(entry.shape, stored)
        raw = array.reshape(-1).view(np.uint8)
        self.file.seek(entry.offset)
        if self.file.readinto(raw.data) != entry.size:
            raise _cut_short(self.path, name, entry.offset + entry.size, found)
        if verify and masked(crc32c(raw)) != entry.crc:
            raise CheckpointError(
                f"{self.path} is damaged, the checksum of the variable {quoted(name)} is wrong: "
                "fetch or copy it anew.")
        if entry.dtype == _BFLOAT16:
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def size(self) -> int:
        return self.path.stat().st_size

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, *_) -> None:
        self.file.close()


def _index_file(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def _data_file(prefix: Path, shard: int, shards: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def _missing_data(prefix: Path, file: Path) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint {prefix} is not whole: {file.name}, which holds its numbers, is missing "
        "beside its index.")


def _cut_short(file: Path, name: str, needed: int, found: int) -> CheckpointError:
    return CheckpointError(
        f"{file} is cut short: the variable {quoted(name)} needs {needed:,} bytes and there are "
        f"{found:,}: fetch or copy it anew.")
