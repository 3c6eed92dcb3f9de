"""From a MIDI score to one clip: notes, instruments along time, latent vectors, the final mix.

Stand-ins for Magenta's ``magenta.models.gansynth.lib.generate_util`` with the same names and, on
ordinary scores, the same numbers.  What differs is what goes wrong there: pieces too short for two
instruments, one timbre held for a whole piece, notes past the last instrument, tracks that are not
listed in the order in which they end, silent notes.  Each difference is described where it stands.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path

import numpy as np

from synths import InputError
from synths.files import shortened, writing
from synths.gansynth import midi
from synths.gansynth.model import NoteAudio

MIN_PITCH = 24  # the pitches GANSynth was trained on: C1 ...
MAX_PITCH = 84  # ... to C6
MAX_NOTE_LENGTH = 3.0  # seconds a note is held at most, in Magenta
WHOLE_NOTE_LENGTH = 3.7  # the same, if all of the model's 4 seconds are to be heard
RELEASE = 0.3  # seconds of fade-out after a note is let go
ATTACK = 0.010  # seconds of fade-in
MAX_VELOCITY = 127.0
_BLOCK = 1 << 20  # samples converted at a time
_MOST_BYTES = 1 << 26  # of a file of instruments, unpacked: thirty thousand of them

_BEFORE_START = -0.0001  # Magenta's time of the first instrument: just before the first note


def load_midi(midi_path: str | Path, min_pitch: int = MIN_PITCH, max_pitch: int = MAX_PITCH,
              pedal: bool = True) -> dict:
    """Read the notes of a MIDI file, in seconds.

    Order and values are those of Magenta's ``generate_util.load_midi`` on files without pedals,
    drums or damage.  `synths.gansynth.midi` says how it reads the others.  Unlike in Magenta, the
    lowest octave that GANSynth knows (24 to 35) is kept.

    Parameters
    ----------
    midi_path : str or Path
        A standard MIDI file.
    min_pitch, max_pitch : int
        MIDI pitches to keep, both included.
    pedal : bool
        Whether pedals hold notes, which Magenta ignores.

    Returns
    -------
    dict
        ``pitches`` (int), ``velocities`` (int, 1 to 127), ``start_times`` and ``end_times``
        (float64, seconds): arrays with one entry per note; and ``report``, a `midi.Report` of
        what was left out or changed.

    Raises
    ------
    InputError
        If the file is not MIDI, or no note is left.
    OSError
        If it cannot be read.
    """
    sequence, report = midi.read_notes(midi_path, pedal)
    notes = [note for note in sequence.notes if not note.is_drum]
    kept = [note for note in notes if min_pitch <= note.pitch <= max_pitch]
    report.counts["drums"] = len(sequence.notes) - len(notes)
    report.counts["range"] = len(notes) - len(kept)
    if not kept:
        raise InputError(
            f"A score needs notes from {min_pitch} to {max_pitch} (MIDI pitches, drums aside), and"
            f" {shortened(midi_path)} has none ({str(report) or 'no notes at all'}): choose"
            " another MIDI file, or transpose this one.")
    return {"pitches": np.array([note.pitch for note in kept]),
            "velocities": np.array([note.velocity for note in kept]),
            "start_times": np.array([note.start_time for note in kept]),
            "end_times": np.array([note.end_time for note in kept]), "report": report}


def tempo_scale(notes: dict, factor: float) -> dict:
    """Play the notes faster (``factor`` over 1) or slower (under 1).

    Parameters
    ----------
    notes : dict
        As `load_midi` returns it; it is left unchanged.
    factor : float
        2.0 halves every time, 0.5 doubles it.

    Returns
    -------
    dict
        The notes with scaled ``start_times`` and ``end_times``.

    Raises
    ------
    InputError
        If the factor is not a positive finite number.
    """
    if not (np.isfinite(factor) and factor > 0):
        raise InputError(f"The tempo factor must be over 0 (1 keeps the tempo), not {factor}.")
    return {**notes, "start_times": np.asarray(notes["start_times"]) / factor,
            "end_times": np.asarray(notes["end_times"]) / factor}


def slerp(p0: np.ndarray, p1: np.ndarray, t: float) -> np.ndarray:
    """Interpolate along the great circle from `p0` (t = 0) to `p1` (t = 1).

    Magenta's ``generate_util.slerp``, which is 0/0 for vectors of the same or of opposite
    direction.  Here the first are interpolated in a straight line, and the second turn through
    a fixed direction at right angles to `p0`.

    Parameters
    ----------
    p0, p1 : ndarray [d]
        Latent vectors, of any length.
    t : float
        Position from 0 to 1.

    Returns
    -------
    ndarray [d]
    """
    p0, p1 = np.asarray(p0, np.float64), np.asarray(p1, np.float64)
    norm0, norm1 = np.linalg.norm(p0), np.linalg.norm(p1)
    straight = p0 + t * (p1 - p0)  # exactly p0 where they are equal
    if norm0 == 0.0 or norm1 == 0.0:
        return straight
    omega = np.arccos(np.clip(np.dot(p0 / norm0, p1 / norm1), -1.0, 1.0))
    if omega < 1e-6:
        return straight
    if np.pi - omega < 1e-6:
        if p0.size < 2:
            return straight
        aside = np.zeros_like(p0)
        aside[np.argmin(np.abs(p0))] = 1.0
        aside -= p0 * (aside @ p0) / norm0**2
        aside /= np.linalg.norm(aside)
        length = (1.0 - t) * norm0 + t * norm1
        return length * (np.cos(np.pi * t) * p0 / norm0 + np.sin(np.pi * t) * aside)
    return (np.sin((1.0 - t) * omega) * p0 + np.sin(t * omega) * p1) / np.sin(omega)


def get_random_instruments(model, total_time: float, secs_per_instrument: float = 2.0,
                           rng: np.random.Generator | None = None
                           ) -> tuple[np.ndarray, np.ndarray]:
    """Draw random instruments, evenly spaced in time.

    Magenta's ``generate_util.get_random_instruments``, except that a piece has at least two
    instruments (its beginning and its end), so that short pieces work.

    Parameters
    ----------
    model
        Anything with ``generate_z(n, rng)``, such as `synths.gansynth.Model`.
    total_time : float
        Seconds from the start to the end of the last note to end.
    secs_per_instrument : float
        Seconds from one instrument to the next, about.
    rng : numpy.random.Generator, optional
        Source of the random numbers; None leaves it to the model.

    Returns
    -------
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]
        Seconds, from just before 0 to `total_time`.

    Raises
    ------
    InputError
        If a time is not a positive finite number.
    """
    if not (np.isfinite(secs_per_instrument) and secs_per_instrument > 0):
        raise InputError("The seconds per instrument must be a number over 0, not"
                         f" {secs_per_instrument}.")
    if not (np.isfinite(total_time) and total_time > 0):
        raise InputError(f"A piece must be longer than 0 seconds, not {total_time}.")
    times = instrument_times(total_time, secs_per_instrument)
    count = len(times)
    z_instruments = model.generate_z(count) if rng is None else model.generate_z(count, rng)
    return z_instruments, times


def instrument_times(total_time: float, secs_per_instrument: float) -> np.ndarray:
    """Seconds at which random instruments are reached, from just before 0 to `total_time`; [k]."""
    return np.linspace(_BEFORE_START, total_time, max(2, int(total_time / secs_per_instrument)))


def place_instruments(z: np.ndarray, times: Sequence[float | None] | np.ndarray | None,
                      total_time: float) -> tuple[np.ndarray, np.ndarray]:
    """Place chosen instruments at chosen times.

    Between two instruments the timbre moves from one to the other; before the first and after the
    last it stays.  One instrument alone is held for the whole piece; the same instrument at two
    times is held between them.

    Parameters
    ----------
    z : ndarray [k, d] or [d]
        The instruments, in playing order.
    times : sequence of k floats or None, or None
        Seconds, not decreasing.  Where a time is None the instrument is spaced evenly between its
        timed neighbours; the first then starts the piece and the last ends it.
    total_time : float
        Seconds from the start to the end of the last note to end.

    Returns
    -------
    z_instruments : ndarray [max(2, k), d]
    t_instruments : ndarray [max(2, k)]
        For `get_z_notes`.

    Raises
    ------
    InputError
        If there is no instrument, or the times do not fit the instruments or do not ascend.
    """
    z = np.atleast_2d(np.asarray(z, np.float64))
    if z.ndim != 2 or z.shape[0] == 0 or not np.isfinite(z).all():
        raise InputError("Instruments must be one or more rows of finite numbers, not an array of"
                         f" shape {list(z.shape)}.")
    count = len(z)
    placed: list[float | None] = [None] * count if times is None else list(times)
    if len(placed) != count:
        raise InputError(f"Each instrument needs one time: {count} instruments came with"
                         f" {len(placed)} times.")
    if placed[0] is None:
        placed[0] = _BEFORE_START
    if placed[-1] is None:
        placed[-1] = max(float(total_time), max(t for t in placed if t is not None))
    known = {i: t for i, t in enumerate(placed) if t is not None}
    t_instruments = np.interp(np.arange(count), list(known), list(known.values()))
    if not np.isfinite(t_instruments).all() or (np.diff(t_instruments) < 0).any():
        raise InputError("The times of the instruments must ascend, in seconds, not be"
                         f" {', '.join(f'{t:g}' for t in t_instruments)}.")
    if count == 1:
        return np.repeat(z, 2, axis=0), np.array(
            [t_instruments[0], max(float(total_time), t_instruments[0])])
    return z, t_instruments


def get_z_notes(start_times: np.ndarray, z_instruments: np.ndarray, t_instruments: np.ndarray
                ) -> np.ndarray:
    """Interpolate the instruments' latent vectors at the start of each note.

    Magenta's ``generate_util.get_z_notes``, without its extrapolation: a note before the first
    instrument or after the last takes that instrument.

    Parameters
    ----------
    start_times : ndarray [n]
        Seconds.
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]
        Seconds, not decreasing.

    Returns
    -------
    ndarray [n, d]
        float64.

    Raises
    ------
    InputError
        If instruments and times do not fit each other.
    """
    z_instruments = np.asarray(z_instruments, np.float64)
    t_instruments = np.asarray(t_instruments, np.float64)
    if z_instruments.ndim != 2 or t_instruments.shape != z_instruments.shape[:1] or not len(
            t_instruments):
        raise InputError("Each instrument needs one time: instruments of shape"
                         f" {list(z_instruments.shape)} came with times of shape"
                         f" {list(t_instruments.shape)}.")
    last = len(t_instruments) - 1
    z_notes = np.empty((len(start_times), z_instruments.shape[1]))
    for row, time in zip(z_notes, start_times):
        left = int(np.searchsorted(t_instruments, time, side="left")) - 1
        if left < 0:
            row[:] = z_instruments[0]
        elif left >= last:
            row[:] = z_instruments[last]
        else:
            # `left` is the last time before the note's, so the span cannot be zero.
            span = t_instruments[left + 1] - t_instruments[left]
            row[:] = slerp(z_instruments[left], z_instruments[left + 1],
                           (time - t_instruments[left]) / span)
    return z_notes


def note_samples(note_length: float, sr: int = 16000,
                 max_note_length: float = MAX_NOTE_LENGTH) -> int:
    """Samples heard of a note: held for at most `max_note_length` seconds, then the release."""
    return int(sr * min(max(note_length, 0.0), max_note_length)) + int(sr * RELEASE)


def get_envelope(note_length: float, sr: int = 16000,
                 max_note_length: float = MAX_NOTE_LENGTH) -> np.ndarray:
    """Amplitude envelope of a note: attack, sustain, release.

    Magenta's ``generate_util.get_envelope``; in notes shorter than the attack, where the release
    there overwrites the attack and the note starts with a click, here the two are multiplied.

    Parameters
    ----------
    note_length : float
        Seconds the note is held; more than `max_note_length` counts as that.
    sr : int
        Sample rate in Hz.
    max_note_length : float
        Seconds; Magenta's 3, or up to `WHOLE_NOTE_LENGTH`.

    Returns
    -------
    ndarray [`note_samples`]
        float64, 0 to 1.
    """
    length = note_samples(note_length, sr, max_note_length)
    release = int(sr * RELEASE)
    attack = min(int(sr * ATTACK), length)
    envelope = np.ones(length)
    envelope[-release:] = np.linspace(1.0, 0.0, release)
    envelope[:attack] *= np.linspace(0.0, 1.0, attack)
    return envelope


def combine_notes(audio_notes: np.ndarray | Iterable[np.ndarray], start_times: np.ndarray,
                  end_times: np.ndarray, velocities: np.ndarray, sr: int = 16000,
                  max_note_length: float = WHOLE_NOTE_LENGTH) -> np.ndarray:
    """Mix the notes' audio into one clip.

    Magenta's ``generate_util.combine_notes``: each note is shaped by `get_envelope`, brought to
    the level of its velocity and added at its time; the clip ends up with its highest sample at
    0.5.  Its length is Magenta's too: the latest end plus 3 s, in whole seconds.

    Levels are set by the highest sample, as there.  Only where that would make the lowest sample
    louder than twice the level, the lowest counts (so the clip stays within -1 to 1); a silent
    note stays silent, where Magenta divides by zero.

    Parameters
    ----------
    audio_notes : ndarray [n, samples] or iterable of n arrays [samples]
        The notes' audio; each may be cut to what is heard of it (see `note_samples`).
    start_times, end_times : ndarray [n]
        Seconds.
    velocities : ndarray [n]
        0 to 127.
    sr : int
        Sample rate in Hz.
    max_note_length : float
        Seconds that a note is held at most.  Magenta's 3 leave the last 0.7 s of the model's notes
        unused.

    Returns
    -------
    ndarray [samples]
        float32.  (Magenta's is float64.)

    Raises
    ------
    InputError
        If there is no note, the arrays do not fit each other, or a time is not finite or negative.
    """
    starts, ends = np.asarray(start_times, np.float64), np.asarray(end_times, np.float64)
    velocities = np.asarray(velocities)
    count = len(audio_notes) if isinstance(audio_notes, Sized) else len(starts)
    if not count == len(starts) == len(ends) == len(velocities):
        raise InputError(
            f"Every note needs audio, a start, an end and a velocity: got {count},"
            f" {len(starts)}, {len(ends)} and {len(velocities)} of them.")
    if not len(starts):
        raise InputError("A clip needs at least one note.")
    if not (np.isfinite(starts).all() and np.isfinite(ends).all() and (starts >= 0).all()):
        raise InputError("The times of the notes must be finite, and no note can start before 0 s.")
    # A note that ends before it starts still sounds for its release.
    latest = np.maximum(starts, ends).max()
    clip = np.zeros(int(latest + MAX_NOTE_LENGTH) * sr)
    if isinstance(audio_notes, NoteAudio):  # they are generated now, each as far as it is audible
        audio_notes = audio_notes.cut([note_samples(seconds, sr, max_note_length)
                                       for seconds in ends - starts])
    for audio, start, end, velocity in zip(audio_notes, starts, ends, velocities):
        envelope = get_envelope(end - start, sr, max_note_length)
        length = min(len(envelope), len(audio))
        note = audio[:length] * envelope[:length]
        level = _level(note)
        if level == 0.0:
            continue
        begin = int(start * sr)
        clip[begin:begin + length] += note * (velocity / MAX_VELOCITY / level)
    level = _level(clip)
    if level > 0.0:
        clip /= 2.0 * level
    return _as_float32(clip)


def _as_float32(clip: np.ndarray) -> np.ndarray:
    """The clip as float32 in its own memory: beside it there may be no room for an hour's."""
    count = len(clip)
    halves = clip.view(np.float32)
    for first in range(0, count, _BLOCK):   # never writes where it has still to read
        block = clip[first:first + _BLOCK].astype(np.float32)
        halves[first:first + len(block)] = block
    del halves
    clip.resize((count + 1) // 2, refcheck=False)
    return clip.view(np.float32)[:count]


def _level(audio: np.ndarray) -> float:
    """The highest sample, or half the lowest where that is further from zero."""
    return max(float(audio.max(initial=0.0)), -0.5 * float(audio.min(initial=0.0)))


def save_instruments(path: str | Path, z_instruments: np.ndarray,
                     t_instruments: np.ndarray | None = None) -> None:
    """Save instruments, so that they can be played again.

    Parameters
    ----------
    path : str or Path
        ``.npz`` keeps the times as well; ``.npy`` keeps the latent vectors alone.
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k], optional
        Seconds.

    Raises
    ------
    InputError
        If the name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    z_instruments = np.atleast_2d(np.asarray(z_instruments))
    times = {} if t_instruments is None else {"t": np.asarray(t_instruments, np.float64)}
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise InputError(f"Instruments are saved as .npz or .npy, not as {path.name}.")
    with writing(path) as file:
        if suffix == ".npz":
            np.savez(file, allow_pickle=False, z=z_instruments, **times)
        else:
            np.save(file, z_instruments, allow_pickle=False)


def load_instruments(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Load instruments saved by `save_instruments`, or any ``.npy`` of latent vectors.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k] or None
        Seconds, if they were saved.

    Raises
    ------
    InputError
        If there is no such file or it does not hold instruments.
    """
    path = Path(path)
    rule = f"Instruments are rows of latent vectors in a .npz or .npy file; {shortened(path)}"
    if not path.is_file():
        raise InputError(f"{rule} is not there.")
    try:
        if _size_unpacked(path) > _MOST_BYTES:
            raise InputError(f"{rule} holds over {_MOST_BYTES >> 20} MB, more than any should.")
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            times = None
            if isinstance(loaded, np.lib.npyio.NpzFile):
                z, times = loaded["z"], loaded["t"] if "t" in loaded.files else None
            else:
                z = loaded
    except InputError:
        raise
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{rule} cannot be read ({shortened(error)}).") from error
    except Exception as error:  # zipfile and zlib have errors of their own
        raise InputError(f"{rule} is damaged ({shortened(error)}).") from error
    z = np.atleast_2d(z)
    if z.ndim != 2 or not z.size or z.dtype.kind not in "fiu" or not np.isfinite(z).all():
        raise InputError(f"{rule} holds {shortened(z.dtype)} of shape {shortened(list(z.shape))}.")
    if times is not None and (times.shape != z.shape[:1] or times.dtype.kind not in "fiu"):
        raise InputError(f"{rule} has {len(z)} instruments and times of shape "
                         f"{shortened(list(times.shape))}.")
    return z.astype(np.float64), None if times is None else times.astype(np.float64)


def _size_unpacked(path: Path) -> int:
    """Bytes that reading a file takes, known before they are asked for."""
    if not zipfile.is_zipfile(path):
        return path.stat().st_size
    with zipfile.ZipFile(path) as zipped:
        return sum(member.file_size for member in zipped.infolist())


def choose_instruments(model, chosen: str, total_time: float, rng: np.random.Generator
                       ) -> tuple[np.ndarray, np.ndarray]:
    """Instruments as a user names them, placed in time.

    Parameters
    ----------
    model
        Anything with ``generate_z(n, rng)``.
    chosen : str
        Numbers of the generator's instruments, counted from 1 in the order in which
        `get_random_instruments` draws them, each with its time in seconds if wanted:
        "3,7,1@8.0"; or the name of a file from `save_instruments`, whose times are kept.
    total_time : float
        Seconds from the start to the end of the last note to end.
    rng : numpy.random.Generator
        Freshly seeded.

    Returns
    -------
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]

    Raises
    ------
    InputError
        If `chosen` is neither, or the times do not ascend.
    """
    if Path(chosen).suffix.lower() in (".npz", ".npy"):
        z, saved_times = load_instruments(chosen)
        width = model.generate_z(1).shape[1]
        if z.shape[1] != width:
            raise InputError(f"This model's instruments are {width} numbers each, and those in "
                             f"{chosen} are {z.shape[1]}: use the checkpoint they were made with.")
        return place_instruments(z, saved_times, total_time)
    numbers: list[int] = []
    times: list[float | None] = []
    for word in chosen.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:@\s*(\d+(?:\.\d*)?|\.\d+)\s*)?", word)
        if not match or int(match[1]) < 1:
            where = f" in {chosen!r}" if "," in chosen else ""
            raise InputError("Instruments are numbers from 1, with a time in seconds if wanted "
                             f"(3,7,1@8.0), or a .npz file; found {word.strip()!r}{where}.")
        numbers.append(int(match[1]))
        times.append(None if match[2] is None else float(match[2]))
    z = np.asarray(model.generate_z(max(numbers), rng))[np.array(numbers) - 1]
    return place_instruments(z, times, total_time)


def preview_phrase() -> dict:
    """A short phrase to know an instrument by: two octaves of a chord, low to high, the last held.

    Returns
    -------
    dict
        Notes as from `load_midi`; 4 seconds.
    """
    pitches = np.array([48, 55, 60, 64, 67, 72])
    starts = 0.4 * np.arange(len(pitches))
    ends = np.append(starts[1:], 4.0)
    return {"pitches": pitches, "velocities": np.full(len(pitches), 100),
            "start_times": starts, "end_times": ends}


def summary(notes: dict) -> str:
    """Return a line about the notes: "210 notes, 28.0 s; pedal held 31 notes longer"."""
    count = len(notes["pitches"])
    words = f"{count:,} note{'' if count == 1 else 's'}, {max(notes['end_times']):.1f} s"
    return "; ".join(filter(None, [words, str(notes.get("report", ""))]))
