"""Manage the runs of the examples: their folders, seeds, records and results pages."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import math
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

import audio_utils
from companion import clips, inputs, page, sheets
from companion.clips import Clip
from companion.inputs import shown
from companion.page import reports
from companion.page.reports import Extra
from companion.start import HERE, OUTPUT
from synths import InputError, nsynth
from synths.files import sweep, writing
from synths.gansynth.generate_util import instrument_times, summary
from synths.sounds import load_audio, save_wav
from synths.weights import checkpoints

RUN_FILE = "run.json"
SAMPLE_RATE = 16000  # Hz
MOST_CLIPS, MOST_SECONDS = 500, 3600  # limits; a larger job needs --yes
# NLL in nats per sample above which the bundled NSynth hardly knows a sound.  At least half of the
# frames were in tune for 17 of 25 unseen pitched sounds below it, and for 9 of 17 above it.
UNKNOWN = 3.0
_JUDGED = 4096  # samples of each sound


@dataclass(frozen=True)
class Plan:
    """The plan of a run, which is complete before any work starts."""

    clips: Sequence[Clip]  # all clips, including the source sounds
    checkpoint: Path
    settings: Mapping[str, Any]  # options that affect the clips, in order
    files: Sequence[Path]  # the sounds or scores
    output: Path  # requested folder
    seed: int
    folder: Path | None = None  # of the stopped run that this run continues
    resume: str = ""  # command that continues this run; empty: there is none
    labels: bool = False  # whether plots have axes

    def record(self) -> dict[str, Any]:
        """Return everything that distinguishes this run from others, except its seed."""
        return {"options": dict(self.settings),
                "weights": weights_name(self.checkpoint),
                "digests": [hashlib.sha256(path.read_bytes()).hexdigest() for path in (
                    self.checkpoint.with_name(f"{self.checkpoint.name}.index"), *self.files)],
                "clips": json.loads(json.dumps([dataclasses.asdict(clip) for clip in self.clips]))}


class Run:
    """A run; `with Run(plan)` creates its folder, and at the end its results page.

    `extras` returns the other contents of the page, by the name of the clip.
    """

    output_dir: Path  # within the block, the folder of this run alone

    def __init__(self, plan: Plan, extras: Callable[[], Mapping[str, Extra]] = dict) -> None:
        self.plan, self._extras = plan, extras
        self.seed, self.checkpoint = plan.seed, plan.checkpoint
        self._notes: list[str] = []

    def __enter__(self):
        self._command = command_line(self.seed)
        self._started = time.time()
        self.output_dir = self.plan.folder or new_folder(self.plan.output)
        self._write_record(stopped=True)  # until the run is complete
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is KeyboardInterrupt:
            print("\nstopping; writing the results page (press Ctrl-C again to skip it)",
                  file=sys.stderr, flush=True)
        stopped = True
        try:
            self._finish(stopped=kind is not None)
            stopped = kind is not None
        finally:  # Ctrl-C can also come while the page is written
            if stopped and self.plan.resume and self.output_dir.is_dir():
                print(f"Continue: {self.plan.resume}", flush=True)

    def _finish(self, stopped: bool) -> None:
        """Write the page and the record of the finished clips; without any, remove the folder."""
        made = [clip for clip in self.plan.clips
                if (self.output_dir / f"{clip.name}.wav").is_file()]
        if all(clip.kind == "source" for clip in made):
            if self.plan.folder is None and not any(self.output_dir.glob("*.codes")):
                shutil.rmtree(self.output_dir)  # nothing was made
        else:
            self._write_page(made)
            self._write_record(stopped)
            if self.output_dir.absolute().parent == OUTPUT:
                page.write_index(OUTPUT)
            print(f"Repeat: {self._command}\nResults: "
                  f"{shown(self.output_dir / 'index.html')} (open it in a browser)", flush=True)

    def _write_record(self, stopped: bool) -> None:
        record = {"command": self._command, "seed": self.seed, **self.plan.record(),
                  "started": self._started, "stopped": stopped}
        with writing(self.output_dir / RUN_FILE) as file:
            file.write(json.dumps(record, indent=1).encode("ascii"))

    def _write_page(self, made: Sequence[Clip]) -> None:
        """Plot the finished clips, and write the overview and the page."""
        gansynth = not made[0].sources
        draw = (audio_utils.save_spectrogram_plot if gansynth else
                audio_utils.save_rainbowgram_plot)
        images, extras = {}, defaultdict(Extra, self._extras())
        for clip in tqdm(made, "drawing plots", delay=2, leave=False, disable=quiet_bars()):
            plot = self.output_dir / f"{clip.name}.png"
            if not plot.is_file():
                draw(load_audio(plot.with_suffix(".wav")), SAMPLE_RATE, plot.name, self.output_dir)
            images[clip.name] = Image.open(plot).convert("RGB")
            extras[clip.name] = replace(extras[clip.name], image=images[clip.name])
        scores = {clip.name: extras[clip.name].score for clip in made if extras[clip.name].score}
        if scores:
            sheets.scores(self.output_dir / "overview.png", made, images, scores)
        else:
            sheets.overview(self.output_dir / "overview.png", made, images)
        page.write_page(self.output_dir, reports.page_of(
            self.output_dir, self.plan.clips, reports.Run(
                self._command, {**self.plan.settings, "model": weights_name(self.checkpoint)},
                self.seed, inputs.is_bundled(self.checkpoint), self._notes, self.plan.resume),
            extras))
        if self.plan.labels:
            for name, image in images.items():
                sheets.label(self.output_dir / f"{name}.png", image, 5 if gansynth else 6)


class NSynthRun(Run):
    """A run of NSynth, which replaces `fastgen` in the chapter's functions."""

    def __init__(self, plan: Plan, names: Sequence[str], fastgen,
                 decoding: Mapping[str, Any] | None = None, judge: bool = True) -> None:
        super().__init__(plan)
        self.names, self._fastgen = list(names), fastgen
        self._decoding, self._judge = decoding or {}, judge
        self._audio: np.ndarray | None = None

    @property
    def reconstructions(self) -> list[str]:
        """The names of the reconstructed sounds."""
        return [clips.reconstruction(name).name for name in self.names]

    def encode(self, wav_data: np.ndarray, checkpoint_path=None, sample_length: int = 64000,
               ) -> np.ndarray:
        """Save the source sounds, and encode them with `fastgen.encode`."""
        files = {name: path for name, path in zip(self.names, self.plan.files)
                 if not inputs.is_encoding(path)}
        for name, audio in zip(files, wav_data):
            save_wav(audio, self.output_dir / f"{clips.source(name).name}.wav")
            if not audio.any():
                print(f"{name} is silent for the first {len(audio) / SAMPLE_RATE:g} s", flush=True)
        if self._judge and checkpoints.name_of(self.checkpoint) == "nsynth_starter":
            self._notes = unknown_notes(files, wav_data, self.checkpoint)
            print(*self._notes, sep="\n", end="\n" if self._notes else "", flush=True)
        self._audio = wav_data
        return self._fastgen.encode(wav_data, checkpoint_path, sample_length)

    def synthesize(self, encodings: np.ndarray, save_paths: Sequence[str | Path],
                   checkpoint_path=None, samples_per_save: int = 10000, *,
                   decoding: nsynth.Decoding, reference_audio: np.ndarray | None = None) -> None:
        """Decode with `fastgen.synthesize`, with a separate random stream for each clip."""
        streams = {clip.name: clip.stream for clip in self.plan.clips}
        self._fastgen.synthesize(
            encodings, save_paths, checkpoint_path, samples_per_save,
            decoding=replace(decoding, streams=[streams[Path(path).name.removesuffix(".wav")]
                                                for path in save_paths], **self._decoding),
            reference_audio=self._audio)


class Example1(NSynthRun):
    """A run of example 1."""

    def __init__(self, options, default: Sequence[str], fastgen) -> None:
        checkpoint = inputs.find_checkpoint(options.checkpoint, "nsynth")
        self.sounds = inputs.choose_sounds(options.sounds, default, options.download)
        self.samples = round(options.seconds * SAMPLE_RATE)
        names = clips.short_names(self.sounds)
        mixes = [clips.mix(pair) for pair in clips.pairs(names)]
        made = [*map(clips.reconstruction, names), *mixes]
        settings = {"sounds": names, **chosen(options, "seconds")}
        seconds = decoding_seconds(checkpoint, len(made), options.seconds)
        check_size(len(made), seconds, "use python -m workshop mix with --pairs or --yes")
        plan = Plan([*map(clips.source, names), *made], checkpoint, settings, self.sounds,
                    output_folder(options), new_seed(options.seed))
        # Magenta's own fastgen keeps nothing that a later run could continue
        super().__init__(plan if options.engine == "magenta" else with_resume_line(plan), names,
                         fastgen, judge=not options.quiet)
        print(f"{len(made)} clips of {options.seconds:g} s from {', '.join(names)}; seed "
              f"{plan.seed}; takes about {in_words(seconds)}", flush=True)


class Example2(Run):
    """A run of example 2."""

    def __init__(self, options, notes: dict) -> None:
        checkpoint = inputs.find_checkpoint(options.checkpoint, "gansynth")
        path = inputs.score_path(options.midi)
        clip, = clips.scores([path])
        times = instrument_times(max(notes["end_times"]), options.seconds_per_instrument)
        score = reports.Score(notes, [str(i + 1) for i in range(len(times))],
                              times.tolist())
        plan = Plan([clip], checkpoint, {"midi": path.name, **chosen(
            options, "seconds_per_instrument")}, [path], output_folder(options),
            new_seed(options.seed))
        super().__init__(plan, lambda: {clip.name: Extra(score=score)})
        self.name = clip.name
        print(f"{clip.name}: {summary(notes)}; {len(times)} instruments, one every "
              f"{times[1] - times[0]:.1f} s; seed {plan.seed}", flush=True)


def use_engine(engine: str, names: dict[str, Any]) -> None:
    """Replace the functions that a script imports with Magenta's own if `engine` is "magenta"."""
    if engine == "magenta" and "fastgen" in names:
        names["fastgen"] = engine_of("nsynth", engine)
    elif engine == "magenta":
        names["lib_model"] = engine_of("gansynth", engine)
        for name in ("combine_notes", "get_random_instruments", "get_z_notes", "load_midi"):
            names[name] = getattr(names["lib_model"], name)


def engine_of(model: str, engine: str) -> ModuleType:
    """Return the module with our functions or Magenta's, for "nsynth" or "gansynth"."""
    if engine == "fast":
        return importlib.import_module(f"synths.{model}")
    inputs.find_magenta()
    return importlib.import_module(f"synths.{model}.magenta")


# Folders and records -----------------------------------------------------------------------------


def new_seed(seed: int | None) -> int:
    """Return the requested seed, or a new one."""
    return secrets.randbelow(10**6) if seed is None else seed


def output_folder(options) -> Path:
    """Return the folder that --output names; the default is in the project's folder."""
    path = Path(options.output)
    return HERE / path if path.parent == Path("output") else path


def new_folder(wanted: Path) -> Path:
    """Create the wanted folder for a run, with -2, -3 and so on in its name if it exists."""
    wanted = Path(os.path.abspath(wanted))
    wanted.parent.mkdir(parents=True, exist_ok=True)
    folder, count = wanted, 1
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            count += 1
            folder = wanted.with_name(f"{wanted.name}-{count}")


def read_runs(output: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the folders and records of the runs next to a folder and in output/, newest first."""
    files = {file.resolve() for place in (Path(os.path.abspath(output)).parent, OUTPUT)
             for file in place.glob(f"*/{RUN_FILE}")}
    runs = []
    for file in files:
        with contextlib.suppress(ValueError):  # another program's run.json
            run = json.loads(file.read_bytes())
            if isinstance(run, dict) and {"clips", "seed", "weights"} <= run.keys():
                runs.append((file.parent, run))
    return sorted(runs, key=lambda run: run[1].get("started", 0), reverse=True)


def continued(plan: Plan, seed: int | None) -> Plan:
    """Return the plan with the folder and the seed of the stopped run that it continues."""
    wanted = plan.record()
    for folder, run in read_runs(plan.output):
        if run.get("stopped") and seed in (None, run["seed"]) and all(
                run.get(key) == value for key, value in wanted.items()):
            sweep(folder)
            return replace(plan, folder=folder, seed=run["seed"])
    raise InputError("No stopped run has these sounds, options and model: leave out --resume to "
                     "start a new run.")


def weights_name(checkpoint: Path) -> str:
    """Return the name of a checkpoint, or its path."""
    return checkpoints.name_of(checkpoint) or shown(checkpoint)


def command_line(seed: int) -> str:
    """Return the command that repeats this run."""
    script = Path(sys.argv[0])
    words = ["python", *(["-m", "workshop"] if script.name == "__main__.py" else
                         [shown(script)]), *(word for word in sys.argv[1:] if word != "--resume")]
    return quoted(words if "--seed" in words else [*words, "--seed", str(seed)])


def with_resume_line(plan: Plan) -> Plan:
    """Return an NSynth plan with the `workshop mix` command that continues its run."""
    if Path(sys.argv[0]).name == "__main__.py":
        line = f"{command_line(plan.seed)} --resume"
    else:
        line = workshop_command(
            "mix", "--sounds", *plan.files, "--seconds", f"{plan.settings.get('seconds', 1.0):g}",
            "--checkpoint", checkpoints.name_of(plan.checkpoint) or plan.checkpoint,
            "--output", plan.output, "--seed", str(plan.seed), "--resume")
    return replace(plan, resume=line)


def workshop_command(*words: str | Path) -> str:
    """Return a workshop command, which begins with `cd` if the current folder is another one."""
    here = Path.cwd() == HERE
    line = quoted(["python", "-m", "workshop", *(
        word if isinstance(word, str) else shown(word) if here else str(word.absolute())
        for word in words)])
    return line if here else f"cd {quoted([str(HERE)])} && {line}"


def same_length(encodings: Collection[np.ndarray]) -> Collection[np.ndarray]:
    """Return the encodings, after checking that they have the same number of frames."""
    shapes = sorted({encoding.shape for encoding in encodings})
    if len(shapes) > 1:
        raise InputError("Only encodings of the same shape can be mixed, but these have the "
                         f"shapes {shapes} (32 ms frames, channels): use the same --seconds and "
                         "--checkpoint as when you saved them.")
    return encodings


def quoted(words: Sequence[str], system: str = os.name) -> str:
    """Join words into a command line, quoted for the system's shell."""
    return subprocess.list2cmdline(words) if system == "nt" else shlex.join(words)


def chosen(options, *names: str) -> dict[str, Any]:
    """Return the named options, except those that are None, False, 1 or "auto"."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items()
            if value is True or value is not False and value not in (None, 1.0, "auto")}


# Sizes and words ---------------------------------------------------------------------------------


def check_size(count: int, seconds: float, remedy: str, yes: bool = False) -> None:
    """Refuse a job of over `MOST_CLIPS` clips or `MOST_SECONDS` seconds unless it is confirmed."""
    if not yes and (count > MOST_CLIPS or seconds > MOST_SECONDS):
        raise InputError(f"This would make {count:,} clips and take about {in_words(seconds)} "
                         f"(limits: {MOST_CLIPS} clips and one hour): {remedy}.")


def decoding_seconds(checkpoint: Path, count: int, seconds: float) -> float:
    """Estimate the time to decode clips, within a factor of about two."""
    weights = sum(math.prod(shape) for name, shape in checkpoints.shapes(checkpoint).items()
                  if name.endswith("/W") and not name.startswith("ae_"))
    step = math.ceil(count / 12) * (1e-4 + 4 * weights / 20e9) + count * 2 * weights / 100e9
    return 2 + step * seconds * SAMPLE_RATE


def in_words(seconds: float) -> str:
    """Return a time in words.

    >>> in_words(7), in_words(200), in_words(9000)
    ('7 s', '3 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def quiet_bars() -> bool | None:
    """Return tqdm's `disable`, which hides bars with --quiet or if stderr is not a terminal."""
    return bool(os.environ.get("TQDM_DISABLE")) or None


def unknown_notes(sounds: Mapping[str, Path], audios: np.ndarray, checkpoint: Path) -> list[str]:
    """Return notes on sounds that the bundled model hardly knows, and how to fine-tune it."""
    names, files = list(sounds), list(sounds.values())
    bundled = {HERE / "sounds" / f"{name}.wav" for name in ("bass", "metal", "meow", "flute")}
    audible = [index for index, audio in enumerate(audios) if audio.any()]
    judged = [index for index in audible if files[index].resolve() not in bundled]
    nats = dict(zip(judged, nsynth.nll(np.array([loudest(audios[index]) for index in judged]),
                                       checkpoint))) if judged else {}
    unknown = sorted((index for index in judged if nats[index] > UNKNOWN),
                     key=lambda index: -nats[index])
    if not unknown:
        return []
    learned = sorted(audible, key=lambda index: -nats.get(index, 0))[:8]
    paths = [files[index] for index in learned]
    which = ", ".join(f"{names[index]} [{nats[index]:.1f}]" for index in unknown)
    command = workshop_command("finetune", "--name", "mine", "--sounds", *paths, *(
        [HERE / "sounds" / "bass.wav"] if len(paths) == 1 else []))
    return [f"The bundled model hardly knows {which}: expect noise. The numbers are the "
            "negative log-likelihood in nats per sample; sounds that the model knows have less "
            f"than {UNKNOWN}.",
            "To fine-tune the model on "
            f"{'these sounds' if len(paths) > 1 else 'this sound and another one'}: `{command}`"]


def loudest(audio: np.ndarray) -> np.ndarray:
    """Return the loudest quarter of a second of a sound, or all of a shorter one."""
    energy = np.cumsum(np.pad(np.float64(audio) ** 2, (1, 0)))
    size = min(_JUDGED, len(audio))
    start = int(np.argmax(energy[size:] - energy[:len(energy) - size]))
    return audio[start:start + size]
