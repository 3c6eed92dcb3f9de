"""
Example 1 of chapter 5: NSynth mixes two sounds into a new one.

A WaveNet autoencoder encodes the sounds, the encodings are mixed in pairs, and the mixes are
decoded sample by sample.  The functions are the book's, in the book's order.
"""

if __name__ == "__main__":
    from companion.start import start
    start()  # before the other imports: stops with one sentence if a package is missing

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

import audio_utils
from companion.clips import short_names
from companion.example import Example1, use_engine
from companion.inputs import sound_path
from companion.options import example_1_options
from companion.run import run
from companion.start import CHECKPOINTS, OUTPUT

# differs from the book (had to change): The book's Magenta 1.1.7 cannot be installed on a current
# Python.  Our fastgen works without TensorFlow; --engine magenta uses Magenta's own fastgen.
from synths.nsynth import Decoding, fastgen
from synths.sounds import load_audio
from synths.weights import checkpoints

# differs from the book (had to change): We may not distribute the book's four sounds, so four
# others replace them.  If the book's files are in sounds/, the example uses them.
WAV_FILENAMES = ["bass.wav", "metal.wav", "meow.wav", "flute.wav"]


def download_checkpoint(checkpoint_name: str, target_dir: str | Path = CHECKPOINTS) -> None:
    """Download a Magenta checkpoint to the target directory and extract it.

    Parameters
    ----------
    checkpoint_name : str
        "wavenet-ckpt", or "wavenet-voice-ckpt" (sung vowels).
    target_dir : str or Path
        Directory of the checkpoints.

    Raises
    ------
    InputError
        If the name is unknown or the download fails.
    """
    # differs from the book (mended): The script verifies the download, can resume it, and
    # removes the archive after extracting it.  It does not offer the book's "baseline-ckpt".
    checkpoints.download(checkpoint_name, target_dir)


def encode(wav_filenames: Sequence[str | Path], checkpoint: str | Path | None = None,
           sample_length: int = 16000, sample_rate: int = 16000, fastgen=fastgen) -> np.ndarray:
    """Load the audio of each file and encode it.

    Parameters
    ----------
    wav_filenames : sequence of str or Path
        Paths, or names of files in the "sounds" directory.
    checkpoint : str, Path or None
        Name or path of a checkpoint.  None: the official one if downloaded, otherwise the bundled
        one.
    sample_length : int
        Number of samples.  Longer sounds are cut, and shorter ones are padded with silence.
    sample_rate : int
        Sample rate in Hz.  NSynth was trained at 16000 Hz.
    fastgen : module or Example1
        Object that encodes: this project's, or Magenta's with `--engine magenta`.

    Returns
    -------
    float32 [sounds, frames, 16]

    Raises
    ------
    InputError
        If a sound cannot be read.
    """
    # Loads the audio of each file
    audios = []
    for wav_filename in wav_filenames:
        # differs from the book (mended): Short sounds are padded with silence, so that all sounds
        # have the same length.
        audio = load_audio(sound_path(wav_filename), sample_length=sample_length, sr=sample_rate)
        audios.append(audio)

    # differs from the book (added): The checkpoint is optional.  By default, it is the official one
    # if downloaded, otherwise the bundled one.  The path in the book is fixed.

    # Encodes them all.  An encoding describes how a sound develops, like a spectrogram with 16
    # bins: it has 16 numbers for every 512 samples, whose meaning the network learned.
    return fastgen.encode(np.array(audios), checkpoint, sample_length)


def mix_encoding_pairs(encodings: Collection[np.ndarray], encodings_name: Sequence[str],
                       ) -> tuple[np.ndarray, list[str]]:
    """Mix each encoding with each of the others.

    Parameters
    ----------
    encodings : sequence of float32 [frames, 16]
    encodings_name : sequence of str
        Name of each encoding, or the file from which it was made.

    Returns
    -------
    encodings_mix : float32 [pairs, frames, 16]
    encodings_mix_name : list of str
        "bass_flute" for the bass, mixed with half as much of the flute.
    """
    encodings_mix = []
    encodings_mix_name = []
    # differs from the book (mended): Each sound has a short, unique name, such as "bass".  In the
    # book, the names are Freesound numbers, and two sounds with equal names are not mixed.
    encodings_name = short_names(encodings_name)
    # If you add two sounds, you hear two sounds.  If you add two encodings, the decoder generates
    # one sound that resembles both.
    for encoding1, encoding1_name in zip(encodings, encodings_name):
        for encoding2, encoding2_name in zip(encodings, encodings_name):
            if encoding1_name == encoding2_name:
                continue
            encodings_mix.append(encoding1 + encoding2 / 2.0)
            encodings_mix_name.append(f"{encoding1_name}_{encoding2_name}")
    return np.array(encodings_mix), encodings_mix_name


def synthesize(encodings_mix: Collection[np.ndarray], encodings_mix_name: Sequence[str],
               checkpoint: str | Path | None = None, seed: int = 0,
               output_dir: str | Path = os.path.join(OUTPUT, "nsynth"), fastgen=fastgen) -> None:
    """Decode the encodings sample by sample and save each as a WAV file under its name.

    Parameters
    ----------
    encodings_mix : sequence of float32 [frames, 16]
    encodings_mix_name : sequence of str
        File names without extension.
    checkpoint : str, Path or None
        As for `encode`.
    seed : int
        The same seed gives the same sounds.
    output_dir : str or Path
        Directory of the WAV files.
    fastgen : module or Example1
        As for `encode`.

    Raises
    ------
    InputError
        If encodings and names do not match.
    """
    os.makedirs(output_dir, exist_ok=True)
    save_paths = [os.path.join(output_dir, f"{name}.wav") for name in encodings_mix_name]
    # The decoder draws every sample at random, with probabilities that depend on earlier samples
    # differs from the book (mended): The random numbers come from the seed, so a run can be
    # repeated.  The files are 16-bit, and short fades prevent clicks at their ends.
    fastgen.synthesize(np.array(encodings_mix), save_paths, checkpoint_path=checkpoint,
                       decoding=Decoding(seed=seed, streams=encodings_mix_name, fade=0.005))


def app(options) -> None:
    """Run the example with the same calls as the book's `app`."""
    use_engine(options.engine, globals())  # "magenta": Magenta's own fastgen
    # differs from the book (added): The script downloads files only with --download.  Each run has
    # its own folder, with a results page.
    if options.download:
        download_checkpoint(options.checkpoint or "wavenet-ckpt")
    with Example1(options, WAV_FILENAMES, fastgen) as example:
        # Encodes the sounds, and saves the encodings for later use
        # differs from the book (mended): The encodings are saved.  A comment in the book says that
        # they are saved, but the book's code does not save them.
        encodings = encode(example.sounds, example.checkpoint, example.samples, fastgen=example)
        audio_utils.save_encoding(encodings, example.names, example.output_dir / "encodings")

        # Mixes the encodings in pairs: 4 sounds make 12 mixes
        encodings_mix, encodings_mix_name = mix_encoding_pairs(encodings, example.names)

        # Synthesizes the mixes
        # differs from the book (added): The unmixed encodings are decoded, too.  Anything that is
        # lost in such a reconstruction is also lost in every mix of the same sound.
        synthesize([*encodings, *encodings_mix], example.reconstructions + encodings_mix_name,
                   example.checkpoint, example.seed, example.output_dir, fastgen=example)


if __name__ == "__main__":
    run(app, example_1_options(__doc__))
