"""The official names of the network's variables: there and back.

`training.nsynth.model` stacks the parameters of all layers of a kind; Magenta's checkpoints have
one variable for each layer (`magenta/models/nsynth/wavenet/h512_bo16.py`, `masked.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from synths import InputError

_STACKED = ("ae_dilatedconv", "ae_res", "dilatedconv", "cond_map", "res", "skip")
_SINGLE = ("ae_startconv", "ae_bottleneck", "startconv", "skip_start", "out1", "cond_map_out1",
           "logits")


def official(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The stacked arrays of `training.nsynth.model` under the official names and shapes.

    Kernels become [1, taps, in, out] (`magenta/models/nsynth/wavenet/masked.py`, `conv1d`).
    """
    out = {}

    def add(name: str, kernel: np.ndarray, bias: np.ndarray, taps: bool) -> None:
        if name.endswith("startconv"):
            kernel = kernel[:, None]  # one input channel
        out[f"{name}/W"] = np.float32(kernel[None] if taps else kernel[None, None])
        out[f"{name}/biases"] = np.float32(bias)

    for name in _SINGLE:
        add(name, values[f"{name}_w"], values[f"{name}_b"], taps=name.endswith("startconv"))
    for name in _STACKED:
        for i, (kernel, bias) in enumerate(zip(values[f"{name}_w"], values[f"{name}_b"])):
            add(f"{name}_{i + 1}", kernel, bias, taps=name.endswith("dilatedconv"))
    return out


def stacked(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Official variables as the stacked arrays of `training.nsynth.model`: undoes `official`."""
    out = {}
    for name in _SINGLE:
        kernel = variables[f"{name}/W"][0]  # [taps, in, out]
        out[f"{name}_w"] = kernel[:, 0] if name.endswith("startconv") else kernel[0]
        out[f"{name}_b"] = variables[f"{name}/biases"]
    for name in _STACKED:
        count = sum(f"{name}_{i + 1}/W" in variables for i in range(len(variables)))
        kernels = np.stack([variables[f"{name}_{i + 1}/W"][0] for i in range(count)])
        out[f"{name}_w"] = kernels if name.endswith("dilatedconv") else kernels[:, 0]
        out[f"{name}_b"] = np.stack([variables[f"{name}_{i + 1}/biases"] for i in range(count)])
    return out


def read_state(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state file, `ema/...`, `raw/...`, `exp_avg/...`, and counts; or of an
    exported checkpoint, whose weights stand for both `raw` and `ema`, without moments.
    """
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in ("steps", *file.files)}  # all have "steps"
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} is not a training state ({error}): train first.") from error
    from synths.weights import checkpoints  # a machine that only trains need not have its packages

    prefix = checkpoints.find(path, "nsynth")
    names = [name for name in checkpoints.shapes(prefix) if name.endswith(("/W", "/biases"))]
    state = {"samples": np.array(0), "seconds": np.array(0.0),
             "steps": np.array(int(prefix.name.rsplit("-", 1)[-1]))}
    for name, value in stacked(checkpoints.read(prefix, names)).items():
        state[f"raw/{name}"] = state[f"ema/{name}"] = value
    return state


def averages(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The averaged weights of a state."""
    return {name[4:]: value for name, value in state.items() if name.startswith("ema/")}
