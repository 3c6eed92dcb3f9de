"""The GANSynth starter's data: what each instrument's harmonics do, at every pitch.

24 instruments of the FluidR3 General MIDI font are rendered at all 61 pitches of GANSynth
(24..84), and of each note only the tracks of its harmonics are kept: one level per harmonic and
row of the spectrogram, one byte each. From the tracks every target is drawn, mixtures of
instruments included, so the data file is a few megabytes and a mixture is one between timbres,
not two sounds at once.

What a z means is said here, too: four of its directions choose the instrument (``shares``), two
more shade it (``shades``).
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from synths import InputError
from training import report
from training.gansynth import spectra

# What exported weights say of the targets they were trained on: other targets, another name.
NAME = "training.gansynth.data, 24 instruments"
PITCHES = np.arange(24, 85)
# Names and General MIDI programs (counted from 0), as they lie on a grid of 3 x 2 x 2 x 2:
# chosen to be unlike, and neighbours on the grid are those least unlike (``shares``).
INSTRUMENTS = {
    "steel drum": 114, "tubular bells": 14, "muted guitar": 28, "music box": 10, "harp": 46,
    "nylon guitar": 24, "whistle": 78, "vibraphone": 11, "violin": 40, "choir": 52,
    "square lead": 80, "harpsichord": 6, "flute": 73, "jazz guitar": 26, "electric piano": 4,
    "piano": 0, "soprano sax": 64, "trumpet": 56, "clarinet": 71, "brass section": 61,
    "church organ": 19, "distorted guitar": 30, "accordion": 21, "muted trumpet": 59,
}
# Those that die away while held.
STRUCK = ("piano", "electric piano", "harpsichord", "music box", "vibraphone", "tubular bells",
          "nylon guitar", "jazz guitar", "muted guitar", "harp", "steel drum")
# Depth of the vibrato in cents to either side, near what the font's own notes have, and of the
# level in dB that goes with it; the vibraphone's motor moves the level alone.
VIBRATO = {"violin": 20.0, "choir": 14.0, "soprano sax": 12.0, "flute": 14.0, "whistle": 18.0}
TREMOLO = {"violin": 1.0, "choir": 1.0, "soprano sax": 1.0, "flute": 1.5, "whistle": 0.5,
           "vibraphone": 3.0}
VIBRATO_TURN = 3.0 / 16.0   # turns per row: 5.9 Hz
HOLD = 3.0          # seconds until the note is let go, as in the NSynth data set
RELEASE_ROW = 97    # first row whose window is centred past the release
HIGHEST = 7950.0    # Hz; harmonics above are left out
# Levels in dB of a bin's magnitude against a full-scale sine (magnitude 512 = FFT / 4).
LEVEL_FLOOR = -100.0
LEVEL_STEP = 0.4
LOG_FLOOR = -7.0    # natural logarithm of mel power: 85 dB under a full-scale sine
# Nepers of power (43 dB) under the loudest band of a pitch: what counts as heard.
HEARD = 10.0
# One pitch of every instrument is never trained on.
HELD_OUT = tuple((k, 27 + 23 * k % 56) for k in range(len(INSTRUMENTS)))


def frequency(pitch) -> np.ndarray:
    """Return the fundamental in Hz of a MIDI pitch."""
    return 440.0 * 2.0 ** ((np.asarray(pitch, float) - 69.0) / 12.0)


def harmonics(pitch) -> int:
    """Return how many harmonics of a MIDI pitch are kept."""
    return int(HIGHEST / frequency(pitch))


@functools.cache
def lobes(pitch: int) -> np.ndarray:
    """Return mel power per harmonic ``[harmonics, 1024]`` for a bin magnitude of one.

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


def tracks(audio: np.ndarray, pitch: int) -> np.ndarray:
    """Return the levels of a note's harmonics in dB of a full-scale sine, ``[harmonics, 128]``.

    A harmonic is the loudest bin near its place: within 2 % (stretched strings) and within 45 %
    of the fundamental (its neighbours).
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
    result = levels.copy()
    for part in (slice(8, RELEASE_ROW), slice(RELEASE_ROW + 2, None)):
        result[:, part] = gaussian_filter1d(levels[:, part], rows, axis=1, mode="nearest")
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


def keep_pitch(levels: np.ndarray, depth: float = 9.0) -> np.ndarray:
    """Raise the first odd harmonics to ``depth`` dB under the even ones beside them, at least.

    A low string whose odd harmonics are nearly gone is heard an octave too high.
    """
    result = levels.copy()
    for odd in range(0, min(9, len(levels) - 1), 2):
        beside = levels[max(1, odd - 1):odd + 2:2].max(axis=0)
        result[odd] = np.maximum(result[odd], beside - depth)
    return result


def build(path: Path) -> None:
    """Render every instrument at every pitch, and write the tracks of the harmonics.

    ``levels [harmonics of all pitches, 24, 128]`` are bytes, ``LEVEL_STEP`` dB each from
    ``LEVEL_FLOOR``; every note has its peak at 0.9.
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
        print(f"rendered {done + 1} of {len(INSTRUMENTS)} instruments", file=sys.stderr)
    report.write_arrays(path, compress=True, levels=levels,
                        instruments=np.array(list(INSTRUMENTS)))


def load(path: Path) -> list[np.ndarray]:
    """Return the smoothed levels in dB, one array ``[24, harmonics, 128]`` for each pitch.

    Held-out pairs are there, smoothed from themselves and their neighbours; no other note has
    anything of theirs.
    """
    with np.load(path, allow_pickle=False) as file:
        stored, names = file["levels"], file["instruments"].tolist()
    expected = (sum(map(harmonics, PITCHES)), len(INSTRUMENTS), spectra.ROWS)
    if stored.shape != expected or names != list(INSTRUMENTS):
        raise InputError(f"{path} contains levels of shape {stored.shape}, not {expected}, or "
                         "other instruments: delete it, and the next run makes it again.")
    counts = np.cumsum([harmonics(pitch) for pitch in PITCHES])
    result = []
    for number in range(len(INSTRUMENTS)):
        notes = [smooth_in_time(LEVEL_FLOOR + LEVEL_STEP * part)
                 for part in np.split(stored[:, number].astype(float), counts[:-1])]
        held = {pitch - PITCHES[0] for k, pitch in HELD_OUT if k == number}
        result.append([keep_pitch(note) for note in smooth_over_pitches(notes, without=held)])
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
    turns = np.mod(_turns(pitch) + 1, 2) - 1
    return np.clip(bands()[0] * turns, -1.2, 1.2)


def _turns(pitch: int) -> np.ndarray:
    """Return the frequency of each band's nearest harmonic ``[1024]``, in half turns per row."""
    fundamental = frequency(pitch)
    nearest = np.clip(np.round(bands()[1] / fundamental), 1, np.floor(7990 / fundamental))
    return nearest * fundamental * 2 * spectra.HOP / spectra.SAMPLE_RATE


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


# How sharply z chooses: the slope of the logistic function at every border of the grid.
SHARPNESS = 14.0
GRID = (3, 2, 2, 2)
TERCILE = 0.4307        # a Gaussian number is below -TERCILE, between, or above, a third each
# Of the shades: dB per octave and dB, per unit of z; and what they are held to.
BRIGHTNESS, DARKEST, BRIGHTEST = 8.0, -9.0, 6.0
SWELL, MOST_SWELL, SWELL_ROWS = 20.0, 30.0, 14.0
DIRECTIONS = len(GRID) + 2


def directions(latents: int = 256, seed: int = 7) -> np.ndarray:
    """Return the fixed unit vectors of z that mean something, orthonormal, ``[6, 256]``.

    Four choose on the grid of instruments, then come brightness and swell.
    """
    square = np.random.default_rng(seed).standard_normal((latents, DIRECTIONS))
    return np.linalg.qr(square)[0].T.copy()


def _logistic(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * SHARPNESS * x)


def shares(z: np.ndarray) -> np.ndarray:
    """Return the share of every instrument in the timbre of ``z [notes, 256]``: ``[notes, 24]``.

    Each of four directions of z chooses along one axis of the grid: the first one of three, the
    others one of two. Every instrument is as likely as another, most z are one of them alone,
    and on the way from one to another a z passes through their neighbours.
    """
    along = np.asarray(z, float) @ directions()[:len(GRID)].T
    high, low = _logistic(along[:, 0] - TERCILE), _logistic(-along[:, 0] - TERCILE)
    axes = [np.stack([low, 1.0 - low - high, high], axis=1)]
    axes += [np.stack([1.0 - part, part], axis=1) for part in _logistic(along[:, 1:]).T]
    return np.einsum("na,nb,nc,nd->nabcd", *axes).reshape(len(along), -1)


def shades(z: np.ndarray) -> np.ndarray:
    """Return brightness and swell of ``z [notes, 256]``, ``[notes, 2]``.

    Brightness is a slope over the harmonics in dB per octave, swell how many dB softer a note
    begins than its instrument does; half of all z have none.
    """
    along = np.asarray(z, float) @ directions()[len(GRID):].T
    return np.stack([np.clip(BRIGHTNESS * along[:, 0], DARKEST, BRIGHTEST),
                     np.clip(SWELL * along[:, 1], 0.0, MOST_SWELL)], axis=1)


def shading(values: np.ndarray, count: int) -> np.ndarray:
    """Return what shades do to the levels of ``count`` harmonics, in dB: ``[count, 128]``."""
    brightness, swell = values
    octaves = np.log2(np.arange(1, count + 1))
    rows = np.arange(spectra.ROWS)
    # A bright note has a softer fundamental: the generator can say little above full scale.
    slope = brightness * (octaves - 2.0 * (brightness > 0))
    return slope[:, None] - swell * np.maximum(0.0, 1.0 - rows / SWELL_ROWS)


def anchor(number: int, rng: np.random.Generator) -> np.ndarray:
    """Return a z ``[256]`` that is one instrument as it is, unshaded, random otherwise."""
    axes = directions()
    z = rng.standard_normal(axes.shape[1])
    place = np.unravel_index(number, GRID)
    wanted = np.concatenate([[1.2 * (place[0] - 1.0)], 2.0 * np.array(place[1:]) - 1.0,
                             np.zeros(2)])
    return z + (wanted - axes @ z) @ axes


@functools.lru_cache(maxsize=1)
def depths() -> tuple[np.ndarray, np.ndarray]:
    """Return every instrument's vibrato in cents and tremolo in dB, ``[24]`` each."""
    vibrato, tremolo = (np.array([table.get(name, 0.0) for name in INSTRUMENTS])
                        for table in (VIBRATO, TREMOLO))
    return vibrato, tremolo


# The deepest vibrato in cents, and of a band, in half turns per row: deeper, and neighbouring rows
# disagree.
DEEPEST, MOST_TURN = 20.0, 0.7


def vibrato_frequency(pitch: int) -> np.ndarray:
    """Return how far the deepest vibrato moves each band's frequency, ``[1024]``.

    In half turns per row, times the band's sum of weights, as ``steady_frequency``. High
    harmonics move less than their share: to either side alike, so that no phase drifts.
    """
    turns = _turns(pitch) * (2.0 ** (DEEPEST / 1200.0) - 1.0)
    room = np.maximum(0.0, 1.2 - np.abs(steady_frequency(pitch)))
    return np.minimum(bands()[0] * np.minimum(turns, MOST_TURN), room)


def draw(levels: np.ndarray, pitch: int) -> np.ndarray:
    """Draw harmonics ``[harmonics, rows]`` in dB as log mel power ``[rows, 1024]``."""
    power = 10.0 ** (np.asarray(levels, float).T / 10.0) * (spectra.FFT / 4) ** 2
    return np.maximum(np.log(power @ lobes(pitch) + 1e-6), LOG_FLOOR)


def target(levels: list[np.ndarray], z: np.ndarray, pitch: int) -> np.ndarray:
    """Return the normalised spectrogram ``[128, 1024, 2]`` that ``z [256]`` asks for.

    ``levels`` come from ``load``. A mixture of instruments is one of levels in dB.
    """
    weights = shares(z[None])[0]
    mixed = np.tensordot(weights, levels[int(pitch) - PITCHES[0]], 1)
    mixed = mixed + shading(shades(z[None])[0], len(mixed))
    return picture(mixed, pitch, *(float(weights @ part) for part in depths()))


def picture(levels: np.ndarray, pitch: int, vibrato: float = 0.0,
            tremolo: float = 0.0) -> np.ndarray:
    """Return levels ``[harmonics, 128]`` in dB as a normalised spectrogram ``[128, 1024, 2]``.

    ``vibrato`` is in cents, ``tremolo`` in dB, to either side.
    """
    wave = np.sin(2.0 * np.pi * VIBRATO_TURN * np.arange(spectra.ROWS))
    magnitude = (draw(levels + tremolo * wave, pitch) * spectra.MAGNITUDE_SCALE
                 + spectra.MAGNITUDE_SHIFT)
    swing = vibrato / DEEPEST * wave
    phase = steady_frequency(pitch) + swing[:, None] * vibrato_frequency(pitch)
    phase[0] = initial_phase()
    return np.stack([magnitude, phase * spectra.PHASE_SCALE], axis=-1)
