"""From a plan to a bank: what is there already, what is made, and the files that go with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from companion.clips import Clip
from companion.page import reports, write_page
from synths import InputError
from workshop.bank import cluster, manifest, plan, sfz, tasks
from workshop.bank.store import Store

Bars = Callable[[str, str, int], Any]


@dataclass
class Job:
    """A bank to be built, and where.

    Parameters
    ----------
    bank : plan.Bank
    store : Store
    checkpoint : str
        The prefix of the weights, the same on every worker.
    weights : str
        The digest of the weights.
    common : dict
        What every task carries.
    threads : int
        Threads of the decoder in a worker.
    records : dict
        File -> record of the clips that are finished.
    failed : dict
        File -> why it could not be made.
    replaced : bool
        Whether another bank lies there, to be overwritten.
    keep_all : bool
        Whether clips that are out of tune are part of the instruments.
    """

    bank: plan.Bank
    store: Store
    checkpoint: str
    weights: str
    common: dict
    records: dict[str, dict] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    replaced: bool = False
    keep_all: bool = False


# What is there already -----------------------------------------------------------------------


def resume(job: Job, overwrite: bool) -> list[dict]:
    """The clips that are still to be made; those that are finished go into `job.records`.

    Raises
    ------
    InputError
        If the bank holds other clips under these names, and may not be overwritten.
    """
    wanted = {clip["file"]: clip for clip in job.bank.clips}
    found = {file: record for file, record in manifest.read(job.store).items() if file in wanted}
    other = [file for file, record in found.items()
             if record["recipe"] != wanted[file]["recipe"]]
    if other and not overwrite:
        raise InputError(f"{job.store.address} holds another bank ({other[0]} was made of other "
                         "sounds, weights or settings): name another --output, or give "
                         "--overwrite to replace it.")
    job.replaced |= bool(other)
    for file in other:
        del found[file]
    right = manifest.confirmed(job.store, found)
    # Titles and names may have changed; the samples have not.
    job.records = {file: wanted[file] | {key: record[key] for key in manifest.MADE}
                   for file, record in right.items()}
    job.failed = dict(job.bank.spoiled)
    if right:
        print(f"{len(right)} of {len(wanted)} clips are finished already", flush=True)
    return [clip for file, clip in wanted.items()
            if file not in job.records and file not in job.failed]


# The work ------------------------------------------------------------------------------------


def make(job: Job, todo: Sequence[dict], execute: cluster.Execute, bars: Bars) -> None:
    """Encode what is not encoded yet, then make the clips.

    Parameters
    ----------
    job : Job
    todo : sequence of dict
        From `resume`.
    execute : callable
        From `cluster.engine`.
    bars : callable
        Gets what is done, the unit and how many there are; returns a bar of tqdm's.

    Raises
    ------
    InputError
        If nothing more can be written, or the scheduler is gone; what is finished is kept.
    """
    if job.bank.kind == "nsynth":
        todo = _encoded(job, todo, execute, bars)
    with bars("making clips", "clips", len(todo)) as bar:
        for task, result in execute(plan.batches(todo, job.common)):
            job.records.update({record["file"]: record for record in result["done"]})
            _stop(result)
            job.failed.update(result["failed"])
            bar.update(len(task["clips"]))


def _encoded(job: Job, todo: Sequence[dict], execute: cluster.Execute, bars: Bars) -> list[dict]:
    """The clips whose sources are all encoded now; the others are marked as failed."""
    needed = {source["digest"]: source["encoding"] for clip in todo for source in clip["sources"]}
    missing = sorted(digest for digest, name in needed.items()
                     if not tasks.is_encoding(job.store, name))
    for digest in missing:
        tasks.save_array(job.store, f"sources/{digest}.npy", job.bank.sources[digest])
    work = [{**job.common, "kind": "encode", "name": manifest.digest(" ".join(part).encode())[:20],
             "weights": job.weights, "sources": part}
            for part in (missing[start:start + 4] for start in range(0, len(missing), 4))]
    spoiled: dict[str, str] = {}
    with bars("encoding", "sounds", len(missing)) as bar:
        for task, result in execute(work):
            _stop(result)
            spoiled.update(result["failed"])
            bar.update(len(task["sources"]))
    for digest in missing:
        job.store.remove(f"sources/{digest}.npy")
    left = []
    for clip in todo:
        wrong = [source for source in clip["sources"] if source["digest"] in spoiled]
        if wrong:
            job.failed[clip["file"]] = (f"{wrong[0]['name']} at MIDI {clip['pitch']}: "
                                        f"{spoiled[wrong[0]['digest']]}")
        else:
            left.append(clip)
    return left


def _stop(result: dict) -> None:
    if result["stop"]:
        raise InputError(f"{result['stop'].rstrip('.')}; what is finished is kept, and the same "
                         "command goes on.")


def in_tune(record: dict) -> bool:
    """Return whether a clip is within 50 cents of its pitch."""
    return record["cents"] is not None and abs(record["cents"]) <= 50


def print_tuning(job: Job) -> None:
    """Print how many clips are in tune, and which pitches of which instruments are left out."""
    off = {(name, pitch) for name, _, _ in job.bank.points for pitch in job.bank.pitches
           if (file := job.bank.files[name, pitch]) in job.records
           and not in_tune(job.records[file])}
    print(f"{len(job.records) - len({job.bank.files[each] for each in off})} of "
          f"{len(job.records)} clips are in tune (within 50 cents)", flush=True)
    for name, _, shares in job.bank.points:
        pitches = sorted(pitch for each, pitch in off if each == name)
        if pitches and not job.keep_all:
            left = len(pitches) < len(job.bank.pitches)
            print(f"  {name} ({shares}): {plan.pitch_list(pitches)} "
                  f"{'left out' if left else 'out of tune, no other pitch'}", flush=True)


def finish(job: Job, title: str, about: dict[str, str]) -> str:
    """Write the manifest, the SFZ files and the page; return where the page is."""
    files = {clip["file"] for clip in job.bank.clips}
    for name, _, shares in job.bank.points:
        clips = {pitch: job.records[job.bank.files[name, pitch]] for pitch in job.bank.pitches
                 if job.bank.files[name, pitch] in job.records}
        clips = {pitch: record for pitch, record in clips.items()
                 if job.keep_all or in_tune(record)} or clips
        if clips:
            text = sfz.instrument(f"{title}: {shares}", clips)
            job.store.write(f"{name}.sfz", text.encode())
    where = job.store.address
    if not job.store.remote:
        where = str(_write_page(job, about))
    if job.replaced:
        old = [file for file in manifest.read(job.store) if file not in files]
        names = {name for name, _, _ in job.bank.points}
        for file in old:
            job.store.remove(file)
            name = file.removeprefix("clips/").rpartition("_p")[0]
            if name not in names:
                job.store.remove(f"{name}.sfz")
        files.update(old)
    manifest.gather(job.store, job.records, files)
    if not job.failed:
        job.store.sweep()
    return where


def _write_page(job: Job, about: dict[str, str]) -> Path:
    folder = Path(job.store.address)
    clips = [Clip(job.bank.files[name, pitch].removesuffix(".wav"), title, "bank",
                  tuple(job.bank.corners), weights, pitch=float(pitch))
             for (name, _, title), weights in zip(job.bank.points, job.bank.weights)
             for pitch in job.bank.pitches if job.bank.files[name, pitch] in job.records]
    command = " ".join(["python -m workshop", *sys.argv[1:]])
    run = reports.Run(command, about, int(about["seed"]), bundled="_starter" in about["weights"])
    return write_page(folder, reports.page_of(folder, clips, run))


# Before the work -----------------------------------------------------------------------------


def print_plan(job: Job, todo: Sequence[dict], execute: cluster.Execute, workers: int) -> None:
    """Print what the bank will take: clips, sound and hours, here and on more workers."""
    seconds = sum(clip["seconds"] for clip in todo)
    print(f"{len(job.bank.points)} instruments, {len(job.bank.pitches)} pitches, "
        f"{len(job.bank.clips)} clips; {len(todo)} to be made: {seconds:.0f} s of sound")
    if not todo:
        return
    rate = _probe(job, execute, workers)
    print(f"here, {workers} worker{'s' * (workers != 1)}: {rate:.2f} s of sound a second, so "
        f"{duration(seconds / rate)}")
    each = rate / workers
    print("on workers like these: " + ", ".join(
        f"{count}: {duration(seconds / (each * min(count, len(todo) / tasks.CLIPS)))}"
        for count in (1, 10, 100, 1000)))


def _probe(job: Job, execute: cluster.Execute, workers: int) -> float:
    """Seconds of sound that the workers make in a second, all at work for some seconds."""
    work = [{**job.common, "kind": "probe", "name": f"{time.time_ns()}-{place}", "clips": [{}]}
            for place in range(workers)]
    return float(np.sum([result["done"][0] for _, result in execute(work)]))


def duration(seconds: float) -> str:
    """A duration in words.

    >>> [duration(seconds) for seconds in (20, 600, 36000, 1e6)]
    ['20 s', '10 min', '10.0 h', '11.6 days']
    """
    for unit, length, digits in (("days", 172800, 1), ("h", 7200, 1), ("min", 120, 0)):
        if seconds >= length:
            size = {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
