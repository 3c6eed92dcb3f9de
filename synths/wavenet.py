"""The decoder of NSynth's WaveNet autoencoder: from encodings to mu-law codes, and back to odds.

The network is Magenta's `h512_bo16.FastGenerationConfig` (Engel et al., "Neural Audio Synthesis
of Musical Notes with WaveNet Autoencoders", 2017), for any widths and number of layers.

One step of it reads every layer at three moments: now (t), and t - d and t - 2d, where d is the
layer's dilation.  The two older ones are known up to d steps ahead, so their product with the
weights is computed for a whole block of steps at once; a step is left with the present, a third
of the work.  The conditioning is computed once per frame of 512 samples.  The products themselves
are XNNPACK's (`synths.litert`), in float32, or in int8 with one scale per output channel and per
row of activations.

A row of a product never depends on the rows beside it, so a clip's samples are the same alone, in
a batch, and in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synths import CheckpointError, checkpoints
from synths.litert import Graph, Runner, Tensor

HOP_LENGTH = 512    # samples per frame of an encoding
STAGES = 10         # dilations 1, 2, ... 512, over and over
CODES = 256         # mu-law codes 0..255 stand for -128..127

# How many rows the product of a block of past moments should have, clips times steps: enough to
# keep the arithmetic units busy, and little enough to stay in the cache.
_BLOCK_ROWS = 384
# Outputs per matrix in float32: this many columns of weights stay in the second-level cache while
# all clips go through them, instead of coming from memory again for every few clips.
_TILE = 128
# Clips at once: the memory of the past moments of one more would do more harm than good.
_MEMORY = 160 << 20     # bytes
_MOST_CLIPS = 64
# From this width on int8 is faster than float32.
INT8_WIDTH = 128


@dataclass
class Layer:
    """One residual block; matrices are [inputs, outputs]."""

    dilation: int                   # steps
    taps: np.ndarray                # [3, width, 2 width]: t - 2d, t - d, t
    bias: np.ndarray                # [2 width]
    cond: np.ndarray                # [channels of the encoding, 2 width]
    cond_bias: np.ndarray           # [2 width]
    res: np.ndarray                 # [width, width]
    res_bias: np.ndarray
    skip: np.ndarray                # [width, skip width]
    skip_bias: np.ndarray


@dataclass
class Weights:
    """The decoder's variables, float32, under Magenta's names in their order."""

    start: np.ndarray               # [3, width]
    start_bias: np.ndarray
    skip_start: np.ndarray          # [width, skip width]
    skip_start_bias: np.ndarray
    out1: np.ndarray                # [skip width, skip width]
    out1_bias: np.ndarray
    cond_out1: np.ndarray           # [channels of the encoding, skip width]
    cond_out1_bias: np.ndarray
    logits: np.ndarray              # [skip width, 256]
    logits_bias: np.ndarray
    layers: list[Layer] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Channels of the residual path."""
        return self.start.shape[1]

    @property
    def skip_width(self) -> int:
        """Channels of the skip path."""
        return self.skip_start.shape[1]

    @property
    def channels(self) -> int:
        """Channels of an encoding."""
        return self.cond_out1.shape[0]


def load(prefix: Path) -> Weights:
    """Read the decoder's variables.

    As Magenta's `fastgen` does, the variables themselves are read, not their moving averages.

    Parameters
    ----------
    prefix : Path
        From `checkpoints.find` or `checkpoints.resolve`.

    Raises
    ------
    CheckpointError
        A variable is missing or its shape does not fit the others'.
    """
    shapes = checkpoints.shapes(prefix)
    n_layers = count_layers(shapes, "dilatedconv_")
    names = ["startconv", "skip_start", "out1", "cond_map_out1", "logits"]
    for i in range(1, n_layers + 1):
        names += [f"dilatedconv_{i}", f"cond_map_{i}", f"res_{i}", f"skip_{i}"]
    expected = {}
    if n_layers and all(len(shapes.get(f"{name}/W", ())) == 4 for name in names[:4]):
        width = shapes["startconv/W"][3]
        skip = shapes["skip_start/W"][3]
        channels = shapes["cond_map_out1/W"][2]
        expected = {"startconv": (1, 3, 1, width), "skip_start": (1, 1, width, skip),
                    "out1": (1, 1, skip, skip), "cond_map_out1": (1, 1, channels, skip),
                    "logits": (1, 1, skip, CODES)}
        for i in range(1, n_layers + 1):
            expected[f"dilatedconv_{i}"] = (1, 3, width, 2 * width)
            expected[f"cond_map_{i}"] = (1, 1, channels, 2 * width)
            expected[f"res_{i}"] = (1, 1, width, width)
            expected[f"skip_{i}"] = (1, 1, width, skip)
    variables = read_layers(prefix, shapes, names, expected)

    def matrix(name: str) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = variables[name]
        return kernel.reshape(kernel.shape[-2:]), bias

    start, start_bias = variables["startconv"]
    weights = Weights(start.reshape(3, -1), start_bias, *matrix("skip_start"), *matrix("out1"),
                      *matrix("cond_map_out1"), *matrix("logits"))
    for i in range(1, n_layers + 1):
        taps, bias = variables[f"dilatedconv_{i}"]
        weights.layers.append(Layer(2 ** ((i - 1) % STAGES), taps[0], bias,
                                    *matrix(f"cond_map_{i}"), *matrix(f"res_{i}"),
                                    *matrix(f"skip_{i}")))
    return weights


def count_layers(shapes: dict[str, tuple[int, ...]], scope: str) -> int:
    """How many layers `<scope>1`, `<scope>2`, ... a checkpoint has."""
    n = 0
    while f"{scope}{n + 1}/W" in shapes:
        n += 1
    return n


def read_layers(prefix: Path, shapes: dict[str, tuple[int, ...]], names: list[str],
                expected: dict[str, tuple[int, ...]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of layers, after a look at their shapes.

    Raises
    ------
    CheckpointError
        A variable is missing, or its shape is not `expected` for its layer.
    """
    for name in names:
        for variable in (f"{name}/W", f"{name}/biases"):
            if variable not in shapes:
                raise CheckpointError(f"The checkpoint {prefix} lacks the variable {variable}: "
                                      "it is not of NSynth's WaveNet autoencoder.")
        for variable, shape in ((f"{name}/W", expected.get(name)),
                                (f"{name}/biases", expected.get(name, ())[-1:])):
            if shape != shapes[variable]:
                raise CheckpointError(
                    f"The variable {variable} of the checkpoint {prefix} has shape "
                    f"{shapes[variable]}, and its neighbours ask for {shape}.")
    arrays = checkpoints.read(prefix, [f"{name}/{part}" for name in names
                                       for part in ("W", "biases")])
    return {name: (arrays[f"{name}/W"], arrays[f"{name}/biases"]) for name in names}


# Parts of the network ------------------------------------------------------------------------


def _quantise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix [inputs, outputs] as int8 and one scale for each output channel."""
    scale = np.abs(matrix).max(axis=0) / np.float32(127)
    scale[scale == 0] = 1
    return np.rint(matrix / scale).astype(np.int8), scale


def _product(graph: Graph, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None,
             precision: str) -> Tensor:
    """`x @ matrix + bias`, one of the products that the network's time goes into."""
    if precision == "int8":
        codes, scale = _quantise(matrix)
        return graph.fully_connected(x, codes, bias, scale=scale)
    n = matrix.shape[1]
    if n <= _TILE or n % _TILE:
        return graph.fully_connected(x, matrix, bias)
    return graph.concatenate([
        graph.fully_connected(x, matrix[:, i:i + _TILE],
                              None if bias is None else bias[i:i + _TILE])
        for i in range(0, n, _TILE)])


def _past(graph: Graph, layer: Layer, older: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """What t - 2d and t - d, side by side in `older`, add to a layer's two gates."""
    width = layer.res.shape[0]
    taps = layer.taps[:2].reshape(2 * width, 2 * width)
    both = _product(graph, older, taps, layer.bias, precision)
    return graph.split(both, 2)


def _gates(graph: Graph, layer: Layer, x: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """What t itself adds to a layer's two gates."""
    both = _product(graph, x, layer.taps[2], None, precision)
    return graph.split(both, 2)


def _residual(graph: Graph, layer: Layer, x: Tensor, skips: Tensor, gates: list[Tensor],
              precision: str, last: bool) -> tuple[Tensor, Tensor]:
    """Through a layer's gates to the next layer's input and the sum of skips."""
    gated = graph.multiply(graph.sigmoid(gates[0]), graph.tanh(gates[1]))
    skips = graph.add(skips, _product(graph, gated, layer.skip, layer.skip_bias, precision))
    if not last:
        x = graph.add(x, _product(graph, gated, layer.res, layer.res_bias, precision))
    return x, skips


def _odds(graph: Graph, weights: Weights, skips: Tensor, condition: Tensor,
          temperature: float) -> Tensor:
    """From the sum of skips to the probabilities of the 256 codes."""
    s = graph.fully_connected(graph.relu(skips), weights.out1, weights.out1_bias)
    s = graph.relu(graph.add(s, condition))
    heat = np.float32(1 / temperature)
    return graph.softmax(graph.fully_connected(s, weights.logits * heat,
                                               weights.logits_bias * heat))


class Conditioning:
    """What an encoding adds to every layer, for one frame of all clips."""

    def __init__(self, weights: Weights, batch: int, threads: int) -> None:
        graph = Graph()
        encoding = graph.input([batch, weights.channels])
        for layer in weights.layers:
            width = layer.res.shape[0]
            for half in (slice(0, width), slice(width, None)):
                graph.output(graph.fully_connected(encoding, layer.cond[:, half],
                                                   layer.cond_bias[half]))
        graph.output(graph.fully_connected(encoding, weights.cond_out1, weights.cond_out1_bias))
        self._runner = Runner(graph.build(), threads)

    def __call__(self, encoding: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """From an encoding [batch, channels] to both gates' terms per layer, and the output's."""
        self._runner.inputs[0][:] = encoding
        self._runner.invoke()
        return self._runner.outputs[:-1], self._runner.outputs[-1]


def groups(weights: Weights, batch: int) -> list[slice]:
    """Cut a batch into groups of clips of nearly the same size, each to be decoded at once."""
    per_clip = sum(2 * layer.dilation for layer in weights.layers) * weights.width * 4
    most = min(max(_MEMORY // per_clip, 1), _MOST_CLIPS)
    n = -(-batch // most)
    edges = [batch * i // n for i in range(n + 1)]
    return [slice(start, stop) for start, stop in zip(edges, edges[1:])]


# Generation ----------------------------------------------------------------------------------


class _Delay:
    """A layer's memory of its own input, and the products of what lies in the past.

    Steps go through `push`; at every `block`-th step, `advance` computes what the moments t - 2d
    and t - d add to the gates for the next `block` steps.
    """

    def __init__(self, layer: Layer, batch: int, precision: str, threads: int) -> None:
        self.dilation = layer.dilation
        width = layer.res.shape[0]
        # A ring of the last 2d inputs.
        self.ring = np.zeros([2 * layer.dilation, batch, width], np.float32)
        rows = max(_BLOCK_ROWS // batch, 4)
        self.block = min(layer.dilation, HOP_LENGTH, 1 << (rows.bit_length() - 1))
        graph = Graph()
        older = graph.input([self.block * batch, 2 * width])
        gates = _past(graph, layer, older, precision)
        for gate in gates:
            # One frame's conditioning serves all steps of the block: blocks divide frames.
            condition = graph.input([1, batch, width])
            gate = graph.reshape(gate, [self.block, batch, width])
            graph.output(graph.add(gate, condition))
        runner = Runner(graph.build(), threads)
        self._invoke = runner.invoke
        both = runner.inputs[0].reshape(self.block, batch, 2, width)
        self._older, self._newer = both[:, :, 0], both[:, :, 1]
        self.conditions = runner.inputs[1:]
        self.gates = runner.outputs

    def advance(self, t: int) -> None:
        oldest = t % (2 * self.dilation)
        newer = (t + self.dilation) % (2 * self.dilation)
        self._older[:] = self.ring[oldest:oldest + self.block]
        self._newer[:] = self.ring[newer:newer + self.block]
        self._invoke()


class Decoder:
    """The network set up to generate a fixed number of clips side by side.

    Parameters
    ----------
    weights : Weights
    batch : int
        Clips.
    precision : str
        "float32" or "int8".
    temperature : float
        Above 0; the logits are divided by it.
    threads : int
        Threads within a step.
    """

    def __init__(self, weights: Weights, batch: int, precision: str = "float32",
                 temperature: float = 1.0, threads: int = 1) -> None:
        self.batch = batch
        width = weights.width
        self._conditioning = Conditioning(weights, batch, 1)
        self._delays = [_Delay(layer, batch, precision, threads) for layer in weights.layers]

        graph = Graph()
        recent = graph.input([batch, 3])
        condition = graph.input([batch, weights.skip_width])
        x = graph.fully_connected(recent, weights.start, weights.start_bias)
        skips = graph.fully_connected(x, weights.skip_start, weights.skip_start_bias)
        inputs = []
        for layer in weights.layers:
            last = layer is weights.layers[-1]
            inputs.append(x)
            past = [graph.input([batch, width]) for _ in range(2)]
            gates = [graph.add(now, then)
                     for now, then in zip(_gates(graph, layer, x, precision), past)]
            x, skips = _residual(graph, layer, x, skips, gates, precision, last)
        graph.output(_odds(graph, weights, skips, condition, temperature))
        for x in inputs:
            graph.output(x)
        self._step = Runner(graph.build(), threads)

    def generate(self, encodings: np.ndarray, uniforms: np.ndarray) -> Iterator[np.ndarray]:
        """Generate clips from silence, one frame at a time.

        Parameters
        ----------
        encodings : float32 [batch, frames, channels]
        uniforms : float [batch, frames * 512]
            In [0, 1): sample i of clip b is the first code whose cumulated probability reaches
            `uniforms[b, i]`, as in Magenta's `fastgen.sample_categorical`.

        Yields
        ------
        uint8 [batch, 512]
            Codes 0..255 of one frame.
        """
        step, delays = self._step, self._delays
        recent, output_condition, *past = step.inputs
        odds, *inputs = step.outputs
        for delay in delays:
            delay.ring[:] = 0
        recent[:] = 0
        layers = [(delay, delay.block, 2 * delay.dilation, delay.gates[0], delay.gates[1],
                   past[2 * i], past[2 * i + 1], inputs[i])
                  for i, delay in enumerate(delays)]
        codes = np.empty([self.batch, HOP_LENGTH], np.uint8)
        cumulated = np.empty_like(odds)
        for frame in range(encodings.shape[1]):
            conditions, output_condition[:] = self._conditioning(encodings[:, frame])
            for i, delay in enumerate(delays):
                delay.conditions[0][:] = conditions[2 * i]
                delay.conditions[1][:] = conditions[2 * i + 1]
            columns = np.ascontiguousarray(
                uniforms[:, frame * HOP_LENGTH:(frame + 1) * HOP_LENGTH].T)[:, :, None]
            for i in range(HOP_LENGTH):
                t = frame * HOP_LENGTH + i
                for delay, block, _, gate_a, gate_b, past_a, past_b, _ in layers:
                    j = i % block
                    if not j:
                        delay.advance(t)
                    past_a[:] = gate_a[j]
                    past_b[:] = gate_b[j]
                step.invoke()
                for delay, _, length, *_, x in layers:
                    delay.ring[t % length] = x
                np.cumsum(odds, axis=1, out=cumulated)
                # float32 sums may end below 1, and a uniform above all of them: the last code.
                code = np.minimum((cumulated < columns[i]).sum(axis=1), CODES - 1)
                codes[:, i] = code
                recent[:, :2] = recent[:, 1:]
                recent[:, 2] = (code - 128) / 128
            yield codes


# Scoring -------------------------------------------------------------------------------------


class Scorer:
    """The network set up to say how likely given samples are, a frame at a time.

    The products are the decoder's own, row for row, so what int8 loses here it loses there.
    """

    def __init__(self, weights: Weights, precision: str = "float32", threads: int = 1) -> None:
        n, width = HOP_LENGTH, weights.width
        self._conditioning = Conditioning(weights, 1, 1)
        graph = Graph()
        recent = graph.input([n, 3])
        condition = graph.input([1, weights.skip_width])
        x = graph.fully_connected(recent, weights.start, weights.start_bias)
        skips = graph.fully_connected(x, weights.skip_start, weights.skip_start_bias)
        memories = []
        for layer in weights.layers:
            d = layer.dilation
            conditions = [graph.input([1, width]) for _ in range(2)]
            line = graph.concatenate([graph.input([2 * d, width]), x], axis=0)
            older = graph.concatenate([graph.slice(line, [0, 0], [n, -1]),
                                       graph.slice(line, [d, 0], [n, -1])])
            memories.append(graph.slice(line, [n, 0], [2 * d, -1]))
            past = [graph.add(gate, condition) for gate, condition
                    in zip(_past(graph, layer, older, precision), conditions)]
            gates = [graph.add(now, then)
                     for now, then in zip(_gates(graph, layer, x, precision), past)]
            x, skips = _residual(graph, layer, x, skips, gates, precision,
                                 layer is weights.layers[-1])
        graph.output(_odds(graph, weights, skips, condition, 1.0))
        for memory in memories:
            graph.output(memory)
        self._runner = Runner(graph.build(), threads)

    def surprise(self, codes: np.ndarray, encoding: np.ndarray) -> np.ndarray:
        """Minus the log probability of every sample, given all before it.

        Parameters
        ----------
        codes : uint8 [frames * 512]
            Mu-law codes 0..255.
        encoding : float32 [frames, channels]

        Returns
        -------
        float64 [frames * 512]
            In nats.
        """
        recent, output_condition, *rest = self._runner.inputs
        odds, *new = self._runner.outputs
        old = rest[2::3]
        for memory in old:
            memory[:] = 0
        signal = np.concatenate([np.zeros(3, np.float32), (codes - np.float32(128)) / 128])
        triples = np.lib.stride_tricks.sliding_window_view(signal, 3)
        result = np.empty(len(codes))
        for frame, vector in enumerate(encoding):
            conditions, output_condition[:] = self._conditioning(vector)
            for i in range(len(old)):
                rest[3 * i][:] = conditions[2 * i]
                rest[3 * i + 1][:] = conditions[2 * i + 1]
            now = slice(frame * HOP_LENGTH, (frame + 1) * HOP_LENGTH)
            recent[:] = triples[now]
            self._runner.invoke()
            for memory, update in zip(old, new):
                memory[:] = update
            chosen = odds[np.arange(HOP_LENGTH), codes[now]].astype(np.float64)
            # The smallest float32 stands for probabilities that round to zero.
            result[now] = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny))
        return result
