"""The decoder in C on every processor target that this machine can run."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import magenta_nsynth
import numpy as np
import pytest
from test_wavenet import forward

from synths import InputError, nsynth
from synths.nsynth import build_decoder, decoder
from synths.nsynth.decoder import Decoder
from synths.nsynth.wavenet_variables import load

SIZES = {"width": 96, "skip_width": 40, "num_layers": 12, "num_z": 3, "ae_width": 32,
         "ae_num_layers": 1}
WIDTHS = (24, 96, 160)  # the small one decodes clips on threads of their own
TARGETS = decoder.targets()


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Return the prefix of a random network of each width."""
    prefixes = {}
    for width in WIDTHS:
        prefixes[width] = tmp_path_factory.mktemp("weights") / "model.ckpt-1"
        magenta_nsynth.save_checkpoint(prefixes[width], magenta_nsynth.random_weights(
            SIZES | {"width": width}))
    return prefixes


def given(clips, frames, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal([clips, frames, 3], dtype=np.float32),
            rng.random([clips, frames * 512]))


def generate(made, encodings, uniforms, *codes):
    return np.concatenate(list(made.generate(encodings, uniforms, *codes)), axis=1)


def misses(weights, codes, encoding, uniforms):
    """Return how far outside of its code's probabilities each random number is."""
    cumulated = np.pad(forward(weights, codes, encoding), [(0, 0), (1, 0)])
    steps = np.arange(len(codes))
    return np.maximum(np.maximum(cumulated[steps, codes] - uniforms,
                                 uniforms - cumulated[steps, codes + 1]), 0)


@pytest.mark.parametrize("clips, threads", [(1, 1), (3, 2)])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("target", TARGETS)
def test_decoder_float32_codes_are_the_plain_networks(networks, target, width, clips, threads):
    encodings, uniforms = given(clips, 2)
    codes = generate(Decoder(networks[width], clips, threads=threads, target=target), encodings,
                     uniforms)
    assert codes.shape == (clips, 1024) and codes.dtype == np.uint8 and len(np.unique(codes)) > 100
    for row, encoding, numbers in zip(codes, encodings, uniforms):
        assert misses(load(networks[width]), row.astype(int), encoding, numbers).max() < 1e-5


@pytest.mark.parametrize("target", TARGETS)
def test_decoder_int8_codes_are_near_the_plain_networks(networks, target):
    encodings, uniforms = given(2, 2)
    codes = generate(Decoder(networks[160], 2, "int8", threads=2, target=target), encodings,
                     uniforms).astype(int)
    off = np.mean([misses(load(networks[160]), *case) for case in zip(codes, encodings, uniforms)])
    assert 1e-5 < off < 5e-3


@pytest.mark.parametrize("target", TARGETS)
def test_decoder_int8_gives_the_same_codes_on_every_target(networks, target):
    encodings, uniforms = given(13, 1)
    codes = [generate(Decoder(networks[160], 13, "int8", target=each), encodings, uniforms)
             for each in (TARGETS[0], target)]
    assert (codes[0] == codes[1]).mean() > 0.8  # but for rounding edges


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_decoder_resumes_from_codes(networks, precision):
    encodings, uniforms = given(3, 5)
    network = Decoder(networks[96], 3, precision, threads=2)
    codes = generate(network, encodings, uniforms)
    for made in (1, 4):
        list(network.generate(encodings[:, :1], uniforms))
        rest = generate(network, encodings, uniforms, codes[:, :made * 512])
        assert np.array_equal(rest, codes[:, made * 512:])


@pytest.mark.parametrize("width", WIDTHS)
def test_decoder_clip_depends_on_neither_neighbours_nor_threads(networks, width):
    encodings, uniforms = given(5, 2)
    alone = generate(Decoder(networks[width], 1), encodings[2:3], uniforms[2:3])
    for threads in (1, 2, 3):
        together = generate(Decoder(networks[width], 5, threads=threads), encodings, uniforms)
        assert np.array_equal(together[2], alone[0])


def test_decoder_low_temperature_draws_likelier_codes(networks):
    encodings, uniforms = given(1, 2)
    kinds = [len(np.unique(generate(Decoder(networks[96], 1, temperature=each), encodings,
                                    uniforms))) for each in (0.2, 1.0)]
    assert kinds[0] < 0.7 * kinds[1]


def test_draw_uniform_of_the_last_code_is_not_exceeded(networks):
    encodings, _ = given(1, 1)
    codes = generate(Decoder(networks[96], 1), encodings, np.full([1, 512], 1 - 1e-16))
    assert codes.max() <= 255 and codes.min() > 128


@pytest.mark.parametrize("sent", [0, 1, 2])
def test_decoder_stopped_while_threads_start_leaves_none_waiting(networks, sent, monkeypatch):
    network = Decoder(networks[160], 1, threads=3)
    encodings, uniforms = given(1, 2)
    expected = generate(network, encodings, uniforms)
    submit, calls = ThreadPoolExecutor.submit, []

    def stopped(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3 * 5 + sent + 1:
            raise KeyboardInterrupt
        return submit(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", stopped)
        with pytest.raises(KeyboardInterrupt):
            generate(network, encodings, uniforms)
    assert np.array_equal(generate(network, encodings, uniforms), expected)


def test_more_threads_than_cores_are_no_slower(networks):
    import time

    encodings, uniforms = given(1, 1)
    seconds = []
    for threads in (1, 64):
        began = time.perf_counter()
        nsynth.decode(encodings, networks[160], uniforms, "float32", threads=threads)
        seconds.append(time.perf_counter() - began)
    assert seconds[1] < 5 * seconds[0] + 1


def test_target_that_the_machine_lacks_is_refused(monkeypatch):
    monkeypatch.setenv("NSYNTH_TARGET", "z80")
    with pytest.raises(InputError, match="NSYNTH_TARGET"):
        decoder.default_target()


@pytest.mark.parametrize("batch", [1, 5, 64, 65, 200])
def test_groups_cover_the_batch_evenly(batch):
    groups = decoder.groups(32, 20, batch)
    assert [i for group in groups for i in range(group.start, group.stop)] == list(range(batch))
    sizes = [group.stop - group.start for group in groups]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= 64


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs ziglang")
def test_bitcode_is_that_of_the_source(tmp_path):
    build_decoder.build(tmp_path)
    for name in decoder.TARGETS:
        assert (tmp_path / f"{name}.bc").read_bytes() == (
            decoder.BITCODE / f"{name}.bc").read_bytes(), "python -m synths.nsynth.build_decoder"
