"""Build a bank from its plan: find the finished clips, make the others, write the page."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from companion import example, inputs
from companion.clips import Clip
from companion.page import reports, write_index, write_page
from companion.start import OUTPUT
from synths import InputError
from workshop.bank import cluster, manifest, plan, sfz, tasks
from workshop.bank.store import Store


@dataclass
class Job:
    """A bank to build, its location and its progress."""

    bank: plan.Bank
    store: Store
    common: dict  # entries that all tasks share
    started: float = field(default_factory=time.time)  # seconds since the epoch
    records: dict[str, dict] = field(default_factory=dict)  # of the finished clips, by file
    failed: dict[str, str] = field(default_factory=dict)  # reasons, by file
    replaced: bool = False  # whether another bank in the store will be overwritten
    keep_all: bool = False  # whether the instruments include clips that are out of tune


# Existing clips -------------------------------------------------------------------------------


def resume(job: Job, overwrite: bool) -> list[dict]:
    """Return the clips that are not finished; put the finished ones into `job.records`."""
    wanted = {clip["file"]: clip for clip in job.bank.clips}
    found = {file: record for file, record in manifest.read(job.store).items() if file in wanted}
    other = [file for file, record in found.items()
             if record["recipe"] != wanted[file]["recipe"]]
    if other and not overwrite:
        raise InputError(f"{job.store.address} contains another bank ({other[0]} was made from "
                         "other sounds, weights or settings): choose another --output, or add "
                         "--overwrite to replace it.")
    job.replaced |= bool(other)
    for file in other:
        del found[file]
    right = manifest.confirmed(job.store, found)
    # Titles and names may have changed; the samples have not.
    job.records = {file: wanted[file] | {key: record[key] for key in manifest.MADE}
                   for file, record in right.items()}
    if right:
        print(f"Already finished: {len(right)} of {len(wanted)} clips", flush=True)
    return [clip for file, clip in wanted.items() if file not in job.records]


# The work ------------------------------------------------------------------------------------


def make(job: Job, todo: Sequence[dict], execute: cluster.Execute) -> None:
    """Encode the sources that are not encoded yet, then make the clips that `resume` returned."""
    if job.common["kind"] == "nsynth":
        todo = _encoded(job, todo, execute)
    with _bar("making clips", len(todo)) as bar:
        for task, result in execute(plan.batches(todo, job.common)):
            job.records.update({record["file"]: record for record in result["done"]})
            _stop(result)
            job.failed.update(result["failed"])
            bar.update(len(task["clips"]))


def _bar(what: str, total: int) -> tqdm:
    return tqdm(desc=what, total=total, leave=False, disable=example.quiet_bars())


def _encoded(job: Job, todo: Sequence[dict], execute: cluster.Execute) -> list[dict]:
    """Return the clips whose sources are all encoded; mark the others as failed."""
    needed = {source["digest"]: source["encoding"] for clip in todo for source in clip["sources"]}
    missing = sorted(digest for digest, name in needed.items()
                     if not tasks.is_encoding(job.store, name))
    for digest in missing:
        job.store.write(f"sources/{digest}.npy", tasks.array_bytes(job.bank.sources[digest]))
    work = [{**job.common, "kind": "encode", "name": manifest.digest(" ".join(part).encode())[:20],
             "clips": [{"file": digest} for digest in part]}
            for part in (missing[start:start + 4] for start in range(0, len(missing), 4))]
    spoiled: dict[str, str] = {}
    with _bar("encoding", len(missing)) as bar:
        for task, result in execute(work):
            _stop(result)
            spoiled.update(result["failed"])
            bar.update(len(task["clips"]))
    for digest in missing:
        job.store.remove(f"sources/{digest}.npy")
    for clip in todo:
        for source in clip["sources"]:
            if source["digest"] in spoiled:
                job.failed[clip["file"]] = (f"{source['name']} at MIDI pitch {clip['pitch']}: "
                                            f"{spoiled[source['digest']]}")
    return [clip for clip in todo if clip["file"] not in job.failed]


def _stop(result: dict) -> None:
    if result["stop"]:
        raise InputError(f"{result['stop'].rstrip('.')}. Finished clips are kept. Run the same "
                         "command again to continue.")


def in_tune(record: dict) -> bool:
    """Return whether a clip is within 50 cents of its pitch."""
    return record["cents"] is not None and abs(record["cents"]) <= 50


def _in_instrument(job: Job, name: str) -> dict[int, dict]:
    """Return the records of an instrument's clips by pitch: those in tune, or else all."""
    made = {pitch: job.records[file] for pitch in job.bank.pitches
            if (file := job.bank.files[name, pitch]) in job.records}
    tuned = {pitch: record for pitch, record in made.items() if in_tune(record)}
    return made if job.keep_all else tuned or made


def print_tuning(job: Job) -> None:
    """Print how many clips are in tune, and which pitches of which instruments are left out."""
    print(f"In tune (within 50 cents): {sum(map(in_tune, job.records.values()))} of "
          f"{len(job.records)} clips", flush=True)
    for name, shares, _ in job.bank.points:
        kept = _in_instrument(job, name)
        off = [pitch for pitch in job.bank.pitches
               if (record := job.records.get(job.bank.files[name, pitch])) and not in_tune(record)]
        if off and not job.keep_all:
            what = ("but kept, because this instrument has no other clips" if off[0] in kept
                    else "so these clips are left out")
            print(f"  {name} ({shares}): out of tune at {plan.pitch_list(off)}, {what}", flush=True)


def finish(job: Job, title: str, about: dict[str, str], stopped: bool = False) -> str:
    """Write the manifest, the SFZ files, run.json and the page; return the path of the page."""
    files = {clip["file"] for clip in job.bank.clips}
    for name, shares, _ in job.bank.points:
        if clips := _in_instrument(job, name):
            text = sfz.instrument(f"{title}: {shares}", clips)
            job.store.write(f"{name}.sfz", text.encode())
    where = job.store.address
    if job.records and not job.store.remote:
        where = inputs.shown(_write_page(job, about, stopped))
    if job.replaced:
        old = [file for file in manifest.read(job.store) if file not in files]
        names = {name for name, *_ in job.bank.points}
        for file in old:
            job.store.remove(file)
            name = file.removeprefix("clips/").rpartition("_p")[0]
            if name not in names:
                job.store.remove(f"{name}.sfz")
        files.update(old)
    manifest.gather(job.store, job.records, files)
    if not job.failed:
        for name in job.store.names("sources"):  # of a run that was killed
            job.store.remove(name)
        job.store.sweep()
    return where


def _write_page(job: Job, about: dict[str, str], stopped: bool) -> Path:
    folder, seed = Path(job.store.address), int(about["seed"])
    clips = [Clip(job.bank.files[name, pitch].removesuffix(".wav"), title, "bank",
                  tuple(job.bank.corners), weights, pitch=float(pitch))
             for name, title, weights in job.bank.points
             for pitch in job.bank.pitches]
    command = example.command_line(seed)
    record = {"command": command, "seed": seed, "weights": about["weights"], "options": {
        key: value for key, value in about.items() if key not in ("seed", "weights")},
        "clips": [asdict(clip) for clip in clips], "started": job.started, "stopped": stopped}
    job.store.write(example.RUN_FILE, json.dumps(record, indent=1).encode("ascii"))
    run = reports.Run(command, about, seed, bundled="_starter" in about["weights"],
                      resume=command if stopped else "")
    page = write_page(folder, reports.page_of(folder, clips, run))
    if folder.parent == OUTPUT:
        write_index(OUTPUT)
    return page


# Before the work -----------------------------------------------------------------------------


def print_plan(job: Job, todo: Sequence[dict], execute: cluster.Execute, workers: int) -> None:
    """Print the number of clips, their total length, and the time here and on more workers."""
    seconds = sum(clip["seconds"] for clip in todo)
    print(f"{len(job.bank.points)} instruments, {len(job.bank.pitches)} pitches, "
          f"{len(job.bank.clips)} clips; still to make: {len(todo)} clips, {seconds:.0f} s of "
          "sound")
    if not todo:
        return
    rate = 0.0  # seconds of sound that all workers together make per second
    for _, result in execute([{**job.common, "kind": "probe", "clips": todo[:1],
                               "name": f"{time.time_ns()}-{place}"} for place in range(workers)]):
        _stop(result)
        for clip, reason in result["failed"].items():
            raise InputError(f"The time cannot be estimated, because {clip} failed: {reason}")
        rate += result["done"][0]
    print(f"Estimated time with {workers} worker{'s' * (workers != 1)}: "
          f"{example.in_words(seconds / rate)} ({rate:.2f} s of sound per second)")
    each = rate / workers
    print("Estimated time by number of workers: " + ", ".join(
        f"{count}: {example.in_words(seconds / (each * min(count, len(todo) / tasks.CLIPS)))}"
        for count in (1, 10, 100, 1000)))
