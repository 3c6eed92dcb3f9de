"""Encode and decode sounds with NSynth, without TensorFlow.

This module replaces `magenta.models.nsynth.wavenet.fastgen`.  It uses the same weights and the same
arithmetic, and produces the same samples from the same random numbers.  A clip's samples depend
only on its own encoding and random numbers, not on the other clips of the batch.

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
from synths.sounds import checked
from synths.weights import checkpoints

PRECISIONS = ("auto", "float32", "int8")

# Largest NLL difference between int8 and float32 at which "auto" chooses int8, in nats per sample.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Decoding:
    """Settings for decoding that Magenta does not have.

    Parameters
    ----------
    seed : int
        Random seed.  The same seed gives the same sounds.
    streams : sequence of str, optional
        Key of each clip's random-number stream, so that a clip does not depend on the others.
        None: the clip's index.
    temperature : float
        Values below 1 make likely samples even likelier: less noise, but duller sounds.
    precision : str
        "float32", "int8" or "auto".  "auto" uses the result of `choose_precision` for the
        reference audio, or float32 if there is none.
    threads : int, optional
        Number of threads.  None: all cores.
    fade : float
        Length in seconds of the fade-in and fade-out of each file.  0: no fades, as in Magenta.
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
    """Return a progress bar that counts samples and stays hidden for the first two seconds."""
    quiet = bool(os.environ.get("TQDM_DISABLE")) or None  # None: hidden without a terminal
    return tqdm(desc=label, total=samples, initial=done, unit=" samples", unit_scale=True, delay=2,
                leave=False, disable=quiet)


# mu-law --------------------------------------------------------------------------------------


def mu_law(audio: np.ndarray) -> np.ndarray:
    """Return the mu-law codes of samples, like `magenta.models.nsynth.utils.mu_law`.

    Parameters
    ----------
    audio : array
        Samples in -1..1.

    Returns
    -------
    int16 array
        Mu-law codes in -128..127.  A sample of exactly 1 gets the code 127.  Magenta gives it 128,
        which the network cannot output.
    """
    return np.clip(_mu_law(audio), -128, 127).astype(np.int16)


def _mu_law(audio: np.ndarray) -> np.ndarray:
    x = np.asarray(audio, np.float32)
    y = np.sign(x) * np.log(1 + 255 * np.abs(x)) / np.float32(np.log(256))
    return np.floor(y * 128)


def inverse_mu_law(codes: np.ndarray) -> np.ndarray:
    """Return the samples of mu-law codes, like `magenta.models.nsynth.utils.inv_mu_law_numpy`.

    Parameters
    ----------
    codes : array of integers
        Mu-law codes in -128..127.

    Returns
    -------
    float32 array
        Samples in -0.979..0.979: the centre of each code's interval, but exactly 0 for code 0.
    """
    codes = np.asarray(codes)
    y = (codes.astype(np.float32) + np.float32(0.5)) * np.float32(2) / np.float32(256)
    x = np.sign(y) / np.float32(255) * (np.float32(256) ** np.abs(y) - 1)
    return np.where(codes == 0, np.float32(0), x).astype(np.float32)


_SAMPLES = inverse_mu_law(np.arange(256) - 128)


def draw_uniforms(seed: int, clips: int | Sequence[str], samples: int) -> np.ndarray:
    """Draw the uniform random numbers for `decode`, from a separate stream for each clip.

    Parameters
    ----------
    seed : int
        Seed, at least 0.
    clips : int or sequence of str
        Number of clips, or one key for each clip.  A clip's random numbers depend only on the
        seed and on its key (by default its index), not on the other clips.
    samples : int
        Number of samples per clip.

    Returns
    -------
    float64 [clips, samples]
        Numbers in [0, 1).  A row depends only on `seed` and on the clip's index or key.  With more
        `samples`, a row starts with the same numbers.
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
    """The array of `draw_uniforms` for all or some clips, drawn piece by piece to save memory."""

    def __init__(self, seed: int, clips: int | Sequence[int | str]) -> None:
        self._drawn = 0
        self._rows = _streams(seed, clips)

    def __getitem__(self, places: tuple[slice, slice]) -> np.ndarray:
        """Return the columns [:, first:last].  They must follow the columns of earlier reads."""
        first, last = places[1].start, places[1].stop
        for row in self._rows:
            row.bit_generator.advance(first - self._drawn)  # type: ignore[attr-defined]
        self._drawn = last
        return np.array([row.random(last - first) for row in self._rows])


# Encoding ------------------------------------------------------------------------------------


def encode(wav_data: np.ndarray, checkpoint_path: str | Path | None = None,
           sample_length: int = 64000, *, threads: int | None = None) -> np.ndarray:
    """Encode sounds, like Magenta's `fastgen.encode`.

    Parameters
    ----------
    wav_data : float [batch, samples] or [samples]
        Mono audio at 16 kHz, in -1..1.
    checkpoint_path : str, Path or None
        NSynth checkpoint, in any form that `checkpoints.find` accepts.
    sample_length : int
        Maximum number of samples to encode, rounded down to a multiple of 512.
    threads : int, optional
        Number of threads.  None: all cores.

    Returns
    -------
    float32 [batch, frames, channels]
        One vector (16 channels in the official weights) for every 512 samples.

    Raises
    ------
    InputError
        If the audio has another shape, is shorter than 512 samples, or is not finite.
    CheckpointError
        If the checkpoint cannot be used.
    """
    from synths.nsynth import wavenet_encoder

    wav_data = _check_audio(wav_data)
    length = min(sample_length, wav_data.shape[1])
    if length < HOP_LENGTH:
        raise InputError(f"NSynth needs at least {HOP_LENGTH} samples, but there are only {length}"
                         ": use a longer sound.")
    codes = _mu_law(wav_data[:, :length // HOP_LENGTH * HOP_LENGTH])
    encoder = wavenet_encoder.Encoder(checkpoints.find(checkpoint_path, "nsynth"))
    with progress_bar("encoding the sounds", codes.size) as bar:
        return encoder.encode(codes / np.float32(128), _threads(threads), bar)


def _check_audio(wav_data: np.ndarray) -> np.ndarray:
    dtype = np.asarray(wav_data).dtype
    if dtype.kind in "iu":
        raise InputError(f"Audio must be floating point from -1 to 1, not {dtype}: divide it by "
                         "the largest value of its type.")
    return checked(wav_data, 2, "Audio", batch=True)


# Decoding ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A block of audio that `decode_blocks` has finished."""

    clips: slice                # rows of the batch
    samples: slice
    codes: np.ndarray           # uint8 [clips, samples], mu-law codes 0..255

    @property
    def audio(self) -> np.ndarray:
        """The audio, float32 [clips, samples]."""
        return sound_of(self.codes)


def sound_of(codes: np.ndarray) -> np.ndarray:
    """Return the float32 samples of mu-law codes in 0..255."""
    return _SAMPLES[codes]


def decode_blocks(encodings: np.ndarray, checkpoint_path: str | Path | None,
                  uniforms: np.ndarray, precision: str = "float32", *, temperature: float = 1.0,
                  threads: int | None = None) -> Iterator[Block]:
    """Decode like `decode`, but yield blocks of 512 samples of some of the clips.

    The arguments are checked at once, but the audio is generated as the iterator is read.  Large
    batches are split into groups of clips, which are decoded one after the other.

    Yields
    ------
    Block
        The blocks of each group of clips, in chronological order.
    """
    encodings = check_encodings(encodings)
    uniforms = _check_uniforms(uniforms, encodings)
    decoding = Decoding(precision=precision, temperature=temperature, threads=threads)
    return stream(encodings, checkpoint_path, lambda clips: uniforms[clips], decoding)


def stream(encodings: np.ndarray, checkpoint_path: str | Path | None,
           uniforms: Callable[[slice], np.ndarray | Uniforms], decoding: Decoding,
           made: np.ndarray | None = None) -> Iterator[Block]:
    """Decode like `decode_blocks`, but take encodings that have been checked already.

    `uniforms` returns the random numbers of a group of clips.  `made` [clips, frames * 512] has the
    mu-law codes of the first frames; only the blocks after them are yielded.
    """
    precision, temperature = decoding.precision, decoding.temperature
    _check_precision(precision, PRECISIONS[1:])
    if not temperature > 0 or not np.isfinite(temperature):
        raise InputError(f"The temperature must be above 0, not {temperature}.")
    prefix = checkpoints.find(checkpoint_path, "nsynth")
    width, layers, channels = sizes(prefix)
    if encodings.shape[2] != channels:
        raise InputError(f"This checkpoint needs encodings of {channels} channels, but these have "
                         f"{encodings.shape[2]}: encode the sounds with this checkpoint.")
    threads = _threads(decoding.threads)

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
           precision: str = "float32", *, temperature: float = 1.0, threads: int | None = None,
           ) -> np.ndarray:
    """Decode encodings to sounds.

    Parameters
    ----------
    encodings : float [batch, frames, channels] or [frames, channels]
        Encodings from `encode`, or mixes of them.
    checkpoint_path : str, Path or None
        NSynth checkpoint, in any form that `checkpoints.find` accepts.
    uniforms : float [batch, frames * 512]
        Random numbers in [0, 1) that choose the samples, for example from `draw_uniforms`.
    precision : str
        "float32" gives Magenta's samples, up to rounding.  If a random number is within about 1e-5
        of the boundary between two codes, rounding decides, and later samples may differ.  "int8"
        is several times as fast on large networks; `choose_precision` tests its accuracy.
    temperature : float
        Values below 1 make likely samples even likelier: less noise, but duller sounds.
    threads : int, optional
        Number of threads.  None: all cores.

    Returns
    -------
    float32 [batch, frames * 512]
        Audio at 16 kHz, in -0.979..0.979.

    Raises
    ------
    InputError
        If the shape or values of an argument are not as described above.
    CheckpointError
        If the checkpoint cannot be used.
    """
    encodings = check_encodings(encodings)
    blocks = decode_blocks(encodings, checkpoint_path, uniforms, precision,
                           temperature=temperature, threads=threads)
    audio = np.zeros([len(encodings), encodings.shape[1] * HOP_LENGTH], np.float32)
    with progress_bar("decoding the clips", audio.size) as bar:
        for block in blocks:
            audio[block.clips, block.samples] = block.audio
            bar.update(block.audio.size)
    return audio


def check_encodings(encodings: np.ndarray) -> np.ndarray:
    """Return encodings as float32 [batch, frames, channels], after checking them."""
    return checked(encodings, 3, "An array of encodings [batch, frames, channels]", batch=True)


def _check_uniforms(uniforms: np.ndarray, encodings: np.ndarray) -> np.ndarray:
    uniforms = np.asarray(uniforms)
    if uniforms.ndim == 1:
        uniforms = uniforms[None]
    shape = (len(encodings), encodings.shape[1] * HOP_LENGTH)
    if uniforms.shape != shape or uniforms.dtype.kind != "f":
        raise InputError(f"The uniform random numbers must be floats of shape {shape}, one for "
                         f"each sample, not {uniforms.dtype} of shape {uniforms.shape}.")
    if not ((uniforms >= 0) & (uniforms < 1)).all():
        raise InputError("Uniform random numbers must be at least 0 and less than 1.")
    return uniforms


def _threads(threads: int | None) -> int:
    from synths.engines.litert import available_threads

    if threads is not None and threads < 1:
        raise InputError(f"The number of threads must be at least 1, not {threads}.")
    return min(threads or available_threads(), available_threads())


# Precision -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """The result of `choose_precision`."""

    precision: str                  # "float32" or "int8"
    reason: str                     # a sentence
    float32: float | None = None    # mean NLL in nats per sample, if it was measured
    int8: float | None = None


def choose_precision(wav_data: np.ndarray, checkpoint_path: str | Path | None, *,
                     threads: int | None = None, samples: int = 2048) -> Choice:
    """Choose int8 for decoding if it is about as accurate as float32 on the given sounds.

    The NLL of the loudest section of every sound is computed in both precisions (see `nll`).  If
    the means differ by at most `TOLERANCE` nats per sample, int8 is chosen.

    Parameters
    ----------
    wav_data : float [batch, samples] or [samples]
        The sounds whose encodings will be decoded.
    checkpoint_path : str, Path or None
    threads : int, optional
    samples : int
        Length of a section, rounded up to a multiple of 512.
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
    reason = (f"{'int8' if good else 'float32'}, because int8 is "
              f"{'as accurate as' if good else 'less accurate than'} float32 on these sounds: "
              f"{quick:.4f} and {exact:.4f} nats per sample (allowed difference: {TOLERANCE}).")
    return Choice("int8" if good else "float32", reason, exact, quick)


def _check_precision(precision: str, allowed: Sequence[str]) -> None:
    if precision not in allowed:
        raise InputError(f"The precision must be {' or '.join(allowed)}, not {precision!r}.")


def settle(precision: str, checkpoint_path, reference_audio, threads) -> str:
    """Return the precision to use, after resolving "auto" with `choose_precision`."""
    _check_precision(precision, PRECISIONS)
    if precision != "auto":
        return precision
    if reference_audio is None:
        return "float32"
    return choose_precision(reference_audio, checkpoint_path, threads=threads).precision


def nll(wav_data: np.ndarray, checkpoint_path: str | Path | None, precision: str = "float32", *,
        threads: int | None = None) -> np.ndarray:
    """Return the negative log-likelihood (NLL) of sounds, given their own encodings.

    The network is teacher-forced: it predicts every sample from the true samples before it.

    Parameters
    ----------
    wav_data : float [batch, samples] or [samples]
        Mono audio at 16 kHz, in -1..1, trimmed to a multiple of 512 samples.
    checkpoint_path : str, Path or None
        NSynth checkpoint, in any form that `checkpoints.find` accepts.
    precision : str
        Precision of the decoder: "float32" or "int8".
    threads : int, optional
        Number of threads.  None: all cores.

    Returns
    -------
    float64 [batch]
        Mean NLL in nats per sample.  The uniform baseline is ln 256 = 5.545.

    Raises
    ------
    InputError
        If an argument is not as described above.
    """
    wav_data = _check_audio(wav_data)
    _check_precision(precision, PRECISIONS[1:])
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
