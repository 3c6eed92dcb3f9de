"""The GANSynth starter's data: what each instrument's harmonics do, at every pitch.

Twelve instruments of the FluidR3 General MIDI font are rendered at all 61 pitches of GANSynth
(24..84), and of each note only the tracks of its harmonics are kept: one level per harmonic and
row of the spectrogram, one byte each. From the tracks every target is drawn, mixtures of
instruments included, so the data file is a few megabytes and a mixture is one between timbres,
not two sounds at once.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from training.gansynth import spectra

PITCHES = np.arange(24, 85)
# Names and General MIDI programs (counted from 0); STRUCK are those that die away while held.
INSTRUMENTS = {
    "piano": 0, "electric piano": 4, "harpsichord": 6, "vibraphone": 11, "organ": 16,
    "nylon guitar": 24, "violin": 40, "choir": 52, "trumpet": 56, "horn": 60, "clarinet": 71,
    "flute": 73,
}
STRUCK = ("piano", "electric piano", "harpsichord", "vibraphone", "nylon guitar")
HOLD = 3.0          # seconds until the note is let go, as in the NSynth data set
RELEASE_ROW = 97    # first row whose window is centred past the release
HIGHEST = 7950.0    # Hz; harmonics above are left out
# Levels in dB of a bin's magnitude against a full-scale sine (magnitude 512 = FFT / 4).
LEVEL_FLOOR = -100.0
LEVEL_STEP = 0.4
LOG_FLOOR = -7.0    # natural logarithm of mel power: 85 dB under a full-scale sine
# One pair (instrument, pitch) in 24 pitches is never trained on: two per instrument.
HELD_OUT = tuple((k, 26 + 5 * j + (k % 5)) for k in range(12) for j in (k % 6, k % 6 + 6)
                 if 26 + 5 * j + (k % 5) <= 82)


def frequency(pitch) -> np.ndarray:
    """Return the fundamental in Hz of a MIDI pitch."""
    return 440.0 * 2.0 ** ((np.asarray(pitch, float) - 69.0) / 12.0)


def harmonics(pitch) -> int:
    """Return how many harmonics of a MIDI pitch are kept."""
    return int(HIGHEST / frequency(pitch))


@functools.cache
def _lobes(pitch: int) -> np.ndarray:
    """Return what each harmonic puts into each mel band, in power: ``[harmonics, 1024]``.

    A steady sine seen through the Hann window is a lobe of known shape; a note drawn with these
    lobes has clean valleys between its harmonics.
    """
    centres = frequency(pitch) * np.arange(1, harmonics(pitch) + 1) * (
        spectra.FFT / spectra.SAMPLE_RATE) - 1.0    # bin 0 of a spectrogram is frequency 1
    distance = np.abs(np.arange(spectra.BANDS)[None] - centres[:, None]) + 1e-9
    near_one = np.abs(distance - 1.0) < 1e-4
    lobe = np.abs(np.sinc(distance) / np.where(near_one, 1.0, 1.0 - distance ** 2))
    lobe = np.where(near_one, 0.5, lobe)
    lobe = np.where(distance < 3.6, lobe, 0.0)
    return (lobe ** 2) @ spectra.mel_matrix()


def lobes(pitch: int) -> np.ndarray:
    """Return mel power per harmonic ``[harmonics, 1024]`` for a bin magnitude of one."""
    return _lobes(int(pitch))


def tracks(audio: np.ndarray, pitch: int) -> np.ndarray:
    """Return the levels of a note's harmonics in dB, ``[harmonics, 128]``.

    Parameters
    ----------
    audio : array ``[64000]``
        The note, at 16 kHz.
    pitch : int
        Its MIDI pitch. A harmonic is the loudest bin near its place: within 2 % (stretched
        strings) and within 45 % of the fundamental (its neighbours).

    Returns
    -------
    array
        dB against the bin of a full-scale sine, never under ``LEVEL_FLOOR``.
    """
    magnitude = np.abs(spectra.stft(np.asarray(audio)[None])[0])
    spacing = float(frequency(pitch)) * spectra.FFT / spectra.SAMPLE_RATE
    levels = np.empty((harmonics(pitch), spectra.ROWS))
    for number in range(1, len(levels) + 1):
        place = spacing * number - 1.0
        reach = min(max(1.5, 0.02 * place), 0.45 * spacing)
        first = max(0, int(np.floor(place - reach)))
        last = min(spectra.BANDS - 1, int(np.ceil(place + reach)))
        levels[number - 1] = magnitude[:, first:last + 1].max(axis=1)
    return np.maximum(20.0 * np.log10(levels / (spectra.FFT / 4) + 1e-9), LEVEL_FLOOR)


def smooth_in_time(levels: np.ndarray, rows: float = 2.0) -> np.ndarray:
    """Take the flutter out of held and released parts, leaving attack and release sharp.

    ``levels`` is ``[harmonics, 128]`` in dB. Beats and vibrato faster than about a tenth of a
    second go; what is left is the shape of the note.
    """
    attack = 8
    result = levels.copy()
    result[:, attack:RELEASE_ROW] = gaussian_filter1d(
        levels[:, attack:RELEASE_ROW], rows, axis=1, mode="nearest")
    result[:, RELEASE_ROW + 2:] = gaussian_filter1d(
        levels[:, RELEASE_ROW + 2:], rows, axis=1, mode="nearest")
    return result


def smooth_over_pitches(notes: list[np.ndarray], semitones: float = 1.5, *,
                        without: set[int] = frozenset()) -> list[np.ndarray]:
    """Average each harmonic's levels over neighbouring pitches of one instrument.

    A sampled instrument jumps from one recording to the next every few semitones; the average
    leaves what they have in common. Notes whose index is in ``without`` are not used for any
    other note, so that what is held out stays unseen.
    """
    result = []
    for index, note in enumerate(notes):
        total, weight = np.zeros_like(note), np.zeros((len(note), 1))
        for other in range(max(0, index - 4), min(len(notes), index + 5)):
            if other in without and other != index:
                continue
            share = np.exp(-0.5 * ((other - index) / semitones) ** 2)
            count = min(len(note), len(notes[other]))
            total[:count] += share * notes[other][:count]
            weight[:count] += share
        result.append(total / weight)
    return result


def build(path: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Render every instrument at every pitch and write the tracks of the harmonics.

    Parameters
    ----------
    path : Path
        The data file (NumPy ``.npz``, about 6 MB): ``levels [harmonics of all pitches, 12, 128]``
        in bytes, ``LEVEL_STEP`` dB each from ``LEVEL_FLOOR``; every note has its peak at 0.9.
    progress : callable, optional
        Called with instruments done and in all.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    synths.InputError
        If fluidsynth or the font is missing.
    """
    from sounds.render import render_notes
    levels = np.empty((sum(map(harmonics, PITCHES)), len(INSTRUMENTS), spectra.ROWS), np.uint8)
    for done, program in enumerate(INSTRUMENTS.values()):
        notes = render_notes(program, PITCHES.tolist(), hold=HOLD,
                             length=spectra.SAMPLES / spectra.SAMPLE_RATE)
        first = 0
        for note, pitch in zip(notes, PITCHES):
            found = tracks(0.9 * note / max(float(np.abs(note).max()), 1e-9), pitch)
            levels[first:first + len(found), done] = np.round(
                (found - LEVEL_FLOOR) / LEVEL_STEP).clip(0, 255)
            first += len(found)
        if progress is not None:
            progress(done + 1, len(INSTRUMENTS))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez_compressed(file, levels=levels, instruments=np.array(list(INSTRUMENTS)))
    os.replace(part, path)
    return path


def load(path: Path) -> list[np.ndarray]:
    """Return the smoothed levels in dB, one array ``[12, harmonics, 128]`` for each pitch.

    Held-out pairs are there, smoothed from themselves and their neighbours; no other note has
    anything of theirs.
    """
    with np.load(path, allow_pickle=False) as file:
        stored = file["levels"]
    expected = (sum(map(harmonics, PITCHES)), len(INSTRUMENTS), spectra.ROWS)
    if stored.shape != expected:
        raise ValueError(f"{path} holds levels of shape {stored.shape}, not {expected}: "
                         "delete it, and it is made anew.")
    counts = np.cumsum([harmonics(pitch) for pitch in PITCHES])
    result = []
    for number in range(len(INSTRUMENTS)):
        notes = [smooth_in_time(LEVEL_FLOOR + LEVEL_STEP * part)
                 for part in np.split(stored[:, number].astype(float), counts[:-1])]
        held = {pitch - PITCHES[0] for k, pitch in HELD_OUT if k == number}
        result.append(smooth_over_pitches(notes, without=held))
    return [np.stack(notes).astype(np.float32) for notes in zip(*result)]


@functools.lru_cache(maxsize=1)
def bands() -> tuple[np.ndarray, np.ndarray]:
    """Return each mel band's sum of weights and its centre in Hz."""
    matrix = spectra.mel_matrix()
    sums = matrix.sum(axis=0)
    centres = (np.arange(spectra.BANDS)[:, None] * matrix).sum(axis=0) / np.maximum(1e-9, sums)
    return sums, centres * (spectra.SAMPLE_RATE / 2) / (spectra.BANDS - 1)


def steady_frequency(pitch: int) -> np.ndarray:
    """Return the instantaneous frequency of a steady tone, ``[1024]`` in half turns per row.

    Every band turns as its nearest harmonic does, for all instruments alike, times the band's
    sum of weights: then the inverse mel matrix gives each bin the right turn. Above 5 kHz, where
    that sum exceeds what the generator can say, the value is cut.
    """
    sums, centres = bands()
    fundamental = frequency(pitch)
    nearest = np.clip(np.round(centres / fundamental), 1, np.floor(7990 / fundamental))
    turns = np.mod(nearest * fundamental * 2 * spectra.HOP / spectra.SAMPLE_RATE + 1, 2) - 1
    return np.clip(sums * turns, -1.2, 1.2)


@functools.lru_cache(maxsize=1)
def initial_phase() -> np.ndarray:
    """Return row 0 of the phase for every note, ``[1024]`` in half turns.

    A steady sine seen through a window has phases that alternate from bin to bin. These are the
    smallest mel values that the inverse mel matrix makes alternate, up to 5 kHz (bin 860 is
    beyond). With all notes alike, no harmonic cancels itself: a pattern that is off by a quarter
    turn in some bins makes some pitches 6 dB softer.
    """
    inverse = spectra.linear_matrix()
    phase, *_ = np.linalg.lstsq(inverse.T[:860], np.arange(860) % 2 * 1.0, rcond=1e-3)
    phase[850:] = 0.0
    return phase


def directions(latents: int = 256, seed: int = 7) -> np.ndarray:
    """Return one fixed unit vector of z per instrument, orthonormal, ``[12, 256]``."""
    square = np.random.default_rng(seed).standard_normal((latents, len(INSTRUMENTS)))
    return np.linalg.qr(square)[0].T.copy()


# How sharply z chooses: the softmax of SHARPNESS times z along the instruments' directions.
SHARPNESS = 2.5


def shares(z: np.ndarray) -> np.ndarray:
    """Return the share of every instrument in the timbre of ``z [notes, 256]``."""
    logits = SHARPNESS * np.asarray(z, float) @ directions().T
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def anchor(number: int, rng: np.random.Generator) -> np.ndarray:
    """Return a z ``[256]`` that is almost nothing but one instrument, random otherwise."""
    axes = directions()
    z = rng.standard_normal(axes.shape[1])
    wanted = np.full(len(axes), -0.3)
    wanted[number] = 2.5
    return z + (wanted - axes @ z) @ axes


def draw(levels: np.ndarray, pitch: int) -> np.ndarray:
    """Draw harmonics ``[harmonics, rows]`` in dB as log mel power ``[rows, 1024]``."""
    power = 10.0 ** (np.asarray(levels, float).T / 10.0) * (spectra.FFT / 4) ** 2
    return np.maximum(np.log(power @ lobes(pitch) + 1e-6), LOG_FLOOR)


def target(levels: list[np.ndarray], weights: np.ndarray, pitch: int) -> np.ndarray:
    """Return what the generator should say for one note, normalised, ``[128, 1024, 2]``.

    Parameters
    ----------
    levels : list of arrays
        From ``load``.
    weights : array ``[12]``
        Shares of the instruments; the mixture is of levels in dB.
    """
    mixed = np.tensordot(weights, levels[int(pitch) - PITCHES[0]], 1)
    magnitude = draw(mixed, pitch) * spectra.MAGNITUDE_SCALE + spectra.MAGNITUDE_SHIFT
    phase = np.repeat(steady_frequency(pitch)[None], spectra.ROWS, axis=0)
    phase[0] = initial_phase()
    return np.stack([magnitude, phase * spectra.PHASE_SCALE], axis=-1)
