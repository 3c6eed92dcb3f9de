"""Peak memory of the two scripts at the limits of what they take: `python -m benchmarks.memory`.

Each case runs a script as a user does, in a process of its own, and writes to `results/memory.json`
its peak resident memory and the time it took.  `idle` is a script that makes one clip: what the
interpreter, the packages and the models take.  About half an hour on two cores; `--case` runs one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, ROOT, machine

ONE, TWO = "chapter_05_example_01.py", "chapter_05_example_02.py"
RATE = 16000


def sounds(folder: Path, count: int) -> list[str]:
    """A folder of tones of a second."""
    import soundfile

    times = np.arange(RATE) / RATE
    for i in range(count):
        tone = 0.5 * np.sin(2 * np.pi * (100 + 7 * i) * times) * np.exp(-3 * times)
        soundfile.write(folder / f"s{i:03}.wav", tone, RATE)
    return ["--sounds", str(folder)]


def score(folder: Path, seconds: int, notes: int) -> list[str]:
    """A MIDI file of notes of half a second to four, evenly spread."""
    import mido

    rng = np.random.default_rng(0)
    starts = np.linspace(0, seconds - 4, notes)
    events = []
    for start, length, pitch in zip(starts, rng.uniform(0.5, 4, notes),
                                    rng.integers(30, 80, notes)):
        events += [(start, 1, pitch), (start + length, 0, pitch)]
    file, track, now = mido.MidiFile(ticks_per_beat=480), mido.MidiTrack(), 0
    for when, on, pitch in sorted(events):
        tick = round(when * 960)        # two beats a second
        track.append(mido.Message("note_on" if on else "note_off", note=int(pitch), velocity=90,
                                  time=tick - now))
        now = tick
    file.tracks.append(track)
    file.save(folder / "score.mid")
    return ["--midi", str(folder / "score.mid")]


def long_sound(folder: Path) -> list[str]:
    """An hour of stereo at 48 kHz: silence, then a tone in its last second."""
    import soundfile

    tone = np.sin(np.arange(48_000) / 20)
    with soundfile.SoundFile(folder / "hour.wav", "w", 48_000, 2, "PCM_16") as file:
        for second in range(3600):
            file.write(np.stack([tone, tone], 1) * (0.5 if second == 3599 else 0))
    return ["--sounds", str(folder / "hour.wav"), "--trim", "--level"]


def chain(count: int, clips: int) -> list[str]:
    """Pairs of neighbours, five steps each."""
    return ["--many", "--steps", "5", "--pairs",
            *[f"s{i % count:03}+s{(i + 1 + i // count) % count:03}" for i in range(clips // 5)]]


CASES: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "idle, example 1": (ONE, lambda folder: sounds(folder, 1)),
    "idle, example 2": (TWO, lambda folder: score(folder, 5, 1)),
    "200 sounds, three pairs": (
        ONE, lambda folder: [*sounds(folder, 200), "--pairs", "s000+s199", "s050+s051",
                             "s100+s000"]),
    "200 sounds, 1,000 clips": (
        ONE, lambda folder: [*sounds(folder, 200), *chain(200, 1000)]),
    "60 minutes of score, 3,600 notes": (TWO, lambda folder: score(folder, 3590, 3600)),
    "60 minutes of score, 20,000 notes": (TWO, lambda folder: score(folder, 3590, 20_000)),
    "an hour of stereo at 48 kHz": (ONE, long_sound),
}


def measure(name: str) -> dict[str, float]:
    """Run a case; its peak memory in MB, its seconds, the size of what it leaves in MB."""
    script, prepare = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "in")
        inputs.mkdir()
        output = Path(folder, "out")
        words = [sys.executable, str(ROOT / script), *prepare(inputs), "--seed", "1", "--quiet",
                 "--output", str(output)]
        began = time.perf_counter()
        process = subprocess.Popen(words, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            raise SystemExit(f"{name}: exit code {os.waitstatus_to_exitcode(status)}")
        peak = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        return {"peak_mb": round(peak), "seconds": round(seconds, 1),
                "clips": len(list(output.glob("*_seed1.wav"))),
                "results_mb": round(sum(path.stat().st_size for path in output.rglob("*")) / 1e6),
                "page_mb": round((output / "index.html").stat().st_size / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    options = parser.parse_args()
    file = RESULTS / "memory.json"
    kept = json.loads(file.read_text("utf-8")) if options.case and file.exists() else {}
    cases = kept.get("cases", {})
    for name in options.case or CASES:
        cases[name] = measure(name)
        print(f"{name}: {cases[name]}", flush=True)
    file.write_text(json.dumps({"machine": machine(), "cases": cases}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
