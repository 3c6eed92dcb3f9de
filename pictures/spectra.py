"""What is seen of a sound: librosa's constant-Q transform, in Matplotlib's colours.

Sound is float32 in [-1, 1], one channel.  librosa and Matplotlib are imported by the first picture:
a script's `--help` does without them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import math
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from synths import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Constant-Q transform of the book's spectrogram: from MIDI 36, which is C2, over five octaves.
SPECTROGRAM = {"lowest": "C2", "octaves": 5, "bins_per_octave": 32, "filter_scale": 1.0}
SPECTROGRAM_HOP = 2048
SPECTROGRAM_RANGE = 80  # dB below the loudest
# That of the rainbowgram (arXiv 1704.01279): from C2, 10 notes per octave, 4 bins per note.
RAINBOWGRAM = {"lowest": "C2", "octaves": 6, "bins_per_octave": 10 * 4, "filter_scale": 0.8}
RAINBOWGRAM_HOP = 256  # over which the phase advances
RAINBOWGRAM_COLUMN = 64
RAINBOWGRAM_RANGE = 70
COLUMNS = 1500  # more than the widest picture of one sound draws
# A picture's full brightness never stands for less than this below a full-scale sine (dB).
QUIETEST_REFERENCE = -60
_AT_ONCE, _SAMPLES_AT_ONCE = 2**11, 2**22  # columns that are transformed at a time, and samples
_MARGIN = 2**15  # samples, more than half of the longest filter
_SHORTEST = 2**15  # samples: librosa warns of sounds shorter than its windows
_COMPILING = ("librosa prepares its constant-Q transform for this machine: up to half a minute, "
              "once after it was installed.")
_warming = threading.RLock()


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
    transform: Mapping[str, Any]


def spectrogram(audio: Any, sample_rate: int = 16000,
                hop_length: int = SPECTROGRAM_HOP) -> Spectrum:
    """The constant-Q spectrogram of a sound in colour.

    Parameters
    ----------
    audio : array [samples], float in [-1, 1]
    sample_rate : int
        In Hz.
    hop_length : int
        Samples between two columns.

    Returns
    -------
    Spectrum

    Raises
    ------
    InputError
        If it is no sound of one channel.
    """
    audio = checked(audio)
    # not in print: A spectrogram takes the magnitude before dB; dB of complex numbers dropped the
    # phase with a warning.
    magnitude = np.abs(constant_q(audio, sample_rate, hop_length, SPECTROGRAM))
    decibels = _decibels(magnitude, _full_scale(SPECTROGRAM, sample_rate), SPECTROGRAM_RANGE)
    level = np.minimum((decibels / SPECTROGRAM_RANGE + 1) * 256, 255).astype(np.uint8)
    return _spectrum(magma()[level], len(audio), hop_length, sample_rate, SPECTROGRAM)


def rainbowgram(audio: Any, sample_rate: int = 16000) -> Spectrum:
    """The rainbowgram of a sound in colour: see `phase_and_brightness`.

    Parameters
    ----------
    audio : array [samples], float in [-1, 1]
    sample_rate : int
        In Hz.

    Returns
    -------
    Spectrum
        Of a long sound, with fewer columns a second.

    Raises
    ------
    InputError
        If it is no sound of one channel.
    """
    audio = checked(audio)
    hop = RAINBOWGRAM_COLUMN
    while hop < RAINBOWGRAM_HOP and len(audio) > COLUMNS * hop:
        hop *= 2
    dphase, brightness = phase_and_brightness(audio, sample_rate, hop)
    # not in print: A rainbowgram is coloured in one image, without register_cmap, which is gone
    # from Matplotlib; a phase advance has the same colour in every picture.
    hue = np.clip((dphase * 0.5 + 0.5) * 256, 0, 255).astype(np.uint8)
    pixels = np.rint(rainbow()[hue] * brightness[..., None].astype(np.float32)).astype(np.uint8)
    return _spectrum(pixels, len(audio), hop, sample_rate, RAINBOWGRAM)


def _spectrum(pixels: np.ndarray, samples: int, hop_length: int, sample_rate: int,
              transform: Mapping[str, Any]) -> Spectrum:
    pixels = np.concatenate([pixels, pixels[:, -1:]], axis=1)
    return Spectrum(pixels, samples / hop_length, samples / sample_rate, transform)


def scaled(spectrum: Spectrum, width: int, height: int) -> Image:
    """The spectrum as an image of that many pixels, from the sound's beginning to its end.

    Each pixel shows its bin as it is; where there are fewer pixels than bins, their mean.

    Parameters
    ----------
    spectrum : Spectrum
    width, height : int
        In pixels.

    Returns
    -------
    PIL.Image.Image
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(spectrum.pixels[::-1]))
    fewer = width < spectrum.length or height < image.height
    return image.resize((width, height), Image.Resampling.BOX if fewer else
                        Image.Resampling.NEAREST, (0.5, 0, 0.5 + spectrum.length, image.height))


def smaller(spectrum: Spectrum, columns: int = 150, bins: int = 120) -> Spectrum:
    """A spectrum of about so many columns and bins at least, for a picture among many: means."""
    across = max(1, int(spectrum.length / columns))
    up = max(1, len(spectrum.pixels) // bins)
    pixels = spectrum.pixels
    pixels = np.pad(pixels, ((0, -len(pixels) % up), (0, -pixels.shape[1] % across), (0, 0)),
                    mode="edge")
    pixels = pixels.reshape(len(pixels) // up, up, -1, across, 3).mean(axis=(1, 3))
    return Spectrum(np.rint(pixels).astype(np.uint8), spectrum.length / across, spectrum.seconds,
                    spectrum.transform)


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
    # not in print: A rainbowgram has four columns for each hop, else a second of sound is 63 coarse
    # steps; what they show is the same.
    magnitude, phase = _librosa().magphase(
        constant_q(audio, sample_rate, hop_length, RAINBOWGRAM))
    hop = RAINBOWGRAM_HOP // hop_length
    dphase = np.angle(phase[:, hop:] * phase[:, :-hop].conj()) / np.pi
    # not in print: A rainbowgram's first column repeats the next one's colour, where the book's
    # shows the phase itself, not how it moves.
    if dphase.shape[1]:
        dphase = np.pad(dphase, ((0, 0), (hop, 0)), mode="edge")
    else:
        dphase = np.zeros(magnitude.shape, np.float32)
    decibels = _decibels(magnitude, _full_scale(RAINBOWGRAM, sample_rate), RAINBOWGRAM_RANGE)
    return dphase, decibels / RAINBOWGRAM_RANGE + 1


@functools.lru_cache(maxsize=1)
def magma() -> np.ndarray:
    """Matplotlib's magma, uint8 [256, 3]: black through red to pale yellow."""
    return import_matplotlib().colormaps["magma"](np.arange(256), bytes=True)[:, :3]


@functools.lru_cache(maxsize=1)
def rainbow() -> np.ndarray:
    """Matplotlib's rainbow, violet to red, and on until the ends meet: float32 [256, 3] to 255."""
    colormaps = import_matplotlib().colormaps
    from matplotlib.colors import LinearSegmentedColormap

    # not in print: The rainbow's ends meet, for half a turn forwards is half a turn backwards, and
    # a steady tone there would flicker between red and violet.
    places = np.linspace(0, 1, 232)
    colours = colormaps["rainbow"](places)[:, :3]
    seam = (colours[0] + colours[-1]) / 2
    circle = LinearSegmentedColormap.from_list(
        "circle", [(0, seam), *zip((12 + 232 * places) / 256, colours), (1, seam)])
    return (255 * circle(np.arange(256))[:, :3]).astype(np.float32)


def constant_q(audio: np.ndarray, sample_rate: int, hop_length: int,
               transform: Mapping[str, Any]) -> np.ndarray:
    """`librosa.cqt` (Schoerkhuber and Klapuri, SMC 2010) with the parameters of a picture.

    Parameters
    ----------
    audio : float32 [samples]
        In [-1, 1].  Beyond its ends is silence.
    sample_rate : int
        In Hz.
    hop_length : int
        Samples from one column to the next.
    transform : mapping
        `SPECTROGRAM` or `RAINBOWGRAM`.

    Returns
    -------
    complex64 [octaves * bins_per_octave, 1 + samples // hop_length]
        A bin too near half the sample rate is 0.  A sine of amplitude a in the middle of a bin has
        magnitude a / 2 * sqrt(samples of the bin's window).
    """
    librosa = _librosa()
    frequencies = librosa.cqt_frequencies(
        transform["octaves"] * transform["bins_per_octave"], fmin=lowest(transform),
        bins_per_octave=transform["bins_per_octave"])
    _, highest = librosa.filters.wavelet_lengths(freqs=frequencies, sr=sample_rate,
                                                 filter_scale=transform["filter_scale"])
    bins = int((frequencies * (highest / frequencies[-1]) <= sample_rate / 2).sum())
    columns = 1 + len(audio) // hop_length
    whole = np.zeros((len(frequencies), columns), np.complex64)
    if bins <= 1:
        return whole
    # In parts, for librosa holds the spectra of all columns at once; what a filter hears of a
    # part's neighbours comes with it.
    margin = -(-_MARGIN // hop_length)
    most = max(1, min(_AT_ONCE, _SAMPLES_AT_ONCE // hop_length))
    for first in range(0, columns, most):
        last = min(first + most, columns)
        begin = max(0, first - margin)
        part = np.asarray(audio[begin * hop_length:(last + margin) * hop_length], np.float32)
        part = np.pad(part, (0, max(0, _SHORTEST - len(part))))
        whole[:bins, first:last] = librosa.cqt(
            part, sr=sample_rate, hop_length=hop_length, fmin=lowest(transform), n_bins=bins,
            bins_per_octave=transform["bins_per_octave"],
            filter_scale=transform["filter_scale"])[:, first - begin:last - begin]
    return whole


def lowest(transform: Mapping[str, Any]) -> float:
    """Hz of a transform's lowest bin."""
    return float(_librosa().note_to_hz(transform["lowest"]))


def warm_up(report: Callable[[str], None] | None = None) -> None:
    """Import what draws, and let librosa compile what it compiles.

    librosa 0.11 (Python 3.10 and 3.11) compiles while it is imported, once after it was installed,
    and keeps the result.  To be called in a thread while something else works.  Further calls wait
    for the first one and cost nothing; without this call, the first picture does the same.

    Parameters
    ----------
    report : callable, optional
        Called at most once, with a sentence, if nothing is kept yet and it takes more than two
        seconds.
    """
    with _warming:
        if report is None or _is_kept():
            _first_transform()
            return
        timer = threading.Timer(2.0, report, [_COMPILING])
        timer.daemon = True
        timer.start()
        try:
            _first_transform()
        finally:
            timer.cancel()


@functools.lru_cache(maxsize=1)
def _first_transform() -> None:
    """What only the first picture costs; later calls do nothing."""
    constant_q(np.zeros(1, np.float32), 16000, RAINBOWGRAM_COLUMN, RAINBOWGRAM)
    rainbow()


def _cache_folders() -> list[Path]:
    """Where Numba may keep what it compiles for librosa, in the order in which it tries."""
    places = [os.environ["NUMBA_CACHE_DIR"]] if os.environ.get("NUMBA_CACHE_DIR") else []
    spec = importlib.util.find_spec("librosa")
    if spec is not None and spec.origin is not None:
        places.append(os.path.join(os.path.dirname(spec.origin), "core", "__pycache__"))
    places.append("~/Library/Caches/numba" if sys.platform == "darwin" else "~/.cache/numba")
    return [Path(place).expanduser() for place in places]


def _is_kept() -> bool:
    """Whether Numba has the constant-Q transform's functions, compiled, in one of its folders."""
    return any(True for folder in _cache_folders() for _ in folder.rglob("constantq.*.nbi"))


def _librosa() -> ModuleType:
    """librosa, which finds a folder to keep what it compiles.

    A thread that needs it waits while another is in `warm_up`: two that compile the same function
    make Numba warn.
    """
    with _warming:
        # where there is none, Numba refuses to be imported
        if "numba" not in sys.modules and not any(map(_can_write, _cache_folders())):
            folder = tempfile.mkdtemp(prefix="numba-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            os.environ["NUMBA_CACHE_DIR"] = folder
        import librosa

    return librosa


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def import_matplotlib() -> ModuleType:
    """Matplotlib, also where MPLBACKEND names a backend that there is not.

    Pictures are drawn without a backend of pyplot's; a notebook's choice stays.
    """
    chosen = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if chosen is not None:
        os.environ["MPLBACKEND"] = chosen
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = chosen
    return matplotlib


def _decibels(magnitude: np.ndarray, full_scale: float, dynamic_range: float) -> np.ndarray:
    """Level below the loudest (dB), floored at -`dynamic_range`; silence is at the floor."""
    reference = max(float(magnitude.max()), full_scale * 10 ** (QUIETEST_REFERENCE / 20))
    decibels = _librosa().amplitude_to_db(magnitude, ref=reference, top_db=None,
                                          amin=reference * 10 ** (-dynamic_range / 20))
    return np.clip(decibels, -dynamic_range, 0)  # not a rounding error beyond


def octave_name(transform: Mapping[str, Any], octave: int) -> str:
    """The note that many octaves above the lowest, which is a C."""
    return _librosa().hz_to_note(lowest(transform) * 2**octave, unicode=False)


def note_name(pitch: int) -> str:
    """The name of a MIDI pitch: 60 is "C4"."""
    return _librosa().midi_to_note(pitch, unicode=False)


def _full_scale(transform: Mapping[str, Any], sample_rate: int) -> float:
    """Magnitude of a full-scale sine in the lowest bin."""
    lengths, _ = _librosa().filters.wavelet_lengths(
        freqs=lowest(transform) * 2 ** (np.arange(2) / transform["bins_per_octave"]),
        sr=sample_rate, filter_scale=transform["filter_scale"])
    return 0.5 * math.sqrt(lengths[0])


def checked(audio: Any) -> np.ndarray:
    """The sound as float32 [samples], checked.

    Raises
    ------
    InputError
        If it is empty, of another shape, or not finite.
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim == 2 and len(audio) == 1:
        audio = audio[0]
    if audio.ndim != 1 or not len(audio):
        raise InputError(f"A sound is [samples], at least one; this is {list(audio.shape)}: "
                         "give the clips one by one.")
    if not np.isfinite(audio).all():
        raise InputError("A sound must be finite numbers, and this one has NaN or infinity in it.")
    return audio
