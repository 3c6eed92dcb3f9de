"""The encoder of NSynth's WaveNet autoencoder, which turns mu-law samples into encodings.

The network is the "non-causal temporal encoder" of Magenta's `h512_bo16.Config`, for any widths
and number of layers.  Long sounds are encoded in overlapping chunks.  The overlap covers the
receptive field, so the result is the same as for the whole sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from synths.engines.litert import Graph, Runner
from synths.nsynth.wavenet_variables import (
    HOP_LENGTH,
    count_layers,
    dilation,
    read_layers,
)
from synths.weights import checkpoints

_CHUNK_FRAMES = 32      # frames kept of each chunk


@dataclass
class Encoder:
    """The encoder's variables; kernels are [1, 3 or 1, inputs, outputs]."""

    start: tuple[np.ndarray, np.ndarray]
    layers: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
    bottleneck: tuple[np.ndarray, np.ndarray]

    def _graph(self, frames: int) -> bytes:
        graph = Graph()
        samples = graph.input([1, 1, frames * HOP_LENGTH, 1])
        x = graph.conv2d(samples, *self.start)
        for i, (kernel, bias, res, res_bias) in enumerate(self.layers):
            y = graph.conv2d(graph.relu(x), kernel, bias, dilation=(1, dilation(i)),
                             activation="RELU")
            x = graph.add(x, graph.conv2d(y, res, res_bias))
        # The mean over a frame comes before the last layer, which is linear.
        x = graph.reshape(x, [1, frames, HOP_LENGTH, x.shape[-1]])
        x = graph.mean(x, 2)
        graph.output(graph.conv2d(x, *self.bottleneck))
        return graph.build()

    def _network(self, frames: int, threads: int) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function from samples [frames * 512] to encodings [frames, channels]."""
        runner = Runner(self._graph(frames), threads)

        def run(samples: np.ndarray) -> np.ndarray:
            runner.inputs[0][0, 0, :, 0] = samples
            runner.invoke()
            return runner.outputs[0][0, :, 0]
        return run

    @property
    def _overlap(self) -> int:
        """The frames of the receptive field on either side of a frame."""
        samples = 1 + sum(dilation(i) for i in range(len(self.layers)))
        return -(-samples // HOP_LENGTH)

    def encode(self, samples: np.ndarray, threads: int,
               bar: tqdm) -> np.ndarray:
        """Return the encodings [batch, frames, channels] of samples [batch, frames * 512]."""
        batch, length = samples.shape
        frames = length // HOP_LENGTH
        overlap = self._overlap
        window = min(frames, _CHUNK_FRAMES + 2 * overlap)
        network = self._network(window, threads)
        result = np.empty([batch, frames, self.bottleneck[0].shape[-1]], np.float32)
        for clip in range(batch):
            done = 0
            while done < frames:
                # The sound's own ends must be the chunk's ends: there the network sees silence.
                first = max(min(done - overlap, frames - window), 0)
                last = first + window
                stop = frames if last == frames else last - overlap
                encodings = network(samples[clip, first * HOP_LENGTH:last * HOP_LENGTH])
                result[clip, done:stop] = encodings[done - first:stop - first]
                bar.update((stop - done) * HOP_LENGTH)
                done = stop
        return result


def load(prefix: Path) -> Encoder:
    """Read the encoder's variables from a checkpoint prefix."""
    shapes = checkpoints.shapes(prefix)
    n_layers = max(count_layers(shapes, "ae_dilatedconv_"), 1)
    width, channels = (shapes.get(f"{name}/W", (0,))[-1]
                       for name in ("ae_startconv", "ae_bottleneck"))
    expected: dict[str, tuple[int, ...]] = {
        "ae_startconv": (1, 3, 1, width), "ae_bottleneck": (1, 1, width, channels)}
    for i in range(1, n_layers + 1):
        expected |= {f"ae_dilatedconv_{i}": (1, 3, width, width),
                     f"ae_res_{i}": (1, 1, width, width)}
    variables = read_layers(prefix, shapes, expected)
    return Encoder(variables["ae_startconv"],
                   [(*variables[f"ae_dilatedconv_{i}"], *variables[f"ae_res_{i}"])
                    for i in range(1, n_layers + 1)],
                   variables["ae_bottleneck"])
