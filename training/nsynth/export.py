"""Write a training state as a TensorFlow checkpoint with Magenta's variable names.

`python -m training.nsynth.export [--state FILE] [--output DIR]` needs TensorFlow, not PyTorch.
It exports the averaged weights, under the plain names from which Magenta's `fastgen` restores a
network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from synths import InputError
from training import command, make_parser
from training.nsynth.names import averages, official, read_state


def write(variables: Mapping[str, np.ndarray], prefix: Path) -> Path:
    """Write variables as a TensorFlow checkpoint `prefix`; the older ones beside it go."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(variables)
    with tempfile.TemporaryDirectory(dir=prefix.parent) as folder:
        tf.raw_ops.SaveV2(prefix=str(Path(folder, prefix.name)), tensor_names=names,
                          shape_and_slices=[""] * len(names),
                          tensors=[tf.constant(variables[name]) for name in names])
        for old in prefix.parent.glob("model.ckpt-*"):
            if old.name.split(".")[1] != prefix.name.split(".")[1]:
                old.unlink()
        for file in sorted(Path(folder).glob(f"{prefix.name}.*")):
            file.replace(prefix.parent / file.name)
    return prefix


def export(states: Sequence[Path], folder: Path, temperature: float = 1.0) -> Path:
    """Export the averaged weights of a training state or a checkpoint, and return the prefix.

    Of several states of one training, export the mean.  The last layer is divided by
    `temperature`.
    """
    if not temperature > 0:
        raise InputError(f"The temperature must be above 0, not {temperature}.")
    found = [read_state(path) for path in states]
    steps = max(int(state["steps"]) for state in found)
    weights = [averages(state) for state in found]
    values = {name: np.mean([each[name] for each in weights], axis=0) for name in weights[0]}
    values["logits_w"] = values["logits_w"] / temperature
    values["logits_b"] = values["logits_b"] / temperature
    return write(official(values), folder / f"model.ckpt-{steps}")


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Export; see the module's head."""
    parser = make_parser("training.nsynth.export", __doc__)
    parser.add_argument("--state", type=Path, nargs="+", metavar="FILE",
                        default=[Path("training/runs/nsynth/state.npz")],
                        help="training state (default: training/runs/nsynth/state.npz); of "
                             "several, export the mean")
    parser.add_argument("--output", type=Path, default=Path("checkpoints/nsynth_starter"),
                        metavar="DIR", help="folder of the checkpoint (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T",
                        help="fold this sampling temperature into the output layer (default: "
                             "%(default)s)")
    options = parser.parse_args(arguments)
    print(export(options.state, options.output, options.temperature))


if __name__ == "__main__":
    raise SystemExit(main())
