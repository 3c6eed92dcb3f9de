"""GANSynth: notes of random instruments, four seconds of sound from 256 random numbers and a pitch.

The generator of Magenta's GANSynth (Engel et al. 2019, "GANSynth: Adversarial Neural Audio
Synthesis", https://arxiv.org/abs/1902.08710; Magenta's ``models/gansynth/lib/networks.py``) and the
way from its spectrograms to sound.  No data set, discriminator or TensorFlow: a checkpoint's
averaged weights become LiteRT networks.

Only what is heard is computed.  The generator sees a few frames to either side of each frame and
the phase adds up forward in time, so the first part of a note does not depend on the rest of it:
a note held for 0.13 s needs 20 of 128 frames, and a few more at the lower resolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from synths import CheckpointError, InputError
from synths.gansynth import score
from synths.gansynth.specgrams import SpecgramInverter
from synths.weights import checkpoints

LOWEST_PITCH = 24  # the model's first label: the lowest note of its data set

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

# What Magenta's Model assumes where experiment.json is silent (`model.py`, set_flags).
_DEFAULTS = {
    "data_type": "mel",
    "audio_length": 64000,
    "sample_rate": 16000,
    "data_normalizer": "specgrams_prespecified_normalizer",
    "mag_normalizer_a": 0.0661371661726,
    "mag_normalizer_b": 0.113718730221,
    "p_normalizer_a": 0.8,
    "p_normalizer_b": 0.0,
    "stable_stage_num_images": 32,
    "transition_stage_num_images": 32,
    "train_progressive": True,
    "train_time_limit": None,
    "train_time_stage_multiplier": 1.0,
    "g_fn": "specgram",
    "latent_vector_size": 256,
    "scale_mode": "ALL",
    "scale_base": 2,
    "num_resolutions": 7,
    "simple_arch": False,
    "to_rgb_activation": "tanh",
}

_SCOPE = "Generator/progressive_gan_generator/progressive_gan_block_"
_AVERAGE = "/ExponentialMovingAverage"
_LEAK = 0.2  # slope of the leaky ReLU
_EPSILON = 1e-8  # of the pixel normalisation
_CHANNELS = 2  # magnitude and phase

# Building a network for another number of frames costs about as much as this many more frames.
_NETWORK_COST = 128
_FRAMES_AT_ONCE = 40  # per run of a network: more does not run faster, and takes memory
_WORKERS = 4  # networks that run at once; each holds the weights in memory


@dataclass(frozen=True)
class _Layer:
    """One convolution: its kernel, scaled as Magenta scales it at run time, and its bias."""

    kernel: np.ndarray  # [height, width, inputs, outputs]
    bias: np.ndarray  # [outputs]


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
    """

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
        config = {**_DEFAULTS, **checkpoints.experiment(self.path)}
        self._check_config(config)
        self._activation = config["to_rgb_activation"]
        self._load_weights(config)
        self._load_scales(config)
        height, width = self._resolution(self._num_resolutions)
        try:
            self._inverter = SpecgramInverter((height, width), int(config["audio_length"]),
                                              int(config["sample_rate"]), config["data_type"])
        except ValueError as error:
            raise self._unusable(f"needs {error}") from error
        self.audio_length = self._inverter.audio_length
        self.sample_rate = int(config["sample_rate"])

    # Loading -------------------------------------------------------------------------------

    def _unusable(self, reason: str) -> CheckpointError:
        return CheckpointError(f"The GANSynth checkpoint {self.path} {reason}: choose another one.")

    def _check_config(self, config: dict) -> None:
        allowed = {"data_type": SpecgramInverter.DATA_TYPES, "scale_mode": ("ALL", "H"),
                   "to_rgb_activation": ("tanh", "linear"), "g_fn": ("specgram",),
                   "simple_arch": (False,),
                   "data_normalizer": ("none", "specgrams_prespecified_normalizer",
                                       "specgrams_simple_normalizer",
                                       "specgrams_freq_normalizer")}
        for key, values in allowed.items():
            if config[key] not in values:
                names = ", ".join(map(str, values))
                raise self._unusable(f"has {key} {config[key]} in its experiment.json (known are"
                                     f" {names})")
        for key in ("latent_vector_size", "scale_base", "num_resolutions",
                    "stable_stage_num_images", "transition_stage_num_images"):
            value = config[key]
            if not isinstance(value, (int, float)) or value != value // 1 or value < 1:
                raise self._unusable(f"has {key} {value} in its experiment.json, where a whole"
                                     " number over 0 belongs")
            config[key] = int(value)

    def _load_weights(self, config: dict) -> None:
        """Read the averaged weights of the blocks that count at the checkpoint's progress."""
        shapes = checkpoints.shapes(self.path)
        self._num_resolutions = config["num_resolutions"]
        saved = 0
        while f"{_SCOPE}{saved + 1}/conv1/conv2d/kernel{_AVERAGE}" in shapes:
            saved += 1
        if not saved:
            raise self._unusable("lacks the averaged generator's variables, such as"
                                 f" {_SCOPE}1/conv1/conv2d/kernel{_AVERAGE}")
        if saved > self._num_resolutions:
            raise self._unusable(f"has {saved} blocks, where its experiment.json allows"
                                 f" {self._num_resolutions}")
        self.progress = self._compute_progress(config, saved, shapes)
        # Each block's share of the picture; at most two neighbours have any.
        shares = [max(0.0, min(self.progress - (block - 2), block - self.progress))
                  for block in range(1, saved + 1)]
        self._shares = {block: share for block, share in enumerate(shares, 1) if share > 0.0}
        self._num_blocks = max(self._shares)

        layers = {(block, name): f"{_SCOPE}{block}/{name}"
                  for block in range(1, self._num_blocks + 1)
                  for name in ("conv0", "conv1", "to_rgb")
                  if name != "to_rgb" or block in self._shares}
        names = {}
        expected = {}
        inputs = None
        for key, scope in layers.items():
            block, name = key
            names[key] = (f"{scope}/conv2d/kernel{_AVERAGE}", f"{scope}/bias{_AVERAGE}")
            kernel = shapes.get(names[key][0])
            if kernel is None:
                raise self._unusable(f"lacks the variable {names[key][0]}")
            if len(kernel) != 4 or inputs is not None and kernel[2] != inputs or (
                    name == "to_rgb" and kernel[3] != _CHANNELS):
                raise self._unusable(f"has a variable {names[key][0]} of shape {list(kernel)},"
                                     " which does not fit its neighbours")
            expected[names[key][1]] = (kernel[3],)
            if name != "to_rgb":
                inputs = kernel[3]
        start = shapes[names[1, "conv0"][0]]
        for axis, key in enumerate(("start_height", "start_width")):
            if config.get(key, start[axis]) != start[axis]:
                raise self._unusable(f"starts from {start[0]} x {start[1]}, where its"
                                     f" experiment.json has {key} {config[key]}")
        self._start = start[:2]
        scale = config["scale_base"]
        self._scale = (scale, scale if config["scale_mode"] == "ALL" else 1)

        values = checkpoints.read(self.path, [name for pair in names.values() for name in pair],
                                  expected=expected)
        self._layers = {}
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise self._unusable(f"has numbers that are not finite in {name}")
        for key, (kernel, bias) in names.items():
            kernel = values[kernel].astype(np.float32, copy=False)
            # Equalised learning rate: He's scale, slope 0 before a leaky ReLU (as in Magenta),
            # 1 before to_rgb.
            slope = 1.0 if key[1] == "to_rgb" else 0.0
            gain = math.sqrt(2.0 / ((1.0 + slope**2) * np.prod(kernel.shape[:-1])))
            self._layers[key] = _Layer(kernel * np.float32(gain),
                                       values[bias].astype(np.float32, copy=False))

        self.latent_size = config["latent_vector_size"]
        labels = start[2] - self.latent_size
        if labels < 1:
            raise self._unusable(f"takes {start[2]} numbers, where its experiment.json has"
                                 f" {self.latent_size} without the pitches")
        self.pitches = range(LOWEST_PITCH, LOWEST_PITCH + labels)
        # The first layer sees one pixel amid zeros: a matrix, its kernel turned by half a turn.
        first = self._layers.pop((1, "conv0"))
        height, width, inputs = first.kernel.shape[:3]
        self._first = _Layer(
            first.kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(inputs, -1),
            np.tile(first.bias, height * width))

    def _compute_progress(self, config: dict, num_blocks: int, shapes: dict) -> float:
        """Magenta's ``compute_progress`` and ``compute_progress_from_time``."""
        if not config["train_progressive"]:
            return num_blocks - 1.0
        if config["train_time_limit"] is not None:
            if "Variable" not in shapes:
                raise self._unusable("lacks the variable Variable, the time spent in training")
            time = np.float32(checkpoints.read(self.path, ["Variable"])["Variable"])
            stages = config["train_time_stage_multiplier"] ** np.arange(
                2 * config["num_resolutions"] - 1, dtype=np.float32)
            ends = np.cumsum(stages * (config["train_time_limit"] / stages.sum()))
            grown = np.clip((time - ends[:-1:2]) / (ends[1::2] - ends[:-1:2]), 0.0, 1.0).sum()
            return float(min(grown, num_blocks - 1.0))
        if "global_step" not in shapes:
            raise self._unusable("lacks the variable global_step, the pictures seen in training")
        step = int(checkpoints.read(self.path, ["global_step"])["global_step"])
        stable = config["stable_stage_num_images"]
        transition = config["transition_stage_num_images"]
        step = min(step, num_blocks * stable + (num_blocks - 1) * transition - 1)
        whole, rest = divmod(step, stable + transition)
        return float(whole + max(np.float32(0.0), np.float32(rest - stable)
                                 / np.float32(transition)))

    def _load_scales(self, config: dict) -> None:
        """How the network's -1..1 becomes magnitude and phase: `(picture - offset) / scale`."""
        kind = config["data_normalizer"]
        if kind == "none":
            scale, offset = [1.0, 1.0], [0.0, 0.0]
        elif kind == "specgrams_prespecified_normalizer":
            scale = [config["mag_normalizer_a"], config["p_normalizer_a"]]
            offset = [config["mag_normalizer_b"], config["p_normalizer_b"]]
        else:
            file = self.path.resolve().parent.parent / "assets" / f"{kind}.npz"
            try:
                with np.load(file, allow_pickle=False) as archive:
                    # One row (mag_a, mag_b, p_a, p_b), or one for each frequency.
                    table = np.atleast_2d(archive["normalizer"])
                if table.shape[1] != 4:
                    raise ValueError(f"its table has shape {list(table.shape)}")
            except Exception as error:
                raise self._unusable(f"needs {file}, which cannot be read ({error})") from error
            scale, offset = table[:, [0, 2]], table[:, [1, 3]]
        # The picture is float32 there too.
        self._picture_scale = np.asarray(scale, np.float32)
        self._picture_offset = np.asarray(offset, np.float32)

    def _resolution(self, block: int) -> tuple[int, int]:
        """Frames and frequencies of a block's picture."""
        return tuple(size * scale ** (block - 1) for size, scale in zip(self._start, self._scale))

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

    def generate_samples_from_z(self, z: np.ndarray, pitches: Sequence[int],
                                max_audio_length: int = 64000,
                                note_lengths: Sequence[float] | None = None,
                                progress: Callable[[int, int], None] | None = None,
                                max_note_length: float = score.MAX_NOTE_LENGTH) -> np.ndarray:
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
            Seconds that each note is held.  Only what `synths.gansynth.score.combine_notes` lets be heard
            is computed then (the time held, at most 3 s, and the release); the rest is zeros.
        progress : callable, optional
            Called with notes done and notes in total.
        max_note_length : float
            Seconds that a note is held at most, as for `synths.gansynth.score.combine_notes`.

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
        z = np.asarray(z, np.float32)
        pitches = np.asarray(pitches)
        count = len(z)
        if z.ndim != 2 or z.shape[1] != self.latent_size or not np.isfinite(z).all():
            raise InputError(f"Instruments must be rows of {self.latent_size} finite numbers, not"
                             f" an array of shape {list(z.shape)}.")
        if pitches.shape != (count,):
            raise InputError(f"Each note needs an instrument and a pitch: {count} instruments came"
                             f" with pitches of shape {list(pitches.shape)}.")
        unknown = [pitch for pitch in pitches.tolist() if pitch not in self.pitches]
        if unknown:
            raise InputError(f"The model plays MIDI notes {self.pitches[0]} to {self.pitches[-1]},"
                             f" not {unknown[0]}: leave such notes out or transpose them.")
        if max_audio_length < 1:
            raise InputError(f"A note must have 1 sample or more, not {max_audio_length}.")
        length = min(int(max_audio_length), self.audio_length)
        heard = np.full(count, length)
        if note_lengths is not None:
            if len(note_lengths) != count or not np.isfinite(note_lengths).all():
                raise InputError(f"Each of the {count} notes needs a finite length, in seconds.")
            heard = np.array([score.note_samples(seconds, self.sample_rate, max_note_length)
                              for seconds in note_lengths], np.intp)
            heard = np.minimum(length, heard)

        # A z and a pitch that come again (one timbre held for a whole piece) are computed once.
        # (np.unique(axis=0) turns Ctrl-C into an error of its own.)
        places: dict[tuple[bytes, int], int] = {}
        which = np.array([places.setdefault((row.tobytes(), pitch), len(places))
                          for row, pitch in zip(z, pitches.tolist())], np.intp)
        first = np.unique(which, return_index=True)[1]
        needed = np.zeros(len(first), np.intp)
        np.maximum.at(needed, which, heard)
        frames = np.array([self._inverter.frames_for(samples) for samples in needed], np.intp)

        result = np.zeros((count, length), np.float32)
        owners = np.split(np.argsort(which, kind="stable"),
                          np.cumsum(np.bincount(which, minlength=len(first)))[:-1])
        done = 0
        if progress:
            progress(done, count)
        for group, group_frames in _groups(frames):
            for rows, waves in self._waves(z[first[group]], pitches[first[group]], group_frames):
                for unique, wave in zip(group[rows], waves):
                    for note in owners[unique]:
                        result[note, :heard[note]] = wave[:heard[note]]
                    done += len(owners[unique])
                if progress:
                    progress(done, count)
        return result

    def _waves(self, z: np.ndarray, pitches: np.ndarray, frames: int
               ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows and their sound, as far as `frames` frames go.

        Notes are spread over the cores, each with a network of its own: notes wait for nothing,
        whereas the threads of one network would wait for each other after every layer.
        """
        from synths.engines.litert import Runner, available_threads

        threads = self._threads or available_threads()
        workers = max(1, min(threads, _WORKERS, len(z)))
        batch = max(1, min(self.batch_size, -(-len(z) // workers), _FRAMES_AT_ONCE // frames))
        network = self._network(batch, frames)
        idle = SimpleQueue()
        for worker in range(workers):
            idle.put(Runner(network, threads // workers + (worker < threads % workers)))

        def render(begin: int) -> tuple[slice, np.ndarray]:
            rows = slice(begin, min(begin + batch, len(z)))
            runner = idle.get()
            try:
                inputs = runner.inputs[0][:rows.stop - begin]
                inputs[:, :self.latent_size] = z[rows]
                inputs[:, self.latent_size:] = pitches[rows, np.newaxis] == self.pitches
                runner.invoke()
                picture = runner.outputs[0][:rows.stop - begin]
                specgrams = (picture - self._picture_offset) / self._picture_scale
            finally:
                idle.put(runner)
            return rows, self._inverter.invert(specgrams)

        pool = ThreadPoolExecutor(workers)
        try:
            yield from pool.map(render, range(0, len(z), batch))
        finally:
            pool.shutdown(cancel_futures=True)

    # Networks ------------------------------------------------------------------------------

    def _rows(self, frames: int) -> dict[int, int]:
        """How many frames of each block's picture decide over the first `frames` of the whole."""
        rows = {}
        factor = self._scale[0] ** (self._num_resolutions - self._num_blocks)
        need = -(-frames // factor)
        for block in range(self._num_blocks, 0, -1):
            if block in self._shares:  # its own part of the picture, too
                factor = self._scale[0] ** (self._num_resolutions - block)
                need = max(need, -(-frames // factor))
            height = self._resolution(block)[0]
            rows[block] = need = min(height, need)
            for layer in ("conv1", "conv0"):
                if (block, layer) in self._layers:
                    below = self._layers[block, layer].kernel.shape[0] // 2
                    need = min(height, need + below)
            need = -(-need // self._scale[0])
        return rows

    def _network(self, batch: int, frames: int) -> bytes:
        """The network from instruments and pitches to pictures, cut after `frames` frames."""
        from synths.engines.litert import Graph

        graph = Graph()
        rows = self._rows(frames)
        x = _pixel_norm(graph, graph.input([batch, self.latent_size + len(self.pitches)]))
        x = graph.fully_connected(x, self._first.kernel, self._first.bias)
        x = _activate(graph, graph.reshape(x, [batch, *self._start, -1]))
        pictures = []
        for block in range(1, self._num_blocks + 1):
            height = self._resolution(block)[0]
            if block > 1:
                needed = min(height, rows[block]
                             + self._layers[block, "conv1"].kernel.shape[0] // 2)
                x = self._grow(graph, x, self._layers[block, "conv0"], height, needed)
            x = _activate(graph, _convolve(graph, x, self._layers[block, "conv1"], height))
            x = _first_rows(graph, x, rows[block])
            if block in self._shares:
                pictures.append(self._picture(graph, x, block, frames))
        whole = pictures[0]
        for picture in pictures[1:]:
            whole = graph.add(whole, picture)
        graph.output(whole)
        return graph.build()

    def _grow(self, graph, x, layer: _Layer, height: int, rows: int):
        """Scale up, convolve, activate: the first `rows` rows, or one more, of `height`."""
        if self._scale == (2, 2) and layer.kernel.shape[:2] == (3, 3):
            return self._grow_folded(graph, x, layer, rows)
        x = graph.resize_nearest(x, x.shape[1] * self._scale[0], x.shape[2] * self._scale[1])
        return _first_rows(graph, _activate(graph, _convolve(graph, x, layer, height)), rows)

    @staticmethod
    def _grow_folded(graph, x, layer: _Layer, rows: int):
        """Scaling each pixel up to 2 x 2 and convolving 3 x 3, in one.

        That is four convolutions of 2 x 2, one for each corner, whose results interleave: the
        same sums with 4/9 of the multiplications.
        """
        batch, low, width, _ = x.shape
        half = -(-rows // 2)
        corners = []
        for below, upright in enumerate(_fold(layer.kernel, axis=0)):
            for right, kernel in enumerate(_fold(upright, axis=1)):
                # With x cut short, the last row of the lower corners may lack its last input;
                # it is then one more than asked for, and dropped later.
                padded = _pad(graph, x, 1 - below, half + below - low, 1 - right, right)
                corners.append(_activate(graph, graph.conv2d(padded, kernel, layer.bias,
                                                             padding="VALID")))
        x = graph.concatenate(corners, axis=3)
        return graph.op("DEPTH_TO_SPACE", [x], (batch, 2 * half, 2 * width, layer.bias.size),
                        options="DepthToSpace", blockSize=2)

    def _picture(self, graph, x, block: int, frames: int):
        """A block's part of the picture, at full size."""
        layer = self._layers[block, "to_rgb"]
        x = graph.conv2d(x, layer.kernel, layer.bias)
        if self._activation == "tanh":
            x = graph.tanh(x)
        share = self._shares[block]
        if share != 1.0:
            x = graph.multiply(x, np.float32(share))
        factors = [scale ** (self._num_resolutions - block) for scale in self._scale]
        if factors != [1, 1]:
            x = graph.resize_nearest(x, x.shape[1] * factors[0], x.shape[2] * factors[1])
        return _first_rows(graph, x, frames)


def _pixel_norm(graph, x):
    """Bring each pixel's channels to a mean square of 1 (Magenta's ``layers.pixel_norm``)."""
    power = graph.mean(graph.op("SQUARE", [x], x.shape), [-1])
    return graph.multiply(x, graph.rsqrt(graph.add(power, np.float32(_EPSILON))))


def _activate(graph, x):
    return _pixel_norm(graph, graph.leaky_relu(x, _LEAK))


def _pad(graph, x, top: int, bottom: int, left: int, right: int):
    """Zeros around pictures; a negative bottom cuts rows off."""
    if bottom < 0:
        x = _first_rows(graph, x, x.shape[1] + bottom)
        bottom = 0
    batch, height, width, channels = x.shape
    around = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    # XNNPACK merges the padding into the convolution that follows.
    return graph.op("PAD", [x, graph.constant(around)],
                    (batch, height + top + bottom, width + left + right, channels), options="Pad")


def _convolve(graph, x, layer: _Layer, height: int):
    """Convolve as with zeros around a picture of `height` rows, of which x has the first.

    Rows that would need more of the picture than there is are not computed.
    """
    if x.shape[1] == height:
        return graph.conv2d(x, layer.kernel, layer.bias)
    tall, wide = layer.kernel.shape[:2]
    x = _pad(graph, x, (tall - 1) // 2, 0, (wide - 1) // 2, wide // 2)
    return graph.conv2d(x, layer.kernel, layer.bias, padding="VALID")


def _first_rows(graph, x, rows: int):
    if rows >= x.shape[1]:
        return x
    return graph.slice(x, [0, 0, 0, 0], [-1, rows, -1, -1])


def _fold(kernel: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """A kernel of 3 over pixels doubled along an axis, as two of 2 over the pixels themselves."""
    a, b, c = np.split(kernel, 3, axis)
    return np.concatenate([a, b + c], axis), np.concatenate([a + b, c], axis)


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
