"""What a bank will hold, settled before any work: corners, pitches, the grid of mixes, clips.

A corner is a folder of notes or a single sound.  Two corners span a line, three a triangle, four a
square, whose points are bilinear mixes of the corners' encodings at one pitch, as in Magenta's
open-nsynth-super (`workdir/settings.json`: a resolution of 9).
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workshop.bank import manifest, tasks
from synths import InputError, files
from synths.sounds import load_audio

SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_UNPITCHED = 60  # the key at which a sound without a pitch sounds as it is
_OCTAVES = [48, 60, 72]  # what single sounds make unasked
_PITCH = r"(?:[A-Ga-g][#♯b♭]?-?[0-9]|[0-9]{1,3})"


@dataclass(frozen=True)
class Corner:
    """One instrument of the grid.

    Parameters
    ----------
    name : str
    notes : dict
        MIDI pitch -> file.
    single : bool
        Whether one sound, played faster or slower, stands for every pitch.
    tuning : float
        The pitch at which a single sound sounds as it is, a MIDI number with its fraction.
    """

    name: str
    notes: dict[int, Path]
    single: bool
    tuning: float = 0.0


@dataclass
class Bank:
    """A whole bank as planned.

    Parameters
    ----------
    kind : str
        "nsynth" or "gansynth".
    points : list
        The grid: (name, place, shares in words) of each instrument; a place is a tuple of whole
        numbers, one for each direction of the grid.
    pitches : list of int
    files : dict
        (point's name, pitch) -> the clip's file; two points of one sound share a file.
    clips : list of dict
        The records of all clips, each once, as far as they are known before the work.
    sources : dict
        Digest of a prepared sound -> the sound, float32 [samples].
    spoiled : dict
        File of a clip -> why it cannot be made.
    corners : list of str
    """

    kind: str
    points: list[tuple[str, tuple[int, ...], str]]
    pitches: list[int]
    files: dict[tuple[str, int], str] = field(default_factory=dict)
    clips: list[dict] = field(default_factory=list)
    sources: dict[str, np.ndarray] = field(default_factory=dict)
    spoiled: dict[str, str] = field(default_factory=dict)
    corners: list[str] = field(default_factory=list)


# Pitches -------------------------------------------------------------------------------------


def note_name(pitch: int) -> str:
    """The name of a MIDI pitch; 60 is C4.

    >>> note_name(60), note_name(22)
    ('C4', 'A#0')
    """
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def parse_pitch(word: str) -> int | None:
    """A MIDI number or a note's name as a MIDI pitch; None if it is neither.

    >>> [parse_pitch(word) for word in ("60", "C4", "bb3", "f#-1", "H2", "128")]
    [60, 60, 58, 6, None, None]
    """
    if re.fullmatch(r"[0-9]{1,3}", word):
        pitch = int(word)
    else:
        match = re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(-?[0-9])", word)
        if not match:
            return None
        pitch = (_STEPS[match[1].upper()] + {"": 0, "#": 1, "♯": 1}.get(match[2], -1)
                 + 12 * (int(match[3]) + 1))
    return pitch if 0 <= pitch <= 127 else None


def parse_pitches(text: str) -> list[int]:
    """Pitches as a user lists them: "48,60", "C2-C5", "24-84:3".

    Raises
    ------
    InputError
        If a part of it is no pitch and no range.

    Examples
    --------
    >>> parse_pitches("24-33:3,C4"), parse_pitches("Bb3 - C4")
    ([24, 27, 30, 33, 60], [58, 59, 60])
    """
    pitches: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(rf"\s*({_PITCH})(?:\s*-\s*({_PITCH}))?(?::([0-9]+))?\s*", part)
        low = parse_pitch(match[1]) if match else None
        high = (parse_pitch(match[2]) if match[2] else low) if match else None
        step = int(match[3] or 1) if match else 0
        if low is None or high is None or low > high or step < 1:
            raise InputError("Pitches are MIDI numbers 0 to 127 or names of notes, and ranges of "
                             f"them with a step if wanted (48,60,C5 or 24-84:3), not {text!r}.")
        pitches.update(range(low, high + 1, step))
    return sorted(pitches)


def pitch_in_name(stem: str) -> int | None:
    """The pitch that a file's name says: NSynth's own form, a note's name, or a number from 12 on.

    Octaves below 0 have no names here, for in `take-b-1` the 1 is no octave.

    >>> [pitch_in_name(stem) for stem in ("bass_electronic_018-022-100", "flute_C#4", "organ_060",
    ...                                   "take 2", "p48_take_2", "meow")]
    [22, 61, 60, None, 48, None]
    """
    nsynth = re.search(r"-(\d{3})-\d{3}$", stem)
    if nsynth:
        return parse_pitch(nsynth[1])
    marked = re.findall(r"(?i)(?<![a-z0-9])(?:p|midi|note|pitch)_?(\d{1,3})(?!\d)", stem)
    named = re.findall(r"(?<![A-Za-z0-9])([A-Ga-g][#♯b♭]?[0-9])(?![A-Za-z0-9])", stem)
    numbers = [word for word in re.findall(r"(?<!\w)[0-9]{2,3}(?!\w)", stem.replace("_", " "))
               if 12 <= int(word) <= 127]
    for words in (marked, named, numbers):
        if len(set(words)) == 1:
            return parse_pitch(words[0])
    return None


def pitch_by_ear(audio: np.ndarray) -> float | None:
    """The pitch of a sound, a MIDI number with its fraction; None where it has no steady one.

    Source: Mauch and Dixon, "pYIN: a fundamental frequency estimator using probabilistic threshold
    distributions" (2014), as `librosa.pyin`.
    """
    import librosa

    f0, voiced, _ = librosa.pyin(audio[:4 * tasks.SAMPLE_RATE], fmin=32.7, fmax=2093.0,
                                 sr=tasks.SAMPLE_RATE, frame_length=2048)
    rms = librosa.feature.rms(y=audio[:4 * tasks.SAMPLE_RATE], frame_length=2048)[0][:len(f0)]
    loud = rms > 0.1 * rms.max(initial=0)
    if not loud.any() or not rms.max() or np.mean(voiced[loud]) < 0.5:
        return None
    pitches = librosa.hz_to_midi(f0[loud & voiced])
    if np.percentile(pitches, 75) - np.percentile(pitches, 25) > 1:
        return None  # it glides
    return float(np.median(pitches))


# Corners -------------------------------------------------------------------------------------


def load_corners(paths: Sequence[str], say: Callable[[str], None]) -> list[Corner]:
    """The corners and their notes; says what pitch was found by ear.

    Raises
    ------
    InputError
        If there are not two to four, one is missing or a folder without notes, a note has no pitch,
        or a folder has two notes of one pitch.
    """
    if not 2 <= len(paths) <= 4:
        raise InputError(f"A bank of mixes has two, three or four corners, not {len(paths)}.")
    corners: list[Corner] = []
    for path in map(Path, paths):
        stem = path.resolve().name if path.is_dir() else path.stem
        stem = re.sub(r"[^\w.-]+", "-", stem).strip("-") or "corner"
        taken = [corner.name for corner in corners]
        name = next(name for name in itertools.chain(
            [stem], (f"{stem}-{number}" for number in itertools.count(2))) if name not in taken)
        corners.append(_folder(path, name, say) if path.is_dir() else _single(path, name, say))
    return corners


def _folder(path: Path, name: str, say: Callable[[str], None]) -> Corner:
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in SOUNDS
                   and not file.name.startswith(".") and file.is_file())
    if not found:
        raise InputError(f"A corner is a sound or a folder of notes, and {path} holds no sound "
                         f"({', '.join(SOUNDS)}): name another folder.")
    notes: dict[int, Path] = {}
    for file in found:
        pitch = pitch_in_name(file.stem)
        if pitch is None:
            heard = _heard(file)
            if heard is None:
                raise InputError(f"The pitch of {file} is neither in its name nor heard: put the "
                                 f"MIDI number or the note into the name, like {name}_60.wav.")
            pitch = round(heard)
            say(f"{file.name}: heard as {_in_words(heard)}")
        if pitch in notes:
            raise InputError(f"A corner has one note of a pitch, and {path} has two of MIDI "
                             f"{pitch}, {notes[pitch].name} and {file.name}: leave one.")
        notes[pitch] = file
    return Corner(name, notes, single=False)


def _single(path: Path, name: str, say: Callable[[str], None]) -> Corner:
    if not path.is_file():
        raise InputError(f"A corner is a sound or a folder of notes, and {path} does not exist: "
                         "check its name and folder.")
    pitch: float | None = pitch_in_name(path.stem)
    if pitch is None:
        heard = _heard(path)
        pitch = _UNPITCHED if heard is None else heard
        say(f"{path.name}: " + (f"heard as {_in_words(pitch)}" if heard is not None else
                                f"no steady pitch, so it sounds as it is on {_in_words(pitch)}"))
    return Corner(name, {round(pitch): path}, single=True, tuning=pitch)


def _heard(path: Path) -> float | None:
    """The pitch of a sound's first seconds, to the tenth of a semitone that pYIN tells apart."""
    heard = pitch_by_ear(load_audio(path, 4 * tasks.SAMPLE_RATE))
    return None if heard is None else round(heard, 1)


def _in_words(pitch: float) -> str:
    """A pitch in words.

    >>> _in_words(60.0), _in_words(60.6)
    ('C4, MIDI 60', 'C#4, MIDI 61 (-40 cents)')
    """
    cents = round(100 * (pitch - round(pitch)))
    return (f"{note_name(round(pitch))}, MIDI {round(pitch)}"
            + (f" ({cents:+} cents)" if cents else ""))


def common_pitches(corners: Sequence[Corner], wanted: Sequence[int] | None,
                   say: Callable[[str], None]) -> list[int]:
    """The pitches of the bank: those wanted, or else there, that every corner has.

    A single sound has every pitch: it is played faster or slower.  Single sounds alone make three
    octaves of a note unless asked for more.

    Raises
    ------
    InputError
        If there are none.
    """
    folders = [corner for corner in corners if not corner.single]
    if not folders and not wanted:
        wanted = _OCTAVES
        say(f"single sounds have every pitch: {pitch_list(wanted)} are made (--pitches for others)")
    every = set(wanted or ()) or {pitch for corner in folders for pitch in corner.notes}
    common = {pitch for pitch in every if all(pitch in corner.notes for corner in folders)}
    if not common:
        raise InputError("The corners need pitches in common, and there are none: "
                         + "; ".join(f"{corner.name} has {pitch_list(corner.notes)}"
                                     for corner in folders)
                         + (f"; asked for {pitch_list(every)}" if wanted else "") + ".")
    for corner in folders:
        lacking = sorted(every - set(corner.notes))
        if lacking:
            say(f"{corner.name} lacks {pitch_list(lacking)}")
    if every - common:
        say(f"the pitches in common are made: {pitch_list(common)}")
    return sorted(common)


def pitch_list(pitches) -> str:
    """Pitches in words."""
    return ", ".join(f"{pitch} ({note_name(pitch)})" for pitch in sorted(pitches))


def load_note(corner: Corner, pitch: int, samples: int) -> np.ndarray:
    """A corner's note: float32 [samples], 16 kHz, mono, cut or followed by silence."""
    if not corner.single:
        return load_audio(corner.notes[pitch], samples)
    path, = corner.notes.values()
    if pitch == corner.tuning:
        return load_audio(path, samples)
    import soxr

    rate = 2 ** ((pitch - corner.tuning) / 12)
    # A thousand samples more than what is heard, for the ends of the filter.
    audio = load_audio(path, math.ceil(samples * rate) + 1000)
    audio = soxr.resample(audio, rate, 1.0, quality="HQ")[:samples]
    audio = audio / max(1.0, float(np.abs(audio).max(initial=0.0)))
    return np.pad(audio, (0, samples - len(audio))).astype(np.float32)


# The grid ------------------------------------------------------------------------------------


def grid(corners: int, size: int) -> list[tuple[str, tuple[int, ...], tuple[float, ...]]]:
    """The points of a grid: name, place, and the weight of each corner (they sum to one).

    Parameters
    ----------
    corners : int
        2: a line; 3: a triangle; 4: a square, whose corners are, in reading order, top left, top
        right, bottom left, bottom right.
    size : int
        Points along a side, at least 2.

    Examples
    --------
    >>> grid(4, 2)[1]
    ('x1y0', (1, 0), (0.0, 1.0, 0.0, 0.0))
    """
    last = size - 1
    digits = len(str(last))
    if corners == 2:
        return [(f"x{x:0{digits}}", (x, 0), ((last - x) / last, x / last)) for x in range(size)]
    if corners == 3:
        return [(f"x{x:0{digits}}y{y:0{digits}}", (x, y),
                 ((last - x - y) / last, x / last, y / last))
                for y in range(size) for x in range(size - y)]
    return [(f"x{x:0{digits}}y{y:0{digits}}", (x, y),
             tuple(a * b / last ** 2 for b in (last - y, y) for a in (last - x, x)))
            for y in range(size) for x in range(size)]


def plan_nsynth(corners: Sequence[Corner], size: int, pitches: Sequence[int], samples: int,
                settings: dict) -> Bank:
    """A bank of mixes.

    Parameters
    ----------
    corners : sequence of Corner
    size : int
        Points along a side of the grid.
    pitches : sequence of int
    samples : int
        Length of a clip; rounded down to frames of 512.
    settings : dict
        What all clips share: ``weights`` (name and digest), ``seed``, ``precision``,
        ``temperature``.

    Raises
    ------
    InputError
        If no note of the corners can be used.
    """
    points = grid(len(corners), size)
    bank = Bank("nsynth", [], list(pitches), corners=[corner.name for corner in corners])
    for name, place, shares in points:
        bank.points.append((name, place, " + ".join(
            f"{100 * share:.3g} % {corner.name}" for corner, share in zip(corners, shares)
            if share)))
    made: dict[str, str] = {}
    for pitch in pitches:
        notes = [_prepared(corner, pitch, samples, bank) for corner in corners]
        for name, _, shares in points:
            file = f"clips/{name}_p{pitch:03d}.wav"
            used = [(note, corner.name, share) for note, corner, share
                    in zip(notes, corners, shares) if share]
            wrong = [note.fault for note, _, _ in used if note.fault]
            record = _nsynth_record(file, used, pitch, samples, settings)
            record["recipe"] = manifest.recipe(record)
            bank.files[name, pitch] = made.setdefault(record["identity"], file)
            if bank.files[name, pitch] == file:
                bank.clips.append(record)
                if wrong:
                    bank.spoiled[file] = wrong[0]
    if not bank.sources:
        raise InputError("None of the corners' notes can be used: "
                         f"{next(iter(bank.spoiled.values()), 'there is none')}")
    return bank


def set_precision(bank: Bank, precision: str) -> None:
    """Set the precision, "float32" or "int8", in which all clips of a bank are decoded."""
    for clip in bank.clips:
        clip["precision"] = precision
        clip["recipe"] = manifest.recipe(clip)


@dataclass(frozen=True)
class _Note:
    digest: str
    file: str
    fault: str = ""


def _prepared(corner: Corner, pitch: int, samples: int, bank: Bank) -> _Note:
    """Load a note and put it among the bank's sources; a sound that cannot be used is noted."""
    path = next(iter(corner.notes.values())) if corner.single else corner.notes[pitch]
    name = files.shortened(path.name)
    try:
        audio = load_note(corner, pitch, samples)
    except InputError as error:
        return _Note(manifest.digest(os.fsencode(path)), name, str(error))
    file = io.BytesIO()
    np.save(file, audio, allow_pickle=False)
    digest = manifest.digest(file.getvalue())
    bank.sources[digest] = audio
    return _Note(digest, name)


def _nsynth_record(file: str, used: Sequence[tuple], pitch: int, samples: int,
                   settings: dict) -> dict:
    weights = settings["weights"]["digest"]
    shares: dict[str, float] = {}
    for note, _, share in used:  # a sound that stands in two corners counts once
        shares[note.digest] = shares.get(note.digest, 0) + share
    identity = " ".join([weights, *(f"{digest}:{share:.9f}" for digest, share
                                    in sorted(shares.items())), f"p{pitch}"])
    names = {note.digest: {"name": name, "sound": note.file} for note, name, _ in used}
    return {**settings, "file": file, "identity": identity, "pitch": pitch,
            "seconds": samples // 512 * 512 / tasks.SAMPLE_RATE,
            "sources": [{**names[digest], "digest": digest, "share": share,
                         "encoding": f"encodings/{digest}_{weights[:12]}.npy"}
                        for digest, share in sorted(shares.items())]}


def plan_gansynth(instruments: Sequence[int], pitches: Sequence[int], known: range,
                  settings: dict) -> Bank:
    """A bank of whole notes: every instrument at every pitch.

    Parameters
    ----------
    instruments : sequence of int
        Numbers of the seed's instruments, from 1.
    pitches : sequence of int
    known : range
        The pitches that the model plays.
    settings : dict
        What all clips share.

    Raises
    ------
    InputError
        If the model does not know a pitch.
    """
    unknown = [pitch for pitch in pitches if pitch not in known]
    if unknown:
        raise InputError(f"The model plays MIDI notes {known[0]} to {known[-1]}, not "
                         f"{unknown[0]}: choose --pitches within these.")
    bank = Bank("gansynth", [(f"instrument{number:03d}", (place, 0), f"instrument {number}")
                             for place, number in enumerate(instruments)], list(pitches))
    for number, (name, _, _) in zip(instruments, bank.points):
        for pitch in pitches:
            file = f"clips/{name}_p{pitch:03d}.wav"
            bank.files[name, pitch] = file
            record = {**settings, "file": file, "pitch": pitch, "instrument": number,
                      "sources": [], "identity": " ".join(
                          [settings["weights"]["digest"], f"instrument {number}", f"p{pitch}"])}
            bank.clips.append(record | {"recipe": manifest.recipe(record)})
    return bank


def parse_instruments(text: str) -> list[int]:
    """Numbers of instruments: "3,7" or "1-8".

    Raises
    ------
    InputError
        If it is something else.

    Examples
    --------
    >>> parse_instruments("3,7,1-2")
    [3, 7, 1, 2]
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high:
            raise InputError("Instruments are numbers from 1, and ranges of them (3,7 or 1-8), not "
                             f"{text!r}.")
        numbers.extend(number for number in range(low, high + 1) if number not in numbers)
    return numbers


def batches(clips: Sequence[dict], common: dict) -> list[dict]:
    """Clips as tasks of about a dozen."""
    count = math.ceil(len(clips) / tasks.CLIPS)
    found = []
    for place in range(count):
        part = clips[len(clips) * place // count:len(clips) * (place + 1) // count]
        name = manifest.digest(" ".join(clip["recipe"] for clip in part).encode())[:20]
        found.append({**common, "name": name, "clips": list(part)})
    return found
