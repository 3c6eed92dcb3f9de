"""Make the data set for fine-tuning: the sounds, their pitch, their partials and their morphs.

A pitched sound is decomposed into its harmonics, along a pitch track of `librosa.pyin` that the
phases of the harmonics refine.  A sound without a pitch is decomposed into bands of 125 Hz, whose
levels are its spectral envelope.  In a morph, a band takes the place of a partial (`data.morph`),
and the pitched sound is mixed in quietly.

The data set also has rehearsal notes, so that the network does not forget what a pitch is:
`notes.flac`, and the four sounds of `sounds/`.  `python -m training.nsynth.own` makes `notes.flac`
from the FluidR3 General MIDI SoundFont (MIT licence).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve

from synths.files import writing
from training import command, make_parser, measures
from training.nsynth import data

SAMPLE_RATE = data.SAMPLE_RATE
NOTES_FILE = Path(__file__).with_name("notes.flac")
NOTES = tuple((program, pitch) for program in data.PROGRAMS for pitch in data.PITCHES[::3])
HELD_OUT_NOTES = tuple((program, pitch) for program in data.PROGRAMS for pitch in (55, 67))
SHARES = (0.2, 1 / 3, 0.4, 0.5)     # of the second sound; a third is what example 1 mixes
SILENT, LOUD = 1e-3, 0.45           # peaks
LOUDNESS = 0.9                      # the peak that a quiet sound gets, as example 1's --level does
TAIL = 1600                         # samples of silence after a sound
LOWEST, HIGHEST = 30.0, 3000.0      # Hz, of a pitch
BAND = 125.0                        # Hz, of a sound without pitch
NARROW = 60.0                       # Hz, of a harmonic: a window of 33 ms
CLEAR, PITCHED = 0.8, 0.5           # of a frame's periodicity; of a sound's loud frames
NOISY = 0.1                         # share of a sound's energy that is not in its harmonics
# How much of a sound's noise is in the mixes that it leads; of a noisy one less, since in what is
# played noise begets noise.
RUSTLE, FAINT = 0.3, 0.1
# How many times as often a mix is drawn if a noisy sound leads it, or is the second one in it.
LED, SECOND = 6.0, 2.0
STEADY = 3200                       # samples of a Hann window, half as long at half its height
# How much of a pitched sound is heard in the mix that a sound without pitch leads, for each unit of
# its share.
BESIDE = 1.5
_FRAME, _HOP = 2048, 128


@dataclass
class Own:
    """A sound to be learned."""

    audio: np.ndarray               # [samples], with a peak of `LOUD` or more
    level: float                    # times `audio`: as loud as its file
    frequency: np.ndarray | None    # Hz [samples]; None for a sound that has no pitch
    clear: np.ndarray               # bool [samples]: where the pitch is heard
    found: data.Partials            # its harmonics, or its bands

    @functools.cached_property
    def noisy(self) -> bool:
        """Whether it has a pitch, but is noise besides, as a hoarse voice is."""
        return self.frequency is not None and (
            float(np.sum(self.found.rest ** 2)) > NOISY * float(np.sum(self.audio ** 2)))

    @functools.cached_property
    def steady(self) -> data.Partials:
        """Its partials without the noise that lies in them: the levels of a tenth of a second, each
        with one phase.
        """
        window = np.hanning(STEADY)
        power = fftconvolve(np.abs(self.found.amplitude) ** 2, (window / window.sum())[None],
                            "same", axes=1)
        phase = np.angle(self.found.amplitude.sum(axis=1, keepdims=True))
        return replace(self.found, amplitude=np.sqrt(np.maximum(power, 0.0)) * np.exp(1j * phase))


def row_length(seconds: float) -> int:
    """Samples of a row of the data set: the sound, and silence after it."""
    return -(-(round(seconds * SAMPLE_RATE) + TAIL) // data.TRACK_HOP) * data.TRACK_HOP


def periodicity(audio: np.ndarray, frequency: np.ndarray, hop: int) -> np.ndarray:
    """How well a sound repeats itself after a period, in frames of 1024 samples around each hop.

    A tone is over 0.9, noise about 0, normalised as in McLeod and Wyvill, A smarter way to find
    pitch, ICMC 2005.
    """
    size, edge = 1024, 1024 + int(SAMPLE_RATE / LOWEST)
    padded = np.pad(audio, edge)
    out = np.zeros(len(frequency))
    for i, hertz in enumerate(frequency):
        period = SAMPLE_RATE / hertz
        start = edge + i * hop - int(size + period) // 2
        first = padded[start:start + size]
        for lag in (int(period), int(period) + 1):
            second = padded[start + lag:start + lag + size]
            energy = first @ first + second @ second
            out[i] = max(out[i], 2 * (first @ second) / energy if energy > 1e-9 else 0.0)
    return out


def pitch_track(audio: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the pitch in Hz [samples], led through where it is not heard, and where it is heard.

    The pitch is None if fewer than half of the loud frames (30 dB) are periodic.
    """
    import librosa

    audio = np.asarray(audio, float)
    frequency, voiced, _ = librosa.pyin(audio, fmin=LOWEST, fmax=HIGHEST, sr=SAMPLE_RATE,
                                        frame_length=_FRAME, hop_length=_HOP, fill_na=None)
    frequency = np.asarray(frequency)
    level = librosa.feature.rms(y=audio, frame_length=1024, hop_length=_HOP)[0][:len(frequency)]
    loud = level > level.max() * 10 ** (-30 / 20)
    steady = np.abs(np.diff(np.log2(frequency), prepend=np.log2(frequency[0]))) < 1 / 12
    clear = loud & steady & (periodicity(audio, frequency, _HOP) > CLEAR)
    time = np.arange(len(audio))
    nothing = np.zeros(len(audio), bool)
    if clear.sum() < max(3, PITCHED * loud.sum()):
        return None, nothing
    frames = np.arange(len(frequency)) * _HOP
    # A hoarse sound has a pitch where it does not repeat itself, too.
    known = clear | (loud & steady & voiced)
    log = np.interp(frames, frames[known], np.log(frequency[known]))
    smooth = np.hanning(9)[1:-1]
    log = np.convolve(np.pad(log, 3, mode="edge"), smooth / smooth.sum(), "valid")
    track = np.exp(np.interp(time, frames, log))
    heard = clear[np.minimum((time + _HOP // 2) // _HOP, len(clear) - 1)]
    for _ in range(2):
        track = _refined(audio, track, heard)
    return track, heard


def _refined(audio: np.ndarray, track: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """A pitch track corrected by how fast the phases of the lowest harmonics turn beside it."""
    count = max(1, min(8, int(7000 / track.max())))
    number = np.arange(1, count + 1)[:, None]
    amplitude = data.partials(audio, number * track, float(track.mean())).amplitude
    step = 64
    turn = np.angle(amplitude[:, step:] * np.conj(amplitude[:, :-step])) / (2 * np.pi * step)
    energy = np.abs(amplitude[:, step // 2:][:, :turn.shape[1]]) ** 2 * heard[
        step // 2:][:turn.shape[1]]
    window = np.hanning(960)
    off = np.convolve(np.sum(number * energy * turn, axis=0), window, "same")
    weight = np.convolve(np.sum(number ** 2 * energy, axis=0), window, "same")
    # A harmonic that is not there turns at random: the sums forget it, and what is far off is none.
    hertz = SAMPLE_RATE * off / np.maximum(weight, 1e-6 * weight.max() + 1e-12)
    hertz = np.pad(hertz, (step // 2, step - step // 2), mode="edge")
    return track + np.clip(hertz, -0.015 * track, 0.015 * track)


def take_apart(audio: np.ndarray, frequency: np.ndarray | None) -> data.Partials:
    """The harmonics of a sound, or the bands of one that has no pitch."""
    if frequency is None:
        bands = np.arange(BAND / 2, 7600, BAND)
        return data.partials(audio, np.repeat(bands[:, None], audio.size, axis=1), BAND)
    count = max(1, min(60, int(7600 / frequency.max())))
    # Narrow: what lies between the harmonics of a high sound is noise, and goes into the rest.
    return data.partials(audio, np.arange(1, count + 1)[:, None] * frequency,
                         min(float(frequency.mean()), NARROW))


def prepare(audio: np.ndarray, length: int) -> Own:
    """Take a sound apart; `length` samples with silence after it."""
    peak = float(np.abs(audio).max())
    level = 1.0 if peak >= LOUD else peak / LOUDNESS
    audio = np.pad(audio / level, (0, length - audio.size))
    frequency, clear = pitch_track(audio)
    return Own(audio, level, frequency, clear, take_apart(audio, frequency))


def morph(lead: Own, other: Own, share: float) -> np.ndarray:
    """Return how the mix of two encodings ought to sound; `share` is the second's.

    At equal shares neither leads, and both are heard.
    """
    reach = min(1.0, data.REACH * share)
    if share == 0.5:
        return coloured(lead, other, 0.5) + coloured(other, lead, 0.5)
    audio = coloured(lead, other, reach)
    if lead.frequency is None:
        return audio + BESIDE * share * coloured(other, lead, share)
    if other.frequency is None:
        return audio + data.RING * share * coloured(other, lead, 1 - reach)
    return audio


def coloured(lead: Own, other: Own, share: float) -> np.ndarray:
    """Return the `data.morph` of two sounds; its partials are as loud in total as the main sound's.

    Otherwise, frequencies that the other sound lacks would leave only the noise next to them.
    """
    found = replace(lead.steady if lead.noisy else lead.found, rest=np.zeros_like(lead.found.rest))
    tone = data.morph(found, other.found, share, colour(lead, other))
    own = lead.audio - lead.found.rest
    gain = np.sqrt(np.mean(own ** 2) / max(np.mean(tone ** 2), 1e-9))
    return gain * tone + (FAINT if lead.noisy else RUSTLE) * (1 - share) * lead.found.rest


def colour(lead: Own, other: Own) -> np.ndarray:
    """The levels that a sound's partials are moved towards by another, as `data.levels_at`.

    A bass has nothing where a high sound has its harmonics: all of them would go down to one level,
    which is a buzz.  So of two pitched sounds the levels in the order of harmonics count as well.
    """
    # A weak partial's level flickers, and would make noise of what it colours.
    levels = data.levels_at(lead.found, other.steady)
    if lead.frequency is not None and other.frequency is not None:
        order = data.level(other.steady.amplitude[:len(levels), ::data.MOMENT])
        levels[:len(order)] = np.maximum(levels[:len(order)], order)
    return levels


def read_notes(length: int, file: Path = NOTES_FILE) -> dict[str, np.ndarray]:
    """Return the rehearsal notes, joined where a row of `length` samples is longer than they are.

    `audio` [n, length], `split` [n], `track` float32 [n, length / TRACK_HOP].
    """
    import soundfile

    sound, _ = soundfile.read(file)
    notes = list(sound.reshape(-1, data.SAMPLES))
    tracks = [np.full(data.SAMPLES // data.TRACK_HOP, pitch, np.float32)
              for _, pitch in NOTES + HELD_OUT_NOTES]
    split = [data.TRAIN] * len(NOTES) + [data.HELD_OUT_NOTE] * len(HELD_OUT_NOTES)
    for name, (shipped, _) in data.shipped_partials().items():
        notes.append(shipped)
        tracks.append(data.shipped_track(name))
        split.append(data.TRAIN)
    chosen, times = np.array(split), -(-length // data.SAMPLES)
    rows = np.zeros((len(split), times), int)
    for kind in set(split):
        alike = np.flatnonzero(chosen == kind)
        rows[alike] = np.stack([np.roll(alike, -5 * k) for k in range(times)], axis=1)
    audio, track = (np.stack(each)[rows].reshape(len(rows), -1) for each in (notes, tracks))
    return dict(audio=audio[:, :length], split=chosen, track=track[:, :length // data.TRACK_HOP])


def render(sounds: Mapping[str, np.ndarray], seconds: float) -> dict[str, np.ndarray]:
    """Make the data set from sounds [samples], by name.

    The arrays are those of `data.near`, with the own sounds in place of the bundled ones
    (`split` 3); and `own` int [sounds], the row of each as loud as its file, `pitched` bool
    [sounds], `morph_noisy` bool [m], whether a noisy sound leads.
    """
    length = row_length(seconds)
    notes = read_notes(length)
    audio, split, track = (list(notes[key]) for key in ("audio", "split", "track"))
    own = [prepare(sound, length) for sound in sounds.values()]
    loud: list[int] = []
    native: list[int] = []
    for sound in own:
        pitch = np.full(length // data.TRACK_HOP, np.nan, np.float32)
        if sound.frequency is not None:
            heard = sound.clear[::data.TRACK_HOP]
            pitch[heard] = measures.midi(sound.frequency[::data.TRACK_HOP][heard])
        loud.append(len(audio))
        # A quiet sound is learned as loud as its file, and at the level that --level gives it.
        for level in dict.fromkeys([1.0, sound.level]):
            audio.append(level * sound.audio)
            split.append(data.SHIPPED)
            track.append(pitch)
        native.append(len(audio) - 1)
    morphs, sources, shares, weights, rough = [], [], [], [], []
    for i, j in permutations(range(len(own)), 2):
        for share in SHARES if i < j else SHARES[:-1]:
            made = morph(own[i], own[j], share)
            for a, b in dict.fromkeys([(loud[i], loud[j]), (native[i], native[j])]):
                peaks = [np.abs(audio[row]).max() for row in (a, b)]
                peak = peaks[0] ** (1 - share) * peaks[1] ** share
                morphs.append(made / np.abs(made).max() * peak)
                sources.append((a, b))
                shares.append(share)
                often = LED if own[i].noisy else SECOND if own[j].noisy else 1.0
                weights.append(often * data.HARDER ** (share == data.DEFAULT_SHARE))
                rough.append(own[i].noisy)
    return dict(audio=data.int16(audio), split=np.array(split, np.int16),
                track=np.array(track, np.float32), morph_audio=data.int16(morphs),
                morph_sources=np.array(sources, np.int32), morph_share=np.array(shares, np.float32),
                morph_weight=np.array(weights, np.float32), morph_noisy=np.array(rough),
                own=np.array(native), pitched=np.array([o.frequency is not None for o in own]))


def write_notes(path: Path = NOTES_FILE) -> Path:
    """Render the notes to remember by as one FLAC file, one after the other."""
    import soundfile

    rows = []
    for chosen in (NOTES, HELD_OUT_NOTES):
        for program in data.PROGRAMS:
            rows.append(data.notes(program, tuple(p for q, p in chosen if q == program)))
    with writing(path) as file:
        soundfile.write(file, np.concatenate(rows).reshape(-1), SAMPLE_RATE, format="FLAC",
                        subtype="PCM_16")
    return path


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Render the notes; see the module's head."""
    parser = make_parser("training.nsynth.own", __doc__)
    parser.add_argument("--output", type=Path, default=NOTES_FILE, metavar="FILE",
                        help="file of the rehearsal notes (default: %(default)s)")
    options = parser.parse_args(arguments)
    path = write_notes(options.output)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    raise SystemExit(main())
