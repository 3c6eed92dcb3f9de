"""Compare the speed of our GANSynth with Magenta's: the book's score at the official sizes.

    python -m benchmarks.gansynth                  # takes minutes; writes results/gansynth.json

The weights are random, at the official sizes (2x16 -> 128x1024, 256..32 channels).  The score is
that of example 2 (210 notes), on seven instruments.  Magenta's `Model` cannot be built on a current
TensorFlow.  Its side is therefore Magenta's own generator and inversion functions in one graph,
restored from the same checkpoint.  `benchmarks.magenta_gansynth` builds this graph, and describes
how we compare loading.

Each side runs in its own process, with all cores.  The rounds alternate, so that both sides see the
machine in the same state.  CPU time is the sum over all cores.  If other programs are
running, it is more reliable than elapsed time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, Worker, machine, median, save, serve

BATCH = 16  # the book's


def score_notes() -> dict[str, np.ndarray]:
    """Return the score of example 2: z [210, 256], pitches, and note lengths in seconds."""
    from synths.gansynth import generate_util as score

    notes = score.load_midi(ROOT / "midi" / "cs1-1pre-short.mid")
    rng = np.random.default_rng(0)
    z, t = rng.standard_normal((7, 256)), np.linspace(-0.0001, notes["end_times"].max(), 7)
    return {"z": score.get_z_notes(notes["start_times"], z, t), "pitches": notes["pitches"],
            "lengths": notes["end_times"] - notes["start_times"]}


# The two sides: a worker loads, then plays once for each line it is sent ---------------------


def _load_ours(folder: Path):
    from synths.gansynth import Model, generate_util

    model = Model.load_from_path(folder, BATCH)

    def play(notes, whole):
        made = model.generate_samples_from_z(notes["z"], notes["pitches"])
        if whole:
            return np.asarray(made)
        audio = np.zeros(made.shape, np.float32)
        for row, note in zip(audio, made.cut([generate_util.note_samples(seconds)
                                              for seconds in notes["lengths"]])):
            row[:len(note)] = note
        return audio
    return play


def _load_magenta(folder: Path):
    from synths.gansynth import magenta

    reference = magenta.Model.load_from_path(folder, BATCH)
    return lambda notes, whole: reference.generate_samples_from_z(notes["z"], notes["pitches"])


_LOADERS = {"ours": _load_ours, "magenta": _load_magenta}
_IMPORTS = {"ours": "import synths.gansynth",
            "magenta": "import benchmarks.magenta_gansynth, tensorflow.compat.v1, "
                       "magenta.models.gansynth.lib.network_functions, "
                       "magenta.models.gansynth.lib.specgrams_helper"}


def _worker(side: str, folder: Path, notes_file: Path) -> None:
    start = {}

    def prepare():
        began = time.perf_counter()
        exec(_IMPORTS[side])  # noqa: S102  (a constant above)
        imported = time.perf_counter()
        play = _LOADERS[side](folder)
        loaded = time.perf_counter()
        with np.load(notes_file) as arrays:
            notes = dict(arrays)
        play({name: values[:1] for name, values in notes.items()}, True)
        start.update(import_s=imported - began, load_s=loaded - imported,
                     first_note_s=time.perf_counter() - loaded)

        last = [None]

        def work(count: int = 0, whole: bool = False, save: str | None = None) -> dict:
            if count:
                last[0] = play({name: values[:count] for name, values in notes.items()}, whole)
            if save:
                np.save(save, last[0])
            return start
        return work

    serve(prepare)


def run(rounds: int = 3, count: int = 210) -> dict:
    """Measure both sides in turn on the first `count` notes of the score; return all figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, notes_file = Path(temporary) / "official", Path(temporary) / "notes.npz"
        notes = {name: values[:count] for name, values in score_notes().items()}
        count = len(notes["z"])
        np.savez(notes_file, **notes)
        subprocess.run([sys.executable, "-m", "benchmarks.magenta_gansynth", "make", str(folder)],
                       cwd=ROOT, check=True, capture_output=True)
        model_load = float(subprocess.run(
            [sys.executable, "-m", "benchmarks.magenta_gansynth", "load", str(folder)], cwd=ROOT,
            check=True, capture_output=True, text=True).stdout.split()[-1])
        sides = {name: Worker("benchmarks.gansynth", name, str(folder), str(notes_file))
                 for name in ("magenta", "ours")}
        start = {name: {key: seconds for key, seconds in side.ask().items()
                        if key in ("import_s", "load_s", "first_note_s")}
                 for name, side in sides.items()}
        played = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                played[name].append(_costs(side.ask(count=count)))
        for name, side in sides.items():
            side.ask(save=str(Path(temporary) / f"{name}.npy"))
        # One more job: whole notes of 4 s, where nothing can be left out.
        whole = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                whole[name].append(_costs(side.ask(count=BATCH, whole=True)))
        theirs, ours = (np.load(Path(temporary) / f"{name}.npy", mmap_mode="r")
                        for name in ("magenta", "ours"))
        error, peak = _differences(theirs, ours, notes["lengths"])
        for side in sides.values():
            side.close()

    return {
        "machine": machine(),
        "notes": count, "batch": BATCH,
        "model_load_s": model_load,
        "start": start,
        "score": played,
        "whole_notes": whole,
        "largest_difference": error, "largest_sample": peak,
        "relative_difference": error / peak,
        "ratio": _ratios(model_load, start, played, whole),
    }


def _differences(theirs: np.ndarray, ours: np.ndarray, lengths: np.ndarray,
                 ) -> tuple[float, float]:
    """Return the largest difference and the largest sample in the audible parts of the notes."""
    from synths.gansynth import generate_util as score

    error = peak = 0.0
    for a, b, seconds in zip(theirs, ours, lengths):
        heard = score.note_samples(seconds)
        error = max(error, float(np.abs(a[:heard] - b[:heard]).max()))
        peak = max(peak, float(np.abs(a[:heard]).max()))
    return error, peak


def _ratios(model_load: float, start: dict, played: dict, whole: dict) -> dict[str, float]:
    """Return how many times as long Magenta takes."""
    return {
        "score": median(played["magenta"]) / median(played["ours"]),
        "score_cpu": median(played["magenta"], "cpu_s") / median(played["ours"], "cpu_s"),
        "whole_notes": median(whole["magenta"]) / median(whole["ours"]),
        "whole_notes_cpu": median(whole["magenta"], "cpu_s") / median(whole["ours"], "cpu_s"),
        "load": model_load / start["ours"]["load_s"],
        "load_generator": start["magenta"]["load_s"] / start["ours"]["load_s"],
        "load_to_first_note": (start["magenta"]["load_s"] + start["magenta"]["first_note_s"])
                              / (start["ours"]["load_s"] + start["ours"]["first_note_s"]),
        "from_import_to_first_note": (sum(start["magenta"].values())
                                      / sum(start["ours"].values())),
    }


def _costs(answer: dict) -> dict:
    return {key: answer[key] for key in ("seconds", "cpu_s", "peak_mb")}


def table(results: dict) -> str:
    """Return the results as a Markdown table."""
    ratio, start = results["ratio"], results["start"]
    lines = ["| job | Magenta | ours | ratio | by processor time |", "|---|---|---|---|---|"]

    def row(what: str, theirs: float, ours: float, factor: float, cpu: float | None = None) -> None:
        lines.append(f"| {what} | {theirs:.2f} s | {ours:.2f} s | **{factor:.1f}x** | "
                     f"{f'{cpu:.1f}x' if cpu else ''} |")

    def medians(rounds: dict) -> tuple[float, float]:
        return median(rounds["magenta"]), median(rounds["ours"])

    row(f"the score: {results['notes']} notes, only their audible parts (largest difference "
        f"{results['relative_difference']:.1e} of the largest sample)", *medians(results["score"]),
        ratio["score"], ratio["score_cpu"])
    row(f"{results['batch']} whole notes of 4 s", *medians(results["whole_notes"]),
        ratio["whole_notes"], ratio["whole_notes_cpu"])
    ours = start["ours"]["load_s"]
    row("load, compared with Magenta's whole `Model`", results["model_load_s"], ours, ratio["load"])
    row("load, compared with Magenta's generator only", start["magenta"]["load_s"], ours,
        ratio["load_generator"])
    row("import, load and first note", sum(start["magenta"].values()), sum(start["ours"].values()),
        ratio["from_import_to_first_note"])
    peaks = [max(one["peak_mb"] or 0 for one in results["score"][side]) for side in
             ("magenta", "ours")]
    lines.append(f"| peak memory | {peaks[0]:.0f} MB | {peaks[1]:.0f} MB | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3,
                        help="number of rounds (default: %(default)s)")
    parser.add_argument("--notes", type=int, default=210,
                        help="number of notes of the score to play (default: %(default)s)")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        side, folder, notes_file = options.worker
        _worker(side, Path(folder), Path(notes_file))
        return
    results = run(options.rounds, options.notes)
    save("gansynth", results)
    print(table(results))


if __name__ == "__main__":
    main()
