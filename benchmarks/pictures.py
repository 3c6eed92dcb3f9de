"""What the pictures of a run cost beside its sound: both examples as a reader runs them.

    python -m benchmarks.pictures             # about a minute; writes results/pictures.json

Each round is a process of its own that runs one example on its defaults and the starter that ships,
the two in turn.  Synthesis is all from the sounds or the score to the WAVs (the weights are loaded,
sounds encoded, clips decoded, notes generated); pictures is all that draws, with the import of what
draws.  The medians of the rounds are reported.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import RESULTS, Worker, machine, serve

# For each example: where its synthesis and its drawing begin.
EXAMPLES = {
    "chapter_05_example_01": {
        "synthesis": [("chapter_05_example_01", "encode"), ("chapter_05_example_01", "synthesize")],
        "pictures": [("companion.page.reports", "_draw"), ("companion.page.reports", "_nsynth_overview")]},
    "chapter_05_example_02": {
        "synthesis": [("chapter_05_example_02", "generate_audio")],
        "pictures": [("audio_utils", "save_spectrogram_plot"), ("companion.page.reports", "_draw_scores")]},
}


def timed(seconds: dict[str, float], part: str, function: Callable) -> Callable:
    """The function, which adds what it takes to `seconds[part]`."""
    def wrapper(*arguments, **options):
        began = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[part] += time.perf_counter() - began
    return wrapper


def prepare(example: str) -> Callable:
    """A worker that runs the example once."""
    from companion import script as script_utils

    script = importlib.import_module(example)
    seconds = dict.fromkeys(EXAMPLES[example], 0.0)
    for part, places in EXAMPLES[example].items():
        for module, name in places:
            module = importlib.import_module(module)
            setattr(module, name, timed(seconds, part, getattr(module, name)))

    def play() -> dict:
        with tempfile.TemporaryDirectory() as folder:
            sys.argv = [f"{example}.py", "--seed", "7", "--quiet", "--output", folder]
            script_utils.run(script.app, script.parse_options())
            pictures = [path.stat().st_size for path in Path(folder).glob("*.png")]
        return {"parts": seconds, "pictures": len(pictures), "pictures_mb": sum(pictures) / 1e6}
    return play


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS / "pictures.json", metavar="FILE",
                        help="default: results/pictures.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(lambda: prepare(options.worker))
        return
    results = {"machine": machine(), "rounds": {name: [] for name in EXAMPLES}}
    for _ in range(options.rounds):
        for example, rounds in results["rounds"].items():
            worker = Worker("benchmarks.pictures", example)
            rounds.append(worker.ask())
            worker.close()
    results["medians"] = {}
    print(f"{'':24}{'synthesis':>11}{'pictures':>11}{'share':>8}   (medians of {options.rounds})")
    for example, rounds in results["rounds"].items():
        synthesis, pictures = (statistics.median(answer["parts"][part] for answer in rounds)
                               for part in ("synthesis", "pictures"))
        results["medians"][example] = {
            "synthesis_s": synthesis, "pictures_s": pictures, "share": pictures / synthesis,
            "whole_s": statistics.median(answer["seconds"] for answer in rounds)}
        print(f"{example:24}{synthesis:9.2f} s{pictures:9.2f} s{pictures / synthesis:8.0%}   "
              f"{rounds[0]['pictures']} pictures, {rounds[0]['pictures_mb']:.1f} MB")
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()
