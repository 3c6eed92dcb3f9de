"""Magenta's own GANSynth: its networks as `Model`, and the functions of its `generate_util`.

Magenta's `Model` cannot be built on a current TensorFlow, because it needs tensorflow_gan,
tf.estimator and the training data set.  The `Model` of this module is built from the same Magenta
functions: `network_functions`, `networks` and `SpecgramsHelper`.  Every note is computed in full
(four seconds).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from synths import InputError
from synths.engines import tensorflow_v1
from synths.engines.litert import silent_stderr
from synths.gansynth import model, variables
from synths.weights import checkpoints, schema

# Defaults of set_flags in Magenta's `model.py` that `variables.DEFAULTS` does not have.
_DEFAULTS = {
    "normalizer_margin": 0.8, "normalizer_num_examples": 1000, "kernel_size": 3, "start_height": 4,
    "start_width": 8, "fmap_base": 512, "fmap_decay": 1.0, "fmap_max": 128,
}
PITCHES = 61  # from C1 to C6


def settings(folder: Path, experiment: dict, num_blocks: int) -> dict[str, Any]:
    """Return the keyword arguments of Magenta's network functions for a checkpoint's settings."""
    tensorflow_v1.load()
    with silent_stderr():
        from magenta.models.gansynth.lib import networks
    config = {**variables.DEFAULTS, **_DEFAULTS, **experiment}
    return {**config, "num_blocks": num_blocks, "train_root_dir": str(folder),
            "resolution_schedule": networks.ResolutionSchedule(
                config["scale_mode"], (config["start_height"], config["start_width"]),
                config["scale_base"], config["num_resolutions"])}


def _generate_util() -> Any:
    tensorflow_v1.load()
    with silent_stderr():
        from magenta.models.gansynth.lib import generate_util
    return generate_util


def load_midi(midi_path: str | Path, min_pitch: int = model.LOWEST_PITCH, max_pitch: int = 84
              ) -> dict:
    """Read the notes of a MIDI file with Magenta's `load_midi`.

    Magenta's default lowest pitch is 36.  Magenta plays drums as pitched notes, ignores pedals, and
    cannot read damaged files.
    """
    return _generate_util().load_midi(str(midi_path), min_pitch, max_pitch)[1]


def get_random_instruments(model: Any, total_time: float, secs_per_instrument: float = 2.0,
                           rng: np.random.Generator | None = None
                           ) -> tuple[np.ndarray, np.ndarray]:
    """Draw random instruments with Magenta's `get_random_instruments` and the given `rng`."""
    drawn = SimpleNamespace(generate_z=lambda n: model.generate_z(n, rng))
    return _generate_util().get_random_instruments(drawn, total_time, secs_per_instrument)


def get_z_notes(start_times: np.ndarray, z_instruments: np.ndarray, t_instruments: np.ndarray
                ) -> np.ndarray:
    """Interpolate the instruments at the start of each note with Magenta's `get_z_notes`."""
    return _generate_util().get_z_notes(start_times, z_instruments, t_instruments)


def combine_notes(audio_notes: np.ndarray, start_times: np.ndarray, end_times: np.ndarray,
                  velocities: np.ndarray, sr: int = 16000) -> np.ndarray:
    """Mix the notes with Magenta's `combine_notes`, and scale the clip down to full scale."""
    clip = _generate_util().combine_notes(audio_notes, start_times, end_times, velocities, sr)
    return np.asarray(clip / max(1.0, float(np.abs(clip).max())), np.float32)


class Model:
    """A generator that runs Magenta's code, with the interface of `synths.gansynth.Model`."""

    @classmethod
    def load_from_path(cls, path: str | Path | None = None, batch_size: int = 16,
                       threads: int | None = None) -> Model:
        """Load a generator, like `synths.gansynth.Model.load_from_path`, but use all cores."""
        if threads is not None:
            raise InputError("Magenta's own engine always uses all cores: leave out --threads.")
        return cls(checkpoints.find(path, "gansynth"), batch_size)

    def __init__(self, prefix: Path, batch_size: int = 16) -> None:
        self.path, self.batch_size = Path(prefix), batch_size
        experiment = checkpoints.experiment(prefix)
        num_blocks = variables.count_blocks(checkpoints.shapes(prefix))
        if num_blocks < 1:
            raise InputError(f"The GANSynth checkpoint {prefix} lacks the averaged weights that "
                             "Magenta's code uses: choose another one.")
        config = settings(schema.experiment_file(prefix).parent, experiment, num_blocks)
        self.latent_size = int(config["latent_vector_size"])
        self.pitches = range(model.LOWEST_PITCH, model.LOWEST_PITCH + PITCHES)
        tf = tensorflow_v1.load()
        with tf.Graph().as_default(), silent_stderr():
            try:
                self._build(tf, config, num_blocks)
            except (tf.errors.OpError, ValueError, KeyError) as error:
                reason = str(error).strip().partition("\n")[0][:200]
                raise InputError(f"Magenta's own engine cannot load {prefix} ({reason}): leave out "
                                 "--engine.") from error

    def _build(self, tf: Any, config: dict[str, Any], num_blocks: int) -> None:
        """Build the graph from pitches and z to waveforms, like Magenta's `Model`; load weights."""
        from magenta.models.gansynth.lib import network_functions
        from magenta.models.gansynth.lib.specgrams_helper import SpecgramsHelper

        saved: dict[str, Any] = {}
        config["progress"] = self._progress(tf, config, num_blocks, saved)
        self._labels = tf.placeholder(tf.int32, [self.batch_size])
        self._noises = tf.placeholder(tf.float32, [self.batch_size, self.latent_size])
        with tf.variable_scope("Generator"):
            data, _ = network_functions.g_fn_registry[config["g_fn"]](
                (self._noises, tf.one_hot(self._labels, PITCHES)), **config)
        helper = SpecgramsHelper(
            config["audio_length"], config["resolution_schedule"].final_resolutions,
            overlap=0.75, sample_rate=config["sample_rate"], mel_downscale=1,
            ifreq=config["data_type"] != "phase")
        invert = (helper.melspecgrams_to_waves if config["data_type"] == "mel"
                  else helper.specgrams_to_waves)
        self._waves = invert(data)
        saved |= {variable.op.name + schema.AVERAGE: variable
                  for variable in tf.global_variables("Generator")}
        self._session = tf.Session()
        tf.train.Saver(saved).restore(self._session, str(self.path))

    @staticmethod
    def _progress(tf: Any, config: dict[str, Any], num_blocks: int, saved: dict[str, Any]) -> Any:
        """Return how far the network has grown; add the variable that stores this to `saved`."""
        from magenta.models.gansynth.lib import networks

        if not config["train_progressive"]:
            return num_blocks - 1.0
        if config["train_time_limit"] is None:
            saved["global_step"] = tf.Variable(np.int64(0), name="global_step")
            return networks.compute_progress(
                saved["global_step"], config["stable_stage_num_images"],
                config["transition_stage_num_images"], num_blocks)
        saved["Variable"] = tf.Variable(np.float32(0), name="Variable")
        stages = config["train_time_stage_multiplier"] ** np.arange(
            2 * config["num_resolutions"] - 1, dtype=np.float32)
        return networks.compute_progress_from_time(
            saved["Variable"], config["num_resolutions"], num_blocks,
            np.cumsum(stages * (config["train_time_limit"] / stages.sum())))

    def close(self) -> None:
        """Free the memory."""
        self._session.close()

    def generate_z(self, n: int, rng: np.random.Generator | int | None = None) -> np.ndarray:
        """Draw the same latent vectors as `synths.gansynth.Model.generate_z`."""
        return np.random.default_rng(rng).normal(size=(n, self.latent_size))

    def generate_samples_from_z(self, z: np.ndarray, pitches: Sequence[int] | np.ndarray,
                                max_audio_length: int = 64000) -> np.ndarray:
        """Generate notes, float32 [n, samples], like `synths.gansynth.Model`."""
        labels = np.asarray(pitches) - model.LOWEST_PITCH
        if ((labels < 0) | (labels >= PITCHES)).any():
            raise InputError(f"The model plays MIDI pitches {self.pitches[0]} to "
                             f"{self.pitches[-1]}: leave other notes out or transpose them.")
        waves = []
        for begin in range(0, len(z), self.batch_size):
            noises = np.zeros((self.batch_size, self.latent_size), np.float32)
            numbers = np.zeros(self.batch_size, np.int32)
            used = min(self.batch_size, len(z) - begin)
            noises[:used], numbers[:used] = z[begin:begin + used], labels[begin:begin + used]
            made = self._session.run(self._waves, {self._labels: numbers, self._noises: noises})
            waves.append(made[:used, :max_audio_length, 0])
        return np.concatenate(waves)
