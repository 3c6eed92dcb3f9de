"""Plan the clips of a run: names, titles, mixing weights and random-stream keys."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from synths import InputError
from synths.nsynth import mixing
from synths.sounds import EXTENSIONS

# Weights of the mix in chapter_05_example_01.py, encoding1 + encoding2 / 2.0.
CHAPTER_WEIGHTS = (1.0, 1 / 2)
_EXTENSIONS = (*EXTENSIONS, ".npy", ".mid", ".midi")
_RESERVED = ("source", "reconstructed")  # words used in other file names: "source_bass.wav"
_LONGEST = 80  # maximum bytes of a name, so that two names and a step fit into a file name


@dataclass(frozen=True)
class Clip:
    """One audio clip of a run."""

    name: str  # file name without extension, such as "bass_flute"
    title: str  # title for display, such as "bass, flute"
    kind: str  # "source", "reconstruction", "mix", "step", "crossfade", "score", "preview", "bank"
    sources: tuple[str, ...] = ()  # names of the source sounds
    weights: tuple[float, ...] = ()  # mixing weight of each source
    stream: str = ""  # random-stream key
    pitch: float | None = None  # MIDI pitch, if it is known


# Names -------------------------------------------------------------------------------------------


def short_names(filenames: Sequence[str | Path]) -> list[str]:
    """Return a different short name for each file.

    The name is the stem, or the first word of the title in a Freesound file name.  Short names
    are returned unchanged.

    >>> short_names(["83249__zgump__bass-0205__crop.wav", "a/Flute 1.wav", "b/flute-1.flac"])
    ['bass', 'Flute-1', 'flute-1-2']
    """
    return numbered([_short_name(PurePath(filename)) for filename in filenames], _RESERVED)


def _short_name(path: PurePath) -> str:
    """Return a name without underscores, which separate the sounds of a mix."""
    while path.suffix.lower() in _EXTENSIONS:
        path = path.with_suffix("")
    stem = path.name
    title = re.match(r"\d+__.+?__([^_-]+)", stem)
    name = unicodedata.normalize("NFC", (title[1] if title else stem).encode(
        "utf-8", "replace").decode("utf-8"))
    name = re.sub(r"[^\w.-]+|_", "-", name).encode("utf-8")[:_LONGEST].decode("utf-8", "ignore")
    return name.strip("-.") or "sound"


def numbered(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return the names, with a number added to repeated and taken ones; ignore case.

    >>> numbered(["a", "b", "A"])
    ['a', 'b', 'A-2']
    """
    result: list[str] = []
    for name in names:
        different, count = name, 1
        while different.casefold() in map(str.casefold, [*taken, *result]):
            count += 1
            different = f"{name}-{count}"
        result.append(different)
    return result


def pairs(names: Sequence[str], both_orders: bool = True) -> list[tuple[str, str]]:
    """Return every pair of two different names, in the book's order."""
    return list((itertools.permutations if both_orders else itertools.combinations)(names, 2))


def chosen_pairs(words: Sequence[str], names: Sequence[str],
                 filenames: Sequence[str | Path]) -> list[tuple[str, str]]:
    """Return the pairs that the user gives as "a+b", with short names or file names."""
    known = {}
    for name, path in zip(names, map(PurePath, filenames)):
        known.update({word.casefold(): name for word in (path.stem, path.name)})
    known.update({name.casefold(): name for name in names})
    result = []
    for word in words:
        pair = tuple(known.get(part.casefold(), "") for part in word.split("+"))
        if len(pair) != 2 or "" in pair or pair[0] == pair[1]:
            raise InputError(f"{word} does not name two of the sounds {', '.join(names)}: join "
                             f"two names with +, for example {names[0]}+{names[-1]}.")
        result.append(pair)
    return list(dict.fromkeys(result))


# Clips -------------------------------------------------------------------------------------------


def source(name: str) -> Clip:
    """Return the clip of a source sound."""
    return Clip(f"source_{name}", name, "source", (name,), (1.0,))


def reconstruction(name: str) -> Clip:
    """Return the clip of a sound's reconstruction: the sound, encoded and decoded."""
    return Clip(f"{name}_reconstructed", f"{name}, reconstructed", "reconstruction", (name,),
                (1.0,), _stream((name,), (1.0,)))


def mix(pair: tuple[str, str], weights: tuple[float, float] = CHAPTER_WEIGHTS) -> Clip:
    """Return the clip of a mix of two sounds."""
    return Clip("_".join(pair), ", ".join(pair), "mix", pair, weights, _stream(pair, weights))


def steps(pair: tuple[str, str], count: int) -> list[Clip]:
    """Return the interpolation steps from one sound to the other, including both sounds."""
    result = []
    for number in range(1, count + 1):
        second = (number - 1) / (count - 1)
        weights = (1 - second, second)
        result.append(Clip(f"{pair[0]}_{pair[1]}_step{number:0{len(str(count))}d}of{count}",
                           in_percent(pair, weights), "step", pair, weights,
                           _stream(pair, weights)))
    return result


def crossfade(pair: tuple[str, str]) -> Clip:
    """Return the clip in which one sound becomes the other over time."""
    return Clip(f"{pair[0]}_to_{pair[1]}", f"{pair[0]} to {pair[1]}", "crossfade", pair, (1.0, 1.0),
                f"{pair[0]} becomes {pair[1]}")


def in_percent(names: Sequence[str], weights: Sequence[float]) -> str:
    """Return mixing weights in words: "75 % bass, 25 % flute"."""
    return ", ".join(f"{100 * weight:.0f} % {name}"
                     for name, weight in zip(names, weights) if weight)


def _stream(names: Sequence[str], weights: Sequence[float]) -> str:
    return " + ".join(f"{weight:.6f} {name}" for name, weight in zip(names, weights) if weight)


def encoding_of(clip: Clip, encodings: dict[str, np.ndarray]) -> np.ndarray:
    """Compute the encoding [frames, 16] of a clip from the encodings of its sources."""
    parts = [encodings[name] for name in clip.sources]
    if clip.kind == "crossfade":
        return mixing.crossfade(*parts)
    return np.sum([np.float32(weight) * part for weight, part in zip(clip.weights, parts)], axis=0)


def scores(paths: Sequence[Path]) -> list[Clip]:
    """Return one clip for each score."""
    names = short_names(["overview", *paths])[1:]  # overview.png is taken
    return [Clip(name, name, "score") for name in names]
