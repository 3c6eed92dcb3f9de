"""Runs that are killed, and disks that fill up, lose nothing that is finished."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

PROJECT = Path(__file__).resolve().parent.parent
# Runs a program with a disk that is full after some writes.
FULL = """
import errno, io, os, runpy, sys
from synths import files

writes = int(sys.argv.pop(1))

class Disk(io.FileIO):
    def write(self, data):
        global writes
        writes -= 1
        if writes < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)

files.open = lambda path, mode, opener=None: Disk(path, mode, opener=opener)
sys.argv.pop(0)
if sys.argv[0] == "workshop":
    runpy.run_module("workshop", run_name="__main__", alter_sys=True)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    times = np.arange(8000) / 16000
    for name, frequency in (("a", 220), ("b", 330)):
        soundfile.write(folder / f"{name}.wav", 0.5 * np.sin(2 * np.pi * frequency * times), 16000)
    return [folder / "a.wav", folder / "b.wav"]


def words(sounds, *more):
    return list(map(str, ("--sounds", *sounds, "--seconds", "0.4", "--seed", "1", *more)))


def mix(words, **options):
    return subprocess.Popen([sys.executable, "-m", "workshop", "mix", *words], cwd=PROJECT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def content(folder):
    """Return the bytes of a run's sounds, plots and encodings; the page only by its name."""
    return {str(path.relative_to(folder)): path.suffix in (".wav", ".png", ".npy")
            and path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(sounds, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    with mix(words(sounds, "--output", out)) as run:
        assert run.wait() == 0, run.stderr.read()
    return content(out)


@pytest.mark.parametrize("sign", ["run.json", "encodings/b.npy", "*.partial.codes", "*.png"])
def test_killed_run_is_resumed_to_the_same_files(sounds, uninterrupted, tmp_path, sign):
    given, out = words(sounds, "--output", tmp_path / "out"), tmp_path / "out"
    with mix(given) as run:
        while run.poll() is None and not list(out.glob(sign)):
            time.sleep(0.005)
        run.kill()
    assert json.loads((out / "run.json").read_bytes())["stopped"]
    finished = {path: path.stat().st_mtime_ns for path in out.glob("*.wav")
                if path.name in uninterrupted}
    with mix([*given, "--resume"]) as run:
        assert run.wait() == 0, run.stderr.read()
    assert content(out) == uninterrupted
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items()
               if not path.name.startswith("source_"))  # not made again


@pytest.mark.parametrize("writes", [0, 4, 12])
@pytest.mark.parametrize("program", ["chapter_05_example_01.py", "chapter_05_example_02.py"])
def test_full_disk_ends_in_one_sentence_and_keeps_complete_files(sounds, tmp_path, program,
                                                                 writes):
    out = tmp_path / "out"
    given = words(sounds) if program.endswith("01.py") else ["--seed", "1"]
    done = subprocess.run([sys.executable, "-c", FULL, str(writes), program, *given,
                           "--output", str(out)], cwd=PROJECT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(PROJECT)})
    assert done.returncode == 1, done.stderr
    assert "No space left" in done.stderr and "Traceback" not in done.stderr
    for path in out.rglob("*"):
        assert not path.name.startswith("."), path
        if path.suffix == ".wav":
            soundfile.read(path)
        elif path.name == "run.json":
            json.loads(path.read_text())
