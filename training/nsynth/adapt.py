"""Teach the NSynth starter sounds of your own.

`python -m training.nsynth.adapt --sounds a.wav b.wav --name NAME --minutes M` goes on from the
shipped starter, with two to eight sounds, to `checkpoints/NAME`: weights that know these sounds and
their mixes, for `chapter_05_example_01.py --checkpoint NAME --sounds a.wav b.wav`.

It stops early where nothing gets better any more.  Ctrl-C keeps the best so far; the same command
goes on.  Needs the project's environment and PyTorch: `pip install -r training/requirements.txt`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from synths import InputError, files
from synths.weights import checkpoints
from training import STOPPED
from training.nsynth import own

if TYPE_CHECKING:
    from training.nsynth.train import Trainer

ROOT = Path(__file__).resolve().parents[2]
FEWEST, MOST = 2, 8
LONGEST = 4.0           # seconds of a sound
MOST_MINUTES = 24 * 60
RUNS = ROOT / "training" / "runs" / "adapt"
CARD = "adapted.json"
# Shares of crops: notes to remember by, the sounds, the morphs between them.
NOTES, MORPHS = 0.10, 0.42
# What is to be known by heart is moved little in pitch and level.
SEMITONES, OWN_SEMITONES, EXACT, QUIETEST = 1.5, 0.15, 0.5, 0.8
RATE, END, EMA = 1.6e-3, 0.02, 0.998
# The last part of the time the learning rate falls, and the past that the decoder hears gets clean.
COOLING, NOISE, CLEAN_NOISE = 0.6, 0.06, 0.02
# Nothing gets better: less than this, in nats, in so many looks one after the other.
LEAST_GAIN, PATIENCE = 0.01, 5
LOOKS = 20              # at the sounds, in the whole time


@dataclass
class Lesson:
    """What is to be learned, checked."""

    name: str
    sounds: dict[str, np.ndarray]
    digests: dict[str, str]
    seconds: float
    minutes: float
    start: Path
    folder: Path        # of the checkpoint
    run: Path           # of the training state


@dataclass
class Progress:
    """How far the teaching has come; it is kept beside the training state."""

    passed: float = 0.0             # seconds of training
    cooling: float | None = None    # when the learning rate began to fall
    samples: int = 0
    minutes: float = 0.0            # asked for
    finished: bool = False
    before: list[float] = field(default_factory=list)   # nats of each sound
    best: list[float] = field(default_factory=list)
    notes: float = math.nan         # of held-out notes, with the best
    looks: list[float] = field(default_factory=list)    # mean nats


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_packages() -> None:
    """Make sure that what teaching needs is installed.

    Raises
    ------
    InputError
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("Teaching needs PyTorch, which is not installed; type this first: "
                         "pip install -r training/requirements.txt")
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError("Teaching writes a TensorFlow checkpoint, and TensorFlow is not "
                         "installed; type this first: pip install --no-deps -r requirements.txt")


def check_name(name: str, target_dir: Path) -> None:
    """Make sure that a checkpoint of that name can be made.

    Raises
    ------
    InputError
        If it is no name of a folder, or that of weights that ship, are official, or are others'.
    """
    if not re.fullmatch(r"\w[\w -]{0,79}", name):
        raise InputError(f"{name!r} is not a name for a checkpoint: choose a --name of up to 80 "
                         "letters, digits, spaces, - and _.")
    for known in checkpoints.CHECKPOINTS.values():
        if known.name.casefold() == name.casefold():
            kind = "official weights" if known.url else "the starter that ships"
            raise InputError(f"{name} is the name of {kind}: choose another --name.")
    there = target_dir / name
    if there.exists() and not (there / CARD).is_file():
        raise InputError(f"{there} is there already and was not made by this command: choose "
                         "another --name.")


def find_sounds(words: Sequence[Path]) -> list[Path]:
    """The files that are meant: paths, or names of files in "sounds".

    Raises
    ------
    InputError
        If they are too few or too many, or one is there twice.
    """
    if not FEWEST <= len(words) <= MOST:
        many = f"{len(words)} sound{'s' if len(words) != 1 else ''}"
        raise InputError(f"{FEWEST} to {MOST} sounds can be learned together, not {many}: "
                         f"{'name more' if len(words) < FEWEST else 'leave some out'}.")
    shipped = ROOT / "sounds"
    paths = [shipped / word if not word.exists() and (shipped / word).exists() else word
             for word in words]
    resolved = [path.resolve() for path in paths]
    for place, path in enumerate(resolved):
        if path in resolved[:place]:
            raise InputError(f"{words[place]} is there twice: name each sound once.")
    return paths


def read_card(folder: Path) -> dict[str, Any] | None:
    """What stands in a taught checkpoint's card; None if there is none."""
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        return card if isinstance(card, dict) else None
    except (OSError, ValueError):
        return None


def plan(options: argparse.Namespace, report: Callable[[str], None]) -> Lesson:
    """Check what is asked for, before any work.

    Raises
    ------
    InputError
    """
    if not 0 < options.minutes <= MOST_MINUTES:
        raise InputError(f"--minutes must be over 0 and at most {MOST_MINUTES}, not "
                         f"{options.minutes:g}.")
    if not 0.25 <= options.seconds <= LONGEST:
        raise InputError(f"--seconds must be 0.25 to {LONGEST:g}, not {options.seconds:g}.")
    if options.threads < 1:
        raise InputError(f"--threads must be 1 or more, not {options.threads}.")
    check_name(options.name, options.target)
    paths = find_sounds(options.sounds)
    sounds = {str(path): own.load(path, options.seconds, report) for path in paths}
    digests = {str(path): digest(path) for path in paths}
    start = checkpoints.find(options.start, "nsynth")
    folder, run = options.target / options.name, options.runs / options.name
    for place in (folder, run):
        card = read_card(place)
        if card is not None and (sorted(card.get("sounds", {}).values()), card.get("seconds")) != (
                sorted(digests.values()), options.seconds):
            raise InputError(f"{options.name} was taught other sounds, or another length of them: "
                             f"choose another --name, or delete {place}.")
    run.mkdir(parents=True, exist_ok=True)
    return Lesson(options.name, sounds, digests, options.seconds, options.minutes, start, folder,
                  run)


@contextlib.contextmanager
def averaged(trainer: Trainer) -> Iterator[None]:
    """Let the network have its averaged weights for a while."""
    import torch

    with torch.no_grad():
        kept = [value.detach().clone() for value in trainer.values]
        for value, average in zip(trainer.values, trainer.ema):
            value.copy_(average)
        try:
            yield
        finally:
            for value, old in zip(trainer.values, kept):
                value.copy_(old)


def likelihoods(trainer: Trainer, rows: Sequence[np.ndarray]) -> list[float]:
    """Nats per sample of each sound [samples], its true past heard (guessing: 5.55)."""
    import torch

    from training.nsynth.model import HOP, mu_law

    out = []
    with averaged(trainer):
        for row in rows:
            codes = torch.from_numpy(mu_law(row[:len(row) // HOP * HOP]))[None].to(trainer.device)
            heard = (codes.float() - 128) / 128
            encoding = trainer.model.encode(heard, trainer.network.pooled)
            out.append(float(trainer.network.nats(heard, codes, encoding)))
    return out


def pace(passed: float, total: float, cooling: float | None) -> tuple[float, float, bool]:
    """Where in the schedule a moment lies.

    Parameters
    ----------
    passed, total : float
        Seconds of training.
    cooling : float or None
        When the rate began to fall; None as long as it has not.

    Returns
    -------
    rate : float
        Share of the highest learning rate: 1, then half a cosine down to `END`.
    noise : float
        How much of the past is wrong (`train.history`).
    over : bool
        Whether that is all.
    """
    if cooling is None:
        return 1.0, NOISE, passed >= total
    # Begun early, the fall takes as long as it would have in a time that short.
    length = min(total - cooling, cooling * COOLING / (1 - COOLING)) or 1e-9
    way = min(1.0, (passed - cooling) / length)
    rate = END + (1 - END) * 0.5 * (1 + math.cos(math.pi * way))
    return rate, (1 - way) * NOISE + way * CLEAN_NOISE, way >= 1.0


def flat(looks: Sequence[float]) -> bool:
    """Whether the last looks at the sounds were no better than those before them."""
    return len(looks) > PATIENCE and (
        min(looks[:-PATIENCE]) - min(looks[-PATIENCE:]) < LEAST_GAIN)


def clock(seconds: float) -> str:
    """Minutes and seconds: 4:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Teaching:
    """The loop: trains, looks, keeps what is best, tells what it does.

    Parameters
    ----------
    lesson : Lesson
    data : mapping
        As `own.render`.
    threads, seed : int
    """

    def __init__(self, lesson: Lesson, data: dict[str, np.ndarray], threads: int, seed: int = 0):
        from training.nsynth import train

        self.lesson = lesson
        self.state, self.best = lesson.run / "state.npz", lesson.run / "best.npz"
        self.progress = Progress()
        notes = lesson.run / CARD
        if self.state.is_file() and self.best.is_file() and notes.is_file():
            self.progress = Progress(**json.loads(notes.read_text("utf-8"))["progress"])
        going_on = self.progress.passed > 0
        # Size() is only asked where there is no state to start from.
        self.trainer = train.Trainer(train.Size(), data, lesson.run, threads, seed,
                                     self.state if going_on else lesson.start)
        samples = round(lesson.seconds * own.SAMPLE_RATE)
        self.rows = [row[:samples] / 32768 for row in data["audio"][data["own"]]]
        held_out = np.flatnonzero(data["split"] == train.HELD_OUT_NOTE)
        self.held_out = [row[:6144] / 32768 for row in data["audio"][held_out[::2]]]
        if not going_on:
            self.progress.before = likelihoods(self.trainer, self.rows)

    @property
    def plain(self) -> bool:
        """Whether the network runs in PyTorch's own operations, for want of a C compiler."""
        return self.trainer.device.type == "cpu" and self.trainer.network is self.trainer.model

    def run(self, clips: int, length: int, show: Callable[[str, bool], None]) -> None:
        """Teach until the time is over, or nothing gets better; `show` gets lines, passing or not.

        Raises
        ------
        KeyboardInterrupt
            As it came; the state and the best weights are kept.
        """
        from training.nsynth import train

        progress, trainer = self.progress, self.trainer
        total = 60 * self.lesson.minutes
        stage = train.Stage(NOTES, 0.0, 1 - NOTES - MORPHS, MORPHS, SEMITONES, OWN_SEMITONES, RATE,
                            EMA, EXACT, QUIETEST)
        batches = trainer.batches(stage, clips, length)
        if progress.finished:           # more time is asked for than the last run had
            progress.cooling, progress.looks = None, []
        progress.finished, progress.minutes = False, self.lesson.minutes
        steps, last, looked, shown, losses = 0, time.monotonic(), progress.passed, 0.0, []
        first = progress.passed
        try:
            while True:
                if progress.cooling is None and progress.passed >= (1 - COOLING) * total:
                    progress.cooling = progress.passed
                rate, noise, over = pace(progress.passed, total, progress.cooling)
                if over:
                    break
                steps += 1
                before = trainer.samples
                losses.append(trainer.step(next(batches), noise,
                                           RATE * rate * min(1.0, steps / 100), EMA))
                progress.samples += trainer.samples - before
                now = time.monotonic()
                # A machine that slept did not train meanwhile.
                progress.passed += min(now - last, 30.0)
                last = now
                if progress.passed - looked >= total / LOOKS:
                    looked = progress.passed
                    self.look(show)
                    if progress.cooling is None and flat(progress.looks):
                        progress.cooling = progress.passed
                        show("It does not get better at this rate: fine work begins early.", True)
                elif progress.passed - shown > 1:
                    shown = progress.passed
                    speed = (progress.passed - first) / max(1, steps)
                    show(f"{self._where()}, loss {np.nanmean(losses[-100:]):.2f}, "
                         f"{clips * length / max(speed, 1e-9):,.0f} samples a second", False)
        except KeyboardInterrupt:
            self.look(show)
            raise
        progress.finished = True
        self.look(show)

    def _left(self) -> float:
        progress, total = self.progress, 60 * self.lesson.minutes
        end = total
        if progress.cooling is not None:
            end = min(total, progress.cooling / (1 - COOLING))
        return max(0.0, end - progress.passed)

    def _where(self) -> str:
        return (f"{clock(self.progress.passed)} passed, {clock(self._left())} left, "
                f"{self.progress.samples / 1e6:.1f} million samples")

    def look(self, show: Callable[[str, bool], None]) -> None:
        """Measure the sounds, keep the weights if they are the best so far, and tell."""
        progress = self.progress
        nats = likelihoods(self.trainer, self.rows)
        notes = float(np.mean(likelihoods(self.trainer, self.held_out)))
        mean = float(np.mean(nats))
        if not progress.best or mean < np.mean(progress.best):
            progress.best, progress.notes = nats, notes
            self.trainer.save(self.best)
        progress.looks.append(mean)
        self.trainer.save(self.state)
        write_json(self.lesson.run / CARD, {
            "sounds": self.lesson.digests, "seconds": self.lesson.seconds,
            "progress": vars(progress)})
        names = [Path(path).stem[:16] for path in self.lesson.sounds]
        each = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, nats))
        show(f"{self._where()}: likelihood {mean:.3f} nats ({each}; other notes {notes:.2f})", True)


def write_json(path: Path, content: dict) -> None:
    with files.writing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


README = """# {name}

NSynth weights that were taught {count} sounds, by `python -m training.nsynth.adapt` from
`{start}`.  They know these sounds and their mixes, and little else:

    {use}

| sound | SHA-256 of the file | likelihood before, nats | after |
|---|---|---|---|
{table}

Mean {before:.2f} before, {after:.2f} after ({minutes:.1f} minutes of training, {samples:.1f}
million samples, sounds of {seconds:g} s); held-out notes of the starter's instruments {notes:.2f}.
Guessing would be 5.55; fewer nats are better.  The sounds' rights are their owners', and the
weights hold something of them.
"""


def export(lesson: Lesson, best: Path, progress: Progress) -> Path:
    """Write the best weights as `checkpoints/NAME`, with a card; returns the folder.

    TensorFlow writes them, in a process of its own: it takes a few seconds to begin.

    Raises
    ------
    InputError
        If it fails.
    """
    lesson.folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "training.nsynth.export", "--state", str(best.resolve()),
         "--output", str(lesson.folder.resolve())],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError("The weights could not be written as a checkpoint "
                         f"({files.shortened(last)}); they are in {best}: run the same command "
                         "again.")
    write_json(lesson.folder / CARD, {
        "sounds": lesson.digests, "seconds": lesson.seconds, "start": lesson.start.parent.name,
        "minutes": round(progress.passed / 60, 2), "samples": progress.samples,
        "finished": progress.finished,
        "nats": {path: {"before": round(a, 3), "after": round(b, 3)} for path, a, b in
                 zip(lesson.sounds, progress.before, progress.best)},
        "held_out_notes_nats": round(progress.notes, 3)})
    table = "\n".join(f"| {files.shortened(Path(path).name)} | {lesson.digests[path]} | {a:.2f} "
                      f"| {b:.2f} |" for path, a, b in
                      zip(lesson.sounds, progress.before, progress.best))
    with files.writing(lesson.folder / "README.md") as file:
        file.write(README.format(
            name=lesson.name, count=len(lesson.sounds), start=lesson.start.parent.name,
            use=command(lesson), table=table, before=float(np.mean(progress.before)),
            after=float(np.mean(progress.best)), minutes=progress.passed / 60,
            samples=progress.samples / 1e6, seconds=lesson.seconds,
            notes=progress.notes).encode("utf-8"))
    return lesson.folder


def command(lesson: Lesson) -> str:
    """What to type to hear it."""
    sounds = " ".join(f'"{path}"' if " " in path else path for path in lesson.sounds)
    seconds = "" if lesson.seconds == 1 else f" --seconds {lesson.seconds:g}"
    return (f"python chapter_05_example_01.py --checkpoint {lesson.name} --sounds {sounds}"
            f"{seconds}")


def teller(stream) -> Callable[[str, bool], None]:
    """Prints lines that stay, and on a terminal those that pass, one over the other."""
    live = stream.isatty()
    width = 0

    def show(line: str, stays: bool) -> None:
        nonlocal width
        if not stays and not live:
            return
        print(f"\r{line:<{width}}" if live else line, end="\n" if stays else "", file=stream,
              flush=True)
        width = 0 if stays else len(line)

    return show


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m training.nsynth.adapt", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--sounds", nargs="+", type=Path, required=True, metavar="FILE",
                      help=f"{FEWEST} to {MOST} sounds, of any rate and channels")
    made.add_argument("--name", required=True, help="of the checkpoint that is made")
    made.add_argument("--minutes", type=float, default=15.0, metavar="M",
                      help="how long to teach at most (default: %(default)g)")
    made.add_argument("--seconds", type=float, default=1.0, metavar="S",
                      help=f"of each sound, 0.25 to {LONGEST:g}, as in example 1 (default: 1)")
    made.add_argument("--start", default="nsynth_starter", metavar="NAME|PATH",
                      help="weights to go on from (default: %(default)s)")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N",
                      help="default: all cores")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--target", type=Path, default=checkpoints.CHECKPOINTS_DIR,
                      help=argparse.SUPPRESS)
    made.add_argument("--runs", type=Path, default=RUNS, help=argparse.SUPPRESS)
    return made


def teach(options: argparse.Namespace, show: Callable[[str, bool], None]) -> int:
    """Do all of it; returns the exit code."""
    check_packages()
    lesson = plan(options, lambda line: show(line, True))
    for path, audio in lesson.sounds.items():
        if np.abs(audio).max() < own.LOUD:
            show(f"{Path(path).name} is quiet (peak {np.abs(audio).max():.2f}): it is learned so, "
                 "and as example 1 plays it with --level.", True)
    data = own.render(lesson.sounds, lesson.seconds, lambda done, total: show(
        f"taking the sounds apart, and making what their mixes should be: {done} of {total}",
        False))
    pitched = [Path(path).stem for path, kind in zip(lesson.sounds, data["pitched"]) if kind]
    show(f"{len(lesson.sounds)} sounds, {len(data['morph_audio'])} morphs between them; with a "
         f"pitch: {', '.join(pitched) or 'none'}.", True)
    import torch

    torch.set_num_threads(1)    # what it does beside the fused passes is small
    teaching = Teaching(lesson, data, options.threads, options.seed)
    progress = teaching.progress
    if progress.finished and lesson.minutes <= progress.minutes:
        if not (lesson.folder / CARD).is_file():
            export(lesson, teaching.best, progress)
        show(f"{lesson.name} is taught already: ask for more than {progress.minutes:g} --minutes "
             f"to go on.\n{command(lesson)}", True)
        return 0
    if teaching.plain:
        torch.set_num_threads(options.threads)
        show("There is no C compiler here, so PyTorch does the work alone, two to four times as "
             "slowly.", True)
    show(f"The starter has {np.mean(progress.before):.2f} nats on them "
         f"({', '.join(f'{value:.2f}' for value in progress.before)}); guessing is 5.55."
         + (f" Going on after {clock(progress.passed)}." if progress.passed else ""), True)
    clips = 48 if teaching.trainer.device.type == "cuda" else max(2, options.threads)
    code = 0
    try:
        teaching.run(clips, 6144, show)
    except KeyboardInterrupt:
        show("\nStopped; what was learned is kept, and the same command goes on.", True)
        code = STOPPED
    folder = export(lesson, teaching.best, progress)
    show(f"{folder}: {np.mean(progress.before):.2f} -> {np.mean(progress.best):.2f} nats. "
         f"Hear it with\n{command(lesson)}", True)
    return code


def main(arguments: list[str] | None = None) -> int:
    """Teach; see the module's head."""
    options = parser().parse_args(arguments)
    # SIGTERM is treated as Ctrl-C, and SIGINT restored where a shell ignored it.
    kept = {which: signal.signal(which, stop) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        return teach(options, teller(sys.stdout))
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped before anything was learned", file=sys.stderr)
        return STOPPED
    finally:
        for which, handler in kept.items():
            signal.signal(which, handler)


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal as Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
