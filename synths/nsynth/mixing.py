"""What can be done with NSynth encodings before they are decoded: mixes, paths, cross-fades.

An encoding is [frames, 16], a frame for every 512 samples (32 ms at 16 kHz).  The decoder was
trained on encodings of single sounds, so weights that sum to one keep a mix in the range it knows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from synths import InputError

# How much of the first and of the second sound goes into a mix.  "book" is what the book prints,
# `encoding1 + encoding2 / 2.0`: one and a half times the range that the decoder was trained on.
WEIGHTS = {"lean": (2 / 3, 1 / 3), "mean": (1 / 2, 1 / 2), "book": (1.0, 1 / 2)}

# Of the files that sounds and encodings are saved in.
ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf",
           ".w64", ".npy")


@dataclass(frozen=True)
class Mix:
    """A clip to decode: which sounds go into it, and how.

    Parameters
    ----------
    name : str
        Of its file, without seed and ending.
    title : str
        In words.
    kind : str
        "reconstruction", "mix", "step" or "crossfade".
    sources : tuple of int
        Places of the sounds, the leading one first.
    shares : tuple of float
        Weight of each source's encoding; of a crossfade, (1, 1).
    identity : str
        What it is made of, whatever its place in a batch: its random numbers come from this and
        the seed.
    """

    name: str
    title: str
    kind: str
    sources: tuple[int, ...]
    shares: tuple[float, ...]
    identity: str


# Names ---------------------------------------------------------------------------------------


def short_names(filenames: Sequence[str | Path]) -> list[str]:
    """Names for sounds, short enough to be joined in pairs, all different.

    Each name is the first word of the file's name (of a Freesound file's, the title's first word),
    where these words tell the sounds apart; else the whole name without its ending, with a number
    where two still agree.  Case does not tell names apart, for it does not on every disk.  Short
    names given again, all of them or some, come back unchanged.

    Parameters
    ----------
    filenames : sequence of str or Path

    Returns
    -------
    list of str
        Letters, digits, "_", "." and "-".

    Examples
    --------
    >>> short_names(["83249__zgump__bass-0205__crop.wav", "427567__maria-mannone__flute__crop.wav"])
    ['bass', 'flute']
    >>> short_names(["kick_1.wav", "kick_2.wav", "flute.wav"])
    ['kick_1', 'kick_2', 'flute']
    >>> short_names(["a/flute.wav", "b/Flute.flac"])
    ['flute', 'Flute-2']
    >>> short_names(["01_kick.wav", "02_snare.wav"])
    ['kick', 'snare']
    """
    stems = [_tame(_stem(name)) for name in filenames]
    if (stems == list(filenames) and _differ(stems) and not _joined_names_clash(stems)
            and all(_freesound_title(stem) == "" for stem in stems)):
        return stems
    for part in (_freesound_word, _freesound_title, _first_word, _whole):
        names = [part(stem) for stem in stems]
        if all(names) and _differ(names) and not _joined_names_clash(names):
            return names
    # without underscores no two joined names can be one
    return numbered([stem.replace("_", "-") for stem in stems])


def numbered(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Names with a number where one comes again, in whatever case.

    >>> numbered(["a", "b", "A"], taken=["b"])
    ['a', 'b-2', 'A-2']
    """
    result: list[str] = []
    for name in names:
        different, count = name, 1
        while different.casefold() in map(str.casefold, [*taken, *result]):
            count += 1
            different = f"{name}-{count}"
        result.append(different)
    return result


def _stem(filename: str | Path) -> str:
    """The name without folder and ending; a short name, which may hold dots, stays as it is."""
    path = PurePath(filename)
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def _tame(stem: str) -> str:
    """A name without what some disk refuses, and no longer than two of them fit into a file's."""
    stem = unicodedata.normalize("NFC", stem.encode("utf-8", "replace").decode("utf-8"))
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-.")
    while len(stem.encode("utf-8")) > 80:  # two, a step and a seed: under the 255 bytes of a disk
        stem = stem[:-1]
    return stem or "sound"


def _freesound_title(stem: str) -> str:
    """Title of a Freesound file: bass, of 83249__zgump__bass__crop."""
    found = re.match(r"\d+__[^_]+(?:_[^_]+)*?__(.+?)(?:__|$)", stem)
    return found[1].replace("_", "-") if found else ""


def _freesound_word(stem: str) -> str:
    return _freesound_title(stem).split("-")[0]


def _first_word(stem: str) -> str:
    return next((part for part in stem.split("_") if re.search(r"[^\W\d_]", part)), "")


def _whole(stem: str) -> str:
    return stem


def _differ(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)


def _joined_names_clash(names: Sequence[str]) -> bool:
    """Whether two pairs would be one file, as a_b with c and a with b_c."""
    joined = [f"{a}_{b}".casefold() for a in names for b in names if a != b]
    return any("_" in name for name in names) and len(set(joined)) < len(joined)


# Pairs ---------------------------------------------------------------------------------------


def pairs(count: int, both_orders: bool = True) -> list[tuple[int, int]]:
    """Every pair of two of `count` sounds, in the book's order: (0, 1), (0, 2), ..., (1, 0), ...

    Parameters
    ----------
    count : int
    both_orders : bool
        Whether (1, 0) is another pair than (0, 1).

    Returns
    -------
    list of (int, int)

    Examples
    --------
    >>> pairs(3, both_orders=False)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(first, second) for first in range(count) for second in range(count)
            if first != second and (both_orders or first < second)]


def chosen_pairs(names: Sequence[str], wanted: Sequence[str],
                 filenames: Sequence[str | Path] = ()) -> list[tuple[int, int]]:
    """The pairs named by the user as "a+b".

    Parameters
    ----------
    names : sequence of str
        The sounds' short names.
    wanted : sequence of str
        Two names joined by "+": short names, or the files' own, with or without ending.
    filenames : sequence of str or Path
        The sounds' files.

    Returns
    -------
    list of (int, int)
        Places of the sounds.

    Raises
    ------
    InputError
        If a pair is not two different sounds joined by "+", or is named twice.
    """
    places: dict[str, int] = {}
    for place, filename in enumerate(filenames):
        places.setdefault(_stem(filename).casefold(), place)
        places.setdefault(PurePath(filename).name.casefold(), place)
    places.update((name.casefold(), place) for place, name in enumerate(names))
    result: list[tuple[int, int]] = []
    for word in wanted:
        parts = [places.get(part.casefold()) for part in word.split("+")]
        if len(parts) != 2 or None in parts or parts[0] == parts[1]:
            known = ", ".join(names[:12]) + ", ..." * (len(names) > 12)
            raise InputError(f"{word!r} is no pair: join two of the sounds {known} by '+', for "
                             f"example {names[0]}+{names[-1]}.")
        pair = (parts[0], parts[1])
        if pair in result:
            raise InputError(f"The pair {word} is named twice: name each once.")
        result.append(pair)  # type: ignore[arg-type]
    return result


# Mixes ---------------------------------------------------------------------------------------


def weights(name: str, ratio: float | None = None) -> tuple[float, float]:
    """The weights of a mix: `WEIGHTS`, or `ratio` of the first and the rest of the second."""
    return WEIGHTS[name] if ratio is None else (ratio, 1 - ratio)


def percent(share: float) -> str:
    """A share in words, "67 %".

    >>> percent(2 / 3)
    '67 %'
    """
    return f"{100 * share:.3g} %" if share < 0.1 else f"{100 * share:.0f} %"


def reconstructions(names: Sequence[str]) -> list[Mix]:
    """Each sound encoded and decoded again, with nothing mixed in."""
    return [Mix(f"{name}_reconstructed", f"{name}, reconstructed", "reconstruction", (place,),
                (1.0,), _identity([name], [1.0])) for place, name in enumerate(names)]


def mixes(names: Sequence[str], shares: tuple[float, float],
          chosen: Sequence[tuple[int, int]]) -> list[Mix]:
    """A mix of each chosen pair, under the chapter's names, "bass_flute"."""
    return [Mix(f"{names[a]}_{names[b]}", f"{names[a]} with {names[b]}", "mix", (a, b), shares,
                _identity([names[a], names[b]], shares)) for a, b in chosen]


def paths(names: Sequence[str], steps: int, chosen: Sequence[tuple[int, int]]) -> list[Mix]:
    """The steps from one sound to the other, both ends included, of each chosen pair."""
    result = []
    for a, b in chosen:
        for step in range(steps):
            share = step / (steps - 1)
            words = [f"{percent(part)} {names[place]}"
                     for part, place in ((1 - share, a), (share, b)) if part]
            result.append(Mix(
                f"{names[a]}_{names[b]}_step{step + 1:0{len(str(steps))}d}of{steps}",
                ", ".join(words), "step", (a, b), (1 - share, share),
                _identity([names[a], names[b]], [1 - share, share])))
    return result


def crossfades(names: Sequence[str], chosen: Sequence[tuple[int, int]]) -> list[Mix]:
    """One sound that becomes the other over time, of each chosen pair."""
    return [Mix(f"{names[a]}_to_{names[b]}", f"{names[a]} becomes {names[b]}", "crossfade", (a, b),
                (1.0, 1.0), f"{names[a]} becomes {names[b]}") for a, b in chosen]


def _identity(names: Sequence[str], shares: Sequence[float]) -> str:
    return " + ".join(f"{share:.6f} {name}" for name, share in zip(names, shares) if share)


def encoding(mix: Mix, encodings: Sequence[np.ndarray]) -> np.ndarray:
    """The encoding of a clip, from those of all sounds.

    Parameters
    ----------
    mix : Mix
    encodings : sequence of float32 [frames, 16]
        One for each sound, of one length.

    Returns
    -------
    float32 [frames, 16]
    """
    parts = [np.asarray(encodings[place], np.float32) for place in mix.sources]
    if mix.kind == "crossfade":
        return crossfade(*parts)
    return np.sum([np.float32(share) * part for share, part in zip(mix.shares, parts)], axis=0)


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


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of one shape as one array [n, ...].

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
    return np.array(arrays, np.float32)
