"""Convert GANSynth's spectrograms to audio, like Magenta's ``SpecgramsHelper``.

GANSynth (Engel et al. 2019, https://arxiv.org/abs/1902.08710) generates two channels of frames by
frequency bins.  The first is the log magnitude.  The second is the instantaneous frequency: the
change of phase from one frame to the next, in units of pi radians.  Its cumulative sum is the
phase.  The inverse Fourier transform of magnitude and phase gives the audio.
"""

from __future__ import annotations

import math

import numpy as np

_MEL_BREAK_HERTZ = 700.0
_MEL_Q = 1127.0
_SAFE_LOG = 1e-6  # added by Magenta before each logarithm
_OVERLAP = 4  # frames that cover each sample: Magenta's overlap of 0.75


def linear_to_mel_matrix(bins: int, sample_rate: int) -> np.ndarray:
    """Return the matrix [linear bins, mel bands] that GANSynth's training used.

    It is not a textbook mel filter bank.  Bands narrower than 1.5 bins are widened.  In Magenta,
    the arrays of lower edges, centres and upper edges share memory, so widening one band moves its
    neighbours.  The models were trained with exactly this matrix.  Source: Magenta's
    ``spectral_ops.linear_to_mel_weight_matrix``.
    """
    nyquist = sample_rate / 2.0
    hertz = np.linspace(0.0, nyquist, bins)[1:, np.newaxis]
    edges = np.linspace(0.0, _MEL_Q * np.log(1.0 + nyquist / _MEL_BREAK_HERTZ), bins + 2)
    narrowest = 1.5 * nyquist / bins
    edges = edges.tolist()
    for band in range(bins):
        # edges[band : band + 3] are this band's lower edge, centre and upper edge.
        lower, center, upper = (math.exp(edge / _MEL_Q) for edge in edges[band:band + 3])
        if _MEL_BREAK_HERTZ * (upper - lower) < narrowest:
            half = _MEL_Q * math.asinh(0.5 * narrowest / (_MEL_BREAK_HERTZ * center))
            edges[band], edges[band + 2] = edges[band + 1] - half, edges[band + 1] + half
    edges = _MEL_BREAK_HERTZ * (np.exp(np.array(edges) / _MEL_Q) - 1.0)
    lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
    matrix = np.zeros((bins, bins))  # the row of 0 Hz stays zero
    rising, falling = (hertz - lower) / (center - lower), (upper - hertz) / (upper - center)
    matrix[1:] = np.maximum(0.0, np.minimum(rising, falling))
    return matrix


def mel_to_linear_matrix(bins: int, sample_rate: int) -> np.ndarray:
    """Return Magenta's approximate matrix [mel bands, linear bins] for the inverse conversion.

    Source: Magenta's ``SpecgramsHelper._mel_to_linear_matrix``.
    """
    forward = linear_to_mel_matrix(bins, sample_rate)
    weights = forward @ forward.sum(axis=0)
    usable = np.abs(weights) > 1e-8
    return forward.T * np.where(usable, 1.0 / np.where(usable, weights, 1.0), weights)


class SpecgramInverter:
    """A converter that turns spectrograms, or only their first frames, into audio.

    `spec_shape` is the number of frames and frequency bins of a whole spectrogram.  The two
    channels are log mel power and instantaneous frequency of mel bands ("mel"), log magnitude and
    instantaneous frequency ("linear"), or log magnitude and phase in units of pi radians ("phase").
    """

    def __init__(self, spec_shape: tuple[int, int] = (128, 1024), audio_length: int = 64000,
                 sample_rate: int = 16000, data_type: str = "mel") -> None:
        self.frames, self.bins = spec_shape
        self.audio_length = audio_length
        self.data_type = data_type
        if self.bins < 2 or self.bins & (self.bins - 1):
            raise ValueError("its number of frequency bins must be a power of two, not "
                             f"{self.bins}")
        self.frame_length = 2 * self.bins
        self.hop = self.frame_length // _OVERLAP
        # All of the padding is before the note.
        self.padding = self.hop * (self.frames - 1) + self.frame_length - audio_length
        if self.padding < 0:
            raise ValueError(f"its {self.frames} frames of {self.bins} bins allow at most"
                             f" {audio_length + self.padding} samples, not {audio_length}")
        if data_type == "mel":
            # Most entries of the matrix are zero: keep only the others in each column.
            matrix = mel_to_linear_matrix(self.bins, sample_rate).astype(np.float32)
            columns, bands = np.nonzero(matrix.T)
            place = np.arange(len(columns)) - np.searchsorted(columns, columns)
            self._bands = np.zeros((place.max() + 1, self.bins), np.intp)
            self._bands[place, columns] = bands
            self._weights = np.zeros(self._bands.shape, np.float32)
            self._weights[place, columns] = matrix[bands, columns]
        # The window that undoes a periodic Hann window at this hop
        # (tf.signal.inverse_stft_window_fn).
        hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self.frame_length) / self.frame_length)
        power = np.square(hann).reshape(_OVERLAP, self.hop).sum(axis=0)
        self._window = (hann / np.tile(power, _OVERLAP)).astype(np.float32)

    def frames_for(self, samples: int) -> int:
        """Return the number of frames that the first `samples` samples depend on."""
        if samples >= self.audio_length:
            return self.frames
        return min(self.frames, -(-(samples + self.padding) // self.hop))

    def samples_from(self, frames: int) -> int:
        """Return the number of samples that depend only on the first `frames` frames."""
        if frames >= self.frames:
            return self.audio_length
        return max(0, frames * self.hop - self.padding)

    def invert(self, specgrams: np.ndarray) -> np.ndarray:
        """Convert spectrograms [notes, frames, bins, 2], whole or cut after any frame, to audio.

        The result has the shape [notes, `samples_from` (frames)].  Source: Magenta's
        ``SpecgramsHelper.melspecgrams_to_waves`` and ``specgrams_to_waves``.
        """
        notes, frames = specgrams.shape[:2]
        magnitude, phase = self._polar(specgrams[..., 0], specgrams[..., 1])
        # The first frames are in the padding, so only their phase matters.
        silent = min(frames, max(0, (self.padding - self.frame_length) // self.hop + 1))
        magnitude, phase = magnitude[:, silent:], phase[:, silent:]
        stfts = np.zeros((notes, frames - silent, self.bins + 1), np.complex64)
        np.cos(phase, out=stfts.real[..., 1:])
        np.sin(phase, out=stfts.imag[..., 1:])
        stfts[..., 1:] *= magnitude
        pieces = np.fft.irfft(stfts, n=self.frame_length)
        pieces *= self._window
        pieces = pieces.reshape(notes, frames - silent, _OVERLAP, self.hop)
        waves = np.zeros((notes, frames - silent + _OVERLAP - 1, self.hop), np.float32)
        for part in range(_OVERLAP):
            waves[:, part:part + frames - silent] += pieces[:, :, part]
        begin = self.padding - silent * self.hop
        return waves.reshape(notes, -1)[:, begin:begin + self.samples_from(frames)]

    def _polar(self, magnitude: np.ndarray, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the magnitude and phase (radians) of linear frequency bins as float32."""
        if self.data_type == "phase":
            return np.exp(magnitude), phase * np.float32(np.pi)
        phase = np.cumsum(phase * np.float32(np.pi), axis=1)
        if self.data_type == "linear":
            return np.exp(magnitude), phase
        # exp(0.5 * log(power + eps)).  Magenta differentiates the phase and sums it again here,
        # which changes it by whole cycles only.
        power = self._to_linear(np.exp(magnitude))
        return np.sqrt(power + np.float32(_SAFE_LOG)), self._to_linear(phase)

    def _to_linear(self, mel: np.ndarray) -> np.ndarray:
        linear = np.zeros_like(mel)
        for bands, weights in zip(self._bands, self._weights):
            linear += mel[..., bands] * weights
        return linear
