"""The one way to write: whole or not at all, on every system's rules for names."""

import doctest
import os
import stat

import numpy as np
import pytest

from synths import InputError, files


def test_the_examples_hold():
    assert doctest.testmod(files).failed == 0


@pytest.mark.parametrize("name", ["con", "NUL.wav", "Aux .txt", "com1", "LPT9.tar.gz", "COM\xb9",
                                  "a:b", "a<b", 'a"b', "a|b", "a?b", "a*b", "a\\b", "a\nb",
                                  "ends.", "ends ", "CONIN$"])
def test_names_that_windows_refuses(name):
    files.check_name(name, "posix")
    with pytest.raises(InputError, match=r"The file name .*Windows.*choose another one\."):
        files.check_name(name, "nt")


@pytest.mark.parametrize("name", ["kick.wav", "console.wav", "com10.wav", "nu l", ".hidden",
                                  "a.b.c", "\xe9t\xe9.wav", "o\N{MUSICAL NOTE}", "x" * 255])
def test_names_that_are_fine_everywhere(name):
    for system in ("nt", "posix"):
        files.check_name(name, system)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_names_that_are_none(name):
    for system in ("nt", "posix"):
        with pytest.raises(InputError, match="The file name"):
            files.check_name(name, system)


def test_a_name_is_measured_in_bytes():
    files.check_name("\xe9" * 127)
    with pytest.raises(InputError, match="256 bytes long"):
        files.check_name("\xe9" * 128)
    files.check_name("caf\udce9.wav", "posix")      # not UTF-8, from the command line


def test_names_that_some_disk_takes_for_one():
    for one, other in [("Kick.wav", "kick.WAV"), ("e\u0301", "\xe9"), ("Stra\xdfe", "STRASSE"),
                       ("a. ", "a")]:
        assert files.name_key(one) == files.name_key(other)
    assert files.name_key("kick-2") != files.name_key("kick")


def test_foreign_text_is_short_and_on_one_line():
    assert files.shortened("a" * 12_700).count("a") < 200 and len(files.shortened("a" * 999)) == 200
    assert len(files.shortened("b" * 201, 50)) == 50
    assert files.shortened("a\x1b[2Jb\nc") == "a [2Jb c"
    assert files.one_line(f"No {'a' * 201} in {'b' * 200}\n.") == (
        f"No {files.shortened('a' * 201)} in {'b' * 200} .")


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "page.html"
    victim.write_bytes(b"mine")
    path.symlink_to(victim)
    (tmp_path / "page.html.part").symlink_to(victim)
    with files.writing(path) as file:
        file.write(b"page")
    assert victim.read_bytes() == b"mine" and path.read_bytes() == b"page"
    assert not path.is_symlink()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, ValueError])
def test_whatever_goes_wrong_nothing_is_left(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error), files.writing(tmp_path / "a") as file:
        file.write(b"half")
        raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_the_longest_name_has_a_temporary_too(tmp_path):
    for name in ("x" * 255, "\N{MUSICAL NOTE}" * 63):
        with files.writing(tmp_path / name) as file:
            file.write(b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    with pytest.raises(InputError, match="cannot be written"):
        files.write_wav(tmp_path / ("x" * 256), np.zeros(1))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_another_program_has_open(tmp_path, monkeypatch):
    """Windows does not replace open files; here its answer is simulated."""
    def refuse(source, target):
        raise PermissionError(13, "Access is denied")
    (tmp_path / "a.wav").write_bytes(b"playing")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match=r"a\.wav cannot be replaced .*close the program"):
        files.write_wav(tmp_path / "a.wav", np.zeros(10))
    with pytest.raises(InputError, match=r"b\.wav cannot be written"):
        files.write_wav(tmp_path / "b.wav", np.zeros(10))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"playing"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch, capfd):
    real = open

    def full(path, mode):
        real(path, mode).close()
        return real("/dev/full", "wb")
    monkeypatch.setattr(files, "open", full, raising=False)
    with pytest.raises(InputError, match="No space left on device.*make room"):
        files.write_wav(tmp_path / "a.wav", np.zeros(100_000))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="POSIX rights")
def test_files_get_the_rights_that_any_new_file_gets(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with files.writing(tmp_path / "ours"):
        pass
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode)


def test_only_our_own_leftovers_are_swept(tmp_path):
    ours = [".a.wav.0123456789abcdef.part", ".a.b.c.fedcba9876543210.part"]
    kept = ["a.part", ".a.part", "a.0123456789abcdef.part", ".a.0123456789abcdeg.part", "a.wav"]
    for name in ours + kept:
        (tmp_path / name).write_bytes(b"")
    victim = tmp_path / "a.wav"
    (tmp_path / ".l.0000000000000000.part").symlink_to(victim)
    (tmp_path / ".d.0000000000000000.part").symlink_to(tmp_path)
    for name in (".fastgen.0123456789abcdef.part", "fastgen", ".fastgen-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.wav").write_bytes(b"")
    files.sweep(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(
        [*kept, "fastgen", ".fastgen-x"])


def test_a_scratch_folder_is_gone_at_the_end_and_swept_after_a_kill(tmp_path):
    with pytest.raises(ValueError), files.scratch(tmp_path, "fastgen") as folder:
        (folder / "0.wav").write_bytes(b"half")
        assert list(tmp_path.iterdir()) == [folder] and folder.name.startswith(".fastgen.")
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    with files.scratch(tmp_path, "fastgen") as folder:
        (folder / "0.wav").write_bytes(b"half")
        files.sweep(tmp_path)       # as the next run does after a kill
        assert not folder.exists()
    with pytest.raises(InputError, match="cannot be written"), files.scratch(
            tmp_path / "no", "fastgen"):
        pass


def test_a_lock_is_held_once(tmp_path):
    with files.lock(tmp_path / "x.lock"):
        with pytest.raises(BlockingIOError), files.lock(tmp_path / "x.lock"):
            pass
    with files.lock(tmp_path / "x.lock"):
        pass
    assert list(tmp_path.iterdir()) == []
