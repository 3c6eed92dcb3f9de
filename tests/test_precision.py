"""How `auto` settles between float32 and int8, with a network that says what it is told to."""

import numpy as np
import pytest

from synths import InputError, nsynth
from synths.nsynth import wavenet, wavenet_encoder
from synths.weights import checkpoints

SOUND = np.linspace(-0.4, 0.4, 2048, dtype=np.float32)


@pytest.fixture
def network(monkeypatch, tmp_path):
    """A wide network, for which each code costs what `prices` says of its precision."""
    class Network:
        width = wavenet.INT8_WIDTH
        prices = {"float32": 2.0, "int8": 2.0}

    made = Network()
    wide = tmp_path / "wide-nsynth"
    wide.with_name(f"{wide.name}.index").write_bytes(b"checksums of all weights")
    made.scored, made.encoded, made.threads = [], [], []

    class Encoder:
        def encode(self, codes, threads, progress):
            made.encoded.append((codes, threads))
            frames = np.arange(codes.shape[1] // 512, dtype=np.float32)
            return np.tile(frames[None, :, None], (len(codes), 1, 16))

    class Scorer:
        def __init__(self, prefix, precision, threads):
            assert prefix == wide
            self.precision = precision
            made.threads.append(threads)

        def surprise(self, codes, encoding):
            made.scored.append((self.precision, codes, encoding))
            return np.full(len(codes), made.prices[self.precision])

    monkeypatch.setattr(checkpoints, "find", lambda path, model: (
        wide if path in (wide, "wide") and model == "nsynth" else None))
    monkeypatch.setattr(wavenet, "sizes", lambda prefix: {
        wide: (made.width, 30, 16)}[prefix])
    monkeypatch.setattr(wavenet, "Scorer", Scorer)
    monkeypatch.setattr(wavenet_encoder, "load", lambda prefix: {
        wide: Encoder()}[prefix])
    return made


def test_int8_is_chosen_where_it_keeps_to_float32(network):
    network.prices["float32"] = 0.0  # so that 0.01 nats are 0.01 exactly
    for int8, chosen, words in (
            (0.0, "int8", "keeps to"), (0.01, "int8", "keeps to"), (-0.01, "int8", "keeps to"),
            (0.0101, "float32", "strays from"), (-0.0101, "float32", "strays from")):
        network.prices["int8"] = int8
        assert nsynth.choose_precision(SOUND, "wide") == nsynth.Choice(
            chosen, f"{chosen}, because int8 {words} float32 on these sounds: {int8:.4f} and "
                     "0.0000 "
            "nats per sample, 0.01 apart allowed.", 0.0, int8)


def test_a_small_network_stays_float32(network):
    network.width = wavenet.INT8_WIDTH - 1
    assert nsynth.choose_precision(SOUND, "wide") == nsynth.Choice(
        "float32", "float32, because int8 is no faster on a network this small.", None, None)
    assert not network.scored


def test_the_loudest_stretch_of_each_sound_is_scored_under_its_own_encoding(network):
    sounds = np.full((3, 6 * 512 + 100), 0.01, np.float32)
    sounds[0, 512:2 * 512] = 0.5       # loud alone
    sounds[0, 4 * 512:6 * 512] = -0.4  # louder together
    sounds[1, :512] = 0.3
    sounds[2, 6 * 512:] = 0.9          # what is no whole frame does not count
    sounds[2, 3 * 512:4 * 512] = 0.02
    nsynth.choose_precision(sounds, "wide", samples=513, threads=3)
    starts = {0: 4, 1: 0, 2: 2}
    assert [precision for precision, _, _ in network.scored] == ["float32"] * 3 + ["int8"] * 3
    for place, (_, codes, encoding) in enumerate(network.scored):
        start = starts[place % 3]
        heard = sounds[place % 3, start * 512:(start + 2) * 512]
        np.testing.assert_array_equal(codes, nsynth.mu_law(heard) + 128)
        assert codes.dtype == np.uint8 and encoding[:, 0].tolist() == [start, start + 1]
    codes, threads = network.encoded[0]
    np.testing.assert_array_equal(codes * 128, np.clip(nsynth.mu_law(sounds[:, :3072]), -128, 127))
    assert len(network.encoded) == 1 and [threads, *network.threads] == [3, 3, 3]


def test_how_much_of_a_sound_is_scored(network):
    for length, samples, scored in ((2048, 2048, 2048), (2048, 1, 512), (2048, 512, 512),
                                    (2048, 10**6, 2048), (600, 2048, 512), (9000, None, 2048)):
        network.scored.clear()
        options = {} if samples is None else {"samples": samples}
        nsynth.choose_precision(np.full(length, 0.1, np.float32), "wide", **options)
        assert [len(codes) for _, codes, _ in network.scored] == [scored] * 2


@pytest.fixture
def decoder(network, monkeypatch):
    """What `decode` asks its blocks for."""
    asked = []

    def decoder(prefix, batch, precision, temperature, threads):
        asked.append(precision)

        def generate(self, encodings, uniforms, made):
            assert uniforms[:, 0:512].shape == (batch, 512) and made is None
            return [np.zeros((len(encodings), 512), int)] * encodings.shape[1]
        return type("Decoder", (), {"batch": batch, "generate": generate})()

    monkeypatch.setattr(wavenet, "groups_at_once", lambda width, clips, threads: 1)
    monkeypatch.setattr(wavenet, "groups", lambda width, layers, clips, least: [slice(0, clips)])
    monkeypatch.setattr(wavenet, "decoder", decoder)
    return asked


def test_auto_is_settled_before_decoding_and_said_where_there_was_a_choice(
        network, decoder, tmp_path):
    encodings, uniforms = np.zeros((1, 2, 16)), np.full((1, 1024), 0.5)

    def decode(**options):
        said = []
        nsynth.decode(encodings, "wide", uniforms, report=said.append, **options)
        return decoder.pop(), said

    def synthesize(**options):
        said = []
        nsynth.synthesize(encodings, [tmp_path / "a.wav"], "wide", report=said.append, **options)
        return decoder.pop(), said

    for make in (decode, synthesize):
        network.prices["int8"] = 2.0
        choice = nsynth.choose_precision(SOUND, "wide")
        assert make(reference_audio=SOUND) == ("int8", [choice.reason])
        network.prices["int8"] = 3.0
        choice = nsynth.choose_precision(SOUND, "wide")
        assert make(reference_audio=SOUND) == ("float32", [choice.reason])
        network.scored.clear()
        assert make() == ("float32", [])  # nothing to try int8 on
        assert make(precision="int8", reference_audio=SOUND) == ("int8", [])
        assert make(precision="float32", reference_audio=SOUND) == ("float32", [])
        assert not network.scored
        network.width -= 1
        assert make(reference_audio=SOUND) == ("float32", [])
        network.width += 1
        for precision in ("int4", "AUTO", ""):
            with pytest.raises(InputError) as caught:
                make(precision=precision)
            assert str(caught.value) == (
                f"The precision is auto, float32 or int8, not {precision!r}.")
    network.threads.clear()
    nsynth.decode(encodings, "wide", uniforms, reference_audio=SOUND, threads=5)
    assert network.threads == [5, 5]  # and nobody is told


def test_likelihood_is_the_mean_of_each_sound(network):
    for precision in ("auto", "int4"):
        with pytest.raises(InputError) as caught:
            nsynth.nll(SOUND, "wide", precision)
        assert str(caught.value) == f"The precision is float32 or int8, not {precision!r}."
    done = []
    sounds = np.stack([SOUND, SOUND[::-1]])[:, :1500]
    network.prices["int8"] = 5.5
    result = nsynth.nll(sounds, "wide", "int8", threads=2,
                        progress=lambda *words: done.append(words))
    assert result.tolist() == [5.5, 5.5] and result.dtype == np.float64
    assert done == [(1024, 2048), (2048, 2048)]
    assert [network.encoded[0][1], *network.threads] == [2, 2]
    for place, (_, codes, encoding) in enumerate(network.scored):
        np.testing.assert_array_equal(codes, nsynth.mu_law(sounds[place, :1024]) + 128)
        assert len(encoding) == 2
    assert nsynth.nll(SOUND, "wide").tolist() == [2.0] and network.scored[-1][0] == "float32"


def test_likelihood_says_what_it_cannot_score(network):
    with pytest.raises(InputError) as caught:
        nsynth.nll(np.zeros(511, np.float32), "wide")
    assert str(caught.value) == ("NSynth encodes frames of 512 samples, and there are only 511: "
                                 "use "
                                 "a longer sound.")
    with pytest.raises(InputError, match="floating point"):
        nsynth.choose_precision(np.zeros(600, int), "wide")
