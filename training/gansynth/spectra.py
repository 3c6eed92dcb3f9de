"""GANSynth's spectrograms in NumPy: the mel matrix, the transform and its inverse.

The training needs these where TensorFlow is not at hand. They are the numbers of Magenta's
``specgrams_helper.SpecgramsHelper`` and ``spectral_ops`` for the official "mel" data type
(64000 samples at 16 kHz, 128 x 1024, 75 % overlap), written anew; the tests hold them against
``synths.gansynth``.
"""

from __future__ import annotations

import functools

import numpy as np

SAMPLE_RATE = 16000
SAMPLES = 64000
ROWS = 128          # time steps of a spectrogram
BANDS = 1024        # frequency bands, linear or mel
FFT = 2048
HOP = 512
# Magenta pads the note on the left so that 128 steps cover it and the attack is not cut.
PADDING = HOP * (ROWS - 1) + FFT - SAMPLES

# The official normalisation to the generator's -1..1 (data_normalizer with the constants of
# data_helpers for mel: log magnitude to -0.8..1, instantaneous frequency to -0.8..0.8).
MAGNITUDE_SCALE = 0.0661371661726
MAGNITUDE_SHIFT = 0.113718730221
PHASE_SCALE = 0.8

_WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)


def _hertz_to_mel(hertz):
    return 1127.0 * np.log(1.0 + np.asarray(hertz, float) / 700.0)


def _mel_to_hertz(mel):
    return 700.0 * (np.exp(np.asarray(mel, float) / 1127.0) - 1.0)


@functools.lru_cache(maxsize=1)
def mel_matrix() -> np.ndarray:
    """Return the linear-to-mel matrix ``[1024 linear, 1024 mel]``.

    Magenta's ``spectral_ops.linear_to_mel_weight_matrix`` widens bands that are narrower than
    1.5 bins by moving their edges, and does so on views of one array, so that the edges (and
    centres) of later bands move with them. The weights were trained on that very matrix.
    """
    linear = np.linspace(0.0, SAMPLE_RATE / 2, BANDS)[1:, None]
    edges = np.linspace(_hertz_to_mel(0.0), _hertz_to_mel(SAMPLE_RATE / 2), BANDS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]   # views, on purpose
    threshold = 1.5 * (SAMPLE_RATE / 2) / BANDS
    for band in range(BANDS):
        if _mel_to_hertz(upper[band]) - _mel_to_hertz(lower[band]) < threshold:
            ratio = 0.5 * threshold / (_mel_to_hertz(centre[band]) + 700.0)
            reach = 1127.0 * np.log(ratio + np.sqrt(1.0 + ratio ** 2))
            lower[band] = centre[band] - reach
            upper[band] = centre[band] + reach
    lower, centre, upper = (_mel_to_hertz(edge)[None] for edge in (lower, centre, upper))
    slopes = np.minimum((linear - lower) / (centre - lower), (upper - linear) / (upper - centre))
    return np.pad(np.maximum(0.0, slopes), [[1, 0], [0, 0]])


@functools.lru_cache(maxsize=1)
def linear_matrix() -> np.ndarray:
    """Return Magenta's approximate inverse of the mel matrix ``[1024 mel, 1024 linear]``."""
    matrix = mel_matrix()
    scale = (matrix @ matrix.T).sum(axis=0)
    scale = np.where(np.abs(scale) > 1e-8, 1.0 / np.where(scale == 0, 1.0, scale), scale)
    return matrix.T @ np.diag(scale)


def stft(audio: np.ndarray) -> np.ndarray:
    """Return complex spectra ``[notes, 128, 1024]`` of ``audio [notes, 64000]`` (no DC bin)."""
    padded = np.pad(np.asarray(audio, float), [(0, 0), (PADDING, 0)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT, axis=1)[:, ::HOP][:, :ROWS]
    return np.fft.rfft(frames * _WINDOW, axis=-1)[..., 1:]


def istft(spectra: np.ndarray) -> np.ndarray:
    """Return audio ``[notes, 64000]`` of ``spectra [notes, 128, 1024]``, as tf.signal does."""
    frames = np.fft.irfft(np.pad(spectra, [(0, 0), (0, 0), (1, 0)]), FFT, axis=-1)
    overlap = sum(np.roll(_WINDOW ** 2, shift * HOP) for shift in range(FFT // HOP))
    frames = frames * (_WINDOW / overlap)
    audio = np.zeros((len(spectra), HOP * (ROWS - 1) + FFT))
    for row in range(ROWS):
        audio[:, row * HOP:row * HOP + FFT] += frames[:, row]
    return audio[:, PADDING:]


def audio_from_mel(log_magnitude: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Invert mel spectrograms to audio ``[notes, 64000]``.

    Parameters
    ----------
    log_magnitude : array ``[notes, 128, 1024]``
        Natural logarithm of mel power.
    frequency : array ``[notes, 128, 1024]``
        Instantaneous frequency in half turns per row; row 0 is the initial phase.
    """
    inverse = linear_matrix()
    power = np.maximum(np.exp(log_magnitude) @ inverse, 0.0)
    magnitude = np.sqrt(power + 1e-6)
    phase = np.cumsum(np.asarray(frequency, float) * np.pi, axis=1) @ inverse
    return istft(magnitude * np.exp(1j * phase))


def audio_from_output(output: np.ndarray) -> np.ndarray:
    """Invert the generator's normalised output ``[notes, 128, 1024, 2]`` to audio."""
    output = np.asarray(output, float)
    return audio_from_mel((output[..., 0] - MAGNITUDE_SHIFT) / MAGNITUDE_SCALE,
                          output[..., 1] / PHASE_SCALE)
