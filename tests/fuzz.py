"""Give readers damaged files: `python -m tests.fuzz --reader sounds --count 2000`.

Each file is a good one with a few bytes changed, cut, doubled or inserted, by a printed seed.  A
reader returns a result or raises InputError or OSError, which programs turn into a sentence;
anything else is printed with the file's number.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import resource
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from synths import InputError

ROOT = Path(__file__).resolve().parents[1]
MEMORY = 1 << 30  # bytes that a reader may take


def damaged(data: bytes, words: tuple[bytes, ...], rng: np.random.Generator) -> bytes:
    """Return a copy of a file with one to six changes."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 7))):
        at, length = int(rng.integers(0, len(changed) + 1)), int(rng.integers(1, 17))
        change = int(rng.integers(0, 6 if words else 5))
        if change == 0:
            changed[at:at + 1] = rng.bytes(1)
        elif change == 1:
            del changed[at:at + length]
        elif change == 2:
            changed[at:at] = changed[at:at + length] * int(rng.integers(1, 9))
        elif change == 3:
            changed[at:at + length] = rng.bytes(length)
        elif change == 4 and rng.random() < 0.2:
            del changed[at:]
        elif change == 5:
            word = words[int(rng.integers(0, len(words)))]
            changed[at:at + int(rng.integers(0, 2)) * len(word)] = word
    return bytes(changed)


# The readers: good files by name, what reads one, and bytes worth inserting ----------------------


def sounds() -> dict[str, bytes]:
    import soundfile

    tone, seeds = 0.5 * np.sin(np.arange(4000) / 5), {}
    for name, kind, subtype, channels in [
            ("a.wav", "WAV", "PCM_16", 1), ("b.wav", "WAV", "FLOAT", 2),
            ("c.wav", "WAV", "GSM610", 1), ("d.flac", "FLAC", "PCM_16", 2),
            ("e.ogg", "OGG", "VORBIS", 1), ("f.aiff", "AIFF", None, 1), ("g.mp3", "MP3", None, 1)]:
        file = io.BytesIO()
        soundfile.write(file, np.stack([tone] * channels, 1), 16000, subtype=subtype, format=kind)
        seeds[name] = file.getvalue()
    return seeds


def read_sound(path: Path) -> None:
    from synths.sounds import load_audio

    for options in ({}, {"trim_silence": True, "peak": 0.5}):
        audio = load_audio(path, 8000, **options)
        assert audio.shape == (8000,) and np.isfinite(audio).all() and np.abs(audio).max() <= 1


def scores() -> dict[str, bytes]:
    from tests.test_score_midi import CASES

    return {"score.mid": (ROOT / "midi" / "cs1-1pre-short.mid").read_bytes(),
            **{f"{number}.mid": data for number, (data, *_) in enumerate(CASES.values())}}


def read_score(path: Path) -> None:
    from synths.gansynth.generate_util import load_midi

    load_midi(path)


def arrays() -> dict[str, bytes]:
    seeds = {}
    for name, array in [("a.npy", np.ones((5, 16), np.float32)), ("b.npy", np.ones((5, 16))),
                        ("c.npy", np.ones((5, 16), np.float16))]:
        file = io.BytesIO()
        np.save(file, array)
        seeds[name] = file.getvalue()
    return seeds


def read_encoding(path: Path) -> None:
    import audio_utils

    encoding = audio_utils.load_encodings([path.name], path.parent)[0]
    assert encoding.dtype == np.float32 and np.isfinite(encoding).all()


def instruments() -> dict[str, bytes]:
    file = io.BytesIO()
    np.savez(file, z=np.ones((3, 256), np.float32), t=np.arange(3.0))
    return {"a.npz": file.getvalue()}


def read_instruments(path: Path) -> None:
    from synths.gansynth.instruments import load_instruments

    load_instruments(path)


def checkpoints() -> dict[str, bytes]:
    from tests.leveldb_table import checkpoint

    rng = np.random.default_rng(0)
    return {"m.index": checkpoint({"ae_bottleneck/W": rng.normal(size=(1, 1, 2, 16)),
                                   "ae_bottleneck/biases": rng.normal(size=16)})[0]}


def read_checkpoint(path: Path) -> None:
    import google_crc32c

    from synths.weights import checkpoints
    from synths.weights.tensor_bundle import masked

    data = path.read_bytes()
    end = data.find(b"\0\0\0\0\1\0\0\0\0") + 9  # with its right checksum, more of it is read
    if end >= 9:
        crc = masked(google_crc32c.value(data[:end])).to_bytes(4, "little")
        path.write_bytes(data[:end] + crc + data[end + 4:])
    path.with_name("m.data-00000-of-00001").write_bytes(bytes(1000))
    prefix = checkpoints.find(path.parent, "nsynth")
    checkpoints.read(prefix, list(checkpoints.shapes(prefix)))


def experiments() -> dict[str, bytes]:
    bundled = (ROOT / "checkpoints" / "gansynth_starter" / "experiment.json").read_bytes()
    official = {"num_resolutions": 7, "scale_base": 2, "start_height": 2, "start_width": 16,
                "scale_mode": "ALL", "audio_length": 64000, "mag_normalizer_a": 0.066}
    return {"experiment.json": bundled, "experiment.json#": json.dumps(official).encode()}


def read_experiment(path: Path) -> None:
    from synths.weights import checkpoints

    checkpoints.experiment(path.parent / "stage_00012" / "model.ckpt-1")


def archives() -> dict[str, bytes]:
    inside, seeds = {"w/m.index": b"index" * 20, "w/deep/er": b"x" * 600}, {}
    for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz")):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as tar:
            for member, data in inside.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        seeds[name] = file.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for member, data in inside.items():
            zipped.writestr(member, data)
    return {**seeds, "c.zip": file.getvalue()}


def read_archive(path: Path) -> None:
    from synths.weights import downloads

    (path.parent / "inside").mkdir()
    downloads.unpack(path, path.parent / "inside" / "out", lambda root: None)
    assert not (path.parent / "out").exists()


READERS: dict[str, tuple[Callable, Callable, tuple[bytes, ...]]] = {
    "sounds": (sounds, read_sound, (b"data", b"fmt ", b"\xff\xff\xff\xff", b"\0\0\xc0\x7f")),
    "scores": (scores, read_score, (b"MTrk", b"\xff\x51\x03", b"\xff\xff\xff\x7f")),
    "encodings": (arrays, read_encoding, (b"'descr'", b"<f8", b"|O", b"999999999")),
    "instruments": (instruments, read_instruments, (b"<f8", b"|O", b"999999999")),
    "checkpoints": (checkpoints, read_checkpoint, (b"\xff" * 9 + b"\1", b"\x12\0", b"\x3a")),
    "experiments": (experiments, read_experiment, (b"null", b"-1", b"1e999", b"[[", b"NaN")),
    "archives": (archives, read_archive, (b"../", b"/", b"\0", b"777777777")),
}


def run(name: str, count: int, seed: int = 0, first: int = 0) -> collections.Counter:
    """Read damaged files; return what went wrong, and how often."""
    seeds, read, words = READERS[name]
    good = seeds()
    faults: collections.Counter = collections.Counter()
    for number in range(first - len(good), first + count):
        rng = np.random.default_rng([seed, abs(number)])
        key = sorted(good)[number % len(good)]
        whole = number < first  # the good files first: their readers import what they need
        folder = Path(tempfile.mkdtemp())
        path = folder / key.rstrip("#")
        path.write_bytes(good[key] if whole else damaged(good[key], words, rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except (InputError, OSError):
            if whole and name != "checkpoints":  # whose data file is zeros
                raise
        except Exception as error:
            faults[f"{type(error).__name__}: {error}"[:200]] += 1
            print(f"{name} {number} ({path.name}): {type(error).__name__}: {error}"[:300])
        finally:
            shutil.rmtree(folder)
        if whole and number == first - 1:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    return faults


def main() -> None:
    """Parse the options and run; the exit code is 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reader", choices=sorted(READERS), action="append", help="default: all")
    parser.add_argument("--count", type=int, default=2000, help="files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    options = parser.parse_args()
    total = 0
    for name in options.reader or READERS:
        faults = sum(run(name, options.count, options.seed, options.first).values())
        total += faults
        print(f"{name}: {options.count} files, seed {options.seed}, {faults} faults", flush=True)
    sys.exit(bool(total))


if __name__ == "__main__":
    main()
