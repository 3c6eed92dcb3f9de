"""The book's functions for encodings, pictures and sounds."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audio_utils
from audio_utils import (
    check_output_dir,
    load_audio,
    load_encodings,
    save_encoding,
    save_encoding_plot,
    save_rainbowgram_plot,
    save_spectrogram_plot,
    save_wav,
    timestretch,
)
from synths import InputError

ROOT = Path(__file__).parents[1]
RATE = 16000


def tone(frequency, seconds=1.0, rate=RATE, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def read_png(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


# Encodings


def test_timestretch_slows_down_above_one():
    ramp = np.repeat(np.arange(31, dtype=np.float32)[None, :, None], 16, axis=2)
    assert timestretch(ramp, 2).shape == (1, 62, 16)
    assert timestretch(ramp, 0.5).shape == (1, 15, 16)
    assert timestretch(ramp[0], 1.5).shape == (46, 16)
    assert np.array_equal(timestretch(ramp, 1), ramp)
    assert timestretch(ramp, 2).dtype == np.float32


def test_timestretch_interpolates_between_the_middles_of_frames():
    from scipy import ndimage

    encoding = np.random.default_rng(1).normal(size=(2, 20, 3)).astype(np.float32)
    for factor in (0.5, 0.7, 1.3, 2, 3.25):
        frames = int(20 * factor)
        expected = [ndimage.zoom(item, (frames / 20, 1), order=1, mode="nearest", grid_mode=True)
                    for item in encoding]
        np.testing.assert_allclose(timestretch(encoding, factor), expected, atol=1e-5)


def test_timestretch_of_a_constant_and_of_each_item_alone():
    constant = np.full((2, 10, 16), 0.25, np.float32)
    assert np.array_equal(timestretch(constant, 1.7), np.full((2, 17, 16), 0.25, np.float32))
    pair = np.stack([constant[0], np.random.default_rng(0).normal(size=(10, 16)) * 100])
    assert np.array_equal(timestretch(pair, 1.7)[0], timestretch(constant, 1.7)[0])


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf, 0.01])
def test_timestretch_refuses(factor):
    with pytest.raises(InputError, match="stretch"):
        timestretch(np.zeros((1, 31, 16)), factor)


def test_encodings_come_back_under_the_names_they_were_saved_with(tmp_path):
    encodings = list(np.random.default_rng(2).normal(size=(3, 31, 16)).astype(np.float32))
    names = ["bass", "metal.wav", "flute.npy"]
    save_encoding(encodings, names, tmp_path / "new" / "encodings")
    loaded = load_encodings(names, tmp_path / "new" / "encodings")
    assert all(np.array_equal(a, b) for a, b in zip(encodings, loaded, strict=True))
    assert sorted(path.name for path in (tmp_path / "new" / "encodings").iterdir()) == [
        "bass.npy", "flute.npy", "metal.wav.npy"]


def test_encodings_and_names_must_agree(tmp_path):
    with pytest.raises(InputError, match="2 encodings and 1 names"):
        save_encoding(np.zeros((2, 31, 16)), ["one"], tmp_path)


def test_load_encodings_refuses_what_is_none(tmp_path):
    with pytest.raises(InputError, match="does not exist: an encoding is"):
        load_encodings(["nothing"], tmp_path)
    (tmp_path / "text.npy").write_text("not an array")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.full((31, 16), np.nan))
    np.save(tmp_path / "flat.npy", np.zeros(31))
    whole = tmp_path / "whole.npy"
    np.save(whole, np.zeros((31, 16), np.float32))
    (tmp_path / "short.npy").write_bytes(whole.read_bytes()[:500])
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("text", "objects", "nan", "flat", "short", "empty"):
        with pytest.raises(InputError, match=name):
            load_encodings([name], tmp_path)


# Pictures


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("samples", [1, 100, 5000, 16000])
def test_pictures_of_any_length(tmp_path, labelled, samples):
    audio = tone(440)[:samples]
    for save in (save_spectrogram_plot, save_rainbowgram_plot):
        path = save(audio, RATE, "short.png", tmp_path / "a" / "b", labelled=labelled)
        assert read_png(path).shape == (960, 1280, 3)


def test_labelled_pictures_say_what_they_show(tmp_path):
    bare = read_png(save_rainbowgram_plot(tone(440), filename="bare", output_dir=tmp_path))
    named = read_png(save_rainbowgram_plot(tone(440), filename="named", output_dir=tmp_path,
                                           labelled=True, title="A_4 $x^2"))
    assert not (bare == 1).all(2).any() and (named == 1).all(2).mean() > 0.1  # a white margin


def test_encoding_plot_draws_both_shapes_alike(tmp_path):
    encoding = np.random.default_rng(4).normal(size=(31, 16))
    one = read_png(save_encoding_plot(encoding, "one.png", tmp_path / "new"))
    two = read_png(save_encoding_plot(encoding[None], "two.png", tmp_path / "new"))
    other = read_png(save_encoding_plot(encoding[:20], "other.png", tmp_path / "new"))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    for wrong in (np.zeros(31), np.zeros((0, 31, 16)), np.zeros((1, 1, 31, 16))):
        with pytest.raises(InputError, match="An encoding is"):
            save_encoding_plot(wrong, "wrong.png", tmp_path)
    assert not (tmp_path / "wrong.png").exists()


def test_encoding_plot_draws_every_encoding_of_a_batch(tmp_path):
    batch = np.zeros((2, 31, 16))
    batch[1] = np.random.default_rng(4).normal(size=(31, 16))
    pictures = [read_png(save_encoding_plot(which, name, tmp_path)) for which, name in (
        (batch, "two"), (batch[::-1], "turned"), (np.concatenate([batch] * 2), "four"))]
    coloured = [[(np.ptp(half, axis=2) > 0.3).mean() for half in np.array_split(picture, 2)]
                for picture in pictures]
    assert coloured[0][1] > 4 * coloured[0][0] and coloured[1][0] > 4 * coloured[1][1]
    assert pictures[2].shape[0] == 2 * pictures[0].shape[0]


@pytest.mark.parametrize(("name", "begins"), [
    ("a.pdf", b"%PDF"), ("b.PDF", b"%PDF"), ("c.jpg", b"\xff\xd8"), ("d", b"\x89PNG"),
    ("mix_0.5", b"\x89PNG"), ("e.png", b"\x89PNG")])
def test_the_ending_decides_what_a_picture_is(tmp_path, name, begins):
    saved = [save_spectrogram_plot(tone(440), RATE, name, tmp_path / "1"),
             save_rainbowgram_plot(tone(440), RATE, name, tmp_path / "2", labelled=True),
             save_encoding_plot(np.zeros((1, 31, 16)), name, tmp_path / "3")]
    for path in saved:
        assert path.name in (name, f"{name}.png") and path.read_bytes().startswith(begins)
        assert list(path.parent.iterdir()) == [path]


def test_pictures_and_sounds_replace_links_and_never_follow_them(tmp_path):
    for name, save in (("a.png", lambda: save_spectrogram_plot(tone(440), RATE, "a", tmp_path)),
                       ("b.png", lambda: save_encoding_plot(np.ones((9, 16)), "b", tmp_path)),
                       ("c.wav", lambda: save_wav(tone(440), tmp_path / "c.wav"))):
        mine = tmp_path / f"precious_{name}"
        mine.write_text("precious")
        try:
            (tmp_path / name).symlink_to(mine)
        except OSError:
            pytest.skip("no links on this system")
        save()
        assert mine.read_text() == "precious" and not (tmp_path / name).is_symlink()


def test_letters_that_no_font_has_are_no_warning(tmp_path, recwarn):
    for title in ("\u30d9\u30eb \u9418", "\U0001f514 \U00013000"):
        save_rainbowgram_plot(tone(440), RATE, "a", tmp_path, labelled=True, title=title)
        save_encoding_plot(np.ones((9, 16)), "b", tmp_path, labelled=True, title=title)
    assert not [str(warning.message) for warning in recwarn if "lyph" in str(warning.message)]


def test_a_picture_without_a_name_gets_the_time(tmp_path):
    before = time.strftime("%Y-%m-%d_%H%M%S")
    path = save_spectrogram_plot(tone(440), output_dir=tmp_path)
    assert before <= path.stem <= time.strftime("%Y-%m-%d_%H%M%S")
    others = [save_spectrogram_plot(tone(440), output_dir=tmp_path) for _ in range(3)]
    named = save_spectrogram_plot(tone(440), filename="mix_0.5", output_dir=tmp_path)
    assert named.name == "mix_0.5.png"
    paths = {path, named, *others}
    assert len(paths) == 5 and set(tmp_path.iterdir()) == paths  # nothing half written beside


@pytest.mark.parametrize("audio", [np.array([]), np.full(100, np.nan), np.zeros((2, 100))])
def test_pictures_refuse(tmp_path, audio):
    for save in (save_spectrogram_plot, save_rainbowgram_plot):
        with pytest.raises(InputError, match="A sound"):
            save(audio, RATE, "x.png", tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_that_takes_long_to_import_comes_before_it_is_needed(tmp_path):
    code = ("import sys, numpy, audio_utils\n"
            "sys.exit(any(m in sys.modules for m in "
            "('librosa', 'numba', 'matplotlib', 'PIL', 'scipy', 'soundfile')))")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = ("import sys, numpy, audio_utils\n"
            "audio = numpy.sin(numpy.arange(16000) / 5)\n"
            f"audio_utils.save_rainbowgram_plot(audio, 16000, 'p', {str(tmp_path)!r})\n"
            "sys.exit('librosa' not in sys.modules or 'matplotlib.pyplot' in sys.modules)")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Sounds


FORMATS = [("wav", "PCM_U8", 0.02), ("wav", "PCM_16", 1e-4), ("wav", "PCM_24", 1e-6),
           ("wav", "PCM_32", 1e-6), ("wav", "FLOAT", 1e-7), ("wav", "DOUBLE", 1e-7),
           ("flac", "PCM_16", 1e-4), ("flac", "PCM_24", 1e-6), ("aiff", "PCM_16", 1e-4),
           ("ogg", "VORBIS", 0.05), ("mp3", "MPEG_LAYER_III", 0.05)]


@pytest.mark.parametrize(("suffix", "subtype", "tolerance"), FORMATS)
def test_load_audio_reads(tmp_path, suffix, subtype, tolerance):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(440), RATE, subtype=subtype)
    audio = load_audio(path, 16000)
    assert audio.dtype == np.float32 and audio.shape == (16000,)
    assert np.abs(audio - tone(440))[2000:-2000].max() < tolerance


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_load_audio_resamples_and_mixes_down(tmp_path, rate):
    path = tmp_path / "stereo.wav"
    stereo = np.stack([tone(440, 2, rate), tone(1000, 2, rate)], axis=1)
    soundfile.write(path, stereo, rate, subtype="FLOAT")
    expected = (tone(440, 2) + tone(1000, 2)) / 2
    assert np.abs(load_audio(path)[1000:-1000] - expected[1000:-1000]).max() < 2e-3
    assert len(load_audio(path)) == 32000
    # what is cut is what the whole would have begun with
    assert np.abs(load_audio(path, 8000) - load_audio(path)[:8000]).max() < 1e-4


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_load_audio_is_librosas_where_librosa_can(tmp_path, rate):
    import librosa

    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(440, 1, rate), tone(1000, 1, rate)], axis=1), rate,
                    subtype="FLOAT")
    theirs, _ = librosa.load(path, sr=16000, mono=True)
    np.testing.assert_allclose(load_audio(path), theirs, atol=1e-5)


def test_load_audio_of_channels_that_cancel_each_other_out(tmp_path):
    path, said = tmp_path / "wide.wav", []
    wave = tone(440)
    cases = {"left": [wave, -wave], "right": [0 * wave, wave], "2.": [0 * wave, wave, -wave],
             None: [wave, -0.9 * wave]}
    for which, channels in cases.items():
        soundfile.write(path, np.stack(channels, axis=1), RATE, subtype="FLOAT")
        audio = load_audio(path, report=said.append)
        if which in ("left", "2."):
            assert np.array_equal(audio, load_audio(path)) and len(said) == 1
            assert f"the {which} channel is used" in said.pop() and audio.max() > 0.49
        else:
            assert not said and audio == pytest.approx(np.mean(channels, axis=0), abs=1e-6)


def test_load_audio_pads_and_trims(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440), RATE, subtype="FLOAT")
    whole = load_audio(path)
    longer, shorter = load_audio(path, 20000), load_audio(path, 7000)
    assert np.array_equal(longer[:16000], whole) and not longer[16000:].any()
    assert len(longer) == 20000 and np.array_equal(shorter, whole[:7000])


def test_load_audio_never_reaches_plus_one(tmp_path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.array([1.0, -1.0, 0.5] * 100), RATE, subtype="PCM_16")
    audio = load_audio(path)
    assert audio.max() < 1 and audio.min() == -1 and audio[2] == 0.5
    soundfile.write(path, np.array([3.0, -1.5, 0.75] * 100), RATE, subtype="FLOAT")
    audio = load_audio(path)
    assert audio.max() < 1 and audio[1] == -0.5 and audio[2] == 0.25
    square = np.sign(tone(440.0, rate=44100))
    soundfile.write(path, square, 44100, subtype="PCM_16")
    assert np.abs(load_audio(path)).max() <= 1 and load_audio(path).max() < 1


def test_load_audio_takes_the_part_asked_for(tmp_path):
    path = tmp_path / "late.wav"
    late = np.concatenate([np.full(8000, 1e-5), tone(440, amplitude=0.25)])
    soundfile.write(path, late, RATE, subtype="FLOAT")
    trimmed = load_audio(path, 16000, trim_silence=True)
    assert np.abs(trimmed[:80]).max() < 0.0025 < np.abs(trimmed[80:90]).max()
    assert np.array_equal(load_audio(path, 100, offset=0.5), late[8000:8100].astype(np.float32))
    assert load_audio(path, 16000, peak=0.9).max() == pytest.approx(0.9, abs=1e-4)
    faded = load_audio(path, 20000, offset=0.6, fade=0.01)
    assert abs(faded[0]) < 0.01 and abs(faded[14399]) < 0.01 and not faded[14400:].any()
    assert np.array_equal(faded[160:14240], late[9600:][160:14240].astype(np.float32))
    with pytest.raises(InputError, match="1.50 s long"):
        load_audio(path, offset=2)
    for options in ({"offset": -1}, {"peak": 0}, {"peak": 1.5}, {"sample_length": 0}):
        with pytest.raises(InputError):
            load_audio(path, **options)


def test_load_audio_of_silence(tmp_path):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(1000), RATE)
    assert not load_audio(path, 16000, trim_silence=True, peak=0.9, fade=0.01).any()


def test_load_audio_refuses(tmp_path):
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "zero.wav").write_bytes(b"")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan, 0]), RATE, subtype="FLOAT")
    (tmp_path / "folder.wav").mkdir()
    cases = {"text": "cannot be read", "zero": "cannot be read", "empty": "at least one sample",
             "nan": "NaN", "folder": "is a folder", "missing": "does not exist"}
    for name, reason in cases.items():
        with pytest.raises(InputError, match=reason) as caught:
            load_audio(tmp_path / f"{name}.wav", 16000)
        assert f"{name}.wav" in str(caught.value) and "\n" not in str(caught.value)


def test_save_wav_is_sixteen_bit_and_never_clips(tmp_path):
    path = tmp_path / "new" / "a.wav"
    assert save_wav(tone(440, amplitude=0.9), path) == 1.0
    with soundfile.SoundFile(path) as file:
        assert (file.samplerate, file.channels, file.subtype) == (16000, 1, "PCM_16")
    np.testing.assert_allclose(load_audio(path), tone(440, amplitude=0.9), atol=5e-5)
    assert save_wav(tone(440, amplitude=2.5), path) == pytest.approx(0.4, rel=1e-3)
    np.testing.assert_allclose(load_audio(path), tone(440, amplitude=1), atol=1e-3)
    assert soundfile.read(path, dtype="int16")[0].max() <= 32767
    assert [file.name for file in path.parent.iterdir()] == ["a.wav"]


def test_save_wav_keeps_the_old_file_when_it_cannot_write_the_new(tmp_path):
    path = tmp_path / "a.wav"
    save_wav(tone(440), path)
    before = path.read_bytes()
    for bad in (np.array([]), np.array([0.0, np.nan]), np.array([np.inf])):
        with pytest.raises(InputError):
            save_wav(bad, path)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(InputError, match="folder.wav cannot be written"):
        save_wav(tone(440), tmp_path / "folder.wav")
    (tmp_path / "folder.wav").rmdir()
    with pytest.raises(InputError, match="a.wav cannot be written"):
        save_wav(tone(440), path, sample_rate=-1)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_check_output_dir(tmp_path):
    assert check_output_dir(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="file is a file, and the output needs a folder"):
            check_output_dir(path)


def test_check_output_dir_tries_to_write(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(audio_utils.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="must be writable.*Permission denied"):
        check_output_dir(tmp_path)


# Exactly -----------------------------------------------------------------------------------------


def refused(message, function, *words, **named):
    """The function refuses, in exactly this sentence."""
    with pytest.raises(InputError) as caught:
        function(*words, **named)
    assert str(caught.value) == message


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to stand in, so that paths are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(samples, name="a.wav", rate=RATE):
    soundfile.write(name, samples, rate, subtype="FLOAT")
    return name


def test_timestretch_says_what_it_cannot_do():
    for shape in ((31,), (0, 16), (2, 0, 16), (1, 1, 31, 16)):
        refused("An encoding is [frames, channels] or [n, frames, channels], not empty; this one "
                "is "
                f"{list(shape)}: give what `encode` returned.", timestretch, np.zeros(shape), 2)
    for factor in (0, -1, math.inf, math.nan):
        refused(f"The stretch factor must be above 0, not {factor}: give 2 for twice as long, 0.5 "
                "for half as long.", timestretch, np.zeros((31, 16)), factor)
    refused("A stretch by 0.03 leaves nothing of 31 frames: give a factor of at least 0.032.",
            timestretch, np.zeros((1, 31, 16)), 0.03)
    for wrong in (np.nan, 1e300):
        refused("An encoding is finite numbers, and this one has others: encode the sound again.",
                timestretch, np.full((31, 16), wrong), 2)
    # 2 ** 26 numbers are the most
    refused("A stretch by 2097153 makes 4,194,306 frames of 2, more than any memory should hold: "
            "give a smaller factor.", timestretch, np.zeros((2, 16)), 2097153)


def test_timestretch_counts_frames_as_one_would_by_hand():
    for frames, factor, expected in ((29, 1.1, 31), (30, 1.1, 33), (10, 0.1, 1), (3, 1 / 3, 1)):
        assert timestretch(np.zeros((frames, 2)), factor).shape == (expected, 2)
    # two frames become four: a quarter from the edges in, and level beyond the middles
    np.testing.assert_allclose(timestretch([[0.0], [1.0]], 2)[:, 0], [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(timestretch([[0.0], [1.0], [2.0], [3.0]], 0.5)[:, 0], [0.5, 2.5])


def test_saved_encodings_say_what_they_cannot_be(here):
    refused("Each encoding needs one file name: there are 2 encodings and 1 names.", save_encoding,
            np.zeros((2, 31, 16)), ["one"])
    refused("encodings/a.npy does not exist: an encoding is a .npy file; check name and folder.",
            load_encodings, ["a"])
    (here / "encodings" / "a.npy").mkdir(parents=True)
    refused("encodings/a.npy is not a file: an encoding is a .npy file; check name and folder.",
            load_encodings, ["a"])
    wrong = ("An encoding is finite numbers [frames, 16], and encodings/b.npy holds something "
             "else: "
             "encode the sound again.")
    for array in (np.zeros(31), np.zeros((1, 1, 31, 16)), np.zeros((0, 16)), np.zeros((31, 16),
        int),
                  np.full((31, 16), np.nan), np.full((31, 16), 1e300)):
        np.save("encodings/b.npy", array)
        refused(wrong, load_encodings, ["b"])
    np.savez("encodings/b", np.zeros((31, 16)))
    (here / "encodings" / "b.npz").replace("encodings/b.npy")
    refused(wrong, load_encodings, ["b"])
    (here / "encodings" / "b.npy").write_text("text")
    with pytest.raises(InputError) as caught:
        load_encodings(["b"])
    assert str(caught.value).startswith(
        "An encoding is a .npy file of numbers, and encodings/b.npy is not (")
    assert str(caught.value).endswith("): encode the sound again.")
    (here / "encodings" / "b.npy").write_bytes(b"")
    refused("An encoding is a .npy file of numbers, and encodings/b.npy is not (No data left in "
            "file): encode the sound again.", load_encodings, ["b"])


def test_an_encoding_of_too_many_numbers_is_not_read(here, monkeypatch):
    monkeypatch.setattr(audio_utils, "_MOST_NUMBERS", 32)
    np.save("a.npy", np.zeros((2, 16)))
    np.save("b.npy", np.zeros((3, 16)))
    assert load_encodings(["a"], ".")[0].shape == (2, 16)
    with pytest.raises(InputError, match="b.npy holds something else"):
        load_encodings(["b"], ".")
    assert timestretch(np.zeros((1, 16)), 2).shape == (2, 16)
    assert timestretch(np.zeros((2, 16)), 1).shape == (2, 16)
    with pytest.raises(InputError, match="makes 3 frames of 1"):
        timestretch(np.zeros((1, 16)), 3)


def test_encodings_of_a_batch_and_of_other_floats_are_kept(here):
    batch = np.random.default_rng(0).normal(size=(2, 31, 16))
    save_encoding([batch, np.float16(batch[0]), [[1.0, 2.0]]], ["a", "b", "c"])
    a, b, c = load_encodings(["a", "b", "c"])
    np.testing.assert_array_equal(a, batch.astype(np.float32))
    assert a.dtype == b.dtype == np.float32 and c.tolist() == [[1, 2]]

    class Trap:
        def __reduce__(self):
            return print, ("unpickled",)
    with pytest.raises(ValueError, match="Object arrays"):
        save_encoding([np.array([Trap()], dtype=object)], ["d"])


# What the pictures' functions hand on, and what they write


@pytest.fixture
def asked(monkeypatch):
    """What the rooms below were asked for; the image is a small one."""
    from PIL import Image

    calls = []

    def stand_in(place, name, result):
        monkeypatch.setattr(place, name, lambda *words, **named: calls.append(
            (name, words, named)) or result)

    image = Image.new("RGB", (8, 4), (200, 30, 30))
    stand_in(audio_utils.spectra, "spectrogram", "a spectrogram")
    stand_in(audio_utils.spectra, "rainbowgram", "a rainbowgram")
    stand_in(audio_utils.spectra, "scaled", image)
    stand_in(audio_utils.sheets, "labelled", image)
    return calls


def test_a_spectrogram_is_drawn_as_asked(here, asked):
    path = save_spectrogram_plot("audio", 8000, "a", "out", hop_length=99)
    assert path == Path("out/a.png") and path.is_file()
    assert asked == [("spectrogram", ("audio", 8000, 99), {}),
                     ("scaled", ("a spectrogram", 1280, 960), {})]
    asked.clear()
    save_spectrogram_plot("audio", filename="b", labelled=True, title="A title", dpi=50)
    assert (here / "output" / "b.png").is_file()
    assert asked == [("spectrogram", ("audio", 16000, 2048), {}),
                     ("labelled", ("a spectrogram", "A title", (6.4, 4.8), 50, True), {})]


def test_a_rainbowgram_is_drawn_as_asked(here, asked):
    path = save_rainbowgram_plot("audio", 8000, "a", "out", dpi=50)
    assert path == Path("out/a.png") and path.is_file()
    assert asked == [("rainbowgram", ("audio", 8000), {}),
                     ("scaled", ("a rainbowgram", 320, 240), {})]
    asked.clear()
    save_rainbowgram_plot("audio", filename="b", labelled=True, title="A title")
    assert (here / "output" / "b.png").is_file()
    assert asked == [("rainbowgram", ("audio", 16000), {}),
                     ("labelled", ("a rainbowgram", "A title", (6.4, 4.8), 200, True), {})]
    asked.clear()
    audio_utils.spectrum_image("a spectrum", True, "A title", 90, scale=False)
    assert asked == [("labelled", ("a spectrum", "A title", (6.4, 4.8), 90, False), {})]
    asked.clear()
    audio_utils.spectrum_image("a spectrum")
    assert asked == [("scaled", ("a spectrum", 1280, 960), {})]


def test_a_rainbowgram_is_shown_on_the_readers_axes(monkeypatch):
    from matplotlib.figure import Figure

    shown = []
    monkeypatch.setattr(audio_utils.spectra, "rainbowgram", lambda *words: words)
    monkeypatch.setattr(audio_utils.sheets, "show", lambda *words: shown.append(words))
    axes = Figure().add_subplot()
    audio_utils.draw_rainbowgram(axes, "audio")
    audio_utils.draw_rainbowgram(axes, "audio", 8000)
    assert shown == [(axes, ("audio", 16000)), (axes, ("audio", 8000))] and not axes.axison


def test_an_encoding_is_drawn_as_asked(here, monkeypatch):
    from matplotlib.figure import Figure

    asked = []

    def encodings(batch, *words):
        asked.append((batch.shape, *words))
        return Figure((1, 2))
    monkeypatch.setattr(audio_utils.sheets, "encodings", encodings)
    path = save_encoding_plot(np.zeros((2, 31, 16)), "a", dpi=50)
    assert path == Path("output/a.png") and read_png(path).shape == (100, 50, 3)
    path = save_encoding_plot(np.zeros((31, 16)), "b.JPG", "out", labelled=True, title="A title",
                              sample_rate=8000)
    from PIL import Image
    assert Image.open(path).size == (200, 400) and Image.open(path).format == "JPEG"
    assert asked == [((2, 31, 16), None, None, (6.4, 4.8)),
                     ((1, 31, 16), 512 / 8000, "A title", (6.4, 4.8))]
    save_encoding_plot(np.zeros((31, 16)), "c", labelled=True, dpi=20)
    assert asked[2][1] == 512 / 16000
    for shape in ((31,), (0, 31, 16), (1, 1, 31, 16)):
        refused("An encoding is [frames, channels] or [n, frames, channels], not empty; this one "
                "is "
                f"{list(shape)}: give what `encode` returned.", save_encoding_plot, np.zeros(shape))


@pytest.mark.parametrize("name, kind, dpi", [("a.png", "PNG", 150), ("a.PNG", "PNG", 150),
                                             ("a.jpg", "JPEG", 150), ("a.jpeg", "JPEG", 90)])
def test_a_picture_keeps_its_pixels_per_inch(here, name, kind, dpi):
    from PIL import Image

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    options = {} if dpi == 150 else {"dpi": dpi}
    path = audio_utils.save_picture(image, name, **options)
    assert path == Path("output") / name
    with Image.open(path) as saved:
        assert saved.format == kind and saved.info["dpi"] == pytest.approx((dpi, dpi), abs=0.1)
        if kind == "PNG":
            np.testing.assert_array_equal(saved, image)
        else:
            assert saved.quantization[0][0] == 3  # of quality 92


def test_runs_of_equal_pixels_are_small_and_a_pdf_has_its_size(here):
    from PIL import Image

    image = Image.new("RGB", (300, 200), (9, 99, 200))
    path = audio_utils.save_picture(image, "a.png")
    assert path.stat().st_size < 2000
    text = audio_utils.save_picture(image, "a.pdf", "b", 72).read_bytes()
    assert re.search(rb"/MediaBox \[ 0 0 300.* 200", text)


def test_pictures_without_a_name_are_numbered(here, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(time, "strftime", lambda form: form.replace("%Y-%m-%d_%H%M%S", "NOW"))
    names = [audio_utils.save_picture(Image.new("RGB", (2, 2))).name for _ in range(3)]
    assert names == ["NOW.png", "NOW_2.png", "NOW_3.png"]
    assert audio_utils.save_picture(Image.new("RGB", (2, 2)), "x/y").parent.name == "x"


# Sounds, sample by sample


def test_load_audio_says_what_it_cannot_do(here):
    refused("A sound is at least one sample long, not 0.", load_audio, "a", 0)
    for peak in (0, -0.1, 1.01):
        refused(f"A peak level must be above 0 and at most 1, not {peak}.", load_audio, "a",
                peak=peak)
    for offset in (-0.1, math.nan, math.inf):
        refused(f"Seconds to leave out must be 0 or more, not {offset}.", load_audio, "a",
                offset=offset)
    refused("A sound must be a file, and a.wav does not exist: check the name.", load_audio,
        "a.wav")
    (here / "folder").mkdir()
    refused("A sound must be a file, and folder is a folder: check the name.", load_audio, "folder")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
        refused("A sound must be a file, and pipe is not a file: check the name.", load_audio,
                "pipe")
    (here / "a.wav").write_text("this is no sound")
    refused("A sound must be WAV, FLAC, OGG, MP3 or AIFF, and a.wav cannot be read as any of them "
            "(Format not recognised): convert it to WAV.", load_audio, "a.wav")
    write(np.zeros(0))
    refused("A sound needs at least one sample, and a.wav has none: record or export it again.",
            load_audio, "a.wav")
    for wrong in (np.nan, np.inf):
        write([0.5, wrong, 0.5])
        refused("A sound must be finite numbers, and a.wav has NaN or infinite samples: export it "
                "again.", load_audio, "a.wav")
    write(np.full((100, 2), 3e38))
    refused("A sound must be finite numbers, and a.wav has NaN or infinite samples: export it "
            "again.", load_audio, "a.wav")
    write(tone(440, 1.5))
    refused("2 s cannot be left out of a.wav, 1.50 s long: leave out less.", load_audio, "a.wav",
            offset=2)
    for rate in (999, 768_001):
        write(tone(440, 0.1), rate=rate)
        refused("A sound has 1,000 to 768,000 samples a second, and a.wav has "
                f"{rate:,}: convert it to 16,000.", load_audio, "a.wav")
    for rate in (1000, 768_000):
        assert len(load_audio(write(tone(440, 0.1), rate=rate))) == round(1600 * RATE / rate)
    assert len(load_audio("a.wav", 1, peak=1)) == 1


def test_a_sound_that_never_ends_is_not_read(here, monkeypatch):
    monkeypatch.setattr(audio_utils, "_MOST_SAMPLES", 2 << 20)
    monkeypatch.setattr(audio_utils, "_BLOCK", 1 << 20)
    write(np.full((1 << 20, 2), 0.25))
    assert len(load_audio("a.wav")) == 1 << 20
    write(np.zeros(((1 << 20) + 1, 2)))
    refused("a.wav is longer than 2 million samples: cut out what you need.", load_audio, "a.wav")
    assert len(load_audio("a.wav", 100)) == 100  # what comes later is not looked at


@pytest.mark.parametrize("rate", [16000, 8000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_part_is_what_the_whole_holds_there_whatever_the_block(here, monkeypatch, rate, channels):
    rng = np.random.default_rng(0)
    write(0.2 * rng.normal(size=(3 * rate, channels)), rate=rate)
    whole = load_audio("a.wav")
    assert len(whole) == 48000
    for block in (1000, 1 << 18):
        monkeypatch.setattr(audio_utils, "_BLOCK", block)
        np.testing.assert_array_equal(load_audio("a.wav"), whole)
        for offset, length in ((0.0, 16000), (0.5, 8000), (1.25, 20000), (2.5, 8000), (0.3, 100)):
            part = load_audio("a.wav", length, offset=offset)
            start = round(offset * RATE)
            np.testing.assert_allclose(part, whole[start:start + length], atol=2e-4)
        rest = load_audio("a.wav", offset=2.75)
        np.testing.assert_allclose(rest, whole[44000:], atol=2e-4)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_silence_at_the_beginning_is_left_out_5_ms_before_the_sound(here, monkeypatch, rate):
    for quiet in (0.1, 0.5):
        for block in (500, 1 << 18):
            monkeypatch.setattr(audio_utils, "_BLOCK", block)
            lead = np.full(round(quiet * rate), 0.0039)  # below a hundredth of the peak
            sound = np.concatenate([lead, [0.0041], np.zeros(99), np.full(rate, 0.4)])
            write(sound, rate=rate)
            trimmed = load_audio("a.wav", trim_silence=True)
            seconds = len(trimmed) / RATE
            assert seconds == pytest.approx(0.005 + 1 + 100 / rate, abs=2 / rate)
            # what is left out by hand comes first; the sound's peak is the one that is left
            late = load_audio("a.wav", trim_silence=True, offset=quiet / 2)
            assert len(late) == len(trimmed)
    start = np.concatenate([np.full(rate, 0.4), np.zeros(rate // 10), np.full(rate, 0.002)])
    write(start, rate=rate)
    assert len(load_audio("a.wav", trim_silence=True)) == round(2.1 * RATE)
    # once the loud part is left out, the quiet one is the sound
    assert len(load_audio("a.wav", trim_silence=True, offset=1.0)) == pytest.approx(
        RATE + 80, abs=3 * RATE / rate)


def test_a_short_wanted_length_is_looked_for_in_all_of_a_trimmed_sound(here, monkeypatch):
    monkeypatch.setattr(audio_utils, "_BLOCK", 1000)
    write(np.concatenate([np.full(16000, 0.1), np.full(16000, 0.9)]))
    assert load_audio("a.wav", 100).max() == pytest.approx(0.1)
    assert load_audio("a.wav", 100, trim_silence=True).max() == pytest.approx(0.1)
    write(np.concatenate([np.full(16000, 0.001), np.full(16000, 0.9)]))
    assert load_audio("a.wav", 1000, trim_silence=True)[80:].min() == pytest.approx(0.9)


def test_channels_cancel_each_other_out_below_a_hundredth(here):
    wave, said = tone(440), []
    write(np.stack([wave, -0.981 * wave], 1))  # leaves 0.95 %
    audio = load_audio("a.wav", report=said.append)
    np.testing.assert_allclose(audio, wave, atol=1e-6)
    assert said.pop() == ("The channels of a.wav are in opposite phase and would cancel each other "
                          "out: the left channel is used.")
    write(np.stack([wave, -0.979 * wave], 1))  # leaves 1.05 %
    np.testing.assert_allclose(load_audio("a.wav", report=said.append), 0.0105 * wave, atol=1e-6)
    assert not said
    write(np.stack([0.01 * wave, wave, -wave], 1)[:, :3] * [0, 1, 1])
    load_audio("a.wav", report=said.append)
    assert "the 2. channel is used" in said.pop()
    write(np.stack([0.005 * wave, -0.005 * wave], 1) * [1, 1])
    np.testing.assert_allclose(load_audio("a.wav"), 0.005 * wave, atol=1e-6)  # without a report
    # a channel that is hardly heard is passed over
    write(np.stack([0.09 * wave, wave, -1.09 * wave], 1))
    np.testing.assert_allclose(load_audio("a.wav"), wave, atol=1e-6)
    write(np.stack([0.11 * wave, wave, -1.0 * wave, -0.11 * wave], 1))
    np.testing.assert_allclose(load_audio("a.wav"), 0.11 * wave, atol=1e-6)
    # trimming listens to the same channel
    late = np.concatenate([np.zeros(8000), tone(440, 0.5)])
    write(np.stack([late, -late], 1))
    assert len(load_audio("a.wav", trim_silence=True)) == 8080 - 1


def test_levels(here):
    wave = np.array([0.25, -0.5, 0.125])
    write(wave)
    np.testing.assert_allclose(load_audio("a.wav"), wave)
    np.testing.assert_allclose(load_audio("a.wav", peak=0.9), wave * 1.8, rtol=1e-6)
    write(4 * wave)
    np.testing.assert_allclose(load_audio("a.wav"), 2 * wave)  # above full scale: down to it
    np.testing.assert_allclose(load_audio("a.wav", peak=0.5), wave)
    write(1e-39 * wave)
    np.testing.assert_allclose(load_audio("a.wav", peak=0.5), wave, rtol=1e-4)
    write(0 * wave)
    np.testing.assert_array_equal(load_audio("a.wav", peak=0.5), 0)
    write([1.0, -1.0])
    np.testing.assert_array_equal(load_audio("a.wav"), np.float32([32767 / 32768, -1]))


def test_fades_are_even_and_at_most_half_of_the_sound(here):
    write(np.full(1000, 0.5))
    faded = load_audio("a.wav", 1200, fade=0.01)
    slope = (np.arange(160) + 0.5) / 160 / 2
    np.testing.assert_allclose(faded[:160], slope, rtol=1e-5)
    np.testing.assert_array_equal(faded[160:840], 0.5)
    np.testing.assert_allclose(faded[840:1000], slope[::-1], rtol=1e-5)
    assert not faded[1000:].any() and len(faded) == 1200
    all_of_it = load_audio("a.wav", fade=9)
    assert all_of_it[499] == pytest.approx(0.4995) and all_of_it[0] == pytest.approx(0.0005)
    np.testing.assert_array_equal(load_audio(write([0.5]), fade=9), 0.5)


def test_folders_that_cannot_be_written_are_said(here, monkeypatch):
    (here / "file").touch()
    refused("file is a file, and the output needs a folder: name another.", check_output_dir,
            "file")

    def refuse(**named):
        assert named == {"dir": Path("a")}
        raise OSError(30, "Read-only file system")
    monkeypatch.setattr(audio_utils.tempfile, "TemporaryFile", refuse)
    refused("The output folder must be writable, and a is not (Read-only file system): name "
            "another "
            "folder.", check_output_dir, "a")
    assert (here / "a").is_dir()


def test_a_sound_is_written_at_its_rate(here):
    assert save_wav([0.5, -0.25], "x/y/a.wav", 8000) == 1.0
    audio, rate = soundfile.read("x/y/a.wav", dtype="int16")
    assert rate == 8000 and audio.tolist() == [16384, -8192]
    save_wav([0.5], "a.wav")
    assert soundfile.info("a.wav").samplerate == 16000
