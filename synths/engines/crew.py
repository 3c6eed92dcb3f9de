"""The threads that run a network's code together, and the memory that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from synths.engines.kernels import Code

# A field of a pointer table: a number, an array, or an array for each thread.
Field = int | np.ndarray | Sequence[np.ndarray]


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
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

    def __init__(self, code: Code, state: Mapping[str, Field],
                 layers: Sequence[Mapping[str, Field]], threads: int) -> None:
        self._code, self._threads = code, threads
        self._barrier = zeros(3, 8, dtype=np.int64)
        fields: dict[str, Field] = {"barrier": self._barrier, "threads": threads,
                                    "layers": len(layers), **state}
        self._kept: list[Any] = [fields, layers]    # as long as there are addresses of it
        self._state = np.array([self._entry(fields[name]) for name in code.STATE])
        self._layers = np.array([[self._entry(layer[name]) for name in code.LAYER]
                                 for layer in layers])

    def _entry(self, field: Field) -> int:
        """A field's 64 bits: the number itself, or an address."""
        if isinstance(field, int):
            return field
        if isinstance(field, np.ndarray):
            return field.ctypes.data
        table = np.array([self._entry(one) for one in field])
        self._kept.append(table)
        return table.ctypes.data

    def __enter__(self) -> Crew:
        self._barrier[...] = 0
        self._pool = ThreadPoolExecutor(self._threads)
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown()

    def run(self, first: int, last: int) -> None:
        """Run the code from `first` to `last`, on all threads."""
        try:
            for share in [self._pool.submit(self._code.run, self._state.ctypes.data,
                                            self._layers.ctypes.data, thread, first, last)
                          for thread in range(self._threads)]:
                share.result()
        except BaseException:   # Ctrl-C: nobody waits for a thread that was never sent
            self._barrier[2] = 1
            raise
