"""What the two examples must leave in their folders.

`python tests/check_results.py NSYNTH GANSYNTH`

Used by the tests and, on the defaults, by continuous integration.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile


def check_sound(wav: Path) -> np.ndarray:
    """16 kHz, 16 bits, mono, audible, not clipped, with its picture; returns the samples."""
    info = soundfile.info(wav)
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16"), (wav, info)
    samples = soundfile.read(wav, dtype="int16")[0].astype(np.int32)
    rms = np.sqrt(np.mean((samples / 32768.0) ** 2))
    assert rms > 0.001, f"{wav} is silent: RMS {rms:.5f}"
    at_rail = np.abs(samples) >= 32767
    assert not (at_rail[1:] & at_rail[:-1]).any(), f"{wav} is clipped"
    picture = wav.with_suffix(".png")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n", f"{picture} is no PNG"
    return samples


def check_nsynth(folder: Path, mixes: int = 12, sources: int = 4) -> None:
    """The mixes, the sources, the sources reconstructed, the overview and the page."""
    wavs = sorted(folder.glob("*.wav"))
    kinds = ["source" if wav.name.startswith("source_") else
             "reconstructed" if "_reconstructed" in wav.name else "mix" for wav in wavs]
    assert (kinds.count("mix"), kinds.count("source"), kinds.count("reconstructed")) == (
        mixes, sources, sources), [wav.name for wav in wavs]
    clips = [check_sound(wav) for wav in wavs]
    mixed = [clip for clip, kind in zip(clips, kinds) if kind == "mix"]
    assert all(not np.array_equal(a, b) for i, a in enumerate(mixed) for b in mixed[:i])
    assert len(list((folder / "encodings").glob("*.npy"))) == sources
    assert (folder / "index.html").is_file()
    assert (folder / "overview.png").is_file()


def check_gansynth(folder: Path, clips: int = 1) -> None:
    """The clips, the instruments that play them, the overview and the page."""
    wavs = sorted(folder.glob("*.wav"))
    assert len(wavs) == clips, [wav.name for wav in wavs]
    for wav in wavs:
        check_sound(wav)
        assert wav.with_name(f"{wav.stem}_instruments.npz").is_file()
    assert (folder / "index.html").is_file()
    assert (folder / "overview.png").is_file()


if __name__ == "__main__":
    check_nsynth(Path(sys.argv[1]))
    check_gansynth(Path(sys.argv[2]))
    print("results are as they should be")
