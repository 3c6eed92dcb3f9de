"""Plan a bank before any work starts: corners, pitches, the grid of mixes, and clips.

A corner is a folder of notes or a single sound.  Two corners span a line, three a triangle, four a
square, whose points are bilinear mixes of the corners' encodings at one pitch, as in Magenta's
open-nsynth-super (`workdir/settings.json`: a resolution of 9).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from companion import inputs
from companion.clips import short_names
from companion.page import note_name
from companion.page.pitch import pitch_of
from synths import InputError
from synths.sounds import load_audio
from workshop.bank import manifest, tasks

_UNPITCHED = 60  # the key that plays an unpitched sound at its original speed
_PITCH = r"(?:[A-Ga-g][#♯b♭]?-?[0-9]|[0-9]{1,3})"


@dataclass(frozen=True)
class Corner:
    """A corner of the grid: a folder of notes, or a single sound played faster or slower."""

    name: str
    notes: dict[int, Path]  # files by MIDI pitch
    tuning: float | None = None  # MIDI pitch at which a single sound has its original speed

    def file(self, pitch: int) -> Path:
        """Return the file of a note."""
        return self.notes[pitch if self.tuning is None else round(self.tuning)]


@dataclass
class Bank:
    """The plan of a bank, without anything that is already made."""

    points: list[tuple[str, str, tuple[float, ...]]]  # name, title, weights of the corners
    pitches: list[int]
    corners: list[str] = field(default_factory=list)
    files: dict[tuple[str, int], str] = field(default_factory=dict)  # by point name and pitch
    clips: list[dict] = field(default_factory=list)  # records; points of the same sound share one
    sources: dict[str, np.ndarray] = field(default_factory=dict)  # float32 [samples], by digest


# Pitches -------------------------------------------------------------------------------------


def parse_pitch(word: str) -> int | None:
    """Return the MIDI pitch of a MIDI number or note name; None if it is neither.

    >>> [parse_pitch(word) for word in ("60", "C4", "bb3", "f#-1", "H2", "128")]
    [60, 60, 58, 6, None, None]
    """
    import librosa

    if not re.fullmatch(r"[0-9]{1,3}|[A-Ga-g][#♯b♭s]?-?[0-9]", word):
        return None
    pitch = int(word) if word[0].isdigit() else int(librosa.note_to_midi(word.replace("s", "#")))
    return pitch if 0 <= pitch <= 127 else None


def parse_pitches(text: str) -> list[int]:
    """Parse a list of pitches and ranges: "48,60", "C2-C5", "24-84:3".

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
            raise InputError("Pitches must be MIDI numbers 0 to 127, note names or ranges, such as "
                             f"48,60,C5 or 24-84:3, not {text!r}.")
        pitches.update(range(low, high + 1, step))
    return sorted(pitches)


def pitch_in_name(stem: str) -> int | None:
    """Return the MIDI pitch stated in a file name, in NSynth's form, as p60 or as a note name.

    >>> [pitch_in_name(stem) for stem in ("bass_electronic_018-022-100", "flute_C#4", "cello_As2_1",
    ...                                   "p48_take_2", "organ_060", "SH-101 bass", "meow")]
    [22, 61, 46, 48, None, None, None]
    """
    nsynth = re.search(r"-(\d{3})-\d{3}$", stem)
    if nsynth:
        return parse_pitch(nsynth[1])
    marked = re.findall(r"(?i)(?<![a-z0-9])(?:p|midi|note|pitch)_?(\d{1,3})(?!\d)", stem)
    named = re.findall(r"(?<![A-Za-z0-9])([A-Ga-g][#♯b♭s]?[0-9])(?![A-Za-z0-9])", stem)
    for words in (marked, named):
        if len(set(words)) == 1:
            return parse_pitch(words[0])
    return None


def number_in_name(stem: str) -> int | None:
    """Return the number in a file name, if it is the only one and can be a MIDI pitch.

    >>> [number_in_name(stem) for stem in ("organ_060", "take 2", "cello 36 48")]
    [60, None, None]
    """
    numbers = {int(word) for word in re.findall(r"(?<![A-Za-z0-9])[0-9]{2,3}(?![A-Za-z0-9])", stem)
               if 12 <= int(word) <= 127}
    return numbers.pop() if len(numbers) == 1 else None


def detected_pitch(path: Path) -> float | None:
    """Return the pitch of a sound to a tenth of a semitone; None if it has no steady one."""
    pitch = pitch_of(load_audio(path, 4 * tasks.SAMPLE_RATE))
    return None if pitch is None else round(pitch, 1)


def note_pitch(path: Path, stated: int | None) -> float | None:
    """Return a sound's pitch, from its audio and its file name; print both.

    If they differ by more than a semitone, the audio decides.
    """
    detected = detected_pitch(path)
    if detected is None:
        print(f"{path.name}: " + ("no steady pitch" if stated is None else
                                  f"no steady pitch; using {note_name(stated)} from its name"),
              flush=True)
        return stated
    if stated is None:
        print(f"{path.name}: {in_words(detected)}", flush=True)
        return detected
    off = detected - stated
    print(f"{path.name}: {in_words(detected)}" + (
        ", as its name states" if abs(off) <= 1 else
        f"; its name states {note_name(stated)}" + (
            ", in another octave (perhaps the name calls MIDI 60 C3)" if min(
                abs(abs(off) - 12), abs(abs(off) - 24)) <= 1 else "")
        + "; using the measured pitch"), flush=True)
    return detected if abs(off) > 1 else float(stated)


# Corners -------------------------------------------------------------------------------------


def load_corners(paths: Sequence[str]) -> list[Corner]:
    """Return the corners and their notes; print their pitches."""
    if not 2 <= len(paths) <= 4:
        raise InputError(f"A bank of mixes must have two, three or four corners, not {len(paths)}.")
    found = [inputs.sound_path(path) for path in paths]
    sounds = [inputs.choose_sounds([str(path)], (), False) for path in found]
    return [_folder(each, name) if path.is_dir() else _single(path, name)
            for path, each, name in zip(
                found, sounds, short_names([path.resolve() for path in found]))]


def _folder(sounds: Sequence[Path], name: str) -> Corner:
    pitches = [pitch_in_name(file.stem) for file in sounds]
    numbers = [number_in_name(file.stem) for file in sounds]
    if not any(pitches) and None not in numbers and _rise_together(
            numbers, [detected_pitch(file) for file in sounds]):
        pitches = numbers  # numbers alone are not pitches: "SH-101", "take 12"
    notes: dict[int, Path] = {}
    for file, stated in zip(sounds, pitches):
        pitch = note_pitch(file, stated)
        if pitch is None:
            raise InputError(f"{file} has no steady pitch, and its name does not give one: add a "
                             f"MIDI number or a note to the name, such as {name}_p60.wav.")
        if round(pitch) in notes:
            raise InputError(f"{notes[round(pitch)].name} and {file.name} in {file.parent} both "
                             f"have the pitch {note_name(round(pitch))}: remove one of them.")
        notes[round(pitch)] = file
    return Corner(name, notes)


def _rise_together(numbers: Sequence[int | None], pitches: Sequence[float | None]) -> bool:
    """Return whether the detected pitches rise along with the numbers in the names."""
    pairs = sorted((number, pitch) for number, pitch in zip(numbers, pitches) if pitch is not None)
    return len(pairs) > 1 and len(set(numbers)) == len(numbers) and all(
        first[1] < second[1] for first, second in zip(pairs, pairs[1:]))


def _single(path: Path, name: str) -> Corner:
    pitch = note_pitch(path, pitch_in_name(path.stem))
    if pitch is None:
        pitch = _UNPITCHED
        print(f"{path.name} has no steady pitch: the key {in_words(pitch)} plays it at its "
              "original speed", flush=True)
    return Corner(name, {round(pitch): path}, pitch)


def in_words(pitch: float) -> str:
    """Return a pitch in words.

    >>> in_words(60.0), in_words(60.6)
    ('C4 (MIDI 60)', 'C#4 (MIDI 61, -40 cents)')
    """
    cents = round(100 * (pitch - round(pitch)))
    return (f"{note_name(round(pitch))} (MIDI {round(pitch)}"
            + (f", {cents:+} cents)" if cents else ")"))


def common_pitches(corners: Sequence[Corner], wanted: Sequence[int] | None) -> list[int]:
    """Return the pitches of the bank: the wanted or available ones that every corner has.

    A single sound has every pitch.  If all corners are single sounds, the default is their own
    pitches, because the bundled model knows few others.
    """
    folders = [corner for corner in corners if corner.tuning is None]
    if not folders and not wanted:
        wanted = sorted({pitch for corner in corners for pitch in corner.notes})
        print(f"Making clips only at the sounds' own pitches: {pitch_list(wanted)} (use --pitches "
              "to choose others)", flush=True)
    every = set(wanted or (pitch for corner in folders for pitch in corner.notes))
    common = {pitch for pitch in every if all(pitch in corner.notes for corner in folders)}
    if not common:
        raise InputError("The corners have no pitch in common ("
                         + "; ".join(f"{corner.name} has {pitch_list(corner.notes)}"
                                     for corner in folders)
                         + (f"; --pitches asks for {pitch_list(every)}" if wanted else "")
                         + "): choose other folders or other --pitches.")
    for corner in folders:
        lacking = sorted(every - set(corner.notes))
        if lacking:
            print(f"{corner.name} lacks {pitch_list(lacking)}", flush=True)
    if every - common:
        print(f"Making clips only at the pitches that all corners have: {pitch_list(common)}",
              flush=True)
    return sorted(common)


def pitch_list(pitches) -> str:
    """Return a list of pitches as text."""
    return ", ".join(f"{note_name(pitch)} ({pitch})" for pitch in sorted(pitches))


def load_note(corner: Corner, pitch: int, samples: int) -> np.ndarray:
    """Load a note of a corner: float32 [samples], 16 kHz, mono, cut or padded with silence."""
    import soxr

    path = corner.file(pitch)
    if corner.tuning in (None, pitch):
        return load_audio(path, samples)

    rate = 2 ** ((pitch - corner.tuning) / 12)
    # Read a thousand more samples than needed, for the edges of the filter.
    audio = load_audio(path, math.ceil(samples * rate) + 1000)
    audio = soxr.resample(audio, rate, 1.0, quality="HQ")[:samples]
    audio = audio / max(1.0, float(np.abs(audio).max(initial=0.0)))
    return np.pad(audio, (0, samples - len(audio))).astype(np.float32)


# The grid ------------------------------------------------------------------------------------


def grid(corners: int, size: int) -> list[tuple[str, tuple[float, ...]]]:
    """Return the names of a grid's points, and the weights of their corners, which sum to 1.

    The corners of a square are ordered top left, top right, bottom left, bottom right.

    >>> grid(4, 2)[1]
    ('x1y0', (0.0, 1.0, 0.0, 0.0))
    """
    last = size - 1
    digits = len(str(last))
    if corners == 3:
        whole = {(x, y): [last - x - y, x, y] for y in range(size) for x in range(size - y)}
    else:  # a line is the first row of a square
        whole = {(x, y): [a * b for b in (last - y, y) for a in (last - x, x)][:corners]
                 for y in range(size if corners == 4 else 1) for x in range(size)}
    return [(f"x{x:0{digits}}" + (f"y{y:0{digits}}" if corners > 2 else ""),
             tuple(part / sum(parts) for part in parts)) for (x, y), parts in whole.items()]


def plan_nsynth(corners: Sequence[Corner], size: int, pitches: Sequence[int], samples: int,
                settings: dict) -> Bank:
    """Plan mixes of the corners' notes, with `size` points along a side of the grid."""
    points = []
    for name, shares in grid(len(corners), size):
        points.append((name, " + ".join(
            f"{100 * share:.3g} % {corner.name}" for corner, share in zip(corners, shares)
            if share), shares))
    bank = Bank(points, list(pitches), [corner.name for corner in corners])
    made: dict[str, str] = {}
    for pitch in pitches:
        notes = []
        for corner in corners:
            audio = load_note(corner, pitch, samples)
            notes.append(manifest.digest(tasks.array_bytes(audio)))
            bank.sources[notes[-1]] = audio
        for name, _, shares in bank.points:
            record = {**settings, **_file_of(name, pitch),
                      "seconds": samples // 512 * 512 / tasks.SAMPLE_RATE,
                      **_mixed(corners, notes, shares, pitch, settings["weights"]["digest"])}
            bank.files[name, pitch] = made.setdefault(record["identity"], record["file"])
            if bank.files[name, pitch] == record["file"]:
                bank.clips.append(record)
    return bank


def _file_of(name: str, pitch: int) -> dict:
    return {"file": f"clips/{name}_p{pitch:03d}.wav", "pitch": pitch}


def _mixed(corners: Sequence[Corner], notes: Sequence[str], shares: Sequence[float], pitch: int,
           weights: str) -> dict:
    """Return the sources and the identity of a mix."""
    sources: dict[str, dict] = {}
    for corner, digest, share in zip(corners, notes, shares):
        if share:  # a sound of two corners counts once
            sources[digest] = {
                "name": corner.name, "sound": corner.file(pitch).name, "digest": digest,
                "share": sources.get(digest, {}).get("share", 0) + share,
                "encoding": f"encodings/{digest}_{weights[:12]}.npy"}
    ordered = [sources[digest] for digest in sorted(sources)]
    return {"sources": ordered, "identity": " ".join([weights, *(
        f"{source['digest']}:{source['share']:.9f}" for source in ordered), f"p{pitch}"])}


def plan_gansynth(instruments: Sequence[int], pitches: Sequence[int], known: range,
                  settings: dict) -> Bank:
    """Plan a bank of whole notes, with every instrument at every pitch."""
    unknown = [pitch for pitch in pitches if pitch not in known]
    if unknown:
        raise InputError(f"The model plays MIDI pitches {known[0]} to {known[-1]}, not "
                         f"{unknown[0]}: choose --pitches in this range.")
    bank = Bank([(f"instrument{number:03d}", f"instrument {number}", ())
                 for number in instruments], list(pitches))
    for number, (name, *_) in zip(instruments, bank.points):
        for pitch in pitches:
            record = {**settings, **_file_of(name, pitch), "instrument": number, "sources": [],
                      "identity": f"{settings['weights']['digest']} instrument {number} p{pitch}"}
            bank.files[name, pitch] = record["file"]
            bank.clips.append(record)
    return bank


def parse_instruments(text: str) -> list[int]:
    """Parse a list of instrument numbers: "3,7" or "1-8".

    >>> parse_instruments("3,7,1-2")
    [3, 7, 1, 2]
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high:
            raise InputError("Instruments must be numbers (1 or higher) or ranges, such as 3,7 or "
                             f"1-8, not {text!r}.")
        numbers.extend(number for number in range(low, high + 1) if number not in numbers)
    return numbers


def batches(clips: Sequence[dict], common: dict) -> list[dict]:
    """Split clips into tasks of about a dozen clips."""
    count = math.ceil(len(clips) / tasks.CLIPS)
    found = []
    for place in range(count):
        part = clips[len(clips) * place // count:len(clips) * (place + 1) // count]
        name = manifest.digest(" ".join(clip["recipe"] for clip in part).encode())[:20]
        found.append({**common, "name": name, "clips": list(part)})
    return found
