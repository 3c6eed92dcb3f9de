"""Magenta's own NSynth, with the interface of `synths.nsynth.fastgen`.

`magenta.models.nsynth.wavenet.fastgen` does all the computation.  Magenta's source hard-codes the
sizes of the official network.  This module reads them from the checkpoint, so that the bundled
model works, too.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from synths import InputError, files
from synths.engines import tensorflow_v1
from synths.engines.litert import silent_stderr
from synths.nsynth.decoding import HOP_LENGTH, Decoding, draw_uniforms
from synths.nsynth.saving import faded
from synths.weights import checkpoints


def encode(wav_data: np.ndarray, checkpoint_path: str | Path | None = None,
           sample_length: int = 64000) -> np.ndarray:
    """Encode sounds with Magenta's `fastgen.encode`, like `synths.nsynth.encode`."""
    prefix = checkpoints.find(checkpoint_path, "nsynth")
    with fastgen(prefix) as magenta:
        return magenta.encode(np.asarray(wav_data), str(prefix), sample_length)


def synthesize(encodings: np.ndarray, save_paths: Sequence[str | Path],
               checkpoint_path: str | Path | None = None, samples_per_save: int = 10000, *,
               decoding: Decoding | None = None, reference_audio: np.ndarray | None = None) -> None:
    """Decode encodings into WAV files with Magenta's `fastgen.synthesize`.

    The arguments are those of `synths.nsynth.synthesize`, and the same seed and streams give the
    same random numbers.  Magenta does not support a temperature, int8, threads or resuming.  It
    ignores `reference_audio`.

    Magenta first writes 32-bit files that contain only silence, and then fills them.  This
    function lets it write to a temporary folder, converts the files to 16 bits, and moves them to
    `save_paths`.
    """
    import soundfile

    decoding = decoding or Decoding()
    if (decoding.temperature, decoding.threads, decoding.resume) != (1, None, False) or (
            decoding.precision == "int8"):
        raise InputError("Magenta's own engine decodes only in float32, at temperature 1 and on "
                         "all cores, and cannot resume: leave out --precision, --temperature, "
                         "--threads and --resume.")
    encodings = np.asarray(encodings, np.float32)
    paths = [Path(path) for path in save_paths]
    clips = len(paths) if decoding.streams is None else decoding.streams
    numbers = iter(draw_uniforms(decoding.seed, clips, HOP_LENGTH * encodings.shape[1]).T)
    prefix = checkpoints.find(checkpoint_path, "nsynth")
    with (tempfile.TemporaryDirectory(dir=paths[0].parent) as folder, fastgen(prefix) as magenta,
          mock.patch.object(np.random, "rand", lambda clips: next(numbers))):
        parts = [str(Path(folder, f"{index}.wav")) for index in range(len(paths))]
        magenta.synthesize(encodings, save_paths=parts, checkpoint_path=str(prefix),
                           samples_per_save=samples_per_save)
        for part, path in zip(parts, paths):
            files.write_wav(path, faded(soundfile.read(part, dtype="float32")[0], decoding.fade))


@contextlib.contextmanager
def fastgen(prefix: Path) -> Iterator:
    """Yield Magenta's `fastgen` with the sizes of a checkpoint, in a graph of its own."""
    tf = tensorflow_v1.load()
    with silent_stderr():
        from magenta.models.nsynth.wavenet import fastgen
    sizes = _sizes(prefix)
    with contextlib.ExitStack() as stack:
        for config in (fastgen.Config, fastgen.FastGenerationConfig):
            for name in ("__init__", "build"):
                stack.enter_context(mock.patch.object(
                    config, name, _resized(getattr(config, name), sizes)))
        stack.enter_context(tf.Graph().as_default())
        stack.enter_context(silent_stderr())  # TensorFlow lists every variable there
        yield fastgen


def _sizes(prefix: Path) -> dict[str, int]:
    """Return the network sizes of a checkpoint, which Magenta's configurations hard-code."""
    shapes = checkpoints.shapes(prefix)

    def layers(scope: str) -> int:
        return sum(name.startswith(scope) and name.endswith("/W") for name in shapes)

    channels = shapes["ae_bottleneck/W"][3]
    return {"width": shapes["startconv/W"][3], "skip_width": shapes["skip_start/W"][3],
            "num_layers": layers("dilatedconv_"), "num_z": channels,
            "ae_width": shapes["ae_startconv/W"][3], "ae_num_layers": layers("ae_dilatedconv_"),
            "ae_bottleneck_width": channels}


def _resized(function: Callable, sizes: dict[str, int]) -> Callable:
    """Return a copy of one of Magenta's functions with its hard-coded sizes replaced."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            target = node.targets[0]
            name = getattr(target, "id", getattr(target, "attr", None))
            if name in sizes:
                node.value = ast.copy_location(ast.Constant(sizes[name]), node.value)
    made: dict[str, Callable] = {}
    exec(compile(tree, inspect.getfile(function), "exec"), function.__globals__, made)
    return made[function.__name__]
