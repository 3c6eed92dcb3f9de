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
from functools import partial
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
_ACTIVATIONS = {
    None: schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "tanh": schema.ActivationFunctionType.TANH,
}


def available_threads() -> int:
    """Return the number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


@dataclass(frozen=True)
class Tensor:
    """A value in a `Graph`: its index, its shape and its element type."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype


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
        self._codes: list[tuple[int, int]] = []     # of the operators: kind and version
        self._inputs: list[int] = []
        self._outputs: list[int] = []

    # Tensors -------------------------------------------------------------------------------

    def _tensor(self, shape: Sequence[int], dtype: Any, name: str | None) -> Tensor:
        index = len(self._tensors)
        table = schema.TensorT()
        table.shape = [int(size) for size in shape]
        table.type = _TYPES[np.dtype(dtype)]
        table.name = name or f"t{index}"
        self._tensors.append(table)
        self._values.append(None)
        return Tensor(index, tuple(table.shape), np.dtype(dtype))

    def input(self, shape: Sequence[int], name: str | None = None) -> Tensor:
        """Add a float32 input that the caller fills; `Runner.inputs` has the order of the calls."""
        tensor = self._tensor(shape, np.float32, name)
        self._inputs.append(tensor.index)
        return tensor

    def output(self, tensor: Tensor) -> None:
        """Mark a tensor as an output; `Runner.outputs` has the order of the calls."""
        self._outputs.append(tensor.index)

    def constant(self, array: np.ndarray, scale: np.ndarray | None = None,
                 axis: int = 0) -> Tensor:
        """Add a tensor with a constant value.

        Parameters
        ----------
        array : float32, int32 or int8
            Value, kept by reference until `build` copies it.
        scale : float32 [array.shape[axis]], optional
            Scale of an int8 array: the value is `array * scale` along `axis`.
        """
        array = np.asarray(array)
        tensor = self._tensor(array.shape, array.dtype, None)
        self._values[tensor.index] = array
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.asarray(scale, np.float32).reshape(-1)
            quantization.zeroPoint = np.zeros(quantization.scale.size, np.int64)
            quantization.quantizedDimension = axis
            self._tensors[tensor.index].quantization = quantization
        return tensor

    # Operators -----------------------------------------------------------------------------

    def op(self, kind: str, inputs: Sequence[Tensor], *output_shapes: Sequence[int],
           options: str | None = None, version: int = 1, **fields: Any):
        """Add any operator of the schema.

        Parameters
        ----------
        kind : str
            Name of the operator in `BuiltinOperator`, such as "TANH".
        inputs : sequence of Tensor
        *output_shapes : one shape for each output
        options : str, optional
            Name of the operator's options table without "Options", such as "Concatenation".
        version : int
            Version of the operator.
        **fields
            Fields of the options table.

        Returns
        -------
        Tensor, or a tuple of tensors if there are several output shapes.
        """
        outputs = tuple(self._tensor(shape, np.float32, None) for shape in output_shapes)
        operator = schema.OperatorT()
        self._codes.append((getattr(schema.BuiltinOperator, kind), version))
        operator.inputs = [tensor.index for tensor in inputs]
        operator.outputs = [tensor.index for tensor in outputs]
        if options is not None:
            table = getattr(schema, f"{options}OptionsT")()
            for field, value in fields.items():
                if not hasattr(table, field):
                    raise AttributeError(f"{options}Options has no field {field}")
                setattr(table, field, value)
            operator.builtinOptions = table
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
        self._operators.append(operator)
        return outputs if len(outputs) > 1 else outputs[0]

    def fully_connected(self, x: Tensor, weights: np.ndarray, bias: np.ndarray | None = None,
                        scale: np.ndarray | None = None, activation: str | None = None) -> Tensor:
        """Add `x @ weights + bias`, with x [rows, inputs] and weights [inputs, outputs].

        With `scale` [outputs], the weights are int8, and every row of x is quantised to int8 at
        run time with its own range.  The sums are exact integers.
        """
        rows, n_inputs = x.shape
        if weights.shape[0] != n_inputs:
            raise ValueError(f"{n_inputs} inputs do not fit a matrix of shape {weights.shape}")
        inputs = [x, self.constant(weights.T, scale)]
        # Every version of the operator accepts a bias of zeros.
        bias = np.zeros(weights.shape[1], np.float32) if bias is None else bias
        inputs.append(self.constant(np.asarray(bias, np.float32)))
        return self.op("FULLY_CONNECTED", inputs, (rows, weights.shape[1]),
                       options="FullyConnected", version=1 if scale is None else 9,
                       fusedActivationFunction=_ACTIVATIONS[activation],
                       asymmetricQuantizeInputs=scale is not None)

    def conv2d(self, x: Tensor, kernel: np.ndarray, bias: np.ndarray | None = None,
               dilation: tuple[int, int] = (1, 1), padding: str = "SAME",
               activation: str | None = None) -> Tensor:
        """Add a convolution with stride 1.

        The input is [batch, height, width, inputs], the kernel [height, width, inputs, outputs].
        `padding` is "SAME" (zeros on all sides) or "VALID".
        """
        batch, height, width, n_inputs = x.shape
        if kernel.shape[2] != n_inputs:
            raise ValueError(f"{n_inputs} input channels do not fit a kernel of shape "
                             f"{kernel.shape}")
        if padding == "VALID":
            height -= (kernel.shape[0] - 1) * dilation[0]
            width -= (kernel.shape[1] - 1) * dilation[1]
        bias = np.zeros(kernel.shape[3], np.float32) if bias is None else bias
        inputs = [x, self.constant(kernel.transpose(3, 0, 1, 2)),
                  self.constant(np.asarray(bias, np.float32))]
        return self.op("CONV_2D", inputs, (batch, height, width, kernel.shape[3]),
                       options="Conv2D", padding=getattr(schema.Padding, padding),
                       strideH=1, strideW=1, dilationHFactor=dilation[0],
                       dilationWFactor=dilation[1],
                       fusedActivationFunction=_ACTIVATIONS[activation])

    def _binary(self, kind: str, options: str | None, a: Tensor, b) -> Tensor:
        if not isinstance(b, Tensor):
            b = self.constant(np.asarray(b, np.float32))
        return self.op(kind, [a, b], np.broadcast_shapes(a.shape, b.shape), options=options)

    def add(self, a: Tensor, b) -> Tensor:
        """Add `a + b`, where b is a tensor or an array, broadcast as in NumPy."""
        return self._binary("ADD", "Add", a, b)

    def subtract(self, a: Tensor, b) -> Tensor:
        """Add an operator for `a - b`, where b is a tensor or an array, broadcast as in NumPy."""
        return self._binary("SUB", "Sub", a, b)

    def multiply(self, a: Tensor, b) -> Tensor:
        """Add `a * b`, where b is a tensor or an array, broadcast as in NumPy."""
        return self._binary("MUL", "Mul", a, b)

    def tanh(self, x: Tensor) -> Tensor:
        """Add a hyperbolic tangent."""
        return self.op("TANH", [x], x.shape)

    def sigmoid(self, x: Tensor) -> Tensor:
        """Add a sigmoid, `1 / (1 + exp(-x))`."""
        return self.op("LOGISTIC", [x], x.shape)

    def relu(self, x: Tensor) -> Tensor:
        """Add a ReLU, `max(x, 0)`."""
        return self.op("RELU", [x], x.shape)

    def leaky_relu(self, x: Tensor, slope: float = 0.2) -> Tensor:
        """Add a leaky ReLU: `x` where it is positive, `slope * x` elsewhere."""
        return self.op("LEAKY_RELU", [x], x.shape, options="LeakyRelu", alpha=slope)

    def rsqrt(self, x: Tensor) -> Tensor:
        """Add a reciprocal square root, `1 / sqrt(x)`."""
        return self.op("RSQRT", [x], x.shape)

    def softmax(self, x: Tensor) -> Tensor:
        """Add a softmax over the last axis."""
        return self.op("SOFTMAX", [x], x.shape, options="Softmax", beta=1.0)

    def _reduce(self, kind: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
        axes = sorted(axis % len(x.shape) for axis in axes)
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)
                 if keep or axis not in axes]
        return self.op(kind, [x, self.constant(np.array(axes, np.int32))], shape,
                       options="Reducer", keepDims=keep)

    def mean(self, x: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
        """Add a mean over some axes, which are kept with size 1 if `keep` is true."""
        return self._reduce("MEAN", x, axes, keep)

    def sum(self, x: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
        """Add a sum over some axes, which are kept with size 1 if `keep` is true."""
        return self._reduce("SUM", x, axes, keep)

    def resize_nearest(self, x: Tensor, height: int, width: int) -> Tensor:
        """Scale an image [batch, height, width, channels] by nearest neighbour."""
        size = self.constant(np.array([height, width], np.int32))
        return self.op("RESIZE_NEAREST_NEIGHBOR", [x, size],
                       (x.shape[0], height, width, x.shape[3]), options="ResizeNearestNeighbor")

    def concatenate(self, tensors: Sequence[Tensor], axis: int = -1) -> Tensor:
        """Join tensors along one axis."""
        shape = list(tensors[0].shape)
        axis %= len(shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        return self.op("CONCATENATION", tensors, shape, options="Concatenation", axis=axis)

    def split(self, x: Tensor, parts: int, axis: int = -1) -> tuple[Tensor, ...]:
        """Split a tensor into `parts` equal parts along one axis."""
        axis %= len(x.shape)
        if x.shape[axis] % parts:
            raise ValueError(f"an axis of size {x.shape[axis]} does not divide into {parts} equal "
                             "parts")
        shape = [size // parts if i == axis else size for i, size in enumerate(x.shape)]
        return self.op("SPLIT", [self.constant(np.array(axis, np.int32)), x], *[shape] * parts,
                       options="Split", numSplits=parts)

    def slice(self, x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
        """Take the slice that starts at `begin` and has shape `size` (-1: to the end)."""
        size = [x.shape[i] - begin[i] if n == -1 else n for i, n in enumerate(size)]
        return self.op("SLICE", [x, self.constant(np.array(begin, np.int32)),
                                 self.constant(np.array(size, np.int32))], size, options="Slice")

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Change the shape of a tensor; one size may be -1."""
        shape = [int(size) for size in shape]
        if -1 in shape:
            known = -int(np.prod(shape))
            shape[shape.index(-1)] = int(np.prod(x.shape)) // known
        return self.op("RESHAPE", [x, self.constant(np.array(shape, np.int32))], shape,
                       options="Reshape", newShape=shape)

    def build(self) -> bytes:
        """Return the model in LiteRT's format."""
        return build([self])


def build(graphs: Sequence[Graph]) -> bytes:
    """Return several graphs as one model, for `runners`.

    The weights follow the flatbuffer, which refers to them by offset, as the format allows for
    large models.  Each array is copied once, and then freed if nothing else refers to it.
    """
    model = schema.ModelT()
    model.version = 3
    model.subgraphs = []
    # Buffer 0 is the empty one, by convention the buffer of all computed tensors.
    model.buffers = [schema.BufferT()]
    codes: dict[tuple[int, int], int] = {}
    pieces: list[np.ndarray] = []
    for number, graph in enumerate(graphs):
        if len(graph._values) != len(graph._tensors):
            raise ValueError("a graph can be built only once, because building it frees its "
                             "constants")
        for tensor, value in zip(graph._tensors, graph._values):
            tensor.buffer = 0
            if value is not None:
                tensor.buffer = len(model.buffers)
                buffer = schema.BufferT()
                buffer.offset = _PLACE + len(pieces)    # until the table's own length is known
                buffer.size = value.nbytes
                model.buffers.append(buffer)
                pieces.append(value)
        graph._values.clear()
        for operator, code in zip(graph._operators, graph._codes):
            operator.opcodeIndex = codes.setdefault(code, len(codes))
        subgraph = schema.SubGraphT()
        subgraph.tensors = graph._tensors
        subgraph.operators = graph._operators
        subgraph.inputs = graph._inputs
        subgraph.outputs = graph._outputs
        subgraph.name = f"graph{number}"
        model.subgraphs.append(subgraph)
    model.operatorCodes = []
    for kind, version in codes:
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
    model = io.BytesIO()
    model.write(head)
    while pieces:
        model.seek(_aligned(model.tell()))
        model.write(np.ascontiguousarray(pieces.pop(0)).data)
    return model.getvalue()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


# stderr and the warning filters belong to the whole process.  Only one thread at a time may replace
# them; otherwise one thread would restore the temporary settings of another.
_ASIDE = threading.RLock()


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Suppress LiteRT's message on stderr that it uses XNNPACK, and Python's warnings.

    LiteRT has no setting to turn this message off.
    """
    with _ASIDE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from _stderr_aside()


def _stderr_aside() -> Iterator[None]:
    try:
        stderr = os.dup(2)
    except OSError:  # closed, as under pythonw
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)


class _View:
    """A NumPy view of LiteRT's memory that keeps its runner alive."""

    def __init__(self, array: np.ndarray, owner: Runner) -> None:
        self.__array_interface__ = array.__array_interface__
        self.owner = owner


class Runner:
    """A model ready to run.

    Parameters
    ----------
    model : bytes
        Model from `Graph.build`.
    threads : int, optional
        Number of threads within one `invoke`.  None: all cores of this process.

    Attributes
    ----------
    inputs : list of float32 arrays
        Arrays to write the inputs to.  They are views of LiteRT's memory, so nothing is copied.
    outputs : list of float32 arrays
        Arrays to read the outputs from.  The next `invoke` overwrites them.
    """

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        interpreter = _load(model, threads)
        self._take(interpreter, 0, [d["index"] for d in interpreter.get_input_details()],
                   [d["index"] for d in interpreter.get_output_details()])

    def _take(self, interpreter: Any, subgraph: int, inputs: list[int],
              outputs: list[int]) -> None:
        # The wrapped interpreter can access all subgraphs; the public one only the first.
        inner = interpreter._interpreter
        inner.AllocateTensors(subgraph)

        def view(index: int) -> np.ndarray:
            return np.asarray(_View(inner.tensor(inner, index, subgraph), interpreter))

        self._interpreter = interpreter
        self.inputs = [view(index) for index in inputs]
        self.outputs = [view(index) for index in outputs]
        self.invoke = partial(inner.Invoke, subgraph)


def runners(model: bytes, graphs: Sequence[Graph], threads: int | None = None) -> list[Runner]:
    """Return a runner for each of several graphs that run in turn and share a thread pool.

    `model` is the result of `build` for these graphs.
    """
    interpreter = _load(model, threads)
    result = []
    for number, graph in enumerate(graphs):
        runner = Runner.__new__(Runner)
        runner._take(interpreter, number, graph._inputs, graph._outputs)
        result.append(runner)
    return result


def _load(model: bytes, threads: int | None) -> Any:
    # Import it here, so that `import synths.engines.litert` stays fast.
    from ai_edge_litert.interpreter import Interpreter

    with silent_stderr():
        interpreter = Interpreter(model_content=model,
                                  num_threads=threads or available_threads())
        interpreter.allocate_tensors()
    return interpreter
