"""From a MIDI score to one clip: notes, instruments along time, latent vectors, the final mix.

The functions have the names and arguments of ``magenta.models.gansynth.lib.generate_util`` and, on
ordinary scores, its numbers.  They differ where that code fails: in pieces too short for two
instruments, where one timbre is held, after the last instrument, where the last note to end is not
the last one listed, and with silent notes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from synths import InputError
from synths.files import shortened
from synths.gansynth import midi
from synths.gansynth.model import NoteAudio

MIN_PITCH, MAX_PITCH = 24, 84  # GANSynth was trained on C1 to C6
MAX_NOTE_LENGTH = 3.0  # seconds that Magenta holds a note at most
WHOLE_NOTE_LENGTH = 3.7  # seconds that a note can be held before its release reaches the 4 seconds
RELEASE = 0.3  # seconds of fade-out after a note is let go
ATTACK = 0.010  # seconds of fade-in
MAX_VELOCITY = 127.0
_BEFORE_START = -0.0001  # Magenta's time of the first instrument: just before the first note

# Seconds of a note between which `lengthen` starts a second take, where it crossfades into it,
# and for how long.  The notes of NSynth, from which the model learned, are let go after 3 s.
_LOOP_START = (0.5, 1.75)
_LOOP_END = 2.75
_CROSSFADE = 0.15


def load_midi(midi_path: str | Path, min_pitch: int = MIN_PITCH, max_pitch: int = MAX_PITCH,
              pedal: bool = True) -> dict:
    """Read the notes of a MIDI file, in seconds.

    Order and values are those of Magenta's ``generate_util.load_midi`` on files without pedals,
    drums or damage; `synths.gansynth.midi` tells how it reads the others.  Unlike in Magenta, the
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
            f"{shortened(midi_path)} has no playable notes, MIDI pitches {min_pitch} to"
            f" {max_pitch} except drums ({str(report) or 'no notes at all'}): choose"
            " another MIDI file, or transpose this one.")
    return {"pitches": np.array([note.pitch for note in kept]),
            "velocities": np.array([note.velocity for note in kept]),
            "start_times": np.array([note.start_time for note in kept]),
            "end_times": np.array([note.end_time for note in kept]), "report": report}


def summary(notes: dict) -> str:
    """Return a line about the notes: "210 notes, 28.0 s; pedal held 31 notes longer"."""
    count = len(notes["pitches"])
    words = f"{count:,} note{'' if count == 1 else 's'}, {max(notes['end_times']):.1f} s"
    return "; ".join(filter(None, [words, str(notes.get("report", ""))]))


def tempo_scale(notes: dict, factor: float) -> dict:
    """Return the notes played faster (a `factor` over 1) or slower (under 1)."""
    return {**notes, "start_times": np.asarray(notes["start_times"]) / factor,
            "end_times": np.asarray(notes["end_times"]) / factor}


# Instruments -----------------------------------------------------------------------------------


def slerp(p0: np.ndarray, p1: np.ndarray, t: float) -> np.ndarray:
    """Interpolate along the great circle from `p0` (t = 0) to `p1` (t = 1).

    Magenta's ``generate_util.slerp``, which is 0/0 for vectors of the same direction.  Here those
    are interpolated in a straight line.

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
    lengths = np.linalg.norm(p0) * np.linalg.norm(p1)
    omega = np.arccos(np.clip(np.dot(p0, p1) / (lengths or 1.0), -1.0, 1.0))
    if np.sin(omega) < 1e-6:
        return p0 + t * (p1 - p0)  # exactly p0 where they are equal
    return (np.sin((1.0 - t) * omega) * p0 + np.sin(t * omega) * p1) / np.sin(omega)


def get_random_instruments(model, total_time: float, secs_per_instrument: float = 2.0,
                           rng: np.random.Generator | None = None
                           ) -> tuple[np.ndarray, np.ndarray]:
    """Draw random instruments, evenly spaced in time.

    Magenta's ``generate_util.get_random_instruments``, except that a piece has at least two
    instruments (at its start and its end), so that short pieces work.

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
    """
    times = instrument_times(total_time, secs_per_instrument)
    words = (len(times),) if rng is None else (len(times), rng)
    return model.generate_z(*words), times


def instrument_times(total_time: float, secs_per_instrument: float) -> np.ndarray:
    """Return when random instruments are reached, from just before 0 to `total_time`; [k]."""
    return np.linspace(_BEFORE_START, total_time, max(2, int(total_time / secs_per_instrument)))


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
    float64 ndarray [n, d]
    """
    z_instruments = np.asarray(z_instruments, np.float64)
    last = len(t_instruments) - 1
    z_notes = []
    for time in start_times:
        left = int(np.searchsorted(t_instruments, time, side="left")) - 1
        if left < 0 or left >= last:
            z_notes.append(z_instruments[max(0, min(left, last))])
            continue
        # `left` is the last time before the note's, so the span cannot be zero.
        span = t_instruments[left + 1] - t_instruments[left]
        z_notes.append(slerp(z_instruments[left], z_instruments[left + 1],
                             (time - t_instruments[left]) / span))
    return np.array(z_notes)


# The mix ---------------------------------------------------------------------------------------


def note_samples(note_length: float, sr: int = 16000) -> int:
    """Return the samples of a note that is held for `note_length` seconds, then released."""
    return int(sr * max(note_length, 0.0)) + int(sr * RELEASE)


def get_envelope(note_length: float, sr: int = 16000) -> np.ndarray:
    """Return the amplitude envelope of a note: attack, sustain, release.

    Magenta's ``generate_util.get_envelope``.  In notes shorter than the attack, where the release
    there overwrites the attack and the note starts with a click, the two are multiplied.

    Parameters
    ----------
    note_length : float
        Seconds that the note is held.
    sr : int
        Sample rate in Hz.

    Returns
    -------
    float64 ndarray [`note_samples`]
    """
    length = note_samples(note_length, sr)
    release, attack = int(sr * RELEASE), min(int(sr * ATTACK), length)
    envelope = np.ones(length)
    envelope[-release:] = np.linspace(1.0, 0.0, release)
    envelope[:attack] *= np.linspace(0.0, 1.0, attack)
    return envelope


def lengthen(audio: np.ndarray, samples: int, sr: int = 16000) -> np.ndarray:
    """Make a note last longer: crossfade into a second take of it, from after the attack.

    The second take starts where its waveform is most like the first one's at the joint, and at
    the same level.  A note that decays goes on decaying.  Further takes follow in the same way.

    Parameters
    ----------
    audio : ndarray [n]
        A note of at least 3 seconds, such as the model's 4.
    samples : int
        Samples that it shall last.
    sr : int
        Sample rate in Hz.

    Returns
    -------
    float64 ndarray [samples]
        The first 2.75 seconds are those of `audio`.
    """
    end, cross = int(sr * _LOOP_END), int(sr * _CROSSFADE)
    earliest, latest = (int(sr * seconds) for seconds in _LOOP_START)
    audio = np.asarray(audio, np.float64)
    first, candidates = audio[end:end + cross], audio[earliest:latest + cross]
    # Level and likeness of each candidate; a rise in level would add up from take to take.
    power = np.convolve(candidates**2, np.ones(cross), "valid") + 1e-12
    level = np.sqrt((first @ first + 1e-12) / power)
    likeness = np.correlate(candidates, first, "valid") / (level * power)
    best = int(np.argmax(likeness - np.maximum(0.0, np.log10(level))))
    gain, alike = min(1.0, level[best]), np.clip(likeness[best], 0.0, 1.0)
    second = gain * audio[earliest + best:end]
    fade = np.linspace(0.0, 1.0, cross)
    joint = (1.0 - fade) * first + fade * second[:cross]
    joint /= np.sqrt((1.0 - fade)**2 + fade**2 + 2.0 * alike * fade * (1.0 - fade))
    take = np.concatenate([joint, second[cross:]])
    takes = [take * gain**number for number in range(-(-(samples - end) // len(take)))]
    return np.concatenate([audio[:end], *takes])[:samples]


def combine_notes(audio_notes: np.ndarray | Iterable[np.ndarray], start_times: np.ndarray,
                  end_times: np.ndarray, velocities: np.ndarray, sr: int = 16000,
                  max_note_length: float | None = None) -> np.ndarray:
    """Mix the notes' audio into one clip.

    Magenta's ``generate_util.combine_notes``: each note is shaped by `get_envelope`, brought to
    the level of its velocity and added at its time; the clip's highest sample comes to 0.5.  Its
    length is Magenta's too: the latest end plus 3 s, in whole seconds.

    Levels are set by the highest sample.  Only where that would make the lowest sample louder
    than twice the level, the lowest counts, so that the clip stays within -1 to 1.  A silent note
    stays silent, where Magenta divides by zero.

    Parameters
    ----------
    audio_notes : NoteAudio, ndarray [n, samples] or iterable of n arrays [samples]
        The notes' audio.
    start_times, end_times : ndarray [n]
        Seconds.
    velocities : ndarray [n]
        0 to 127.
    sr : int
        Sample rate in Hz.
    max_note_length : float, optional
        Seconds that a note is held at most, such as Magenta's 3.  None: as long as it is held;
        `lengthen` makes the notes that are held for longer than the model's 4 seconds.

    Returns
    -------
    float32 ndarray [samples]
        Magenta's is float64.
    """
    starts, ends = np.asarray(start_times, np.float64), np.asarray(end_times, np.float64)
    held = ends - starts
    longest = WHOLE_NOTE_LENGTH if max_note_length is None else max_note_length
    longer = (held > WHOLE_NOTE_LENGTH + RELEASE) & (max_note_length is None)
    held[~longer] = np.minimum(held[~longer], longest)
    if isinstance(audio_notes, NoteAudio):  # they are generated now, each as far as it sounds
        audio_notes = audio_notes.cut([note_samples(seconds, sr) for seconds in held])
    # A note that ends before it starts still sounds for its release.
    clip = np.zeros(int(np.maximum(starts, ends).max() + MAX_NOTE_LENGTH) * sr)
    for audio, start, seconds, velocity in zip(audio_notes, starts, held, velocities):
        envelope = get_envelope(seconds, sr)
        if seconds > longest and len(audio) >= MAX_NOTE_LENGTH * sr:
            audio = lengthen(audio, len(envelope), sr)
        length = min(len(envelope), len(audio))
        note = audio[:length] * envelope[:length]
        level = _level(note)
        if level > 0.0:
            begin = int(start * sr)
            clip[begin:begin + length] += note * (velocity / MAX_VELOCITY / level)
    clip /= 2.0 * _level(clip) or 1.0
    return clip.astype(np.float32)


def _level(audio: np.ndarray) -> float:
    """Return the highest sample, or half the lowest where that is further from zero."""
    return max(float(audio.max(initial=0.0)), -0.5 * float(audio.min(initial=0.0)))
