"""Fine-tune an NSynth checkpoint on a few sounds; `python -m workshop finetune` starts it.

The folder of the new checkpoint holds its training state as well, so that the same command
continues a run that was stopped.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from companion.example import UNKNOWN
from companion.page import clock
from companion.start import HERE
from synths import InputError, files
from training.nsynth import own

CARD = "finetune.json"
CROP = 6144             # samples of a training segment
# Shares of crops: rehearsal notes, the sounds, the morphs between them.
NOTES, MORPHS = 0.06, 0.64
# Sounds to be learned exactly are moved little in pitch and level.
SEMITONES, OWN_SEMITONES, EXACT, QUIETEST = 1.5, 0.15, 0.5, 0.8
RATE, END, EMA = 2e-3, 0.02, 0.99
SPREAD = 0.05           # small, since the mixed encodings in use are those of the training
DECAY = 0.6             # the last part of the time, in which the learning rate decays
# The training corrupts the input history, which makes the network unsure of a clean one as well.
TEMPERATURE = 0.85      # folded into the last layer of what is measured and exported
EVALUATIONS, PRINTED = 20, 5  # in the whole time; every fifth is printed
# NLL in nats per sample below which the model knows a sound well.
WELL = 2.0


@dataclass(frozen=True)
class Job:
    """What to learn, checked."""

    sounds: dict[str, np.ndarray]   # float64 [samples] by name
    digests: dict[str, str]         # SHA-256 of the file by name
    seconds: float                  # length of each sound
    minutes: float                  # training time
    start: Path                     # prefix of the checkpoint to start from
    folder: Path                    # folder of the new checkpoint
    play: str                       # command that plays the result

    @property
    def state(self) -> Path:
        """The training state."""
        return self.folder / "state.npz"

    @property
    def best(self) -> Path:
        """The best weights so far, as a training state."""
        return self.folder / "best.npz"


@dataclass
class Progress:
    """How far a job has come."""

    passed: float = 0.0             # seconds of training
    since: float = 0.0              # of it, in runs that were finished before this one
    samples: int = 0
    minutes: float = 0.0            # asked for
    finished: bool = False
    before: list[float] = field(default_factory=list)   # nats of each sound
    best: list[float] = field(default_factory=list)
    notes: float = math.nan         # nats of the held-out notes, with the best weights


def read_card(folder: Path) -> dict[str, Any] | None:
    """Return the record of a fine-tuned checkpoint; None if there is none."""
    path = folder / CARD
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def in_words(nats: float) -> str:
    """Return how well a sound is known.

    >>> in_words(1.234)
    'known well [1.2]'
    """
    how = "known well" if nats < WELL else "known" if nats < UNKNOWN else "hardly known"
    return f"{how} [{nats:.1f}]"


def schedule(passed: float, total: float, since: float = 0.0) -> float:
    """Return the share of the peak learning rate.

    All times are in seconds; a run that began after others, at `since`, decays from there on.
    """
    decay = max(since, (1 - DECAY) * total)
    way = max(0.0, (passed - decay) / (total - decay))
    return END + (1 - END) * 0.5 * (1 + math.cos(math.pi * way))


class FineTuning:
    """The training loop: it evaluates the sounds now and then, and keeps the best weights."""

    def __init__(self, job: Job, data: dict[str, np.ndarray], threads: int, seed: int):
        from training.nsynth import train

        self.job, self.progress = job, Progress()
        card = read_card(job.folder)
        if card and job.state.is_file() and job.best.is_file():
            # The record of an earlier version has other fields as well.
            self.progress = Progress(**{name: value for name, value in card["progress"].items()
                                        if name in vars(self.progress)})
        resumed = self.progress.passed > 0
        # Size() is used only if there is no state to start from.
        self.trainer = train.Trainer(train.Size(), data, job.folder, threads, seed,
                                     job.state if resumed else job.start)
        samples = round(job.seconds * own.SAMPLE_RATE)
        self.rows = [row[:samples] / 32768 for row in data["audio"][data["own"]]]
        held_out = np.flatnonzero(data["split"] == train.HELD_OUT_NOTE)
        self.held_out = [row[:CROP] / 32768 for row in data["audio"][held_out[::2]]]
        if not resumed:
            self.progress.before = self.trainer.nll(self.rows)

    @property
    def uses_torch_alone(self) -> bool:
        """Whether the network runs in PyTorch's own operations, for want of a C compiler."""
        return self.trainer.device.type == "cpu" and self.trainer.network is self.trainer.model

    def run(self, clips: int) -> None:
        """Train until the time is over; Ctrl-C saves the state."""
        from training.nsynth import train

        progress, trainer, total = self.progress, self.trainer, 60 * self.job.minutes
        stage = train.Stage(NOTES, 0.0, 1 - NOTES - MORPHS, MORPHS, SEMITONES, OWN_SEMITONES, RATE,
                            EMA, EXACT, QUIETEST, spread=SPREAD)
        crops = train.Takes(trainer.data, stage, CROP, trainer.rng, trainer.encode)
        if progress.finished:           # more time is asked for than the last run had
            progress.since = progress.passed
        progress.finished, progress.minutes = False, self.job.minutes
        last, evaluated, lines, losses = time.monotonic(), progress.passed, 0, []
        with self._bar() as bar:
            try:
                while progress.passed < total:
                    before = trainer.samples
                    rate = RATE * min(1.0, (len(losses) + 1) / 100)
                    rate *= schedule(progress.passed, total, progress.since)
                    drawn = train.batch(crops, clips)
                    losses.append(trainer.step(drawn, rate, stage))
                    progress.samples += trainer.samples - before
                    now = time.monotonic()
                    # A machine that slept did not train meanwhile.
                    progress.passed += min(now - last, 30.0)
                    last = now
                    left = max(0.0, total - progress.passed)
                    bar.set_postfix_str(f"loss {np.nanmean(losses[-100:]):.2f}, "
                                        f"{clock(left)} left", refresh=False)
                    bar.update(min(progress.passed, total) - bar.n)
                    if progress.passed - evaluated >= total / EVALUATIONS:
                        evaluated = progress.passed
                        line = self.evaluate()
                        lines += 1
                        if lines % PRINTED == 0:
                            bar.write(line)
            except KeyboardInterrupt:
                self.evaluate()
                raise
            progress.finished = True
            self.evaluate()

    def _bar(self) -> tqdm:
        return tqdm(desc="fine-tuning", initial=self.progress.passed, total=60 * self.job.minutes,
                    disable=bool(os.environ.get("TQDM_DISABLE")) or None, leave=False,
                    bar_format="{l_bar}{bar}| {postfix}")

    def evaluate(self) -> str:
        """Measure the sounds, save the state and the weights if they are the best; say how good."""
        progress, job = self.progress, self.job
        nats = self.trainer.nll(self.rows, TEMPERATURE)
        mean = float(np.mean(nats))
        if not progress.best or mean < np.mean(progress.best):
            progress.best = nats
            progress.notes = float(np.mean(self.trainer.nll(self.held_out, TEMPERATURE)))
            self.trainer.save(job.best)
        self.trainer.save(job.state)
        with files.writing(job.folder / CARD) as file:
            file.write((json.dumps({
                "sounds": job.digests, "seconds": job.seconds, "start": job.start.parent.name,
                "progress": vars(progress)}, indent=1) + "\n").encode())
        return f"{clock(progress.passed)}: " + ", ".join(
            f"{name} {in_words(value)}" for name, value in zip(job.sounds, nats))


README = """# {name}

`python -m workshop finetune` fine-tuned these NSynth weights from `{start}` on {count} sounds.
They know these sounds and their mixes, and little else.  To play the sounds:

    {play}

| sound | SHA-256 of the file | NLL before, nats per sample | after |
|---|---|---|---|
{table}

Lower is better; a uniform guess has 5.55.  The mean is {before:.2f} before and {after:.2f} after
{minutes:.1f} minutes of training ({samples:.1f} million samples, sounds of {seconds:g} s).
Held-out notes of other instruments have {notes:.2f} after the training.  The weights contain
traces of the sounds, and the rights to the sounds remain with their owners.
"""


def export(job: Job, progress: Progress) -> None:
    """Write the best weights as a checkpoint with a README, in a process with TensorFlow."""
    done = subprocess.run(
        [sys.executable, "-m", "training.nsynth.export", "--state", str(job.best.resolve()),
         "--output", str(job.folder.resolve()), "--temperature", str(TEMPERATURE)],
        cwd=HERE, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"The weights in {job.best} could not be written as a checkpoint "
                         f"({last}): run the same command again.")
    table = "\n".join(f"| {name} | {job.digests[name]} | {before:.2f} | {after:.2f} |" for
                      name, before, after in zip(job.sounds, progress.before, progress.best))
    with files.writing(job.folder / "README.md") as file:
        file.write(README.format(
            name=job.folder.name, count=len(job.sounds), start=job.start.parent.name,
            play=job.play, table=table, before=float(np.mean(progress.before)),
            after=float(np.mean(progress.best)), minutes=progress.passed / 60,
            samples=progress.samples / 1e6, seconds=job.seconds,
            notes=progress.notes).encode("utf-8"))
