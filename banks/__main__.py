"""Banks of notes: `python -m banks nsynth --corners A B C D`, `python -m banks gansynth`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from synths import InputError

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the bank that the command line asks for.

    Returns
    -------
    int
        0; 1 if clips could not be made, or what the user gave cannot be used; 130 if stopped.
    """
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: the system refused: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept, and the same command goes on", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    """Plan, build and finish a bank; 1 if clips are missing at the end, else 0."""
    from tqdm import tqdm

    from banks import build, cluster

    say = _quiet if options.quiet else _say
    job = (prepare_nsynth if options.kind == "nsynth" else prepare_gansynth)(options, say)
    todo = build.resume(job, options.overwrite, say)
    if todo:
        build.check_room(job, todo)
    if options.plan or todo:
        with cluster.engine(options.workers, options.scheduler, say) as (execute, client):
            count = 1
            if client is not None:
                cluster.check_workers(client, job.checkpoint, job.weights)
                count = len(client.scheduler_info(n_workers=-1)["workers"])
            if options.plan:
                build.say_plan(job, todo, execute, count, say)
                return 0
            with tqdm(desc="making clips", total=len(todo), unit=" clips", smoothing=0.05,
                      disable=options.quiet, mininterval=0.5 if sys.stderr.isatty() else 10,
                      bar_format="{desc}: {n_fmt} of {total_fmt} clips, {rate_fmt}, "
                                 "{remaining} left") as bar:
                build.make(job, todo, execute, bar)
    build.finish(job, f"{options.kind.replace('synth', 'Synth').replace('gan', 'GAN')} bank",
                 describe(options, job))
    say(f"{len(job.records)} clips, {len(job.bank.points)} instruments (SFZ), and the page: "
        f"{job.store.path('index.html')}")
    for file, reason in sorted(job.failed.items()):
        print(f"not made: {file}: {reason}", file=sys.stderr)
    return 1 if job.failed else 0


def prepare_nsynth(options: argparse.Namespace, say):
    """The job of a bank of mixes; everything that the user gave is checked."""
    import numpy as np

    from banks import plan
    from synths import nsynth

    checkpoint, weights = _weights(options, "nsynth", say)
    pitches = plan.parse_pitches(options.pitches) if options.pitches else None
    corners = plan.load_corners(options.corners, say)
    pitches = plan.common_pitches(corners, pitches, say)
    samples = round(options.seconds * 16000)
    settings = {"weights": weights, "seed": options.seed, "temperature": options.temperature,
                "precision": options.precision}
    if options.precision == "auto":
        found = plan.plan_nsynth(corners, options.grid, pitches, samples, settings)
        some = list(found.sources.values())[:4]
        choice = nsynth.choose_precision(np.stack(some), checkpoint)
        say(choice.reason)
        settings["precision"] = choice.precision
    bank = plan.plan_nsynth(corners, options.grid, pitches, samples, settings)
    return _job(options, bank, checkpoint, weights, precision=settings["precision"],
                temperature=options.temperature)


def prepare_gansynth(options: argparse.Namespace, say):
    """The job of a bank of whole notes."""
    from banks import plan
    from synths import gansynth

    checkpoint, weights = _weights(options, "gansynth", say)
    model = gansynth.Model.load_from_path(checkpoint)
    settings = {"weights": weights, "seed": options.seed,
                "seconds": model.audio_length / model.sample_rate}
    bank = plan.plan_gansynth(plan.parse_instruments(options.instruments),
                              plan.parse_pitches(options.pitches), model.pitches, settings)
    return _job(options, bank, checkpoint, weights)


def _weights(options: argparse.Namespace, model: str, say) -> tuple[Path, dict]:
    from banks import tasks
    from synths.weights import checkpoints

    prefix = checkpoints.find(options.checkpoint, model).absolute()
    name = checkpoints.describe(prefix, model)
    say(f"weights: {name}")
    return prefix, {"name": name, "digest": tasks.weights_digest(prefix)}


def _job(options: argparse.Namespace, bank, checkpoint: Path, weights: dict, **common):
    from banks import build
    from banks.store import Store

    output = options.output or ROOT / "output" / f"bank_{options.kind}"
    address = str(output) if "://" in str(output) else str(Path(output).absolute())
    return build.Job(bank, Store(address), str(checkpoint), weights["digest"], {
        **common, "kind": options.kind, "of": options.kind, "bank": address,
        "checkpoint": str(checkpoint), "threads": options.threads})


def describe(options: argparse.Namespace, job) -> dict[str, str]:
    """What the bank was made with, in words, for its page."""
    from banks.plan import note_name

    clip = job.bank.clips[0]
    words = {"weights": clip["weights"]["name"], "seed": str(options.seed)}
    if options.kind == "nsynth":
        words |= {"corners": ", ".join(job.bank.corners), "points along a side": str(options.grid),
                  "precision": clip["precision"], "temperature": f"{options.temperature:g}"}
    else:
        words["instruments"] = options.instruments
    return words | {"pitches": ", ".join(map(note_name, job.bank.pitches)),
                    "length of a clip": f"{clip['seconds']:.3g} s"}


def _say(line: str) -> None:
    print(line, flush=True)


def _quiet(_: str) -> None:
    """Say nothing."""


# Options -------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m banks", description=__doc__.splitlines()[0],
                                    allow_abbrev=False)
    kinds = found.add_subparsers(dest="kind", required=True, metavar="nsynth|gansynth")
    one = kinds.add_parser("nsynth", help="every mix of a grid at every pitch", allow_abbrev=False)
    one.add_argument("--corners", nargs="+", required=True, metavar="FOLDER|FILE",
                     help="two to four: a folder of notes each (pitch in the name, or found), or "
                          "a single sound")
    one.add_argument("--grid", type=_whole(2, 99), default=9, metavar="N",
                     help="points along a side (default: 9)")
    one.add_argument("--pitches", metavar="LIST",
                     help="48,60 or C2-C5 or 24-84:3 (default: all that the corners share)")
    one.add_argument("--seconds", type=_real(0.1, 60), default=4.0, metavar="S",
                     help="length of a clip (default: 4)")
    one.add_argument("--precision", choices=["auto", "float32", "int8"], default="auto")
    one.add_argument("--temperature", type=_real(0.01, 2), default=1.0, metavar="T")
    two = kinds.add_parser("gansynth", help="every instrument on every key", allow_abbrev=False)
    two.add_argument("--instruments", required=True, metavar="LIST",
                     help="numbers of the seed's instruments: 3,7 or 1-8")
    two.add_argument("--pitches", default="24-84:3", metavar="LIST",
                     help="keys to make (default: 24-84:3)")
    for each in (one, two):
        each.add_argument("--checkpoint", metavar="NAME|PATH",
                          help="weights (default: official if here, else the starter)")
        each.add_argument("--output", metavar="DIR|ADDRESS",
                          help="the bank: a folder, or any address of fsspec (default: "
                               f"output/bank_{each.prog.split()[-1]})")
        each.add_argument("--overwrite", action="store_true", help="replace another bank there")
        each.add_argument("--seed", type=_whole(0, 2**32 - 1), default=0, metavar="N",
                          help="default: 0, so that the same command goes on")
        each.add_argument("--plan", action="store_true",
                          help="say what it takes, and make nothing")
        each.add_argument("--workers", type=_whole(0, 1024), metavar="N",
                          help="processes on this machine (default: one for each core; 0: this "
                               "process alone)")
        each.add_argument("--threads", type=_whole(1, 1024), default=1, metavar="N",
                          help="threads in each worker (default: 1)")
        each.add_argument("--scheduler", metavar="ADDRESS",
                          help="use the workers of this Dask scheduler instead")
        each.add_argument("--quiet", action="store_true", help="print errors only")
    return found


def _whole(low: int, high: int):
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {low} to {high}, found {text!r}")
        return int(text)
    return parse


def _real(low: float, high: float):
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"must be a number from {low:g} to {high:g}, found {text!r}")
        return value
    return parse


if __name__ == "__main__":
    sys.exit(main())
