"""Train the NSynth starter: `python -m training.nsynth.train --stage STAGE --minutes M`.

Renders the data set if it is missing, resumes from the state of the last run if there is one,
trains for M minutes on a CUDA GPU or the CPU, saves its state every few minutes and at the end, and
exports a TensorFlow checkpoint if TensorFlow is installed.  Once the data set exists, only PyTorch,
NumPy and SciPy are needed.

There are four stages.  "encoder" trains the encoder alone, by auxiliary losses: a linear probe of
its encodings must give pitch and spectral envelope.  The other three train the decoder and leave
the encoder as it is: "broad" on all sounds and mixes of random pairs, "near" and "fine" with more
and more of the bundled sounds and the morphs between them.

Teacher forcing alone does not prepare the decoder for its own errors.  In most crops, its input
history is therefore corrupted by noise or by its own predictions, while the targets stay true.
Where the history has drifted from the encoding's pitch, the target returns to that pitch.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.io import wavfile
from scipy.signal import fftconvolve, iirpeak, istft, lfilter, stft

from synths import InputError
from training import STOPPED, command, make_parser, measures, report
from training.muon import Muon
from training.nsynth.fused import Fused
from training.nsynth.model import HOP, Autoencoder, Size, mu_law, signal_of
from training.nsynth.names import read_state

RUN = Path("training/runs/nsynth")
SAMPLE_RATE = 16000
TRAIN, HELD_OUT_NOTE, HELD_OUT_INSTRUMENT, SHIPPED = 0, 1, 2, 3
PITCH_WEIGHT, COLOUR_WEIGHT = 0.5, 0.1
BANDS = 24
# How much further a mix's colour goes to the second sound's than the encodings' shares say.
REACH = 1.6
# Share of crops whose pitch drifts from that of the encoding, and returns.
WOBBLES = 0.4
# Standard deviation, at most, of a past that is off by mu-law codes; half of them are off by less
# than a quarter of it, since that is how far a decoder's own past is off.
CODES_OFF = 5
# Share of crops whose past fades in and out, down to silence, while the sound goes on.
FADED = 0.05
# Share of crops of shipped sounds and their mixes in whose past something else is heard for a
# while: a relative, or, for this share of them, what became of the sound itself: one of its
# overtones, or noise in the place of a mix, which overtones made noisy.
DEVIATED, ITSELF = 0.12, 1 / 3
# One crop in four holds the onset: generation always begins there.  In mixes that a noisy sound
# leads, the decoder may begin with the second sound's pitch.
ONSETS, NOISY_ONSETS = 0.25, 0.5
# Of the bundled sounds or one's own, and of the many notes: see `Takes`.
TAKES, FEW = 32, 4


@dataclass(frozen=True)
class Stage:
    """What a stage trains on: shares of crops, and how far sounds are moved; and what it trains."""

    notes: float
    mixes: float            # of random pairs of notes
    shipped: float
    shipped_morphs: float
    semitones: float        # notes are moved up or down by at most this
    shipped_semitones: float
    rate: float             # learning rate at its highest
    ema: float
    exact: float = 0.2      # share of crops that are not moved in pitch
    quietest: float = 0.5   # times as loud as the sound; the loudest are 1.15 times
    effects: float = 0.0    # share of notes that are made brighter, duller or reverberant
    encoder: bool = False   # whether the encoder learns, and not the decoder
    # Mixed encodings get noise of up to this many standard deviations, because a mix in use is
    # never exactly one from the training.
    spread: float = 0.15


STAGES = {
    "encoder": Stage(0.95, 0.0, 0.05, 0.0, 2.0, 2.0, 3e-3, 0.998, effects=0.5, encoder=True),
    "broad": Stage(0.63, 0.25, 0.06, 0.06, 1.5, 0.5, 1.5e-3, 0.999, effects=0.3),
    "near": Stage(0.40, 0.20, 0.20, 0.20, 1.5, 0.35, 1.2e-3, 0.999, effects=0.2),
    "fine": Stage(0.30, 0.15, 0.25, 0.30, 1.5, 0.15, 1e-3, 0.997, exact=0.5, quietest=0.7),
}
# On a GPU: half precision keeps the likelihood to 0.0001 nats, where bfloat16 loses 0.01; gradients
# are scaled by this so that small ones are not lost.
GRADIENT_SCALE = 4096.0
# In the last part of a run (a share of it), the learning rate falls to END of its peak.
FALL, END = 0.6, 0.03
NOISE = 0.06            # in the input history, see `history`
SAVE_EVERY = 240.0      # seconds

# Windowed-sinc interpolation, 12 taps at 512 positions between two samples.
_TAPS, _PHASES = 12, 512


def _interpolation_table() -> np.ndarray:
    at = np.arange(_TAPS) - (_TAPS // 2 - 1) - np.arange(_PHASES + 1)[:, None] / _PHASES
    table = np.sinc(0.97 * at) * np.i0(6 * np.sqrt(np.maximum(0, 1 - (at / (_TAPS / 2)) ** 2)))
    return table / table.sum(1, keepdims=True)


_TABLE = _interpolation_table()


def positions(start: float, rate: float | np.ndarray, length: int) -> np.ndarray:
    """Where in a sound each of `length` samples comes from, played `rate` times as fast."""
    if np.ndim(rate):
        return start + np.cumsum(rate)
    return (int(start) if rate == 1.0 else start) + np.arange(length) * rate


def crop(audio: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`audio` (int16) at the positions `at`, as float; zeros before and after it."""
    whole = np.floor(at).astype(np.int64)
    if np.all(whole == at):
        inside = (whole >= 0) & (whole < audio.size)
        return np.where(inside, audio[np.clip(whole, 0, audio.size - 1)] / 32768.0, 0.0)
    weights = _TABLE[np.round((at - whole) * _PHASES).astype(np.int64)]
    taps = whole[:, None] + np.arange(_TAPS) - (_TAPS // 2 - 1)
    inside = (taps >= 0) & (taps < audio.size)
    values = np.where(inside, audio[np.clip(taps, 0, audio.size - 1)] / 32768.0, 0.0)
    return np.sum(values * weights, axis=1)


def now_and_then(rng: np.random.Generator, length: int, most: float,
                 top: float = math.inf) -> np.ndarray:
    """A curve [length] through four moments: at some it is 0, at the others up to `most`, but not
    over `top`.
    """
    moments = np.sort(rng.integers(0, length, 4))
    levels = np.minimum(top, rng.uniform(0, most, 4)) * (rng.random(4) < 0.6)
    return np.interp(np.arange(length), moments, levels)


_COLOUR = measures.mel_bands(20, 512)


def coloured(lead: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """A sound whose levels, in 20 bands over time, go this share of the way to another's."""
    _, _, spectrum = stft(lead, nperseg=512, noverlap=384)
    _, _, wanted = stft(other, nperseg=512, noverlap=384)
    levels = [10 * np.log10(_COLOUR @ np.abs(x) ** 2 + 1e-9) for x in (spectrum, wanted)]
    gain = np.clip(share * (levels[1] - levels[0]), -18, 12)
    gain = (_COLOUR / _COLOUR.sum(0).clip(1e-9)).T @ gain
    _, audio = istft(spectrum * 10 ** (gain / 20), nperseg=512, noverlap=384)
    return np.clip(audio[:lead.size], -1, 1)


def _weights(share: float, rng: np.random.Generator) -> list[float]:
    """The weights of a mix's two encodings: half of the time as the book adds them, the first
    whole, and half of the time as shares of 1.
    """
    whole = 1.0 if rng.random() < 0.5 else 1 - share
    return [whole, whole * share / (1 - share)]


@dataclass
class Source:
    """A crop to encode: audio [length], and its MIDI pitch in each frame, NaN where none."""

    audio: np.ndarray
    pitch: np.ndarray


@dataclass
class Crop:
    """Audio [length] to predict, the past that the decoder hears, and the sources, with shares,
    of its encoding; or their encodings [frames, channels], if these are known.
    """

    audio: np.ndarray
    past: np.ndarray
    sources: list[Source]
    shares: list[float]
    encodings: Sequence[np.ndarray] = ()


class Crops:
    """Random crops of a data set (`broad.render`), of `length` samples, a multiple of 512."""

    def __init__(self, data, stage: Stage, length: int, rng: np.random.Generator):
        self.data, self.stage, self.length, self.rng = data, stage, length, rng
        split = data["split"]
        self.notes, self.shipped = np.flatnonzero(split == TRAIN), np.flatnonzero(split == SHIPPED)

    def _start(self) -> float:
        if self.rng.random() < ONSETS:
            return float(self.rng.integers(-600, 1))
        return float(self.rng.integers(0, self.data["audio"].shape[1] - self.length // 2))

    def _level(self) -> float:
        if self.rng.random() > 0.7:
            return 1.0
        return float(self.rng.uniform(self.stage.quietest, 1.15))

    def _rate(self, semitones: float) -> float:
        if self.rng.random() < self.stage.exact:
            return 1.0
        return float(2 ** (self.rng.uniform(-1, 1) * semitones / 12))

    def _wobble(self) -> np.ndarray | float:
        """How much faster than it should the sound plays, over time: off at a few moments, and
        back within a few hundredths of a second.
        """
        rng = self.rng
        if rng.random() > WOBBLES:
            return 1.0
        semitones, time = np.zeros(self.length), np.arange(self.length)
        for at in rng.integers(-200, self.length, rng.integers(1, 4)):
            fall = np.exp(-np.maximum(time - at, 0) / rng.uniform(200, 1200))
            semitones += np.where(time >= at, rng.normal(0, 0.7) * fall, 0)
        return 2 ** (semitones / 12)

    def _effect(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return an effect: brighter, duller, reverberant, or none.

        No filter looks ahead, and the peak stays.
        """
        rng = self.rng
        if rng.random() > self.stage.effects:
            return lambda audio: audio
        pole = math.exp(-2 * math.pi * 10 ** rng.uniform(2.5, 3.6) / SAMPLE_RATE)
        shelf = 10 ** (rng.uniform(-15, 15) / 20)
        response = np.zeros(1)
        if rng.random() < 0.3:
            time = np.arange(int(10 ** rng.uniform(2.9, 3.9)))
            response = rng.standard_normal(time.size) * np.exp(-5 * time / time.size)
            response *= rng.uniform(0.05, 0.7) / np.sqrt(np.sum(response ** 2))

        def heard(audio: np.ndarray) -> np.ndarray:
            low = lfilter([1 - pole], [1, -pole], audio)
            out = low + shelf * (audio - low)
            out = out + fftconvolve(out, response)[:out.size]
            return out * (np.abs(audio).max() / max(np.abs(out).max(), 1e-9))

        return heard

    def _source(self, i: int, start: float, rate: float | np.ndarray, level: float,
                effect: Callable[[np.ndarray], np.ndarray] = lambda audio: audio) -> Source:
        at = positions(start, rate, self.length)
        audio = effect(level * crop(self.data["audio"][i], at))
        middle = at[HOP // 2::HOP]
        speed = np.broadcast_to(rate, self.length)[HOP // 2::HOP]
        hop = self.data["audio"].shape[1] / self.data["track"].shape[1]
        place = np.clip(middle / hop, 0, self.data["track"].shape[1] - 1).astype(int)
        pitch = self.data["track"][i][place] + 12 * np.log2(speed)
        quiet = np.sqrt(np.mean(audio.reshape(-1, HOP) ** 2, axis=1)) < 0.01
        return Source(audio, np.where(quiet, np.nan, pitch))

    def _drifted(self, source: Source, i: int, start: float, rate: float | np.ndarray,
                 level: float,
                 effect: Callable[[np.ndarray], np.ndarray] = lambda audio: audio) -> np.ndarray:
        """A source's audio, off its pitch at a few moments."""
        wobble = self._wobble()
        if np.ndim(wobble) == 0:
            return source.audio
        at = positions(start, rate * wobble, self.length)
        return effect(level * crop(self.data["audio"][i], at))

    def _deviated(self, audio: np.ndarray, other: np.ndarray) -> np.ndarray:
        """A past that goes over into another sound, and back, a few times."""
        return audio + now_and_then(self.rng, self.length, 1.5, 1.0) * (other - audio)

    def _part(self, audio: np.ndarray) -> np.ndarray:
        """What rings at one frequency of a sound, as loud as all of it: a decoder may fall into one
        of its partials.
        """
        frequency = np.fft.rfftfreq(self.length)[1:-1]      # cycles per sample
        level = np.abs(np.fft.rfft(audio))[1:-1] + 1e-9
        # A resonator looks back only: what is still to be predicted is not heard in it.
        narrow = 3 * 10 ** self.rng.random()
        peak = iirpeak(self.rng.choice(frequency, p=level / level.sum()), narrow, fs=1.0)
        part = lfilter(*peak, audio)
        return part * np.sqrt(np.sum(audio ** 2) / max(np.sum(part ** 2), 1e-9))

    def _hiss(self, audio: np.ndarray) -> np.ndarray:
        """A sound whose partials are bands of noise, 200 to 2000 Hz wide: a decoder may lose a
        pitch, and must find its way back.
        """
        window = np.hanning(int(16 * 10 ** self.rng.random()) + 2)
        noise = fftconvolve(self.rng.standard_normal(self.length), window, "same")
        return audio * noise / np.sqrt(np.mean(noise ** 2))

    def __call__(self) -> Crop:
        """Draw one."""
        rng, stage, start, level = self.rng, self.stage, self._start(), self._level()
        kind = rng.choice(4, p=np.array([stage.notes, stage.mixes, stage.shipped,
                                         stage.shipped_morphs]))
        if kind == 0:
            rate = self._rate(stage.semitones)
            if rng.random() < 0.12:     # a glide, as in the meow
                rate = rate * 2 ** (np.linspace(0, rng.uniform(-4, 4), self.length) / 12)
            return self._note(rng.choice(self.notes), start, rate, level)
        if kind == 1:
            return self._mix(start, level)
        rates = [self._rate(stage.shipped_semitones) for _ in range(2)]
        if kind == 2:
            return self._shipped(rng.choice(self.shipped), start, rates[0], level)
        return self._morph(self._pair(), (start, start), rates, level)

    def _pair(self) -> int:
        """The row of a morph."""
        weight = self.data["morph_weight"]
        return self.rng.choice(len(weight), p=weight / weight.sum())

    def _note(self, i: int, start: float, rate: float | np.ndarray, level: float) -> Crop:
        effect = self._effect()
        source = self._source(i, start, rate, level, effect)
        audio = self._drifted(source, i, start, rate, level, effect)
        return Crop(audio, audio, [source], [1.0])

    def _shipped(self, i: int, start: float, rate: float, level: float) -> Crop:
        rng, source = self.rng, self._source(i, start, rate, level)
        past = audio = self._drifted(source, i, start, rate, level)
        if rng.random() < DEVIATED:
            if rng.random() < ITSELF:
                into = self._part(audio)
            else:
                led = np.flatnonzero(self.data["morph_sources"][:, 0] == i)
                into = level * crop(self.data["morph_audio"][rng.choice(led)],
                                    positions(start, rate, self.length))
            past = self._deviated(audio, into)
        return Crop(audio, past, [source], [1.0])

    def _morph(self, k: int, starts: Sequence[float], rates: Sequence[float],
               level: float) -> Crop:
        """A morph and its sources, the leading one first, at their starts and rates."""
        rng = self.rng
        audio = level * crop(self.data["morph_audio"][k],
                             positions(starts[0], rates[0] * self._wobble(), self.length))
        sources = [self._source(i, start, rate, level) for i, start, rate in zip(
            self.data["morph_sources"][k], starts, rates)]
        past = audio
        if rng.random() < DEVIATED:
            into = self._hiss(audio) if rng.random() < ITSELF else rng.choice(sources).audio
            past = self._deviated(audio, into)
        return Crop(audio, past, sources, _weights(float(self.data["morph_share"][k]), rng))

    def _mix(self, start: float, level: float) -> Crop:
        """Two random notes: the first, coloured by the second."""
        rng = self.rng
        share = rng.choice([1 / 3, rng.uniform(0.1, 0.5)])
        lead, other = rng.choice(self.notes, 2)
        rate, effect = self._rate(self.stage.semitones), self._effect()
        sources = [self._source(lead, start, rate, level, effect),
                   self._source(other, start, self._rate(self.stage.semitones), level)]
        audio = self._drifted(sources[0], lead, start, rate, level, effect)
        audio = coloured(audio, sources[1].audio, min(1.0, REACH * share))
        return Crop(audio, audio, sources, _weights(share, rng))


class Takes(Crops):
    """Crops of sounds that are encoded whole, as in use, for an encoder that does not learn.

    Each sound is played in a few ways, its takes, which `encode` encodes when the first is needed:
    audio [takes, samples] -> [takes, frames, channels].
    """

    def __init__(self, data, stage: Stage, length: int, rng: np.random.Generator,
                 encode: Callable[[np.ndarray], np.ndarray]):
        super().__init__(data, stage, length, rng)
        self.encode = encode
        self.encoded: dict[int, np.ndarray] = {}
        self.frames = (data["audio"].shape[1] - length // 2) // HOP + 1     # to begin in
        self.levels = [self._level() for _ in range(TAKES)]
        # Generation begins with a sound's first sample.
        self.firsts = rng.integers(1 - HOP, 1, TAKES) * (rng.random(TAKES) < 0.5)
        most = np.where(np.isin(np.arange(len(data["split"])), self.shipped),
                        stage.shipped_semitones, stage.semitones)
        self.rates = np.array([[self._rate(semitones) for semitones in most] for _ in range(TAKES)])

    def __call__(self) -> Crop:
        """Draw one."""
        rng, stage = self.rng, self.stage
        kind = rng.choice(3, p=[stage.notes, stage.shipped, stage.shipped_morphs])
        take, k = rng.integers(TAKES if kind else FEW), self._pair()
        rows = ([rng.choice(self.notes)], [rng.choice(self.shipped)],
                self.data["morph_sources"][k])[kind]
        rates, level = self.rates[take, rows], self.levels[take]
        onsets = NOISY_ONSETS if kind == 2 and self.data["morph_noisy"][k] else ONSETS
        frame = 0 if rng.random() < onsets else int(rng.integers(self.frames))
        starts = self.firsts[take] + HOP * frame * rates
        drawn = (self._morph(k, starts, rates, level) if kind == 2 else
                 (self._shipped if kind else self._note)(rows[0], starts[0], rates[0], level))
        end = frame + self.length // HOP
        drawn.encodings = [self._encodings(i)[take, frame:end] for i in rows]
        return drawn

    def _encodings(self, i: int) -> np.ndarray:
        """Those of all takes of a sound, and of silence after it."""
        if i not in self.encoded:
            count = TAKES if i in self.shipped else FEW
            length = HOP * self.frames + self.length
            self.encoded[i] = self.encode(np.stack([
                level * crop(self.data["audio"][i], positions(first, rate, length))
                for first, level, rate in zip(self.firsts[:count], self.levels, self.rates[:, i])]))
        return self.encoded[i]


@dataclass
class Batch:
    """targets and their pasts [B, T] codes; signals [C, T] to encode; mixing [B, C] their shares in
    the B; pitch [C, frames] MIDI, NaN where none; encodings [C, frames, channels], if known.
    """

    targets: torch.Tensor
    pasts: torch.Tensor
    signals: torch.Tensor
    mixing: torch.Tensor
    pitch: torch.Tensor
    encodings: torch.Tensor | None = None


def batch(crops: Callable[[], Crop], clips: int) -> Batch:
    """Draw a batch; a crop that is its own source is encoded once."""
    targets, pasts, signals, pitch, encodings, rows = [], [], [], [], [], []
    for _ in range(clips):
        drawn = crops()
        targets.append(mu_law(drawn.audio))
        pasts.append(targets[-1] if drawn.past is drawn.audio else mu_law(drawn.past))
        rows.append((len(signals), drawn.shares))
        signals += [mu_law(source.audio) for source in drawn.sources]
        pitch += [source.pitch for source in drawn.sources]
        encodings += drawn.encodings
    mixing = np.zeros((clips, len(signals)), np.float32)
    for row, (first, shares) in zip(mixing, rows):
        row[first:first + len(shares)] = shares
    return Batch(torch.from_numpy(np.stack(targets)), torch.from_numpy(np.stack(pasts)),
                 signal_of(torch.from_numpy(np.stack(signals))), torch.from_numpy(mixing),
                 torch.from_numpy(np.stack(pitch).astype(np.float32)),
                 torch.from_numpy(np.stack(encodings)) if encodings else None)


class Batches(torch.utils.data.IterableDataset):
    """Batches without end, for processes beside the one that trains: a GPU is faster than a core
    draws.
    """

    def __init__(self, crops: Crops, clips: int, seed: int):
        self.crops, self.clips, self.seed = crops, clips, seed

    def __iter__(self) -> Iterator[Batch]:
        """Those of one process: each draws others."""
        worker = torch.utils.data.get_worker_info()
        self.crops.rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        return (batch(self.crops, self.clips) for _ in repeat(None))

    def drawn_by(self, processes: int) -> Iterator[Batch]:
        """The batches of so many processes, in turn."""
        return iter(torch.utils.data.DataLoader(self, batch_size=None, num_workers=processes,
                                                prefetch_factor=4))


def history(pasts: torch.Tensor, encoding: torch.Tensor, network,
            rng: np.random.Generator) -> torch.Tensor:
    """What the decoder hears for each clip: the truth, the truth with some noise or with much (so
    that pitch must come from the encoding), its own guesses, or the truth some mu-law codes off,
    which is how its own guesses are: small errors where the sound is near zero, large ones at its
    peaks.  Some of it fades as well: a decoder that has fallen silent must find its way back.
    """
    heard = signal_of(pasts)
    kinds = rng.choice(5, size=len(pasts), p=[0.12, 0.16, 0.22, 0.14, 0.36])
    for b in np.flatnonzero(kinds == 4):
        off = (CODES_OFF * rng.random() ** 2 * torch.randn_like(heard[b])).round()
        heard[b] = signal_of((pasts[b] + off).clamp(0, 255))
    own = np.flatnonzero(kinds == 3)
    if own.size:
        uniforms = torch.rand(own.size, pasts.shape[1], device=pasts.device)
        guessed = network.sample_once(heard[own], encoding[own].detach(), uniforms)
        # Some of the past true, some guessed: how much differs from clip to clip.
        kept = torch.rand(heard[own].shape, device=heard.device) < float(rng.uniform(0, 0.7))
        heard[own] = torch.where(kept, heard[own], signal_of(guessed))
    for b in np.flatnonzero((kinds == 1) | (kinds == 2)):
        level = rng.uniform(0, NOISE) if kinds[b] == 1 else rng.uniform(NOISE, 6 * NOISE)
        heard[b] += torch.randn_like(heard[b]) * float(level)
    for b in np.flatnonzero(rng.random(len(pasts)) < FADED):
        gain = now_and_then(rng, pasts.shape[1], 1.2).astype(np.float32)
        heard[b] *= torch.from_numpy(gain).to(heard.device)
    return heard


def pitch_features(pitch: torch.Tensor) -> torch.Tensor:
    """Return `measures.circles` of MIDI pitches [...]: [..., 8]."""
    angle = 2 * math.pi * pitch[..., None] / torch.tensor(measures.CIRCLES, device=pitch.device)
    return torch.cat([torch.cos(angle), torch.sin(angle)], -1)


_LOUDNESS = torch.from_numpy(measures.mel_bands(BANDS, 1024).astype(np.float32))


def colour(signals: torch.Tensor) -> torch.Tensor:
    """Levels of a signal in bands, in units of 20 dB: [B, T] -> [B, frames, BANDS]."""
    padded = F.pad(signals, (HOP // 2, HOP // 2))
    spectrum = torch.stft(padded, 1024, HOP, window=torch.hann_window(1024, device=padded.device),
                          center=False, return_complex=True)
    power = _LOUDNESS.to(padded.device) @ spectrum.abs().square() / 1024
    return torch.log10(power + 1e-6).transpose(1, 2) / 2 + 1


def size_of(state: dict[str, np.ndarray]) -> Size:
    """The network's size, from the arrays of a state file."""
    return Size(width=state["ema/res_w"].shape[1], skip=state["ema/skip_w"].shape[2],
                layers=len(state["ema/res_w"]), encoder_width=state["ema/ae_res_w"].shape[1],
                encoder_layers=len(state["ema/ae_res_w"]),
                channels=state["ema/ae_bottleneck_w"].shape[1])


# First and last layers, whose rows are not alike; Adam takes them and all biases.
_ADAM = ("startconv_w", "ae_startconv_w", "logits_w")


class Optimiser:
    """Muon for the matrices, which are stacked [layers, (taps,) in, out], and Adam for the rest."""

    def __init__(self, parameters: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32):
        matrices = {n: p for n, p in parameters.items() if n.endswith("_w") and n not in _ADAM}
        self.rest = {n: p for n, p in parameters.items() if n not in matrices}
        # The taps of a kernel are one matrix.
        self.muon = Muon(matrices, lambda update: update.reshape(
            len(update) if update.ndim > 2 else 1, -1, update.shape[-1]), dtype=dtype)
        self.adam = torch.optim.Adam([*self.rest.values()], betas=(0.9, 0.999), eps=1e-8,
                                     foreach=True)

    def step(self, rate: float) -> None:
        """Apply the gradients; a parameter without one stays."""
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        self.muon.step(rate)

    def state(self) -> dict[str, torch.Tensor]:
        """Arrays to keep, by name."""
        kept = {f"moment/{name}": moment for name, moment in self.muon.moments.items()}
        for name, parameter in self.rest.items():
            kept.update((f"{kind}/{name}", value)
                        for kind, value in self.adam.state.get(parameter, {}).items())
        return kept

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Resume from `state`; what is missing begins at zero."""
        for name, moment in self.muon.moments.items():
            if f"moment/{name}" in state:
                moment.copy_(torch.from_numpy(state[f"moment/{name}"]))
        for name, parameter in self.rest.items():
            kept = {kind: torch.as_tensor(state[f"{kind}/{name}"])
                    for kind in ("exp_avg", "exp_avg_sq", "step") if f"{kind}/{name}" in state}
            if kept:
                self.adam.state[parameter] = {
                    kind: value.clone() if kind == "step" else value.to(parameter.device).clone()
                    for kind, value in kept.items()}


class Trainer:
    """Network, optimiser and moving average, on one device; `folder` has state.npz and log.txt."""

    def __init__(self, size: Size, data, folder: Path, threads: int = 1, seed: int = 0,
                 start: Path | None = None):
        torch.manual_seed(seed)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.data = folder, data
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        state = read_state(start) if start else {}
        self.model = Autoencoder(size_of(state) if state else size, seed).to(self.device)
        if state:
            self.model.load({n: state[f"raw/{n}"] for n in dict(self.model.named_parameters())})
        fused = Fused.build(self.model, threads) if self.device.type == "cpu" else None
        self.network = fused or self.model
        # What is measured is measured in float32.
        self.exact = fused.exact() if fused else self.model
        half = self.exact not in (fused, self.model)    # with fast products in bfloat16
        self.loss = self.network.loss
        if self.device.type == "cuda" and shutil.which("cc") and find_spec("triton"):
            self.loss = torch.compile(self.loss, dynamic=False)
        self.names, self.values = zip(*self.model.named_parameters())
        self.optimiser = Optimiser(dict(self.model.named_parameters()),
                                   torch.bfloat16 if half else torch.float32)
        # A linear probe of pitch and timbre, only for the auxiliary losses that train the
        # encoder to represent them.
        self.head = torch.nn.Linear(self.model.size.channels,
                                    2 * len(measures.CIRCLES) + BANDS).to(self.device)
        self.head_optimiser = torch.optim.Adam(self.head.parameters(), betas=(0.9, 0.99))
        self.watched: Sequence[Watched] = ()
        self.ema = [v.detach().clone() for v in self.values]
        self.steps, self.samples, self.seconds = 0, 0, 0.0
        if state:
            self._restore(state)
        self.rng = np.random.default_rng([seed, self.steps])
        torch.manual_seed(seed + self.steps)

    def _restore(self, state: dict[str, np.ndarray]) -> None:
        self.steps, self.samples = int(state["steps"]), int(state["samples"])
        self.seconds = float(state["seconds"])
        for name, average in zip(self.names, self.ema):
            average.copy_(torch.from_numpy(state[f"ema/{name}"]))
        if "head/weight" in state and state["head/weight"].shape == self.head.weight.shape:
            self.head.load_state_dict({name: torch.from_numpy(state[f"head/{name}"])
                                       for name in ("weight", "bias")})
        self.optimiser.restore(state)

    def save(self, path: Path | None = None) -> Path:
        """Write the state; `.npz` of arrays, no pickle."""
        arrays = dict(steps=self.steps, samples=self.samples, seconds=self.seconds)
        for name, value, average in zip(self.names, self.values, self.ema):
            arrays[f"raw/{name}"] = value.detach().cpu().numpy()
            arrays[f"ema/{name}"] = average.cpu().numpy()
        arrays.update((name, value.cpu().numpy()) for name, value in self.optimiser.state().items())
        arrays.update((f"head/{name}", value.detach().cpu().numpy())
                      for name, value in self.head.named_parameters())
        path = path or self.folder / "state.npz"
        report.write_arrays(path, **arrays)
        return path

    def batches(self, stage: Stage, clips: int, length: int) -> Iterator[Batch]:
        """Batches without end; for a GPU, other processes draw them."""
        crops = Crops(self.data, stage, length, self.rng)
        if self.device.type == "cuda":
            return Batches(crops, clips, int(self.rng.integers(2 ** 31))).drawn_by(
                max(1, (os.cpu_count() or 1) - 2))
        return (batch(crops, clips) for _ in repeat(None))

    def _decoder_loss(self, own: torch.Tensor, targets: torch.Tensor, pasts: torch.Tensor,
                      mixing: torch.Tensor, most: float) -> torch.Tensor:
        """Nats per sample, of the encodings mixed, and the mixed ones with noise of up to `most`
        standard deviations.
        """
        encoding = torch.einsum("bc,cfz->bfz", mixing, own)
        mixed = (mixing > 0).sum(1) > 1
        spread = most * torch.rand(len(mixed), device=self.device) * mixed
        encoding = encoding + spread[:, None, None] * own.detach().std((0, 1)) * (
            torch.randn(encoding.shape, device=self.device))
        heard = history(pasts, encoding, self.network, self.rng)
        return self.loss(heard, targets, encoding)

    def _encoder_loss(self, own: torch.Tensor, signals: torch.Tensor,
                      pitch: torch.Tensor) -> torch.Tensor:
        """How far the linear probe of the encodings is from pitch and spectral envelope."""
        read = self.head(own)
        voiced = torch.isfinite(pitch)
        off = read[..., :-BANDS] - pitch_features(torch.nan_to_num(pitch))
        pitch_loss = (off.square().mean(-1) * voiced).sum() / voiced.sum().clamp(min=1)
        colour_loss = (read[..., -BANDS:] - colour(signals)).square().mean()
        return PITCH_WEIGHT * pitch_loss + COLOUR_WEIGHT * colour_loss

    def step(self, drawn: Batch, rate: float, stage: Stage) -> float:
        """One optimiser step; returns the loss: nats per sample, where the decoder learns."""
        targets, pasts, signals, mixing, pitch = (x.to(self.device) for x in (
            drawn.targets, drawn.pasts, drawn.signals, drawn.mixing, drawn.pitch))
        on_gpu = self.device.type == "cuda"
        scale = GRADIENT_SCALE if on_gpu else 1.0
        with torch.autocast("cuda", torch.float16, enabled=on_gpu):
            if drawn.encodings is None:
                with torch.set_grad_enabled(stage.encoder):
                    own = self.model.encode(signals, self.network.pooled).float()
            else:
                own = drawn.encodings.to(self.device)
            loss = (self._encoder_loss(own, signals, pitch) if stage.encoder else
                    self._decoder_loss(own, targets, pasts, mixing, stage.spread))
        self.model.zero_grad(set_to_none=True)
        self.head_optimiser.zero_grad(set_to_none=True)
        (loss * scale).backward()
        learned = [p.grad for p in (*self.values, *self.head.parameters()) if p.grad is not None]
        if on_gpu:
            torch._foreach_div_(learned, scale)
        norm = torch.nn.utils.clip_grad_norm_(self.values, 1.0)
        if not math.isfinite(float(norm)):
            return math.nan
        self.optimiser.step(rate)
        self.head_optimiser.param_groups[0]["lr"] = 2 * rate
        self.head_optimiser.step()
        self.steps += 1
        self.samples += targets.numel()
        weight = 1 - min(stage.ema, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.ema, [v.detach() for v in self.values], weight)
        return float(loss.detach())

    def _encoded(self, audio: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the mu-law codes, the signal and the encodings of a sound, each [1, ...]."""
        codes = torch.from_numpy(mu_law(audio[:len(audio) // HOP * HOP]))[None].to(self.device)
        signal = signal_of(codes)
        return codes, signal, self.model.encode(signal, self.exact.pooled)

    @torch.no_grad()
    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Encode sounds [n, samples], as a training step does: [n, frames, channels]."""
        signals = signal_of(torch.from_numpy(mu_law(audio))).to(self.device)
        # A few at a time: PyTorch needs 50 MB for each.
        return torch.cat([self.model.encode(part, self.network.pooled)
                          for part in signals.split(8)]).cpu().numpy()

    def nll(self, sounds: Iterable[np.ndarray], temperature: float = 1.0) -> list[float]:
        """Return the NLL of each sound [samples], in nats per sample, with the averaged weights and
        the last layer divided by `temperature`, as `export` does.
        """
        nats = []
        with averaged(self):
            self.model.logits_w.div_(temperature)
            self.model.logits_b.div_(temperature)
            for audio in sounds:
                codes, signal, encoding = self._encoded(audio)
                nats.append(float(self.exact.nats(signal, codes, encoding)))
        return nats

    def validate(self, split: int, length: int) -> float:
        """Return the mean NLL of six fixed crops."""
        rng = np.random.default_rng(1)
        rows = rng.choice(np.flatnonzero(self.data["split"] == split), 6)
        starts = rng.integers(0, self.data["audio"].shape[1] - length, 6)
        return float(np.mean(self.nll(crop(self.data["audio"][i], positions(start, 1.0, length))
                                      for i, start in zip(rows, starts))))

    def run(self, stage: Stage, minutes: float, clips: int, length: int, peak: float) -> None:
        """Train for a time; the learning rate falls from its peak to `END` of it, by a cosine."""
        batches = self.batches(stage, clips, length)
        last = time.monotonic()
        passed = shown = 0.0
        first, before, losses = self.samples, self.seconds, []
        while passed < 60 * minutes:
            fallen = max(0.0, 1 - (1 - passed / (60 * minutes)) / FALL)
            now = peak * min(1.0, (len(losses) + 1) / 30)
            now *= END + (1 - END) * 0.5 * (1 + math.cos(math.pi * fallen))
            losses.append(self.step(next(batches), now, stage))
            # A machine that slept, or a process that was stopped, did not train meanwhile.
            passed += min(time.monotonic() - last, 30.0)
            last = time.monotonic()
            self.seconds = before + passed
            if passed - shown > SAVE_EVERY:
                shown = passed
                self._show(stage, losses, length, (self.samples - first) / passed)
                self.save()
        self._show(stage, losses, length, (self.samples - first) / passed)
        self.save()

    def reading(self, sounds: Sequence[Watched]) -> list[float]:
        """Share of the sounds' frames whose pitch the head reads to 50 cents, octaves aside too."""
        off = []
        with averaged(self):
            for sound in sounds:
                read = self.head(self._encoded(sound.audio)[2])[0, :, :-BANDS]
                found = measures.nearest_pitch(read.cpu().numpy())
                off.append((found - sound.pitch)[np.isfinite(sound.pitch)])
        return [float(measures.within_50_cents(np.concatenate(off), octaves).mean())
                for octaves in (False, True)]

    def beginnings(self, sounds: Sequence[Watched]) -> str:
        """Return the mean NLL of the first quarter second, in total and by folder."""
        nats = np.array(self.nll(sound.audio[:8 * HOP] for sound in sounds))
        groups = np.array([sound.group for sound in sounds])
        means = ", ".join(f"{group} {nats[groups == group].mean():.2f}"
                          for group in dict.fromkeys(groups))
        return f"{nats.mean():.3f} ({means})"

    def _show(self, stage: Stage, losses: list[float], length: int, speed: float) -> None:
        line = (f"{self.seconds / 60:.1f} min, {self.steps} steps, "
                f"{self.samples / 1e6:.1f} M samples ({speed:.0f}/s): "
                f"loss {np.nanmean(losses[-300:]):.3f}")
        if self.watched:
            line += "; unseen sounds' pitch read {:.3f} ({:.3f})".format(
                *self.reading(self.watched))
        if self.watched and not stage.encoder:
            line += ", NLL " + self.beginnings(self.watched)
        if not stage.encoder:
            line += "; held-out notes {:.3f}, bundled sounds {:.3f}".format(
                *(self.validate(split, length) for split in (HELD_OUT_NOTE, SHIPPED)))
        print(line, flush=True)
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            log.write(line + "\n")


@contextlib.contextmanager
def averaged(trainer: Trainer) -> Iterator[None]:
    """The network has its averaged weights inside."""
    with torch.no_grad():
        kept = [value.detach().clone() for value in trainer.values]
        for value, average in zip(trainer.values, trainer.ema):
            value.copy_(average)
        try:
            yield
        finally:
            for value, old in zip(trainer.values, kept):
                value.copy_(old)


@dataclass
class Watched:
    """A sound [samples], its folder's name, and its MIDI pitch in each frame, NaN where it has
    none and in sounds that have one in less than half of their frames.
    """

    audio: np.ndarray
    group: str
    pitch: np.ndarray


def watched_sounds(folder: Path) -> list[Watched]:
    """The 16 kHz WAVs of a folder and of those in it."""
    found = []
    for path in sorted(folder.rglob("*.wav")):
        _, audio = wavfile.read(path)
        audio = audio[:15872] / 32768
        track = measures.pitch_track(audio, path.parent.name)
        pitch = np.full(len(audio) // HOP, np.nan)
        frames = min(len(track.pitch), len(pitch))
        pitch[:frames] = np.where(track.voiced & track.pitched, track.pitch, np.nan)[:frames]
        found.append(Watched(audio, path.parent.name, pitch))
    return found


def data_set(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a data set, rendered if it is missing."""
    if not path.is_file():
        from training.nsynth import broad

        broad.write(path)
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Train; see the module's head."""
    parser = make_parser("training.nsynth.train", __doc__)
    parser.add_argument("--minutes", type=float, required=True, help="training time in minutes")
    parser.add_argument("--stage", choices=[*STAGES], required=True, help="stage to train")
    parser.add_argument("--folder", type=Path, default=RUN, metavar="DIR",
                        help="folder of the data set and the state (default: %(default)s)")
    parser.add_argument("--start", type=Path, metavar="FILE",
                        help="state or exported checkpoint to start from (default: state.npz in "
                             "the folder, if it exists)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N",
                        help="number of processor threads (default: %(default)s)")
    parser.add_argument("--clips", type=int, metavar="N",
                        help="number of crops per step (default: 8, on a GPU 32)")
    parser.add_argument("--length", type=int, default=6144,
                        help="number of samples per crop (default: %(default)s)")
    parser.add_argument("--rate", type=float,
                        help="peak learning rate (default: that of the stage)")
    parser.add_argument("--width", type=int, default=32,
                        help="width of a new decoder (default: %(default)s)")
    parser.add_argument("--encoder-width", type=int, default=64,
                        help="width of a new encoder (default: %(default)s)")
    parser.add_argument("--encoder-layers", type=int, default=20,
                        help="number of layers of a new encoder (default: %(default)s)")
    parser.add_argument("--watch", type=Path, metavar="DIR",
                        help="folder of 16 kHz WAV files that are measured at each save")
    parser.add_argument("--seed", type=int, default=0,
                        help="random seed (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.minutes <= 0 or options.length % 512 or options.length < 512:
        raise InputError("--minutes must be above 0, and --length must be a multiple of 512.")
    data = data_set(options.folder / "data.npz")
    start = options.start or options.folder / "state.npz"
    size = Size(width=options.width, skip=2 * options.width, encoder_width=options.encoder_width,
                encoder_layers=options.encoder_layers)
    trainer = Trainer(size, data, options.folder, options.threads, options.seed,
                      start if options.start or start.is_file() else None)
    trainer.watched = watched_sounds(options.watch) if options.watch else ()
    # What is left beside the fused passes is small: more threads would only wait for it, busily.
    torch.set_num_threads(1 if trainer.network is not trainer.model else options.threads)
    clips = options.clips or (32 if trainer.device.type == "cuda" else 8)
    fused = " (fused)" if trainer.network is not trainer.model else ""
    print(f"{asdict(trainer.model.size)} on {trainer.device}{fused}, from step {trainer.steps}",
          flush=True)
    try:
        trainer.run(STAGES[options.stage], options.minutes, clips, options.length,
                    options.rate or STAGES[options.stage].rate)
    except KeyboardInterrupt:
        trainer.save()
        print(f"\nStopped; the state is saved in {options.folder / 'state.npz'}, and the same "
              "command without --start resumes from it.", file=sys.stderr)
        return STOPPED
    try:
        from training.nsynth import export
    except ImportError:
        print("TensorFlow is not installed: on another machine, export "
              f"{options.folder / 'state.npz'} with python -m training.nsynth.export")
        return 0
    print(export.export([options.folder / "state.npz"], options.folder / "export"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
