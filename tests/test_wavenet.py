"""The decoder's parts: quantisation, drawing codes, groups and blocks."""

import magenta_nsynth
import numpy as np
import pytest

from synths.engines.litert import Graph, Runner
from synths.nsynth import wavenet

SIZES = {"width": 16, "skip_width": 8, "num_layers": 12, "num_z": 3, "ae_width": 4,
         "ae_num_layers": 1}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("weights") / "model.ckpt-1"
    magenta_nsynth.save_checkpoint(prefix, magenta_nsynth.random_weights(SIZES))
    return prefix


@pytest.fixture(scope="module")
def weights(prefix):
    return wavenet.load(prefix)


def test_load_reads_sizes_off_the_shapes(prefix, weights):
    assert wavenet.sizes(prefix) == (16, 12, 3)
    assert (weights.width, weights.skip_width, weights.channels) == (16, 8, 3)
    assert [layer.dilation for layer in weights.layers] == [2 ** i for i in range(10)] + [1, 2]
    assert weights.layers[3].taps.shape == (3, 16, 32)


def generate(prefix, encodings, uniforms, **options):
    decoder = wavenet.Decoder(prefix, len(encodings), **options)
    return np.concatenate(list(decoder.generate(encodings, uniforms)), axis=1)


def forward(weights, codes, encoding):
    """Cumulated odds of one clip's samples in float64, all taps at every step."""
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
    odds = np.exp(s @ weights.logits + weights.logits_bias)
    return np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)


@pytest.mark.parametrize("shortest_block", [1, 2, 8, 1024])
def test_generated_codes_are_the_networks(prefix, weights, shortest_block):
    """Every code is the one that the plain network, given the codes before it, draws."""
    rng = np.random.default_rng(1)
    encodings = rng.standard_normal([2, 4, 3], dtype=np.float32)
    uniforms = rng.random([2, 2048])
    codes = generate(prefix, encodings, uniforms, shortest_block=shortest_block)
    assert codes.shape == (2, 2048) and codes.dtype == np.uint8
    assert len(np.unique(codes)) > 100
    for clip in range(2):
        cumulated = forward(weights, codes[clip], encodings[clip])
        # Off by rounding at most: drawn with a number slightly lower or higher.
        number = uniforms[clip][:, None]
        low, high = ((cumulated < number + error).sum(axis=1) for error in (-1e-5, 1e-5))
        assert ((low <= codes[clip]) & (codes[clip] <= high)).all()
        assert (low == high).mean() > 0.98


def test_a_second_run_begins_anew(prefix):
    rng = np.random.default_rng(2)
    encodings, uniforms = rng.standard_normal([1, 2, 3], dtype=np.float32), rng.random([1, 1024])
    decoder = wavenet.Decoder(prefix, 1)
    first, second = (np.concatenate(list(decoder.generate(encodings, uniforms)), axis=1)
                     for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("made", [1, 4, 7])
def test_generation_goes_on_from_codes(prefix, made):
    """From what the network hears of them, 5 frames here; those before are not looked at."""
    rng = np.random.default_rng(3)
    encodings, uniforms = rng.standard_normal([2, 9, 3], dtype=np.float32), rng.random([2, 4608])
    assert wavenet.frames_heard(12) == 5 and wavenet.frames_heard(30) == 12
    codes = generate(prefix, encodings, uniforms)
    known = codes[:, :made * 512].copy()
    known[:, :max(0, made - 5) * 512] = 7
    decoder = wavenet.Decoder(prefix, 2)
    list(decoder.generate(encodings[:, :1], uniforms))
    rest = np.concatenate(list(decoder.generate(encodings, uniforms, known)), axis=1)
    assert np.array_equal(rest, codes[:, made * 512:])


def test_draw_is_searchsorted_of_cumsum():
    rng = np.random.default_rng(0)
    clips = 300
    odds = np.float32(rng.dirichlet(np.full(256, 0.1), clips))
    odds[:9] = 0
    odds[np.arange(9), [0, 1, 15, 16, 127, 128, 240, 254, 255]] = 1
    odds[9] = 1 / 512                       # sums to a half: rounding made absurdly large
    uniforms = rng.random(clips)
    uniforms[:9], uniforms[9], uniforms[10] = 0.5, 0.75, 0
    graph = Graph()
    graph.output(wavenet._draw(graph, graph.input([clips, 256]), graph.input([clips * 16, 1])))
    runner = Runner(graph.build(), 1)
    runner.inputs[0][:] = odds
    runner.inputs[1][:] = uniforms.astype(np.float32).repeat(16)[:, None]
    runner.invoke()
    drawn = runner.outputs[0][:, 0] + 128
    expected = [np.searchsorted(row, u) for row, u in zip(np.cumsum(odds, axis=1), uniforms)]
    assert expected[9] == 256 and drawn[9] == 255
    assert np.array_equal(np.delete(drawn, 9), np.delete(expected, 9))


def test_quantised_weights_are_within_half_a_step_in_every_channel():
    matrix = np.random.default_rng(0).standard_normal([64, 5], dtype=np.float32)
    matrix *= np.float32([1e-3, 1, 1e3, 0, 1])
    codes, scale = wavenet.quantise(matrix)
    assert codes.dtype == np.int8 and np.abs(codes).max() <= 127
    assert (np.abs(codes * scale - matrix) <= scale / 2 * 1.001).all()
    assert list(np.abs(codes).max(axis=0)) == [127, 127, 127, 0, 127]


@pytest.mark.parametrize("batch, least", [(1, 1), (5, 1), (12, 2), (64, 1), (65, 1), (200, 2)])
def test_groups_cover_the_batch_evenly(batch, least):
    groups = wavenet.groups(32, 20, batch, least)
    assert [i for group in groups for i in range(group.start, group.stop)] == list(range(batch))
    sizes = [group.stop - group.start for group in groups]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= 64 and len(groups) >= least


def test_scorer_gives_what_the_plain_network_gives(prefix, weights):
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 256, 1536).astype(np.uint8)
    encoding = rng.standard_normal([3, 3], dtype=np.float32)
    cumulated = forward(weights, codes, encoding)
    odds = np.diff(np.pad(cumulated, [(0, 0), (1, 0)]), axis=1)
    expected = -np.log(odds[np.arange(1536), codes])
    scorer = wavenet.Scorer(prefix)
    for _ in range(2):      # nothing of a first run is left for the second
        np.testing.assert_allclose(scorer.surprise(codes, encoding), expected, rtol=1e-4, atol=1e-4)
