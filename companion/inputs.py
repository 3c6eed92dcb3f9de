"""What a run works on: the weights, the sounds, the scores, and the code that plays them."""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import audio_utils
from companion.progress import bar, say
from companion.start import HERE
from synths import InputError
from synths.nsynth import mixing
from synths.weights import checkpoints, downloads

MOST_MIDI_BYTES = 1_000_000
# What is said of the weights that ship.
STARTER_NOTES = {
    "nsynth": "it is small, so it hisses and knows little; --download fetches Google's (1 GB)",
    "gansynth": "it is small and knows 24 instruments; --download fetches Google's (0.1 GB)",
}


def wanted_download(options: argparse.Namespace, model: str, official: str) -> str | None:
    """Return the official weights to fetch: those named, with `--download` the book's; else None.

    Parameters
    ----------
    options : argparse.Namespace
    model : str
        "nsynth" or "gansynth".
    official : str
        The book's weights for it.
    """
    name = options.checkpoint or (official if options.download else None)
    known = checkpoints.CHECKPOINTS.get(name) if name else None
    return name if known is not None and known.url and known.model == model else None


def find_weights(options: argparse.Namespace, model: str) -> Path:
    """Return the checkpoint to use, and say which.

    Official weights if they are here, else the starter that ships; `--checkpoint` names another.

    Parameters
    ----------
    options : argparse.Namespace
    model : str
        "nsynth" or "gansynth".

    Raises
    ------
    InputError
        If there are no such weights; or Magenta's engine is asked for and is not installed.
    """
    if options.engine == "magenta":
        _find_magenta()
    prefix = checkpoints.find(options.checkpoint, model)
    note = f"; {STARTER_NOTES[model]}" if is_starter(prefix) else ""
    say(options, f"Weights: {checkpoints.describe(prefix, model)}{note}.")
    return prefix


def _find_magenta() -> None:
    """Refuse Magenta's own engine where it is not installed, and say why."""
    if importlib.util.find_spec("magenta") and importlib.util.find_spec("tensorflow"):
        return
    if sys.version_info >= (3, 14):
        raise InputError("Magenta's own engine needs TensorFlow, which has no build for Python "
                         "3.14: take Python 3.13, or leave out --engine.")
    raise InputError("Magenta's own engine needs Magenta and TensorFlow, which are not installed "
                     "(pip install --no-deps -r requirements.txt): leave out --engine.")


def is_starter(checkpoint: Path) -> bool:
    """Whether the weights are one of the small ones that ship."""
    return any(part.endswith("_starter") for part in checkpoint.parts)


def find_sounds(options: argparse.Namespace, shipped: Sequence[str]) -> list[Path]:
    """Return the sounds to use: the user's, else the book's if they are here, else the shipped.

    `--download`, or naming one of the book's sounds, fetches all four of them.

    Parameters
    ----------
    options : argparse.Namespace
    shipped : sequence of str
        Names of files in the "sounds" folder.

    Raises
    ------
    InputError
        If a file does not exist, or a folder holds no sound.
    """
    folder = HERE / "sounds"
    book = [folder / name for name in downloads.BOOK_SOUNDS]
    wanted = [Path(word) for word in options.sounds or ()]
    if options.download or {path.name for path in wanted if not path.exists()} & set(
            downloads.BOOK_SOUNDS):
        downloads.fetch_book_sounds(folder, bar(options, "fetching the book's sounds", 1e-6, "MB"))
    if not wanted:
        here = all(path.is_file() for path in book)
        return book if here else [folder / name for name in shipped]
    sounds: list[Path] = []
    for path in wanted:
        sounds.extend(_in_folder(path) if path.is_dir() else [sound_path(path)])
    for path in sounds:
        if not path.exists():
            raise _missing(path, folder)
    return sounds


def _missing(path: Path, shipped: Path) -> InputError:
    """What to say of a file that is not there: with the name beside it that is nearest."""
    beside = [entry.name for folder in (path.parent, shipped) if folder.is_dir()
              for entry in folder.iterdir()]
    near = difflib.get_close_matches(path.name, beside, 1, 0.75)
    return InputError(f"{path} does not exist" + (
        f"; did you mean {near[0]}?" if near else
        ": check its name and folder." if path.suffix else
        ": check its name and folder, and put a name with spaces in quotes."))


def _in_folder(folder: Path) -> list[Path]:
    inside = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".")
                    and entry.suffix.lower() in mixing.ENDINGS)
    if not inside:
        raise InputError(f"{folder} holds no sound: give a folder with files that end in "
                         f"{', '.join(mixing.ENDINGS)}.")
    return inside


def sound_path(filename: str | Path) -> Path:
    """Return a path as it is, or else the file of that name in the "sounds" folder."""
    path, shipped = Path(filename), HERE / "sounds" / filename
    return shipped if shipped.exists() and not path.exists() else path


def is_encoding(filename: str | Path) -> bool:
    """Whether the file holds an encoding, and not a sound."""
    return Path(filename).suffix.lower() == ".npy"


@functools.lru_cache(maxsize=64)
def load_sound(wav_filename: str | Path, sample_length: int, sample_rate: int = 16000,
               trim_silence: bool = False, peak: float | None = None) -> np.ndarray:
    """Load one sound, mono, padded with silence or cut; the last ones are kept for the page.

    Parameters
    ----------
    wav_filename : str or Path
        A path, or the name of a file in the "sounds" folder.
    sample_length : int
    sample_rate : int
        In Hz.
    trim_silence : bool
        Leave out the silence at the beginning.
    peak : float, optional
        Bring the sound to this peak, in (0, 1].

    Returns
    -------
    float32 [sample_length], read-only

    Raises
    ------
    InputError
        If it cannot be read.
    """
    audio = audio_utils.load_audio(sound_path(wav_filename), sample_length, sample_rate,
                                   trim_silence=trim_silence, peak=peak, report=_HEARD.append)
    audio.setflags(write=False)
    return audio


_HEARD: list[str] = []  # what loading had to say, until it is said


def load_sounds(options: argparse.Namespace, sounds: Sequence[Path], sample_length: int,
                peak: float | None) -> list[np.ndarray | None]:
    """Load the sounds of a run, before it starts; say what was done to them.

    Parameters
    ----------
    options : argparse.Namespace
    sounds : sequence of Path
        Sounds and saved encodings.
    sample_length : int
        Samples of each, at 16 kHz.
    peak : float or None
        As for `load_sound`.

    Returns
    -------
    list of float32 [sample_length] or None
        None for a saved encoding, which has no sound.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    audios = [None if is_encoding(sound) else
              load_sound(sound, sample_length, 16000, options.trim, peak)
              for sound in sounds]
    while _HEARD:
        say(options, _HEARD.pop(0))
    for sound, audio in zip(sounds, audios):
        if audio is not None and not audio.any():
            say(options, f"There is only silence in the first {options.seconds:g} s of "
                         f"{sound.name}" + ("." if options.trim else
                                            ": --trim leaves it out, if sound follows."))
    return audios


def find_scores(options: argparse.Namespace) -> list[Path]:
    """Return the scores to play: paths, or names of files in the "midi" folder.

    Raises
    ------
    InputError
        If one does not exist.
    """
    found = []
    for name in map(Path, options.midi):
        path = name if name.exists() or not (HERE / "midi" / name).exists() else (
            HERE / "midi" / name)
        if not path.exists():
            raise _missing(path, HERE / "midi")
        if not path.is_file():
            raise InputError(f"{path} is a folder: name a MIDI file in it." if path.is_dir() else
                             f"{path} is no file: name a MIDI file.")
        if path.stat().st_size > MOST_MIDI_BYTES and not options.many:
            raise InputError(f"{path} is larger than {MOST_MIDI_BYTES / 1e6:g} MB, far more than a "
                             "score of an hour: add --many to read it all the same.")
        found.append(path)
    return found


def nsynth_engine(options: argparse.Namespace, checkpoint: Path) -> ModuleType:
    """Return the module that encodes and decodes: ours, or with `--engine magenta` Magenta's own.

    Raises
    ------
    InputError
        If Magenta's cannot load the checkpoint, or cannot do what is asked.
    """
    if options.engine == "fast":
        from synths import nsynth
        return nsynth
    for name in ("precision", "threads", "resume"):
        if getattr(options, name) != options.defaults[name]:
            raise InputError(f"Magenta's own engine has no --{name}: leave it out.")
    from synths.nsynth import magenta
    magenta.official(checkpoint, options.temperature)
    return magenta


def gansynth_engine(options: argparse.Namespace) -> ModuleType:
    """Return the module whose `Model` plays: ours, or with `--engine magenta` Magenta's networks.

    Raises
    ------
    InputError
        If Magenta's cannot do what is asked.
    """
    if options.engine == "fast":
        from synths import gansynth
        return gansynth
    if options.threads is not None:
        raise InputError("Magenta's own engine has no --threads: leave it out.")
    from synths.gansynth import magenta
    return magenta


@functools.lru_cache(maxsize=1)
def gansynth_model(engine: ModuleType, checkpoint: str | Path | None = None, batch_size: int = 16,
                   threads: int | None = None) -> Any:
    """Load a GANSynth by an engine's `Model`, once for all scores.

    Parameters
    ----------
    engine : module
        As `gansynth_engine` returns it.
    checkpoint : str, Path or None
        A name or a path; None: the best that is here.
    batch_size : int
        Notes generated at once.
    threads : int, optional
        None: all cores.

    Returns
    -------
    Model
        `synths.gansynth.Model`, or one with the same functions.

    Raises
    ------
    InputError
        If the checkpoint cannot be used, or the engine cannot do what is asked.
    """
    return engine.Model.load_from_path(checkpoint, batch_size, threads)
