"""The seven readers, each with good files from which damaged ones are made."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "checkpoints" / "gansynth_starter"


@dataclass(frozen=True)
class Reader:
    """What reads a file, and good files by name."""

    seeds: Callable[[], dict[str, bytes]]
    read: Callable[[Path], object]
    words: tuple[bytes, ...] = ()       # worth putting in


def _sounds() -> dict[str, bytes]:
    import soundfile

    tone = 0.5 * np.sin(np.arange(4000) / 5)
    seeds = {}
    for name, kind, subtype, channels in [
            ("a.wav", "WAV", "PCM_16", 1), ("b.wav", "WAV", "FLOAT", 2),
            ("c.wav", "WAV", "GSM610", 1), ("d.flac", "FLAC", "PCM_16", 2),
            ("e.ogg", "OGG", "VORBIS", 1), ("f.aiff", "AIFF", None, 1), ("g.mp3", "MP3", None, 1)]:
        file = io.BytesIO()
        soundfile.write(file, np.stack([tone] * channels, 1), 16000, subtype=subtype, format=kind)
        seeds[name] = file.getvalue()
    return seeds


def _read_audio(path: Path) -> None:
    from synths.sounds import load_audio

    for options in ({}, {"trim_silence": True, "peak": 0.5}):
        audio = load_audio(path, 8000, **options)
        assert audio.shape == (8000,) and np.isfinite(audio).all() and np.abs(audio).max() <= 1


def _scores() -> dict[str, bytes]:
    notes = b"\x00\x90\x3c\x40\x60\x80\x3c\x40\x00\x90\x40\x40\x60\x80\x40\x40\x00\xff\x2f\x00"
    tempo = b"\x00\xff\x51\x03\x07\xa1\x20"
    track = tempo + notes
    small = b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk" + struct.pack(">I", len(track)) + track
    score = min((ROOT / "midi").glob("*.mid"), key=lambda path: path.stat().st_size)
    return {"small.mid": small, "score.mid": score.read_bytes()}


def _read_midi(path: Path) -> None:
    try:
        from synths.gansynth import load_midi
    except ImportError:
        from synths.gansynth.generate_util import load_midi
    load_midi(path)


def _encodings() -> dict[str, bytes]:
    seeds = {}
    for name, array in [("a.npy", np.ones((5, 16), np.float32)),
                        ("b.npy", np.ones((2, 5, 16), np.float64)),
                        ("c.npy", np.ones((5, 16), np.float16))]:
        file = io.BytesIO()
        np.save(file, array)
        seeds[name] = file.getvalue()
    return seeds


def _read_encodings(path: Path) -> None:
    import audio_utils

    encoding = audio_utils.load_encodings([path.name], path.parent)[0]
    assert encoding.dtype == np.float32 and np.isfinite(encoding).all()


def _instruments() -> dict[str, bytes]:
    z = np.ones((3, 256), np.float32)
    one, both = io.BytesIO(), io.BytesIO()
    np.save(one, z)
    np.savez(both, z=z, t=np.arange(3.0))
    return {"a.npy": one.getvalue(), "b.npz": both.getvalue()}


def _read_instruments(path: Path) -> None:
    try:
        from synths.gansynth import load_instruments
    except ImportError:
        from synths.gansynth.generate_util import load_instruments
    load_instruments(path)


def _checkpoints() -> dict[str, bytes]:
    from tests.leveldb_table import checkpoint

    rng = np.random.default_rng(0)
    index, _ = checkpoint({"ae_bottleneck/W": rng.normal(size=(1, 1, 2, 16)),
                           "ae_bottleneck/biases": rng.normal(size=16)})
    return {"m.index": index}


def _with_checksums(data: bytes) -> bytes:
    """An index whose first block has the right checksum again, so that more than that is read."""
    from synths.weights.tensor_bundle import crc32c, masked

    at = data.find(b"\0\0\0\0\1\0\0\0\0")
    if at < 0:
        return data
    end = at + 9
    return data[:end] + masked(crc32c(data[:end])).to_bytes(4, "little") + data[end + 4:]


def _read_checkpoint(path: Path) -> None:
    from synths.weights import checkpoints

    path.with_name("m.data-00000-of-00001").write_bytes(bytes(1000))
    path.write_bytes(_with_checksums(path.read_bytes()))
    prefix = checkpoints.find(path.parent, "nsynth")
    arrays = checkpoints.read(prefix, list(checkpoints.shapes(prefix)), verify=False)
    assert all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f")


def _experiments() -> dict[str, bytes]:
    settings = json.loads((STARTER / "experiment.json").read_text("utf-8"))
    official = {"num_resolutions": 7, "scale_base": 2, "start_height": 2, "start_width": 16,
                "scale_mode": "ALL", "audio_length": 64000, "sample_rate": 16000,
                "latent_vector_size": 256, "mag_normalizer_a": 0.066}
    return {"experiment.json": json.dumps(settings).encode(),
            "experiment.json#": json.dumps(official).encode()}


def _read_experiment(path: Path) -> None:
    from synths.weights import checkpoints

    checkpoints.experiment(path.parent / "stage_00012" / "model.ckpt-1")


def _archives() -> dict[str, bytes]:
    files = {"w/m.index": b"index" * 20, "w/deep/er": b"x" * 600}
    seeds = {}
    for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz")):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as tar:
            for member, data in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        seeds[name] = file.getvalue()
    for name, method in (("c.zip", zipfile.ZIP_DEFLATED), ("d.zip", zipfile.ZIP_BZIP2),
                         ("e.zip", zipfile.ZIP_LZMA)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as zipped:
            for member, data in files.items():
                zipped.writestr(member, data)
        seeds[name] = file.getvalue()
    return seeds


def _read_archive(path: Path) -> None:
    from synths.weights import archives

    inside = path.parent / "inside"
    inside.mkdir()
    archives.unpack(path, inside / "out")
    assert not (path.parent / "out").exists()


READERS = {
    "audio": Reader(_sounds, _read_audio, (b"data", b"fmt ", b"\xff\xff\xff\xff", b"\0\0\xc0\x7f")),
    "midi": Reader(_scores, _read_midi, (b"MTrk", b"\xff\x51\x03", b"\xff\xff\xff\x7f")),
    "encodings": Reader(_encodings, _read_encodings,
                        (b"'descr'", b"<f8", b"|O", b"999999999", b"PK\x03\x04")),
    "instruments": Reader(_instruments, _read_instruments, (b"<f8", b"|O", b"999999999")),
    "checkpoints": Reader(_checkpoints, _read_checkpoint,
                          (b"\xff" * 9 + b"\1", b"\x12\0", b"\x3a")),
    "experiment": Reader(_experiments, _read_experiment,
                         (b"null", b"-1", b"1e999", b"[[[[", b"NaN", b'"x"', b"999999999")),
    "unpack": Reader(_archives, _read_archive, (b"../", b"/", b"\0", b"777777777")),
}
