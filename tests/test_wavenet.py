"""The decoder's variables, and the NLL, compared with the network in plain NumPy."""

import magenta_nsynth
import numpy as np
import pytest

from synths.nsynth import wavenet, wavenet_variables

SIZES = {"width": 16, "skip_width": 8, "num_layers": 12, "num_z": 3, "ae_width": 4,
         "ae_num_layers": 1}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("weights") / "model.ckpt-1"
    magenta_nsynth.save_checkpoint(prefix, magenta_nsynth.random_weights(SIZES))
    return prefix


@pytest.fixture(scope="module")
def weights(prefix):
    return wavenet_variables.load(prefix)


def test_load_reads_sizes_off_the_shapes(prefix, weights):
    assert wavenet_variables.sizes(prefix) == (16, 12, 3)
    assert (weights.width, weights.skip_width, weights.channels) == (16, 8, 3)
    assert [layer.dilation for layer in weights.layers] == [2 ** i for i in range(10)] + [1, 2]
    assert weights.layers[3].taps.shape == (3, 16, 32)


def forward(weights, codes, encoding):
    """Return the cumulative probabilities of a clip, in float64 and with all taps at every step."""
    signal = np.concatenate([np.zeros(3), (codes - 128.0) / 128])[:-1]
    x = np.lib.stride_tricks.sliding_window_view(signal, 3) @ weights.start.astype(float)
    x += weights.start_bias
    skips = x @ weights.skip_start + weights.skip_start_bias
    condition = np.repeat(encoding.astype(float), 512, axis=0)[:len(x)]
    for layer in weights.layers:
        padded = np.concatenate([np.zeros([2 * layer.dilation, x.shape[1]]), x])
        gates = layer.bias + condition @ layer.cond + layer.cond_bias
        for i in range(3):
            gates = gates + padded[i * layer.dilation:][:len(x)] @ layer.taps[i]
        opening, content = np.split(gates, 2, axis=1)
        gated = np.tanh(content) / (1 + np.exp(-opening))
        x = x + gated @ layer.res + layer.res_bias
        skips = skips + gated @ layer.skip + layer.skip_bias
    s = np.maximum(skips, 0) @ weights.out1 + weights.out1_bias
    s = np.maximum(s + condition @ weights.cond_out1 + weights.cond_out1_bias, 0)
    probabilities = np.exp(s @ weights.logits + weights.logits_bias)
    return np.cumsum(probabilities / probabilities.sum(axis=1, keepdims=True), axis=1)


def test_quantised_weights_are_within_half_a_step_in_every_channel():
    matrix = np.random.default_rng(0).standard_normal([64, 5], dtype=np.float32)
    matrix *= np.float32([1e-3, 1, 1e3, 0, 1])
    codes, scale = wavenet_variables.quantise(matrix)
    assert codes.dtype == np.int8 and np.abs(codes).max() <= 127
    assert (np.abs(codes * scale - matrix) <= scale / 2 * 1.001).all()
    assert list(np.abs(codes).max(axis=0)) == [127, 127, 127, 0, 127]


def test_scorer_gives_what_the_plain_network_gives(prefix, weights):
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 256, 1536).astype(np.uint8)
    encoding = rng.standard_normal([3, 3], dtype=np.float32)
    cumulated = forward(weights, codes, encoding)
    probabilities = np.diff(np.pad(cumulated, [(0, 0), (1, 0)]), axis=1)
    expected = -np.log(probabilities[np.arange(1536), codes])
    scorer = wavenet.Scorer(prefix)
    for _ in range(2):      # nothing of a first run is left for the second
        np.testing.assert_allclose(scorer.nll(codes, encoding), expected, rtol=1e-4, atol=1e-4)
