"""The bundled sounds in the NSynth starter's data set, and the morphs between pairs of them.

A morph is what a mix of two encodings ought to sound like: it keeps the pitch, the phases and the
timing of the sound that leads, and moves the level of every partial, in decibels, towards the
level that the other sound has at that frequency and time.  The metal hit has no pitch to keep:
where it leads, its modes are tuned towards the other's pitch; where another leads, they ring along
softly.  Where the bass leads, the other rings along, too: of its close harmonics alone one could
hardly tell which sound coloured them.  At equal shares nothing leads, and the partials of both are
heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import fftconvolve

from sounds import make_sounds
from sounds.render import render_notes

SAMPLE_RATE = 16000
SAMPLES = 17600
TRACK_HOP = 64
PEAK = 0.8
# Tonal relatives of the shipped sounds: basses, a bell, a voice, winds.
PROGRAMS = (32, 33, 11, 53, 73, 74)
HELD_OUT_PROGRAMS = (38, 75, 85)
PITCHES = tuple(range(36, 84, 2))
HELD_OUT_PITCHES = (43, 55, 67, 79)
TRAIN, HELD_OUT_NOTE, HELD_OUT_INSTRUMENT, SHIPPED = 0, 1, 2, 3
# The morph goes somewhat further towards the second sound than the encodings' weights say, so
# that a mix is heard as one.
REACH = 2.4
SHIPPED_SHARES = (0.1, 0.2, 0.27, 1 / 3, 0.4, 0.45)
# How often a morph is drawn: more where mixes broke up, and at the share that the default plays;
# there, more again of the pairs that broke up or stayed what leads them.
HARD_LEADS, HARDER, DEFAULT_SHARE = ("bass", "metal"), 2.0, 1 / 3
HARD_PAIRS = (("bass", "metal"), ("bass", "meow"), ("metal", "bass"), ("metal", "meow"),
              ("metal", "flute"))
UNPITCHED, TUNING = "metal", 2.4
LOW = "bass"
# How loud the other rings along, times its share.
RING, RING_OF_LOW = 0.75, 1.9
MOMENT = 32             # samples from one level of a partial to the next


@dataclass
class Partials:
    """A sound as a sum of partials: `frequency` [k, samples] in Hz, `amplitude` [k, samples]
    complex (relative to `phase` [k, samples]), and what is left, `rest` [samples].
    """

    frequency: np.ndarray
    phase: np.ndarray
    amplitude: np.ndarray
    rest: np.ndarray


def partials(audio: np.ndarray, frequency: np.ndarray, width: float) -> Partials:
    """Split audio into partials at known frequencies [k, samples], `width` Hz from each other.

    Each partial is moved to 0 Hz and low-passed by a Hann window two periods of `width` Hz long,
    whose zeros lie at every multiple of `width`: exact for neighbours that far away.
    """
    phase = 2 * np.pi * np.cumsum(frequency, axis=1) / SAMPLE_RATE
    half = int(np.ceil(SAMPLE_RATE / width))
    window = 1 + np.cos(np.pi * np.clip(np.arange(-half, half + 1) * width / SAMPLE_RATE, -1, 1))
    amplitude = fftconvolve(2 * audio * np.exp(-1j * phase), (window / window.sum())[None], "same",
                            axes=1)
    rest = audio - np.sum(np.real(amplitude * np.exp(1j * phase)), axis=0)
    return Partials(frequency, phase, amplitude, rest)


def _harmonics(audio: np.ndarray, f0: np.ndarray) -> Partials:
    count = max(1, min(60, int(7600 / f0.max())))
    return partials(audio, np.arange(1, count + 1)[:, None] * f0, float(f0.mean()))


def level(amplitude: np.ndarray, floor: float = -65.0) -> np.ndarray:
    """Amplitudes in dB, never under a floor."""
    return np.maximum(20 * np.log10(np.abs(amplitude) + 1e-9), floor)


def levels_at(lead: Partials, other: Partials) -> np.ndarray:
    """The other's levels at the lead's partials, dB [k, one moment every `MOMENT` samples].

    Past the other's highest partial its level falls 12 dB per octave.
    """
    wanted, there = lead.frequency[:, ::MOMENT], other.frequency[:, ::MOMENT]
    levels = level(other.amplitude[:, ::MOMENT])
    found = np.stack([np.interp(np.log(wanted[:, t]), np.log(there[:, t]), levels[:, t])
                      for t in range(wanted.shape[1])], axis=1)
    beyond = np.maximum(0, np.log2(wanted / there[-1]))
    return np.maximum(found - 12 * beyond, -65.0)


def morph(lead: Partials, other: Partials, share: float,
          target: np.ndarray | None = None) -> np.ndarray:
    """The sound on the way from one sound to another; see the module's head.

    `share` is 0 (lead as it is) to 1 (levels all other's), `target` the result of `levels_at`.
    """
    target = levels_at(lead, other) if target is None else target
    gain = share * (target - level(lead.amplitude[:, ::MOMENT]))
    time = np.arange(lead.rest.size)
    gain = np.stack([np.interp(time, time[::MOMENT], row) for row in gain])
    gain = 10 ** (np.clip(gain, -40, 30) / 20)
    tone = np.sum(np.real(gain * lead.amplitude * np.exp(1j * lead.phase)), axis=0)
    return tone + 0.3 * (1 - share) * lead.rest


def shipped_morph(pair: tuple[str, str], found: dict[str, Partials], share: float) -> np.ndarray:
    """The morph of two of the shipped sounds, the leading one first; see the module's head."""
    lead, other = (found[name] for name in pair)
    reach = min(1.0, REACH * share)
    if share == 0.5:
        return morph(lead, other, 0.5) + morph(other, lead, 0.5)
    if pair[0] == UNPITCHED:
        return morph(tuned(lead, other.frequency[0], min(1.0, TUNING * share)), other, reach)
    audio = morph(lead, other, reach)
    ring = RING_OF_LOW if pair[0] == LOW else RING if pair[1] == UNPITCHED else 0.0
    return audio + ring * share * morph(other, lead, 1 - reach) if ring else audio


def tuned(sound: Partials, frequency: np.ndarray, share: float) -> Partials:
    """A sound with its lowest partial moved towards a frequency [samples], the others with it."""
    moved = sound.frequency * (frequency / sound.frequency[0]) ** share
    kept = moved.max(axis=1) < 7600
    phase = 2 * np.pi * np.cumsum(moved[kept], axis=1) / SAMPLE_RATE
    return Partials(moved[kept], phase, sound.amplitude[kept], sound.rest)


def _normalise(audio: np.ndarray) -> np.ndarray:
    audio = audio / np.abs(audio).max() * PEAK
    audio[-800:] *= np.linspace(1, 0, 800)
    return audio


def trimmed(audio: np.ndarray) -> np.ndarray | None:
    """`SAMPLES` of a sound from 5 ms before it is heard, at one peak; None if it is silent."""
    peak = np.abs(audio).max(initial=0.0)
    if peak < 1e-3:
        return None
    onset = int(np.argmax(np.abs(audio) > 0.02 * peak))
    audio = np.asarray(audio, float)[max(0, onset - 80):][:SAMPLES]
    return _normalise(np.pad(audio, (0, SAMPLES - audio.size)))


def notes(program: int, pitches: Sequence[int]) -> list[np.ndarray]:
    """Audible notes of a program, trimmed."""
    return [trimmed(note) for note in render_notes(program, pitches, hold=0.95, length=1.3)]


def shipped_partials() -> dict[str, tuple[np.ndarray, Partials]]:
    """The four sounds of `sounds/`, padded to SAMPLES, and their partials, by name."""
    out = {}
    for name in make_sounds.SOUNDS:
        rate, audio = wavfile.read(Path(make_sounds.__file__).parent / f"{name}.wav")
        audio = np.pad(audio / 32768, (0, SAMPLES - audio.size))
        if name == UNPITCHED:
            modes = 311.0 * np.array([1.0, 2.756, 5.404, 8.933, 13.34])
            found = partials(audio, np.repeat(modes[:, None], SAMPLES, 1), 250.0)
        elif name == "meow":
            pitch = np.pad(make_sounds.meow_pitch(), (0, SAMPLES - audio.size + 1600), mode="edge")
            found = _harmonics(audio, pitch[:SAMPLES])
        else:
            midi = {"bass": make_sounds.BASS_PITCH, "flute": make_sounds.FLUTE_PITCH}[name]
            found = _harmonics(audio, np.full(SAMPLES, 440 * 2 ** ((midi - 69) / 12)))
        out[name] = audio, found
    return out


def shipped_track(name: str) -> np.ndarray:
    """MIDI pitch of a shipped sound every TRACK_HOP samples; NaN for the metal hit."""
    track = np.full(SAMPLES // TRACK_HOP, np.nan, np.float32)
    if name == "meow":
        glide = 69 + 12 * np.log2(make_sounds.meow_pitch()[::TRACK_HOP] / 440)
        track[:] = np.pad(glide, (0, track.size - glide.size), mode="edge")
    elif name != UNPITCHED:
        track[:] = {"bass": make_sounds.BASS_PITCH, "flute": make_sounds.FLUTE_PITCH}[name]
    return track


def near() -> dict[str, np.ndarray]:
    """The held-out notes, the bundled sounds (program 128.., pitch 0) and the morphs between them.

    `audio` int16 [n, SAMPLES]; `program`, `pitch`, `split` int16 [n]; `track` float32
    [n, SAMPLES / TRACK_HOP], the MIDI pitch over time, NaN for none; `morph_audio` int16
    [m, SAMPLES]; `morph_sources` int32 [m, 2], rows of `audio`, main one first; `morph_share`
    float32 [m], the second's share of the mix; `morph_weight` float32 [m], how often it is drawn.
    """
    audio, labels = [], []
    for program in PROGRAMS + HELD_OUT_PROGRAMS:
        split = HELD_OUT_INSTRUMENT if program in HELD_OUT_PROGRAMS else HELD_OUT_NOTE
        for pitch, note in zip(HELD_OUT_PITCHES, notes(program, HELD_OUT_PITCHES)):
            audio.append(note)
            labels.append((program, pitch, split))
    sounds, first = shipped_partials(), len(audio)
    for k, (sound, _) in enumerate(sounds.values()):
        audio.append(sound)
        labels.append((128 + k, 0, SHIPPED))
    found = {name: partials for name, (_, partials) in sounds.items()}
    morphs, sources, shares, weights = [], [], [], []
    for i, j in permutations(range(len(sounds)), 2):
        pair = (list(sounds)[i], list(sounds)[j])
        for share in SHIPPED_SHARES + ((0.5,) if i < j else ()):
            morphs.append(_normalise(shipped_morph(pair, found, share)))
            sources.append((first + i, first + j))
            shares.append(share)
            hard = int(pair[0] in HARD_LEADS)
            if share == DEFAULT_SHARE:
                hard += 1 + (pair in HARD_PAIRS)
            weights.append(HARDER ** hard)
    program, pitch, split = np.array(labels, np.int16).T
    track = np.repeat(pitch[:, None].astype(np.float32), SAMPLES // TRACK_HOP, axis=1)
    for k, name in enumerate(sounds):
        track[first + k] = shipped_track(name)
    return dict(audio=int16(audio), program=program, pitch=pitch, split=split, track=track,
                morph_audio=int16(morphs), morph_sources=np.array(sources, np.int32),
                morph_share=np.array(shares, np.float32),
                morph_weight=np.array(weights, np.float32))


def int16(audio: Sequence[np.ndarray]) -> np.ndarray:
    """Return float audio as 16-bit integers."""
    return np.round(np.clip(np.stack(audio), -1, 1) * 32767).astype(np.int16)
