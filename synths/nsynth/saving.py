"""Decode encodings into files, and keep unfinished clips so that a later run can resume them.

Only the mu-law codes of the clips that are being decoded are held in memory.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from synths import InputError, files
from synths.nsynth.decoding import (
    HOP_LENGTH,
    Decoding,
    Uniforms,
    check_encodings,
    progress_bar,
    settle,
    sound_of,
    stream,
)
from synths.sounds import SAMPLE_RATE
from synths.weights import checkpoints

_MAGIC = b"NSynth codes 1\n\0"
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size
_RECORD = HOP_LENGTH + 4    # bytes: a frame's codes and their checksum
# Clips whose progress differs by at most this many frames resume together, from the earliest.
_TOGETHER = 16


def synthesize(encodings: np.ndarray, save_paths: Iterable[str | Path],
               checkpoint_path: str | Path | None = None, samples_per_save: int = 10000, *,
               decoding: Decoding = Decoding(), reference_audio: np.ndarray | None = None,
               ) -> None:
    """Decode encodings into 16-bit WAV files at 16 kHz, like Magenta's `fastgen.synthesize`.

    While a clip is unfinished, its samples are saved to `partial_path`.  This happens
    after every `samples_per_save` samples (in a long clip, whenever it has grown by a quarter), and
    after a KeyboardInterrupt.  The mu-law codes are saved frame by frame to `codes_path`, 16 kB per
    second, so that a later call can resume.  Both files are removed when the clip is finished.
    Magenta, in contrast, starts with silent files of full length.

    Parameters
    ----------
    encodings : float [batch, frames, channels] or [frames, channels]
    save_paths : iterable of str or Path
        One file for each clip.  The folders must exist.
    checkpoint_path : str, Path or None
        NSynth checkpoint, in any form that `checkpoints.find` accepts.
    samples_per_save : int
        Number of samples between two saves of an unfinished clip.  Values below 512 act like 512.
    decoding : Decoding
        Seed, random streams, temperature, precision, threads, fade and resume.  A resumed call
        gives the same files as an uninterrupted one.
    reference_audio : float [sounds, samples], optional
        The sounds that were encoded, on which the precision "auto" compares int8 with float32.

    Raises
    ------
    InputError
        As for `decode`, or if the number of paths differs from that of the encodings, if two
        paths are equal, or if a folder does not exist.
    CheckpointError
        If the checkpoint cannot be used.
    """
    encodings = check_encodings(encodings)
    paths = _checked_paths(save_paths, len(encodings))
    if samples_per_save < 1:
        raise InputError(f"samples_per_save must be at least 1, not {samples_per_save}.")
    keys: Sequence[int | str] = (range(len(paths)) if decoding.streams is None
                                else decoding.streams)
    if len(keys) != len(paths):
        raise InputError(f"There are {len(paths)} clips but {len(keys)} random-number streams: "
                         "give one stream for each clip.")
    length = encodings.shape[1] * HOP_LENGTH
    prefix = checkpoints.find(checkpoint_path, "nsynth")
    todo = [i for i, path in enumerate(paths) if not (decoding.resume and path.is_file())]
    precision = settle(decoding.precision, prefix, reference_audio if todo else None,
                       decoding.threads)
    weights = prefix.with_name(prefix.name + ".index").read_bytes()     # has all checksums
    settings = (precision, float(decoding.temperature))
    clips = [_Clip(path, length, decoding.fade, samples_per_save,
                   [weights, encoding.tobytes(),
                    *(repr(setting).encode("utf-8", "surrogateescape")
                      for setting in (decoding.seed, key, *settings))])
             for path, encoding, key in zip(paths, encodings, keys)]
    for i in todo if decoding.resume else ():
        clips[i].load()

    def numbers(together: list[int], part: slice) -> Uniforms:
        return Uniforms(decoding.seed, [keys[i] for i in together[part]])

    runs = []
    for group in _groups([clips[i].kept for i in todo]):
        together = [todo[i] for i in group]
        made = min(clips[i].kept for i in together)
        runs.append(([clips[i] for i in together], stream(
            encodings[together], prefix,
            functools.partial(numbers, together), replace(decoding, precision=precision),
            np.stack([clips[i].codes[:made] for i in together]) if made else None)))
    for i, clip in enumerate(clips):    # all arguments are checked by now
        clip.begin(new=i in todo and not clip.kept)
    done = length * (len(clips) - len(todo)) + sum(
        min(clip.kept for clip in rows) * len(rows) for rows, _ in runs)
    with progress_bar("decoding the clips", length * len(clips), done) as bar:
        try:
            for rows, blocks in runs:
                for block in blocks:
                    for clip, codes in zip(rows[block.clips], block.codes):
                        clip.add(block.samples.start, codes)
                    bar.update(block.codes.size)
        except KeyboardInterrupt:
            for clip in clips:
                clip.save()
            raise


def _checked_paths(save_paths: Iterable[str | Path], clips: int) -> list[Path]:
    """Return the paths, one per clip, after checking that they differ and their folders exist."""
    if isinstance(save_paths, (str, Path)):
        save_paths = [save_paths]
    paths = [Path(path) for path in save_paths]
    if len(paths) != clips:
        raise InputError(f"There are {clips} encodings and {len(paths)} paths to save to: give one "
                         "path for each encoding.")
    if len(set(paths)) != len(paths):
        raise InputError("Two clips would be saved to the same file: give each its own path.")
    for path in paths:
        if not path.absolute().parent.is_dir():
            raise InputError(f"The folder of {path} does not exist: create it first.")
    return paths


def _groups(kept: Sequence[int]) -> Iterator[list[int]]:
    """Yield groups of clips with about the same number of saved samples, to resume together."""
    group: list[int] = []
    for i in sorted(range(len(kept)), key=lambda i: kept[i]):
        if group and (kept[i] - kept[group[0]] > _TOGETHER * HOP_LENGTH
                      or bool(kept[i]) != bool(kept[group[0]])):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


class _Clip:
    """A clip that is being decoded, and its files.

    `kept` is the number of samples whose codes are on disk.  `codes` holds the mu-law codes from
    the first generated frame until the clip is finished.
    """

    def __init__(self, path: Path, length: int, fade: float, every: int, made_of: list[bytes]
                 ) -> None:
        self._path, self._length, self._fade, self._every = path, length, fade, every
        digest = hashlib.sha256()
        for data in made_of:    # with lengths, so that different lists cannot have equal bytes
            digest.update(len(data).to_bytes(8, "little") + data)
        self._header = _MAGIC + digest.digest()
        self.kept = self._made = self._saved = 0
        self.codes: np.ndarray = np.zeros(0, np.uint8)

    def load(self) -> None:
        """Read the codes that an earlier call saved, up to the first damaged frame."""
        try:
            data = codes_path(self._path).read_bytes()
        except OSError:
            return
        if data[:_HEADER] != self._header:  # from another call
            return
        whole = (len(data) - _HEADER) // _RECORD
        frames = []
        for frame in range(min(whole, self._length // HOP_LENGTH - 1)):
            record = data[_HEADER + frame * _RECORD:_HEADER + (frame + 1) * _RECORD]
            if _record(frame, record[:HOP_LENGTH]) != record:
                break
            frames.append(record[:HOP_LENGTH])
        self.codes = np.frombuffer(b"".join(frames), np.uint8)
        self.kept = self._made = len(self.codes)

    def begin(self, new: bool) -> None:
        """Remove the files of earlier calls, or from a resumed clip only the damaged frames."""
        if not self.kept:
            partial_path(self._path).unlink(missing_ok=True)
            codes_path(self._path).unlink(missing_ok=True)
            if new:
                self._path.unlink(missing_ok=True)
        else:
            with files.writing(codes_path(self._path)) as file:
                file.write(self._header)
                for first in range(0, self.kept, HOP_LENGTH):
                    file.write(_record(first // HOP_LENGTH,
                                       self.codes[first:first + HOP_LENGTH].tobytes()))

    def add(self, first: int, codes: np.ndarray) -> None:
        """Add the next frame, and save the clip if a save is due."""
        if len(self.codes) != self._length:
            self.codes = np.concatenate([self.codes,
                                         np.zeros(self._length - len(self.codes), np.uint8)])
        self.codes[first:first + HOP_LENGTH] = codes
        self._made = max(self._made, first + HOP_LENGTH)
        if self._made == self._length:
            self._finish()
        elif self._made > self.kept:
            record = _record(first // HOP_LENGTH, codes.tobytes())
            if self.kept:
                files.append(codes_path(self._path), record)
            else:
                with files.writing(codes_path(self._path)) as file:
                    file.write(self._header + record)
            self.kept = self._made
            if (self._made // self._every > self._saved // self._every
                    and self._made > 1.25 * self._saved):
                self.save()

    def save(self) -> None:
        """Save the samples generated so far to `partial_path`."""
        if self._saved < self._made < self._length:
            files.write_wav(partial_path(self._path),
                            faded(sound_of(self.codes[:self._made]), self._fade))
            self._saved = self._made

    def _finish(self) -> None:
        files.write_wav(self._path, faded(sound_of(self.codes), self._fade))
        partial_path(self._path).unlink(missing_ok=True)
        codes_path(self._path).unlink(missing_ok=True)
        self.codes = np.zeros(0, np.uint8)  # a slice would keep all of them


def _record(frame: int, codes: bytes) -> bytes:
    return codes + zlib.crc32(codes, frame + 1).to_bytes(4, "little")


def partial_path(path: str | Path) -> Path:
    """Return the path of an unfinished clip: bass.partial.wav for bass.wav."""
    path = Path(path)
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def codes_path(path: str | Path) -> Path:
    """Return the path of an unfinished clip's mu-law codes: bass.partial.codes for bass.wav."""
    return partial_path(path).with_suffix(".codes")


def faded(audio: np.ndarray, seconds: float) -> np.ndarray:
    """Return a copy with a fade-in and a fade-out of `seconds`, at most half of the audio each."""
    audio, length = audio.copy(), min(round(seconds * SAMPLE_RATE), audio.size // 2)
    ramp = np.arange(length, dtype=np.float32) / max(1, length)
    audio[:length] *= ramp
    audio[audio.size - length:] *= ramp[::-1]
    return audio
