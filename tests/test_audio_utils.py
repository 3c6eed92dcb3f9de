"""The book's six functions: time stretch, encodings on disk, and plots."""

import numpy as np
import pytest
from PIL import Image

import audio_utils
from synths import InputError

RATE = 16000


def sine(frequency, seconds=1.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)).astype(
        np.float32)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize("factor, frames", [(2, 20), (0.5, 5), (1.1, 11), (0.01, 1)])
def test_timestretch_factor_multiplies_the_frames(factor, frames):
    encodings = np.random.default_rng(0).normal(size=(2, 10, 16))
    stretched = audio_utils.timestretch(encodings, factor)
    assert stretched.shape == (2, frames, 16) and stretched.dtype == np.float32
    assert stretched.min() >= encodings.min() and stretched.max() <= encodings.max()


def test_timestretch_factor_one_changes_nothing():
    encodings = np.random.default_rng(0).normal(size=(2, 7, 16)).astype(np.float32)
    np.testing.assert_array_equal(audio_utils.timestretch(encodings, 1), encodings)
    np.testing.assert_array_equal(audio_utils.timestretch(np.ones((1, 4, 16)), 2), 1)


def test_encodings_come_back_under_their_names(tmp_path):
    encodings = np.random.default_rng(0).normal(size=(2, 7, 16)).astype(np.float32)
    audio_utils.save_encoding(encodings, ["a.wav", "b.npy"], tmp_path / "new")
    for names in (["a.wav", "b"], ["a.wav.npy", "b.npy"]):
        np.testing.assert_array_equal(audio_utils.load_encodings(names, tmp_path / "new"),
                                      encodings)


def test_save_encoding_missing_name_is_an_error(tmp_path):
    with pytest.raises(ValueError):
        audio_utils.save_encoding(np.zeros((2, 7, 16)), ["a"], tmp_path)


@pytest.mark.parametrize("content", [
    np.zeros((2, 3, 16)), np.full((3, 16), np.nan), np.zeros((0, 16)), np.array(["a"]), b"", b"x"])
def test_load_encodings_other_content_is_an_input_error(tmp_path, content):
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(InputError, match="a.npy"):
        audio_utils.load_encodings(["a"], tmp_path)


def test_encoding_plot_has_a_colour_for_each_channel(tmp_path):
    encoding = np.arange(16) + np.zeros((1, 5, 16))
    path = audio_utils.save_encoding_plot(encoding, "a", tmp_path)
    found = {tuple(colour) for colour in pixels(path).reshape(-1, 3) if np.ptp(colour) > 60}
    assert path == tmp_path / "a.png" and len(found) >= 14


@pytest.mark.parametrize("draw, octaves", [(audio_utils.save_spectrogram_plot, 5),
                                           (audio_utils.save_rainbowgram_plot, 6)])
@pytest.mark.parametrize("octave", [1, 3])
def test_plot_tone_is_bright_at_its_pitch(tmp_path, draw, octaves, octave):
    picture = pixels(draw(sine(65.406 * 2**octave), RATE, "a.png", tmp_path)).sum(2)
    brightest = len(picture) - np.argmax(picture.mean(axis=1))
    assert brightest / len(picture) * octaves == pytest.approx(octave, abs=0.1)


@pytest.mark.parametrize("draw", [audio_utils.save_spectrogram_plot,
                                  audio_utils.save_rainbowgram_plot])
@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_plot_short_or_silent_sound_is_dark(tmp_path, draw, samples):
    path = draw(np.zeros(samples, np.float32), RATE, "new/a", tmp_path)
    assert pixels(path).max() < 30


def test_rainbowgram_steady_tone_keeps_its_colour_and_gliding_one_does_not(tmp_path):
    steady = sine(440)
    frequency = np.linspace(440, 880, RATE)
    gliding = (0.5 * np.sin(2 * np.pi * np.cumsum(frequency) / RATE)).astype(np.float32)
    spread = []
    for name, audio in (("steady", steady), ("gliding", gliding)):
        picture = pixels(audio_utils.save_rainbowgram_plot(audio, RATE, name, tmp_path))
        brightest = picture.sum(2).argmax(axis=0)[200:-200]
        colours = picture[brightest, np.arange(200, picture.shape[1] - 200)]
        spread.append(colours.std(axis=0).max())
    assert spread[0] < 20 < 60 < spread[1]


@pytest.mark.parametrize("audio", [np.zeros((2, 5)), np.zeros(0), np.full(5, np.inf), "flute.wav"])
def test_plot_other_than_a_sound_is_an_input_error(tmp_path, audio):
    with pytest.raises(InputError):
        audio_utils.save_spectrogram_plot(audio, RATE, "a", tmp_path)


def test_plot_without_name_gets_the_time(tmp_path):
    assert audio_utils.save_spectrogram_plot(sine(440), RATE, None, tmp_path).name[:2] == "20"
