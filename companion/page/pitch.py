"""Estimate the pitch of a sound."""

from __future__ import annotations

import numpy as np

_FRAME, _HOP = 2048, 512  # samples


def pitch_of(audio: np.ndarray, sample_rate: int = 16000) -> float | None:
    """Estimate the MIDI pitch of a sound, float32 [samples], from its first four seconds.

    `librosa.yin` (de Cheveigne and Kawahara, "YIN, a fundamental frequency estimator", 2002) gives
    a frequency for every frame, even for noise.  Only frames within 20 dB of the loudest and with a
    normalised autocorrelation over 0.8 at one period are used.  The result is None if fewer than
    half of the loud frames are periodic, or the pitch glides.
    """
    import librosa

    audio = np.asarray(audio[:4 * sample_rate], np.float32)
    audio = np.pad(audio, (0, max(0, _FRAME - len(audio))))
    frames = librosa.util.frame(audio, frame_length=_FRAME, hop_length=_HOP).T
    rms = np.sqrt(np.mean(frames ** 2, axis=1))
    if rms.max() < 1e-4:
        return None
    frequencies = librosa.yin(audio, fmin=30, fmax=2000, sr=sample_rate, frame_length=_FRAME,
                              hop_length=_HOP, center=False)
    loud = rms > 0.1 * rms.max()
    periodic = [_repeats(frame, sample_rate / frequency)
                for frame, frequency in zip(frames[loud], frequencies[loud])]
    if np.mean(periodic) < 0.5:
        return None
    pitches = librosa.hz_to_midi(frequencies[loud][periodic])
    low, middle, high = np.percentile(pitches, (25, 50, 75))
    return float(middle) if high - low < 1 else None


def _repeats(frame: np.ndarray, period: float) -> bool:
    """Return whether a frame resembles itself one period later."""
    lag = round(period)
    first, second = frame[:-lag], frame[lag:]
    energy = np.sqrt(np.dot(first, first) * np.dot(second, second))
    return bool(np.dot(first, second) > 0.8 * energy)
