"""The variables and constants of NSynth's WaveNet autoencoder.

Like Magenta's `fastgen`, this module reads the variables themselves, not their moving averages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synths import CheckpointError
from synths.weights import checkpoints

HOP_LENGTH = 512    # samples per frame of an encoding
STAGES = 10         # dilations 1, 2, ... 512, repeated
CODES = 256         # mu-law codes 0..255 stand for -128..127
GROUP = 5           # layers whose skips are one product in int8: as many as XNNPACK concatenates
# Up to this width a network is small: its steps are too short to share among threads.
SMALL = 96
INT8_WIDTH = 128    # from this width on, int8 is faster than float32


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
    """The decoder's variables (float32), with Magenta's names and in Magenta's order."""

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


def sizes(prefix: Path) -> tuple[int, int, int]:
    """Return the width, the number of layers and the encoding channels of a checkpoint's decoder.

    All shapes are checked.
    """
    shapes = checkpoints.shapes(prefix)
    check_layers(prefix, shapes, _expected(shapes))
    return (shapes["startconv/W"][3], count_layers(shapes, "dilatedconv_"),
            shapes["cond_map_out1/W"][2])


def _expected(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the decoder's kernels must have, by layer."""
    width, skip, channels = (shapes[name][axis] if len(shapes.get(name, ())) == 4 else 0
                             for name, axis in (("startconv/W", 3), ("skip_start/W", 3),
                                                ("cond_map_out1/W", 2)))
    expected: dict[str, tuple[int, ...]] = {
        "startconv": (1, 3, 1, width), "skip_start": (1, 1, width, skip),
        "out1": (1, 1, skip, skip), "cond_map_out1": (1, 1, channels, skip),
        "logits": (1, 1, skip, CODES)}
    for i in range(1, max(count_layers(shapes, "dilatedconv_"), 1) + 1):
        expected |= {f"dilatedconv_{i}": (1, 3, width, 2 * width),
                     f"cond_map_{i}": (1, 1, channels, 2 * width),
                     f"res_{i}": (1, 1, width, width), f"skip_{i}": (1, 1, width, skip)}
    return expected


def dilation(layer: int) -> int:
    """Return the dilation of a layer (counted from 0) in time steps."""
    return 2 ** (layer % STAGES)


def context_frames(layers: int) -> int:
    """Return the number of frames that the receptive field of `layers` layers covers."""
    return -(-(2 + sum(2 * dilation(layer) for layer in range(layers))) // HOP_LENGTH)


def load(prefix: Path) -> Weights:
    """Read the decoder's variables from a checkpoint prefix."""
    shapes = checkpoints.shapes(prefix)
    variables = read_layers(prefix, shapes, _expected(shapes))

    def matrix(name: str) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = variables[name]
        return kernel.reshape(kernel.shape[-2:]), bias

    start, start_bias = variables["startconv"]
    weights = Weights(start.reshape(3, -1), start_bias, *matrix("skip_start"), *matrix("out1"),
                      *matrix("cond_map_out1"), *matrix("logits"))
    for i in range(1, count_layers(shapes, "dilatedconv_") + 1):
        taps, bias = variables[f"dilatedconv_{i}"]
        weights.layers.append(Layer(dilation(i - 1), taps[0], bias,
                                    *matrix(f"cond_map_{i}"), *matrix(f"res_{i}"),
                                    *matrix(f"skip_{i}")))
    return weights


def count_layers(shapes: Mapping[str, tuple[int, ...]], scope: str) -> int:
    """Count the layers `<scope>1`, `<scope>2`, ... of a checkpoint."""
    n = 0
    while f"{scope}{n + 1}/W" in shapes:
        n += 1
    return n


def check_layers(prefix: Path, shapes: Mapping[str, tuple[int, ...]],
                 expected: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the variables of each layer have the expected shapes."""
    for name, kernel in expected.items():
        for variable, shape in ((f"{name}/W", kernel), (f"{name}/biases", kernel[-1:])):
            if variable not in shapes:
                raise CheckpointError(f"The checkpoint {prefix} lacks the variable {variable}, so "
                                      "it is not a checkpoint of NSynth's WaveNet autoencoder: "
                                      "choose another one.")
            if shape != shapes[variable] or 0 in shape:
                raise CheckpointError(
                    f"The variable {variable} of the checkpoint {prefix} has shape "
                    f"{shapes[variable]}, but the adjacent layers need {shape}: choose another "
                    "checkpoint.")


def read_layers(prefix: Path, shapes: Mapping[str, tuple[int, ...]],
                expected: Mapping[str, tuple[int, ...]],
                ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Check the layers with `check_layers`, and return their kernels and biases."""
    check_layers(prefix, shapes, expected)
    arrays = checkpoints.read(prefix, [f"{name}/{part}" for name in expected
                                       for part in ("W", "biases")])
    return {name: (arrays[f"{name}/W"], arrays[f"{name}/biases"]) for name in expected}


def quantise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a matrix [inputs, outputs] as int8, and one scale for each output channel."""
    scale = np.abs(matrix).max(axis=0) / np.float32(127)
    scale[scale == 0] = 1
    return np.rint(matrix / scale).astype(np.int8), scale
