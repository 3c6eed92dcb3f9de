"""Render the NSynth starter's data set: `python -m training.nsynth.broad [--output FILE]`.

The data set has notes of every General MIDI program, drum kits, recordings and sounds of our own
synthesis, in addition to the bundled sounds and their morphs (`training.nsynth.data`).  It is one
.npz file of int16 audio at 16 kHz.  All of it may be used to train weights under the MIT licence:

- FluidR3 GM (MIT; Debian package fluid-soundfont-gm), MuseScore General (MIT and CC0;
  musescore-general-soundfont-small) and the GM bank of Csound (public domain; csound-soundfont);
- the samples of Sonic Pi (CC0; sonic-pi-samples), except for the 14 that the evaluation uses;
- plucked strings, frequency modulation, sums of partials and filtered noise, which we synthesise.

`measures.f0_track` measures the pitch frame by frame, because a program may sound at another pitch
than its note.  Where it finds no pitch, the track is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from sounds.render import render_notes, soundfont
from training import command, make_parser, measures, report
from training.nsynth import data

SAMPLE_RATE, SAMPLES, TRACK_HOP = data.SAMPLE_RATE, data.SAMPLES, data.TRACK_HOP
MUSESCORE = Path("/usr/share/sounds/sf3/MuseScore_General_Lite.sf3")
CSOUND = Path("/usr/share/sounds/sf2/sf_GMbank.sf2")
SONIC_PI = Path("/usr/share/sonic-pi/samples")
# How much we render: notes of FluidR3 every STEP semitones at these VELOCITIES, notes of the other
# SoundFonts every OTHER_STEP semitones, and so many synthetic sounds.
STEP, VELOCITIES, OTHER_STEP, SYNTHETIC_COUNT = 2, (120, 90, 50), 6, 3000
DRUM_KITS = (0, 8, 16, 24, 25, 32, 40, 48)
# Of Sonic Pi's samples, those that the evaluation tries.
TRIED = ("ambi_glass_hum", "perc_bell", "bass_hard_c", "bass_thick_c", "bass_woodsy_c",
         "bass_voxy_c", "tabla_ghe1", "perc_door", "misc_crow", "vinyl_scratch", "ambi_swoosh",
         "loop_amen", "loop_garzul", "guit_em9")
# Kinds of rows, as `program` tells them, beside 0..127 of General MIDI and 128..131, the shipped.
DRUM, RECORDING, SYNTHETIC = 140, 141, 142


def heard_pitch(audio: np.ndarray) -> np.ndarray:
    """MIDI pitch of a sound every `TRACK_HOP` samples, NaN where it has none."""
    frequency, clarity, level = measures.f0_track(audio, fmin=50.0, hop=256)
    if np.mean(clarity[level > 0.02] > 0.9) < 0.5:      # a bass?
        low = measures.f0_track(audio, fmin=30.0, hop=256)
        if np.mean(low[1][low[2] > 0.02] > 0.9) > 0.5:
            frequency, clarity, level = low
    clear = (clarity > 0.9) & (level > 0.01)
    pitch = np.where(clear, measures.midi(frequency), np.nan)
    # A frame of the tracker is about 1000 samples long: its pitch is that of its middle.
    at = (np.arange(SAMPLES // TRACK_HOP) * TRACK_HOP - 480) / 256
    return pitch[np.clip(np.round(at).astype(int), 0, len(pitch) - 1)].astype(np.float32)


def notes(step: int, velocities: Sequence[int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Program, pitch and audio of the fonts' notes, drums (`DRUM`) among them."""
    sets = [(soundfont(), step, velocity) for velocity in velocities]
    sets += [(font, OTHER_STEP, 100) for font in (MUSESCORE, CSOUND)]
    for font, step, velocity in sets:
        wanted = [(program, pitch) for program in range(128) for pitch in range(30, 87, step)
                  if program not in data.HELD_OUT_PROGRAMS
                  and not (program in data.PROGRAMS and pitch in data.HELD_OUT_PITCHES)]
        for first in range(0, len(wanted), 200):
            part = wanted[first:first + 200]
            audio = render_notes(*zip(*part), velocity=velocity, hold=0.95, length=1.3, font=font)
            yield from ((*label, note) for label, note in zip(part, audio))
        for kit in DRUM_KITS:
            drums = render_notes(kit, range(35, 82), velocity=velocity, length=1.3, bank=128,
                                 font=font)
            yield from ((DRUM, key, drum) for key, drum in zip(range(35, 82), drums))


def recordings() -> Iterator[np.ndarray]:
    """Up to four seconds, one by one, of each of Sonic Pi's samples."""
    import soundfile
    import soxr

    for path in sorted(SONIC_PI.glob("*.flac")):
        if path.stem in TRIED:
            continue
        audio, rate = soundfile.read(path, always_2d=True)
        audio = soxr.resample(audio.mean(1), rate, SAMPLE_RATE)
        for start in range(0, max(1, min(len(audio), 4 * SAMPLE_RATE) - SAMPLE_RATE // 2),
                           SAMPLE_RATE):
            if np.abs(audio[start:start + SAMPLES]).max() > 0.05 * np.abs(audio).max():
                yield audio[start:start + SAMPLES]


def _envelope(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """An attack, then a fall or none, and a release."""
    attack = 10 ** rng.uniform(-3, -0.8)
    fall = np.exp(-time / 10 ** rng.uniform(-1.2, 0.3)) if rng.random() < 0.6 else 1.0
    return np.minimum(1, time / attack) * fall * np.clip((rng.uniform(0.5, 1.1) - time) / 0.05,
                                                         0, 1)


def _frequency(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """A pitch of 40 to 1100 Hz, at times with vibrato or a glide."""
    low, high = 40.0, 1100.0
    semitones = np.zeros(time.size)
    if rng.random() < 0.4:
        semitones += rng.uniform(0.05, 0.6) * np.sin(2 * np.pi * rng.uniform(3, 8) * time
                                                     + rng.uniform(0, 6))
    if rng.random() < 0.2:
        semitones += np.linspace(0, rng.uniform(-7, 7), time.size)
    return low * (high / low) ** rng.random() * 2 ** (semitones / 12)


def plucked(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """A string after Karplus and Strong, tuned by an allpass."""
    period = SAMPLE_RATE / float(_frequency(rng, time)[0])
    whole = int(period - 0.6)
    rest = period - whole - 0.5
    bright, stays = rng.uniform(0.5, 1.0), 0.999 - 10 ** rng.uniform(-4, -2)
    # The loop: a delay, an average of two neighbours, an allpass of `rest` samples.
    a = (1 - rest) / (1 + rest)
    average = stays * np.array([bright, 1 - bright])
    numerator = np.convolve(average, [a, 1.0])
    denominator = np.zeros(whole + 3)
    denominator[:2] = [1.0, a]
    denominator[whole:whole + 3] -= numerator
    burst = np.zeros(time.size)
    burst[:whole] = lfilter([1], [1, -rng.uniform(0, 0.9)], rng.uniform(-1, 1, whole))
    return lfilter([1.0, a], denominator, burst)


def modulated(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """One sine modulates another's phase."""
    phase = 2 * np.pi * np.cumsum(_frequency(rng, time)) / SAMPLE_RATE
    ratio = rng.choice([0.5, 1, 1, 1, 2, 3, 4, 5, 7, 1.4142, 3.5])
    index = rng.uniform(0.3, 8) * (np.exp(-time / rng.uniform(0.05, 1)) if rng.random() < 0.5
                                   else 1.0)
    return np.sin(phase + index * np.sin(ratio * phase)) * _envelope(rng, time)


def additive(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Partials whose levels fall at some slope, with gaps and formants; a little noise."""
    frequency = _frequency(rng, time)
    count = max(1, int(7600 / frequency.max()))
    number = np.arange(1, min(count, 60) + 1)
    level = number ** -rng.uniform(0, 2.0) * 10 ** (rng.normal(0, rng.uniform(0, 8), number.size)
                                                    / 20)
    if rng.random() < 0.3:
        level[1::2] *= rng.uniform(0, 0.3)              # a clarinet's or a square's
    for centre in rng.uniform(300, 4000, rng.integers(0, 3)):
        level *= 1 + 6 * np.exp(-((number * frequency.mean() - centre) / 200) ** 2)
    phase = 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE
    tone = sum(a * np.sin(n * phase + p) for a, n, p in
               zip(level, number, rng.uniform(0, 2 * np.pi, number.size)))
    breath = rng.standard_normal(time.size) * np.std(tone) * 10 ** rng.uniform(-3.5, -0.5)
    return (tone + breath) * _envelope(rng, time)


def noise(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Noise through a few resonances, steady or in bursts."""
    audio = rng.standard_normal(time.size)
    for _ in range(rng.integers(1, 4)):
        radius, angle = 1 - 10 ** rng.uniform(-2.5, -0.2), rng.uniform(0.02, 3.0)
        audio = lfilter([1, -rng.uniform(-1, 1)], [1, -2 * radius * np.cos(angle), radius ** 2],
                        audio)
    return audio * _envelope(rng, time)


def synthetic(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Sounds of our own, of four kinds in turn."""
    time = np.arange(SAMPLES) / SAMPLE_RATE
    for k in range(count):
        yield (additive, plucked, modulated, additive, noise)[k % 5](rng, time)


def render(step: int, velocities: Sequence[int]) -> dict:
    """Render the broad data; the arrays are those of `data.near`."""
    audio, labels, tracks = [], [], []

    def keep(sound: np.ndarray, program: int, pitch: int = 0) -> None:
        sound = data.trimmed(sound)
        if sound is None:
            return
        audio.append(np.round(sound * 32767).astype(np.int16))
        labels.append((program, pitch))
        tracks.append(heard_pitch(sound))
        if len(audio) % 500 == 0:
            print(f"{len(audio)} sounds", flush=True)

    for program, pitch, note in notes(step, velocities):
        keep(note, program, pitch)
    for cut in recordings():
        keep(cut, RECORDING)
    for sound in synthetic(SYNTHETIC_COUNT, np.random.default_rng(0)):
        keep(sound, SYNTHETIC)
    near, first = data.near(), len(audio)
    program, pitch = np.array(labels, np.int16).T
    mine = dict(audio=np.stack(audio), program=program, pitch=pitch,
                split=np.full(first, data.TRAIN, np.int16), track=np.stack(tracks))
    joined = {name: np.concatenate([rows, near[name]]) for name, rows in mine.items()}
    return {**near, **joined, "morph_sources": near["morph_sources"] + first}


def write(path: Path, step: int = STEP, velocities: Sequence[int] = VELOCITIES) -> None:
    """Render the data set to a file."""
    report.write_arrays(path, **render(step, velocities))


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Render the data set; see the module's head."""
    parser = make_parser("training.nsynth.broad", __doc__)
    parser.add_argument("--output", type=Path, default=Path("training/runs/nsynth/data.npz"),
                        metavar="FILE", help="file of the data set (default: %(default)s)")
    parser.add_argument("--step", type=int, default=STEP, metavar="SEMITONES",
                        help="semitones from one note of a program to the next (default: "
                             "%(default)s)")
    parser.add_argument("--velocities", type=int, nargs="+", default=VELOCITIES,
                        metavar="V", help="MIDI velocities of each note (default: 120 90 50)")
    options = parser.parse_args(arguments)
    write(options.output, options.step, options.velocities)
    print(f"{options.output} ({options.output.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    raise SystemExit(main())
