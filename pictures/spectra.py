"""What is seen of a sound: the constant-Q transform, and the colours that it gets.

Sound is float32 in [-1, 1], one channel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synths import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Constant-Q transform of the book's spectrogram: from MIDI 36 up to twice the frequency of MIDI 84.
SPECTROGRAM = {"fmin": 440.0 * 2 ** ((36 - 69) / 12), "octaves": 5, "bins_per_octave": 32,
               "filter_scale": 1.0}
SPECTROGRAM_HOP = 2048
SPECTROGRAM_RANGE = 80  # dB below the loudest
# That of the rainbowgram (arXiv 1704.01279): from C2, 10 notes per octave, 4 bins per note.
RAINBOWGRAM = {"fmin": 440.0 * 2 ** ((36 - 69) / 12), "octaves": 6, "bins_per_octave": 10 * 4,
               "filter_scale": 0.8}
RAINBOWGRAM_HOP = 256  # over which the phase advances
RAINBOWGRAM_COLUMN = 64
RAINBOWGRAM_RANGE = 70
NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
COLUMNS = 1500  # more than the widest picture of one sound draws
# A picture's full brightness never stands for less than this below a full-scale sine (dB).
QUIETEST_REFERENCE = -60
# Every fifth of the 256 colours of "magma" (N. Smith and S. van der Walt, CC0); straight lines
# between them are within one of 255 levels of the whole table.  Importing Matplotlib for it would
# take as long as several bare pictures.
_MAGMA = (
    "00000301010b04041509071f0e0a2a140d351a104120114d281159301065390f6e420f744a107952127c"
    "5a157e61187f691c80711f81792281812581892881912a80992d7fa12f7ea9327cb1357ab93778c23a75"
    "ca3e72d1426ed9466ae04b66e65162ec585ff0605df4685bf7715bf97b5dfb8460fc8e63fd9768fda16e"
    "feaa74feb37bfebc82fec689fdcf92fdd89afde1a3fceaacfcf3b5fbfcbf")


@dataclass(frozen=True)
class Spectrum:
    """What is drawn of a sound.

    Parameters
    ----------
    pixels : uint8 [bins, columns, 3]
        The lowest bin first; the first column is centred on the sound's beginning.
    length : float
        Columns that the sound lasts; there is at least half a column more than that.
    seconds : float
        How long it lasts.
    transform : mapping
        `SPECTROGRAM` or `RAINBOWGRAM`: which pitches the bins are.
    """

    pixels: np.ndarray
    length: float
    seconds: float
    transform: Mapping[str, float]


def spectrogram(audio: Any, sample_rate: int = 16000,
                hop_length: int = SPECTROGRAM_HOP) -> Spectrum:
    """The constant-Q spectrogram of a sound in colour, a column for each `hop_length` samples."""
    audio = checked(audio)
    # not in print: magnitude first; dB of complex numbers dropped the phase with a warning
    magnitude = np.abs(constant_q(audio, sample_rate, hop_length, **SPECTROGRAM))
    decibels = _decibels(magnitude, _full_scale(SPECTROGRAM, sample_rate), SPECTROGRAM_RANGE)
    level = np.minimum((decibels / SPECTROGRAM_RANGE + 1) * 256, 255).astype(np.uint8)
    return _spectrum(magma()[level], len(audio), hop_length, sample_rate, SPECTROGRAM)


def rainbowgram(audio: Any, sample_rate: int = 16000) -> Spectrum:
    """The rainbowgram of a sound in colour: see `phase_and_brightness`."""
    audio = checked(audio)
    hop = RAINBOWGRAM_COLUMN
    while hop < RAINBOWGRAM_HOP and len(audio) > COLUMNS * hop:
        hop *= 2
    dphase, brightness = phase_and_brightness(audio, sample_rate, hop)
    # not in print: coloured here, in one image: register_cmap is gone from Matplotlib, and a
    # phase advance has the same colour in every picture
    hue = np.clip((dphase * 0.5 + 0.5) * 256, 0, 255).astype(np.uint8)
    pixels = np.rint(rainbow()[hue] * brightness[..., None].astype(np.float32)).astype(np.uint8)
    return _spectrum(pixels, len(audio), hop, sample_rate, RAINBOWGRAM)


def _spectrum(pixels: np.ndarray, samples: int, hop_length: int, sample_rate: int,
              transform: Mapping[str, float]) -> Spectrum:
    pixels = np.concatenate([pixels, pixels[:, -1:]], axis=1)
    return Spectrum(pixels, samples / hop_length, samples / sample_rate, transform)


def scaled(spectrum: Spectrum, width: int, height: int) -> Image:
    """The spectrum as an image of that many pixels, from the sound's beginning to its end.

    Each pixel shows its bin as it is; where there are fewer pixels than bins, their mean.
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(spectrum.pixels[::-1]))
    fewer = width < spectrum.length or height < image.height
    return image.resize((width, height), Image.Resampling.BOX if fewer else
                        Image.Resampling.NEAREST, (0.5, 0, 0.5 + spectrum.length, image.height))


def phase_and_brightness(audio: np.ndarray, sample_rate: int = 16000,
                         hop_length: int = RAINBOWGRAM_COLUMN) -> tuple[np.ndarray, np.ndarray]:
    """Phase derivative and brightness of a rainbowgram, a column for each `hop_length` samples.

    Parameters
    ----------
    audio : array [samples], float in [-1, 1]
    sample_rate : int
        In Hz.
    hop_length : int
        A divisor of 256.

    Returns
    -------
    dphase : float [bins, columns]
        Advance of the phase over 256 samples, in half turns, -1 to 1.
    brightness : float [bins, columns]
        Log magnitude, 0 (70 dB below the loudest, or silent) to 1 (the loudest).
    """
    # not in print: four columns for each hop, else a second of sound is 63 coarse steps; what
    # they show is the same
    transform = constant_q(audio, sample_rate, hop_length, **RAINBOWGRAM)
    hop = RAINBOWGRAM_HOP // hop_length
    dphase = np.angle(transform[:, hop:] * transform[:, :-hop].conj()) / np.pi
    # not in print: the book's first column shows the phase itself, not how it moves
    if dphase.shape[1]:
        dphase = np.pad(dphase, ((0, 0), (hop, 0)), mode="edge")
    else:
        dphase = np.zeros(transform.shape, np.float32)
    decibels = _decibels(np.abs(transform), _full_scale(RAINBOWGRAM, sample_rate),
                         RAINBOWGRAM_RANGE)
    return dphase, decibels / RAINBOWGRAM_RANGE + 1


@functools.lru_cache(maxsize=1)
def magma() -> np.ndarray:
    """Matplotlib's magma, uint8 [256, 3]: black through red to pale yellow."""
    points = np.frombuffer(bytes.fromhex(_MAGMA), np.uint8).reshape(-1, 3)
    place = np.arange(256) / 5
    return np.rint(np.column_stack([np.interp(place, range(len(points)), channel)
                                    for channel in points.T])).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def rainbow() -> np.ndarray:
    """Matplotlib's rainbow from violet to red, and on until the ends meet, float32 [256, 3] to 255.
    """
    # not in print: the ends meet, for half a turn forwards is half a turn backwards, and a steady
    # tone there would flicker between red and violet
    x = np.linspace(0, 1, 232)
    colours = np.column_stack([np.abs(2 * x - 0.5), np.sin(x * np.pi), np.cos(x * np.pi / 2)])
    colours = np.clip(colours, 0, 1)
    violet, red = colours[0], colours[-1]
    between = red + (violet - red) * (np.arange(24) + 0.5)[:, None] / 24
    return np.float32(255 * np.concatenate([between[12:], colours, between[:12]]))


def constant_q(audio: np.ndarray, sample_rate: int, hop_length: int, *, fmin: float, octaves: int,
               bins_per_octave: int, filter_scale: float = 1.0) -> np.ndarray:
    """Constant-Q transform, as `librosa.cqt` defines and scales it, in a tenth of its time.

    Bin k is the sound heard through a Hann window of `filter_scale * Q` periods of its centre
    frequency `fmin * 2**(k / bins_per_octave)` (Schoerkhuber and Klapuri, SMC 2010).  The window's
    spectrum is known in closed form and narrow, so each bin is a few lines of the sound's one
    Fourier transform, folded to the hop's rate; beyond its ends the sound is silent.
    librosa's first call compiles for most of a minute, which a picture must not cost.

    Returns
    -------
    complex64 [octaves * bins_per_octave, 1 + samples // hop_length]; a bin above half the sample
    rate is 0.  A sine of amplitude a in the middle of a bin has magnitude a / 2 * sqrt(window).
    """
    # not in print: librosa.cqt, the same numbers (tests compare them) after a minute of compiling
    longest = _window_length(sample_rate, fmin, bins_per_octave, filter_scale)
    frames = 1 + len(audio) // hop_length
    # room for the longest window, or the end would be heard at the beginning; one length for every
    # hop, so that the filters of one picture serve the other
    block = SPECTROGRAM_HOP if SPECTROGRAM_HOP % hop_length == 0 else hop_length
    size = _fast_length(math.ceil((len(audio) + longest) / block)) * block
    rows = size // hop_length
    spectrum = np.fft.rfft(np.asarray(audio, np.float32), size)
    folded = np.zeros((octaves * bins_per_octave, rows), np.complex64)
    # the clips of a run are of one length: what they have in common is kept, up to half a minute
    filters = _kept_filters if size <= 2**19 else _filters
    for k, (first, response) in enumerate(filters(size, sample_rate, fmin, octaves, bins_per_octave,
                                                  filter_scale)):
        lead, length = first % rows, len(response)
        turns = np.zeros(-(-(lead + length) // rows) * rows, np.complex64)
        turns[lead:lead + length] = spectrum[first:first + length] * response
        folded[k] = turns.reshape(-1, rows).sum(0)
    return np.fft.ifft(folded, axis=1)[:, :frames] / np.float32(hop_length)


def _fast_length(least: int) -> int:
    """The smallest length from `least` on without a prime factor above 5, which transforms fast."""
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _window_length(sample_rate: int, frequency: float, bins_per_octave: int,
                   filter_scale: float) -> float:
    """Samples under the window of a bin (librosa's relative bandwidth)."""
    ratio = 2.0 ** (2 / bins_per_octave)
    return filter_scale * (ratio + 1) / (ratio - 1) * sample_rate / frequency


def _filters(size: int, sample_rate: int, fmin: float, octaves: int, bins_per_octave: int,
             filter_scale: float) -> Iterator[tuple[int, np.ndarray]]:
    """For each bin below half the sample rate: its first line and its gain there and after."""
    for k in range(octaves * bins_per_octave):
        frequency = fmin * 2 ** (k / bins_per_octave)
        if frequency > sample_rate / 2:
            return
        window = _window_length(sample_rate, frequency, bins_per_octave, filter_scale)
        centre, reach = frequency / sample_rate * size, 8 * size / window
        first = max(0, math.ceil(centre - reach))
        last = min(size // 2, math.floor(centre + reach))
        u = (np.arange(first, last + 1) - centre) * (window / size)
        side = 1 - u * u
        near = np.abs(side) < 1e-6  # u = 1 and -1, where the limit is 1/2
        response = np.where(near, 0.5, np.sinc(u) / np.where(near, 1, side))  # Hann's spectrum
        yield first, (response * math.sqrt(window)).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _kept_filters(*args: Any) -> list[tuple[int, np.ndarray]]:
    return list(_filters(*args))


def _decibels(magnitude: np.ndarray, full_scale: float, dynamic_range: float) -> np.ndarray:
    """Level below the loudest (dB), floored at -`dynamic_range`; silence is at the floor."""
    reference = max(float(magnitude.max()), full_scale * 10 ** (QUIETEST_REFERENCE / 20))
    floor = reference * 10 ** (-dynamic_range / 20)
    return 20 * np.log10(np.maximum(magnitude, floor) / reference)


def octave_name(transform: Mapping[str, float], octave: int) -> str:
    """The note that many octaves above fmin, which is a C."""
    return note_name(round(math.log2(transform["fmin"] / 440) * 12 + 69) + 12 * octave)


def note_name(pitch: int) -> str:
    """The name of a MIDI pitch: 60 is "C4"."""
    return f"{NOTE_NAMES[pitch % 12]}{pitch // 12 - 1}"


def _full_scale(transform: Mapping[str, float], sample_rate: int) -> float:
    """Magnitude of a full-scale sine in the lowest bin."""
    return 0.5 * math.sqrt(_window_length(sample_rate, transform["fmin"],
                                          transform["bins_per_octave"], transform["filter_scale"]))


def checked(audio: Any) -> np.ndarray:
    """The sound as float32 [samples], checked."""
    audio = np.asarray(audio, np.float32)
    if audio.ndim == 2 and len(audio) == 1:
        audio = audio[0]
    if audio.ndim != 1 or not len(audio):
        raise InputError(f"A sound is [samples], at least one; this is {list(audio.shape)}: "
                         "give the clips one by one.")
    if not np.isfinite(audio).all():
        raise InputError("A sound must be finite numbers, and this one has NaN or infinity in it.")
    return audio
