"""A GANSynth generator's weights: what of a checkpoint plays, checked, and scaled as at run time.

The averaged variables of Magenta's ``models/gansynth/lib/networks.py`` are read, of the blocks that
count at the checkpoint's progress.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synths import CheckpointError
from synths.gansynth.specgrams import SpecgramInverter
from synths.weights import checkpoints
from synths.weights.schema import AVERAGE

LOWEST_PITCH = 24  # the model's first label: the lowest note of its data set

# What Magenta's Model assumes where experiment.json is silent (`model.py`, set_flags).
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

SCOPE = "Generator/progressive_gan_generator/progressive_gan_block_"
_CHANNELS = 2  # magnitude and phase


@dataclass(frozen=True)
class Layer:
    """One convolution: its kernel, scaled as Magenta scales it at run time, and its bias."""

    kernel: np.ndarray  # [height, width, inputs, outputs]
    bias: np.ndarray  # [outputs]


@dataclass(frozen=True)
class Weights:
    """A generator, ready to be built.

    Attributes
    ----------
    layers : dict of Layer
        By block (from 1) and name: "conv0", "conv1", "to_rgb".
    first : Layer
        The first block's "conv0": a matrix, for it sees one pixel amid zeros.
    start : (int, int)
        Frames and frequencies of the first block's picture.
    scale : (int, int)
        What each block multiplies them by.
    shares : dict of float
        Each block's share of the picture, by block; at most two neighbours have any.
    num_resolutions : int
        Blocks of the whole network; those that have not grown yet count by their size alone.
    progress : float
        How far it had grown: an integer at a stable stage, else the transition to the next.
    latent_size : int
        Random numbers that make an instrument.
    pitches : range
        MIDI notes that it knows.
    to_rgb_activation : str
        "tanh" or "linear".
    picture_scale, picture_offset : float32 [2] or [frequencies, 2]
        Magnitude and phase are ``(picture - offset) / scale``.
    """

    layers: Mapping[tuple[int, str], Layer]
    first: Layer
    start: tuple[int, int]
    scale: tuple[int, int]
    shares: Mapping[int, float]
    num_resolutions: int
    progress: float
    latent_size: int
    pitches: range
    to_rgb_activation: str
    picture_scale: np.ndarray
    picture_offset: np.ndarray

    @property
    def num_blocks(self) -> int:
        """The blocks that play."""
        return max(self.shares)

    def resolution(self, block: int) -> tuple[int, int]:
        """Frames and frequencies of a block's picture."""
        height, width = (size * scale ** (block - 1)
                         for size, scale in zip(self.start, self.scale))
        return height, width


def count_blocks(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many blocks a checkpoint has whose averaged weights were saved."""
    count = 0
    while f"{SCOPE}{count + 1}/conv1/conv2d/kernel{AVERAGE}" in shapes:
        count += 1
    return count


def load(prefix: Path) -> tuple[Weights, dict]:
    """Read a generator and the settings that it was trained with.

    Parameters
    ----------
    prefix : Path
        From `checkpoints.find`.

    Returns
    -------
    weights : Weights
    config : dict
        The `experiment.json`, with Magenta's defaults where it is silent.

    Raises
    ------
    CheckpointError
        If the weights are damaged, or of a network that is not known here.
    """
    config = {**DEFAULTS, **checkpoints.experiment(prefix)}
    _check_config(prefix, config)
    shapes = checkpoints.shapes(prefix)
    saved = count_blocks(shapes)
    if not saved:
        raise unusable(prefix, "lacks the averaged generator's variables, such as"
                               f" {SCOPE}1/conv1/conv2d/kernel{AVERAGE}")
    if saved > config["num_resolutions"]:
        raise unusable(prefix, f"has {saved} blocks, where its experiment.json allows"
                               f" {config['num_resolutions']}")
    progress = _progress(prefix, config, saved, shapes)
    shares = {block: share for block in range(1, saved + 1)
              if (share := max(0.0, min(progress - (block - 2), block - progress))) > 0.0}
    names, inputs = _variables(prefix, shapes, shares)
    start = shapes[names[1, "conv0"][0]][:2]
    for size, key in zip(start, ("start_height", "start_width")):
        if config.get(key, size) != size:
            raise unusable(prefix, f"starts from {start[0]} x {start[1]}, where its"
                                   f" experiment.json has {key} {config[key]}")
    labels = inputs - config["latent_vector_size"]
    if labels < 1:
        raise unusable(prefix, f"takes {inputs} numbers, where its experiment.json has"
                               f" {config['latent_vector_size']} without the pitches")
    layers = _layers(prefix, shapes, names)
    scale, offset = _picture_scales(prefix, config)
    base = config["scale_base"]
    return Weights(
        layers=layers, first=_as_matrix(layers.pop((1, "conv0"))), start=(start[0], start[1]),
        scale=(base, base if config["scale_mode"] == "ALL" else 1), shares=shares,
        num_resolutions=config["num_resolutions"], progress=progress,
        latent_size=config["latent_vector_size"],
        pitches=range(LOWEST_PITCH, LOWEST_PITCH + labels),
        to_rgb_activation=config["to_rgb_activation"], picture_scale=scale,
        picture_offset=offset), config


def unusable(prefix: Path, reason: str) -> CheckpointError:
    """Make the error that says why a checkpoint cannot be played."""
    return CheckpointError(f"The GANSynth checkpoint {prefix} {reason}: choose another one.")


def _check_config(prefix: Path, config: dict) -> None:
    allowed = {"data_type": SpecgramInverter.DATA_TYPES, "scale_mode": ("ALL", "H"),
               "to_rgb_activation": ("tanh", "linear"), "g_fn": ("specgram",),
               "simple_arch": (False,),
               "data_normalizer": ("none", "specgrams_prespecified_normalizer",
                                   "specgrams_simple_normalizer",
                                   "specgrams_freq_normalizer")}
    for key, values in allowed.items():
        if config[key] not in values:
            names = ", ".join(map(str, values))
            raise unusable(prefix, f"has {key} {config[key]} in its experiment.json (known are"
                                 f" {names})")
    for key in ("latent_vector_size", "scale_base", "num_resolutions",
                "stable_stage_num_images", "transition_stage_num_images"):
        value = config[key]
        if not isinstance(value, (int, float)) or value != value // 1 or value < 1:
            raise unusable(prefix, f"has {key} {value} in its experiment.json, where a whole"
                                 " number over 0 belongs")
        config[key] = int(value)


def _variables(prefix: Path, shapes: Mapping[str, tuple[int, ...]], shares: Mapping[int, float],
               ) -> tuple[dict[tuple[int, str], tuple[str, str]], int]:
    """The kernel's and the bias's name of each layer that plays, and the first one's inputs.

    Each layer must take what the one before it gives.
    """
    names: dict[tuple[int, str], tuple[str, str]] = {}
    inputs = None
    for block in range(1, max(shares) + 1):
        for layer in ("conv0", "conv1", "to_rgb"):
            if layer == "to_rgb" and block not in shares:
                continue
            scope = f"{SCOPE}{block}/{layer}"
            name = f"{scope}/conv2d/kernel{AVERAGE}"
            kernel = shapes.get(name)
            if kernel is None:
                raise unusable(prefix, f"lacks the variable {name}")
            if len(kernel) != 4 or inputs is not None and kernel[2] != inputs or (
                    layer == "to_rgb" and kernel[3] != _CHANNELS):
                raise unusable(prefix, f"has a variable {name} of shape {list(kernel)},"
                                       " which does not fit its neighbours")
            names[block, layer] = name, f"{scope}/bias{AVERAGE}"
            if layer != "to_rgb":
                inputs = kernel[3]
    return names, shapes[names[1, "conv0"][0]][2]


def _layers(prefix: Path, shapes: Mapping[str, tuple[int, ...]],
            names: Mapping[tuple[int, str], tuple[str, str]]) -> dict[tuple[int, str], Layer]:
    """Read the layers; kernels are scaled as Magenta does it at run time."""
    for kernel_name, bias_name in names.values():
        if shapes.get(bias_name) != shapes[kernel_name][3:]:
            raise unusable(prefix, f"has no variable {bias_name} of shape "
                                   f"{list(shapes[kernel_name][3:])}")
    values = checkpoints.read(prefix, [name for pair in names.values() for name in pair])
    layers = {}
    for key, (kernel_name, bias_name) in names.items():
        kernel = np.asarray(values[kernel_name], np.float32)
        # Equalised learning rate: He's scale, slope 0 before a leaky ReLU (as in Magenta),
        # 1 before to_rgb.
        slope = 1.0 if key[1] == "to_rgb" else 0.0
        gain = math.sqrt(2.0 / ((1.0 + slope**2) * np.prod(kernel.shape[:-1])))
        layers[key] = Layer(kernel * np.float32(gain), np.asarray(values[bias_name], np.float32))
    return layers


def _as_matrix(first: Layer) -> Layer:
    """The first layer sees one pixel amid zeros: a matrix, its kernel turned by half a turn."""
    height, width, inputs = first.kernel.shape[:3]
    return Layer(first.kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(inputs, -1),
                 np.tile(first.bias, height * width))


def _progress(prefix: Path, config: dict, num_blocks: int,
              shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Magenta's ``compute_progress`` and ``compute_progress_from_time``."""
    if not config["train_progressive"]:
        return num_blocks - 1.0
    if config["train_time_limit"] is not None:
        if shapes.get("Variable") != ():
            raise unusable(prefix, "lacks the variable Variable, the time spent in training")
        time = np.float32(checkpoints.read(prefix, ["Variable"])["Variable"])
        stages = config["train_time_stage_multiplier"] ** np.arange(
            2 * config["num_resolutions"] - 1, dtype=np.float32)
        ends = np.cumsum(stages * (config["train_time_limit"] / stages.sum()))
        grown = np.clip((time - ends[:-1:2]) / (ends[1::2] - ends[:-1:2]), 0.0, 1.0).sum()
        return float(min(grown, num_blocks - 1.0))
    if shapes.get("global_step") != ():
        raise unusable(prefix, "lacks the variable global_step, the pictures seen in training")
    step = int(checkpoints.read(prefix, ["global_step"])["global_step"])
    stable = config["stable_stage_num_images"]
    transition = config["transition_stage_num_images"]
    step = min(step, num_blocks * stable + (num_blocks - 1) * transition - 1)
    whole, rest = divmod(step, stable + transition)
    return float(whole + max(np.float32(0.0), np.float32(rest - stable)
                             / np.float32(transition)))


def _picture_scales(prefix: Path, config: dict) -> tuple[np.ndarray, np.ndarray]:
    """How the network's -1..1 becomes magnitude and phase: `(picture - offset) / scale`."""
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
                # One row (mag_a, mag_b, p_a, p_b), or one for each frequency.
                table = np.atleast_2d(archive["normalizer"])
            if table.shape[1] != 4:
                raise ValueError(f"its table has shape {list(table.shape)}")
        except Exception as error:
            raise unusable(prefix, f"needs {file}, which cannot be read ({error})") from error
        scale, offset = table[:, [0, 2]], table[:, [1, 3]]
    # The picture is float32 there too.
    return np.asarray(scale, np.float32), np.asarray(offset, np.float32)
