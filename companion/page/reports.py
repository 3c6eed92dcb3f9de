"""Build the results page of a run from its clips."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from companion.clips import Clip, in_percent
from companion.page import Page, Panel, Sound, clock, counted, note_name, run_title, webp
from companion.page.pitch import pitch_of
from companion.page.rolls import css_colour, instrument_marks, piano_roll

SAMPLE_RATE = 16000  # Hz
LOUDNESS = 0.1  # RMS of loudness-matched playback, relative to full scale
PEAK = 0.98  # maximum of loudness-matched playback
KEYBOARD_SECONDS = 200  # total length of the notes that a page holds for its keyboard
_MOST_IN_MATRIX = 24  # sounds; more are listed pair by pair
_MOST_NAMED = 6  # missing clips
_COLOURS = np.array([(255, 214, 153), (153, 204, 255), (173, 230, 173), (245, 180, 220)])
_LOUDNESS_HINT = ("Playback is loudness-matched (equal RMS), so that sounds can be compared; the "
                  "files keep their own levels. The button \"Equal loudness\" turns this off.")
_HINTS = {
    "nsynth": (
        "The hiss and the roughness come from the small bundled model, not from the method. "
        "In our measurements, `python -m workshop mix --temperature 0.7` lowered the noise floor "
        "of the bundled sounds by 1 to 2 dB. `--download` fetches the model that Google trained "
        "(about 1 GB)."),
    "gansynth": (
        "The blurred attacks and the noise come from the small bundled model, not from the method. "
        "`--download` fetches the model that Google trained.")}
_SPECTROGRAM = ("In the plots, time runs from left to right and pitch from bottom to top, and "
                "brighter means louder.")
_RAINBOWGRAM = (f"{_SPECTROGRAM} A steady tone keeps its colour, a gliding tone runs through the "
                "rainbow, and noise is speckled.")
_SAMPLER = ("To play an instrument in a music program, load its SFZ file into a sampler such as "
            "sforzando. The SFZ files are in this page's folder, and each sound has a link to its "
            "file.")


@dataclass(frozen=True)
class Run:
    """The information about a run that its page shows."""

    command: str  # repeats the run
    settings: Mapping[str, object]  # in the order in which they are shown
    seed: int
    bundled: bool = False  # whether the small bundled model made the sounds
    notes: Sequence[str] = ()  # sentences for the top of the page, with `code` in backticks
    resume: str = ""  # the command that continues the run if clips are missing; "": none can


@dataclass(frozen=True)
class Score:
    """The score that a clip plays, and the number and the start in seconds of each instrument."""

    notes: Mapping[str, Any]
    names: Sequence[str]
    times: Sequence[float]


@dataclass(frozen=True)
class Extra:
    """The contents of a clip on the page, in addition to its title and WAV file."""

    image: Any = None  # Pillow image of the plot without axes
    audio: np.ndarray | None = None  # float32 [samples]; None: the WAV file in the folder
    keys: Sequence[tuple[int, np.ndarray]] = ()  # MIDI pitch and audio of a preview's notes
    score: Score | None = None


def page_of(folder: Path, clips: Sequence[Clip], run: Run,
            extras: Mapping[str, Extra] | None = None) -> Page:
    """Build the page of a run with at least one finished clip; it names the unfinished ones.

    All clips of an instrument in a bank have the same title, and a weight for each corner.
    """
    more = defaultdict(Extra, extras or {})
    made = [clip for clip in clips if more[clip.name].audio is not None
            or (folder / f"{clip.name}.wav").is_file()]
    banks = defaultdict(list)
    for clip in made:
        if clip.kind == "bank":
            banks[clip.title].append(clip)
    points = {title: _spread(notes) for title, notes in banks.items()}
    shown = [clip for clip in made if clip.kind != "bank"] + [
        min(notes, key=lambda clip: abs(_pitch(clip) - 60)) for notes in points.values()]
    size = (480, 320) if len(shown) <= 48 else (300, 200)
    notes = sum(len(points.get(clip.title, ())) + len(more[clip.name].keys) for clip in shown)
    builder = _Builder(folder, more, size, min(4.0, max(0.8, KEYBOARD_SECONDS / max(1, notes))))
    ends = _ends(shown)
    compared = [tuple(ends[name] for name in clip.sources if ends.get(name, index) != index)
                for index, clip in enumerate(shown)]
    sounds = [builder.sound(clip, others, points.get(clip.title, ()))
              for clip, others in zip(shown, compared)]
    names = {clip.name for clip in made}
    missing = [clip for clip in clips if clip.name not in names]
    gansynth = not shown[0].sources
    return Page(
        run_title(clips), _introduction(shown) + _missing(missing, len(clips)), sounds,
        _panels(shown), {**run.settings, "seed": run.seed},
        run.resume if missing and run.resume else run.command, run.notes,
        [*[_HINTS["gansynth" if gansynth else "nsynth"]] * run.bundled, _LOUDNESS_HINT,
         *[_SPECTROGRAM if gansynth else _RAINBOWGRAM] * any(sound.picture for sound in sounds),
         *[_SAMPLER] * bool(points)],
        _commands(run) if shown[0].kind == "preview" else (),
        ["C2", "C3", "C4", "C5", "C6", "C7"][:5 if gansynth else 6],
        bool(missing and run.resume))


def encoded(audio: np.ndarray) -> bytes:
    """Encode audio, int16 or float32 [samples] in [-1, 1], as a 16-bit FLAC file."""
    import soundfile

    if audio.dtype != np.int16:
        audio = np.rint(np.clip(audio, -1, 1) * 32767).astype(np.int16)
    content = io.BytesIO()
    soundfile.write(content, audio, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
    return content.getvalue()


# Sounds ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Builder:
    """A builder of a page's sounds, with the clips' folder and the limits on plots and notes."""

    folder: Path
    extras: Mapping[str, Extra]
    size: tuple[int, int]
    note_seconds: float

    def audio(self, clip: Clip) -> np.ndarray:
        import soundfile

        audio = self.extras[clip.name].audio
        return audio if audio is not None else soundfile.read(
            self.folder / f"{clip.name}.wav", dtype="int16")[0]

    def sound(self, clip: Clip, compared: tuple[int, ...], notes: Sequence[Clip]) -> Sound:
        """Return the page's sound for a clip."""
        audio, extra = self.audio(clip), self.extras[clip.name]
        level = _as_float(audio)
        seconds = len(audio) / SAMPLE_RATE
        size = self.size
        words, roll, marks = _description(clip), Sound.roll, ()
        keys: list[tuple[float | None, bytes]] = [
            (pitch, encoded(_faded(note, self.note_seconds))) for pitch, note in extra.keys]
        root = None
        if extra.score is not None:
            end = float(np.max(extra.score.notes["end_times"]))
            times = [min(max(0.0, float(time)), end) for time in extra.score.times]
            names = list(extra.score.names)
            words = [counted(len(extra.score.notes["pitches"]), "note"),
                     counted(len(set(names)), "instrument")]
            roll = piano_roll(extra.score.notes, times, names, seconds)
            marks = instrument_marks(times, names, seconds)
            size = (int(np.clip(40 * seconds, 480, 1200)), 320)
        elif clip.kind != "preview":
            root = pitch_of(level) if clip.pitch is None else clip.pitch
            keys = [(root, b"")] + [
                (note.pitch, encoded(_faded(self.audio(note), self.note_seconds)))
                for note in notes if note is not clip]
            words.append(f"{'' if clip.kind == 'bank' else 'pitch '}{note_name(root)}"
                         if root is not None else "no steady pitch")
        bank = clip.kind == "bank"
        return Sound(
            clip, encoded(audio), seconds, _gain(level), " · ".join([*words, clock(seconds)]),
            _caption(clip), compared,
            webp(extra.image, size) if extra.image is not None else b"", size, tuple(keys),
            _colour(clip.weights) if bank else "",
            f"{Path(clip.name).name.rpartition('_p')[0]}.sfz" if bank else "", roll, marks)


def _as_float(audio: np.ndarray) -> np.ndarray:
    return audio.astype(np.float32) / 32768 if audio.dtype == np.int16 else audio


def _gain(audio: np.ndarray) -> float:
    """Return the gain that brings a sound to `LOUDNESS` without exceeding `PEAK`."""
    rms, peak = float(np.sqrt(np.mean(np.square(audio)))), float(np.abs(audio).max())
    return min(LOUDNESS / rms, PEAK / peak) if rms > 1e-4 else 1.0


def _faded(audio: np.ndarray, seconds: float) -> np.ndarray:
    """Return the beginning of a note with a fade-out, normalised to a peak of 0.5."""
    note = _as_float(audio)[:round(seconds * SAMPLE_RATE)]
    note = note / max(2 * float(np.abs(note).max()), 1e-6)
    ramp = min(len(note), SAMPLE_RATE // 10)
    return note * np.minimum(1, np.arange(len(note), 0, -1) / ramp)


def _pitch(note: Clip) -> float:
    """Return the MIDI pitch of a clip in a bank, where every clip has one."""
    assert note.pitch is not None
    return note.pitch


def _spread(notes: Sequence[Clip]) -> list[Clip]:
    """Return the notes of an instrument that are at least half an octave apart."""
    kept: list[Clip] = []
    for note in sorted(notes, key=_pitch):
        if not kept or _pitch(note) - _pitch(kept[-1]) >= 6:
            kept.append(note)
    return kept


def _ends(shown: Sequence[Clip]) -> dict[str, int]:
    """Return the index of each source sound, or of its reconstruction if it is not shown."""
    return {clip.sources[0]: index for kind in ("reconstruction", "source")
            for index, clip in enumerate(shown) if clip.kind == kind}


def _description(clip: Clip) -> list[str]:
    """Return the start of the line under a title, which lists the sources of the clip."""
    if clip.kind == "crossfade":
        return [f"from {clip.sources[0]} to {clip.sources[-1]} over time"]
    mixed = in_percent(clip.sources, clip.weights)
    words = {"source": "source sound", "reconstruction": "encoded and decoded", "mix": mixed}
    return [words[clip.kind]] if clip.kind in words else []


def _caption(clip: Clip) -> str:
    """Return the caption of a cell, which has one or two words."""
    if clip.kind == "preview":
        return clip.title.removeprefix("instrument ")
    if clip.kind == "bank" and 1 in clip.weights:
        return clip.sources[clip.weights.index(1)]
    if clip.kind in ("step", "bank") and clip.weights:
        return " : ".join(f"{100 * weight:.0f}" for weight in clip.weights) * (
            len(clip.weights) == 2)
    return clip.title


def _colour(weights: Sequence[float]) -> str:
    """Return the colour of an instrument in a bank, blended from the colours of the corners."""
    return css_colour(np.array(weights) @ _COLOURS[:len(weights)]) if weights else ""


# Words and panels --------------------------------------------------------------------------------


def _introduction(shown: Sequence[Clip]) -> str:
    kinds = {clip.kind for clip in shown}
    sources = {name for clip in shown for name in clip.sources}
    if "bank" in kinds:
        return ("This is a sound bank, and each cell is an instrument. Click a cell, then play the "
                "keyboard.")
    if "preview" in kinds:
        return ("GANSynth: each instrument was drawn at random from all those that the network can "
                "generate.")
    if "score" in kinds:
        return ("GANSynth: the network generated every note. The instruments were drawn at random "
                "from all those that the network can generate.")
    return (f"NSynth: a WaveNet autoencoder encoded {counted(len(sources), 'sound')}"
            + (", the encodings were mixed, and the network decoded the mixes"
               if kinds & {"mix", "step", "crossfade"} else " and decoded the encodings")
            + ", sample by sample.")


def _missing(missing: Sequence[Clip], total: int) -> str:
    """Return a sentence about the clips that a run did not finish."""
    if not missing:
        return ""
    which = ": " + "; ".join(clip.title for clip in missing) if len(missing) <= _MOST_NAMED else ""
    return f" The run did not finish {len(missing)} of {counted(total, 'clip')}{which}."


def _commands(run: Run) -> list[tuple[str, str]]:
    """Return the commands for the instruments of a preview, with its seed and its model."""
    model = re.search(r" --checkpoint[ =]('[^']*'|\"[^\"]*\"|\S)+", run.command)
    chosen = f"--instruments {{}} --seed {run.seed}{model[0] if model else ''}"
    return [("Play a score", f"python -m workshop play --midi cs1-1pre-short.mid {chosen}"),
            ("Make a sound bank", f"python -m workshop bank gansynth {chosen}")]


def _panels(shown: Sequence[Clip]) -> list[Panel]:
    """Arrange the sounds, given as indices into `shown`, in panels."""
    everything = list(range(len(shown)))
    kind = shown[-1].kind
    if kind == "score":
        return [Panel("The score" if len(shown) == 1 else "The scores", [[i] for i in everything],
                      "The notes at the top have the colours of their instruments; between two "
                      "instruments, the colours blend. The plot at the bottom shows the sound. "
                      "Click either one to play from that point.", "score")]
    if kind == "preview":
        return [Panel("The instruments", [everything], "Each instrument plays the same phrase. "
                      "Select the ones that you like: the commands below use them in the order in "
                      "which you select them.",
                      "cells", choose=True)]
    if kind == "bank":
        return [_bank_panel(shown)]
    return _mix_panels(shown)


def _bank_panel(shown: Sequence[Clip]) -> Panel:
    if not shown[0].weights:
        return Panel("The instruments", [list(range(len(shown)))], layout="cells")
    # Two corners make a line, three a triangle, four a square: the weights give the coordinates.
    places = [(round(sum(clip.weights[2:]), 6), round(sum(clip.weights[1::2]), 6))
              for clip in shown]
    rows, columns = (sorted(set(axis)) for axis in zip(*places))
    index = {place: number for number, place in enumerate(places)}
    return Panel("The instruments", [[index.get((row, column)) for column in columns]
                                     for row in rows],
                 f"The cells are mixes of {', '.join(shown[0].sources)}, with evenly spaced mixing "
                 "weights.",
                 "grid")


def _mix_panels(shown: Sequence[Clip]) -> list[Panel]:
    names = list(dict.fromkeys(name for clip in shown for name in clip.sources))
    ends: dict[str, int | str] = {**{name: name for name in names}, **_ends(shown)}
    decoded = {clip.sources[0]: index for index, clip in enumerate(shown)
               if clip.kind == "reconstruction"}
    pairs: dict[tuple[str, ...], list[int]] = {}
    for index, clip in enumerate(shown):
        if clip.kind in ("mix", "step", "crossfade"):
            pairs.setdefault(clip.sources, []).append(index)
    kind = shown[-1].kind
    each = [[index for index, clip in enumerate(shown) if clip.sources == (name,)]
            for name in names]
    alone = Panel("Each sound alone", [sum(each[start:start + 3], [])
                                       for start in range(0, len(each), 3)],
                  "Each source sound is followed by its reconstruction: the same sound, encoded "
                  "and decoded. Anything that a reconstruction loses is lost in every mix.")
    if kind == "step":
        return [Panel(f"From {first} to {last}", [[ends[first], *steps, ends[last]]],
                      f"The numbers are the mixing weights of {first} and {last} in per cent. "
                      "Drag the slider to move smoothly from step to step.", slider=True)
                for (first, last), steps in pairs.items()]
    if kind == "crossfade":
        return [Panel(f"{first} becomes {last}", [[ends[first]], [ends[last]], *[
            [index] for index in made]], "All sounds share one time axis.", "time")
            for (first, last), made in pairs.items()] + [alone]
    if not pairs:
        return [Panel(alone.title, [[index] for both in each for index in both], alone.text,
                      "time")]
    if 1 < len(pairs) >= len(names) * (len(names) - 1) // 2 and len(names) <= _MOST_IN_MATRIX:
        head: list[int | str | None] = ["main\xa0↓ second\xa0→",
                                        *[ends[name] for name in names]]
        return [Panel("The mixes", [head, *[[ends[row], *[
            decoded.get(row) if row == column else pairs.get((row, column), [None])[0]
            for column in names]] for row in names]],
            "Each row has a main sound, and each column has a second sound, which shifts the "
            "timbre. Source sounds have orange frames, and reconstructions have blue ones.",
            "matrix")]
    return [Panel("The mixes", [[ends[first], *made, ends[last]]
                                for (first, last), made in pairs.items()],
                  "Each mix is shown between its two sounds. By default, the one on the left has "
                  "the larger mixing weight."),
            alone]
