"""Turn a MIDI score into one clip: notes, instruments over time, latent vectors and the final mix.

The functions have the names and arguments of ``magenta.models.gansynth.lib.generate_util``.  On
ordinary scores they also return the same numbers.  They differ where Magenta's code fails:

* in pieces too short for two instruments,
* between two equal instruments,
* after the last instrument,
* if the last note to end is not the last one listed,
* with silent notes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from synths import InputError
from synths.gansynth import midi
from synths.gansynth.model import NoteAudio

MIN_PITCH, MAX_PITCH = 24, 84  # GANSynth was trained on C1 to C6
MAX_NOTE_LENGTH = 3.0  # seconds; Magenta cuts longer notes
WHOLE_NOTE_LENGTH = 3.7  # seconds; with its release, a note of this length lasts 4 seconds
RELEASE = 0.3  # seconds of fade-out after a note is released
ATTACK = 0.010  # seconds of fade-in
MAX_VELOCITY = 127.0
_BEFORE_START = -0.0001  # Magenta's time for the first instrument: just before the first note

# Settings of `lengthen`, in seconds: the range in which a copy may start, the start of the
# crossfade, and its length.  The notes of the NSynth data set are released after 3 s.
_LOOP_START = (0.5, 1.75)
_LOOP_END = 2.75
_CROSSFADE = 0.15


def load_midi(midi_path: str | Path, min_pitch: int = MIN_PITCH, max_pitch: int = MAX_PITCH,
              pedal: bool = True) -> dict:
    """Read the notes of a MIDI file, in seconds.

    For undamaged files without pedals or drums, the result is the same as that of Magenta's
    ``generate_util.load_midi``.  `synths.gansynth.midi` describes how other files are read.
    Unlike Magenta, this function keeps GANSynth's lowest octave (24 to 35).

    Parameters
    ----------
    midi_path : str or Path
        A standard MIDI file.
    min_pitch, max_pitch : int
        Lowest and highest MIDI pitch to keep.
    pedal : bool
        Whether pedals sustain notes.  Magenta ignores pedals.

    Returns
    -------
    dict
        Arrays with one entry per note: ``pitches`` (int), ``velocities`` (int, 1 to 127),
        ``start_times`` and ``end_times`` (float64, seconds).  ``report`` is a `midi.Report` of
        the notes that were left out or changed.

    Raises
    ------
    InputError
        If the file is not a MIDI file, or no note is left.
    OSError
        If the file cannot be read.
    """
    sequence, report = midi.read_notes(midi_path, pedal)
    notes = [note for note in sequence.notes if not note.is_drum]
    kept = [note for note in notes if min_pitch <= note.pitch <= max_pitch]
    report.counts["drums"] = len(sequence.notes) - len(notes)
    report.counts["range"] = len(notes) - len(kept)
    if not kept:
        raise InputError(
            f"{midi_path} has no notes that GANSynth can play"
            f" ({str(report) or 'no notes at all'}): choose a file with notes of MIDI pitch"
            f" {min_pitch} to {max_pitch} that are not drums, or transpose this one.")
    return {"pitches": np.array([note.pitch for note in kept]),
            "velocities": np.array([note.velocity for note in kept]),
            "start_times": np.array([note.start_time for note in kept]),
            "end_times": np.array([note.end_time for note in kept]), "report": report}


def summary(notes: dict) -> str:
    """Describe the notes in one line: "210 notes, 28.0 s; pedal held 31 notes longer"."""
    count = len(notes["pitches"])
    words = f"{count:,} note{'' if count == 1 else 's'}, {max(notes['end_times']):.1f} s"
    return "; ".join(filter(None, [words, str(notes.get("report", ""))]))


def tempo_scale(notes: dict, factor: float) -> dict:
    """Return the notes at a faster (`factor` above 1) or slower (below 1) tempo."""
    return {**notes, "start_times": np.asarray(notes["start_times"]) / factor,
            "end_times": np.asarray(notes["end_times"]) / factor}


# Instruments -----------------------------------------------------------------------------------


def slerp(p0: np.ndarray, p1: np.ndarray, t: float) -> np.ndarray:
    """Interpolate along the great circle from `p0` (t = 0) to `p1` (t = 1).

    This is Magenta's ``generate_util.slerp``, except for vectors with the same direction.  Magenta
    then divides zero by zero, but this function interpolates linearly.
    """
    p0, p1 = np.asarray(p0, np.float64), np.asarray(p1, np.float64)
    lengths = np.linalg.norm(p0) * np.linalg.norm(p1)
    omega = np.arccos(np.clip(np.dot(p0, p1) / (lengths or 1.0), -1.0, 1.0))
    if np.sin(omega) < 1e-6:
        return p0 + t * (p1 - p0)  # exactly p0 if they are equal
    return (np.sin((1.0 - t) * omega) * p0 + np.sin(t * omega) * p1) / np.sin(omega)


def get_random_instruments(model, total_time: float, secs_per_instrument: float = 2.0,
                           rng: np.random.Generator | None = None
                           ) -> tuple[np.ndarray, np.ndarray]:
    """Draw random instruments, evenly spaced in time.

    This is Magenta's ``generate_util.get_random_instruments``, except that a piece has at least two
    instruments (at its start and its end), so that short pieces work.

    Parameters
    ----------
    model
        Object with a method ``generate_z(n, rng)``, such as `synths.gansynth.Model`.
    total_time : float
        Length of the piece in seconds, up to the end of its last note.
    secs_per_instrument : float
        One instrument is drawn for every `secs_per_instrument` seconds, but at least two.
    rng : numpy.random.Generator, optional
        Random number generator.  None: that of the model.

    Returns
    -------
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]
        Times in seconds, from just before 0 to `total_time`.
    """
    times = instrument_times(total_time, secs_per_instrument)
    words = (len(times),) if rng is None else (len(times), rng)
    return model.generate_z(*words), times


def instrument_times(total_time: float, secs_per_instrument: float) -> np.ndarray:
    """Return the times [k] of random instruments, from just before 0 to `total_time`."""
    return np.linspace(_BEFORE_START, total_time, max(2, int(total_time / secs_per_instrument)))


def get_z_notes(start_times: np.ndarray, z_instruments: np.ndarray, t_instruments: np.ndarray
                ) -> np.ndarray:
    """Interpolate the instruments' latent vectors at the start of each note.

    This is Magenta's ``generate_util.get_z_notes`` without its extrapolation.  A note before the
    first instrument or after the last one is played on that instrument.

    Parameters
    ----------
    start_times : ndarray [n]
        Start of each note in seconds.
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]
        Times of the instruments in seconds, not decreasing.

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
        # `left` is the last time before the note, so the span cannot be zero.
        span = t_instruments[left + 1] - t_instruments[left]
        z_notes.append(slerp(z_instruments[left], z_instruments[left + 1],
                             (time - t_instruments[left]) / span))
    return np.array(z_notes)


# The mix ---------------------------------------------------------------------------------------


def note_samples(note_length: float, sr: int = 16000) -> int:
    """Return the number of samples of a note held for `note_length` seconds, with its release."""
    return int(sr * max(note_length, 0.0)) + int(sr * RELEASE)


def get_envelope(note_length: float, sr: int = 16000) -> np.ndarray:
    """Return the amplitude envelope of a note: attack, sustain, release.

    This is Magenta's ``generate_util.get_envelope``, except for notes shorter than the attack.
    In such notes, Magenta overwrites the attack with the release, which causes a click.  This
    function multiplies the two.
    """
    length = note_samples(note_length, sr)
    release, attack = int(sr * RELEASE), min(int(sr * ATTACK), length)
    envelope = np.ones(length)
    envelope[-release:] = np.linspace(1.0, 0.0, release)
    envelope[:attack] *= np.linspace(0.0, 1.0, attack)
    return envelope


def lengthen(audio: np.ndarray, samples: int, sr: int = 16000) -> np.ndarray:
    """Lengthen a note by crossfading into a copy of it without the attack.

    The note must last at least 3 seconds.  The copy starts where its waveform best matches the end
    of the first part, at the same level.  A decaying note continues to decay.  More copies follow
    in the same way.  The first 2.75 seconds stay the same.
    """
    end, cross = int(sr * _LOOP_END), int(sr * _CROSSFADE)
    earliest, latest = (int(sr * seconds) for seconds in _LOOP_START)
    audio = np.asarray(audio, np.float64)
    first, candidates = audio[end:end + cross], audio[earliest:latest + cross]
    # Level and similarity of each candidate; a rise in level would accumulate from copy to copy.
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

    This is Magenta's ``generate_util.combine_notes``.  Each note is multiplied by `get_envelope`,
    scaled by its velocity and added at its start time.  The clip is scaled so that its highest
    sample is 0.5.  Its length is the latest end plus 3 s, rounded down to whole seconds.

    Levels are measured by the highest sample, or by half the lowest sample if that is larger in
    absolute value.  This keeps the clip within -1 to 1.  Silent notes stay silent, whereas
    Magenta divides by zero in this case.

    Parameters
    ----------
    audio_notes : NoteAudio, ndarray [n, samples] or iterable of n arrays [samples]
        Audio of the notes.
    start_times, end_times : ndarray [n]
        Start and end of each note in seconds.
    velocities : ndarray [n]
        MIDI velocities, 0 to 127.
    sr : int
        Sample rate in Hz.
    max_note_length : float, optional
        Maximum time in seconds for which a note is held; 3 in Magenta.  None: no limit.  `lengthen`
        then extends notes that are longer than the model's 4 seconds.

    Returns
    -------
    float32 ndarray [samples]
        The clip.  Magenta returns float64.
    """
    starts, ends = np.asarray(start_times, np.float64), np.asarray(end_times, np.float64)
    held = ends - starts
    longest = WHOLE_NOTE_LENGTH if max_note_length is None else max_note_length
    longer = (held > WHOLE_NOTE_LENGTH + RELEASE) & (max_note_length is None)
    held[~longer] = np.minimum(held[~longer], longest)
    if isinstance(audio_notes, NoteAudio):  # generate only the audible part of each note
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
    """Return the highest sample, or half the lowest (made positive) if that is larger."""
    return max(float(audio.max(initial=0.0)), -0.5 * float(audio.min(initial=0.0)))
