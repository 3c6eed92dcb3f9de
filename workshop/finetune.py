"""Fine-tune the small NSynth model on two to eight sounds of your own."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path

from companion.options import number
from synths import InputError

EXAMPLES = """examples:
  python -m workshop finetune --sounds kick.wav bell.wav --name mine
  python -m workshop finetune --sounds samples/ --name mine --minutes 30
Ctrl-C keeps the best weights so far, and the same command resumes the training.
Fine-tuning needs PyTorch:
  pip install -r training/requirements.txt"""
FEWEST, MOST = 2, 8  # sounds


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--sounds", nargs="+", required=True, metavar="FILE|FOLDER",
                        help="two to eight sound files, or folders of sound files; silent sounds "
                             "are left out")
    parser.add_argument("--name", required=True,
                        help="name of the new checkpoint, and of its folder in checkpoints/")
    parser.add_argument("--minutes", type=number(float, 0.01, 1440), default=15.0, metavar="M",
                        help="training time in minutes, up to 1440 (default: 15)")
    parser.add_argument("--seconds", type=number(float, 0.25, 4, "seconds"), default=1.0,
                        metavar="S", help="length of each sound in seconds, 0.25 to 4 (default: 1)")
    parser.add_argument("--checkpoint", default="nsynth_starter", metavar="NAME|PATH",
                        help="model to start from, by name or path (default: nsynth_starter)")
    parser.add_argument("--output", metavar="DIR",
                        help="folder of the new checkpoint (default: checkpoints/NAME)")
    parser.add_argument("--threads", type=number(int, 1, 1024), metavar="N",
                        help="number of processor threads (default: one for each core)")
    parser.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=0, metavar="N",
                        help="random seed (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="print only errors")
    parser.epilog = EXAMPLES


def run(options: argparse.Namespace) -> None:
    """Fine-tune the model; Ctrl-C keeps the best weights so far."""
    check_packages()
    import torch

    from companion.page import clock
    from training.nsynth import adapt, own

    job = prepare(options)
    threads = options.threads or os.cpu_count() or 1
    data = own.render(job.sounds, job.seconds)
    pitched = [name for name, kind in zip(job.sounds, data["pitched"]) if kind]
    print(f"Training on {len(job.sounds)} sounds ({len(pitched)} with a pitch) and "
          f"{len(data['morph_audio'])} mixes of them", flush=True)
    torch.set_num_threads(1)  # the compiled passes have threads of their own
    work = adapt.FineTuning(job, data, threads, options.seed)
    progress = work.progress
    print("Before training: " + ", ".join(f"{name} {adapt.in_words(nats)}" for name, nats in
                                 zip(job.sounds, progress.before))
          + " (NLL in nats per sample, lower is better)", flush=True)
    if progress.finished and job.minutes <= progress.minutes:
        print(f"Already finished: to train further, raise --minutes above {progress.minutes:g}",
              flush=True)
    else:
        if progress.passed:
            print(f"Continuing after {clock(progress.passed)} of training", flush=True)
        if work.uses_torch_alone:
            torch.set_num_threads(threads)
            print("Without a C compiler, training takes two to four times as long", flush=True)
        try:
            work.run(48 if work.trainer.device.type == "cuda" else max(2, threads))
        except KeyboardInterrupt:
            adapt.export(job, progress)
            print("Run the same command again to continue. To try the model as it is now:\n"
                  f"{job.play}", flush=True)
            raise
    adapt.export(job, progress)
    print("After training: " + ", ".join(f"{name} {adapt.in_words(nats)}" for name, nats in
                                         zip(job.sounds, progress.best))
          + f"\nTo try the model: {job.play}", flush=True)


def check_packages() -> None:
    """Check that PyTorch and TensorFlow are installed."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("Fine-tuning needs PyTorch, which is not installed. Type this first: "
                         "pip install -r training/requirements.txt")
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError("Fine-tuning writes a TensorFlow checkpoint, but TensorFlow is not "
                         "installed. Type this first: pip install --no-deps -r requirements.txt")


def prepare(options: argparse.Namespace):
    """Check the options, and return the job."""
    import hashlib

    from companion import clips, example, inputs
    from companion.start import CHECKPOINTS
    from synths.weights import checkpoints
    from training.nsynth import adapt

    check_name(options.name)
    folder = Path(options.output or CHECKPOINTS / options.name)
    card = adapt.read_card(folder)
    if card is None and folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} was not made by this command: choose another --name or "
                         "--output.")
    sounds = audible(inputs.choose_sounds(options.sounds, (), False), options.seconds)
    if not FEWEST <= len(sounds) <= MOST:
        raise InputError(f"Fine-tuning needs {FEWEST} to {MOST} audible sounds, not {len(sounds)}: "
                         f"{'add more' if len(sounds) < FEWEST else 'leave some out'}.")
    hashes = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sounds}
    if card:  # the figures are in the order of the earlier call
        order = list(card["sounds"].values())
        sounds = dict(sorted(sounds.items(), key=lambda item: order.index(hashes[item[0]])
                             if hashes[item[0]] in order else len(order)))
    names = clips.short_names(list(sounds))
    digests = {name: hashes[path] for name, path in zip(names, sounds)}
    if card and (sorted(card["sounds"].values()), card["seconds"]) != (
            sorted(digests.values()), options.seconds):
        raise InputError(f"{folder} was fine-tuned on other sounds or with other --seconds: "
                         "choose another --name or --output.")
    start = checkpoints.find(options.checkpoint, "nsynth")
    folder.mkdir(parents=True, exist_ok=True)
    play = ["python", "chapter_05_example_01.py", "--checkpoint",
            inputs.shown(folder) if options.output else options.name,
            "--sounds", *map(inputs.shown, sounds)]
    if options.seconds != 1:
        play += ["--seconds", f"{options.seconds:g}"]
    return adapt.Job(dict(zip(names, sounds.values())), digests, options.seconds, options.minutes,
                     start, folder, example.quoted(play))


def check_name(name: str) -> None:
    """Check that this name is allowed for a new checkpoint."""
    from synths.weights import checkpoints

    if not re.fullmatch(r"\w[\w -]{0,79}", name):
        raise InputError(f"{name!r} is not a valid name for a checkpoint: use up to 80 letters, "
                         "digits, spaces, - and _.")
    if name.casefold() in map(str.casefold, checkpoints.CHECKPOINTS):
        raise InputError(f"{name} is the name of a bundled or official model: choose another "
                         "--name.")


def audible(paths: Sequence[Path], seconds: float) -> dict:
    """Return the audio (float64) of each audible file, by path; print which files are silent."""
    import numpy as np

    from synths.sounds import load_audio
    from training.nsynth import own

    found = {}
    for path in {path.resolve(): path for path in paths}.values():
        audio = load_audio(path, round(seconds * own.SAMPLE_RATE)).astype(np.float64)
        if np.abs(audio).max() < own.SILENT:
            print(f"{path.name} is silent for the first {seconds:g} s, so it is left out",
                  flush=True)
        else:
            found[path] = audio
    return found
