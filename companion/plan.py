"""What a run will make, settled before any work: clips, names, size and time."""

from __future__ import annotations

import argparse
import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from companion import inputs
from companion.options import given
from companion.progress import say
from companion.record import Planned, Record
from companion.results import quoted
from companion.start import HERE
from synths import InputError, files, gansynth, nsynth
from synths.nsynth import mixing
from synths.weights import checkpoints

SAMPLE_RATE = 16000  # Hz
MOST_CLIPS = 500  # more are made only if --many confirms them
MOST_SECONDS, MOST_NOTES = 3600, 20000  # of a score
KEYS = tuple(range(36, 85, 8))  # MIDI pitches that a preview's keyboard is made of
LONGEST_NOTE = 4.0  # seconds that GANSynth makes of a note
# Nats per sample over which the starter does not know a sound: of 18 sounds under 2.75, 13 came
# back with at least half of their frames in tune, of 21 over 2.85 two.  So much of each sound, and
# so many sounds, are judged.
UNKNOWN, JUDGED_SAMPLES, JUDGED_SOUNDS = 2.8, 4096, 8
# On disk: a second of sound, a picture, one on the page.
CLIP_BYTES, PICTURE_BYTES, SMALL_PICTURE_BYTES = 2 * SAMPLE_RATE, 200_000, 50_000
_LONGEST_SOUND = 1e6  # seconds; a file that claims more, streamed FLAC say, does not know
NOTE_SECONDS = 0.03  # that a note takes, about
PACKAGES_BYTES = 4e8  # of memory, without official weights
# As long as ours in float32 Magenta's own engine takes, about: decoding with NSynth, a score with
# GANSynth (benchmarks/results).
MAGENTA_TIMES = 6
PAGE_FILES = ("index.html", "overview.png")


@dataclass
class Job:
    """What example 1 will make.

    Parameters
    ----------
    wav_filenames : list of Path
        The sounds that are used, and no others.
    names : list of str
        Their short names.
    weights : (float, float)
        Of the two encodings of a mix.
    pairs : list of (int, int)
        What is mixed, by place.
    mixes : list of Mix
        All clips, in the order in which they are decoded.
    named_by : list of Path
        The sounds to give again to have the same names: those used, or all where names need them.
    """

    wav_filenames: list[Path]
    names: list[str]
    weights: tuple[float, float]
    pairs: list[tuple[int, int]]
    mixes: list[mixing.Mix]
    named_by: list[Path]


def refuse_together(options: argparse.Namespace, *clashes: tuple[str, str]) -> None:
    """Refuse options that contradict each other.

    Parameters
    ----------
    options : argparse.Namespace
    *clashes : (str, str)
        Two options each, as they are typed.

    Raises
    ------
    InputError
    """
    asked = {"--" + name.replace("_", "-") for name in given(options)}
    for first, second in clashes:
        if first in asked and second in asked:
            raise InputError(f"{first} and {second} contradict each other: leave one out.")


def plan_mixes(options: argparse.Namespace, sounds: Sequence[Path], checkpoint: Path) -> Job:
    """Settle what example 1 will make, say it, and refuse what cannot be made.

    Only the sounds that `--pairs` names are used.  The steps of a path begin and end with the
    sounds themselves, so these are not reconstructed a second time.

    Parameters
    ----------
    options : argparse.Namespace
    sounds : sequence of Path
    checkpoint : Path

    Raises
    ------
    InputError
        If options contradict each other, names clash, or the clips are more than `MOST_CLIPS`
        without `--many`, or than the disk holds.
    """
    refuse_together(options, ("--steps", "--crossfade"), ("--steps", "--ratio"),
                    ("--steps", "--mix"), ("--crossfade", "--ratio"), ("--crossfade", "--mix"),
                    ("--mix", "--ratio"))
    names, named_by = mixing.short_names(sounds), list(sounds)
    weights = mixing.weights(options.mix, options.ratio)
    if options.pairs:
        pairs = mixing.chosen_pairs(names, options.pairs, sounds)
        used = sorted({place for pair in pairs for place in pair})
        sounds, names = [sounds[place] for place in used], [names[place] for place in used]
        pairs = [(used.index(first), used.index(second)) for first, second in pairs]
    else:
        ordered = not options.steps and (options.crossfade or weights[0] != weights[1])
        if not options.many:
            _refuse_many(len(sounds), ordered, options.steps or 1)
        pairs = mixing.pairs(len(sounds), ordered)
    if options.steps and pairs:
        mixes = mixing.paths(names, options.steps, pairs)
    else:
        mixes = mixing.reconstructions(names) + (
            mixing.crossfades(names, pairs) if options.crossfade else
            mixing.mixes(names, weights, pairs))
    _settle_names([mix.name for mix in mixes])
    if mixing.short_names(sounds) == names:
        named_by = list(sounds)
    job = Job(list(sounds), names, weights, pairs, mixes, named_by)
    # the sounds as numbers, three times while they are encoded; of the clips, those side by side
    _refuse_memory(options, SAMPLE_RATE * options.seconds * (
        12 * len(sounds) + 12 * options.stretch + min(len(mixes), 64) * options.stretch))
    _budget(options, mixes, options.seconds * options.stretch,
            _decoding_time(checkpoint, len(mixes), options.seconds * options.stretch))
    return job


def _refuse_many(sounds: int, ordered: bool, steps: int) -> None:
    """Refuse too many clips before they are listed."""
    clips = sounds * (sounds - 1) // (1 if ordered else 2) * steps + sounds * (steps == 1)
    if clips > MOST_CLIPS:
        raise InputError(f"{sounds} sounds make {clips:,} clips: name the pairs that you want with "
                         "--pairs, or add --many to make them all.")


def _settle_names(names: Sequence[str]) -> None:
    """Refuse names that would be one file, also where a disk does not tell case apart."""
    for name in names:
        files.check_name(f"{name}_seed{2**32 - 1}.partial.codes")
    twice = [name for name, count in Counter(map(files.name_key, names)).items() if count > 1]
    if twice:
        raise InputError(f"Two clips would have the name {twice[0]}: rename one of the sounds.")


def _budget(options: argparse.Namespace, mixes: Sequence[mixing.Mix], seconds: float,
            time: float) -> None:
    """Say what will be made and how long it takes; refuse what is too much."""
    clips = len(mixes)
    if clips > MOST_CLIPS and not options.many:
        raise InputError(f"These are {clips:,} clips: ask for fewer, or add --many to make them "
                         "all.")
    page = clips * (seconds * CLIP_BYTES * 4 / 3 + SMALL_PICTURE_BYTES)
    size = clips * (seconds * CLIP_BYTES + 2 * PICTURE_BYTES) + page
    _refuse_full(options, f"{counted(clips, 'clip')} need{'s' * (clips == 1)}", size)
    say(options, f"To make: {counted(clips, 'clip')} of {seconds:.3g} s{_which(mixes)}, "
                 f"{_work(options, time)}, {in_bytes(size)} on disk, {in_bytes(page)} of it the "
                 f"page; seed {'as before' if options.seed is None else options.seed}.")


def _which(mixes: Sequence[mixing.Mix]) -> str:
    """How many clips are mixes, and how many the sounds themselves, where there are both."""
    alone = sum(mix.kind == "reconstruction" for mix in mixes)
    if alone in (0, len(mixes)):
        return ""
    mixed = len(mixes) - alone
    what = f"{mixed:,} mix{'' if mixed == 1 else 'es'}" if mixes[-1].kind == "mix" else (
        counted(mixed, "cross-fade"))
    return f" ({what}, and {counted(alone, 'sound')} decoded again)"


def _work(options: argparse.Namespace, time: float) -> str:
    """How long a job takes in words, from the seconds that it takes our engine."""
    if options.engine == "magenta":
        return f"about {in_words(MAGENTA_TIMES * time)} of work on Magenta's own engine"
    return f"about {in_words(time)} of work"


def _refuse_memory(options: argparse.Namespace, size: float) -> None:
    """Ask for `--many` where a run needs more memory than is free, beside packages and models."""
    free = free_memory()
    if free is not None and size + PACKAGES_BYTES > free and not options.many:
        raise InputError(f"This needs {in_bytes(size + PACKAGES_BYTES)} of memory, and "
                         f"{in_bytes(free)} are free: ask for less, or add --many to try it.")


def free_memory() -> float | None:
    """Bytes that programs can still have; None where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return 1024.0 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:    # macOS tells what there is, not what is free
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return None


def _refuse_full(options: argparse.Namespace, what: str, size: float) -> None:
    """Refuse what the disk of the results does not hold; `what` ends in "need" or "needs"."""
    folder = Path(options.output).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(f"{what} {in_bytes(size)}, and {folder} has {in_bytes(free)} left: "
                         "make room, or ask for less.")


def _decoding_time(checkpoint: Path, clips: int, seconds: float) -> float:
    """Estimate how long decoding takes, in seconds, within a factor of two or so.

    Each sample costs a look at all weights of the decoder for each group of a dozen clips, and a
    multiplication with each weight for each clip.
    """
    weights = sum(math.prod(shape) for name, shape in checkpoints.shapes(checkpoint).items()
                  if name.endswith("/W") and not name.startswith("ae_"))
    groups = math.ceil(clips / 12)
    step = groups * (1e-4 + 4 * weights / 20e9) + clips * 2 * weights / 100e9
    return 2.0 + step * seconds * SAMPLE_RATE


def in_words(seconds: float) -> str:
    """Return a time in words.

    >>> in_words(7), in_words(200), in_words(9000)
    ('7 s', '3 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


def in_bytes(size: float) -> str:
    """Return a size in words.

    >>> in_bytes(2.2e6), in_bytes(12.4e9)
    ('2.2 MB', '12.4 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def counted(count: int, what: str) -> str:
    """Return "1 note", "2 notes"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def planned_mixes(record: Record, job: Job) -> list[Planned]:
    """Return the clips of example 1 with their files, which the record notes.

    Parameters
    ----------
    record : Record
    job : Job

    Returns
    -------
    list of Planned
        In the order in which they are decoded.
    """
    planned = [Planned(record.output_dir / f"{mix.name}_seed{record.seed}.wav", mix.title, mix.kind,
                       mix.sources, mix.shares, mix.identity) for mix in job.mixes]
    sources = [f"source_{name}{ending}" for name in job.names for ending in (".wav", ".png")]
    record.files = [*PAGE_FILES, *sources, *(f"encodings/{name}.npy" for name in job.names),
                    *(clip.path.with_suffix(ending).name for clip in planned
                      for ending in (".wav", ".png"))]
    return planned


def with_sounds(record: Record, job: Job, encodings: np.ndarray, encodings_mix: np.ndarray,
                encodings_mix_name: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return what is decoded and the names of its files: the sounds themselves, then the mixes.

    Where steps or cross-fades are asked for, these stand in the mixes' place.

    Parameters
    ----------
    record : Record
    job : Job
    encodings : float32 [sounds, frames, 16]
    encodings_mix : float32 [pairs, frames, 16]
    encodings_mix_name : sequence of str

    Returns
    -------
    float32 [clips, frames, 16]
    list of str
        Without ending, with the seed.
    """
    sounds = len(encodings)
    if {mix.kind for mix in job.mixes} <= {"reconstruction", "mix"}:
        clips = np.concatenate([encodings, encodings_mix]) if len(encodings_mix) else encodings
        names = [*(mix.name for mix in job.mixes[:sounds]), *encodings_mix_name]
    else:
        clips = np.array([mixing.encoding(mix, list(encodings)) for mix in job.mixes], np.float32)
        names = [mix.name for mix in job.mixes]
    return clips, [f"{name}_seed{record.seed}" for name in names]


def say_sounds(options: argparse.Namespace, job: Job) -> None:
    """Say what is done to each sound before it is encoded: cut, padded, trimmed, levelled.

    Parameters
    ----------
    options : argparse.Namespace
    job : Job
    """
    import soundfile

    words, kinds = [], Counter[str]()
    for path, name in zip(job.wav_filenames, job.names):
        if inputs.is_encoding(path):
            kinds["saved encodings"] += 1
            words.append(f"{name} (a saved encoding)")
            continue
        try:
            length = soundfile.info(path).duration
        except soundfile.SoundFileError:
            continue  # loading it says what is wrong
        if length > _LONGEST_SOUND:
            words.append(f"{name} (its file does not say how long it is)")
            continue
        what = ("" if abs(length - options.seconds) < 0.005 else
                "cut" if length > options.seconds else "then silence")
        kinds[what] += 1
        digits = 0 if length >= 10 else 1 if length >= 1 else 2
        words.append(f"{name} ({round(length, digits):g} s{what and ', ' + what})")
    if len(job.wav_filenames) > 6:
        words = [f"{len(job.wav_filenames)}" + "".join(
            f", {count} {what}" for what, count in kinds.items() if what)]
    done = [text for flag, text in ((options.trim, "silence at the beginning left out"),
                                    (options.level, "peaks brought to 0.9")) if flag]
    say(options, f"Sounds, {options.seconds:g} s of each: {'; '.join([', '.join(words), *done])}.")


def say_unknown(options: argparse.Namespace, job: Job, checkpoint: Path,
                audios: Sequence[np.ndarray | None], shipped: Sequence[str]) -> None:
    """Say which sounds the starter does not know, and what helps; nothing with other weights.

    Sounds that ship, silence and saved encodings are not judged.

    Parameters
    ----------
    options : argparse.Namespace
    job : Job
    checkpoint : Path
    audios : sequence of float32 [samples] or None
        As `inputs.load_sounds` returns them.
    shipped : sequence of str
        Names of files in the "sounds" folder that the starter knows.
    """
    if checkpoints.name_of(checkpoint) != "nsynth_starter":
        return
    known = {(HERE / "sounds" / name).resolve() for name in shipped}
    strange = {name: loudest(audio)
               for name, path, audio in zip(job.names, job.wav_filenames, audios)
               if audio is not None and audio.any() and path.resolve() not in known}
    strange = dict(list(strange.items())[:JUDGED_SOUNDS])
    if not strange:
        return
    nats = dict(zip(strange, nsynth.nll(np.array(list(strange.values())), checkpoint)))
    unknown = [name for name, value in nats.items() if value > UNKNOWN]
    if unknown:
        there = Path.cwd() == HERE  # where `python -m training...` is found
        words = ["python", "-m", "training.nsynth.adapt", "--name", "mine", "--sounds", *(
            str(path if there else path.absolute()) for path in job.wav_filenames)]
        say(options, f"The starter does not know {', '.join(unknown)} "
            f"({max(nats.values()):.1f} nats per sample, and what it knows has under {UNKNOWN}), "
            f"so expect noise: --download, or teach it{'' if there else f', in {HERE}'}: "
            f"{quoted(words)}")


def loudest(audio: np.ndarray) -> np.ndarray:
    """The loudest quarter of a second of a sound, or all of a shorter one."""
    energy = np.cumsum(np.pad(np.float64(audio) ** 2, (1, 0)))
    size = min(JUDGED_SAMPLES, len(audio))
    start = int(np.argmax(energy[size:] - energy[:len(energy) - size]))
    return audio[start:start + size]


def check_preview(options: argparse.Namespace) -> None:
    """Refuse what a preview of instruments would ignore.

    Raises
    ------
    InputError
    """
    refuse_together(options, ("--preview", "--instruments"), ("--preview", "--midi"),
                    ("--preview", "--tempo"), ("--preview", "--seconds-per-instrument"),
                    ("--instruments", "--seconds-per-instrument"))


def score_names(options: argparse.Namespace, paths: Sequence[Path]) -> list[str]:
    """Return a name for each score, all different; in a preview, for each instrument.

    Parameters
    ----------
    options : argparse.Namespace
    paths : sequence of Path
        The scores.

    Returns
    -------
    list of str
    """
    if options.preview:
        return [f"instrument{place:02d}" for place in range(1, options.preview + 1)]
    stems = [path.stem.encode("utf-8", "replace").decode("utf-8")[:80] for path in paths]
    return mixing.numbered(stems, taken=["overview"])


def what_plays(options: argparse.Namespace, names: Sequence[str]) -> str:
    """Return what the bar says is being played: the score, or how many of what."""
    if options.preview:
        return counted(len(names), "instrument")
    return names[0] if len(names) == 1 else counted(len(names), "score")


def planned_scores(options: argparse.Namespace, record: Record, names: Sequence[str],
                   ) -> list[Planned]:
    """Return the clips of example 2 with their files, which the record notes.

    Parameters
    ----------
    options : argparse.Namespace
    record : Record
    names : sequence of str
        As `score_names` returns them.

    Returns
    -------
    list of Planned
    """
    kind = "preview" if options.preview else "score"
    planned = [Planned(record.output_dir / f"{name}_seed{record.seed}.wav", name.replace("_", " "),
                       kind) for name in names]
    record.files = [*PAGE_FILES, *(clip.path.stem + ending for clip in planned
                                   for ending in (".wav", ".png", "_instruments.npz"))]
    return planned


def check_scores(options: argparse.Namespace, names: Sequence[str], scores: Sequence[dict]) -> None:
    """Say what will be played, and refuse what is too long.

    Parameters
    ----------
    options : argparse.Namespace
    names : sequence of str
        One for each score.
    scores : sequence of dict
        As `get_midi_notes` returns them.

    Raises
    ------
    InputError
        If a score is longer than `MOST_SECONDS` or `MOST_NOTES`, without `--many`, or than the
        disk holds.
    """
    if len(scores) > MOST_CLIPS and not options.many:
        raise InputError(f"These are {len(scores):,} scores: give fewer, or add --many for all.")
    for name, notes in zip(names, scores):
        _check_score(options, name, notes)
    lengths = [float(np.max(notes["end_times"])) for notes in scores]
    _refuse_full(options, f"{in_words(sum(lengths))} of sound need", sum(map(_score_bytes, scores)))
    # the mix of the longest is made of double numbers; all that are made are kept for the page
    _refuse_memory(options, SAMPLE_RATE * (8 * max(lengths) + 4 * sum(lengths)))
    if options.preview:
        keys = len(KEYS) * len(scores)
        count = sum(len(notes["pitches"]) for notes in scores)
        say(options, f"To make: a phrase on each of {counted(len(scores), 'instrument')}, "
                     f"{counted(count, 'note')}, and {keys:,} notes for the keyboard on the page, "
                     f"{_work(options, 1 + NOTE_SECONDS * (count + keys))}; "
                     f"seed {options.seed}.")
        return
    for name, notes in zip(names, scores):
        time = 1 + NOTE_SECONDS * len(notes["pitches"]) + 0.02 * float(np.max(notes["end_times"]))
        say(options, f"{name}: {gansynth.summary(notes)}, {_played_on(options, notes)}, "
                     f"{_work(options, time)}, {in_bytes(_score_bytes(notes))} on disk; seed "
                     f"{options.seed}.")
        held = cut_short(notes)
        if held:
            one = held == 1
            say(options, f"{counted(held, 'note')} {'is' if one else 'are'} held longer than the "
                         f"{LONGEST_NOTE:g} s that the model makes, and end{'s' * one} early.")


def _played_on(options: argparse.Namespace, notes: dict) -> str:
    """The instruments of a score in words."""
    if options.instruments is not None:
        return f"on instruments {options.instruments}"
    times = gansynth.instrument_times(max(notes["end_times"]), options.seconds_per_instrument)
    return f"on {counted(len(times), 'instrument')}, {times[1] - times[0]:.1f} s apart"


def _check_score(options: argparse.Namespace, name: str, notes: dict) -> None:
    seconds, count = float(np.max(notes["end_times"])), len(notes["pitches"])
    if not options.many and (seconds > MOST_SECONDS or count > MOST_NOTES):
        raise InputError(f"{name} has {counted(count, 'note')} in {in_words(seconds)}, and a score "
                         f"is at most {MOST_NOTES:,} notes in {in_words(MOST_SECONDS)}: add --many "
                         "to play it all the same.")


def _score_bytes(notes: dict) -> float:
    """What a score takes on disk: its clip, the same on the page, and pictures."""
    return float(np.max(notes["end_times"])) * CLIP_BYTES * 7 / 3 + 4 * PICTURE_BYTES


def cut_short(notes: dict) -> int:
    """Count the notes that are held longer than the 4 seconds that the model makes."""
    return int(np.sum(np.subtract(notes["end_times"], notes["start_times"]) > LONGEST_NOTE))


def instruments(options: argparse.Namespace, checkpoint: Path, scores: Sequence[dict],
                ) -> list[str | None]:
    """Return what plays each score: `--instruments`, in a preview each alone, else None (random).

    Parameters
    ----------
    options : argparse.Namespace
    checkpoint : Path
    scores : sequence of dict
        As `get_midi_notes` returns them.

    Returns
    -------
    list of str or None
        As `generate_audio` takes them.

    Raises
    ------
    InputError
        If `--instruments` cannot be read, before any work starts.
    """
    if options.preview:
        return [str(place) for place in range(1, options.preview + 1)]
    if options.instruments is not None:
        model = inputs.gansynth_model(inputs.gansynth_engine(options), checkpoint, 16,
                                      options.threads)
        for notes in scores:
            gansynth.choose_instruments(model, options.instruments, float(max(notes["end_times"])),
                                        np.random.default_rng(options.seed))
    return [options.instruments] * len(scores)


@dataclass
class Heard:
    """What example 2 has made so far, for the page: one entry for each clip.

    Parameters
    ----------
    audios : list of float32 [samples]
    instruments : list of (tuple of int, list of float)
        Their numbers, and the seconds at which each is reached.
    keys : list of list of (int, float32 [samples])
        Of a preview, pitches and notes of the keyboard.
    """

    audios: list[np.ndarray] = field(default_factory=list)
    instruments: list[tuple[tuple[int, ...], list[float]]] = field(default_factory=list)
    keys: list[list[tuple[int, np.ndarray]]] = field(default_factory=list)


def placed_instruments(chosen: str | None, saved: Path) -> tuple[tuple[int, ...], list[float]]:
    """Return the numbers of a clip's instruments and when each is reached.

    Parameters
    ----------
    chosen : str or None
        As `instruments` returns it.
    saved : Path
        The instruments as they were saved.
    """
    _, times = gansynth.load_instruments(saved)
    reached = [float(time) for time in times] if times is not None else [0.0]
    if chosen is None:
        return tuple(range(1, len(reached) + 1)), reached
    if Path(chosen).suffix.lower() in (".npz", ".npy"):
        return (), reached
    numbers = [int(word.split("@")[0]) for word in chosen.split(",")]
    return tuple(numbers * len(reached) if len(numbers) == 1 else numbers), reached


def play_keys(options: argparse.Namespace, checkpoint: Path, saved: Path,
              ) -> list[tuple[int, np.ndarray]]:
    """Play the notes of the page's keyboard on a preview's instrument.

    Parameters
    ----------
    options : argparse.Namespace
    checkpoint : Path
    saved : Path
        The instrument as it was saved.

    Returns
    -------
    list of (int, float32 [samples])
        MIDI pitches and whole notes; empty where this is no preview.
    """
    if not options.preview:
        return []
    model = inputs.gansynth_model(inputs.gansynth_engine(options), checkpoint, 16,
                                  options.threads)
    z, _ = gansynth.load_instruments(saved)
    notes = model.generate_samples_from_z(np.repeat(z[:1], len(KEYS), axis=0), KEYS)
    return list(zip(KEYS, notes))
