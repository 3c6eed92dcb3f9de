"""Write a training state as a TensorFlow checkpoint with Magenta's variable names.

``python -m training.gansynth.export [--state FILE] [--output DIR]`` needs TensorFlow, not PyTorch.
It exports the averaged weights, under the names of exponential moving averages from which Magenta
restores a generator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from synths import InputError
from training import command, make_parser, report
from training.gansynth import data

# Images that count as seen at the end of the last stage, as in the official checkpoints: with the
# schedule below it makes the progress 6.0, the last of seven resolutions alone.
GLOBAL_STEP = 11_000_000
_SCOPE = "Generator/progressive_gan_generator/progressive_gan_block_"
_AVERAGE = "/ExponentialMovingAverage"


def official(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the averaged weights of a training state under the official names and shapes.

    Kernels are ``[height, width, in, out]`` and raw: equalised learning rates scale them when they
    are used. The start layer is a convolution over one pixel amid zeros, so its kernel is turned
    by half a turn. The ``to_rgb`` layers of lower resolutions, which progress 6.0 leaves out, are
    zero.
    """
    out = {}

    def add(scope: str, kernel: np.ndarray, bias: np.ndarray) -> None:
        out[f"{scope}/conv2d/kernel{_AVERAGE}"] = np.ascontiguousarray(kernel, np.float32)
        out[f"{scope}/bias{_AVERAGE}"] = np.ascontiguousarray(bias, np.float32)

    add(f"{_SCOPE}1/conv0", state["start_kernel"].transpose(2, 3, 0, 1)[::-1, ::-1],
        state["average/start_bias"])
    blocks = sum(name.startswith("average/first.") and name.endswith(".bias") for name in state)
    for name, scope in _scopes(blocks).items():
        add(scope, state[f"average/{name}.weight"].transpose(2, 3, 1, 0),
            state[f"average/{name}.bias"])
    for block in range(1, blocks):
        width = len(state[f"average/first.{block - 1}.bias"])
        add(f"{_SCOPE}{block}/to_rgb", np.zeros((1, 1, width, 2)), np.zeros(2))
    out["global_step"] = np.array(GLOBAL_STEP, np.int64)
    return out


def _scopes(blocks: int) -> dict[str, str]:
    """Return the official scope of each layer but the start layer."""
    layers = {"first.0": (1, "conv1"), "to_rgb": (blocks, "to_rgb")}
    for block in range(2, blocks + 1):
        layers[f"first.{block - 1}"] = block, "conv0"
        layers[f"second.{block - 2}"] = block, "conv1"
    return {name: f"{_SCOPE}{block}/{layer}" for name, (block, layer) in layers.items()}


def read(checkpoint: str | Path) -> dict[str, np.ndarray]:
    """Return exported weights under the training code's names: the inverse of ``official``."""
    from synths.weights import checkpoints
    prefix = checkpoints.find(str(checkpoint), "gansynth")
    values = checkpoints.read(prefix, [name for name in checkpoints.shapes(prefix)
                                       if name.startswith(_SCOPE) and name.endswith(_AVERAGE)])
    start = values[f"{_SCOPE}1/conv0/conv2d/kernel{_AVERAGE}"][::-1, ::-1]
    out = {"start_kernel": start.transpose(2, 3, 0, 1),
           "start_bias": values[f"{_SCOPE}1/conv0/bias{_AVERAGE}"]}
    for name, scope in _scopes(max(int(name[len(_SCOPE)]) for name in values)).items():
        out[f"{name}.weight"] = values[f"{scope}/conv2d/kernel{_AVERAGE}"].transpose(3, 2, 0, 1)
        out[f"{name}.bias"] = values[f"{scope}/bias{_AVERAGE}"]
    return {name: np.ascontiguousarray(value) for name, value in out.items()}


def experiment(state: Mapping[str, np.ndarray]) -> dict:
    """Return what ``experiment.json`` must say for the weights to be loaded, in Magenta's words."""
    base, most = (int(value) for value in state["fmap"])
    return {"data_type": "mel", "total_num_images": GLOBAL_STEP, "train_progressive": True,
            "stable_stage_num_images": 800_000, "transition_stage_num_images": 800_000,
            "batch_size_schedule": [8], "fmap_base": base, "fmap_decay": 1.0, "fmap_max": most,
            "fake_batch_size": 61, "latent_vector_size": 256, "kernel_size": 3,
            "dataset_name": "nsynth_tfds", "targets": data.NAME,
            "g_fn": "specgram", "d_fn": "specgram",
            "scale_mode": "ALL", "scale_base": 2, "num_resolutions": 7, "start_height": 2,
            "start_width": 16}


def export(state: Path, folder: Path) -> Path:
    """Export the averaged weights of a training state, and return the checkpoint's prefix."""
    # The NSynth trainer's writer; TensorFlow comes with it, so it is imported late.
    from training.nsynth.export import write
    try:
        with np.load(state, allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
        variables, config = official(values), experiment(values)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{state} is not a training state ({error}): train first.") from error
    prefix = write(variables, folder / "stage_00012" / f"model.ckpt-{GLOBAL_STEP}")
    for file, text in ((prefix.parent / "checkpoint",
                        f'model_checkpoint_path: "{prefix.name}"\n'
                        f'all_model_checkpoint_paths: "{prefix.name}"\n'),
                       (folder / "experiment.json", json.dumps(config, indent=1) + "\n")):
        report.write(file, text)
    return prefix


def export_golden(state: Path, file: Path) -> Path:
    """Copy the training code's own outputs, kept in its state, to where the tests hold them."""
    with np.load(state, allow_pickle=False) as arrays:
        golden = {name[7:]: arrays[name] for name in arrays.files if name.startswith("golden/")}
    if not golden:
        raise InputError(f"{state} contains no outputs of the training code: let a run finish "
                         "first.")
    report.write_arrays(file, compress=True, **golden)
    return file


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Export; see the module's head."""
    parser = make_parser("training.gansynth.export", __doc__)
    parser.add_argument("--state", type=Path, default=Path("training/runs/gansynth/state.npz"),
                        metavar="FILE", help="training state (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("checkpoints/gansynth_starter"),
                        metavar="DIR", help="folder of the checkpoint (default: %(default)s)")
    parser.add_argument("--golden", type=Path, metavar="FILE",
                        help="also write outputs of the training code to this file, for the tests")
    options = parser.parse_args(arguments)
    print(export(options.state, options.output))
    if options.golden:
        print(export_golden(options.state, options.golden))


if __name__ == "__main__":
    raise SystemExit(main())
