"""NSynth's decoder network on XNNPACK, which computes the likelihood of given samples.

The network is Magenta's `h512_bo16.FastGenerationConfig` (Engel et al., "Neural Audio Synthesis
of Musical Notes with WaveNet Autoencoders", 2017), for any widths and number of layers.
`synths.nsynth.decoder` computes the same network step by step.  In int8, both use a separate scale
for every row of activations and for every output channel of the weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synths.engines.litert import Graph, Runner, Tensor
from synths.nsynth.conditioning import Conditioning
from synths.nsynth.wavenet_variables import GROUP, HOP_LENGTH, Layer, Weights, load, quantise


def _product(graph: Graph, x: Tensor, matrix: np.ndarray, bias: np.ndarray | None,
             precision: str) -> Tensor:
    """Return `x @ matrix + bias`, one of the products that take most of the time."""
    scale = None
    if precision == "int8":
        matrix, scale = quantise(matrix)
    return graph.fully_connected(x, matrix, bias, scale)


def _gated(graph: Graph, gates: Tensor) -> Tensor:
    """Return the gated activation units, like `activation` in decoder.c."""
    gate, filter = graph.split(gates, 2)
    return graph.multiply(graph.sigmoid(gate), graph.tanh(filter))


def _probabilities(graph: Graph, weights: Weights, start: Tensor, gated: list[Tensor],
                   condition: Tensor, precision: str) -> Tensor:
    """Return the probabilities of the 256 codes.

    The skip outputs of GROUP layers are one product over their concatenated activations.
    """
    skips = graph.fully_connected(start, weights.skip_start, weights.skip_start_bias)
    for i in range(0, len(gated), GROUP):
        layers = weights.layers[i:i + GROUP]
        group = graph.concatenate(gated[i:i + GROUP]) if len(layers) > 1 else gated[i]
        matrix = np.concatenate([layer.skip for layer in layers])
        bias = np.sum([layer.skip_bias for layer in layers], axis=0)
        skips = graph.add(skips, _product(graph, group, matrix, bias, precision))
    s = graph.fully_connected(graph.relu(skips), weights.out1, weights.out1_bias)
    s = graph.relu(graph.add(s, condition))
    return graph.softmax(graph.fully_connected(s, weights.logits, weights.logits_bias))


def _gates(graph: Graph, layer: Layer, line: Tensor, x: Tensor, condition: Tensor,
           precision: str) -> Tensor:
    """Return a layer's gates and filters: three taps of its input and the conditioning."""
    n, width, d = x.shape[0], x.shape[1], layer.dilation
    older, newer = (graph.slice(line, [i, 0], [n, -1]) for i in (0, d))
    past = _product(graph, graph.concatenate([older, newer]),
                    layer.taps[:2].reshape(2 * width, 2 * width), layer.bias, precision)
    return graph.add(_product(graph, x, layer.taps[2], None, precision),
                     graph.add(past, condition))


class Scorer:
    """A network that computes the NLL of given samples, frame by frame.

    It computes the same products as the decoder, so int8 has the same rounding errors here.
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
            memories.append(graph.slice(line, [n, 0], [2 * d, -1]))
            gated.append(_gated(graph, _gates(graph, layer, line, x, condition, precision)))
            if layer is not weights.layers[-1]:
                x = graph.add(x, _product(graph, gated[-1], layer.res, layer.res_bias, precision))
        graph.output(_probabilities(graph, weights, start, gated, output_condition, precision))
        for memory in memories:
            graph.output(memory)
        model = graph.build()
        del weights, layer
        self._runner = Runner(model, threads)

    def nll(self, codes: np.ndarray, encoding: np.ndarray) -> np.ndarray:
        """Return the NLL in nats of every sample [frames * 512], given all samples before it.

        The samples are mu-law codes 0..255; the encoding has the shape [frames, channels].
        """
        recent, output_condition, *rest = self._runner.inputs
        probabilities, *new = self._runner.outputs
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
            chosen = probabilities[np.arange(HOP_LENGTH), codes[now]].astype(np.float64)
            # The smallest float32 replaces probabilities that round to zero.
            result[now] = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny))
        return result
