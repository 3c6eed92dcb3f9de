"""Build small networks as LiteRT models from NumPy arrays, and run them with XNNPACK.

A `Graph` collects tensors and operators and turns them into a LiteRT (TensorFlow Lite) model in
memory.  A `Runner` runs it.  Neither needs TensorFlow or a converter, because the flatbuffer schema
is part of `ai_edge_litert`.  The operators are those of
https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs.

>>> graph = Graph()
>>> x = graph.input([2, 3])
>>> y = graph.fully_connected(x, np.eye(3, dtype=np.float32), np.float32([0, -1, 0]))
>>> graph.output(graph.relu(y))
>>> runner = Runner(graph.build(), threads=1)
>>> runner.inputs[0][:] = [[1, 2, 3], [-4, -5, 6]]
>>> runner.invoke()
>>> runner.outputs[0].tolist()    # a view, valid until the next invoke
[[1.0, 1.0, 3.0], [0.0, 0.0, 6.0]]
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial, partialmethod
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}
_ALIGNMENT = 64
_PLACE = 0x4C5A91D73E000000     # offset placeholder, assumed unique in the flatbuffer


def available_threads() -> int:
    """Return the number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


@dataclass(frozen=True)
class Tensor:
    """A value in a `Graph`: its index and its shape."""

    index: int
    shape: tuple[int, ...]


class Graph:
    """A network under construction.

    Activations are float32, channels last.  Weights come in TensorFlow's layout (matrices
    `[inputs, outputs]`, kernels `[height, width, inputs, outputs]`), float32 or, for
    `fully_connected`, quantised to int8 with one scale per output channel.
    """

    def __init__(self) -> None:
        self._tensors: list[schema.TensorT] = []
        self._values: list[np.ndarray | None] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: dict[tuple[int, int], int] = {}    # index by kind and version
        self._inputs: list[int] = []
        self._outputs: list[int] = []

    # Tensors -------------------------------------------------------------------------------

    def _tensor(self, shape: Sequence[int], dtype: Any = np.float32,
                value: np.ndarray | None = None) -> Tensor:
        table = schema.TensorT()
        table.shape = [int(size) for size in shape]
        table.type = _TYPES[np.dtype(dtype)]
        table.name = f"t{len(self._tensors)}"
        self._tensors.append(table)
        self._values.append(value)
        return Tensor(len(self._tensors) - 1, tuple(table.shape))

    def input(self, shape: Sequence[int]) -> Tensor:
        """Add a float32 input that the caller fills; `Runner.inputs` is in the order of calls."""
        tensor = self._tensor(shape)
        self._inputs.append(tensor.index)
        return tensor

    def output(self, tensor: Tensor) -> None:
        """Mark a tensor as an output; `Runner.outputs` has the order of these calls."""
        self._outputs.append(tensor.index)

    def constant(self, array: Any, scale: np.ndarray | None = None) -> Tensor:
        """Add a constant (float32, int32 or int8), kept by reference until `build` copies it.

        With `scale` [array.shape[0]], the value is `array * scale` along the first axis.
        """
        array = np.asarray(array)
        tensor = self._tensor(array.shape, array.dtype, array)
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.asarray(scale, np.float32).reshape(-1)
            quantization.zeroPoint = np.zeros(quantization.scale.size, np.int64)
            self._tensors[tensor.index].quantization = quantization
        return tensor

    def _integers(self, values: Any) -> Tensor:
        return self.constant(np.array(values, np.int32))

    # Operators -----------------------------------------------------------------------------

    def op(self, kind: str, inputs: Sequence[Tensor], *output_shapes: Sequence[int],
           options: str | None = None, version: int = 1, **fields: Any):
        """Add any operator of the schema, and return its output or outputs.

        `kind` is the name of the operator in `BuiltinOperator`, such as "TANH".  `options` is the
        name of its options table without "Options", such as "Concatenation", and `fields` are the
        fields of this table.  By default, there is one output with the shape of the first input.
        """
        outputs = [self._tensor(shape) for shape in output_shapes or [inputs[0].shape]]
        operator = schema.OperatorT()
        code = (getattr(schema.BuiltinOperator, kind), version)
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs = [tensor.index for tensor in inputs]
        operator.outputs = [tensor.index for tensor in outputs]
        if options is not None:
            operator.builtinOptions = getattr(schema, f"{options}OptionsT")(**fields)
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
        self._operators.append(operator)
        return outputs if len(outputs) > 1 else outputs[0]

    def fully_connected(self, x: Tensor, weights: np.ndarray, bias: np.ndarray | None = None,
                        scale: np.ndarray | None = None) -> Tensor:
        """Add `x @ weights + bias`, with x [rows, inputs] and weights [inputs, outputs].

        With `scale` [outputs], the weights are int8, and every row of x is quantised to int8 at
        run time with its own range.  The sums are exact integers.
        """
        # Every version of the operator accepts a bias of zeros.
        bias = np.zeros(weights.shape[1], np.float32) if bias is None else bias
        inputs = [x, self.constant(weights.T, scale), self.constant(np.asarray(bias, np.float32))]
        return self.op("FULLY_CONNECTED", inputs, (x.shape[0], weights.shape[1]),
                       options="FullyConnected", version=1 if scale is None else 9,
                       asymmetricQuantizeInputs=scale is not None)

    def conv2d(self, x: Tensor, kernel: np.ndarray, bias: np.ndarray,
               dilation: tuple[int, int] = (1, 1), padding: str = "SAME",
               activation: str = "NONE") -> Tensor:
        """Add a convolution with stride 1.

        The input is [batch, height, width, inputs], the kernel [height, width, inputs, outputs].
        `padding` is "SAME" (zeros on all sides) or "VALID"; `activation` is "NONE" or "RELU".
        """
        batch, height, width, _ = x.shape
        if padding == "VALID":
            height -= (kernel.shape[0] - 1) * dilation[0]
            width -= (kernel.shape[1] - 1) * dilation[1]
        inputs = [x, self.constant(kernel.transpose(3, 0, 1, 2)),
                  self.constant(np.asarray(bias, np.float32))]
        return self.op("CONV_2D", inputs, (batch, height, width, kernel.shape[3]),
                       options="Conv2D", padding=getattr(schema.Padding, padding),
                       strideH=1, strideW=1, dilationHFactor=dilation[0],
                       dilationWFactor=dilation[1],
                       fusedActivationFunction=getattr(schema.ActivationFunctionType, activation))

    def _binary(self, kind: str, options: str, a: Tensor, b: Any) -> Tensor:
        """Add an operator on a tensor and another tensor or array, which broadcasts as in NumPy."""
        if not isinstance(b, Tensor):
            b = self.constant(np.asarray(b, np.float32))
        return self.op(kind, [a, b], np.broadcast_shapes(a.shape, b.shape), options=options)

    add = partialmethod(_binary, "ADD", "Add")
    multiply = partialmethod(_binary, "MUL", "Mul")

    def _unary(self, kind: str, x: Tensor) -> Tensor:
        return self.op(kind, [x])

    tanh = partialmethod(_unary, "TANH")
    sigmoid = partialmethod(_unary, "LOGISTIC")
    relu = partialmethod(_unary, "RELU")
    rsqrt = partialmethod(_unary, "RSQRT")
    square = partialmethod(_unary, "SQUARE")

    def leaky_relu(self, x: Tensor, slope: float = 0.2) -> Tensor:
        """Add a leaky ReLU: `x` where it is positive, `slope * x` elsewhere."""
        return self.op("LEAKY_RELU", [x], options="LeakyRelu", alpha=slope)

    def softmax(self, x: Tensor) -> Tensor:
        """Add a softmax over the last axis."""
        return self.op("SOFTMAX", [x], options="Softmax", beta=1.0)

    def mean(self, x: Tensor, axis: int) -> Tensor:
        """Add a mean over an axis, which is kept with size 1."""
        axis %= len(x.shape)
        shape = [1 if i == axis else size for i, size in enumerate(x.shape)]
        return self.op("MEAN", [x, self._integers([axis])], shape,
                       options="Reducer", keepDims=True)

    def resize_nearest(self, x: Tensor, height: int, width: int) -> Tensor:
        """Resize an image [batch, height, width, channels] with the nearest-neighbour method."""
        return self.op("RESIZE_NEAREST_NEIGHBOR", [x, self._integers([height, width])],
                       (x.shape[0], height, width, x.shape[3]), options="ResizeNearestNeighbor")

    def concatenate(self, tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
        """Join tensors along one axis."""
        shape = list(tensors[0].shape)
        axis %= len(shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        return self.op("CONCATENATION", tensors, shape, options="Concatenation", axis=axis)

    def split(self, x: Tensor, parts: int) -> Sequence[Tensor]:
        """Split a tensor into `parts` equal parts along its last axis."""
        shape = [*x.shape[:-1], x.shape[-1] // parts]
        return self.op("SPLIT", [self._integers(len(shape) - 1), x], *[shape] * parts,
                       options="Split", numSplits=parts)

    def slice(self, x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
        """Take the slice that starts at `begin` and has shape `size` (-1: to the end)."""
        size = [x.shape[i] - begin[i] if n == -1 else n for i, n in enumerate(size)]
        return self.op("SLICE", [x, self._integers(begin), self._integers(size)], size,
                       options="Slice")

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Change the shape of a tensor; one size may be -1."""
        shape = np.broadcast_to(0, x.shape).reshape(shape).shape
        return self.op("RESHAPE", [x, self._integers(shape)], shape,
                       options="Reshape", newShape=shape)

    def build(self) -> bytes:
        """Return the model in LiteRT's format; the graph's constants are freed.

        The weights follow the flatbuffer, which refers to them by offset, as the format allows for
        large models.  Each array is copied once, and then freed if nothing else refers to it.
        """
        # Buffer 0 is empty; by convention, it is the buffer of all computed tensors.
        buffers = [schema.BufferT()]
        pieces: list[np.ndarray] = []
        for tensor, value in zip(self._tensors, self._values, strict=True):
            if value is not None:
                tensor.buffer = len(buffers)
                buffer = schema.BufferT()
                buffer.offset = _PLACE + len(pieces)    # until the table's own length is known
                buffer.size = value.nbytes
                buffers.append(buffer)
                pieces.append(value)
        self._values.clear()
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = self._inputs, self._outputs
        model = schema.ModelT()
        model.version = 3
        model.subgraphs, model.buffers, model.operatorCodes = [subgraph], buffers, []
        for kind, version in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = kind
            code.deprecatedBuiltinCode = min(kind, 127)
            code.version = version
            model.operatorCodes.append(code)

        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        head = bytearray(builder.Output())
        end = _aligned(len(head))
        for i, piece in enumerate(pieces):
            place = head.index((_PLACE + i).to_bytes(8, "little"))
            head[place:place + 8] = end.to_bytes(8, "little")
            end = _aligned(end + piece.nbytes)
        file = io.BytesIO()
        file.write(head)
        while pieces:
            file.seek(_aligned(file.tell()))
            file.write(np.ascontiguousarray(pieces.pop(0)).data)
        return file.getvalue()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


# stderr and the warning filters belong to the whole process.  Only one thread at a time may replace
# them; otherwise one thread would restore the temporary settings of another.
_ASIDE = threading.RLock()


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Suppress Python's warnings, and LiteRT's message on stderr that it uses XNNPACK.

    LiteRT has no setting that turns this message off.
    """
    with _ASIDE, warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        with contextlib.suppress(OSError):  # closed, as under pythonw
            stderr = os.dup(2)
            stack.callback(os.close, stderr)
            stack.callback(os.dup2, stderr, 2)
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 2)
        yield


class _View:
    """A NumPy view of LiteRT's memory that keeps its interpreter alive."""

    def __init__(self, array: np.ndarray, owner: Any) -> None:
        self.__array_interface__ = array.__array_interface__
        self.owner = owner


class Runner:
    """A model from `Graph.build`, ready to run on `threads` threads (None: all cores).

    `inputs` and `outputs` are lists of float32 arrays to write to and to read from.  They are views
    of LiteRT's memory, so nothing is copied, and the next `invoke` overwrites the outputs.
    """

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        # Import it here, so that `import synths.engines.litert` stays fast.
        from ai_edge_litert.interpreter import Interpreter

        with silent_stderr():
            interpreter = Interpreter(model_content=model,
                                      num_threads=threads or available_threads())
            interpreter.allocate_tensors()
        # The public interpreter refuses to run while there are views of its memory.
        inner = interpreter._interpreter

        def views(details: list[dict]) -> list[np.ndarray]:
            return [np.asarray(_View(inner.tensor(inner, one["index"], 0), interpreter))
                    for one in details]

        self.inputs = views(interpreter.get_input_details())
        self.outputs = views(interpreter.get_output_details())
        self.invoke = partial(inner.Invoke, 0)
