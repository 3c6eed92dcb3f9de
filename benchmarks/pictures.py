"""What the pictures of a run cost: from sounds in memory to files, with the import of what draws.

    python -m benchmarks.pictures             # about a minute; writes results/pictures.json

Each round is a process of its own.  It draws what a default run of an example draws: for example 1
the rainbowgrams of 4 sounds, 4 reconstructions and 12 mixes of one second, and their overview; for
example 2 the spectrogram of half a minute and the score's sheet.  `first` is the import and the
first transform, which a run does while it decodes.  `--cold` measures once more with nothing
compiled, as after an installation.  The medians of the rounds are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import audio_utils
import pictures
from benchmarks.common import RESULTS, Worker, machine, serve
from pictures import sheets, spectra

RATE = 16000


def sound(seconds: int, seed: int) -> np.ndarray:
    """Decaying notes over a little noise, float32 [samples]."""
    rng = np.random.default_rng(seed)
    times = np.arange(seconds * RATE) / RATE
    audio = 0.01 * rng.normal(size=len(times))
    for begin in np.arange(0, seconds, 0.5):
        since = np.maximum(times - begin, 0)
        frequency = 440 * 2 ** (rng.integers(-24, 24) / 12)
        audio += 0.3 * np.exp(-4 * since) * np.sin(2 * np.pi * frequency * since)
    return np.float32(audio / np.abs(audio).max())


def draw_mixes(folder: str) -> None:
    """Twenty rainbowgrams of a second, and their overview."""
    drawn = [spectra.rainbowgram(sound(1, seed)) for seed in range(20)]
    for place, spectrum in enumerate(drawn):
        audio_utils.save_picture(audio_utils.spectrum_image(spectrum), str(place), folder, 200)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    image = sheets.square([sheets.Cell(spectrum, kind="source") for spectrum in drawn[:4]],
                          list("abcd"), dict(zip(pairs, drawn[8:])))
    audio_utils.save_picture(image, "overview", folder)


def draw_score(folder: str) -> None:
    """The spectrogram of half a minute, and the sheet of its score."""
    audio, starts = sound(30, 1), np.arange(0, 30, 0.5)
    notes = {"pitches": 48 + np.arange(60) % 24, "velocities": np.full(60, 100),
             "start_times": starts, "end_times": starts + 0.5}
    audio_utils.save_spectrogram_plot(audio, RATE, "score", folder)
    sheet = sheets.score_sheet([sheets.Score(notes, audio, [0, 10, 20, 30])])
    audio_utils.save_picture(sheet, "overview", folder)


RUNS = {"chapter_05_example_01": draw_mixes, "chapter_05_example_02": draw_score}


def prepare(run: str) -> Callable:
    """A worker that draws the pictures of a run once."""
    def draw() -> dict:
        began = time.perf_counter()
        pictures.warm_up()
        first = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            RUNS[run](folder)
            sizes = [path.stat().st_size for path in Path(folder).glob("*.png")]
        return {"first_s": first, "drawing_s": time.perf_counter() - began - first,
                "pictures": len(sizes), "pictures_mb": sum(sizes) / 1e6}
    return draw


def ask(run: str) -> dict:
    """One round, in a process of its own."""
    worker = Worker("benchmarks.pictures", run)
    try:
        return worker.ask()
    finally:
        worker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--cold", action="store_true", help="also with nothing compiled")
    parser.add_argument("--output", type=Path, default=RESULTS / "pictures.json", metavar="FILE",
                        help="default: results/pictures.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(lambda: prepare(options.worker))
        return
    results: dict = {"machine": machine(), "rounds": {run: [] for run in RUNS}}
    if options.cold:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["NUMBA_CACHE_DIR"] = folder
            results["cold"] = ask("chapter_05_example_01")
            del os.environ["NUMBA_CACHE_DIR"]
        print(f"nothing compiled: {results['cold']['first_s']:.1f} s before the first picture")
    for _ in range(options.rounds):
        for run, rounds in results["rounds"].items():
            rounds.append(ask(run))
    results["medians"] = {}
    print(f"{'':24}{'first':>9}{'drawing':>11}   (medians of {options.rounds})")
    for run, rounds in results["rounds"].items():
        medians = {part: statistics.median(answer[part] for answer in rounds)
                   for part in ("first_s", "drawing_s")}
        results["medians"][run] = medians
        print(f"{run:24}{medians['first_s']:7.2f} s{medians['drawing_s']:9.2f} s   "
              f"{rounds[0]['pictures']} pictures, {rounds[0]['pictures_mb']:.1f} MB")
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()
