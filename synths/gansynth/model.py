"""The GANSynth generator, which makes a four-second note from 256 random numbers and a pitch.

This is the generator of Magenta's GANSynth and the inversion of its spectrograms, without a data
set, a discriminator or TensorFlow.  A checkpoint's averaged weights become LiteRT networks, which
compute only the audible part of each note.

Source: Engel et al. 2019, "GANSynth: Adversarial Neural Audio Synthesis",
https://arxiv.org/abs/1902.08710; Magenta's ``models/gansynth/lib/networks.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from tqdm import tqdm

from synths import InputError
from synths.gansynth import variables
from synths.gansynth.specgrams import SpecgramInverter
from synths.gansynth.variables import LOWEST_PITCH
from synths.weights import checkpoints

__all__ = ["LOWEST_PITCH", "Model", "NoteAudio", "count_distinct"]

# Building a network for a new number of frames takes about as long as computing this many frames.
_NETWORK_COST = 128
_NOTES_AT_ONCE = 256  # notes in memory: 65 MB
_FRAMES_AT_ONCE = 40  # per run of a network; more are not faster and take more memory
_NETWORKS = 4  # maximum number of networks that run at once; each has its own copy of the weights


class NoteAudio(Sequence):
    """The audio of notes, generated on demand.

    All notes of a score would take too much memory as one array, and most of them are shorter than
    the model's 4 seconds.  The notes are therefore generated in small groups, in order, and only as
    long as needed.  Equal notes are generated only once.

    Attributes
    ----------
    shape : (int, int)
        Number of notes, and samples per note; the shape of ``numpy.asarray(notes)`` (float32).
    """

    def __init__(self, model: Model, z: np.ndarray, pitches: np.ndarray, samples: int) -> None:
        self._model, self._z, self._pitches = model, z, pitches
        self.shape = (len(z), samples)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index):
        rows = np.arange(len(self))[index]
        some = np.atleast_1d(rows)
        notes = NoteAudio(self._model, self._z[some], self._pitches[some], self.shape[1])
        return np.asarray(notes) if np.ndim(rows) else np.asarray(notes)[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.cut([self.shape[1]] * len(self))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        audio = np.zeros(self.shape, np.float32)
        for row, note in zip(audio, self):
            row[:] = note
        return audio if dtype is None else audio.astype(dtype)

    def cut(self, samples: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the notes in order, each cut to its own number of samples."""
        keys = _keys(self._z, self._pitches)
        first: dict[tuple, int] = {}
        last: dict[tuple, int] = {}
        needed: dict[tuple, int] = {}
        for index, (key, count) in enumerate(zip(keys, samples)):
            first.setdefault(key, index)
            last[key] = index
            needed[key] = max(needed.get(key, 0), min(int(count), self.shape[1]))
        waiting, made = list(first), {}
        with tqdm(total=len(first), unit=" notes", disable=None, delay=2, leave=False) as progress:
            for index, key in enumerate(keys):
                if key not in made:
                    group, waiting = waiting[:_NOTES_AT_ONCE], waiting[_NOTES_AT_ONCE:]
                    rows = [first[each] for each in group]
                    for place, audio in self._model.render(self._z[rows], self._pitches[rows],
                                                           [needed[each] for each in group]):
                        made[group[place]] = audio
                        progress.update()
                yield made[key][:int(samples[index])]
                if last[key] == index:
                    del made[key]


def _keys(z: np.ndarray, pitches: np.ndarray) -> list[tuple[bytes, int]]:
    """Return a key for each note; notes with equal keys sound the same."""
    return [(row.tobytes(), pitch) for row, pitch in zip(z, pitches.tolist())]


def count_distinct(z: np.ndarray, pitches: Sequence[int] | np.ndarray) -> int:
    """Count the notes that the model must generate: the pairs of instrument and pitch.

    Parameters
    ----------
    z : ndarray [n, d]
        Latent vectors of the notes, from `generate_util.get_z_notes`.
    pitches : sequence of n int
        MIDI pitches.
    """
    return len(set(_keys(np.asarray(z), np.asarray(pitches))))


class Model:
    """A GANSynth generator; use `load_from_path` to load one.

    Attributes
    ----------
    path : Path
        The checkpoint's prefix.
    progress : float
        Growth of the network: an integer at a stable stage, a fraction in a transition.
    audio_length, sample_rate : int
        Length of a whole note in samples; sample rate in Hz.
    latent_size : int
        Length of a latent vector.
    pitches : range
        MIDI pitches that the model can play.
    weights : variables.Weights
        Weights of the networks.
    inverter : SpecgramInverter
        Converter from the network's spectrograms to audio.
    """

    @classmethod
    def load_from_path(cls, path: str | Path | None = None, batch_size: int = 16,
                       threads: int | None = None) -> Model:
        """Load a generator that Magenta saved, or that was exported in Magenta's format.

        Parameters
        ----------
        path : str, Path or None
            Folder with ``experiment.json`` and ``stage_*``, or any other form that
            `synths.weights.checkpoints.find` accepts.
        batch_size : int
            Maximum number of notes computed at once.  The sound does not depend on it.
        threads : int, optional
            Number of processor cores to use.  None: all.

        Raises
        ------
        CheckpointError
            If the weights are missing or damaged, or belong to another network.
        """
        return cls(checkpoints.find(path, "gansynth"), batch_size, threads)

    def __init__(self, prefix: Path, batch_size: int = 16, threads: int | None = None) -> None:
        self.path = Path(prefix)
        self._batch_size, self._threads = batch_size, threads
        self.weights, config = variables.load(self.path)
        self.progress, self.latent_size = self.weights.progress, self.weights.latent_size
        self.pitches = self.weights.pitches
        try:
            self.inverter = SpecgramInverter(
                self.weights.resolution(self.weights.num_resolutions), int(config["audio_length"]),
                int(config["sample_rate"]), config["data_type"])
        except ValueError as error:
            raise variables.unusable(self.path, f"cannot be used, because {error}") from error
        self.audio_length = self.inverter.audio_length
        self.sample_rate = int(config["sample_rate"])

    def generate_z(self, n: int, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Draw the latent vectors of random instruments from the standard normal distribution.

        Parameters
        ----------
        n : int
            Number of instruments.
        rng : numpy.random.Generator or int, optional
            Random number generator or seed.  None: different vectors at each call.

        Returns
        -------
        float64 ndarray [n, latent_size]
        """
        return np.random.default_rng(rng).normal(size=(n, self.latent_size))

    def generate_samples_from_z(self, z: np.ndarray, pitches: Sequence[int] | np.ndarray,
                                max_audio_length: int = 64000) -> NoteAudio:
        """Generate notes of given instruments at given pitches.

        Parameters
        ----------
        z : ndarray [n, latent_size]
            Latent vector of each note's instrument.
        pitches : sequence of n int
            MIDI pitches.
        max_audio_length : int
            Maximum number of samples per note.

        Returns
        -------
        NoteAudio
            The samples of Magenta's ``Model.generate_samples_from_z``, up to rounding.  They are
            computed on demand, as an array or note by note.

        Raises
        ------
        InputError
            If the shapes of the arrays do not match, or the model cannot play one of the pitches.
        """
        z, notes = np.asarray(z, np.float32), np.asarray(pitches)
        if z.shape != (len(notes), self.latent_size) or not np.isfinite(z).all():
            raise InputError(f"{len(notes)} pitches need {len(notes)} latent vectors of"
                             f" {self.latent_size} finite numbers, not an array of shape"
                             f" {list(z.shape)}.")
        unknown = [pitch for pitch in notes.tolist() if pitch not in self.pitches]
        if unknown:
            raise InputError(f"The model plays MIDI pitches {self.pitches[0]} to"
                             f" {self.pitches[-1]}, not {unknown[0]}: leave such notes out or"
                             " transpose them.")
        return NoteAudio(self, z, notes, min(int(max_audio_length), self.audio_length))

    def render(self, z: np.ndarray, pitches: np.ndarray, samples: Sequence[int]
               ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the index and the audio of each note, in the order of completion."""
        frames = np.array([self.inverter.frames_for(int(count)) for count in samples], np.intp)
        for group, group_frames in _groups(frames):
            for rows, waves in self._waves(z[group], pitches[group], group_frames):
                for index, wave in zip(group[rows], waves):
                    yield int(index), wave[:samples[index]]

    def _waves(self, z: np.ndarray, pitches: np.ndarray, frames: int
               ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield row numbers and the audio of their first `frames` frames.

        The notes are distributed over several networks that run in parallel.  The threads of one
        large network would have to synchronise after every layer.
        """
        from synths.engines.litert import Runner, available_threads
        from synths.gansynth import network

        threads = self._threads or available_threads()
        workers = max(1, min(threads, _NETWORKS, len(z)))
        batch = max(1, min(self._batch_size, -(-len(z) // workers), _FRAMES_AT_ONCE // frames))
        built = network.build(self.weights, batch, frames)
        idle: SimpleQueue[Runner] = SimpleQueue()
        for worker in range(workers):
            idle.put(Runner(built, threads // workers + (worker < threads % workers)))

        def render(begin: int) -> tuple[slice, np.ndarray]:
            rows = slice(begin, min(begin + batch, len(z)))
            runner = idle.get()
            try:
                inputs = runner.inputs[0][:rows.stop - begin]
                inputs[:, :self.latent_size] = z[rows]
                inputs[:, self.latent_size:] = pitches[rows, np.newaxis] == self.pitches
                runner.invoke()
                specgrams = ((runner.outputs[0][:rows.stop - begin]
                              - self.weights.normalizer_offset) / self.weights.normalizer_scale)
            finally:
                idle.put(runner)
            return rows, self.inverter.invert(specgrams)

        pool = ThreadPoolExecutor(workers)
        try:
            yield from pool.map(render, range(0, len(z), batch))
        finally:
            pool.shutdown(cancel_futures=True)


def _groups(frames: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Group notes by length, to minimise the cost of building networks and of unused frames.

    Return the indices of each group's notes, and the number of frames to compute for them.
    """
    lengths, counts = np.unique(frames, return_counts=True)
    best = [(0, 0)]  # for the first k lengths: the cost, and the start of the last group
    for end in range(1, len(lengths) + 1):
        best.append(min(
            (best[begin][0] + _NETWORK_COST + int(lengths[end - 1]) * int(counts[begin:end].sum()),
             begin) for begin in range(end)))
    groups = []
    end = len(lengths)
    while end:
        begin = best[end][1]
        members = np.flatnonzero((frames >= lengths[begin]) & (frames <= lengths[end - 1]))
        groups.append((members, int(lengths[end - 1])))
        end = begin
    return groups[::-1]
