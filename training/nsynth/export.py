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

from synths import InputError, nsynth
from training import command, make_parser
from training.nsynth.evaluate import shipped_sounds
from training.nsynth.names import official, state_of


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


def moved(values: Mapping[str, np.ndarray], origin: np.ndarray) -> dict[str, np.ndarray]:
    """Subtract `origin` [channels] from all encodings, and add it again inside the decoder.

    A reconstruction stays the same, and so does a mix whose weights sum to 1.  With the book's
    weights, 1 and 1/2, half of `origin` is missing from the decoder's input afterwards.
    """
    out = {**values, "ae_bottleneck_b": values["ae_bottleneck_b"] - origin}
    for name in ("cond_map", "cond_map_out1"):
        out[f"{name}_b"] = values[f"{name}_b"] + origin @ values[f"{name}_w"]
    return out


def export(state: Path, folder: Path, temperature: float = 1.0, origin: float = 0.0) -> Path:
    """Export the averaged weights of a training state or a checkpoint, and return the prefix.

    The last layer is divided by `temperature`.  `origin` times the mean encoding of the bundled
    sounds is subtracted from all encodings.
    """
    if not temperature > 0:
        raise InputError(f"The temperature must be above 0, not {temperature}.")
    try:
        arrays = np.load(state, allow_pickle=False) if state.suffix == ".npz" else state_of(state)
        values = {name[4:]: arrays[name] for name in arrays if name.startswith("ema/")}
        prefix = folder / f"model.ckpt-{int(arrays['steps'])}"
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{state} is not a training state ({error}): train first.") from error
    values["logits_w"] = values["logits_w"] / temperature
    values["logits_b"] = values["logits_b"] / temperature
    write(official(values), prefix)
    if origin:
        sounds = np.stack([*shipped_sounds(Path("sounds")).values()])
        mean = nsynth.encode(sounds, prefix, sounds.shape[1]).mean((0, 1))
        write(official(moved(values, origin * mean)), prefix)
    return prefix


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Export; see the module's head."""
    parser = make_parser("training.nsynth.export", __doc__)
    parser.add_argument("--state", type=Path, default=Path("training/runs/nsynth/state.npz"),
                        metavar="FILE", help="training state (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("checkpoints/nsynth_starter"),
                        metavar="DIR", help="folder of the checkpoint (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T",
                        help="fold this sampling temperature into the output layer (default: "
                             "%(default)s)")
    parser.add_argument("--origin", type=float, default=0.0, metavar="K",
                        help="subtract K times the bundled sounds' mean encoding from all "
                             "encodings (default: 0)")
    options = parser.parse_args(arguments)
    print(export(options.state, options.output, options.temperature, options.origin))


if __name__ == "__main__":
    raise SystemExit(main())
