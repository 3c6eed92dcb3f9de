"""Magenta's own NSynth engine behind the interface of `synths.nsynth`: the reference.

Everything is computed by `magenta.models.nsynth.wavenet.fastgen`, unchanged: slow (minutes per
second of sound on a CPU), and only for checkpoints of the official shapes, which are written into
its code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from synths import InputError, files
from synths.engines import tensorflow_v1
from synths.engines.litert import silent_stderr
from synths.nsynth.decoding import Decoding
from synths.weights import checkpoints

WIDTH = 512  # channels of the decoder's dilated layers, h512_bo16.py


def official(checkpoint_path: str | Path | None, temperature: float = 1.0) -> str:
    """The prefix of the checkpoint, if fastgen can do what is asked.

    Raises
    ------
    InputError
        If the checkpoint's shapes are not those written into Magenta's code, or a temperature is
        asked for, which it does not have.
    """
    if temperature != 1:
        raise InputError(f"Magenta's own engine samples at temperature 1 only, not {temperature:g}:"
                         " leave out --temperature or --engine.")
    prefix = checkpoints.find(checkpoint_path, "nsynth")
    width = checkpoints.shapes(prefix)["res_1/W"][-1]
    if width != WIDTH:
        raise InputError(f"Magenta's own engine loads only decoders {WIDTH} channels wide, and "
                         f"{prefix} has {width}: leave out --engine, or give --checkpoint "
                         "wavenet-ckpt.")
    return str(prefix)


def _fastgen():
    """TensorFlow and Magenta's fastgen."""
    tf = tensorflow_v1.load()
    with silent_stderr():
        from magenta.models.nsynth.wavenet import fastgen
    return tf, fastgen


def encode(wav_data: np.ndarray, checkpoint_path: str | Path | None = None,
           sample_length: int = 64000) -> np.ndarray:
    """Encode sounds by `fastgen.encode`.

    Parameters
    ----------
    wav_data, checkpoint_path, sample_length
        As for `synths.nsynth.encode`.

    Returns
    -------
    float32 [batch, frames, 16]

    Raises
    ------
    InputError
        As for `official`.
    """
    prefix = official(checkpoint_path)
    tf, fastgen = _fastgen()
    with tf.Graph().as_default(), silent_stderr():
        return fastgen.encode(np.asarray(wav_data), prefix, sample_length)


def synthesize(encodings: np.ndarray, save_paths: list[Path],
               checkpoint_path: str | Path | None = None, samples_per_save: int = 10000, *,
               decoding: Decoding = Decoding(), reference_audio: np.ndarray | None = None) -> None:
    """`fastgen.synthesize`, seeded through NumPy's global generator, which is all it draws from.

    Parameters
    ----------
    encodings, save_paths, checkpoint_path, samples_per_save
        As for `synths.nsynth.synthesize`.
    decoding : Decoding
        The seed of the whole batch and the fade; the rest must be what fastgen can do.
    reference_audio
        Not used: fastgen computes in float32.

    Raises
    ------
    InputError
        As for `official`; or if what is asked cannot be done.

    Notes
    -----
    Its WAVs are 32-bit float, and exist at full length, silent, from the first step on: they are
    written into a hidden folder, turned into 16 bits and only then given their names.
    """
    import soundfile

    from synths import nsynth
    prefix = official(checkpoint_path, decoding.temperature)
    if decoding.precision == "int8" or decoding.threads is not None or decoding.resume:
        raise InputError("Magenta's own engine computes in float32 on all cores, from the start: "
                         "leave out the precision, the threads and resuming.")
    tf, fastgen = _fastgen()
    with files.scratch(Path(save_paths[0]).parent, "fastgen") as folder:
        parts = [folder / f"{number}.wav" for number in range(len(save_paths))]
        np.random.seed(decoding.seed)
        with tf.Graph().as_default(), silent_stderr():  # TensorFlow lists every variable there
            fastgen.synthesize(np.asarray(encodings), checkpoint_path=prefix,
                               save_paths=[str(part) for part in parts])
        for part, path in zip(parts, save_paths):
            files.write_wav(path, nsynth.faded(soundfile.read(part, dtype="float32")[0],
                                                decoding.fade))
