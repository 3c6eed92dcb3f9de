"""Find the files of a run: model, sounds and scores."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from companion.start import HERE
from synths import InputError
from synths.sounds import EXTENSIONS, find_sounds, opposite_channels
from synths.weights import checkpoints, downloads


def find_checkpoint(name: str | None, model: str) -> Path:
    """Find the checkpoint of "nsynth" or "gansynth" to use, and print its name."""
    prefix = checkpoints.find(name, model)
    note = " (bundled and small; --download fetches Google's model)" if is_bundled(prefix) else ""
    print(f"Model: {checkpoints.name_of(prefix) or shown(prefix)}{note}", flush=True)
    return prefix


def is_bundled(checkpoint: Path) -> bool:
    """Return whether a checkpoint is one of the small bundled models."""
    return (checkpoints.name_of(checkpoint) or "").endswith("_starter")


def find_magenta() -> None:
    """Check that Magenta and TensorFlow are installed, and print their versions."""
    if not (importlib.util.find_spec("magenta") and importlib.util.find_spec("tensorflow")):
        raise InputError("--engine magenta needs Magenta and TensorFlow, on Python 3.13 or "
                         "earlier. Type this first: pip install --no-deps -r requirements.txt")
    print(f"Engine: Magenta {metadata.version('magenta')} on TensorFlow "
          f"{metadata.version('tensorflow')}", flush=True)


def choose_sounds(words: Sequence[str] | None, default: Sequence[str], download: bool,
                  saved: bool = False) -> list[Path]:
    """Return the sounds to use: the named ones, the book's if downloaded, or the bundled ones.

    Unreadable files in a folder are left out, and their names are printed.  `saved` allows saved
    encodings (.npy).
    """
    folder = HERE / "sounds"
    if not words:
        if download:
            downloads.fetch_book_sounds(folder)
        book = [folder / name for name in downloads.BOOK_SOUNDS]
        words = [str(path) for path in book] if all(map(Path.is_file, book)) else default
    known = (*EXTENSIONS, ".npy") if saved else EXTENSIONS
    sounds: list[Path] = []
    for path in map(sound_path, words):
        if path.is_dir():
            sounds.extend(_in_folder(path, known))
        else:
            _check(existing(path, folder))
            sounds.append(path)
    return sounds


def _in_folder(folder: Path, known: Sequence[str]) -> list[Path]:
    """Return the readable sounds of a folder, and print which files are left out."""
    inside, left_out = find_sounds(folder, known)
    for path in list(inside):
        try:
            _check(path)
        except InputError:
            inside.remove(path)
            left_out.append(f"{path.name} (cannot be read)")
    if left_out:
        more = f" and {len(left_out) - 6} more" if len(left_out) > 6 else ""
        print(f"Skipped in {shown(folder)}: {', '.join(left_out[:6])}{more}", flush=True)
    if not inside:
        raise InputError(f"{folder} contains no sound that can be read: give a folder with WAV, "
                         "FLAC, Ogg, MP3 or AIFF files.")
    return inside


def _check(path: Path) -> None:
    """Check that a sound can be read, and print a note if its channels cancel each other."""
    if not is_encoding(path) and opposite_channels(path):
        print(f"The channels of {path.name} cancel each other, so only the loudest one is used",
              flush=True)


def is_encoding(path: Path) -> bool:
    """Return whether a file is a saved encoding."""
    return path.suffix.lower() == ".npy"


def existing(path: Path, folder: Path) -> Path:
    """Return a path that exists; otherwise, suggest the most similar name."""
    if not os.path.exists(path):
        names = [entry.name for place in (path.parent, folder) if place.is_dir()
                 for entry in place.iterdir()]
        near = difflib.get_close_matches(path.name, names, 1, 0.75)
        raise InputError(f"{path} does not exist" + (
            f"; did you mean {near[0]}?" if near else ": check its name and folder."))
    return path


def sound_path(filename: str | Path) -> Path:
    """Return an existing path unchanged, or the file of that name in sounds/."""
    return _here_or_in(filename, HERE / "sounds")


def score_path(filename: str | Path) -> Path:
    """Return an existing path unchanged, or the file of that name in midi/."""
    path = existing(_here_or_in(filename, HERE / "midi"), HERE / "midi")
    if not path.is_file():
        raise InputError(f"{path} is not a file: give the path of a MIDI file.")
    return path


def _here_or_in(filename: str | Path, folder: Path) -> Path:
    path = Path(filename)
    return folder / path if not os.path.exists(path) and os.path.exists(folder / path) else path


def shown(path: str | Path) -> str:
    """Return a path for display, relative to the current folder if it is inside."""
    path = os.path.abspath(path)
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return path if relative.startswith("..") else relative
