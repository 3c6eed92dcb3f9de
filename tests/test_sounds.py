"""Sounds are read as they are, whatever their format, and written without a loss."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from synths import InputError
from synths.sounds import (
    checked,
    find_sounds,
    load_array,
    load_audio,
    opposite_channels,
    save_image,
    save_wav,
)

PROJECT = Path(__file__).resolve().parent.parent
RATE = 16000


def tone(seconds=1.0, silence=0.0, rate=RATE):
    """Return silence, then a tone."""
    times = np.arange(round(seconds * rate)) / rate
    return np.concatenate([np.zeros(round(silence * rate)),
                           0.5 * np.cos(2 * np.pi * 440 * times)])


@pytest.fixture
def write(tmp_path):
    def write(audio, name="a.wav", rate=RATE, subtype="FLOAT"):
        subtype = subtype if name.endswith(".wav") else None
        soundfile.write(tmp_path / name, audio, rate, subtype)
        return tmp_path / name
    return write


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_load_audio_tone_is_the_same_from_every_format(write, name, rate, channels):
    audio = load_audio(write(np.stack([tone(rate=rate)] * channels, 1), name, rate), RATE)
    assert audio.dtype == np.float32 and audio.shape == (RATE,)
    middle = slice(2000, 14000)  # codecs and resamplers differ at the ends
    assert np.abs(audio[middle] - tone()[middle]).max() < (
        1e-4 if rate == RATE and name in ("a.wav", "a.flac", "a.aiff") else 0.1)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "GSM610",
                                     "ULAW"])
def test_load_audio_wav_of_each_kind_is_read(write, subtype):
    audio = load_audio(write(tone(), rate=RATE, subtype=subtype))
    assert 15_900 < len(audio) < 16_400
    assert np.abs(audio[:16_000 - 500] - tone()[:15_500]).mean() < 0.03


def test_load_audio_length_cuts_or_pads(write):
    path = write(tone())
    np.testing.assert_array_equal(load_audio(path, 500), load_audio(path)[:500])
    longer = load_audio(path, 20_000)
    assert len(longer) == 20_000 and not longer[RATE:].any()


def test_load_audio_levels(write):
    wave = np.array([0.25, -0.5, 0.125])
    np.testing.assert_allclose(load_audio(write(wave)), wave)
    np.testing.assert_allclose(load_audio(write(wave), peak=0.9), wave * 1.8, rtol=1e-6)
    np.testing.assert_allclose(load_audio(write(4 * wave)), 2 * wave)  # above full scale
    np.testing.assert_array_equal(load_audio(write(0 * wave), peak=0.5), 0)


@pytest.mark.parametrize("channels, level", [
    ((1, 1), 1), ((1, 0), 0.5), ((1, 0.5), 0.75), ((1, -1), 1), ((-0.9, 1), 1), ((1, -0.9), 1),
    ((0, 0, 1, 0, 0, 0), 1)])
def test_load_audio_channels_that_cancel_give_the_loudest(write, channels, level):
    path = write(np.outer(tone(), channels))
    assert np.abs(load_audio(path)).max() == pytest.approx(level * 0.5, rel=1e-3)
    assert opposite_channels(path) == (level == 1 and channels != (1, 1))


@pytest.mark.parametrize("disturb", [
    lambda audio: audio, lambda audio: audio + 0.3,  # an offset
    lambda audio: np.r_[0.9, audio[1:]], lambda audio: np.r_[[0.9] * 40, audio[40:]] - 0.05])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_load_audio_trim_starts_5_ms_before_the_sound(write, disturb, rate):
    path = write(disturb(tone(silence=0.5, rate=rate)), rate=rate)
    assert len(load_audio(path, trim_silence=True)) == pytest.approx(RATE + 80, abs=20)


@pytest.mark.parametrize("audio", [np.zeros(1000), np.full(1000, 0.3), [0.1, 0.5], tone()])
def test_load_audio_trim_without_silence_keeps_everything(write, audio):
    assert len(load_audio(write(audio), trim_silence=True)) == len(audio)


def test_load_audio_trim_finds_a_single_short_hit(write):
    hit = np.r_[np.zeros(8000), 0.8 * np.exp(-np.arange(8000) / 16)]
    assert len(load_audio(write(hit), trim_silence=True)) == 8080


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_load_audio_wav_of_a_recorder_that_was_stopped_is_read(write, subtype):
    path = write(tone(), subtype=subtype)
    whole, data = load_audio(path), bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[at:at + 4] = data[4:8] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(load_audio(path), whole)


@pytest.mark.parametrize("length", [0, (1 << 36) - 1])
def test_load_audio_flac_of_a_wrong_length_is_read(write, length):
    path = write(tone(), "a.flac")
    whole, data = load_audio(path), bytearray(path.read_bytes())
    data[21] = data[21] & 0xF0 | length >> 32  # the 36 bits of the number of samples
    data[22:26] = (length & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)
    np.testing.assert_array_equal(load_audio(path), whole)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_load_audio_file_cut_short_is_read_as_far_as_it_goes(write, name):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    path = write(noise, name)
    whole = load_audio(path)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    part = load_audio(path)
    assert 1.4 * RATE < len(part) < 2.5 * RATE
    np.testing.assert_allclose(part[:RATE], whole[:RATE], atol=1e-6)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_load_audio_ogg_flac_is_read(write, tmp_path):
    path = write(tone(), "a.flac")
    subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-c:a", "copy", tmp_path / "a.oga"],
                   check=True)
    np.testing.assert_array_equal(load_audio(tmp_path / "a.oga"), load_audio(path))


def test_load_audio_ogg_inside_a_wav_is_read(write, tmp_path):
    path = write(tone(), "a.ogg")
    data = path.read_bytes()
    header = b"fmt " + (16).to_bytes(4, "little") + b"Og" + bytes(14)
    (tmp_path / "b.ogg").write_bytes(b"RIFF" + bytes(4) + b"WAVE" + header + b"data"
                                     + len(data).to_bytes(4, "little") + data)
    np.testing.assert_array_equal(load_audio(tmp_path / "b.ogg"), load_audio(path))


@pytest.mark.parametrize("name, content, word", [
    ("a.wav", b"this is no sound", "not recognised"), ("a.mp3", b"text " * 500, "not recognised"),
    ("a.mp3", b"", "not recognised"), ("a.raw", bytes(1000), "header"),
    ("none.wav", None, "exist")])
def test_load_audio_something_else_is_an_input_error(tmp_path, capfd, name, content, word):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=word):
        load_audio(tmp_path / name)
    assert capfd.readouterr() == ("", "")  # mpg123 is silent


@pytest.mark.parametrize("audio, word", [
    (np.zeros(0), "no samples"), ([0.5, np.nan], "finite"), ([0.5, np.inf], "finite"),
    (np.full((100, 2), 3e38), "finite")])
def test_load_audio_without_usable_samples_is_an_input_error(write, audio, word):
    with pytest.raises(InputError, match=word):
        load_audio(write(audio))


def test_find_sounds_leaves_out_what_cannot_be_read(write, tmp_path):
    write(tone(), "b.WAV")
    write(tone(), "a.flac")
    for name in ("c.wav", "notes.txt", "d.m4a", ".hidden.wav"):
        (tmp_path / name).write_bytes(b"text")
    (tmp_path / "e.wav").mkdir()
    sounds, left_out = find_sounds(tmp_path)
    assert [path.name for path in sounds] == ["a.flac", "b.WAV"]
    assert [line.split()[0] for line in left_out] == ["c.wav", "d.m4a", "e.wav", "notes.txt"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_load_audio_memory_does_not_grow_with_the_file(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 48_000, 2, "PCM_16") as file:
        for _ in range(1200):  # twenty minutes
            file.write(np.zeros((48_000, 2), np.float32))
    program = ("import sys; from pathlib import Path; from synths.sounds import load_audio\n"
               "load_audio(sys.argv[1], 64000)\n"
               "lines = Path('/proc/self/status').read_text().splitlines()\n"
               "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))")
    out = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.wav")], cwd=PROJECT,
                         capture_output=True, text=True, check=True).stdout
    assert int(out) / 1024 < 250


def test_save_wav_is_16_bit_and_makes_its_folder(tmp_path):
    save_wav([0.5, -0.25], tmp_path / "x" / "a.wav", 8000)
    audio, rate = soundfile.read(tmp_path / "x" / "a.wav", dtype="int16")
    assert rate == 8000 and audio.tolist() == [16384, -8192]
    for wrong in ([], [[0.1]], [np.nan]):
        with pytest.raises(InputError):
            save_wav(wrong, tmp_path / "b.wav")


def test_save_image_is_read_back(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    save_image(pixels, tmp_path / "a.png", (6, 4))
    np.testing.assert_array_equal(Image.open(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("array", ["text", [[1, 2]], [], [np.inf], None, [1e300]])
def test_checked_wrong_array_is_an_input_error(array):
    assert checked([1, 2], 1, "It").dtype == np.float32
    with pytest.raises(InputError, match="It"), np.errstate(over="ignore"):
        checked(array, 1, "It")


@pytest.mark.parametrize("content", [
    b"", b"text", b"\x93NUMPY", b"PK\x03\x04" + bytes(100),
    b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, "
    b"'shape': (1000000000000, 16)}"])
def test_load_array_damaged_file_is_an_input_error(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match="a.npy"):
        load_array(tmp_path / "a.npy", 2, "It")
