"""Banks on Dask: kills, throughput, official shapes, the scheduler's cost, players.

    python -m benchmarks.banks                # all; writes results/banks.json (about 15 minutes)
    python -m benchmarks.banks kills          # workers and the client killed on the way
    python -m benchmarks.banks throughput     # two workers against the script's two threads
    python -m benchmarks.banks official       # a task in official shapes, and a worker's memory
    python -m benchmarks.banks scheduler      # empty tasks, and what the simulation needs
    python -m benchmarks.banks real           # real runs to hold the simulation against
    python -m benchmarks.banks players        # polyphone and fluidsynth play the SFZ files

Needs requirements-banks.txt; `players` needs polyphone and fluidsynth (Debian packages).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, ROOT, machine, peak_mb

SOUNDS = [str(ROOT / "sounds" / f"{name}.wav") for name in ("bass", "metal", "meow", "flute")]
ROUNDS = 5


def command(output: Path, *more: str, grid: int = 9, seconds: float = 1.0) -> list[str]:
    """The bank of the demonstrations: four corners, three pitches, 243 clips on a grid of 9."""
    return [sys.executable, "-m", "banks", "nsynth", "--corners", *SOUNDS, "--pitches", "48,60,72",
            "--grid", str(grid), "--seconds", str(seconds), "--output", str(output), *more]


def children(pid: int) -> list[int]:
    """The processes below a process."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def digests(bank: Path) -> dict[str, str]:
    """The clips of a bank and their digests."""
    from banks import manifest

    return {file.name: manifest.digest(file.read_bytes()) for file in (bank / "clips").iterdir()}


# Kills ---------------------------------------------------------------------------------------


def kills(folder: Path) -> dict:
    """A bank made while workers and the client are killed, beside one made undisturbed."""
    import psutil

    began = time.perf_counter()
    subprocess.run(command(folder / "calm", "--workers", "0", "--quiet"), cwd=ROOT, check=True)
    result: dict = {"undisturbed_s": time.perf_counter() - began, "killed": []}
    bank = folder / "killed"

    def wait_for(process: subprocess.Popen, clips: int) -> None:
        while process.poll() is None and (not (bank / "clips").is_dir()
                                          or len(list((bank / "clips").glob("*.wav"))) < clips):
            time.sleep(0.05)

    def kill_worker(process: subprocess.Popen) -> None:
        workers = [psutil.Process(pid) for pid in children(process.pid)]
        workers = [one for one in workers if "spawn_main" in " ".join(one.cmdline())]
        victim = max(workers, key=lambda one: sum(one.cpu_times()[:2]))
        victim.send_signal(signal.SIGKILL)
        result["killed"].append(f"worker at {len(list((bank / 'clips').glob('*.wav')))} clips")

    process = subprocess.Popen(command(bank, "--workers", "2", "--quiet"), cwd=ROOT)
    for clips in (20, 60):
        wait_for(process, clips)
        kill_worker(process)
    wait_for(process, 120)
    process.kill()
    process.wait()
    result["killed"].append(f"client at {len(list((bank / 'clips').glob('*.wav')))} clips")
    times = {file.name: file.stat().st_mtime_ns for file in (bank / "clips").glob("*.wav")}
    process = subprocess.Popen(command(bank, "--workers", "2"), cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    wait_for(process, 180)
    kill_worker(process)
    said, _ = process.communicate()
    result["exit_code"] = process.returncode
    result["said"] = [line for line in said.splitlines() if "clips" in line]
    calm, killed = digests(folder / "calm"), digests(bank)
    result["clips"] = len(killed)
    result["byte_identical"] = calm == killed
    result["kept_as_they_were"] = sum(
        (bank / "clips" / name).stat().st_mtime_ns == made for name, made in times.items())
    lines = (bank / "manifest.jsonl").read_text("utf-8").splitlines()
    result["manifest_right"] = {Path(one["file"]).name: one["digest"] for one
                                in map(json.loads, lines)} == killed
    result["left_over"] = [str(file.relative_to(bank)) for file in bank.rglob("*.part")]
    return result


JOBS = {"kills": kills}


def main(names: list[str]) -> None:
    """Measure what is asked for, and keep it beside what was measured before."""
    target = RESULTS / "banks.json"
    found = json.loads(target.read_text()) if target.exists() else {}
    for name in names or list(JOBS):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = {"machine": machine(), **JOBS[name](Path(folder))}
        print(name, json.dumps({key: value for key, value in found[name].items()
                                if key != "machine"}, indent=1), flush=True)
        target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
