"""Sounds and encodings that are damaged, hostile or very long."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audio_utils
from synths import InputError

HOUSE = Path(__file__).resolve().parent.parent
RATE = 16000


def tone(seconds=1.0, silence=0.5, rate=RATE):
    """Silence, then a tone."""
    times = np.arange(round(seconds * rate)) / rate
    return np.concatenate([np.zeros(round(silence * rate)), 0.5 * np.sin(2765 * times)])


def load(path, **options):
    return audio_utils.load_audio(path, 8000, trim_silence=True, **options)


def test_a_streamed_flac_has_no_length(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(), RATE)
    data = bytearray(path.read_bytes())
    assert data[:4] == b"fLaC"
    data[21] &= 0xF0        # the 36 bits of the number of samples, 0 where it is not known
    data[22:26] = bytes(4)
    whole = load(path)
    path.write_bytes(data)
    assert np.array_equal(load(path), whole) and np.abs(whole).max() > 0.4


def test_a_gsm_wav_cannot_be_sought(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 8000, subtype="GSM610")
    assert np.abs(load(tmp_path / "a.wav")).max() > 0.4
    assert np.abs(audio_utils.load_audio(tmp_path / "a.wav", 8000, offset=0.9)).max() > 0.4


def test_a_header_that_claims_too_much_asks_for_no_memory(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(), RATE)
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    path.write_bytes(data)
    assert np.abs(load(path)).max() > 0.4


def test_denormal_samples_can_be_raised(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(100, 1e-42), RATE, subtype="FLOAT")
    audio = audio_utils.load_audio(tmp_path / "a.wav", peak=0.5)
    assert audio.max() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("rate", [1, 999, 800_000])
def test_rates_of_sense(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.ones(100), rate)
    with pytest.raises(InputError, match=f"has {rate:,}: convert"):
        audio_utils.load_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_part_is_what_it_is_in_the_whole(tmp_path, rate):
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * rate)
    soundfile.write(tmp_path / "a.wav", noise, rate, subtype="FLOAT")
    whole = audio_utils.load_audio(tmp_path / "a.wav")
    part = audio_utils.load_audio(tmp_path / "a.wav", 8000, offset=1.2345)
    first = round(1.2345 * RATE)
    assert np.abs(part - whole[first:first + 8000]).max() < 1e-4


def test_what_a_path_is(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        audio_utils.load_audio(tmp_path / "none.wav")
    with pytest.raises(InputError, match="is a folder"):
        audio_utils.load_audio(tmp_path)
    with pytest.raises(InputError) as raised:
        audio_utils.load_audio("n" * 12_700 + ".wav")
    assert len(str(raised.value)) < 400


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_length(tmp_path):
    """Twenty minutes of stereo at 48 kHz: 230 MB as a file, 460 MB as it was read before."""
    block = np.zeros((48_000, 2), np.float32)
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 48_000, 2, "PCM_16") as file:
        for _ in range(1200):
            file.write(block)
        file.write(block + 0.5)
    program = ("import sys, audio_utils\nfrom pathlib import Path\n"
               "audio_utils.load_audio(sys.argv[1], 64000, trim_silence=True)\n"
               "lines = Path('/proc/self/status').read_text().splitlines()\n"
               "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))")
    out = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.wav")], cwd=HOUSE,
                         capture_output=True, text=True, check=True).stdout
    assert int(out) / 1024 < 250


# Encodings


def npy(header, data=b""):
    text = header.encode() + b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize("content", [
    b"", b"PK\x03\x04" + bytes(100), b"\x93NUMPY", npy("{'descr': '<f4', 'fortran_order': False"),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 16), }"),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 16), }", bytes(64)),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 16), }", bytes(128)),
    npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 16), }", bytes(64)),
    npy("{'descr': 7, 'fortran_order': False, 'shape': (1, 16), }", bytes(64)),
    npy("(" * 90), npy("{'shape': 'x', 'descr': '<f4', 'fortran_order': 3, }"),
    npy("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 16), }", bytes(64)),
    npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }",
        np.array([1e300, 0]).tobytes()),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 16), }"),
    npy("\x00\x01{'descr'")])
def test_damaged_encodings(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"An encoding is .*a\.npy.*encode the sound again"):
        audio_utils.load_encodings(["a"], tmp_path)


def test_an_archive_is_no_encoding(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npy", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a.npy", bytes(10_000_000))
    with pytest.raises(InputError, match="An encoding is"):
        audio_utils.load_encodings(["a"], tmp_path)


def test_stretching_what_is_not_finite_or_without_end():
    with pytest.raises(InputError, match="finite numbers"):
        audio_utils.timestretch(np.full((3, 16), 1e300), 2)
    with pytest.raises(InputError, match="give a smaller factor"):
        audio_utils.timestretch(np.ones((3, 16)), 1e9)


def test_encodings_are_written_beside_and_never_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / "a.npy").symlink_to(victim)
    audio_utils.save_encoding([np.ones((3, 16), np.float32)], ["a"], tmp_path)
    assert victim.read_bytes() == b"mine"
    assert np.array_equal(audio_utils.load_encodings(["a"], tmp_path)[0], np.ones((3, 16)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "victim"]
