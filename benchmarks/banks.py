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
import json
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


# Throughput ----------------------------------------------------------------------------------


def batch_of(count: int, prefix: Path, bank: Path, frames: int, precision: str, threads: int,
             channels: int = 16) -> tuple[list[dict], np.ndarray, list[str]]:
    """Tasks on random encodings that lie in a bank; the encodings, and the clips' identities."""
    from banks import manifest, plan, tasks
    from banks.store import Store

    rng = np.random.default_rng(1)
    encodings = rng.standard_normal([count, frames, channels], dtype=np.float32)
    clips = []
    for place, encoding in enumerate(encodings):
        name = f"encodings/{place}.npy"
        tasks.save_array(Store(str(bank)), name, encoding)
        record = {"file": f"clips/{place:04}.wav", "identity": f"clip {place}", "seed": 0,
                  "sources": [{"share": 1.0, "encoding": name}]}
        clips.append(record | {"recipe": manifest.recipe(record)})
    common = {"kind": "nsynth", "bank": str(bank), "checkpoint": str(prefix), "threads": threads,
              "precision": precision, "temperature": 1.0}
    return plan.batches(clips, common), encodings, [clip["identity"] for clip in clips]


def in_script(encodings, identities, prefix, folder: Path, precision: str) -> tuple[float, float]:
    """Wall and processor seconds that example 1's own call takes, with two threads."""
    from synths import nsynth

    folder.mkdir(exist_ok=True)
    began, worked = time.perf_counter(), time.process_time()
    nsynth.synthesize(encodings, [folder / f"{place:04}.wav" for place in range(len(encodings))],
                      prefix, seed=0, identities=identities, precision=precision, threads=2,
                      fade=0.005)
    return time.perf_counter() - began, time.process_time() - worked


def on_workers(execute, client, work: list[dict]) -> tuple[float, float]:
    """Wall seconds, and processor seconds of the workers, that the tasks take."""
    began, worked = time.perf_counter(), sum(client.run(time.process_time).values())
    for _, result in execute(work):
        assert not result["failed"] and not result["stop"], result
    wall = time.perf_counter() - began
    return wall, sum(client.run(time.process_time).values()) - worked


def compare(prefix: Path, folder: Path, count: int, frames: int, precision: str,
            layouts=((2, 1), (1, 2)), rounds: int = ROUNDS) -> dict:
    """The same clips by the script's two threads and by workers x threads, in turn.

    The first round loads the weights on the workers and is kept apart.
    """
    from banks import cluster

    times: dict[str, list[tuple[float, float]]] = {"script": []}
    with contextlib.ExitStack() as stack:
        sides, clients = {}, {}
        for workers, threads in layouts:
            name = f"{workers} workers x {threads} threads"
            sides[name], clients[name] = stack.enter_context(
                cluster.engine(workers, None, lambda _: None))
            times[name] = []
        bank = folder / "bank"
        for number in range(rounds + 1):
            for name, (_, threads) in zip(sides, layouts):
                work, encodings, identities = batch_of(count, prefix, bank, frames, precision,
                                                       threads)
                # Names of their own: Dask would not do the same task twice.
                work = [{**task, "name": f"{task['name']}-{number}"} for task in work]
                times[name].append(on_workers(sides[name], clients[name], work))
            times["script"].append(in_script(encodings, identities, prefix, folder / "script",
                                             precision))
        same = digests(bank) == {file.name: digests_of(file)
                                 for file in (folder / "script").iterdir()}
        peaks = {name: list(client.run(peak_mb).values()) for name, client in clients.items()}
    shutil.rmtree(bank)
    shutil.rmtree(folder / "script")
    ratios = {f"{name}, {what}": [script[place] / own[place] for script, own
                                  in zip(times["script"][1:], times[name][1:])]
              for name in sides for place, what in enumerate(("wall", "processor"))}
    return {"clips": count, "seconds_each": frames * 512 / 16000, "precision": precision,
            "same_bytes": same, "wall_and_cpu_s": times, "worker_peak_mb": peaks,
            "script_by_workers": {name: {"median": statistics.median(values), "all": values}
                                  for name, values in ratios.items()}}


def digests_of(file: Path) -> str:
    """The digest of a file."""
    from banks import manifest

    return manifest.digest(file.read_bytes())


def throughput(folder: Path) -> dict:
    """The starter: workers against the script's two threads."""
    from synths.weights import checkpoints

    return compare(checkpoints.find("nsynth_starter", "nsynth"), folder, 48, 31, "float32")


def official(folder: Path) -> dict:
    """Random weights in official shapes: one task of twelve clips, in both precisions."""
    sys.path.insert(0, str(ROOT / "tests"))
    prefix = folder / "model.ckpt-200000"
    subprocess.run([sys.executable, "-c", "import sys; sys.path.insert(0, 'tests')\n"
                    "import magenta_nsynth as m\n"
                    f"m.save_checkpoint({str(prefix)!r}, m.random_weights(m.OFFICIAL))"],
                   cwd=ROOT, check=True, capture_output=True)
    return {precision: compare(prefix, folder, 12, 1, precision, layouts=((1, 2),), rounds=3)
            for precision in ("int8", "float32")} | {
            "two_tasks": compare(prefix, folder, 24, 1, "int8", rounds=3)}


JOBS = {"kills": kills, "throughput": throughput, "official": official}


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
