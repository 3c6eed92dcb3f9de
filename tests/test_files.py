"""Files are complete under their names, or not there."""

import doctest
import os
import stat

import numpy as np
import pytest
import soundfile

from synths import files


def test_files_examples_in_docstrings_hold():
    assert doctest.testmod(files).failed == 0


def test_writing_replaces_a_link_and_does_not_follow_it(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "page.html"
    victim.write_bytes(b"mine")
    path.symlink_to(victim)
    with files.writing(path) as file:
        file.write(b"page")
    assert victim.read_bytes() == b"mine" and path.read_bytes() == b"page"
    assert not path.is_symlink()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_writing_failed_block_keeps_the_earlier_file(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error), files.writing(tmp_path / "a") as file:
        file.write(b"half")
        raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["no folder/a", "x" * 256, "file/a", "full"])
def test_writing_refused_by_the_system_names_the_file(tmp_path, name, monkeypatch):
    (tmp_path / "file").touch()
    if name == "full":
        if not os.path.exists("/dev/full"):
            pytest.skip("needs /dev/full")
        real = open
        monkeypatch.setattr(files, "open", lambda path, mode: (
            real(path, mode).close(), real("/dev/full", "wb"))[1], raising=False)
    with pytest.raises(OSError) as caught:
        files.write_wav(tmp_path / name, np.zeros(100_000))
    assert str(caught.value.filename) == str(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["x" * 255, "\N{MUSICAL NOTE}" * 63, "caf\udce9.wav"])
def test_writing_takes_every_name_that_the_disk_takes(tmp_path, name):
    with files.writing(tmp_path / name) as file:
        file.write(b"1")
    assert (tmp_path / name).read_bytes() == b"1"


@pytest.mark.skipif(os.name == "nt", reason="POSIX rights")
def test_writing_gives_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with files.writing(tmp_path / "ours"):
        pass
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode)


def test_sweep_removes_temporary_files_of_killed_runs_only(tmp_path):
    kept = ["a.part", ".a.part", "0123456789abcdef.part", ".0123456789abcdeg.part", "a.wav"]
    for name in [".0123456789abcdef.part", *kept]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".0000000000000000.part").symlink_to(tmp_path / "a.wav")
    files.sweep(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(kept)


def test_append_adds_to_a_file_but_not_through_a_link(tmp_path):
    path = tmp_path / "codes"
    with pytest.raises(OSError):
        files.append(path, b"1")
    path.write_bytes(b"1")
    files.append(path, b"23")
    assert path.read_bytes() == b"123"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError):
        files.append(tmp_path / "link", b"4")


def test_write_wav_scales_down_what_exceeds_full_scale(tmp_path):
    files.write_wav(tmp_path / "a.wav", np.array([0.5, -0.25]), 8000)
    audio, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 8000 and audio.tolist() == [16384, -8192]
    files.write_wav(tmp_path / "a.wav", np.array([1.0, -2.0]))
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [16384, -32767]
