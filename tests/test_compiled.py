"""The networks as compiled code: what they compute on XNNPACK, and what threads may do to it."""

import sys
from concurrent.futures import ThreadPoolExecutor

import magenta_nsynth
import numpy as np
import pytest
from test_wavenet import forward

from synths.engines import crew, kernels, processors
from synths.engines.litert import Graph, Runner
from synths.engines.processors import NARROW, WIDE, WIDE_BYTES
from synths.nsynth import wavenet, wavenet_encoder
from synths.nsynth.wavenet_compiled import Decoder
from synths.nsynth.wavenet_encoder_compiled import Network
from synths.nsynth.wavenet_steps import StepCode

SIZES = {"width": 96, "skip_width": 32, "num_layers": 12, "num_z": 3, "ae_width": 32,
         "ae_num_layers": 11}
FLOATS = [pytest.param((target, "float32"), id=f"{target.name}-float32")
          for target in (NARROW, WIDE, WIDE_BYTES)]
EVERY = [*FLOATS, pytest.param((WIDE_BYTES, "int8"), id="cascadelake-int8")]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("weights") / "model.ckpt-1"
    magenta_nsynth.save_checkpoint(prefix, magenta_nsynth.random_weights(SIZES))
    return prefix


@pytest.fixture
def target(request):
    """A processor and a precision, if this machine can stand in for that processor."""
    if request.param[0] not in processors.processors():
        pytest.skip("this machine's processor lacks instructions")
    return dict(zip(("target", "precision"), request.param))


def given(clips, frames, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal([clips, frames, 3], dtype=np.float32),
            rng.random([clips, frames * 512]))


def generate(decoder, encodings, uniforms):
    return np.concatenate(list(decoder.generate(encodings, uniforms)), axis=1)


@pytest.mark.parametrize("target", EVERY, indirect=True)
def test_generation_goes_on_from_codes(prefix, target):
    encodings, uniforms = given(3, 7)
    decoder = Decoder(prefix, 3, threads=2, **target)
    codes = generate(decoder, encodings, uniforms)
    list(decoder.generate(encodings[:, :1], uniforms))
    rest = np.concatenate(list(decoder.generate(encodings, uniforms, codes[:, :6 * 512])), axis=1)
    assert np.array_equal(rest, codes[:, 6 * 512:])


def misses(weights, codes, encoding, uniforms):
    """How far outside of its code's odds, by the plain network, each number lies."""
    cumulated = np.pad(forward(weights, codes, encoding), [(0, 0), (1, 0)])
    steps = np.arange(len(codes))
    return np.maximum(np.maximum(cumulated[steps, codes] - uniforms,
                                 uniforms - cumulated[steps, codes + 1]), 0)


# Decoder -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", FLOATS, indirect=True)
def test_generated_codes_are_the_networks(prefix, target):
    encodings, uniforms = given(3, 3)
    codes = generate(Decoder(prefix, 3, threads=2, **target), encodings, uniforms)
    assert codes.shape == (3, 1536) and codes.dtype == np.uint8
    assert len(np.unique(codes)) > 100
    for row, encoding, numbers in zip(codes, encodings, uniforms):
        assert misses(wavenet.load(prefix), row.astype(int), encoding, numbers).max() < 1e-5


@pytest.mark.parametrize("target", EVERY[-1:], indirect=True)
def test_int8_strays_from_the_network_as_far_as_on_xnnpack(prefix, target):
    encodings, uniforms = given(2, 2)
    strays = []
    for decoder in (Decoder(prefix, 2, **target), wavenet.Decoder(prefix, 2, "int8")):
        codes = generate(decoder, encodings, uniforms).astype(int)
        strays.append(np.mean([misses(wavenet.load(prefix), *case)
                               for case in zip(codes, encodings, uniforms)]))
    assert strays[0] > 1e-5     # it is int8
    assert strays[0] == pytest.approx(strays[1], rel=0.2)


@pytest.mark.parametrize("target", EVERY[-1:], indirect=True)
@pytest.mark.parametrize("clips", [1, 7, 12, 29])
def test_int8_products_are_xnnpacks(target, clips):
    """Rounded as XNNPACK rounds, so that its scorer speaks for the compiled decoder."""
    rng = np.random.default_rng(clips)
    code = StepCode(target["target"], 96, 32, clips, [clips], int8=True)
    weights, scale = wavenet.quantise(rng.standard_normal([96, 192], dtype=np.float32))
    rows = rng.standard_normal([clips, 96], dtype=np.float32) * rng.uniform(0.01, 9, [clips, 1])
    rows[0] = 0
    rows[-1, 1:] = np.abs(rows[-1, 1:])     # a zero at the end of the range
    graph = Graph()
    graph.output(graph.fully_connected(graph.input([clips, 96]), weights, scale=scale))
    runner = Runner(graph.build(), 1)
    runner.inputs[0][:] = rows
    runner.invoke()

    padded = np.zeros([clips, code.pitch // 4], np.float32)
    padded[:, :96] = rows
    in_bytes, scales = np.zeros([clips, code.bytes_pitch], np.uint8), np.zeros([clips, 2], "f4")
    packed = crew.aligned(kernels.packed_bytes(weights, scale, code.lanes))
    out, silence = np.ones([clips, 192], np.float32), np.zeros(192, np.float32)

    def at(array):
        return array.ctypes.data

    code.function("quantise")(at(in_bytes), at(scales), at(padded), None, code.pitch, 96, 0, clips)
    code.function("bytes_product")(
        at(out), 4 * 192, at(silence), 0, at(silence), 0, at(in_bytes), at(scales), at(packed), 96,
        clips, 0, len(packed), -3e38)
    np.testing.assert_allclose(out, runner.outputs[0], rtol=1e-5,
                               atol=1e-6 * np.abs(runner.outputs[0]).max())


@pytest.mark.parametrize("target", EVERY, indirect=True)
def test_a_clip_is_the_same_alone_in_a_batch_and_on_any_number_of_threads(prefix, target):
    encodings, uniforms = given(13, 2)
    codes = generate(Decoder(prefix, 13, threads=2, **target), encodings, uniforms)
    # more threads than cores wait for each other: one frame is enough
    assert np.array_equal(codes[::-1, :512], generate(Decoder(prefix, 13, threads=5, **target),
                                                      encodings[::-1, :1], uniforms[::-1, :512]))
    alone = Decoder(prefix, 1, **target)
    for clip in (0, 12):
        for _ in range(2):      # nothing of a first run is left for the second
            assert np.array_equal(codes[clip:clip + 1], generate(
                alone, encodings[clip:clip + 1], uniforms[clip:clip + 1]))


@pytest.mark.parametrize("target", EVERY, indirect=True)
def test_draw_is_searchsorted_of_cumsum(target):
    rng = np.random.default_rng(0)
    odds = rng.dirichlet(np.full(256, 0.1), 300)
    odds[:9] = 1e-30
    odds[np.arange(9), [0, 1, 15, 16, 127, 128, 240, 254, 255]] = 1
    numbers = rng.random(300)
    numbers[9:11] = 0, 1 - 2 ** -53
    # Like logits: known but for what all of them have more.
    logits = np.log(np.maximum(odds, 1e-30)).astype(np.float32) + rng.normal(0, 9, [300, 1])
    code = StepCode(target["target"], 96, 32, 1, [1], target["precision"] == "int8")
    rows = logits.astype(np.float32)
    drawn = [code.function("draw")(row.ctypes.data, u) for row, u in zip(rows, numbers)]
    sums = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    low, high = (np.minimum((sums < numbers[:, None] + error).sum(axis=1), 255)
                 for error in (-2e-6, 2e-6))
    assert ((low <= drawn) & (drawn <= high)).all() and (low == high).mean() > 0.95


def test_temperature(prefix):
    if not processors.processors():
        pytest.skip("this machine's processor lacks instructions")
    encodings, uniforms = given(2, 1)
    for temperature in (0.2, 1.5):
        expected = generate(wavenet.Decoder(prefix, 2, temperature=temperature), encodings,
                            uniforms)
        result = generate(Decoder(prefix, 2, temperature=temperature,
                                  target=processors.processor(96, 32)), encodings, uniforms)
        assert (result == expected).mean() > 0.9


@pytest.mark.parametrize("width, skip_width, precision, known, compiled", [
    (128, 64, "float32", [WIDE], True), (128, 64, "float32", [NARROW], True),
    (128, 64, "float32", [], False), (96, 64, "float32", [WIDE], False),    # small
    (112, 64, "float32", [WIDE], False), (112, 64, "float32", [WIDE, NARROW], True),
    (128, 40, "float32", [WIDE], False), (128, 64, "int8", [WIDE_BYTES], True),
    (128, 64, "int8", [WIDE, NARROW], False)])
def test_networks_are_compiled_where_that_is_possible(
        width, skip_width, precision, known, compiled, tmp_path, monkeypatch):
    if not set(known) <= set(processors.processors()):
        pytest.skip("this machine's processor lacks instructions")
    monkeypatch.setattr(processors, "processors", lambda: known)
    prefix = tmp_path / "model.ckpt-1"
    magenta_nsynth.save_checkpoint(prefix, magenta_nsynth.random_weights(
        SIZES | {"width": width, "skip_width": skip_width, "num_layers": 2, "ae_num_layers": 1}))
    decoder = wavenet.decoder(prefix, 2, precision)
    assert isinstance(decoder, Decoder if compiled else wavenet.Decoder)
    assert generate(decoder, *given(2, 1)).shape == (2, 512)


@pytest.mark.parametrize("target, int8", [
    (NARROW, False), (WIDE, False), (WIDE_BYTES, False), (WIDE_BYTES, True)])
def test_code_compiles_for_processors_that_this_machine_is_not(target, int8):
    """So that a change that breaks another processor's code is seen here; it is not run."""
    if not processors.processors():
        pytest.skip("LLVM writes this code on x86 alone")
    code = StepCode(target, 96, 32, 2, [2, 26], int8)
    assert code.function("run") and ("vpdpbusd" in str(code.module)) == int8


# Threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", EVERY[:1], indirect=True)
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_a_stop_while_threads_are_sent_out_leaves_none_waiting(prefix, target, sent, monkeypatch):
    decoder = Decoder(prefix, 1, threads=3, **target)
    encodings, uniforms = given(1, 2)
    expected = generate(decoder, encodings, uniforms)
    submit, calls = ThreadPoolExecutor.submit, []

    def stopped(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3 * 5 + sent + 1:
            raise KeyboardInterrupt
        return submit(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", stopped)
        with pytest.raises(KeyboardInterrupt):
            generate(decoder, encodings, uniforms)
    assert len(calls) == 3 * 5 + sent + 1
    assert np.array_equal(generate(decoder, encodings, uniforms), expected)


# Encoder -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", FLOATS, indirect=True)
@pytest.mark.parametrize("frames, threads", [(1, 1), (7, 3)])
def test_encodings_are_xnnpacks(prefix, target, frames, threads):
    encoder = wavenet_encoder.load(prefix)
    samples = np.random.default_rng(frames).uniform(-1, 1, frames * 512).astype(np.float32)
    runner = Runner(encoder._graph(frames), 1)
    runner.inputs[0][0, 0, :, 0] = samples
    runner.invoke()
    expected = runner.outputs[0][0, :, 0]
    network = Network(encoder.start, encoder.layers, encoder.bottleneck, frames, threads,
                      target["target"])
    for _ in range(2):
        result = network(samples)
        assert result.dtype == np.float32 and result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_large_encoders_are_compiled_and_chunks_are_the_whole(tmp_path, monkeypatch):
    prefix = tmp_path / "model.ckpt-1"
    magenta_nsynth.save_checkpoint(prefix, magenta_nsynth.random_weights(
        SIZES | {"ae_width": 128}))
    encoder = wavenet_encoder.load(prefix)
    samples = np.random.default_rng(0).uniform(-1, 1, [2, 50 * 512]).astype(np.float32)
    chunks = encoder.encode(samples, 2)
    assert ("synths.nsynth.wavenet_encoder_compiled" in sys.modules) and chunks.shape == (2, 50, 3)
    monkeypatch.setattr(wavenet_encoder, "_CHUNK_FRAMES", 50)
    np.testing.assert_allclose(encoder.encode(samples, 1), chunks, rtol=0,
                               atol=1e-6 * np.abs(chunks).max())
    monkeypatch.setattr(processors, "processors", list)
    np.testing.assert_allclose(encoder.encode(samples, 1), chunks, rtol=0,
                               atol=2e-6 * np.abs(chunks).max())
