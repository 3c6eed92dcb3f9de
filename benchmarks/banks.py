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
FRAMES = 4      # of a clip in official shapes: long enough that loading the weights counts little


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
                      prefix, decoding=nsynth.Decoding(0, identities, precision=precision,
                                                         threads=2, fade=0.005))
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
    """Random weights in official shapes: one task of twelve clips, in both precisions.

    Two tasks of a frame each are what the simulation takes a worker's times from.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    prefix = folder / "model.ckpt-200000"
    subprocess.run([sys.executable, "-c", "import sys; sys.path.insert(0, 'tests')\n"
                    "import magenta_nsynth as m\n"
                    f"m.save_checkpoint({str(prefix)!r}, m.random_weights(m.OFFICIAL))"],
                   cwd=ROOT, check=True, capture_output=True)
    return {precision: compare(prefix, folder, 12, FRAMES, precision, layouts=((1, 2),), rounds=2)
            for precision in ("int8", "float32")} | {
            "two_tasks": compare(prefix, folder, 24, 1, "int8", rounds=3)}


# Players -------------------------------------------------------------------------------------


HOLD, SPACE = 1.0, 1.5  # seconds that a key is held, and from one key to the next


def play_every_key(sf2: Path, folder: Path) -> np.ndarray:
    """What fluidsynth makes of all 128 keys, one after the other: float [128, samples].

    Without reverb and chorus, at a gain of 1, in floating point, so that nothing hides.
    """
    import mido
    import soundfile

    track = mido.MidiTrack()
    for key in range(128):  # 960 ticks are a second
        track.append(mido.Message("note_on", note=key, velocity=127,
                                  time=round(960 * (SPACE - HOLD)) if key else 0))
        track.append(mido.Message("note_off", note=key, time=round(960 * HOLD)))
    midi = mido.MidiFile(tracks=[track])
    midi.save(folder / "keys.mid")
    subprocess.run(["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-g", "1", "-r", "44100",
                    "-O", "float", "-T", "wav", "-F", str(folder / "keys.wav"), str(sf2),
                    str(folder / "keys.mid")], check=True, capture_output=True)
    audio = soundfile.read(folder / "keys.wav")[0].mean(axis=1)
    each = round(44100 * SPACE)
    return np.pad(audio, (0, max(0, 128 * each - len(audio))))[:128 * each].reshape(128, each)


def _lowpass(audio: np.ndarray, rate: float, highest: float) -> np.ndarray:
    spectrum = np.fft.rfft(audio)
    spectrum[np.fft.rfftfreq(len(audio), 1 / rate) > highest] = 0
    return np.fft.irfft(spectrum, len(audio))


def cents_off(played: np.ndarray, sample: np.ndarray, semitones: int) -> float:
    """How far a key is from its sample played so many semitones higher, in cents.

    The sample, resampled by every number of cents within 24, is laid over what was played, as long
    as it sounds: where they agree best is the answer.  NaN: nowhere.  Both are differentiated, so
    that slow swells count little, and what would leave the hearing range is filtered out first.
    """
    import soxr

    ratio = 2 ** (semitones / 12)
    fine = soxr.resample(_lowpass(sample, 16000, min(7500, 15000 / ratio)), 1, 8)
    count = int(44100 * min(HOLD, len(sample) / 16000 / ratio))
    size = 1 << (2 * count - 1).bit_length()
    played = np.diff(_lowpass(played[:count], 44100, 15500))
    spectrum, lag = np.fft.rfft(played, size), min(441, count // 2)
    # The highest tones have four samples to a period: eighths of a sample are told apart.
    fine_lag = 8 if semitones > 24 else 1

    def agreement(cents: float) -> float:
        places = np.arange(count) * ratio * 2 ** (cents / 1200) * 16000 / 44100 * 8
        wanted = np.diff(np.interp(places, np.arange(fine.size), fine, right=0.0))
        found = fine_lag * np.fft.irfft(spectrum * np.conj(np.fft.rfft(wanted, size)),
                                        fine_lag * size)
        return float(max(found[:fine_lag * lag].max(), found[-fine_lag * lag:].max())
                     / (np.linalg.norm(played) * np.linalg.norm(wanted) + 1e-12))

    coarse = max(np.arange(-24, 25, 4.0), key=agreement)
    middle = max(coarse + np.arange(-3, 4, 1.0), key=agreement)
    best = max(middle + np.arange(-0.75, 1, 0.25), key=agreement)
    # A sample four octaves down is all noise below its first partial, and agrees less.
    return float(best) if agreement(best) > (0.5 if semitones > -36 else 0.25) else float("nan")


def players(folder: Path) -> dict:
    """Polyphone converts the SFZ files of a real bank, fluidsynth plays every key of them."""
    import soundfile

    bank = folder / "bank"
    subprocess.run(command(bank, "--quiet", grid=3), cwd=ROOT, check=True)
    result: dict = {"polyphone": "2.2", "instruments": {}}
    for place, sfz in enumerate(sorted(bank.glob("*.sfz"))):
        done = subprocess.run(["polyphone", "-1", "-i", str(sfz), "-d", str(folder), "-o",
                               sfz.stem], capture_output=True, text=True, check=True,
                              env={**os.environ, "QT_QPA_PLATFORM": "offscreen"})
        keys = play_every_key(folder / f"{sfz.stem}.sf2", folder)
        found = {"keys_that_sound": int((np.abs(keys).max(axis=1) > 1e-3).sum()),
                 "peak": float(np.abs(keys).max()), "said": done.stderr.count("rror")}
        if place % 4 == 0:  # two corners and the middle: every key's pitch
            regions = [dict(word.split("=", 1) for word in line.split()[1:])
                       for line in sfz.read_text().splitlines() if line.startswith("<region>")]
            off = {}
            for region in regions:
                sample = soundfile.read(bank / region["sample"])[0]
                center = int(region["pitch_keycenter"])
                for key in range(int(region["lokey"]), int(region["hikey"]) + 1):
                    off[key] = cents_off(keys[key], sample, key - center)
            found |= {"keys_compared": len(off),
                      "keys_not_matched": [key for key, cents in off.items() if np.isnan(cents)],
                      "worst_cents": float(np.nanmax(np.abs(list(off.values())))),
                      "keys_over_5_cents": {key: cents for key, cents in off.items()
                                            if abs(cents) > 5}}
        result["instruments"][sfz.stem] = found
    return result


# What the simulation needs -------------------------------------------------------------------


def scheduler(_: Path) -> dict:
    """The scheduler's cost of a task, a worker's start, the client's own work, times of tasks."""
    from banks import cluster, tasks
    from banks.simulate import CLIPS, CLIPS_IN_TASK, SECONDS

    began = time.perf_counter()
    with cluster.engine(2, None, lambda _: None) as (execute, client):
        client.gather(client.map(tasks.empty, range(10)))
        start_s = time.perf_counter() - began
        began = time.perf_counter()
        client.gather(client.map(tasks.empty, range(20000), key="empty"))
        scheduler_s = (time.perf_counter() - began) / 20000
    before = json.loads((RESULTS / "banks.json").read_text())["official"]["two_tasks"]
    rounds = before["wall_and_cpu_s"]["2 workers x 1 threads"]
    frames = SECONDS * 16000 / 512
    steady = statistics.median(cpu for _, cpu in rounds[1:]) / 2  # of one task, one frame
    return {"scheduler_s": scheduler_s, "start_s": start_s,
            "load_s": start_s + (rounds[0][1] / 2 - steady),
            "official_task_s": steady * frames, "serial_s": _serial(CLIPS),
            "clips": CLIPS, "clips_in_task": CLIPS_IN_TASK}


def _serial(clips: int) -> float:
    """Seconds that the client works alone for so many clips: plan, manifest, SFZ files, page."""
    from banks import build, manifest, plan
    from banks.store import Store

    settings = {"weights": {"name": "x" * 60, "digest": "0" * 64}, "seed": 0, "seconds": 4.0}
    pitches = range(24, 84)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        bank = plan.plan_gansynth(range(1, clips // 60 + 1), pitches, pitches, settings)
        job = build.Job(bank, Store(folder), "", "0" * 64, {"kind": "gansynth"})
        work = plan.batches(build.resume(job, False, lambda _: None), job.common)
        seconds = time.perf_counter() - began
        for task in work:  # as the workers leave them
            done = [clip | {"digest": "0" * 64, "samples": 64000, "peak": 0.5, "level": -20.0}
                    for clip in task["clips"]]
            job.store.write(f"{manifest.FOLDER}/{task['name']}.jsonl", manifest.to_lines(done))
            job.records |= {clip["file"]: clip for clip in done}
        began = time.perf_counter()
        build.finish(job, "bank", {})
        return seconds + time.perf_counter() - began


def real(folder: Path) -> dict:
    """Runs on 1 and 2 workers beside their simulation, from the times of their own tasks."""
    from banks import cluster, simulate
    from synths.weights import checkpoints

    prefix = checkpoints.find("nsynth_starter", "nsynth")
    runs: list[dict] = []
    with cluster.engine(1, None, lambda _: None) as (one, _), cluster.engine(
            2, None, lambda _: None) as (two, _):
        for number in range(4):
            for workers, execute in ((1, one), (2, two)):
                work, _, _ = batch_of(12 * 16, prefix, folder / "bank", 6, "float32", 1)
                began = time.perf_counter()
                lengths = [result["seconds"] for _, result in execute(
                    [{**task, "name": f"{task['name']}-{workers}-{number}"} for task in work])]
                runs.append({"workers": workers, "wall_s": time.perf_counter() - began,
                             "task_s": statistics.mean(lengths),
                             "spread": float(np.std(np.log(lengths)))})
    cost = json.loads((RESULTS / "banks.json").read_text())["scheduler"]["scheduler_s"]
    for each in runs:
        settings = simulate.Settings(each["task_s"], each["spread"], scheduler_s=cost)
        each["simulated_s"] = statistics.mean(simulate.run(
            16, each["workers"], settings, np.random.default_rng(seed)).seconds
            for seed in range(50))
        each["simulated_by_real"] = each["simulated_s"] / each["wall_s"]
    later = runs[2:]
    return {"runs": runs, "worst": max(abs(each["simulated_by_real"] - 1) for each in later),
            "task_spread": statistics.median(each["spread"] for each in later),
            "starter_task_s": statistics.median(
                each["task_s"] for each in later) * simulate.SECONDS * 16000 / 512 / 6}


JOBS = {"kills": kills, "throughput": throughput, "official": official, "scheduler": scheduler,
        "real": real, "players": players}


def main(names: list[str]) -> None:
    """Measure what is asked for, and keep it beside what was measured before."""
    target = RESULTS / "banks.json"
    for name in names or list(JOBS):
        with tempfile.TemporaryDirectory() as folder:
            result = {"machine": machine(), **JOBS[name](Path(folder))}
        found = json.loads(target.read_text()) if target.exists() else {}
        found[name] = result
        print(name, json.dumps({key: value for key, value in found[name].items()
                                if key != "machine"}, indent=1), flush=True)
        target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
