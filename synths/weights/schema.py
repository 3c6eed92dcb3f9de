"""What the files of a model must hold: its variables and its settings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from synths import CheckpointError
from synths.files import quoted, shortened
from synths.weights import tensor_bundle

AVERAGE = "/ExponentialMovingAverage"
_MOST_SETTINGS = 1 << 20    # bytes of an experiment.json; the official ones have 2,000

# Axes of a parameter, by how its name ends.
_RANKS = {"/W": 4, "/biases": 1, "/kernel": 4, "/bias": 1}

# Whole numbers in experiment.json: the least and the most that make sense.  Official values are
# in Magenta's `models/gansynth/configs/mel_prog_hires.py` and in `gansynth/lib/model.py`.
_WHOLE = {
    "total_num_images": (0, 10 ** 12), "stable_stage_num_images": (1, 10 ** 12),
    "transition_stage_num_images": (1, 10 ** 12), "fmap_base": (1, 1 << 16),
    "fmap_max": (1, 1 << 16), "latent_vector_size": (1, 1 << 14), "kernel_size": (1, 99),
    "scale_base": (1, 8), "num_resolutions": (1, 12), "start_height": (1, 1 << 10),
    "start_width": (1, 1 << 12), "audio_length": (1, 1 << 22), "sample_rate": (1000, 192_000),
}
_NUMBERS = ("fmap_decay", "mag_normalizer_a", "mag_normalizer_b", "p_normalizer_a",
            "p_normalizer_b", "normalizer_margin")
_WORDS = ("data_type", "scale_mode", "g_fn", "d_fn", "to_rgb_activation", "data_normalizer",
          "dataset_name")
_SWITCHES = ("train_progressive", "simple_arch")
_MOST_CELLS = 1 << 22       # of the largest picture; the official ones have 1 << 17


def kind(prefix: str | Path) -> str | None:
    """The model that a checkpoint is of, by its variables: "nsynth", "gansynth" or None."""
    names = tensor_bundle.shapes(prefix)
    if any(name.startswith("ae_bottleneck/") for name in names):
        return "nsynth"
    if any(name.startswith("Generator/") for name in names):
        return "gansynth"
    return None


def is_parameter(name: str, model: str) -> bool:
    """Whether a variable is one that the model sounds by, not one of an optimiser."""
    name = name.removesuffix(AVERAGE)
    if model == "nsynth":
        return name.endswith(("/W", "/biases"))
    return name.startswith("Generator/") and name.endswith(("/kernel", "/bias"))


def check_variables(prefix: str | Path, model: str) -> None:
    """Make sure, by the index alone, that a model's parameters are floats of the right ranks.

    Raises
    ------
    CheckpointError
        One of them is not.
    """
    for name, (dtype, shape) in tensor_bundle.variables(prefix).items():
        if not is_parameter(name, model):
            continue
        rank = next(rank for end, rank in _RANKS.items()
                    if name.removesuffix(AVERAGE).endswith(end))
        if "float" not in dtype:
            raise _unfit(prefix, name, f"is of the type {dtype}, where numbers with a point belong")
        if len(shape) != rank or min(shape) < 1:
            raise _unfit(prefix, name, f"has the shape {shortened(list(shape))}, where {rank} axes "
                                       "of 1 or more belong")


def read(prefix: str | Path, wanted: Iterable[str], *,
         expected: Mapping[str, tuple[int, ...]] | None = None,
         verify: bool | None = None) -> dict[str, np.ndarray]:
    """As `tensor_bundle.read`, for a model's variables: those of floats must be finite.

    Raises
    ------
    CheckpointError
        As `tensor_bundle.read`; or a number is NaN or infinite.
    """
    arrays = tensor_bundle.read(prefix, wanted, expected=expected, verify=verify)
    for name, array in arrays.items():
        # NaN comes through both; two looks at the numbers, and no array of booleans beside them
        if array.dtype.kind == "f" and array.size and not (
                math.isfinite(array.max()) and math.isfinite(array.min())):
            raise _unfit(prefix, name, "has numbers that are not finite")
    return arrays


def _unfit(prefix: str | Path, name: str, reason: str) -> CheckpointError:
    return CheckpointError(f"{shortened(prefix)}: the variable {quoted(name)} {reason}: choose "
                           "another checkpoint.")


def experiment(prefix: str | Path) -> dict:
    """The settings that a GANSynth was trained with: `experiment.json` above its stage's folder.

    Returns
    -------
    dict
        What of it is known here is of the right type and of a size that makes sense; whole numbers
        are int.  The rest is as it stands there.

    Raises
    ------
    CheckpointError
        There is no such file, it is not a JSON object, or a setting makes no sense.
    """
    file = experiment_file(prefix)
    try:
        with open(file, "rb") as opened:
            text = opened.read(_MOST_SETTINGS + 1)
    except OSError as error:
        raise CheckpointError(f"{shortened(file)} cannot be read ({error.strerror or error}): "
                              "copy it anew.") from None
    return _settings(file, text)


def experiment_file(prefix: str | Path) -> Path:
    """Return the `experiment.json` of a GANSynth checkpoint: above its stage's folder, or in it.

    Raises
    ------
    CheckpointError
        There is none.
    """
    folder = Path(prefix).resolve().parent
    for file in (folder.parent / "experiment.json", folder / "experiment.json"):
        if file.exists():
            return file
    raise CheckpointError(
        f"The GANSynth checkpoint {shortened(prefix)} lacks "
        f"{shortened(folder.parent / 'experiment.json')}, which says how the network was built: "
        "copy it there, too.")


def _settings(file: Path, text: bytes) -> dict:
    """The checked settings of an `experiment.json`."""
    try:
        settings = json.loads(text.decode("utf-8")) if len(text) <= _MOST_SETTINGS else None
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{shortened(file)}, which says how the network was built, is not a JSON object: fetch "
            "or copy it anew.")

    def refuse(key: str, belongs: str) -> CheckpointError:
        return CheckpointError(f"{shortened(file)} has {key} {quoted(settings[key], 60)}, where "
                               f"{belongs} belongs: fetch or copy it anew.")

    for key in settings.keys() & _WHOLE.keys():
        low, high = _WHOLE[key]
        value = settings[key]
        if type(value) not in (int, float) or not low <= value <= high or value != int(value):
            raise refuse(key, f"a whole number from {low:,} to {high:,}")
        settings[key] = int(value)
    for key in settings.keys() & set(_NUMBERS):
        if type(settings[key]) not in (int, float) or not -1e6 <= settings[key] <= 1e6:
            raise refuse(key, "a number")
    for key in settings.keys() & set(_WORDS):
        if not isinstance(settings[key], str) or not re.fullmatch(r"[\w.-]{0,100}", settings[key]):
            raise refuse(key, "a word")
    for key in settings.keys() & set(_SWITCHES):
        if not isinstance(settings[key], bool):
            raise refuse(key, "true or false")
    growth = settings.get("scale_base", 2) ** (settings.get("num_resolutions", 7) - 1)
    cells = settings.get("start_height", 2) * settings.get("start_width", 16) * growth ** 2
    if cells > _MOST_CELLS:
        raise CheckpointError(f"{shortened(file)} describes pictures of {cells:,} points, where "
                              f"{_MOST_CELLS:,} are the most: fetch or copy it anew.")
    return settings
