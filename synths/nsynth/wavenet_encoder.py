"""The encoder of NSynth's WaveNet autoencoder, which turns mu-law samples into encodings.

The network is the "non-causal temporal encoder" of Magenta's `h512_bo16.Config`, for any widths
and number of layers.  Long sounds are encoded in overlapping chunks.  The overlap covers the
receptive field, so the result is the same as for the whole sound.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from synths.engines.litert import Graph, Runner
from synths.nsynth.wavenet_variables import HOP_LENGTH, count_layers, dilation, read_layers
from synths.weights import checkpoints

_CHUNK_FRAMES = 32      # frames of each chunk that are kept


class Encoder:
    """The encoder of a checkpoint; kernels are [1, 3 or 1, inputs, outputs]."""

    def __init__(self, prefix: Path) -> None:
        shapes = checkpoints.shapes(prefix)
        numbers = range(1, max(count_layers(shapes, "ae_dilatedconv_"), 1) + 1)
        width, channels = (shapes.get(f"{name}/W", (0,))[-1]
                           for name in ("ae_startconv", "ae_bottleneck"))
        expected: dict[str, tuple[int, ...]] = {
            "ae_startconv": (1, 3, 1, width), "ae_bottleneck": (1, 1, width, channels)}
        for i in numbers:
            expected |= {f"ae_dilatedconv_{i}": (1, 3, width, width),
                         f"ae_res_{i}": (1, 1, width, width)}
        variables = read_layers(prefix, shapes, expected)
        self._start, self._bottleneck = variables["ae_startconv"], variables["ae_bottleneck"]
        self._layers = [(variables[f"ae_dilatedconv_{i}"], variables[f"ae_res_{i}"])
                        for i in numbers]

    def _graph(self, frames: int) -> bytes:
        graph = Graph()
        samples = graph.input([1, 1, frames * HOP_LENGTH, 1])
        x = graph.conv2d(samples, *self._start)
        for i, (dilated, res) in enumerate(self._layers):
            y = graph.conv2d(graph.relu(x), *dilated, dilation=(1, dilation(i)), activation="RELU")
            x = graph.add(x, graph.conv2d(y, *res))
        # The mean over a frame comes before the last layer, which is linear.
        x = graph.reshape(x, [1, frames, HOP_LENGTH, x.shape[-1]])
        graph.output(graph.conv2d(graph.mean(x, 2), *self._bottleneck))
        return graph.build()

    def encode(self, samples: np.ndarray, threads: int, bar: tqdm) -> np.ndarray:
        """Return the encodings [batch, frames, channels] of samples [batch, frames * 512]."""
        batch, frames = len(samples), samples.shape[1] // HOP_LENGTH
        # The frames of the receptive field on either side of a frame
        overlap = -(-(1 + sum(dilation(i) for i in range(len(self._layers)))) // HOP_LENGTH)
        window = min(frames, _CHUNK_FRAMES + 2 * overlap)
        runner = Runner(self._graph(window), threads)
        result = np.empty([batch, frames, self._bottleneck[0].shape[-1]], np.float32)
        for clip in range(batch):
            done = 0
            while done < frames:
                # Only at the ends of the sound may a chunk end without overlap: silence is outside.
                first = max(min(done - overlap, frames - window), 0)
                last = first + window
                stop = frames if last == frames else last - overlap
                runner.inputs[0][0, 0, :, 0] = samples[clip, first * HOP_LENGTH:last * HOP_LENGTH]
                runner.invoke()
                result[clip, done:stop] = runner.outputs[0][0, done - first:stop - first, 0]
                bar.update((stop - done) * HOP_LENGTH)
                done = stop
        return result
