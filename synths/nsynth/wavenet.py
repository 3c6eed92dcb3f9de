"""The decoder of NSynth's WaveNet autoencoder: from encodings to mu-law codes, and back to odds.

The network is Magenta's `h512_bo16.FastGenerationConfig` (Engel et al., "Neural Audio Synthesis
of Musical Notes with WaveNet Autoencoders", 2017), for any widths and number of layers.

One step of it reads every layer at three moments: now (t), and t - d and t - 2d, where d is the
layer's dilation.  The two older ones are known up to d steps ahead, so their product with the
weights is computed for a whole block of steps at once; a step is left with the present, a third
of the work.  The conditioning is computed once per frame of 512 samples.  The products themselves
are XNNPACK's (`synths.engines.litert`), in float32, or in int8 with one scale per output channel
and per row of activations.  `decoder` prefers code of our own (`synths.nsynth.wavenet_compiled`)
for a large network on a processor that there is such code for.

A row of a product never depends on the rows beside it, so a clip's samples are the same alone, in
a batch, and in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synths.engines.litert import Graph, Runner, Tensor, build, runners
from synths.nsynth.conditioning import Conditioning
from synths.nsynth.wavenet_variables import (
    BLOCK_ROWS,
    CODES,
    HOP_LENGTH,
    SMALL,
    TOGETHER,
    Layer,
    Weights,
    compile_target,
    dilation,
    frames_heard,
    known_codes,
    load,
    quantise,
    sizes,
)
from synths.weights import checkpoints

if TYPE_CHECKING:
    from synths.nsynth import wavenet_compiled

__all__ = ["CODES", "HOP_LENGTH", "INT8_WIDTH", "SMALL", "Decoder", "Scorer", "Weights",
           "decoder", "frames_heard", "groups",
           "groups_at_once", "load", "quantise", "sizes"]

# Clips at once: the memory of the past moments of one more would do more harm than good.
_MEMORY = 160 << 20     # bytes
_MOST_CLIPS = 64
_LAST_CODE = np.full([1, 1], CODES - 1, np.float32)
# From this width on int8 is faster than float32.
INT8_WIDTH = 128


# Parts of the network ------------------------------------------------------------------------


def _product(graph: Graph, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None,
             precision: str) -> Tensor:
    """`x @ matrix + bias`, one of the products that the network's time goes into."""
    if precision == "int8":
        matrix, scale = quantise(matrix)
        return graph.fully_connected(x, matrix, bias, scale=scale)
    return graph.fully_connected(x, matrix, bias)


def _past(graph: Graph, layer: Layer, older: Tensor, newer: Tensor, precision: str) -> Tensor:
    """What t - 2d and t - d add to a layer's gates, its biases included."""
    width = layer.res.shape[0]
    return _product(graph, graph.concatenate([older, newer]),
                    layer.taps[:2].reshape(2 * width, 2 * width), layer.bias, precision)


def _present(graph: Graph, layer: Layer, x: Tensor, precision: str) -> Tensor:
    """What t itself adds to a layer's gates."""
    return _product(graph, x, layer.taps[2], None, precision)


def _gated(graph: Graph, gates: Tensor) -> Tensor:
    """The layer's activation: the first half of the gates opens and shuts the second.

    The same as `_activation` in `synths.engines.kernels`, for compiled code.
    """
    opening, content = graph.split(gates, 2)
    return graph.multiply(graph.sigmoid(opening), graph.tanh(content))


def _residual(graph: Graph, layer: Layer, x: Tensor, gated: Tensor, precision: str) -> Tensor:
    """The next layer's input."""
    return graph.add(x, _product(graph, gated, layer.res, layer.res_bias, precision))


def _odds(graph: Graph, weights: Weights, start: Tensor, gated: list[Tensor], condition: Tensor,
          temperature: float, precision: str) -> Tensor:
    """The probabilities of the 256 codes.

    The skips of some layers are one product over their activations side by side.
    """
    skips = graph.fully_connected(start, weights.skip_start, weights.skip_start_bias)
    for i in range(0, len(gated), TOGETHER):
        layers = weights.layers[i:i + TOGETHER]
        together = graph.concatenate(gated[i:i + TOGETHER]) if len(layers) > 1 else gated[i]
        matrix = np.concatenate([layer.skip for layer in layers])
        bias = np.sum([layer.skip_bias for layer in layers], axis=0)
        skips = graph.add(skips, _product(graph, together, matrix, bias, precision))
    s = graph.fully_connected(graph.relu(skips), weights.out1, weights.out1_bias)
    s = graph.relu(graph.add(s, condition))
    heat = np.float32(1 / temperature)
    return graph.softmax(graph.fully_connected(s, weights.logits * heat,
                                               weights.logits_bias * heat))


def _draw(graph: Graph, odds: Tensor, uniforms: Tensor) -> Tensor:
    """Code - 128 of each clip: the first code whose cumulated odds reach the clip's number.

    `numpy.searchsorted` of `numpy.cumsum` in operators that XNNPACK has.  The sums are taken
    within 16 groups of 16 codes and then over the groups.  `uniforms` is [clips * 16, 1], every
    number 16 times.
    """
    clips = odds.shape[0]
    within = graph.fully_connected(graph.reshape(odds, [clips * 16, 16]),
                                   np.triu(np.ones([16, 16], np.float32)))
    totals = graph.reshape(graph.slice(within, [0, 15], [-1, 1]), [clips, 16])
    before = graph.fully_connected(totals, np.triu(np.ones([16, 16], np.float32), 1))
    left = graph.subtract(uniforms, graph.reshape(before, [clips * 16, 1]))
    # Differences lie in -1..1: 1 where the cumulated odds are still below, else 0 or less.
    below = graph.relu(graph.op("CEIL", [graph.subtract(left, within)], within.shape))
    code = graph.sum(graph.reshape(below, [clips, CODES]), [1])
    # Rounded sums may end below 1, and a number above all of them: that means the last code.
    code = graph.op("MINIMUM", [code, graph.constant(_LAST_CODE)], code.shape,
                    options="MaximumMinimum")
    return graph.subtract(code, np.array([[128]], np.float32))


def groups_at_once(width: int, batch: int, threads: int) -> int:
    """How many groups of clips to decode at a time, for a network of so many channels.

    Large networks are cut up among the threads within each product; the products of small ones
    are too short for that, but their groups can run beside each other.
    """
    return max(min(threads, batch // 6), 1) if width <= SMALL else 1


def groups(width: int, layers: int, batch: int, least: int = 1) -> list[slice]:
    """Cut a batch into groups of clips of nearly the same size, at least so many.

    Each is decoded by one `Decoder`.
    """
    per_clip = sum(2 * dilation(i) for i in range(layers)) * width * 4    # bytes
    most = min(max(_MEMORY // per_clip, 1), _MOST_CLIPS)
    n = max(-(-batch // most), least)
    edges = [batch * i // n for i in range(n + 1)]
    return [slice(start, stop) for start, stop in zip(edges, edges[1:])]


# Generation ----------------------------------------------------------------------------------


class _Past:
    """What the past of one layer adds to its gates, for a block of steps at once."""

    def __init__(self, layer: Layer, batch: int, precision: str) -> None:
        self.dilation = layer.dilation
        width = layer.res.shape[0]
        self._shape = (-1, batch, width)
        rows = max(BLOCK_ROWS // batch, 4)
        self.block = min(layer.dilation, HOP_LENGTH, 1 << (rows.bit_length() - 1))
        self.graph = graph = Graph()
        older, newer = (graph.input([self.block * batch, width]) for _ in range(2))
        # One frame's conditioning serves all steps of a block, as blocks divide frames.
        condition = graph.input([1, batch, 2 * width])
        past = graph.reshape(_past(graph, layer, older, newer, precision),
                             [self.block, batch, 2 * width])
        graph.output(graph.add(past, condition))

    def attach(self, runner: Runner) -> None:
        """Take the runner of `graph`."""
        self._invoke = runner.invoke
        self._older, self._newer = (x.reshape(self._shape) for x in runner.inputs[:2])
        self.condition = runner.inputs[2][0]
        self.gates = runner.outputs[0]      # [block, batch, 2 width]

    def advance(self, ring: np.ndarray, t: int) -> None:
        """Compute the block that begins at step t from the last 2d inputs of the layer."""
        older = t % (2 * self.dilation)
        newer = (t + self.dilation) % (2 * self.dilation)
        self._older[:] = ring[older:older + self.block]
        self._newer[:] = ring[newer:newer + self.block]
        self._invoke()


def decoder(prefix: Path, batch: int, precision: str = "float32", temperature: float = 1.0,
            threads: int = 1) -> Decoder | wavenet_compiled.Decoder:
    """The fastest `Decoder` that this machine has for a network; same arguments.

    Large networks run on code compiled for the processor, if it is one of those that there is
    code for; all others on XNNPACK.
    """
    width, skip_width = checkpoints.shapes(prefix)["skip_start/W"][2:]
    if target := compile_target(width, skip_width, dots=precision == "int8"):
        from synths.nsynth import wavenet_compiled
        return wavenet_compiled.Decoder(prefix, batch, precision, temperature, threads,
                                        target=target)
    return Decoder(prefix, batch, precision, temperature, threads)


class Decoder:
    """The network set up to generate a fixed number of clips side by side.

    Parameters
    ----------
    prefix : Path
        The checkpoint, from `checkpoints.find` or `checkpoints.resolve`.
    batch : int
        Clips.
    precision : str
        "float32" or "int8".
    temperature : float
        Above 0; the logits are divided by it.
    threads : int
        Threads within a step.
    shortest_block : int, optional
        Layers of smaller dilation look up their past at every step: a block of very few steps
        costs more in calls than it saves in arithmetic.
    """

    def __init__(self, prefix: Path, batch: int, precision: str = "float32",
                 temperature: float = 1.0, threads: int = 1,
                 shortest_block: int | None = None) -> None:
        weights = load(prefix)
        self.batch = batch
        self._heard = frames_heard(len(weights.layers))
        width = weights.width
        if shortest_block is None:
            shortest_block = 8 if width <= SMALL else 2
        if width <= SMALL:
            threads = 1     # the threads' meetings would take longer than their work
        self._conditioning = Conditioning(weights, batch)
        # Every layer's last 2d inputs.
        self._rings = [np.zeros([2 * layer.dilation, batch, width], np.float32)
                       for layer in weights.layers]
        self._far: list[_Past | None] = []

        graph = Graph()
        recent = graph.input([batch, 3])
        uniforms = graph.input([batch * 16, 1])
        output_condition = graph.input([batch, weights.skip_width])
        x = start = graph.fully_connected(recent, weights.start / 128, weights.start_bias)
        inputs, gated = [], []
        for layer in weights.layers:
            inputs.append(x)
            if layer.dilation < shortest_block:
                older, newer = (graph.input([batch, width]) for _ in range(2))
                condition = graph.input([batch, 2 * width])
                gates = _product(graph, graph.concatenate([older, newer, x]),
                                 layer.taps.reshape(3 * width, 2 * width), layer.bias, precision)
                self._far.append(None)
            else:
                condition = graph.input([batch, 2 * width])
                gates = _present(graph, layer, x, precision)
                self._far.append(_Past(layer, batch, precision))
            gated.append(_gated(graph, graph.add(gates, condition)))
            if layer is not weights.layers[-1]:
                x = _residual(graph, layer, x, gated[-1], precision)
        odds = _odds(graph, weights, start, gated, output_condition, temperature, precision)
        graph.output(_draw(graph, odds, uniforms))
        for x in inputs:
            graph.output(x)
        far = [past for past in self._far if past]
        graphs = [graph, *(past.graph for past in far)]
        model = build(graphs)
        del weights, layer      # XNNPACK is about to make its own copy of them
        self._step, *others = runners(model, graphs, threads)
        for past, runner in zip(far, others):
            past.attach(runner)

    def generate(self, encodings: np.ndarray, uniforms: np.ndarray,
                 made: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Generate clips from silence, one frame at a time.

        Parameters
        ----------
        encodings : float32 [batch, frames, channels]
        uniforms : float [batch, frames * 512]
            In [0, 1): sample i of clip b is the first code whose cumulated probability reaches
            `uniforms[b, i]`, as in Magenta's `fastgen.sample_categorical`.  Only columns of it are
            asked for, [:, first:last], in order.
        made : uint8 [batch, frames * 512], optional
            Codes of the first frames, made already: only what follows them is generated.  As many
            of them as the network hears run through it once more.

        Yields
        ------
        uint8 [batch, 512]
            Codes 0..255 of one frame.
        """
        first = 0 if made is None else made.shape[1] // HOP_LENGTH
        recent, number, output_condition, *rest = self._step.inputs
        drawn, *inputs = self._step.outputs
        invoke = self._step.invoke
        for ring in self._rings:
            ring[:] = 0
        recent[:] = 0
        # For the loop over steps: what it copies where, free of look-ups.
        near, far, conditions = [], [], []
        more = iter(rest)
        for ring, past in zip(self._rings, self._far):
            if past is None:
                near.append((next(more), next(more), list(ring), len(ring) // 2, len(ring)))
                conditions.append(next(more))
            else:
                far.append((past, past.block, list(past.gates), next(more), ring))
                conditions.append(past.condition)
        memory = [(ring, len(ring), x) for ring, x in zip(self._rings, inputs)]

        drawings = np.empty([HOP_LENGTH, self.batch, 1], np.float32)
        for frame in range(max(0, first - self._heard), encodings.shape[1]):
            terms, output_condition[:] = self._conditioning(encodings[:, frame])
            for condition, term in zip(conditions, terms):
                condition[:] = term
            known = known_codes(made, frame) if frame < first else None
            numbers = uniforms[:, frame * HOP_LENGTH:(frame + 1) * HOP_LENGTH].T
            numbers = numbers.astype(np.float32).repeat(16, axis=1)[:, :, None]
            for i in range(HOP_LENGTH):
                t = frame * HOP_LENGTH + i
                for older, newer, ring, d, length in near:
                    older[...] = ring[t % length]
                    newer[...] = ring[(t + d) % length]
                for past, block, gates, target, ring in far:
                    j = i % block
                    if not j:
                        past.advance(ring, t)
                    target[...] = gates[j]
                number[...] = numbers[i]
                invoke()
                for ring, length, x in memory:
                    ring[t % length] = x
                recent[:, :2] = recent[:, 1:]
                recent[:, 2:] = drawn if known is None else known[i]
                drawings[i] = drawn
            if known is None:
                yield (drawings[:, :, 0].T + 128).astype(np.uint8)


# Scoring -------------------------------------------------------------------------------------


class Scorer:
    """The network set up to say how likely given samples are, a frame at a time.

    The products are the decoder's own, row for row, so what int8 loses here it loses there.
    """

    def __init__(self, prefix: Path, precision: str = "float32", threads: int = 1) -> None:
        weights = load(prefix)
        n, width = HOP_LENGTH, weights.width
        self._conditioning = Conditioning(weights, 1)
        graph = Graph()
        recent = graph.input([n, 3])
        output_condition = graph.input([1, weights.skip_width])
        x = start = graph.fully_connected(recent, weights.start, weights.start_bias)
        memories, gated = [], []
        for layer in weights.layers:
            d = layer.dilation
            condition = graph.input([1, 2 * width])
            line = graph.concatenate([graph.input([2 * d, width]), x], axis=0)
            older, newer = (graph.slice(line, [i, 0], [n, -1]) for i in (0, d))
            memories.append(graph.slice(line, [n, 0], [2 * d, -1]))
            past = graph.add(_past(graph, layer, older, newer, precision), condition)
            gates = graph.add(_present(graph, layer, x, precision), past)
            gated.append(_gated(graph, gates))
            if layer is not weights.layers[-1]:
                x = _residual(graph, layer, x, gated[-1], precision)
        graph.output(_odds(graph, weights, start, gated, output_condition, 1.0, precision))
        for memory in memories:
            graph.output(memory)
        model = graph.build()
        del weights, layer
        self._runner = Runner(model, threads)

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
        conditions, old = rest[::2], rest[1::2]
        for memory in old:
            memory[:] = 0
        signal = np.concatenate([np.zeros(3, np.float32), (codes - np.float32(128)) / 128])
        triples = np.lib.stride_tricks.sliding_window_view(signal, 3)
        result = np.empty(len(codes))
        for frame, vector in enumerate(encoding):
            terms, output_condition[:] = self._conditioning(vector)
            for condition, term in zip(conditions, terms):
                condition[:] = term
            now = slice(frame * HOP_LENGTH, (frame + 1) * HOP_LENGTH)
            recent[:] = triples[now]
            self._runner.invoke()
            for memory, update in zip(old, new):
                memory[:] = update
            chosen = odds[np.arange(HOP_LENGTH), codes[now]].astype(np.float64)
            # The smallest float32 stands for probabilities that round to zero.
            result[now] = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny))
        return result
