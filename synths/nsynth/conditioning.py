"""What an encoding adds to the layers of NSynth's decoder."""

from __future__ import annotations

import numpy as np

from synths.engines.litert import Graph, Runner
from synths.nsynth.wavenet_variables import Weights


class Conditioning:
    """What an encoding adds to every layer, for one frame of all clips."""

    def __init__(self, weights: Weights, batch: int) -> None:
        graph = Graph()
        encoding = graph.input([batch, weights.channels])
        for layer in weights.layers:
            graph.output(graph.fully_connected(encoding, layer.cond, layer.cond_bias))
        graph.output(graph.fully_connected(encoding, weights.cond_out1, weights.cond_out1_bias))
        self._runner = Runner(graph.build(), 1)

    def __call__(self, encoding: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """From an encoding [batch, channels] to the layers' terms, and the output's."""
        self._runner.inputs[0][:] = encoding
        self._runner.invoke()
        return self._runner.outputs[:-1], self._runner.outputs[-1]
