"""Run Magenta's GANSynth for tests and timings: random weights, notes and loading times.

The networks are those of `synths.gansynth.magenta`.  Run this module as a program, so that
TensorFlow's global state stays out of other programs:

    python -m benchmarks.magenta_gansynth make FOLDER --config JSON    # random weights
    python -m benchmarks.magenta_gansynth play FOLDER IN.npz OUT.npy   # z, pitches -> waves
    python -m benchmarks.magenta_gansynth load FOLDER       # seconds to load as Model does
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from synths.engines import tensorflow_v1
from synths.gansynth import magenta

# The official configuration: the settings of acoustic_only and all_instruments.
OFFICIAL = {
    "data_type": "mel", "total_num_images": 11_000_000, "train_progressive": True,
    "stable_stage_num_images": 800_000, "transition_stage_num_images": 800_000,
    "fmap_base": 4096, "fmap_decay": 1.0, "fmap_max": 256, "latent_vector_size": 256,
    "kernel_size": 3, "scale_mode": "ALL", "scale_base": 2, "num_resolutions": 7,
    "start_height": 2, "start_width": 16, "dataset_name": "nsynth_tfds",
    "g_fn": "specgram", "d_fn": "specgram",
}


def make(folder: Path, config: dict, stage: int, global_step: int, seed: int = 0) -> Path:
    """Save random weights, with averages that differ from them; return the checkpoint's prefix."""
    tf = tensorflow_v1.load()
    from magenta.models.gansynth.lib import network_functions

    rng = np.random.default_rng(seed)
    num_blocks = (stage + 1) // 2 + 1
    settings = magenta.settings(folder, config, num_blocks)
    with tf.Graph().as_default():
        with tf.variable_scope("Generator"):
            network_functions.g_fn_registry["specgram"](
                (tf.zeros([1, config["latent_vector_size"]]), tf.zeros([1, magenta.PITCHES])),
                progress=tf.constant(0.0), **settings)
        shapes = {variable.op.name: variable.shape.as_list()
                  for variable in tf.global_variables()}
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {"global_step": tf.Variable(np.int64(global_step))}
        for name, shape in shapes.items():
            spread = 1.0 if name.endswith("kernel") else 0.1
            for suffix in ("", "/ExponentialMovingAverage"):
                value = spread * rng.standard_normal(shape, np.float32)
                variables[name + suffix] = tf.Variable(value)
        session.run(tf.global_variables_initializer())
        stage_folder = folder / f"stage_{stage:05d}"
        stage_folder.mkdir(parents=True)
        (folder / "experiment.json").write_text(json.dumps(config), "utf-8")
        prefix = stage_folder / f"model.ckpt-{global_step}"
        tf.train.Saver(variables).save(session, str(prefix), write_meta_graph=False)
    return prefix


def load_seconds(folder: Path, batch_size: int = 16) -> float:
    """Return the seconds that it takes to build and restore the graph of `Model.load_from_path`.

    Sampling needs only a part of this graph.  The rest is the generator again for training, the
    discriminator on real and on generated notes, the losses, two Adam optimisers and the moving
    averages.  They are built here as in Magenta's `Model.__init__` and `train_util`, with plain
    TensorFlow where those call tensorflow_gan.  The data set is a placeholder, and the training
    variables (discriminator, optimisers), which the random checkpoint lacks, are initialised, not
    restored.
    """
    tf = tensorflow_v1.load()
    from magenta.models.gansynth.lib import (  # noqa: F401  (imported before the clock runs)
        layers,
        network_functions,
        networks,
        specgrams_helper,
    )

    began = time.perf_counter()
    config = json.loads((folder / "experiment.json").read_text("utf-8"))
    num_blocks = config["num_resolutions"]
    settings = {**magenta.settings(folder, config, num_blocks), "num_tokens": magenta.PITCHES,
                "progress": num_blocks - 1.0}
    graph = tf.Graph()
    with graph.as_default():
        ours = _build_training(tf, settings, num_blocks, batch_size)
        training_variables = tf.global_variables()
    with tf.Session(graph=graph) as session, graph.as_default():
        session.run(tf.variables_initializer(training_variables))
        # The averaged generator that samples, and its inversion.
        magenta.Model.load_from_path(folder, batch_size).close()
        prefix = tf.train.latest_checkpoint(str(next(folder.glob("stage_*"))))
        tf.train.Saver(ours).restore(session, prefix)
    return time.perf_counter() - began


def _build_training(tf: Any, settings: dict, num_blocks: int, batch_size: int) -> list:
    """Build the training graph; return the generator's variables."""
    from magenta.models.gansynth.lib import network_functions, networks

    height, width = settings["resolution_schedule"].final_resolutions
    images = networks.blend_images(
        tf.placeholder(tf.float32, [batch_size, height, width, 2]), settings["progress"],
        settings["resolution_schedule"], num_blocks)
    labels = tf.placeholder(tf.float32, [batch_size, magenta.PITCHES])

    def generate(scope_reuse=None):
        noises = tf.random_normal([batch_size, settings["latent_vector_size"]])
        with tf.variable_scope("Generator", reuse=scope_reuse):
            return network_functions.g_fn_registry["specgram"]((noises, labels), **settings)[0]

    def discriminate(data, reuse=True):
        with tf.variable_scope("Discriminator", reuse=reuse):
            return network_functions.d_fn_registry["specgram"](data, **settings)

    def classification_loss(data):
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(
            labels=tf.stop_gradient(labels),
            logits=discriminate(data)[1]["classification_logits"]))

    fakes = generate()
    fake_score, real_score = discriminate(fakes, None)[0], discriminate(images)[0]
    between = images + tf.random_uniform([batch_size, 1, 1, 1]) * (fakes - images)
    slope = tf.gradients(discriminate(between)[0], between)[0]
    penalty = tf.reduce_mean(tf.square(
        tf.sqrt(tf.reduce_sum(tf.square(slope), axis=[1, 2, 3])) - 1.0))
    generator_loss = -tf.reduce_mean(fake_score) + classification_loss(fakes)
    discriminator_loss = (
        tf.reduce_mean(fake_score) - tf.reduce_mean(real_score) + 10.0 * penalty
        + 0.001 * tf.reduce_mean(tf.square(real_score)) + classification_loss(images))
    ours = tf.trainable_variables("Generator")
    steps = [tf.train.AdamOptimizer(8e-4, 0.0, 0.99).minimize(loss, var_list=variables)
             for loss, variables in ((generator_loss, ours), (
                 discriminator_loss, tf.trainable_variables("Discriminator")))]
    average = tf.train.ExponentialMovingAverage(0.999)
    with tf.control_dependencies(steps):
        average.apply(ours)
    return ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="save a checkpoint of random weights")
    maker.add_argument("folder", type=Path, help="folder of the checkpoint")
    maker.add_argument("--config", type=json.loads, default={},
                       help="changes to the official configuration, as JSON")
    maker.add_argument("--stage", type=int, default=12,
                       help="stage of the checkpoint (default: %(default)s)")
    maker.add_argument("--global-step", type=int, default=11_000_000,
                       help="global step of the checkpoint (default: %(default)s)")
    player = commands.add_parser("play", help="generate notes")
    player.add_argument("folder", type=Path, help="folder of the checkpoint")
    player.add_argument("notes", type=Path, help=".npz file of z and pitches to read")
    player.add_argument("waves", type=Path, help=".npy file of waves to write")
    loader = commands.add_parser("load", help="print how long Magenta's Model takes to load")
    loader.add_argument("folder", type=Path, help="folder of the checkpoint")
    options = parser.parse_args()
    if options.command == "load":
        print(load_seconds(options.folder))
        return
    if options.command == "make":
        make(options.folder, {**OFFICIAL, **options.config}, options.stage, options.global_step)
        return
    with np.load(options.notes) as notes:
        np.save(options.waves, magenta.Model.load_from_path(options.folder).generate_samples_from_z(
            notes["z"], notes["pitches"]))


if __name__ == "__main__":
    main()
