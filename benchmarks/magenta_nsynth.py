"""Make NSynth references with Magenta's own code: weights, encodings and samples.

This module runs as a program, so that TensorFlow and its global state stay out of the tests'
process:

    python -m benchmarks.magenta_nsynth settings.json reference.npz
"""

import json
import sys
from pathlib import Path

import numpy as np

from synths.engines import tensorflow_v1
from synths.nsynth import magenta

OFFICIAL = {"width": 512, "skip_width": 256, "num_layers": 30, "num_z": 16,
            "ae_width": 128, "ae_num_layers": 30}


def random_weights(sizes, seed=0):
    """Return random variables by name that give probabilities spread over many codes (4 nats)."""
    rng = np.random.default_rng(seed)
    width, skip, z = sizes["width"], sizes["skip_width"], sizes["num_z"]
    ae_width, layers = sizes["ae_width"], sizes["num_layers"]
    shapes = {"ae_startconv": (3, 1, ae_width, 1), "ae_bottleneck": (1, ae_width, z, 1),
              "startconv": (3, 1, width, 2), "skip_start": (1, width, skip, 1),
              "out1": (1, skip, skip, 1), "cond_map_out1": (1, z, skip, 1),
              "logits": (1, skip, 256, 1)}
    for i in range(1, layers + 1):
        shapes |= {f"dilatedconv_{i}": (3, width, 2 * width, 1.7),
                   f"cond_map_{i}": (1, z, 2 * width, 0.5), f"res_{i}": (1, width, width, 1),
                   f"skip_{i}": (1, width, skip, 1)}
    for i in range(1, sizes["ae_num_layers"] + 1):
        shapes |= {f"ae_dilatedconv_{i}": (3, ae_width, ae_width, 1),
                   f"ae_res_{i}": (1, ae_width, ae_width, 0.5)}
    variables = {}
    for name, (taps, n_in, n_out, gain) in shapes.items():
        kernel = rng.standard_normal([1, taps, n_in, n_out], dtype=np.float32)
        variables[f"{name}/W"] = kernel * np.float32(gain / (taps * n_in) ** 0.5)
        variables[f"{name}/biases"] = rng.standard_normal(n_out, dtype=np.float32) * 0.1
    return variables


def save_checkpoint(prefix, variables):
    """Write variables as a TensorFlow checkpoint, with moving averages that must not be read."""
    import tensorflow as tf

    Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    averages = {f"{name}/ExponentialMovingAverage": np.zeros_like(value)
                for name, value in variables.items() if value.size < 1e5}
    names = sorted(variables | averages)
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names),
                      tensors=[tf.constant((variables | averages)[name]) for name in names])


def decoder(tf, fastgen, prefix, encodings):
    """Return a function that decodes uniforms [clips, steps] to samples with Magenta's decoder.

    Each call continues from the last one, but starts with a sample of zero.
    """
    session = tf.Session(config=tf.ConfigProto(allow_soft_placement=True))
    net = fastgen.load_fastgen_nsynth(len(encodings))
    tf.train.Saver().restore(session, prefix)
    session.run(net["init_ops"])    # once: filled queues cannot be filled again

    def decode(uniforms):
        generated, samples = np.zeros([len(uniforms), 1]), []
        for i, numbers in enumerate(uniforms.T):
            fastgen.np.random.rand = lambda n, numbers=numbers: numbers[:n]
            generated = fastgen.generate_audio_sample(session, net, generated,
                                                      encodings[:, i // 512])
            samples.append(generated[:, 0])
        return np.stack(samples, axis=1)
    return decode


def main(settings_file, target):
    settings = json.loads(Path(settings_file).read_text())
    data, prefix = np.load(settings["data"]), settings["prefix"]
    if "sizes" in settings:     # otherwise the checkpoint exists
        save_checkpoint(prefix, random_weights(settings["sizes"]))
    tf = tensorflow_v1.load()
    with magenta.fastgen(Path(prefix)) as fastgen:
        audio = data["audio"]
        results = {"encodings": fastgen.encode(audio, prefix, audio.shape[-1]),
                   "samples": decoder(tf, fastgen, prefix, data["encodings"])(data["uniforms"])}
        if settings["loss"]:
            # The loss of the training graph is the mean NLL in nats.
            audio = audio[:, :audio.shape[1] // 512 * 512]
            with tf.Graph().as_default(), tf.Session() as session:
                wav = tf.placeholder(tf.float32, audio.shape)
                net = fastgen.Config().build({"wav": wav}, is_training=False)
                tf.train.Saver().restore(session, prefix)
                results["loss"] = session.run(net["loss"], {wav: audio})
    np.savez(target, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
