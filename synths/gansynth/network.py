"""GANSynth's generator as LiteRT networks that compute only the first frames of a note.

Each frame depends on a few frames on either side, and the phase is summed forward in time.  The
start of a note therefore does not depend on the rest.  A note held for 0.13 s needs 20 of 128
frames, and a few more at the lower resolutions.
"""

from __future__ import annotations

import numpy as np

from synths.engines.litert import Graph, Tensor
from synths.gansynth.variables import Layer, Weights

_LEAK = 0.2  # slope of the leaky ReLU
_EPSILON = 1e-8  # for the pixel normalisation


def rows(weights: Weights, frames: int) -> dict[int, int]:
    """Return the number of frames that each block needs for the first `frames` output frames."""
    needed = {}
    factor = weights.scale[0] ** (weights.num_resolutions - weights.num_blocks)
    need = -(-frames // factor)
    for block in range(weights.num_blocks, 0, -1):
        if block in weights.blend:  # it also has its own part of the spectrogram
            factor = weights.scale[0] ** (weights.num_resolutions - block)
            need = max(need, -(-frames // factor))
        height = weights.resolution(block)[0]
        needed[block] = need = min(height, need)
        for layer in ("conv1", "conv0"):
            if (block, layer) in weights.layers:
                below = weights.layers[block, layer].kernel.shape[0] // 2
                need = min(height, need + below)
        need = -(-need // weights.scale[0])
    return needed


def build(weights: Weights, batch: int, frames: int) -> bytes:
    """Build the LiteRT model of the first frames; its inputs are latent vectors and pitches."""
    graph = Graph()
    needed_rows = rows(weights, frames)
    x = _pixel_norm(graph, graph.input([batch, weights.latent_size + len(weights.pitches)]))
    x = graph.fully_connected(x, weights.first.kernel, weights.first.bias)
    x = _activate(graph, graph.reshape(x, [batch, *weights.start, -1]))
    parts = []
    for block in range(1, weights.num_blocks + 1):
        height = weights.resolution(block)[0]
        if block > 1:
            needed = min(height, needed_rows[block]
                         + weights.layers[block, "conv1"].kernel.shape[0] // 2)
            x = _grow(graph, weights, x, block, needed)
        x = _activate(graph, _convolve(graph, x, weights.layers[block, "conv1"], height))
        x = _first_rows(graph, x, needed_rows[block])
        if block in weights.blend:
            parts.append(_spectrogram(graph, weights, x, block, frames))
    whole = parts[0]
    for part in parts[1:]:
        whole = graph.add(whole, part)
    graph.output(whole)
    return graph.build()


def _grow(graph: Graph, weights: Weights, x: Tensor, block: int, rows: int) -> Tensor:
    """Scale up, convolve and activate, to get the first `rows` rows of a block, or one more."""
    layer = weights.layers[block, "conv0"]
    if weights.scale == (2, 2) and layer.kernel.shape[:2] == (3, 3):
        return _grow_folded(graph, x, layer, rows)
    x = graph.resize_nearest(x, x.shape[1] * weights.scale[0], x.shape[2] * weights.scale[1])
    x = _convolve(graph, x, layer, weights.resolution(block)[0])
    return _first_rows(graph, _activate(graph, x), rows)


def _grow_folded(graph: Graph, x: Tensor, layer: Layer, rows: int) -> Tensor:
    """Scale each pixel up to 2 x 2 and convolve with a 3 x 3 kernel, in one operation.

    Four 2 x 2 convolutions, one for each corner, are interleaved.  They give the same sums with
    4/9 of the multiplications.
    """
    batch, low, width, _ = x.shape
    half = -(-rows // 2)
    corners = []
    for below, upright in enumerate(_fold(layer.kernel, axis=0)):
        for right, kernel in enumerate(_fold(upright, axis=1)):
            # If x is cut, the last row of the lower corners may lack an input.  It is then
            # beyond the requested rows, and dropped later.
            padded = _pad(graph, x, 1 - below, half + below - low, 1 - right, right)
            corners.append(_activate(graph, graph.conv2d(padded, kernel, layer.bias,
                                                         padding="VALID")))
    x = graph.concatenate(corners, axis=3)
    return graph.op("DEPTH_TO_SPACE", [x], (batch, 2 * half, 2 * width, layer.bias.size),
                    options="DepthToSpace", blockSize=2)


def _spectrogram(graph: Graph, weights: Weights, x: Tensor, block: int, frames: int) -> Tensor:
    """Return a block's contribution to the spectrogram, at full size."""
    layer = weights.layers[block, "to_rgb"]
    x = graph.conv2d(x, layer.kernel, layer.bias)
    if weights.to_rgb_activation == "tanh":
        x = graph.tanh(x)
    if weights.blend[block] != 1.0:
        x = graph.multiply(x, np.float32(weights.blend[block]))
    factors = [scale ** (weights.num_resolutions - block) for scale in weights.scale]
    if factors != [1, 1]:
        x = graph.resize_nearest(x, x.shape[1] * factors[0], x.shape[2] * factors[1])
    return _first_rows(graph, x, frames)


def _pixel_norm(graph: Graph, x: Tensor) -> Tensor:
    """Normalise each pixel's channels to a mean square of 1 (Magenta's ``layers.pixel_norm``)."""
    power = graph.mean(graph.square(x), -1)
    return graph.multiply(x, graph.rsqrt(graph.add(power, np.float32(_EPSILON))))


def _activate(graph: Graph, x: Tensor) -> Tensor:
    return _pixel_norm(graph, graph.leaky_relu(x, _LEAK))


def _pad(graph: Graph, x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Pad with zeros; a negative `bottom` removes rows."""
    if bottom < 0:
        x = _first_rows(graph, x, x.shape[1] + bottom)
        bottom = 0
    batch, height, width, channels = x.shape
    around = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    # XNNPACK merges the padding into the convolution that follows.
    return graph.op("PAD", [x, graph.constant(around)],
                    (batch, height + top + bottom, width + left + right, channels), options="Pad")


def _convolve(graph: Graph, x: Tensor, layer: Layer, height: int) -> Tensor:
    """Convolve the first rows (x) of a zero-padded input that has `height` rows in total.

    Rows that depend on missing input rows are not computed.
    """
    if x.shape[1] == height:
        return graph.conv2d(x, layer.kernel, layer.bias)
    tall, wide = layer.kernel.shape[:2]
    x = _pad(graph, x, (tall - 1) // 2, 0, (wide - 1) // 2, wide // 2)
    return graph.conv2d(x, layer.kernel, layer.bias, padding="VALID")


def _first_rows(graph: Graph, x: Tensor, rows: int) -> Tensor:
    if rows >= x.shape[1]:
        return x
    return graph.slice(x, [0, 0, 0, 0], [-1, rows, -1, -1])


def _fold(kernel: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Fold a kernel of size 3 for doubled pixels into two kernels of size 2 for the pixels."""
    a, b, c = np.split(kernel, 3, axis)
    return np.concatenate([a, b + c], axis), np.concatenate([a + b, c], axis)
