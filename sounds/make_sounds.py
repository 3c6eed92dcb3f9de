"""Make the four sounds of example 1: `python -m sounds.make_sounds [--output DIR]`.

One second each, mono, 16 kHz, 16 bit.  The bass and the flute are notes of the FluidR3 General
MIDI font (MIT licence); the meow and the metal hit are computed here from nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from sounds.render import render_notes
from synths import InputError
from synths.files import write_wav

SAMPLE_RATE = 16000
SAMPLES = 16000
PEAK = 0.8
BASS_PITCH, FLUTE_PITCH = 36, 72


def _seconds() -> np.ndarray:
    return np.arange(SAMPLES) / SAMPLE_RATE


def _finish(audio: np.ndarray) -> np.ndarray:
    """Scale to the common peak; 3 ms fade in and 30 ms fade out so that nothing clicks."""
    audio = np.asarray(audio, np.float64) - np.mean(audio)
    audio[:48] *= np.linspace(0, 1, 48)
    audio[-480:] *= np.linspace(1, 0, 480)
    return audio / np.abs(audio).max() * PEAK


def _from_onset(note: np.ndarray, lead: int = 80) -> np.ndarray:
    """SAMPLES samples of a rendered note, from 5 ms before it is first heard."""
    onset = int(np.argmax(np.abs(note) > 0.02 * np.abs(note).max()))
    return note[max(0, onset - lead):][:SAMPLES]


def bass() -> np.ndarray:
    """A low C plucked on an electric bass (65.4 Hz), falling 12 dB in its second."""
    note = _from_onset(render_notes(33, [BASS_PITCH], velocity=110, hold=1.4, length=1.4)[0])
    return _finish(note * 10 ** (-12 / 20 * _seconds()))


def flute() -> np.ndarray:
    """A held flute C (523.3 Hz) with the player's own vibrato, let go near the end."""
    note = _from_onset(render_notes(73, [FLUTE_PITCH], velocity=100, hold=0.9, length=1.4)[0])
    return _finish(note)


def metal(seed: int = 5) -> np.ndarray:
    """A struck metal bar: the inharmonic modes of a free bar, the low ones ringing longest.

    The mode ratios 1 : 2.756 : 5.404 : 8.933 : 13.34 are those of an ideal free-free bar
    (Fletcher and Rossing, The Physics of Musical Instruments, section 2.15); each is a pair a few
    hertz apart, as in a real, not quite symmetric bar, which makes the tail beat.
    """
    rng = np.random.default_rng(seed)
    t = _seconds()
    audio = np.zeros(SAMPLES)
    for ratio, level, decay in ((1.0, 0.55, 0.75), (2.756, 1.0, 0.42), (5.404, 0.8, 0.22),
                                (8.933, 0.5, 0.11), (13.34, 0.25, 0.05)):
        for split in (-0.6, 0.9):
            frequency = 311.0 * ratio + split * ratio
            audio += 0.5 * level * np.exp(-t / decay) * np.sin(
                2 * np.pi * frequency * t + rng.uniform(0, 2 * np.pi))
    click = rng.standard_normal(SAMPLES) * np.exp(-t / 0.004)
    return _finish(audio + 0.25 * click)


def _resonances(frequency: np.ndarray, formants: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Amplitude at `frequency` of parallel resonances; formants and widths are [count, time]."""
    gain = np.full(frequency.shape, 0.02)
    for centre, width, level in zip(formants, widths, (1.0, 0.6, 0.3)):
        gain = gain + level / (1 + ((frequency - centre) / width) ** 2)
    return gain


def _smooth(track: np.ndarray) -> np.ndarray:
    """A track of numbers without corners: the mean over 0.1 s under a Hann window."""
    kernel = np.hanning(1601) / np.hanning(1601).sum()
    return np.convolve(np.pad(track, 800, mode="edge"), kernel, "valid")


def meow_pitch() -> np.ndarray:
    """The meow's fundamental, Hz, at each of its samples."""
    return _smooth(np.interp(_seconds(), [0.0, 0.10, 0.30, 0.50, 0.80, 1.0],
                             [430, 500, 640, 600, 460, 380]))


def meow() -> np.ndarray:
    """A cat-like glide: voice harmonics through formants that open from m to a and close to w."""
    t = _seconds()
    at = np.array([0.0, 0.10, 0.30, 0.50, 0.80, 1.0])
    pitch = meow_pitch()
    formants = np.stack([np.interp(t, at, f) for f in (
        [350, 500, 900, 1150, 800, 450],
        [2300, 2500, 2300, 1700, 1200, 900],
        [3400, 3600, 3500, 3200, 3000, 2800])])
    level = _smooth(np.interp(t, [0, 0.06, 0.16, 0.30, 0.55, 0.85, 1.0],
                              [0, 0.35, 0.8, 1.0, 0.9, 0.30, 0.0]))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    widths = np.array([[140.0], [220.0], [320.0]])
    audio = np.zeros(SAMPLES)
    for k in range(1, 17):
        heard = np.clip((7600 - k * pitch) / 800, 0, 1)  # no harmonic starts or stops at once
        audio += heard * k ** -0.7 * _resonances(k * pitch, formants, widths) * np.sin(k * phase)
    return _finish(audio * level)


SOUNDS = {"bass": bass, "metal": metal, "meow": meow, "flute": flute}


def main(arguments: list[str] | None = None) -> int:
    """Write the four sounds; see the module's head."""
    parser = argparse.ArgumentParser(prog="python -m sounds.make_sounds", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, metavar="DIR",
                        help="folder to write to (default: the sounds folder itself)")
    options = parser.parse_args(arguments)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        for name, make in SOUNDS.items():
            target = options.output / f"{name}.wav"
            write_wav(target, make())
            print(target)
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
