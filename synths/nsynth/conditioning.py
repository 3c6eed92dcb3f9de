"""The conditioning of NSynth's decoder: the terms that an encoding adds to its layers."""

from __future__ import annotations

import numpy as np

from synths.engines.litert import Graph, Runner
from synths.nsynth.wavenet_variables import Weights


class Conditioning:
    """The terms that one encoding frame of each clip adds to every layer."""

    def __init__(self, weights: Weights, batch: int) -> None:
        graph = Graph()
        encoding = graph.input([batch, weights.channels])
        for layer in weights.layers:
            graph.output(graph.fully_connected(encoding, layer.cond, layer.cond_bias))
        graph.output(graph.fully_connected(encoding, weights.cond_out1, weights.cond_out1_bias))
        self._runner = Runner(graph.build(), 1)

    def __call__(self, encoding: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the terms of the layers and of the output for an encoding [batch, channels]."""
        self._runner.inputs[0][:] = encoding
        self._runner.invoke()
        return self._runner.outputs[:-1], self._runner.outputs[-1]
