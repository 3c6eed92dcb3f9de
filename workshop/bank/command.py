"""Banks of notes: `python -m workshop bank nsynth --corners A B C D`, `python -m workshop bank gansynth`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from companion.options import Parser
from companion.run import catch_stops, explained, stopped
from companion.start import start

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
    except (Exception, KeyboardInterrupt) as error:
        code, sentence = explained(error)
        if _interrupted(error):
            sentence += ", and the same command goes on"
        print(sentence, file=sys.stderr)
        return code


def run(options: argparse.Namespace) -> int:
    """Plan, build and finish a bank; 1 if clips are missing at the end, else 0."""
    from workshop.bank import build, cluster, tasks

    say = _quiet if options.quiet else _say
    title = {"nsynth": "NSynth bank", "gansynth": "GANSynth bank"}[options.kind]
    job = (prepare_nsynth if options.kind == "nsynth" else prepare_gansynth)(options, say)
    todo = build.resume(job, options.overwrite, say)
    if options.plan:
        with cluster.engine(options.workers, options.scheduler, say) as (execute, client):
            if client is not None:
                cluster.check_workers(client, job.checkpoint, job.weights)
            build.say_plan(job, todo, execute, cluster.count(client), say)
        build.check_room(job, todo)
        return 0
    if todo:
        build.check_room(job, todo)
        try:
            with cluster.engine(options.workers, options.scheduler, say) as (execute, client):
                job.common["mark"] = tasks.mark(job.store)
                if client is not None:
                    cluster.check_workers(client, job.checkpoint, job.weights,
                                          job.store.address, job.common["mark"])
                build.make(job, todo, execute, _bars(options.quiet))
        except (Exception, KeyboardInterrupt) as error:
            if _interrupted(error):  # the page and the manifest of what is there, then the end
                build.resume(job, options.overwrite, _quiet)
                if job.records:
                    build.finish(job, title, describe(options, job))
            raise
    build.finish(job, title, describe(options, job))
    say(f"{len(job.records)} clips, {len(job.bank.points)} instruments (SFZ), and the page to open "
        f"in a browser: {job.store.path('index.html')}")
    for file, reason in sorted(job.failed.items()):
        print(f"not made: {file}: {reason}", file=sys.stderr)
    return 1 if job.failed else 0


def _interrupted(error: BaseException) -> bool:
    return stopped() or isinstance(error, KeyboardInterrupt)


def prepare_nsynth(options: argparse.Namespace, say):
    """The job of a bank of mixes; everything that the user gave is checked."""
    from workshop.bank import plan

    checkpoint, weights = _weights(options, "nsynth", say)
    pitches = None if options.pitches is None else plan.parse_pitches(options.pitches)
    corners = plan.load_corners(options.corners, say)
    pitches = plan.common_pitches(corners, pitches, say)
    samples = round(options.seconds * 16000)
    settings = {"weights": weights, "seed": options.seed, "temperature": options.temperature,
                "precision": options.precision}
    bank = plan.plan_nsynth(corners, options.grid, pitches, samples, settings)
    precision = options.precision
    if precision == "auto":
        precision = _precision(options, bank, checkpoint, say)
        plan.set_precision(bank, precision)
    return _job(options, bank, checkpoint, weights, precision=precision,
                temperature=options.temperature)


def _precision(options: argparse.Namespace, bank, checkpoint: Path, say) -> str:
    """The precision of the clips that are there already, else the one that suits the sounds."""
    import numpy as np

    from workshop.bank import manifest
    from synths import nsynth

    there = {} if options.overwrite else manifest.read(_store(options))
    for clip in bank.clips:
        record = there.get(clip["file"], {})
        if record.get("identity") == clip["identity"]:
            say(f"{record['precision']}, as in the clips that are there")
            return record["precision"]
    choice = nsynth.choose_precision(np.stack(list(bank.sources.values())[:4]), checkpoint)
    say(choice.reason)
    return choice.precision


def prepare_gansynth(options: argparse.Namespace, say):
    """The job of a bank of whole notes."""
    from workshop.bank import plan
    from synths import gansynth

    checkpoint, weights = _weights(options, "gansynth", say)
    model = gansynth.Model.load_from_path(checkpoint)
    settings = {"weights": weights, "seed": options.seed,
                "seconds": model.audio_length / model.sample_rate}
    bank = plan.plan_gansynth(plan.parse_instruments(options.instruments),
                              plan.parse_pitches(options.pitches), model.pitches, settings)
    return _job(options, bank, checkpoint, weights)


def _weights(options: argparse.Namespace, model: str, say) -> tuple[Path, dict]:
    from workshop.bank import tasks
    from synths.weights import checkpoints

    prefix = checkpoints.find(options.checkpoint, model).absolute()
    name = checkpoints.describe(prefix, model)
    say(f"weights: {name}")
    return prefix, {"name": name, "digest": tasks.weights_digest(prefix)}


def _store(options: argparse.Namespace):
    from workshop.bank.store import Store

    output = options.output or str(ROOT / "output" / f"bank_{options.kind}")
    return Store(output if "://" in output else str(Path(output).absolute()))


def _job(options: argparse.Namespace, bank, checkpoint: Path, weights: dict, **common):
    from workshop.bank import build

    store = _store(options)
    return build.Job(bank, store, str(checkpoint), weights["digest"], {
        **common, "kind": options.kind, "of": options.kind, "bank": store.address,
        "checkpoint": str(checkpoint), "threads": options.threads})


def describe(options: argparse.Namespace, job) -> dict[str, str]:
    """What the bank was made with, in words, for its page."""
    from workshop.bank.plan import note_name

    clip = job.bank.clips[0]
    words = {"weights": clip["weights"]["name"], "seed": str(options.seed)}
    if options.kind == "nsynth":
        words |= {"corners": ", ".join(job.bank.corners), "points along a side": str(options.grid),
                  "precision": clip["precision"], "temperature": f"{options.temperature:g}"}
    else:
        words["instruments"] = options.instruments
    return words | {"pitches": ", ".join(map(note_name, job.bank.pitches)),
                    "length of a clip": f"{clip['seconds']:.3g} s"}


def _bars(quiet: bool):
    """What makes progress bars: how much is done, how fast, how long it will take."""
    from tqdm import tqdm

    class Bar(tqdm):
        @property
        def format_dict(self):
            found = super().format_dict
            rate = found["n"] / found["elapsed"] if found["elapsed"] else 0
            pace = f"{rate:.1f} {found['unit']}/s" if rate >= 1 else (
                f"{60 * rate:.1f} {found['unit']}/min")
            return {**found, "pace": pace if rate else "starting"}

    @contextlib.contextmanager
    def bar(what: str, unit: str, total: int) -> Iterator[tqdm]:
        with Bar(desc=what, unit=unit, total=total, smoothing=0, disable=quiet or not total,
                 mininterval=0.5 if sys.stderr.isatty() else 10,
                 bar_format="{desc}: {n_fmt} of {total_fmt} {unit}, {pace}, {remaining} left"
                 ) as shown:
            yield shown
    return bar


def _say(line: str) -> None:
    print(line, flush=True)


def _quiet(_: str) -> None:
    """Say nothing."""


# Options -------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser(prog="python -m workshop bank", allow_abbrev=False,
                   description=(__doc__ or "").partition("\n")[0])
    kinds = found.add_subparsers(dest="kind", required=True, metavar="nsynth|gansynth")
    one = kinds.add_parser("nsynth", help="every mix of a grid at every pitch", allow_abbrev=False)
    one.add_argument("--corners", nargs="+", required=True, metavar="FOLDER|FILE",
                     help="two to four: a folder of notes each (pitch in the name, or found), or "
                          "a single sound")
    one.add_argument("--grid", type=_whole(2, 99), default=9, metavar="N",
                     help="points along a side (default: 9)")
    one.add_argument("--pitches", metavar="LIST",
                     help="48,60 or C2-C5 or 24-84:3 (default: all that the folders share; of "
                          "single sounds 48,60,72)")
    one.add_argument("--seconds", type=_real(0.1, 60), default=4.0, metavar="S",
                     help="length of a clip (default: 4)")
    one.add_argument("--precision", choices=["auto", "float32", "int8"], default="auto",
                     help="auto (default): int8 where as good as float32")
    one.add_argument("--temperature", type=_real(0.01, 2), default=1.0, metavar="T",
                     help="0.01 to 2: less is cleaner, more is noisier (default: 1)")
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
                          help="what is drawn at random (default: 0, so that the same command "
                               "goes on)")
        each.add_argument("--plan", action="store_true",
                          help="say what it takes, and make nothing")
        where = each.add_mutually_exclusive_group()
        where.add_argument("--workers", type=_whole(0, 1024), metavar="N",
                           help="processes on this machine (default: one for each core; 0: this "
                                "process alone)")
        where.add_argument("--scheduler", metavar="ADDRESS",
                           help="use the workers of this Dask scheduler instead")
        each.add_argument("--threads", type=_whole(1, 1024), default=1, metavar="N",
                          help="threads in each worker (default: 1)")
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
    start()
    catch_stops()
    sys.exit(main())
