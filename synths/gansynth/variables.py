"""The weights of a GANSynth generator, checked and scaled as at run time.

They are the averaged variables of Magenta's ``models/gansynth/lib/networks.py``, for the blocks
that the network had when the checkpoint was saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synths import CheckpointError
from synths.weights import checkpoints
from synths.weights.schema import AVERAGE

LOWEST_PITCH = 24  # MIDI pitch of the model's first label, the lowest note of its data set

# Magenta's defaults for settings that are not in experiment.json (`model.py`, set_flags).
DEFAULTS = {
    "data_type": "mel",
    "audio_length": 64000,
    "sample_rate": 16000,
    "data_normalizer": "specgrams_prespecified_normalizer",
    "mag_normalizer_a": 0.0661371661726,
    "mag_normalizer_b": 0.113718730221,
    "p_normalizer_a": 0.8,
    "p_normalizer_b": 0.0,
    "stable_stage_num_images": 32,
    "transition_stage_num_images": 32,
    "train_progressive": True,
    "train_time_limit": None,
    "train_time_stage_multiplier": 1.0,
    "g_fn": "specgram",
    "latent_vector_size": 256,
    "scale_mode": "ALL",
    "scale_base": 2,
    "num_resolutions": 7,
    "simple_arch": False,
    "to_rgb_activation": "tanh",
}

_KNOWN = {  # supported values of the settings
    "data_type": ("mel", "linear", "phase"), "scale_mode": ("ALL", "H"),
    "to_rgb_activation": ("tanh", "linear"), "g_fn": ("specgram",), "simple_arch": (False,),
    "data_normalizer": ("none", "specgrams_prespecified_normalizer", "specgrams_simple_normalizer",
                        "specgrams_freq_normalizer"),
}
SCOPE = "Generator/progressive_gan_generator/progressive_gan_block_"
_CHANNELS = 2  # magnitude and phase


@dataclass(frozen=True)
class Layer:
    """One convolution: its kernel, scaled as Magenta scales it at run time, and its bias."""

    kernel: np.ndarray  # [height, width, inputs, outputs]
    bias: np.ndarray  # [outputs]


@dataclass(frozen=True)
class Weights:
    """The weights and settings of a generator."""

    layers: Mapping[tuple[int, str], Layer]  # by block (from 1): "conv0", "conv1", "to_rgb"
    first: Layer  # "conv0" of the first block, as a matrix, because its input is a single pixel
    start: tuple[int, int]  # frames and frequency bins of the first block's output
    scale: tuple[int, int]  # factors by which each block increases the frames and the bins
    blend: Mapping[int, float]  # weight of a block in the spectrogram; one or two adjacent blocks
    num_resolutions: int  # blocks of the fully grown network
    progress: float  # an integer at a stable stage, a fraction in a transition
    latent_size: int
    pitches: range
    to_rgb_activation: str
    normalizer_scale: np.ndarray  # [2] or [frequency bins, 2]
    normalizer_offset: np.ndarray  # magnitude and phase are (output - offset) / scale

    @property
    def num_blocks(self) -> int:
        """The number of blocks that are used."""
        return max(self.blend)

    def resolution(self, block: int) -> tuple[int, int]:
        """Return the numbers of frames and of frequency bins in a block's output."""
        height, width = (size * scale ** (block - 1)
                         for size, scale in zip(self.start, self.scale))
        return height, width


def count_blocks(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of blocks whose averaged weights are in a checkpoint."""
    count = 0
    while f"{SCOPE}{count + 1}/conv1/conv2d/kernel{AVERAGE}" in shapes:
        count += 1
    return count


def load(prefix: Path) -> tuple[Weights, dict]:
    """Read a generator's weights, and its settings with Magenta's defaults for missing ones."""
    config = {**DEFAULTS, **checkpoints.experiment(prefix)}
    for key, values in _KNOWN.items():
        if config[key] not in values:
            raise unusable(prefix, f"has {key} {config[key]} in its experiment.json (supported"
                                   f" values: {', '.join(map(str, values))})")
    shapes = checkpoints.shapes(prefix)
    saved = count_blocks(shapes)
    if not 0 < saved <= config["num_resolutions"]:
        raise unusable(prefix, f"has {saved} blocks of averaged weights, but its experiment.json"
                               f" allows 1 to {config['num_resolutions']} blocks")
    progress = _progress(prefix, config, saved, shapes)
    blend = {block: weight for block in range(1, saved + 1)
             if (weight := max(0.0, min(progress - (block - 2), block - progress))) > 0.0}
    layers = _layers(prefix, shapes, blend)
    height, width, inputs = layers[1, "conv0"].kernel.shape[:3]
    latent_size, base = config["latent_vector_size"], config["scale_base"]
    for key, found, wanted in (("start_height", height, config.get("start_height", height)),
                               ("start_width", width, config.get("start_width", width)),
                               ("latent_vector_size", inputs, max(inputs, latent_size + 1))):
        if found != wanted:
            raise unusable(prefix, f"has {key} {config[key]} in its experiment.json, but its first"
                                   f" layer has size {found}")
    scale, offset = _normalizer(prefix, config)
    return Weights(
        layers=layers, first=_as_matrix(layers.pop((1, "conv0"))), start=(height, width),
        scale=(base, base if config["scale_mode"] == "ALL" else 1), blend=blend,
        num_resolutions=config["num_resolutions"], progress=progress, latent_size=latent_size,
        pitches=range(LOWEST_PITCH, LOWEST_PITCH + inputs - latent_size),
        to_rgb_activation=config["to_rgb_activation"], normalizer_scale=scale,
        normalizer_offset=offset), config


def unusable(prefix: Path, reason: str) -> CheckpointError:
    """Return the error for a checkpoint that cannot be used."""
    return CheckpointError(f"The GANSynth checkpoint {prefix} {reason}: choose another one.")


def _layers(prefix: Path, shapes: Mapping[str, tuple[int, ...]], blend: Mapping[int, float],
            ) -> dict[tuple[int, str], Layer]:
    """Read the layers in use, and scale their kernels as Magenta does at run time."""
    names = {(block, layer): f"{SCOPE}{block}/{layer}" for block in range(1, max(blend) + 1)
             for layer in ("conv0", "conv1", "to_rgb") if layer != "to_rgb" or block in blend}
    inputs = None  # each layer's inputs must match the outputs of the layer before it
    for (_, layer), scope in names.items():
        name = f"{scope}/conv2d/kernel{AVERAGE}"
        shape = shapes.get(name, ())
        if len(shape) != 4 or inputs not in (None, shape[2]) or (
                layer == "to_rgb" and shape[3] != _CHANNELS) or (
                shapes.get(f"{scope}/bias{AVERAGE}") != shape[3:]):
            raise unusable(prefix, f"has no variable {name} that fits the network (shape found:"
                                   f" {list(shape)}), or no bias that fits this variable")
        inputs = inputs if layer == "to_rgb" else shape[3]
    values = checkpoints.read(prefix, [f"{scope}/{part}{AVERAGE}" for scope in names.values()
                                       for part in ("conv2d/kernel", "bias")])
    layers = {}
    for key, scope in names.items():
        kernel = values[f"{scope}/conv2d/kernel{AVERAGE}"].astype(np.float32, copy=False)
        # Equalised learning rate: He's scale, slope 0 before a leaky ReLU (as in Magenta),
        # 1 before to_rgb.
        slope = 1.0 if key[1] == "to_rgb" else 0.0
        gain = math.sqrt(2.0 / ((1.0 + slope**2) * np.prod(kernel.shape[:-1])))
        layers[key] = Layer(kernel * np.float32(gain),
                            values[f"{scope}/bias{AVERAGE}"].astype(np.float32, copy=False))
    return layers


def _as_matrix(first: Layer) -> Layer:
    """Return the first layer as a matrix, since its input is one pixel; rotate its kernel 180°."""
    height, width, inputs = first.kernel.shape[:3]
    return Layer(first.kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(inputs, -1),
                 np.tile(first.bias, height * width))


def _progress(prefix: Path, config: dict, num_blocks: int,
              shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Return how far the network had grown.

    Source: Magenta's ``compute_progress`` and ``compute_progress_from_time``.
    """
    if not config["train_progressive"]:
        return num_blocks - 1.0
    timed = config["train_time_limit"] is not None
    name = "Variable" if timed else "global_step"  # seconds or images in training
    if shapes.get(name) != ():
        raise unusable(prefix, f"lacks the number {name}, which states how far the network had"
                               " grown")
    value = checkpoints.read(prefix, [name])[name]
    if timed:
        stages = config["train_time_stage_multiplier"] ** np.arange(
            2 * config["num_resolutions"] - 1, dtype=np.float32)
        ends = np.cumsum(stages * (config["train_time_limit"] / stages.sum()))
        grown = np.clip((np.float32(value) - ends[:-1:2]) / (ends[1::2] - ends[:-1:2]), 0.0, 1.0)
        return float(min(grown.sum(), num_blocks - 1.0))
    stable, transition = (config["stable_stage_num_images"],
                          config["transition_stage_num_images"])
    step = min(int(value), num_blocks * stable + (num_blocks - 1) * transition - 1)
    whole, rest = divmod(step, stable + transition)
    return float(whole + max(np.float32(0.0), np.float32(rest - stable) / np.float32(transition)))


def _normalizer(prefix: Path, config: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and the offset that relate the network's output to magnitude and phase."""
    kind = config["data_normalizer"]
    if kind == "none":
        scale, offset = [1.0, 1.0], [0.0, 0.0]
    elif kind == "specgrams_prespecified_normalizer":
        scale = [config["mag_normalizer_a"], config["p_normalizer_a"]]
        offset = [config["mag_normalizer_b"], config["p_normalizer_b"]]
    else:
        file = prefix.resolve().parent.parent / "assets" / f"{kind}.npz"
        try:
            with np.load(file, allow_pickle=False) as archive:
                # One row (mag_a, mag_b, p_a, p_b), or one for each frequency bin.
                table = np.atleast_2d(archive["normalizer"])
            scale, offset = table[:, [0, 2]], table[:, [1, 3]]
        except Exception as error:
            raise unusable(prefix, f"needs {file}, which cannot be read ({error})") from error
    return np.asarray(scale, np.float32), np.asarray(offset, np.float32)
