"""GANSynth: notes of random instruments, four seconds of sound from 256 random numbers and a pitch.

The generator of Magenta's GANSynth (Engel et al. 2019, "GANSynth: Adversarial Neural Audio
Synthesis", https://arxiv.org/abs/1902.08710; Magenta's ``models/gansynth/lib/networks.py``) and the
way from its spectrograms to sound.  No data set, discriminator or TensorFlow: a checkpoint's
averaged weights become LiteRT networks.
Only what is heard is computed (see `synths.gansynth.network`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from synths import InputError
from synths.gansynth import generate_util, variables
from synths.gansynth.specgrams import SpecgramInverter
from synths.gansynth.variables import LOWEST_PITCH
from synths.weights import checkpoints

__all__ = ["LOWEST_PITCH", "PITCH_COUNTS", "Model"]

# How often each pitch from LOWEST_PITCH on occurs in the NSynth data that GANSynth was trained on
# (Magenta's `datasets.py`); random notes are drawn as often.
PITCH_COUNTS = (
    551, 545, 561, 550, 549, 578, 547, 628, 626, 630, 670, 668,
    751, 768, 788, 801, 821, 871, 873, 860, 873, 844, 883, 865,
    1058, 1036, 1094, 1065, 1186, 1200, 1187, 1346, 1273, 1320, 1263, 1283,
    1349, 1285, 1281, 1332, 1286, 1301, 1220, 1300, 1209, 1257, 1288, 1223,
    1258, 1183, 1178, 1125, 1171, 1089, 1024, 1081, 966, 1043, 991, 959,
    977,
)

# Building a network for another number of frames costs about as much as this many more frames.
_NETWORK_COST = 128
_FRAMES_AT_ONCE = 40  # per run of a network: more does not run faster, and takes memory

class Model:
    """A GANSynth generator.  `load_from_path` makes one.

    Attributes
    ----------
    path : Path
        The checkpoint's prefix.
    batch_size : int
        Notes computed at once, at most.
    progress : float
        How far the growing network had grown: an integer at a stable stage, else the transition
        to the next resolution.
    audio_length, sample_rate : int
        Samples of a whole note; Hz.
    latent_size : int
        Random numbers that make an instrument.
    pitches : range
        MIDI notes that the model knows.
    weights : variables.Weights
        What the networks are built of.
    inverter : SpecgramInverter
        What turns the network's spectrograms into sound; anything with its methods may take its
        place, to look at them.
    workers : int
        Networks that run at once, at most; each holds the weights in memory.
    folded : bool
        As of `network.build`.
    """

    workers = 4
    folded = True

    @classmethod
    def load_from_path(cls, path: str | Path | None = None, batch_size: int = 16,
                       threads: int | None = None) -> Model:
        """Load a generator saved by Magenta (or exported in its format).

        Parameters
        ----------
        path : str, Path or None
            The folder with ``experiment.json`` and ``stage_*``, or whatever else
            `synths.weights.checkpoints.find` takes.
        batch_size : int
            Notes computed at once, at most.  The sound does not depend on it.
        threads : int, optional
            Processor cores to use; None: all.

        Raises
        ------
        CheckpointError
            If there are no such weights, they are damaged, or they are of another network.
        """
        return cls(checkpoints.find(path, "gansynth"), batch_size, threads)

    def __init__(self, prefix: Path, batch_size: int = 16, threads: int | None = None) -> None:
        if batch_size < 1:
            raise InputError(f"The batch size must be 1 or more, not {batch_size}.")
        self.path = Path(prefix)
        self.batch_size = batch_size
        self._threads = threads
        self.weights, config = variables.load(self.path)
        self.progress, self.latent_size = self.weights.progress, self.weights.latent_size
        self.pitches = self.weights.pitches
        try:
            self.inverter = SpecgramInverter(
                self.weights.resolution(self.weights.num_resolutions), int(config["audio_length"]),
                int(config["sample_rate"]), config["data_type"])
        except ValueError as error:
            raise variables.unusable(self.path, f"needs {error}") from error
        self.audio_length = self.inverter.audio_length
        self.sample_rate = int(config["sample_rate"])

    # Random numbers ------------------------------------------------------------------------

    def generate_z(self, n: int, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Draw random instruments: standard normal numbers.

        Parameters
        ----------
        n : int
            How many.
        rng : numpy.random.Generator or int, optional
            Source of the numbers, or a seed; None: different at each call.

        Returns
        -------
        float64 ndarray [n, latent_size]
        """
        return np.random.default_rng(rng).normal(size=(n, self.latent_size))

    def generate_samples(self, n_samples: int, pitch: int | None = None,
                         max_audio_length: int = 64000,
                         rng: np.random.Generator | int | None = None,
                         progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Notes of random instruments.

        Parameters
        ----------
        n_samples : int
            How many notes.
        pitch : int, optional
            The MIDI note of all of them; None: random pitches, as often as in the data set.
        max_audio_length, progress
            As for `generate_samples_from_z`.
        rng
            As for `generate_z`.

        Returns
        -------
        float32 ndarray [n_samples, max_audio_length]
        """
        rng = np.random.default_rng(rng)
        if pitch is not None:
            pitches = np.full(n_samples, pitch)
        elif len(self.pitches) == len(PITCH_COUNTS):
            weights = np.array(PITCH_COUNTS) / sum(PITCH_COUNTS)
            pitches = rng.choice(self.pitches, n_samples, p=weights)
        else:
            pitches = rng.choice(self.pitches, n_samples)
        return self.generate_samples_from_z(self.generate_z(n_samples, rng), pitches,
                                            max_audio_length, progress=progress)

    # Sound ---------------------------------------------------------------------------------

    def generate_samples_from_z(self, z: np.ndarray, pitches: Sequence[int] | np.ndarray,
                                max_audio_length: int = 64000,
                                note_lengths: Sequence[float] | None = None,
                                progress: Callable[[int, int], None] | None = None,
                                max_note_length: float = generate_util.MAX_NOTE_LENGTH) -> np.ndarray:
        """Notes of given instruments at given pitches.

        Parameters
        ----------
        z : ndarray [n, latent_size]
            The instruments.
        pitches : sequence of n int
            MIDI notes.
        max_audio_length : int
            Samples of each note, at most.
        note_lengths : sequence of n floats, optional
            Seconds that each note is held.  Only what `generate_util.combine_notes` lets be heard is
            computed then (the time held, at most `max_note_length`, and the release); the rest is
            zeros.
        progress : callable, optional
            Called with notes done and notes in total.
        max_note_length : float
            Seconds that a note is held at most, as for `generate_util.combine_notes`.

        Returns
        -------
        float32 ndarray [n, samples]
            `max_audio_length` samples or the length of a whole note, whichever is less.  The
            samples of Magenta's ``Model.generate_samples_from_z``, within rounding.

        Raises
        ------
        InputError
            If the arrays do not fit each other or the model, or a pitch is not one of its.
        """
        z, notes = self._checked(z, pitches)
        if max_audio_length < 1:
            raise InputError(f"A note must have 1 sample or more, not {max_audio_length}.")
        count, length = len(z), min(int(max_audio_length), self.audio_length)
        heard = self._heard(count, length, note_lengths, max_note_length)

        # A z and a pitch that come again (one timbre held for a whole piece) are computed once.
        # (np.unique(axis=0) turns Ctrl-C into an error of its own.)
        places: dict[tuple[bytes, int], int] = {}
        which = np.array([places.setdefault((row.tobytes(), pitch), len(places))
                          for row, pitch in zip(z, notes.tolist())], np.intp)
        first = np.unique(which, return_index=True)[1]
        needed = np.zeros(len(first), np.intp)
        np.maximum.at(needed, which, heard)
        frames = np.array([self.inverter.frames_for(int(samples)) for samples in needed], np.intp)

        result = np.zeros((count, length), np.float32)
        owners = np.split(np.argsort(which, kind="stable"),
                          np.cumsum(np.bincount(which, minlength=len(first)))[:-1])
        done = 0
        if progress:
            progress(done, count)
        for group, group_frames in _groups(frames):
            for rows, waves in self._waves(z[first[group]], notes[first[group]], group_frames):
                for unique, wave in zip(group[rows], waves):
                    for note in owners[unique]:
                        result[note, :heard[note]] = wave[:heard[note]]
                    done += len(owners[unique])
                if progress:
                    progress(done, count)
        return result

    def _checked(self, z: np.ndarray, pitches: Sequence[int] | np.ndarray,
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Instruments and pitches as arrays that fit each other and the model."""
        z, notes = np.asarray(z, np.float32), np.asarray(pitches)
        if z.ndim != 2 or z.shape[1] != self.latent_size or not np.isfinite(z).all():
            raise InputError(f"Instruments must be rows of {self.latent_size} finite numbers, not"
                             f" an array of shape {list(z.shape)}.")
        if notes.shape != (len(z),):
            raise InputError(f"Each note needs an instrument and a pitch: {len(z)} instruments came"
                             f" with pitches of shape {list(notes.shape)}.")
        unknown = [pitch for pitch in notes.tolist() if pitch not in self.pitches]
        if unknown:
            raise InputError(f"The model plays MIDI notes {self.pitches[0]} to {self.pitches[-1]},"
                             f" not {unknown[0]}: leave such notes out or transpose them.")
        return z, notes

    def _heard(self, count: int, length: int, note_lengths: Sequence[float] | None,
               max_note_length: float) -> np.ndarray:
        """How many samples of each note can be heard, of `length`."""
        if note_lengths is None:
            return np.full(count, length)
        if len(note_lengths) != count or not np.isfinite(note_lengths).all():
            raise InputError(f"Each of the {count} notes needs a finite length, in seconds.")
        return np.minimum(length, np.array(
            [generate_util.note_samples(seconds, self.sample_rate, max_note_length)
             for seconds in note_lengths], np.intp))

    def _waves(self, z: np.ndarray, pitches: np.ndarray, frames: int
               ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows and their sound, as far as `frames` frames go.

        Notes are spread over the cores, each with a network of its own: notes wait for nothing,
        whereas the threads of one network would wait for each other after every layer.
        """
        from synths.engines.litert import Runner, available_threads
        from synths.gansynth import network

        threads = self._threads or available_threads()
        workers = max(1, min(threads, self.workers, len(z)))
        batch = max(1, min(self.batch_size, -(-len(z) // workers), _FRAMES_AT_ONCE // frames))
        built = network.build(self.weights, batch, frames, self.folded)
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
                picture = runner.outputs[0][:rows.stop - begin]
                specgrams = (picture - self.weights.picture_offset) / self.weights.picture_scale
            finally:
                idle.put(runner)
            return rows, self.inverter.invert(specgrams)

        pool = ThreadPoolExecutor(workers)
        try:
            yield from pool.map(render, range(0, len(z), batch))
        finally:
            pool.shutdown(cancel_futures=True)


def _groups(frames: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Group notes by the frames they need, so that building networks and idle frames cost least.

    Returns
    -------
    list of (indices of notes, frames computed for each of them)
    """
    lengths, counts = np.unique(frames, return_counts=True)
    if not lengths.size:
        return []
    best = [(0, 0)]  # of the first k lengths: cost, where the last group begins
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
