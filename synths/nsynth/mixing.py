"""What can be done with NSynth encodings before they are decoded: mixes, paths, cross-fades.

An encoding is [frames, 16], a frame for every 512 samples (32 ms at 16 kHz).  The decoder was
trained on encodings of single sounds, so weights that sum to one keep a mix in the range it knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

import numpy as np

from synths import InputError

# How much of the first and of the second sound goes into a mix.  "book" is what the book prints,
# `encoding1 + encoding2 / 2.0`: one and a half times the range that the decoder was trained on.
WEIGHTS = {"lean": (2 / 3, 1 / 3), "mean": (1 / 2, 1 / 2), "book": (1.0, 1 / 2)}


def short_names(filenames: Sequence[str]) -> list[str]:
    """Names for sounds, short enough to be joined in pairs and unlike each other.

    The part before the first underscore where it is enough (the book's rule: the Freesound
    number), else the file's name without its ending; a number is added where two still agree.

    >>> short_names(["83249__zgump__bass.wav", "427567__maria-mannone__flute.wav"])
    ['83249', '427567']
    >>> short_names(["kick_1.wav", "kick_2.wav", "a/flute.wav", "b/flute.flac"])
    ['kick_1', 'kick_2', 'flute', 'flute-2']
    """
    stems = [re.sub(r"[^\w.-]+", "-", PurePath(name).stem).strip("-.") or "sound"
             for name in filenames]
    prefixes = [stem.split("_", 1)[0] for stem in stems]
    if all(prefixes) and len(set(prefixes)) == len(prefixes):
        return prefixes
    names: list[str] = []
    for stem in stems:
        name, count = stem, 1
        while name in names:
            count += 1
            name = f"{stem}-{count}"
        names.append(name)
    return names


def pairs(count: int, both_orders: bool = True) -> Iterator[tuple[int, int]]:
    """Every pair of two of `count` sounds, in the book's order: (0, 1), (0, 2), ..., (1, 0), ..."""
    for first in range(count):
        for second in range(count):
            if first != second and (both_orders or first < second):
                yield first, second


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    """Arrays of one shape as one array; None if there are none.

    Raises
    ------
    InputError
        If their shapes differ.
    """
    shapes = {np.shape(array) for array in arrays}
    if len(shapes) > 1:
        raise InputError("Encodings to be mixed need the same length, and these have "
                         f"{' and '.join(str(shape[0]) for shape in sorted(shapes))} frames of 512 "
                         "samples: choose --seconds to fit the saved ones.")
    return np.stack(arrays) if shapes else None


def chosen_pairs(names: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs named by the user as "a+b".

    Raises
    ------
    InputError
        If a pair is not two different names of `names` joined by "+".
    """
    result = []
    for word in wanted:
        parts = word.split("+")
        if len(parts) != 2 or parts[0] == parts[1] or not set(parts) <= set(names):
            raise InputError(f"a pair is two of the sounds {', '.join(names)} joined by '+', "
                             f"found {word!r}; write for example {names[0]}+{names[-1]}")
        result.append((names.index(parts[0]), names.index(parts[1])))
    return result


def weights(name: str, ratio: float | None = None) -> tuple[float, float]:
    """The weights of a mix: those of `WEIGHTS`, or `ratio` of the first and the rest of the second.
    """
    return WEIGHTS[name] if ratio is None else (ratio, 1 - ratio)


def path(first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    """Straight path from one encoding to another, both ends included.

    Parameters
    ----------
    first, second : float32 [frames, 16]
    steps : int
        At least 2.

    Returns
    -------
    float32 [steps, frames, 16]
    """
    share = np.linspace(0, 1, steps, dtype=np.float32)[:, None, None]
    return (1 - share) * first + share * second


def crossfade(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One sound that becomes the other over time, faded in the encodings.

    The weights follow a Hann window's flanks, as in the NSynth notebook, and sum to one at every
    frame: only the first at the start, only the second at the end.

    Parameters
    ----------
    first, second : float32 [frames, 16]

    Returns
    -------
    float32 [frames, 16]
    """
    share = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, len(first), dtype=np.float32))[:, None]
    return (1 - share) * first + share * second


def paths(encodings: Sequence[np.ndarray], names: Sequence[str], steps: int,
          chosen: Sequence[tuple[int, int]] | None = None) -> tuple[list[np.ndarray], list[str]]:
    """The `path` of every chosen pair (None: of every pair once), and the steps' names."""
    mixes, mixes_name = [], []
    for first, second in chosen or pairs(len(encodings), both_orders=False):
        mixes.extend(path(encodings[first], encodings[second], steps))
        mixes_name.extend(f"{names[first]}_{names[second]}_step{step:0{len(str(steps))}d}of{steps}"
                          for step in range(1, steps + 1))
    return mixes, mixes_name


def crossfades(encodings: Sequence[np.ndarray], names: Sequence[str],
               chosen: Sequence[tuple[int, int]] | None = None
               ) -> tuple[list[np.ndarray], list[str]]:
    """The `crossfade` of every chosen pair (None: of every pair in both orders), and their names.
    """
    chosen = list(chosen or pairs(len(encodings)))
    return ([crossfade(encodings[first], encodings[second]) for first, second in chosen],
            [f"{names[first]}_to_{names[second]}" for first, second in chosen])
