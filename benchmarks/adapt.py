"""Measure the results of fine-tuning the bundled NSynth on other sounds, with five seeds.

    python -m benchmarks.adapt                           # four synthetic sounds
    python -m benchmarks.adapt --sounds FILE FILE ...    # your sounds; --name describes them
    python -m benchmarks.adapt --seed 1                  # a second training run, with other crops

The benchmark fine-tunes with `python -m workshop finetune` on all cores.  It then decodes the
sounds and their mixes from their encodings, as `training.nsynth.evaluate` does, at a peak of 0.9.
It prints the worst result of the five seeds, and writes the raw results for each training `--seed`
to results/adapt.json.  It needs PyTorch: training/requirements.txt.

The starter was not trained on the synthetic sounds: a plucked string (Karplus and Strong, 1983), a
reed that swells and has vibrato, a bell (Chowning's frequency modulation, 1973) and a snare drum,
which has no pitch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, machine
from synths import InputError, files
from synths.sounds import load_audio
from synths.weights import checkpoints
from training import report
from training.nsynth import adapt, evaluate, own

RATE, LEVEL = evaluate.SAMPLE_RATE, own.LOUDNESS
# Each row's title and the format of its cells: mean and minimum, or the sound and its source.
ROWS = {
    "NLL after, at a peak of 0.9 (mean)": ("{:.2f} nats", "sounds_nll"),
    "pitched sounds: voiced frames within 50 cents (mean; minimum)":
        ("{:.0%}; {:.0%}", "sounds_within_50_cents", "sounds_within_50_cents_lowest"),
    "pitched sounds and their sources: HNR (mean)":
        ("{:.1f} dB; {:.1f} dB", "sounds_hnr", "sounds_source_hnr"),
    "mixes of two pitched sounds: periodic frames (mean; minimum)":
        ("{:.0%}; {:.0%}", "pitched_mixes_clear_frames", "pitched_mixes_clear_frames_lowest"),
    "unstable mixes": ("{} of {}", "mixes_broken", "mixes_decoded"),
}


def made_up() -> dict[str, np.ndarray]:
    """Return four synthetic sounds [16000] by name."""
    rng, time = np.random.default_rng(5), np.arange(RATE) / RATE
    period = round(RATE / 196)
    string = np.zeros(RATE)
    string[:period] = rng.uniform(-1, 1, period)
    for n in range(period + 1, RATE):
        string[n] = 0.498 * (string[n - period] + string[n - period - 1])
    vibrato = 330 * 2 ** (np.minimum(time, 0.4) * 0.75 * np.sin(2 * np.pi * 5.5 * time) / 12)
    phase = 2 * np.pi * np.cumsum(vibrato) / RATE
    reed = sum(np.sin(k * phase) / k ** 1.3 for k in (1, 3, 5, 7, 9)) * np.minimum(1, time / 0.08)
    fall = np.exp(-2.5 * time)
    bell = fall * np.sin(2 * np.pi * 415 * time + 2 * fall * np.sin(2 * np.pi * 1453 * time))
    rattle = np.diff(rng.standard_normal(RATE + 1)) * np.exp(-9 * time)
    snare = 0.3 * rattle + np.sin(2 * np.pi * 185 * time) * np.exp(-20 * time)
    fade = np.minimum(1, (RATE - np.arange(RATE)) / 400)
    return {name: np.float32(LEVEL * sound * fade / np.abs(sound).max()) for name, sound in
            dict(string=string, reed=reed, bell=bell, snare=snare).items()}


def judge(prefix: Path, paths: dict[str, Path]) -> dict:
    """Return the figures of the sounds and their mixes; see `training.nsynth.evaluate.evaluate`."""
    samples = evaluate.FRAMES * evaluate.HOP
    sounds = {name: load_audio(path, samples, peak=LEVEL)
              for name, path in paths.items()}
    pitched = [name for name, audio in sounds.items()
               if own.pitch_track(audio.astype(np.float64))[0] is not None]
    return dict(pitched=pitched, **evaluate.evaluate(
        evaluate.engine_of(prefix), sounds, {}, {}, pitched=pitched))


def table(found: dict) -> str:
    """Return the results as a table with one column for each set of sounds."""
    def line(title: str, cell: Callable[[dict], str]) -> str:
        return f"| {title} | {' | '.join(map(cell, found.values()))} |"

    def figure(form: str, *keys: str) -> Callable[[dict], str]:
        def cell(run: dict) -> str:
            values = [run["figures"]["rows"][key] for key in keys]
            return "-" if None in values else form.format(*values).replace("%", " %")
        return cell

    def before(run: dict) -> str:
        return f"{np.mean([nats['before'] for nats in run['nats'].values()]):.2f} nats"

    def each(run: dict) -> str:
        sounds = []
        for name, row in run["figures"]["sounds"].items():
            within = (f"; {100 * min(row['within_50_cents']):.0f} %"
                      if name in run["figures"]["pitched"] else "")
            sounds.append(f"{name} {row['nll']:.2f}{within}")
        return "<br>".join(sounds)

    return "\n".join([
        f"| measure | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|",
        line("training time; samples", lambda run: f"{run['minutes']:.0f} min; "
                                                   f"{run['samples'] / 1e6:.0f} million"),
        line("NLL before fine-tuning, at the original level (mean)", before),
        *(line(title, figure(*what)) for title, what in ROWS.items()),
        line("each sound: NLL after; voiced frames within 50 cents", each)]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Fine-tune, evaluate and print the results, as described in the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapt", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", nargs="+", type=Path, metavar="FILE",
                        help="sounds to fine-tune on (default: four synthetic sounds)")
    parser.add_argument("--name", default="made up",
                        help="name of the set of sounds in the results (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=15.0, metavar="M",
                        help="training time in minutes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0,
                        help="training seed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="number of processor threads (default: one for each core)")
    parser.add_argument("--output", type=Path, default=RESULTS / "adapt.json", metavar="FILE",
                        help="JSON file for the results (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        paths = options.sounds or []
        if not paths:
            for name, audio in made_up().items():
                paths.append(Path(folder, f"{name}.wav"))
                files.write_wav(paths[-1], audio)
        taught = Path(folder, "taught")
        code = subprocess.run(
            [sys.executable, "-m", "workshop", "finetune", "--sounds", *map(str, paths), "--name",
             "taught", "--minutes", str(options.minutes), "--seed", str(options.seed), "--threads",
             str(options.threads), "--output", str(taught)], check=False).returncode
        if code:
            return code
        try:
            figures = judge(checkpoints.find(str(taught), "nsynth"),
                            {path.stem: path for path in paths})
        except (InputError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        card = adapt.read_card(taught)
        progress = card["progress"]
    kept = json.loads(options.output.read_text("utf-8")) if options.output.is_file() else {}
    kept[f"{options.name}, `--seed {options.seed}`"] = {
        "machine": machine(), "minutes": round(progress["passed"] / 60, 2),
        "samples": progress["samples"],
        "nats": {name: {"before": round(before, 3), "after": round(after, 3)} for
                 name, before, after in zip(card["sounds"], progress["before"],
                                            progress["best"])},
        "figures": report.clean(figures)}
    report.write_json(options.output, kept)
    print(table(kept))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
