"""NSynth: sounds to encodings and back, without TensorFlow.

Stands in for `magenta.models.nsynth.wavenet.fastgen`: the same weights, the same arithmetic, and
with the same random numbers the same samples.  A clip's samples depend on its own encoding and
random numbers alone, never on its neighbours.

Source: Engel et al., "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders" (2017);
Magenta 2.1.4, `magenta/models/nsynth/wavenet/h512_bo16.py`, `fastgen.py`, `masked.py`, and
`magenta/models/nsynth/utils.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from synths import InputError
from synths.nsynth.wavenet_variables import HOP_LENGTH, INT8_WIDTH, sizes
from synths.weights import checkpoints

SAMPLE_RATE = 16000     # Hz
PRECISIONS = ("auto", "float32", "int8")

# What int8 may lose before `auto` declines it: nats per sample.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Decoding:
    """How to decode, in addition to Magenta's arguments.

    Parameters
    ----------
    seed : int
        The same seed gives the same sounds.
    streams : sequence of str, optional
        Key of each clip's random-number stream, so that a clip does not depend on the others.
        None: the clip's index.
    temperature : float
        Below 1 the likely samples become likelier (less noise, less life).
    precision : str
        "float32", "int8", or "auto": what `choose_precision` chooses on the reference audio, and
        float32 without any.
    threads : int, optional
        None: all cores.
    fade : float
        Seconds faded in and out at both ends of each file; 0 leaves the samples as Magenta does.
    resume : bool
        Skip finished files and continue unfinished ones from their mu-law codes.
    """

    seed: int = 0
    streams: Sequence[str] | None = None
    temperature: float = 1.0
    precision: str = "auto"
    threads: int | None = None
    fade: float = 0.0
    resume: bool = False


def progress_bar(label: str, samples: int, done: int = 0) -> tqdm:
    """Return a progress bar in samples; hidden for the first two seconds of work."""
    quiet = bool(os.environ.get("TQDM_DISABLE")) or None  # None: hidden off a terminal
    return tqdm(desc=label, total=samples, initial=done, unit=" samples", unit_scale=True, delay=2,
                leave=False, disable=quiet)


# mu-law --------------------------------------------------------------------------------------


def mu_law(audio: np.ndarray) -> np.ndarray:
    """Mu-law codes of samples, as `magenta.models.nsynth.utils.mu_law`.

    Parameters
    ----------
    audio : array
        Samples in -1..1.

    Returns
    -------
    int16 array
        Codes in -128..127.  (Magenta gives a sample of exactly 1 the code 128, which no output of
        the network stands for; here it is 127.)
    """
    return np.clip(_mu_law(audio), -128, 127).astype(np.int16)


def _mu_law(audio: np.ndarray) -> np.ndarray:
    x = np.asarray(audio, np.float32)
    y = np.sign(x) * np.log(1 + 255 * np.abs(x)) / np.float32(np.log(256))
    return np.floor(y * 128)


def inverse_mu_law(codes: np.ndarray) -> np.ndarray:
    """Samples of mu-law codes, as `magenta.models.nsynth.utils.inv_mu_law_numpy`.

    Parameters
    ----------
    codes : array of integers
        In -128..127.

    Returns
    -------
    float32 array
        Samples in -0.979..0.979: the middle of each code's range, and exactly 0 for code 0.
    """
    codes = np.asarray(codes)
    y = (codes.astype(np.float32) + np.float32(0.5)) * np.float32(2) / np.float32(256)
    x = np.sign(y) / np.float32(255) * (np.float32(256) ** np.abs(y) - 1)
    return np.where(codes == 0, np.float32(0), x).astype(np.float32)


_SAMPLES = inverse_mu_law(np.arange(256) - 128)


def draw_uniforms(seed: int, clips: int | Sequence[str], samples: int) -> np.ndarray:
    """Random numbers for `decode`: a stream for each clip, so that none depends on the others.

    Parameters
    ----------
    seed : int
        At least 0.
    clips : int or sequence of str
        How many clips, told apart by their place; or what each clip is (its identity), so that the
        same clip has the same numbers in any batch.
    samples : int

    Returns
    -------
    float64 [clips, samples]
        In [0, 1); a row depends on `seed` and on its place or identity alone, and a longer row
        begins with the shorter.
    """
    streams = _streams(seed, clips)
    return np.array([stream.random(samples) for stream in streams]).reshape(len(streams), samples)


def _streams(seed: int, clips: int | Sequence[int | str]) -> list[np.random.Generator]:
    if seed < 0:
        raise InputError(f"The seed must be a whole number, 0 or more, not {seed}.")
    keys = [(clip,) if isinstance(clip, int) else
            tuple(np.frombuffer(hashlib.sha256(clip.encode("utf-8", "surrogateescape")).digest(),
                                "<u4").tolist())
            for clip in (range(clips) if isinstance(clips, int) else clips)]
    return [np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
            for key in keys]


class Uniforms:
    """The array of `draw_uniforms`, drawn as it is read: its memory does not grow with the clips.

    Parameters
    ----------
    seed : int
    clips : int or sequence of int or str
        As for `draw_uniforms`; or the places of some clips.
    """

    def __init__(self, seed: int, clips: int | Sequence[int | str]) -> None:
        self._drawn = 0
        self._rows = _streams(seed, clips)

    def __getitem__(self, places: tuple[slice, slice]) -> np.ndarray:
        """The columns [:, first:last], none of them before those that were read last."""
        first, last = places[1].start, places[1].stop
        for row in self._rows:
            row.bit_generator.advance(first - self._drawn)  # type: ignore[attr-defined]
        self._drawn = last
        return np.array([row.random(last - first) for row in self._rows])


# Encoding ------------------------------------------------------------------------------------


def encode(wav_data: np.ndarray, checkpoint_path: str | Path | None = None,
           sample_length: int = 64000, *, threads: int | None = None) -> np.ndarray:
    """Encode sounds, as Magenta's `fastgen.encode`.

    Parameters
    ----------
    wav_data : float [batch, samples] or [samples]
        Mono, 16 kHz, in -1..1.
    checkpoint_path : str, Path or None
        A checkpoint of NSynth: whatever `checkpoints.find` takes.
    sample_length : int
        At most this many samples are encoded; rounded down to a multiple of 512.
    threads : int, optional
        None: all cores.

    Returns
    -------
    float32 [batch, frames, channels]
        One vector (16 channels in the official weights) for each 512 samples.

    Raises
    ------
    InputError
        The audio has another shape, is shorter than 512 samples, or is not finite.
    CheckpointError
        The checkpoint cannot be used.
    """
    from synths.nsynth import wavenet_encoder

    wav_data = _check_audio(wav_data)
    length = min(sample_length, wav_data.shape[1]) // HOP_LENGTH * HOP_LENGTH
    if length < HOP_LENGTH:
        raise InputError(f"NSynth needs at least {HOP_LENGTH} samples, and there are only "
                         f"{min(sample_length, wav_data.shape[1])}: use a longer sound.")
    codes = _mu_law(wav_data[:, :length])
    encoder = wavenet_encoder.load(checkpoints.find(checkpoint_path, "nsynth"))
    with progress_bar(f"encoding {len(codes)} sounds", codes.size) as bar:
        return encoder.encode(codes / np.float32(128), _threads(threads), bar)


def _check_audio(wav_data: np.ndarray) -> np.ndarray:
    wav_data = np.asarray(wav_data)
    if wav_data.ndim == 1:
        wav_data = wav_data[None]
    if wav_data.ndim != 2 or wav_data.dtype.kind not in "fiu" or not wav_data.shape[0]:
        raise InputError("Audio must be an array of numbers [batch, samples] or [samples], not of "
                         f"shape {wav_data.shape} and type {wav_data.dtype}.")
    if wav_data.dtype.kind != "f":
        raise InputError(f"Audio must be floating point from -1 to 1, not {wav_data.dtype}: "
                         "divide it by the largest value of its type.")
    if not np.isfinite(wav_data).all():
        raise InputError("The audio holds values that are not finite numbers: repair the sound.")
    return wav_data


# Decoding ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A stretch of sound that `decode_blocks` has finished."""

    clips: slice                # rows of the batch
    samples: slice
    codes: np.ndarray           # uint8 [clips, samples], mu-law codes 0..255

    @property
    def audio(self) -> np.ndarray:
        """The sound, float32 [clips, samples]."""
        return sound_of(self.codes)


def sound_of(codes: np.ndarray) -> np.ndarray:
    """Samples, float32, of mu-law codes counted from 0."""
    return _SAMPLES[codes]


def decode_blocks(encodings: np.ndarray, checkpoint_path: str | Path | None,
                  uniforms: np.ndarray, precision: str = "float32", *, temperature: float = 1.0,
                  threads: int | None = None) -> Iterator[Block]:
    """As `decode`, a block of 512 samples of some clips at a time.

    Arguments are checked at once; the sound is made as the iterator is read.  Large batches are cut
    into groups of clips, decoded one after the other.

    Yields
    ------
    Block
        In order of time within each group of clips.
    """
    encodings = check_encodings(encodings)
    uniforms = _check_uniforms(uniforms, encodings)
    return stream(encodings, checkpoint_path, lambda clips: uniforms[clips], precision,
                  temperature, threads)


def stream(encodings: np.ndarray, checkpoint_path: str | Path | None,
           uniforms: Callable[[slice], np.ndarray | Uniforms], precision: str, temperature: float,
           threads: int | None, made: np.ndarray | None = None) -> Iterator[Block]:
    """As `decode_blocks`, for encodings that are checked.

    Parameters
    ----------
    encodings, checkpoint_path, precision, temperature, threads
        As for `decode_blocks`.
    uniforms : callable
        Takes a group of clips; returns its random numbers.
    made : uint8 [clips, frames * 512], optional
        Mu-law codes of the clips' beginnings: the blocks after them are yielded.

    Raises
    ------
    InputError
        An argument's value is not as above.
    """
    if precision not in PRECISIONS[1:]:
        raise InputError(f"The precision must be float32 or int8, not {precision!r}.")
    if not temperature > 0 or not np.isfinite(temperature):
        raise InputError(f"The temperature must be above 0, not {temperature}.")
    prefix = checkpoints.find(checkpoint_path, "nsynth")
    width, layers, channels = sizes(prefix)
    if encodings.shape[2] != channels:
        raise InputError(f"This checkpoint needs encodings of {channels} channels, and these have "
                         f"{encodings.shape[2]}: encode the sounds with the same checkpoint.")
    threads = _threads(threads)

    def blocks() -> Iterator[Block]:
        from synths.nsynth import decoder as wavenet  # llvmlite takes a third of a second

        decoder = None
        for clips in wavenet.groups(width, layers, len(encodings)):
            if decoder is None or decoder.batch != clips.stop - clips.start:
                decoder = None      # frees the old one's memory first
                decoder = wavenet.Decoder(prefix, clips.stop - clips.start, precision,
                                          temperature, threads)
            start = 0 if made is None else made.shape[1]
            for codes in decoder.generate(encodings[clips], uniforms(clips),
                                          None if made is None else made[clips]):
                yield Block(clips, slice(start, start + HOP_LENGTH), codes)
                start += HOP_LENGTH
    return blocks()


def decode(encodings: np.ndarray, checkpoint_path: str | Path | None, uniforms: np.ndarray,
           precision: str = "auto", *, temperature: float = 1.0, threads: int | None = None,
           reference_audio: np.ndarray | None = None) -> np.ndarray:
    """Decode encodings to sounds.

    Parameters
    ----------
    encodings : float [batch, frames, channels] or [frames, channels]
        From `encode`, or mixes of such.
    checkpoint_path : str, Path or None
        A checkpoint of NSynth: whatever `checkpoints.find` takes.
    uniforms : float [batch, frames * 512]
        Random numbers in [0, 1) that choose the samples, such as `draw_uniforms` gives.
    precision : str
        "float32": Magenta's samples, as far as float32 goes (where a random number comes within
        about 1e-6 of the edge between two codes, rounding decides, here as there, and from that
        sample on two runs of the two programs may differ).  "int8": several times faster on large
        networks.  "auto": see `choose_precision`; float32 where there is no `reference_audio`.
    temperature : float
        Below 1 the likely samples become likelier (less noise, less life).
    threads : int, optional
        None: all cores.
    reference_audio : float [batch, samples], optional
        The sounds that were encoded, for "auto" to judge by.

    Returns
    -------
    float32 [batch, frames * 512]
        16 kHz, in -0.979..0.979.

    Raises
    ------
    InputError
        An argument's shape or values are not as above.
    CheckpointError
        The checkpoint cannot be used.
    """
    encodings = check_encodings(encodings)
    uniforms = _check_uniforms(uniforms, encodings)
    precision = settle(precision, checkpoint_path, reference_audio, threads)
    blocks = decode_blocks(encodings, checkpoint_path, uniforms, precision,
                           temperature=temperature, threads=threads)
    audio = np.zeros([len(encodings), encodings.shape[1] * HOP_LENGTH], np.float32)
    with progress_bar(f"decoding {len(audio)} clips", audio.size) as bar:
        for block in blocks:
            audio[block.clips, block.samples] = block.audio
            bar.update(block.audio.size)
    return audio


def check_encodings(encodings: np.ndarray) -> np.ndarray:
    """Return encodings as float32 [batch, frames, channels].

    Raises
    ------
    InputError
        They are of another shape, or not finite.
    """
    try:
        encodings = np.asarray(encodings, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError("Encodings must form one array of numbers [batch, frames, channels]: "
                         "check that they are equally long.") from error
    if encodings.ndim == 2:
        encodings = encodings[None]
    if encodings.ndim != 3 or 0 in encodings.shape:
        raise InputError("Encodings must have the shape [batch, frames, channels] or "
                         f"[frames, channels], not {encodings.shape}.")
    if not np.isfinite(encodings).all():
        raise InputError("The encodings hold values that are not finite numbers: encode the sounds "
                         "again.")
    return encodings


def _check_uniforms(uniforms: np.ndarray, encodings: np.ndarray) -> np.ndarray:
    uniforms = np.asarray(uniforms)
    if uniforms.ndim == 1:
        uniforms = uniforms[None]
    shape = (len(encodings), encodings.shape[1] * HOP_LENGTH)
    if uniforms.shape != shape or uniforms.dtype.kind != "f":
        raise InputError(f"The uniform random numbers must have the shape {shape}, one for each "
                         f"sample, not {uniforms.dtype} of shape {uniforms.shape}.")
    if not ((uniforms >= 0) & (uniforms < 1)).all():
        raise InputError("Uniform random numbers must be from 0 to 1, 0 included and 1 excluded.")
    return uniforms


def _threads(threads: int | None) -> int:
    from synths.engines.litert import available_threads

    if threads is not None and threads < 1:
        raise InputError(f"The number of threads must be at least 1, not {threads}.")
    return min(threads or available_threads(), available_threads())


# Precision -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """What `choose_precision` found."""

    precision: str                  # "float32" or "int8"
    reason: str                     # a sentence
    float32: float | None = None    # mean nats per sample, where it was measured
    int8: float | None = None


def choose_precision(wav_data: np.ndarray, checkpoint_path: str | Path | None, *,
                     threads: int | None = None, samples: int = 2048) -> Choice:
    """The precision for decoding sounds: int8 only where it proves itself on them.

    The loudest stretch of every sound is scored under its own encoding (see `nll`) in both
    precisions; int8 is chosen if the means differ by at most `TOLERANCE` nats per sample.

    Parameters
    ----------
    wav_data : float [batch, samples] or [samples]
        The sounds whose encodings will be decoded.
    checkpoint_path : str, Path or None
    threads : int, optional
    samples : int
        The length of a stretch, rounded up to a multiple of 512.
    """
    wav_data = _check_audio(wav_data)
    prefix = checkpoints.find(checkpoint_path, "nsynth")
    if sizes(prefix)[0] < INT8_WIDTH:
        return Choice("float32", "float32, because int8 is no faster on a network this small.")
    frames = max(wav_data.shape[1] // HOP_LENGTH, 1)
    wav_data = wav_data[:, :frames * HOP_LENGTH]
    encodings = encode(wav_data, prefix, wav_data.shape[1], threads=threads)
    n = min(-(-samples // HOP_LENGTH), frames)
    power = np.square(wav_data).reshape(len(wav_data), frames, HOP_LENGTH).sum(axis=2)
    power = np.cumsum(np.pad(power, [(0, 0), (1, 0)]), axis=1)
    starts = np.argmax(power[:, n:] - power[:, :-n], axis=1)
    sounds = np.stack([wav[s * HOP_LENGTH:(s + n) * HOP_LENGTH]
                       for wav, s in zip(wav_data, starts)])
    vectors = np.stack([encoding[s:s + n] for encoding, s in zip(encodings, starts)])
    exact, quick = (float(_nll(sounds, vectors, prefix, precision, threads).mean())
                    for precision in ("float32", "int8"))
    good = abs(quick - exact) <= TOLERANCE
    reason = (f"{'int8' if good else 'float32'}, because int8 "
              f"{'keeps to' if good else 'strays from'} float32 on these sounds: {quick:.4f} and "
              f"{exact:.4f} nats per sample, {TOLERANCE} apart allowed.")
    return Choice("int8" if good else "float32", reason, exact, quick)


def settle(precision: str, checkpoint_path, reference_audio, threads) -> str:
    """What "auto" stands for: see `choose_precision`.

    Raises
    ------
    InputError
        There is no such precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"The precision must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, "
                         f"not {precision!r}.")
    if precision != "auto":
        return precision
    if reference_audio is None:
        return "float32"
    return choose_precision(reference_audio, checkpoint_path, threads=threads).precision


def nll(wav_data: np.ndarray, checkpoint_path: str | Path | None, precision: str = "float32", *,
        threads: int | None = None) -> np.ndarray:
    """Return the negative log-likelihood (NLL) of sounds, given their own encodings.

    Teacher forced: every sample is predicted from the true samples before it.

    Parameters
    ----------
    wav_data : float [batch, samples] or [samples]
        Mono, 16 kHz, in -1..1; trimmed to a multiple of 512 samples.
    checkpoint_path : str, Path or None
        A checkpoint of NSynth: whatever `checkpoints.find` takes.
    precision : str
        "float32" or "int8", for the decoder.
    threads : int, optional
        None: all cores.

    Returns
    -------
    float64 [batch]
        Mean nats per sample; guessing evenly among 256 codes would give ln 256 = 5.545.

    Raises
    ------
    InputError
        An argument's value is not as above.
    """
    wav_data = _check_audio(wav_data)
    if precision not in PRECISIONS[1:]:
        raise InputError(f"The precision must be float32 or int8, not {precision!r}.")
    encodings = encode(wav_data, checkpoint_path, wav_data.shape[1], threads=threads)
    wav_data = wav_data[:, :encodings.shape[1] * HOP_LENGTH]
    return _nll(wav_data, encodings, checkpoint_path, precision, threads)


def _nll(wav_data, encodings, checkpoint_path, precision, threads) -> np.ndarray:
    from synths.nsynth import wavenet

    scorer = wavenet.Scorer(checkpoints.find(checkpoint_path, "nsynth"), precision,
                            _threads(threads))
    result = np.empty(len(wav_data))
    for i, (wav, encoding) in enumerate(zip(wav_data, encodings)):
        result[i] = scorer.nll((mu_law(wav) + 128).astype(np.uint8), encoding).mean()
    return result
