"""Runs killed at random moments, and disks that fill up: `python -m tests.faults --count 100`.

`--part kill`: example 1 is killed (SIGKILL) while it encodes, decodes or makes its page, and a
download while it fetches or unpacks, one moment after another; every second time the run that goes
on is killed as well.  The run after that must end well, with the bytes of a run that nothing
disturbed; what was finished before is not made again, and nothing is left lying.

`--part disk`: both examples run with a disk that is full from their first write on, from their
second, and so on; and, where a file system in memory can be mounted (Linux, root), with so many
kilobytes and no more.  Each must end with one sentence, leave only whole files, and go on once
there is room.

Each run is a fork of this process, which has imported everything, and takes a second or two.  POSIX
only.  What goes wrong is printed with the seed and the number that make it again.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import functools
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "checkpoints" / "nsynth_starter"
PAGE = "index.html"
_WAIT = 120.0   # seconds for a run


class Run:
    """A fork of this process that does something; what it prints is kept.

    Parameters
    ----------
    work : callable
        Takes a function to be called at a phase's beginning, with the phase's name.
    """

    def __init__(self, work: Callable[[Callable[[str], None]], None]) -> None:
        self._marks, marks = os.pipe()
        self._said = tempfile.TemporaryFile()
        self._pid = os.fork()
        if not self._pid:
            for number in (1, 2):
                os.dup2(self._said.fileno(), number)
            code = 99
            try:
                work(lambda phase: None if os.write(marks, phase[:1].encode()) else None)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(OSError, ValueError):
                        stream.flush()
                atexit._run_exitfuncs()     # type: ignore[attr-defined]
                os._exit(code)
        os.close(marks)

    def phase(self) -> str:
        """Wait for the next phase; its first letter, "" at the end."""
        return os.read(self._marks, 1).decode()

    def kill(self) -> None:
        """End it as the system would, and wait until it has ended."""
        os.kill(self._pid, signal.SIGKILL)
        self.end()

    def end(self) -> tuple[int, str]:
        """Wait for its exit code and what it has said."""
        while self.phase():
            pass
        os.close(self._marks)
        _, status = os.waitpid(self._pid, 0)
        self._said.seek(0)
        return os.waitstatus_to_exitcode(status), self._said.read().decode("utf-8", "replace")


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder that only this process removes: its forks end as it would, finalizers included."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        tempfile.tempdir = None
        shutil.rmtree(folder)


# What is run -----------------------------------------------------------------------------------


def example(name: str, words: list[str], prepare: Callable[[], None] | None = None
            ) -> Callable[[Callable[[str], None]], None]:
    """A script with options, in this process; the beginnings of its phases are reported."""
    def work(report: Callable[[str], None]) -> None:
        import importlib

        from companion.run import run
        from synths import nsynth

        script = importlib.import_module(name)

        def reported(phase: str, function: Callable) -> Callable:
            @functools.wraps(function)
            def call(*arguments, **options):
                report(phase)
                return function(*arguments, **options)
            return call
        for room, function, phase in ((nsynth, "encode", "encode"),
                                      (nsynth, "synthesize", "decode"),
                                      (script, "nsynth_page", "page"),
                                      (script, "generate_audio", "decode"),
                                      (script, "gansynth_page", "page")):
            if hasattr(room, function):
                setattr(room, function, reported(phase, getattr(room, function)))
        if prepare:
            prepare()
        sys.argv = [str(ROOT / f"{name}.py"), *words]
        run(script.app, script.parse_options())
    return work


def fetching(address: str, folder: Path) -> Callable[[Callable[[str], None]], None]:
    """A download of weights."""
    def work(report: Callable[[str], None]) -> None:
        from synths.weights import downloads

        os.environ["SYNTHS_MIRROR"] = address
        report("fetch")
        downloads.fetch_weights("wavenet-ckpt", folder)
    return work


@contextlib.contextmanager
def served() -> Iterator[str]:
    """A server on this machine that has an archive of weights, and takes its time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(STARTER, "wavenet-ckpt")
    data = packed.getvalue()
    tag = f'"{hashlib.sha256(data).hexdigest()}"'

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = 0
            if "Range" in self.headers and self.headers["If-Range"] == tag:
                start = int(self.headers["Range"].split("=")[1].rstrip("-"))
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for first in range(start, len(data), 60_000):
                    self.wfile.write(data[first:min(first + 60_000, len(data))])
                    time.sleep(0.01)

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def tones(folder: Path) -> list[str]:
    """Two sounds to mix."""
    import soundfile

    times = np.arange(8000) / 16000
    for name, frequency in (("a", 220), ("b", 330)):
        soundfile.write(folder / f"{name}.wav", 0.5 * np.sin(2 * np.pi * frequency * times), 16000)
    return [str(folder / "a.wav"), str(folder / "b.wav")]


def content(folder: Path) -> dict[str, bytes | str]:
    """What a folder holds, by name; of a page, whether it is whole, for it names its folder."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            name = str(path.relative_to(folder))
            found[name] = ("whole" if data.rstrip().endswith(b"</html>") else "broken"
                           ) if name == PAGE else data
    return found


def differences(found: dict, wanted: dict) -> list[str]:
    """In words, how a folder differs from what it should be."""
    wrong = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    wrong += [f"{name} is left" for name in found.keys() - wanted.keys()]
    return wrong + [f"{name} differs" for name in wanted.keys() & found.keys()
                    if name != "run.json" and found[name] != wanted[name]]


# Kills -----------------------------------------------------------------------------------------


class Killed:
    """Runs of example 1, and downloads, that are killed at random moments.

    Parameters
    ----------
    folder : Path
        Where all of it happens.
    address : str
        Of the server.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        self._temporary = folder / "temporary"
        self._temporary.mkdir()
        tempfile.tempdir = str(self._temporary)
        self._words = ["--sounds", *tones(folder), "--seconds", "0.4", "--seed", "1",
                       "--threads", "2"]
        self.took: dict[str, float] = {}    # seconds of each phase, undisturbed
        whole = folder / "whole"
        self._follow(example("chapter_05_example_01", [*self._words, "--output", str(whole)]))
        self._whole = content(whole)
        self._weights = folder / "weights"
        self._follow(fetching(address, self._weights))
        self._fetched = content(self._weights)

    def _follow(self, work: Callable) -> None:
        run, names = Run(work), {phase[0]: phase for phase in ("encode", "decode", "page", "fetch")}
        phase, began = names.get(run.phase(), ""), time.monotonic()
        while phase:
            following, now = names.get(run.phase(), ""), time.monotonic()
            self.took[phase] = now - began
            phase, began = following, now
        code, said = run.end()
        if code:
            raise SystemExit(f"undisturbed, a run ends with {code}: {said}")

    def _kill(self, work: Callable, phase: str, rng: np.random.Generator) -> None:
        run = Run(work)
        while (mark := run.phase()) and mark != phase[0]:
            pass
        time.sleep(float(rng.uniform(0, self.took[phase])))
        run.kill()

    def trial(self, phase: str, rng: np.random.Generator) -> list[str]:
        """Kill once or twice, let the next run end; what is wrong."""
        return self._download(rng) if phase == "fetch" else self._example(phase, rng)

    def _example(self, phase: str, rng: np.random.Generator) -> list[str]:
        out = self._folder / "out"
        shutil.rmtree(out, ignore_errors=True)

        def work() -> Callable:
            goes_on = ["--resume"] if (out / "run.json").is_file() else []
            return example("chapter_05_example_01",
                           [*self._words, "--output", str(out), *goes_on])
        for _ in range(int(rng.integers(1, 3))):
            self._kill(work(), phase, rng)
        finished = {path: path.stat().st_mtime_ns for path in out.glob("*_seed1.wav")}
        wrong = [f"{path.name} was broken when killed" for path in finished
                 if path.read_bytes() != self._whole[path.name]]
        code, said = Run(work()).end()
        if code:
            return [*wrong, f"the next run ends with {code}: {said[-300:]}"]
        wrong += [f"{path.name} was made again" for path, when in finished.items()
                  if path.stat().st_mtime_ns != when]
        wrong += [f"{path.name} is left among the temporary files"
                  for path in self._temporary.iterdir()]
        return wrong + differences(content(out), self._whole)

    def _download(self, rng: np.random.Generator) -> list[str]:
        shutil.rmtree(self._weights)
        for _ in range(int(rng.integers(1, 3))):
            self._kill(fetching(self._address, self._weights), "fetch", rng)
        code, said = Run(fetching(self._address, self._weights)).end()
        if code:
            return [f"the next download ends with {code}: {said[-300:]}"]
        return differences(content(self._weights), self._fetched)


def kills(count: int, seed: int, first: int = 0) -> int:
    """Kill so many runs; how many went wrong after that."""
    bad = 0
    with place() as folder, served() as address:
        killed = Killed(folder, address)
        for number in range(first, first + count):
            phase = sorted(killed.took)[number % len(killed.took)]
            wrong = killed.trial(phase, np.random.default_rng([seed, number]))
            bad += bool(wrong)
            if wrong:
                print(f"kill {number} ({phase}): {'; '.join(wrong)[:1000]}", flush=True)
    return bad


# Full disks ------------------------------------------------------------------------------------


def full_after(writes: int) -> Callable[[], None]:
    """Let every write after so many fail, as on a full disk; there seems to be room."""
    def prepare() -> None:
        from synths import files

        left = [writes]
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        class Disk(io.FileIO):
            def write(self, data) -> int:
                if left[0] <= 0:
                    raise full
                left[0] -= 1
                return super().write(data)

        write = os.write

        def append(handle: int, data: bytes) -> int:
            if left[0] <= 0:
                raise full
            left[0] -= 1
            return write(handle, data)
        files.open = lambda path, mode: Disk(path, mode)    # type: ignore[attr-defined]
        files.os = _Instead(os, write=append)               # type: ignore[attr-defined]
        _room()
    return prepare


class _Instead:
    """A module of which something is exchanged."""

    def __init__(self, module, **instead) -> None:
        self.__dict__.update(vars(module), **instead)


def _room() -> None:
    """Let the disk seem empty, so that a run begins."""
    usage = shutil.disk_usage("/")
    shutil.disk_usage = lambda path: usage._replace(free=1 << 40)   # type: ignore[assignment]


class Full:
    """Runs of both examples whose disk fills up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tempfile.tempdir = str(folder)
        import mido

        score = mido.MidiFile()
        score.tracks.append(mido.MidiTrack([
            mido.Message("note_on", note=60, velocity=90, time=0),
            mido.Message("note_off", note=60, velocity=0, time=480)]))
        score.save(folder / "score.mid")
        self.scripts = {
            "chapter_05_example_01": ["--sounds", *tones(folder), "--seconds", "0.1",
                                      "--seed", "1"],
            "chapter_05_example_02": ["--midi", str(folder / "score.mid"), "--seed", "1"]}
        self._whole = {}
        for script, words in self.scripts.items():
            out = folder / script
            code, said = Run(example(script, [*words, "--output", str(out)])).end()
            if code:
                raise SystemExit(f"{script}, undisturbed, ends with {code}: {said}")
            self._whole[script] = content(out)

    def trial(self, script: str, out: Path, prepare: Callable[[], None],
              room: Callable[[], None] = lambda: None) -> tuple[bool, list[str]]:
        """Run with a disk that fills up, then with room; whether it was full, what is wrong."""
        words = [*self.scripts[script], "--output", str(out)]
        code, said = Run(example(script, words, prepare)).end()
        whole = self._whole[script]
        if code == 0:
            return False, differences(content(out), whole)
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        wrong = [] if code == 1 and len(errors) == 1 and "Traceback" not in said and (
            "No space left" in errors[0]) else [f"it ends with {code}: {said[-300:]}"]
        left = content(out) if out.is_dir() else {}
        wrong += [f"{name} is broken" for name, data in left.items()
                  if name.endswith("_seed1.wav") and data != whole[name]]
        wrong += [f"{name} is left" for name in left if name.rpartition("/")[2].startswith(".")]
        room()
        goes_on = script.endswith("01") and "run.json" in left
        code, said = Run(example(script, [*words, "--resume" if goes_on else "--overwrite"])).end()
        return True, wrong + ([f"with room it ends with {code}: {said[-300:]}"] if code else
                              differences(content(out), whole))


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path | None]:
    """A file system of so much memory; None where there can be none."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    linux = sys.platform == "linux" and shutil.which("mount")
    done = subprocess.run(words, capture_output=True) if linux else None
    try:
        yield folder if done is not None and done.returncode == 0 else None
    finally:
        if done is not None and done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def full_disks(count: int, seed: int, step: int = 1) -> int:
    """Fill disks at every `step`th write, and at `count` sizes; how many runs went wrong."""
    bad = tried = 0

    def judge(what: str, wrong: list[str]) -> None:
        nonlocal bad, tried
        tried += 1
        bad += bool(wrong)
        if wrong:
            print(f"disk, {what}: {'; '.join(wrong)[:1000]}", flush=True)

    with place() as folder:
        full = Full(folder)
        for script in full.scripts:
            writes, was_full = 0, True
            while was_full:
                was_full, wrong = full.trial(script, folder / f"{script}-{writes}",
                                             full_after(writes))
                judge(f"{script}, full after {writes} writes", wrong)
                shutil.rmtree(folder / f"{script}-{writes}", ignore_errors=True)
                writes += step
        sizes = np.random.default_rng(seed).integers(4, 1500, count)
        for number, size in enumerate(sizes.tolist()):
            script = list(full.scripts)[number % 2]
            with small_disk(folder / f"disk{number}", size) as disk:
                if disk is None:
                    print("no file system in memory can be mounted here")
                    break
                def grow(disk: Path = disk) -> None:
                    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
                judge(f"{script}, {size} kB", full.trial(script, disk / "out", _room, grow)[1])
    print(f"disk: {tried} runs, {bad} went wrong", flush=True)
    return bad


def main() -> None:
    """Parse the options, run, say what was found; the exit code is 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["kill", "disk"], help="default: both")
    parser.add_argument("--count", type=int, default=100, help="kills, and sizes of disks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first kill")
    options = parser.parse_args()
    bad = 0
    ready()
    if options.part != "disk":
        began = time.monotonic()
        bad += kills(options.count, options.seed, options.first)
        print(f"kill: {options.count} moments, seed {options.seed}, {bad} went wrong, "
              f"{time.monotonic() - began:.0f} s", flush=True)
    if options.part != "kill":
        bad += full_disks(options.count, options.seed)
    print(json.dumps({"kills": options.count, "seed": options.seed, "wrong": bad}))
    sys.exit(bool(bad))


def ready() -> None:
    """Import what the runs need, so that their forks have it."""
    import importlib

    from pictures import spectra

    sys.path.insert(0, str(ROOT))
    for script in ("chapter_05_example_01", "chapter_05_example_02"):
        importlib.import_module(script)
    for package in ("jinja2", "note_seq.midi_io", "soundfile", "tqdm", "synths.nsynth.wavenet",
                    "synths.nsynth.wavenet_encoder", "synths.weights.downloads"):
        importlib.import_module(package)
    spectra.warm_up()


if __name__ == "__main__":
    main()
