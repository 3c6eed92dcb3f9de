"""The README files' tables of figures, from the raw results: `python -m benchmarks.tables`.

Each stands between two marks, `<!-- NAME -->` and `<!-- /NAME -->`.  A test holds them to the
results.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks import adapt, gansynth, nsynth
from benchmarks.common import RESULTS, ROOT, median
from synths import files


def results(name: str) -> dict:
    """The raw results of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def duration(seconds: float) -> str:
    """Return seconds in words, in two figures or three.

    >>> duration(654), duration(109.2), duration(27.4), duration(9.15), duration(0.283)
    ('11 min', '1.8 min', '27 s', '9.2 s', '0.3 s')
    """
    if seconds >= 90:
        return f"{seconds / 60:.2g} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def speeds() -> str:
    """The README's table: what a reader waits for, in Magenta's code and here."""
    decoding, playing = results("nsynth")["rounds"], results("gansynth")
    steps = {name: 16 * nsynth.per_step(rounds) for name, rounds in decoding.items()
             if "decode" in name}  # 1000 times the milliseconds, for a second of sound
    theirs, ours = (median(playing["score"][side]) for side in ("magenta", "ours"))
    rows = [("decode one second of one clip", steps["magenta decode 1"],
             f"{duration(steps['ours decode 1 float32'])} in float32, the same samples; "
             f"{duration(steps['ours decode 1 int8'])} in int8"),
            ("decode one second of the twelve mixes", steps["magenta decode 12"],
             f"{duration(steps['ours decode 12 float32'])} in float32; "
             f"{duration(steps['ours decode 12 int8'])} in int8"),
            ("play the score", theirs, f"{duration(ours)}, the same to "
             f"{playing['relative_difference']:.1e} of the loudest sample"),
            ("load a GANSynth checkpoint", playing["model_load_s"],
             duration(playing["start"]["ours"]["load_s"]))]
    return "\n".join(["| job | Magenta | here |", "|---|---|---|",
                      *(f"| {job} | {duration(magenta)} | {here} |"
                        for job, magenta, here in rows)]) + "\n"


def drawing() -> str:
    """Return the table of what pictures cost."""
    found = results("pictures")
    jobs = {"chapter_05_example_01":
                "example 1: 4 sounds, 4 reconstructions, 12 mixes, an overview",
            "chapter_05_example_02": "example 2: half a minute, and the score's sheet"}
    rows = [f"| {job} | {found['rounds'][run][0]['pictures']}, "
            f"{found['rounds'][run][0]['pictures_mb']:.1f} MB | "
            f"{duration(found['medians'][run]['first_s'])} | "
            f"{duration(found['medians'][run]['drawing_s'])} |" for run, job in jobs.items()]
    return "\n".join(["| pictures of a default run | files | import, first transform | drawing |",
                      "|---|---|---|---|", *rows]) + (
        "\n\nWith nothing compiled, as after an installation, the first of these is "
        f"{duration(found['cold']['first_s'])}, once.\n")


def banks() -> str:
    """Return the table of Dask's workers beside the script."""
    found = results("banks")
    official = found["official"]
    rows = [(f"starter, {found['throughput']['clips']} clips: two workers beside example 1's two "
             "threads", found["throughput"], "2 workers x 1 threads"),
            ("one worker with two threads beside the same", found["throughput"],
             "1 workers x 2 threads"),
            *((f"official shapes, 12 clips in one task, {precision}", official[precision],
               "1 workers x 2 threads") for precision in ("int8", "float32")),
            ("official shapes, 24 clips in two tasks of one frame, int8: two workers",
             official["two_tasks"], "2 workers x 1 threads")]
    lines = []
    for job, measured, layout in rows:
        ratios = [measured["script_by_workers"][f"{layout}, {what}"]["median"]
                  for what in ("wall", "processor")]
        lines.append(f"| {job} | **{ratios[0]:.2f}x** | {ratios[1]:.2f}x | "
                     f"{max(measured['worker_peak_mb'][layout]):.0f} MB |")
    return "\n".join(["| | wall time | processor time | peak memory of a worker |",
                      "|---|---|---|---|", *lines]) + "\n"


def memory() -> str:
    """Return the table of peak memory at the limits of what the scripts take."""
    cases = results("memory")["cases"]
    examples = ("example 1", "example 2")
    idle = {example: cases[f"idle, {example}"]["peak_mb"] for example in examples}
    lines = ["| job | peak, MB | over idle | results, MB |", "|---|---|---|---|"]
    for job, case in cases.items():
        example = examples["score" in job]
        over = "" if job.startswith("idle") else case["peak_mb"] - idle[example]
        lines.append(f"| {job} | {case['peak_mb']} | {over} | {case['results_mb']} |")
    return "\n".join(lines) + "\n"


TABLES = {
    "README.md": {"speeds": speeds},
    "benchmarks/README.md": {"nsynth": lambda: nsynth.table(results("nsynth")) + "\n",
                             "gansynth": lambda: gansynth.table(results("gansynth")) + "\n",
                             "pictures": drawing, "banks": banks},
    "docs/reliability.md": {"memory": memory},
    "training/README.md": {"adapt": lambda: adapt.table(results("adapt"))},
}


def written(page: Path, tables: dict) -> str:
    """Return the page's text with its tables made anew."""
    text = page.read_text("utf-8")
    for name, make in tables.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not mark.search(text):
            raise SystemExit(f"{page} has no marks for the table {name}.")
        text = mark.sub(lambda found: found[1] + make() + found[2], text)  # noqa: B023
    return text


def main() -> None:
    for name, tables in TABLES.items():
        text = written(ROOT / name, tables)
        with files.writing(ROOT / name) as file:
            file.write(text.encode("utf-8"))
        print(name)


if __name__ == "__main__":
    main()
