"""Measures of pitch, noise and distance, for 16 kHz audio ``[samples]``.  They need only NumPy.

The evaluations of both starters use these, so that their figures mean the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16000
_TINY = 1e-12


def _frames(audio: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Return ``[frames, length]`` views; a shorter sound is padded to one frame."""
    audio = np.asarray(audio, dtype=np.float64)
    audio = np.pad(audio, (0, max(0, length - len(audio))))
    return np.lib.stride_tricks.sliding_window_view(audio, length)[::hop]


def cents(frequency, reference) -> np.ndarray:
    """Return how far ``frequency`` is above ``reference``, in cents (hundredths of a semitone)."""
    return 1200.0 * np.log2(np.asarray(frequency, float) / np.asarray(reference, float))


def f0_track(audio: np.ndarray, fmin: float = 50.0, fmax: float = 1200.0,
             hop: int = 512) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frequency (Hz, NaN without a peak), clarity and RMS level of each frame.

    Normalised autocorrelation (McLeod and Wyvill, "A smarter way to find pitch", ICMC 2005): of
    the peaks nearly as high as the highest, the one of the shortest period is taken. Its place
    is refined by a parabola, and then again at up to four periods, where an error counts less.
    Clarity is the height of the peak, at most 1: a steady tone is over 0.9, noise under 0.5.
    """
    longest = int(np.ceil(SAMPLE_RATE / fmin)) + 2
    shortest = max(2, int(np.floor(SAMPLE_RATE / fmax)) - 1)
    half = max(2 * longest, 512)
    frames = _frames(audio, half + longest, hop)
    frames = frames - frames.mean(axis=1, keepdims=True)
    head = frames[:, :half]
    size = 1 << int(np.ceil(np.log2(half + longest + half)))
    products = np.fft.irfft(
        np.fft.rfft(frames, size, axis=1) * np.conj(np.fft.rfft(head, size, axis=1)),
        size, axis=1)[:, :longest + 1]
    energy = np.pad(np.cumsum(frames ** 2, axis=1), ((0, 0), (1, 0)))
    lags = np.arange(longest + 1)
    norm = (energy[:, half:half + 1]
            + energy[:, half + np.minimum(lags, longest)] - energy[:, lags])
    score = 2.0 * products / np.maximum(norm, _TINY)

    rms = np.sqrt(np.mean(frames ** 2, axis=1))
    frequency = np.full(len(frames), np.nan)
    clarity = np.zeros(len(frames))
    for index, row in enumerate(score):
        if rms[index] < 1e-7:
            continue
        inner = row[1:-1]
        peaks = 1 + np.flatnonzero((inner > row[:-2]) & (inner >= row[2:]) & (inner > 0.0))
        # The slope down from lag 0 is no peak: skip to where the score first goes negative,
        # or where the search begins.
        negative = np.flatnonzero(row < 0.0)
        begin = max(shortest, negative[0] if len(negative) else shortest)
        peaks = peaks[peaks >= begin]
        if len(peaks) == 0:
            continue
        left, mid, right = row[peaks - 1], row[peaks], row[peaks + 1]
        bend = left - 2.0 * mid + right
        shift = np.where(bend < 0.0, 0.5 * (left - right) / np.where(bend < 0.0, bend, 1.0), 0.0)
        height = mid - 0.25 * (left - right) * shift
        chosen = np.flatnonzero(height >= 0.93 * height.max())[0]
        places = peaks + shift
        period = places[chosen]
        for count in (2, 4):
            nearest = np.argmin(np.abs(places - count * period))
            if abs(places[nearest] - count * period) < 0.1 * period:
                period = places[nearest] / count
        frequency[index] = SAMPLE_RATE / period
        clarity[index] = min(1.0, height[chosen])
    return frequency, clarity, rms


def hnr(clarity: np.ndarray) -> float:
    """Return the median harmonics-to-noise ratio in dB of frames of this clarity.

    Boersma, Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
    ratio, 1993. It follows a glide.
    """
    clarity = np.clip(clarity, 1e-3, 0.9999)
    return float(np.median(10.0 * np.log10(clarity / (1.0 - clarity))))


def harmonic_to_noise(audio: np.ndarray, f0: float) -> float:
    """Return the power of a tone's harmonics over that of everything else, in dB (at least -30).

    Frames of at least ten periods (and 128 ms) are taken through a Hann window. What lies within
    three bins of a harmonic is the tone (all but its outer side lobes), what lies between is
    noise, and as much noise again is taken to lie under the tone. Frames 40 dB under the loudest
    are left out. A steady tone gives nearly 40 dB, white noise 0 dB and less, silence NaN; a
    vibrato, a glide or a detuned tone lose decibels, as they should against a fixed ``f0``.
    """
    length = 1 << int(np.ceil(np.log2(max(10.0 * SAMPLE_RATE / f0, 0.128 * SAMPLE_RATE))))
    frames = _frames(audio, length, length // 4)
    power = np.mean(frames ** 2, axis=1)
    if power.max() < _TINY:
        return float("nan")
    frames = frames[power > 1e-4 * power.max()]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(length + 1)[:-1], axis=1)) ** 2
    frequency = np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE)
    number = np.round(frequency / f0)
    lobe = (number > 0) & (np.abs(frequency - number * f0) <= 3.01 * SAMPLE_RATE / length)
    heard = frequency > 0.5 * f0
    between = heard & ~lobe
    noise_density = spectrum[:, between].sum() / max(1, between.sum())
    noise = noise_density * heard.sum()
    tone = spectrum[:, lobe].sum() - noise_density * lobe.sum()
    return float(10.0 * np.log10(max(tone, 1e-3 * noise, _TINY) / max(noise, _TINY)))


def log_spectra(audio: np.ndarray) -> np.ndarray:
    """Return dB magnitudes ``[frames, 1025]`` (Hann, 128 ms, 75 % overlap)."""
    spectrum = np.abs(np.fft.rfft(_frames(audio, 2048, 512) * np.hanning(2049)[:-1], axis=1))
    return 20.0 * np.log10(spectrum / 512 + 1e-7)


def noise_floor(audio: np.ndarray) -> float:
    """Return how far the quiet part of a clip's spectrum lies under its peak, in dB.

    In each frame of 128 ms the level that a fifth of the spectrum stays under, relative to the
    frame's peak; the median over the frames that are less than 40 dB under the loudest. White noise
    is near -20 dB.
    """
    spectra = log_spectra(audio)
    peak = spectra.max(axis=1)
    heard = peak > peak.max() - 40.0
    return float(np.median((np.percentile(spectra, 20, axis=1) - peak)[heard]))


def log_spectral_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the log-spectral distance of two clips of one length, in dB.

    The root mean square over frequency of the difference in dB, averaged over frames. What is
    more than 60 dB under the louder clip's highest peak counts as silence; frames that are silent
    in both are left out. Levels count: bring the clips to one level first if they should not.
    """
    first, second = log_spectra(a), log_spectra(b)
    floor = max(first.max(), second.max()) - 60.0
    first, second = np.maximum(first, floor), np.maximum(second, floor)
    heard = (first > floor).any(axis=1) | (second > floor).any(axis=1)
    distance = np.sqrt(np.mean((first - second) ** 2, axis=1))
    return float(distance[heard].mean())


def envelope(audio: np.ndarray) -> np.ndarray:
    """Return the level in dB of consecutive stretches of 20 ms."""
    return 10.0 * np.log10(np.mean(_frames(audio, 320, 320) ** 2, axis=1) + _TINY)


def decay(audio: np.ndarray, start: float = 0.2, end: float = 2.2) -> float:
    """Return how many dB a clip falls between two times, each averaged over 0.1 s."""
    def level(time: float) -> float:
        first = int((time - 0.05) * SAMPLE_RATE)
        part = np.asarray(audio, float)[max(0, first):first + 1600]
        return 10.0 * np.log10(np.mean(part ** 2) + _TINY)

    return level(start) - level(end)


def mel_bands(bands: int, size: int) -> np.ndarray:
    """Return triangles on the mel scale from 50 Hz to 7.8 kHz, ``[bands, size / 2 + 1]``."""
    mel = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (50, 7800)), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    found = np.maximum(0.0, np.minimum(rise, fall))
    for row, centre in zip(found, edges[1:-1]):     # a band that no bin lies in has the nearest
        if not row.any():
            row[np.abs(bins - centre).argmin()] = 1.0
    return found


def loudness(audio: np.ndarray) -> np.ndarray:
    """Return specific loudness ``[frames, 40]`` after Zwicker, of the clip brought to one level.

    The power in 40 mel bands, averaged over 112 ms, so that noise is not compared wave by wave,
    to the 0.3. What lies 70 dB under the peak counts as silence.
    """
    audio = audio * (0.1 / max(1e-6, float(np.sqrt(np.mean(audio ** 2)))))
    frames = _frames(np.pad(audio, 512), 1024, 256)
    power = np.abs(np.fft.rfft(frames * np.hanning(1025)[:-1], axis=1)) ** 2
    power = power @ mel_bands(40, 1024).T
    power = np.stack([np.convolve(band, np.full(4, 0.25), "same") for band in power.T], axis=1)
    return (power + 1e-7 * power.max()) ** 0.3


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of two loudnesses that they do not have in common, 0 to 1."""
    return float(np.abs(a - b).sum() / (a + b).sum())


def midi(frequency: np.ndarray) -> np.ndarray:
    """Return frequencies in Hz as MIDI pitches."""
    return 69 + 12 * np.log2(frequency / 440)


@dataclass
class PitchTrack:
    """Frequency, clarity and level of each frame, as `f0_track` returns them."""

    frequency: np.ndarray
    clarity: np.ndarray
    level: np.ndarray

    @property
    def pitch(self) -> np.ndarray:
        """MIDI pitch of each frame."""
        return midi(self.frequency)

    @property
    def audible(self) -> np.ndarray:
        """Frames above -34 dBFS."""
        return self.level > 0.02

    @property
    def voiced(self) -> np.ndarray:
        """Frames that are audible and periodic."""
        return self.audible & (self.clarity > 0.9)

    @property
    def periodic(self) -> float:
        """Share of the audible frames with a clarity above 0.8."""
        return float(np.mean(self.clarity[self.audible] > 0.8)) if self.audible.any() else 0.0

    @property
    def pitched(self) -> bool:
        """Whether at least half of the audible frames are periodic."""
        return bool(self.voiced.sum() >= 0.5 * max(1, self.audible.sum()))


def pitch_track(audio: np.ndarray, group: str = "") -> PitchTrack:
    """Follow a sound's pitch; in the group "bass" it may be as low as 30 Hz."""
    return PitchTrack(*f0_track(audio, fmin=30.0 if group == "bass" else 50.0))


def within_50_cents(semitones: np.ndarray, octaves: bool = False) -> np.ndarray:
    """Return which differences are within 50 cents, or within 50 cents of some octave."""
    off = np.where(np.isfinite(semitones), semitones, 6.0)
    return np.abs((off + 6) % 12 - 6 if octaves else off) < 0.5


# The linear probe gives a pitch as its position on circles of these many semitones.
CIRCLES = (60.0, 12.0, 4.0, 1.5)


def circles(pitch: np.ndarray) -> np.ndarray:
    """Return the cosine and sine of MIDI pitches on each circle, ``[..., 8]``."""
    angle = 2 * np.pi * np.asarray(pitch)[..., None] / CIRCLES
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)


def nearest_pitch(read: np.ndarray) -> np.ndarray:
    """Return the MIDI pitches whose positions are nearest to a probe's output ``[frames, 8]``."""
    grid = np.arange(24.0, 96.0, 0.1)
    return grid[((read[:, None] - circles(grid)) ** 2).sum(-1).argmin(1)]
