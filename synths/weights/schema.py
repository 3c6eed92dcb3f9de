"""Check the files of a model: its variables and its settings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from synths import CheckpointError
from synths.weights import tensor_bundle

AVERAGE = "/ExponentialMovingAverage"

# Number of axes of a parameter, by the end of its name.
_AXES = {"/W": 4, "/biases": 1, "/kernel": 4, "/bias": 1}

# Minimum and maximum of the numbers in experiment.json.  Official values are in Magenta's
# `models/gansynth/configs/mel_prog_hires.py` and in `gansynth/lib/model.py`.
_WHOLE = {
    "total_num_images": (0, 10**12), "stable_stage_num_images": (1, 10**12),
    "transition_stage_num_images": (1, 10**12), "fmap_base": (1, 1 << 16),
    "fmap_max": (1, 1 << 16), "latent_vector_size": (1, 1 << 14), "kernel_size": (1, 99),
    "scale_base": (1, 8), "num_resolutions": (1, 12), "start_height": (1, 1 << 10),
    "start_width": (1, 1 << 12), "audio_length": (1, 1 << 22), "sample_rate": (1000, 192_000),
}
_NUMBERS = {
    "fmap_decay": (-1e6, 1e6), "normalizer_margin": (-1e6, 1e6), "mag_normalizer_a": (-1e6, 1e6),
    "mag_normalizer_b": (-1e6, 1e6), "p_normalizer_a": (-1e6, 1e6), "p_normalizer_b": (-1e6, 1e6),
    "train_time_limit": (1, 1e12), "train_time_stage_multiplier": (1e-3, 1e3),
}
_MOST_CELLS = 1 << 22  # values in the largest spectrogram; the official ones have 1 << 17


def kind(prefix: str | Path) -> str | None:
    """Identify the model of a checkpoint by its variables: "nsynth", "gansynth" or None."""
    names = tensor_bundle.shapes(prefix)
    if any(name.startswith("ae_bottleneck/") for name in names):
        return "nsynth"
    if any(name.startswith("Generator/") for name in names):
        return "gansynth"
    return None


def is_parameter(name: str, model: str) -> bool:
    """Return whether a variable is a parameter of the model, not of the optimiser."""
    name = name.removesuffix(AVERAGE)
    if model == "nsynth":
        return name.endswith(("/W", "/biases"))
    return name.startswith("Generator/") and name.endswith(("/kernel", "/bias"))


def check_variables(prefix: str | Path, model: str) -> None:
    """Check in the index that a model's parameters are floats with the right number of axes."""
    for name, (dtype, shape) in tensor_bundle.variables(prefix).items():
        if not is_parameter(name, model):
            continue
        axes = next(axes for end, axes in _AXES.items()
                    if name.removesuffix(AVERAGE).endswith(end))
        if "float" not in dtype or len(shape) != axes or min(shape) < 1:
            raise CheckpointError(f"The variable {name} of the checkpoint {prefix} is {dtype} of "
                                  f"shape {list(shape)}, but must be floating point with {axes} "
                                  "axes: choose another checkpoint.")


def read(prefix: str | Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Read a model's variables with `tensor_bundle.read`, and check that they are finite."""
    arrays = tensor_bundle.read(prefix, wanted)
    for name, array in arrays.items():
        # Minimum and maximum both propagate NaN, and need no array of booleans in memory
        if array.dtype.kind == "f" and array.size and not (
                math.isfinite(array.max()) and math.isfinite(array.min())):
            raise CheckpointError(f"The variable {name} of the checkpoint {prefix} has values that "
                                  "are not finite: choose another checkpoint.")
    return arrays


def experiment(prefix: str | Path) -> dict[str, Any]:
    """Return the checked settings in the `experiment.json` of a GANSynth checkpoint."""
    file = experiment_file(prefix)
    try:
        settings = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{file} is not a JSON object: download or copy it again.")
    for key, (low, high) in (_WHOLE | _NUMBERS).items():
        value = settings.get(key, low)
        if key == "train_time_limit" and value is None:  # limited by the number of images
            continue
        if type(value) not in (int, float) or not low <= value <= high or (
                key in _WHOLE and value != int(value)):
            raise _unusable(file, key, value, f"a {'whole ' * (key in _WHOLE)}number from {low:,} "
                                              f"to {high:,}")
        if key in _WHOLE and key in settings:
            settings[key] = int(value)
    growth = settings.get("scale_base", 2) ** (settings.get("num_resolutions", 7) - 1)
    cells = settings.get("start_height", 2) * settings.get("start_width", 16) * growth**2
    if cells > _MOST_CELLS:
        raise _unusable(file, "num_resolutions", settings.get("num_resolutions", 7),
                        f"low enough for spectrograms of up to {_MOST_CELLS:,} values")
    return settings


def _unusable(file: Path, key: str, value: object, known: str) -> CheckpointError:
    shown = re.sub(r"\s+", " ", repr(value))[:60]
    return CheckpointError(f"In {file}, {key} is {shown}, but must be {known}: choose another "
                           "checkpoint.")


def experiment_file(prefix: str | Path) -> Path:
    """Return the path of `experiment.json`, which is in the stage folder or in its parent."""
    folder = Path(prefix).resolve().parent
    for file in (folder.parent / "experiment.json", folder / "experiment.json"):
        if file.exists():
            return file
    raise CheckpointError(f"The GANSynth checkpoint {prefix} lacks "
                          f"{folder.parent / 'experiment.json'}, which contains the settings: "
                          "copy that file as well.")
