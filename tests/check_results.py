"""What the two examples must leave in their folders.

`python tests/check_results.py NSYNTH GANSYNTH`

Used by the tests and, on the defaults, by continuous integration.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import soundfile


def check_sound(wav: Path) -> np.ndarray:
    """16 kHz, 16 bits, mono, audible, not clipped, with its plot; returns the samples."""
    info = soundfile.info(wav)
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16"), (wav, info)
    samples = soundfile.read(wav, dtype="int16")[0].astype(np.int32)
    rms = np.sqrt(np.mean((samples / 32768.0) ** 2))
    assert rms > 0.001, f"{wav} is silent: RMS {rms:.5f}"
    at_rail = np.abs(samples) >= 32767
    assert not (at_rail[1:] & at_rail[:-1]).any(), f"{wav} is clipped"
    plot = wav.with_suffix(".png")
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n", f"{plot} is no PNG"
    return samples


def check_run(folder: Path) -> list[str]:
    """The clips that run.json lists, the overview and the page; returns the clips' names."""
    run = json.loads((folder / "run.json").read_bytes())
    names = [clip["name"] for clip in run["clips"]]
    assert sorted(names) == sorted(wav.stem for wav in folder.glob("*.wav"))
    assert run["stopped"] is False and f"--seed {run['seed']}" in run["command"]
    assert (folder / "index.html").is_file() and (folder / "overview.png").is_file()
    return names


def check_nsynth(folder: Path, mixes: int = 12, sources: int = 4) -> None:
    """The sources, the reconstructions and the mixes, all different."""
    names = check_run(folder)
    kinds = ["source" if name.startswith("source_") else
             "reconstructed" if name.endswith("_reconstructed") else "mix" for name in names]
    assert (kinds.count("mix"), kinds.count("source"), kinds.count("reconstructed")) == (
        mixes, sources, sources), names
    clips = {check_sound(folder / f"{name}.wav").tobytes() for name in names}
    assert len(clips) == len(names)
    assert len(list((folder / "encodings").glob("*.npy"))) == sources


def check_gansynth(folder: Path, clips: int = 1) -> None:
    """The clips."""
    names = check_run(folder)
    assert len(names) == clips
    for name in names:
        check_sound(folder / f"{name}.wav")


if __name__ == "__main__":
    check_nsynth(Path(sys.argv[1]))
    check_gansynth(Path(sys.argv[2]))
    print("results are as they should be")
