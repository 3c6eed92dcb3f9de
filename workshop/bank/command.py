"""Plan, build and finish a sound bank."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from companion.options import formatter, number
from companion.start import HERE
from synths import InputError

MOST_CLIPS = 500  # more need --yes


def run(options: argparse.Namespace) -> None:
    """Plan, build and finish a bank; exit with 1 if clips could not be made."""
    from companion.page import counted
    from workshop.bank import build, cluster, tasks

    title = {"nsynth": "NSynth bank", "gansynth": "GANSynth bank"}[options.kind]
    job = prepare(options)
    todo = build.resume(job, options.overwrite)
    if options.plan:
        with cluster.engine(options.workers, options.scheduler) as (execute, workers):
            build.print_plan(job, todo, execute, workers)
        return
    if len(todo) > MOST_CLIPS and not options.yes:
        raise InputError(f"This would make {len(todo):,} clips (limit {MOST_CLIPS}): add --plan to "
                         "estimate the time, or --yes to make them.")
    try:
        if todo:
            with cluster.engine(options.workers, options.scheduler) as (execute, _):
                job.common["mark"] = tasks.mark(job.store)
                build.make(job, todo, execute)
    except KeyboardInterrupt:  # write the page and the manifest of the finished clips
        build.resume(job, options.overwrite)
        if job.records:
            build.finish(job, title, describe(options, job), stopped=True)
        print("Run the same command again to continue.", flush=True)
        raise
    page = build.finish(job, title, describe(options, job))
    build.print_tuning(job)
    print(f"{counted(len(job.records), 'clip')}, "
          f"{counted(len(job.bank.points), 'instrument')} (SFZ)\n"
          f"Results: {page}", flush=True)
    for file, reason in sorted(job.failed.items()):
        print(f"Could not make {file}: {reason}", file=sys.stderr)
    if job.failed:
        sys.exit(1)


def prepare(options: argparse.Namespace):
    """Check the options, and return the job."""
    from workshop.bank import build, manifest
    from workshop.bank.store import Store

    checkpoint, weights = _weights(options)
    output = options.output or str(HERE / "output" / f"bank_{options.kind}")
    store = Store(output if "://" in output else str(Path(output).absolute()))
    settings = {"weights": weights, "seed": options.seed}
    if options.kind == "nsynth":
        bank = _mixes(options, settings)
        if options.precision == "auto":
            there = {} if options.overwrite else manifest.read(store)
            precision = _precision(bank, checkpoint, there)
            for clip in bank.clips:
                clip["precision"] = precision
    else:
        bank = _whole_notes(options, checkpoint, settings)
    for clip in bank.clips:
        clip["recipe"] = manifest.recipe(clip)
    return build.Job(bank, store, {
        "kind": options.kind, "bank": store.address, "checkpoint": str(checkpoint),
        "weights": weights["digest"], "threads": options.threads}, keep_all=options.keep_all)


def _weights(options: argparse.Namespace) -> tuple[Path, dict]:
    """Return the path of the checkpoint, and its name and digest."""
    import chapter_05_example_01
    import chapter_05_example_02
    from synths.weights import checkpoints
    from workshop.bank import tasks

    if options.download and options.kind == "nsynth":
        chapter_05_example_01.download_checkpoint(options.checkpoint or "wavenet-ckpt")
    elif options.download:
        chapter_05_example_02.download_checkpoint(options.checkpoint or "acoustic_only")
    prefix = checkpoints.find(options.checkpoint, options.kind).absolute()
    name = checkpoints.describe(prefix, options.kind)
    print(f"Model: {name}", flush=True)
    return prefix, {"name": name, "digest": tasks.weights_digest(prefix)}


def _mixes(options: argparse.Namespace, settings: dict):
    """Return the plan of a bank of mixes."""
    from workshop.bank import plan

    pitches = None if options.pitches is None else plan.parse_pitches(options.pitches)
    corners = plan.load_corners(options.corners)
    return plan.plan_nsynth(
        corners, options.grid, plan.common_pitches(corners, pitches),
        round(options.seconds * 16000),
        {**settings, "temperature": options.temperature, "precision": options.precision})


def _precision(bank, checkpoint: Path, there: dict[str, dict]) -> str:
    """Return the precision of existing clips; if there are none, choose one for the sounds."""
    import numpy as np

    from synths import nsynth

    for clip in bank.clips:
        record = there.get(clip["file"], {})
        if record.get("identity") == clip["identity"]:
            return record["precision"]
    return nsynth.choose_precision(np.stack(list(bank.sources.values())[:4]), checkpoint).precision


def _whole_notes(options: argparse.Namespace, checkpoint: Path, settings: dict):
    """Return the plan of a bank of GANSynth's notes."""
    from synths import gansynth
    from workshop.bank import plan

    model = gansynth.Model.load_from_path(checkpoint)
    return plan.plan_gansynth(
        plan.parse_instruments(options.instruments), plan.parse_pitches(options.pitches),
        model.pitches, {**settings, "seconds": model.audio_length / model.sample_rate})


def describe(options: argparse.Namespace, job) -> dict[str, str]:
    """Describe the settings of the bank, for its page."""
    from companion.page import note_name

    clip = job.bank.clips[0]
    words = {"weights": clip["weights"]["name"], "seed": str(options.seed)}
    if options.kind == "nsynth":
        words |= {"corners": ", ".join(job.bank.corners), "points along a side": str(options.grid),
                  "precision": clip["precision"], "temperature": f"{options.temperature:g}"}
    else:
        words["instruments"] = options.instruments
    return words | {"pitches": ", ".join(map(note_name, job.bank.pitches)),
                    "length of a clip": f"{clip['seconds']:.3g} s"}


# Options -----------------------------------------------------------------------------------------

NSYNTH_EXAMPLES = """examples:
  python -m workshop bank nsynth --corners sounds/bass.wav sounds/flute.wav
  python -m workshop bank nsynth --corners piano/ strings/ --grid 5 --pitches C3-C5:4 --plan"""
GANSYNTH_EXAMPLES = """examples:
  python -m workshop bank gansynth --instruments 3,7 --seed 5
  python -m workshop bank gansynth --instruments 1-8 --pitches 36-84:4"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of both kinds of bank."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="nsynth|gansynth")
    one = kinds.add_parser("nsynth", help="mixes of two to four sounds at several pitches",
                           allow_abbrev=False, formatter_class=formatter, epilog=NSYNTH_EXAMPLES)
    one.add_argument("--corners", nargs="+", required=True, metavar="FOLDER|FILE",
                     help="two to four corners, each a single sound or a folder of notes; pitches "
                          "are measured, or read from the file names")
    one.add_argument("--grid", type=number(int, 2, 99), default=9, metavar="N",
                     help="number of grid points along a side, 2 to 99 (default: 9)")
    one.add_argument("--pitches", metavar="LIST",
                     help="pitches of the clips, such as 48,60, C2-C5 or 24-84:3 (default: the "
                          "pitches that all folders have in common or, without folders, those of "
                          "the sounds)")
    one.add_argument("--seconds", type=number(float, 0.1, 60), default=4.0, metavar="S",
                     help="length of each clip in seconds, 0.1 to 60 (default: 4)")
    one.add_argument("--precision", choices=["auto", "float32", "int8"], default="auto",
                     help="precision of the decoder; auto (default) uses int8 if it is as accurate "
                          "as float32 and faster")
    one.add_argument("--temperature", type=number(float, 0.01, 2), default=1.0, metavar="T",
                     help="sampling temperature, 0.01 to 2; lower temperatures give less noise "
                          "but duller sounds (default: 1)")
    two = kinds.add_parser("gansynth", allow_abbrev=False, formatter_class=formatter,
                           help="notes of generated instruments, by default on every third key",
                           epilog=GANSYNTH_EXAMPLES)
    two.add_argument("--instruments", required=True, metavar="LIST",
                     help="instrument numbers, such as 3,7 or 1-8; the seed determines the "
                          "instruments")
    two.add_argument("--pitches", default="24-84:3", metavar="LIST",
                     help="pitches of the clips, such as 48,60 or C2-C5 (default: 24-84:3)")
    for each in (one, two):
        each.add_argument("--checkpoint", metavar="NAME|PATH",
                          help="model, by name or path (default: the official model if downloaded, "
                               "otherwise the bundled one)")
        each.add_argument("--download", action="store_true",
                          help="first download the official model")
        each.add_argument("--output", metavar="DIR|ADDRESS",
                          help="folder of the bank, or an address that fsspec supports (default: "
                               f"output/bank_{each.prog.split()[-1]})")
        each.add_argument("--overwrite", action="store_true",
                          help="replace a different bank in the same folder")
        each.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=0, metavar="N",
                          help="random seed (default: 0; to continue a bank, use its "
                               "seed again)")
        each.add_argument("--plan", action="store_true",
                          help="print how long the bank would take, without making it")
        where = each.add_mutually_exclusive_group()
        where.add_argument("--workers", type=number(int, 0, 1024), default=0, metavar="N",
                           help="number of worker processes on this machine; they need Dask "
                                "(default: 0, no additional processes)")
        where.add_argument("--scheduler", metavar="ADDRESS",
                           help="use the workers of the Dask scheduler at this address")
        each.add_argument("--threads", type=number(int, 1, 1024), default=1, metavar="N",
                          help="number of threads for each worker (default: 1)")
        each.add_argument("--keep-all", action="store_true",
                          help="keep out-of-tune clips in the instruments (default: leave "
                               "them out)")
        each.add_argument("--yes", action="store_true", help="allow more than 500 clips")
        each.add_argument("--quiet", action="store_true", help="print only errors")
