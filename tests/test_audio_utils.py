"""The book's functions for encodings, pictures and sounds."""

from __future__ import annotations

import math
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
        with pytest.raises(InputError, match="stands in the way"):
            check_output_dir(path)


def test_check_output_dir_tries_to_write(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(audio_utils.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="must be writable.*Permission denied"):
        check_output_dir(tmp_path)
