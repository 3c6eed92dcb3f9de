"""Compare our code with Magenta's on Google's own weights: `python -m benchmarks.official`.

The command downloads `wavenet-ckpt` (1 GB) and `acoustic_only`, loads them, and compares our code
with Magenta's on the same files: encodings of the four sounds in `sounds/`, 200 samples of each,
and notes of GANSynth.  It also computes NSynth's NLL of the sounds.  Please report the table at the
end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, machine

SOUNDS = ("bass", "flute", "meow", "metal")
PITCHES = (36, 48, 60, 72)


def run_magenta(*arguments: str) -> None:
    """Run a module of the benchmarks in a process of its own."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True,
                          text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        sys.exit(f"Magenta's code stopped:\n{done.stderr[-3000:]}")


def compare_nsynth(prefix: Path, folder: Path, samples: int, seconds: float) -> list[tuple]:
    """Return rows of the table: encodings, samples and likelihoods."""
    from synths import nsynth
    from synths.sounds import load_audio

    length = round(seconds * 16000) // 512 * 512
    audio = np.stack([load_audio(ROOT / "sounds" / f"{name}.wav", length)
                      for name in SOUNDS])
    encodings = nsynth.encode(audio, prefix, length)
    frames = -(-samples // 512)
    uniforms = np.random.default_rng(3).random([len(audio), frames * 512])
    np.savez(folder / "data.npz", audio=audio, encodings=encodings[:, :frames],
             uniforms=uniforms[:, :samples])
    (folder / "settings.json").write_text(json.dumps(
        {"prefix": str(prefix), "data": str(folder / "data.npz"), "loss": False}))
    run_magenta("benchmarks.magenta_nsynth", str(folder / "settings.json"),
                str(folder / "magenta.npz"))
    made = nsynth.decode(encodings[:, :frames], prefix, uniforms, "float32")[:, :samples]
    with np.load(folder / "magenta.npz") as magenta:
        difference = np.abs(encodings - magenta["encodings"]).max()
        rows = [("NSynth, encodings", "largest difference relative to the largest value",
                 f"{difference / np.abs(magenta['encodings']).max():.1e}")]
        for name, ours, theirs in zip(SOUNDS, made, magenta["samples"]):
            other = np.flatnonzero(~np.isclose(ours, theirs, rtol=1e-6, atol=1e-9))
            same = other[0] if len(other) else samples
            rows.append((f"NSynth, samples of {name}", "equal samples before the first difference",
                         f"{same} of {samples}"))
    for name, nats in zip(SOUNDS, nsynth.nll(audio, prefix)):
        rows.append((f"NSynth, {name}", "NLL in nats per sample (uniform guess: 5.545)",
                     f"{nats:.3f}"))
    return rows


def compare_gansynth(prefix: Path, folder: Path) -> list[tuple]:
    """Return rows of the table: four notes of two instruments."""
    from synths import gansynth

    model = gansynth.Model(prefix, batch_size=len(PITCHES))
    z = np.random.default_rng(4).standard_normal([2, model.latent_size]).astype(np.float32)
    z = np.repeat(z, len(PITCHES) // 2, axis=0)
    ours = model.generate_samples_from_z(z, PITCHES)
    np.savez(folder / "notes.npz", z=z, pitches=PITCHES)
    run_magenta("benchmarks.magenta_gansynth", "play", str(prefix.parent.parent),
                str(folder / "notes.npz"), str(folder / "waves.npy"))
    rows = []
    for pitch, mine, theirs in zip(PITCHES, ours, np.load(folder / "waves.npy")):
        theirs = theirs[:len(mine)]
        noise = float(np.square(mine - theirs).mean())
        level = 10 * np.log10(float(np.square(theirs).mean()) / max(noise, 1e-30))
        rows.append((f"GANSynth, note {pitch}", "level of the sound minus that of the difference",
                     f"{level:.0f} dB"))
    return rows


def main() -> None:
    """Parse the options, download the models, compare the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path,
                        help="folder of the downloaded weights (default: checkpoints)")
    parser.add_argument("--url-base", help="base address of a mirror to download from")
    parser.add_argument("--samples", type=int, default=200,
                        help="number of samples of each sound to decode (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0,
                        help="length of each sound in seconds (default: %(default)s)")
    options = parser.parse_args()
    if options.url_base:
        os.environ["SYNTHS_MIRROR"] = options.url_base
    from synths import InputError
    from synths.weights import checkpoints

    try:
        found = [checkpoints.download(name, options.folder)
                 for name in ("wavenet-ckpt", "acoustic_only")]
    except InputError as error:
        sys.exit(str(error))
    rows = [(model, "loaded", checkpoints.describe(prefix, model, options.folder))
            for model, prefix in zip(("nsynth", "gansynth"), found)]
    with tempfile.TemporaryDirectory() as folder:
        rows += compare_nsynth(found[0], Path(folder), options.samples, options.seconds)
        rows += compare_gansynth(found[1], Path(folder))
    for name, value in machine().items():
        print(f"{name}: {value}")
    print("\n| comparison | measure | value |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
