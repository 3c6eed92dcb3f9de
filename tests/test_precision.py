"""How `auto` chooses between float32 and int8, with a network that costs what it is told to."""

import numpy as np
import pytest

from synths import InputError, nsynth
from synths.nsynth import decoding, wavenet, wavenet_encoder
from synths.nsynth.wavenet_variables import INT8_WIDTH
from synths.weights import checkpoints

SOUND = np.linspace(-0.4, 0.4, 2048, dtype=np.float32)


@pytest.fixture
def network(monkeypatch, tmp_path):
    """A network whose NLL is what `prices` has for the precision."""
    class Network:
        width = INT8_WIDTH
        prices = {"float32": 2.0, "int8": 2.0}
        scored: list = []

    made = Network()
    made.scored = []

    class Encoder:
        def encode(self, codes, threads, progress):
            frames = np.arange(codes.shape[1] // 512, dtype=np.float32)
            return np.tile(frames[None, :, None], (len(codes), 1, 16))

    class Scorer:
        def __init__(self, prefix, precision, threads):
            self.precision = precision

        def nll(self, codes, encoding):
            made.scored.append((self.precision, codes, encoding))
            return np.full(len(codes), made.prices[self.precision])

    monkeypatch.setattr(checkpoints, "find", lambda path, model: tmp_path / "wide")
    monkeypatch.setattr(decoding, "sizes", lambda prefix: (made.width, 30, 16))
    monkeypatch.setattr(wavenet, "Scorer", Scorer)
    monkeypatch.setattr(wavenet_encoder, "Encoder", lambda prefix: Encoder())
    return made


@pytest.mark.parametrize("int8, chosen", [
    (0.0, "int8"), (0.01, "int8"), (-0.01, "int8"), (0.0101, "float32"), (-0.0101, "float32")])
def test_choose_precision_takes_int8_if_it_keeps_the_nll(network, int8, chosen):
    network.prices = {"float32": 0.0, "int8": int8}
    choice = nsynth.choose_precision(SOUND, "wide")
    assert (choice.precision, choice.float32, choice.int8) == (chosen, 0.0, int8)


def test_choose_precision_small_network_stays_float32(network):
    network.width = INT8_WIDTH - 1
    assert nsynth.choose_precision(SOUND, "wide").precision == "float32" and not network.scored


def test_choose_precision_scores_the_loudest_part_of_each_sound(network):
    sounds = np.full((3, 6 * 512 + 100), 0.01, np.float32)
    sounds[0, 512:2 * 512] = 0.5       # loud alone
    sounds[0, 4 * 512:6 * 512] = -0.4  # louder together
    sounds[1, :512] = 0.3
    sounds[2, 6 * 512:] = 0.9          # not a whole frame
    sounds[2, 3 * 512:4 * 512] = 0.02
    nsynth.choose_precision(sounds, "wide", samples=513)
    assert [precision for precision, _, _ in network.scored] == ["float32"] * 3 + ["int8"] * 3
    for index, (_, codes, encoding) in enumerate(network.scored):
        start = (4, 0, 2)[index % 3]
        part = sounds[index % 3, start * 512:(start + 2) * 512]
        np.testing.assert_array_equal(codes, nsynth.mu_law(part) + 128)
        assert encoding[:, 0].tolist() == [start, start + 1]


def test_nll_is_the_mean_of_each_sound(network):
    network.prices["int8"] = 5.5
    result = nsynth.nll(np.stack([SOUND, SOUND[::-1]])[:, :1500], "wide", "int8")
    assert result.tolist() == [5.5, 5.5] and result.dtype == np.float64
    assert nsynth.nll(SOUND, "wide").tolist() == [2.0]


@pytest.mark.parametrize("audio, precision", [
    (SOUND, "auto"), (SOUND, "int4"), (np.zeros(511, np.float32), "int8"),
    (np.zeros(600, int), "int8")])
def test_nll_refuses_what_it_cannot_score(network, audio, precision):
    with pytest.raises(InputError):
        nsynth.nll(audio, "wide", precision)
