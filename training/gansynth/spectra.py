"""GANSynth's spectrograms as the official weights have them: sizes, scales and the transform.

64000 samples at 16 kHz are 128 rows (time) of 1024 mel bands, at 75 % overlap. The mel matrices
are those of ``synths.gansynth.specgrams``, where the inverse transform lives, too.
"""

from __future__ import annotations

import functools

import numpy as np

from synths.gansynth.specgrams import linear_to_mel_matrix, mel_to_linear_matrix

SAMPLE_RATE = 16000
SAMPLES = 64000
ROWS = 128
BANDS = 1024
FFT = 2048
HOP = 512
# All of the padding is in front of the note, so that its attack is not cut.
PADDING = HOP * (ROWS - 1) + FFT - SAMPLES

# From log power and half turns to the generator's -1..1 (Magenta's model.py, "mel").
MAGNITUDE_SCALE = 0.0661371661726
MAGNITUDE_SHIFT = 0.113718730221
PHASE_SCALE = 0.8


@functools.lru_cache(maxsize=1)
def mel_matrix() -> np.ndarray:
    """Return the linear-to-mel matrix ``[1024 linear, 1024 mel]``."""
    return linear_to_mel_matrix(BANDS, SAMPLE_RATE)


@functools.lru_cache(maxsize=1)
def linear_matrix() -> np.ndarray:
    """Return Magenta's approximate inverse of it, ``[1024 mel, 1024 linear]``."""
    return mel_to_linear_matrix(BANDS, SAMPLE_RATE)


def band_frequencies() -> np.ndarray:
    """Return where the weight of every mel band lies, in Hz: ``[1024]``."""
    matrix = mel_matrix()
    bins = np.arange(BANDS) * SAMPLE_RATE / FFT
    return bins @ matrix / np.maximum(matrix.sum(axis=0), 1e-9)


def stft(audio: np.ndarray) -> np.ndarray:
    """Return complex spectra ``[notes, 128, 1024]`` of ``audio [notes, 64000]`` (no DC bin)."""
    padded = np.pad(np.asarray(audio, float), [(0, 0), (PADDING, 0)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT, axis=1)[:, ::HOP][:, :ROWS]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    return np.fft.rfft(frames * window, axis=-1)[..., 1:]
