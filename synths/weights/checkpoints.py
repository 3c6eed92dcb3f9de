"""Load model weights, by name or path, as arrays.

This module combines `names` (the known models), `paths` (finding checkpoints), `tensor_bundle`
(TensorFlow's format), `schema` (the variables and settings of a model) and `downloads`.
"""

from __future__ import annotations

import math
from pathlib import Path

from synths.weights import names, schema
from synths.weights.names import CHECKPOINTS, CHECKPOINTS_DIR, Checkpoint
from synths.weights.paths import find, resolve
from synths.weights.schema import experiment, kind, read
from synths.weights.tensor_bundle import check, shapes

__all__ = ["CHECKPOINTS", "CHECKPOINTS_DIR", "Checkpoint", "check", "describe", "download",
           "experiment", "find", "kind", "read", "resolve", "shapes"]


def download(name: str, target_dir: str | Path | None = None) -> Path:
    """Download an official model if it is missing, and return its prefix."""
    from synths.weights import downloads  # takes a tenth of a second, so import it only here

    return downloads.fetch_weights(name, target_dir)


def describe(prefix: str | Path, model: str,
             target_dir: str | Path | None = None) -> str:
    """Return a model's name and size: "bundled nsynth_starter (0.3 M parameters, 1.2 MB)"."""
    prefix = Path(prefix)
    parameters = {name.removesuffix(schema.AVERAGE): math.prod(shape)
                  for name, shape in shapes(prefix).items() if schema.is_parameter(name, model)}
    millions = sum(parameters.values()) / 1e6
    size = sum(file.stat().st_size for file in prefix.parent.glob(prefix.name + ".data-*")) / 1e6
    name = name_of(prefix, target_dir)
    title = f"checkpoint {prefix}" if name is None else (
        f"{'official' if CHECKPOINTS[name].url else 'bundled'} {name}")
    return f"{title} ({_short(millions)} M parameters, {_short(size)} MB)"


def name_of(prefix: str | Path, target_dir: str | Path | None = None) -> str | None:
    """Return the name of a bundled or downloaded model; None for other checkpoints."""
    for known in CHECKPOINTS.values():
        place = target_dir if known.url and target_dir else names.CHECKPOINTS_DIR
        if (Path(place) / known.name).resolve() in Path(prefix).resolve().parents:
            return known.name
    return None


def _short(number: float) -> str:
    digits = 0 if number >= 100 else 1 if number >= 1 else 2 if number >= 0.01 else 4
    return f"{number:.{digits}f}"
