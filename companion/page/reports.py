"""What a run leaves beside its sounds: a picture of each, an overview, the page to listen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

import audio_utils
from companion.page import SAMPLE_RATE, Board, Clip, Heard, Page, encoded, webp, write_page
from companion.page.rolls import instrument_marks, piano_roll
from companion.progress import bar
from companion.record import Planned, Record
from pictures.sheets import Cell, Score, score_sheet, square, strips
from pictures.spectra import Spectrum, octave_name, rainbowgram, scaled, smaller, spectrogram
from synths.nsynth import partial_path

CELL = (480, 320)  # pixels of a picture on the page
SMALL_CELL = (300, 200)  # where there are many
_MOST_IN_MATRIX = 24  # sounds; more are shown pair by pair
_RAINBOWGRAM = ("Time runs from left to right and pitch from bottom to top; what is brighter is "
                "louder. A tone that holds its pitch keeps its colour, one that glides runs "
                "through the rainbow, and noise is speckled.")
_SPECTROGRAM = ("Time runs from left to right and pitch from bottom to top; what is brighter is "
                "louder.")
_MOST_NAMED = 6  # clips that a stopped run lacks; of more, their number is said
_NSYNTH_HISS = Markup(
    "The hiss and the roughness come from the small network that ships with this code, not from "
    "the method. What helps: <code>--temperature 0.7</code> takes away hiss, and "
    "<code>--download</code> fetches the large network that Google trained (about 1 GB).")
_GANSYNTH_HISS = Markup(
    "The blurred attacks and the noise come from the small network that ships with this code, not "
    "from the method. What helps: <code>--download</code> fetches the large network that Google "
    "trained.")


def nsynth_page(record: Record, names: Sequence[str], audios: Sequence[np.ndarray | None],
                planned: Sequence[Planned]) -> Path | None:
    """Save the sources beside the decoded clips, draw them all, and write the page.

    Parameters
    ----------
    record : Record
    names : sequence of str
        Short names of the sounds.
    audios : sequence of float32 [samples] or None
        The sounds as they were encoded; None for one that was given as an encoding.
    planned : sequence of Planned
        All clips of the run.  Where the run was stopped, what was not finished is shown as far as
        it got; a clip that was not begun is left out.

    Returns
    -------
    Path or None
        The page; None if nothing was decoded before the run was stopped.
    """
    parts: set[Path] = set()
    if record.stopped:  # what was not finished is heard as far as it got
        parts = {partial_path(clip.path) for clip in planned if not clip.path.is_file()}
        planned = [clip if clip.path.is_file() else replace(clip, path=partial_path(clip.path))
                   for clip in planned]
    else:
        for clip in planned:  # what an interrupted run has drawn
            partial_path(clip.path).with_suffix(".png").unlink(missing_ok=True)
    made = [clip for clip in planned if clip.path.is_file()]
    if not made:
        return None
    sounds: dict[Path, np.ndarray | None] = {}
    heard: dict[int, int] = {}  # place of a sound: place of its clip on the page
    for place, (name, audio) in enumerate(zip(names, audios)):
        if audio is not None:
            heard[place] = len(sounds)
            wav = record.output_dir / f"source_{name}.wav"
            audio_utils.save_wav(audio, wav, SAMPLE_RATE)
            sounds[wav] = audio
    own = {clip.path: len(sounds) + place for place, clip in enumerate(made)}
    # what stands for a sound: itself, or what was decoded from the encoding that was given
    stands = {clip.sources[0]: own[clip.path] for clip in made if clip.kind == "reconstruction"}
    stands.update(heard)
    sounds.update((clip.path, None) for clip in made)
    size = CELL if len(sounds) <= 48 else SMALL_CELL
    drawn = _draw_rainbowgrams(record, sounds, size)
    clips = [_clip(wav, drawn[wav], names[place], "source", names[place],
                   size, "the sound itself") for place, wav in zip(heard, sounds)]
    clips += [_decoded(record, clip, names, drawn[clip.path],
                       [stands[place] for place in clip.sources
                        if stands.get(place, own[clip.path]) != own[clip.path]],
                       clip.path in parts, size) for clip in made]
    _save_overview(record, names, made, heard, list(sounds),
                   {wav: one.spectrum for wav, one in drawn.items()})
    mixed = any(clip.kind != "reconstruction" for clip in made)
    unfinished = _unfinished(record, planned, made, len([clip for clip in made
                                                         if clip.path in parts]))
    what = (f"{_counted(len(names), 'sound')} {'was' if len(names) == 1 else 'were'} encoded by a "
            "WaveNet autoencoder" + (", the encodings mixed, and the mixes decoded"
                                     if mixed else " and decoded again") + ", sample by sample.")
    return write_page(record.output_dir / "index.html", Page(
        "NSynth: two sounds become one" if mixed else "NSynth: a sound through the network",
        what + unfinished, clips,
        _nsynth_boards(names, made, heard, own, [len(clip.audio) for clip in clips]),
        _settings(record, sounds=", ".join(names)),
        record.resume if unfinished and record.resume else record.command, _RAINBOWGRAM,
        _octaves(next(iter(drawn.values())).spectrum), _hints(record, _NSYNTH_HISS),
        goes_on=bool(unfinished and record.resume)))


def _unfinished(record: Record, planned: Sequence[Planned], made: Sequence[Planned],
                partial: int = 0) -> str:
    """What the page of a stopped run lacks, in a sentence; nothing where all is there.

    `partial` of the clips that are made are there as far as they got.
    """
    lacking = [clip.title for clip in planned if clip not in made]
    if not record.stopped or not (lacking or partial):
        return ""
    whole = len(made) - partial
    said = [f" The run was stopped: {whole} of {_counted(len(planned), 'clip')} "
            f"{'is' if whole == 1 else 'are'} finished"]
    if partial:
        said.append(f"{partial} as far as {'it' if partial == 1 else 'they'} got, framed in dashes")
    if len(lacking) > _MOST_NAMED:
        said.append(f"{len(lacking)} are missing")
    elif lacking:
        said.append(f"missing: {'; '.join(lacking)}")
    return "; ".join(said) + "."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _octaves(spectrum: Spectrum) -> list[str]:
    return [octave_name(spectrum.transform, octave)
            for octave in range(int(spectrum.transform["octaves"]))]


def _settings(record: Record, **first: object) -> dict[str, object]:
    return {**first, **record.settings, "weights": record.weights, "seed": record.seed}


def _hints(record: Record, hiss: str) -> list[str]:
    levelled = ("All sounds are played at one loudness, so that they can be compared; the files "
                "keep their own. \"One loudness\" switches this off.")
    return [hiss, levelled] if record.starter else [levelled]


def _clip(wav: Path, drawn: _Drawn, title: str, kind: str, caption: str,
          size: tuple[int, int], note: str = "", sources: Sequence[int] = ()) -> Clip:
    seconds = f"{len(drawn.audio) / SAMPLE_RATE:.1f} s"
    return Clip(title, wav, wav.name, drawn.audio, drawn.picture, size,
                f"{note} · {seconds}" if note else seconds, kind, tuple(sources), caption)


def _decoded(record: Record, clip: Planned, names: Sequence[str], drawn: _Drawn,
             sources: Sequence[int], partial: bool, size: tuple[int, int]) -> Clip:
    """A clip that the run has decoded, and the places of those that it is compared with."""
    if partial:
        note = "as far as it got"
    elif clip.kind == "reconstruction":
        stretch = record.settings.get("stretch")
        note = "encoded and decoded again" + (f", {stretch:g} times as long" if stretch else "")
    elif clip.kind == "crossfade":
        note = "one becomes the other over time"
    elif clip.kind == "step":
        note = ""  # the title says it
    else:
        note = ", ".join(f"{100 * share:.0f} % {names[place]}"
                         for place, share in zip(clip.sources, clip.shares) if share > 0)
    title = clip.title
    caption = ""
    if clip.kind == "reconstruction":
        title = caption = f"{names[clip.sources[0]]}, decoded again"
    elif clip.kind == "step":
        share = clip.shares[-1]
        caption = f"{100 * share:.0f} %" if 0 < share < 1 else clip.title
        title = f"{names[clip.sources[0]]} to {names[clip.sources[-1]]}: {clip.title}"
    elif clip.kind in ("crossfade", "mix"):
        caption = clip.title
    kind = "reconstruction" if clip.kind == "reconstruction" else "mix"
    return replace(_clip(clip.path, drawn, title, kind, caption, size, note, sources),
                   partial=partial)


def _nsynth_boards(names: Sequence[str], made: Sequence[Planned], heard: Mapping[int, int],
                   own: Mapping[Path, int], lengths: Sequence[int]) -> list[Board]:
    """How the clips of a run of example 1 stand on the page; `lengths` are in samples."""
    alone = {clip.sources[0]: own[clip.path] for clip in made if clip.kind == "reconstruction"}
    pairs: dict[tuple[int, ...], list[int]] = {}
    for clip in made:
        if clip.kind != "reconstruction":
            pairs.setdefault(clip.sources, []).append(own[clip.path])
    kinds = {clip.kind for clip in made}
    ends: dict[int, int | str] = {place: heard.get(place, alone.get(place, name))
                                  for place, name in enumerate(names)}
    each = [[heard.get(place, names[place]), alone.get(place)] for place in range(len(names))
            if place in heard or place in alone]
    both = Board("Each sound alone", [sum(each[start:start + 3], [])
                                      for start in range(0, len(each), 3)],
                 "The sound itself, and encoded and decoded again." +
                 (" What is lost here is lost in every mix." if pairs else ""), "strip")
    if any(place in heard and abs(lengths[heard[place]] / lengths[alone[place]] - 1) > 0.05
           for place in alone):
        both = replace(both, layout="time", rows=[[cell] for cells in each for cell in cells
                                                  if cell is not None])
    if "step" in kinds:
        rows = [[ends[a], *steps, ends[b]] for (a, b), steps in pairs.items()]
        text = ("Each row goes from the sound at its left to the sound at its right. The numbers "
                "are the right one's share; 100 % is a sound encoded and decoded again. The "
                "slider walks the path.")
        return [Board(f"From {names[a]} to {names[b]}", [row], "" if number else text, "strip",
                      True, 1) for number, ((a, b), row) in enumerate(zip(pairs, rows))]
    if "crossfade" in kinds:
        return [Board(f"{names[pair[0]]} becomes {names[pair[1]]}",
                      [[ends[pair[0]]], [ends[pair[1]]], *[[place] for place in places]],
                      "The two sounds, and below them, on the same time, what became of them."
                      if not number else "", "time")
                for number, (pair, places) in enumerate(pairs.items())] + [both]
    if not pairs:
        return [both]
    everyone = len(pairs) >= len(names) * (len(names) - 1) // 2
    if everyone and 2 < len(names) <= _MOST_IN_MATRIX or len(names) == 2 == len(pairs):
        return [_matrix(names, pairs, ends, alone, heard)]
    rows = [[ends[a], *places, ends[b]] for (a, b), places in pairs.items()]
    return [Board("The mixes", rows, "Between two sounds stands their mix; the left one leads.",
                  "strip"), both]


def _matrix(names: Sequence[str], pairs: Mapping[tuple[int, ...], Sequence[int]],
            ends: Mapping[int, int | str], alone: Mapping[int, int],
            heard: Mapping[int, int]) -> Board:
    """All sounds by all sounds, under and beside the sounds themselves."""
    places = range(len(names))
    # an encoding that was given has no sound: its name heads the row, what was decoded is on it
    ends = {place: ends[place] if place in heard else names[place] for place in places}
    rows: list[list[int | str | None]] = [["rows lead, columns colour",
                                           *[ends[place] for place in places]]]
    for row in places:
        rows.append([ends[row], *[
            alone.get(row) if row == column else pairs.get((row, column), [None])[0]
            for column in places]])
    framed = "Framed orange: the sounds; blue: the same" if heard else "Framed blue: a sound alone"
    return Board("Play the mixes", rows, "The sound at the left leads, the one at the "
                 f"top colours it. {framed}, encoded and decoded again. What is lost there is "
                 "lost in every mix.")


@dataclass(frozen=True)
class _Drawn:
    """What is kept of a sound: its length, the page's picture, and what the overview shows."""

    audio: Heard
    picture: bytes
    spectrum: Spectrum


def _draw_rainbowgrams(record: Record, sounds: Mapping[Path, np.ndarray | None],
                       size: tuple[int, int]) -> dict[Path, _Drawn]:
    """Save a rainbowgram beside each WAV, under its name; a sound that is None is read."""
    drawn = {}
    progress = bar(record, f"drawing {len(sounds)} pictures")
    for done, (wav, audio) in enumerate(sounds.items(), 1):
        audio = audio_utils.load_audio(wav) if audio is None else audio
        spectrum = rainbowgram(audio, SAMPLE_RATE)
        audio_utils.save_picture(audio_utils.spectrum_image(spectrum, record.labels),
                                 wav.with_suffix(".png").name, wav.parent, 200)
        drawn[wav] = _Drawn(Heard.of(audio), webp(scaled(spectrum, *size)),
                            spectrum if size == CELL else smaller(spectrum))
        progress(done, len(sounds))
    return drawn


def _save_overview(record: Record, names: Sequence[str], made: Sequence[Planned],
                   heard: Mapping[int, int], wavs: Sequence[Path],
                   drawn: Mapping[Path, Spectrum]) -> None:
    """Save all rainbowgrams of a run on one sheet."""
    alone = {clip.sources[0]: clip.path for clip in made if clip.kind == "reconstruction"}

    # An encoding has no sound of its own: what was decoded from it stands in its place.
    def cell(place: int) -> Cell | None:
        if place in heard:
            return Cell(drawn[wavs[heard[place]]], names[place], "source")
        return Cell(drawn[alone[place]], names[place], "reconstruction") if place in alone else None

    mixes = [clip for clip in made if clip.kind != "reconstruction"]
    pairs: dict[tuple[int, ...], list[Planned]] = {}
    for clip in mixes:
        pairs.setdefault(clip.sources, []).append(clip)
    note = "framed orange: the sounds" if heard else "framed blue: the encodings given, decoded"
    every = 0 < len(names) * (len(names) - 1) // 2 <= len(pairs) and len(names) <= _MOST_IN_MATRIX
    if every and all(clip.kind == "mix" for clip in mixes):
        image = square([cell(place) for place in range(len(names))], names,
                       {(a, b): drawn[clips[0].path] for (a, b), clips in pairs.items()},
                       f"{note}; elsewhere: the row's sound mixed with the column's")
    else:
        rows = [[cell(a), *[Cell(drawn[clip.path], _short(clip)) for clip in clips], cell(b)]
                for (a, b), clips in pairs.items()] or [
            [cell(place), Cell(drawn[path], f"{names[place]}, decoded")]
            for place, path in alone.items()]
        image = strips([[item for item in row if item] for row in rows], note)
    audio_utils.save_picture(image, "overview.png", record.output_dir)


def _short(clip: Planned) -> str:
    """A mix's title on a sheet, between those of its sounds."""
    return {"step": f"{100 * clip.shares[-1]:.0f} %", "crossfade": "to"}.get(clip.kind, "with")


# Example 2 ---------------------------------------------------------------------------------------


def gansynth_page(record: Record, planned: Sequence[Planned], notes: Sequence[Mapping],
                  audios: Sequence[np.ndarray],
                  instruments: Sequence[tuple[Sequence[int], Sequence[float]]],
                  keys: Sequence[Sequence[tuple[int, np.ndarray]]] | None = None) -> Path | None:
    """Draw the scores and write the page for the clips that the run has saved.

    Parameters
    ----------
    record : Record
    planned : sequence of Planned
        The clips; where the run was stopped, those after the last entry of `audios` are left out.
    notes : sequence of mapping
        The notes of each clip, as from `get_midi_notes`.
    audios : sequence of float32 [samples]
    instruments : sequence of (sequence of int, sequence of float)
        For each clip the instruments' numbers, empty where they were drawn in order, and the
        seconds at which each is reached.
    keys : sequence of sequences of (int, float32 [samples]), optional
        Of a preview, for each clip the notes of the page's keyboard: MIDI pitch and sound.

    Returns
    -------
    Path or None
        The page; None if there is no clip, because the run was stopped before.
    """
    made = [item for item in zip(planned, notes, audios, instruments) if item[0].path.is_file()]
    if not made:
        return None
    if made[0][0].kind == "preview":
        page = _preview(record, planned, made, keys or [[]] * len(made))
    else:
        page = _scores(record, planned, made)
    return write_page(record.output_dir / "index.html", page)


def _preview(record: Record, planned: Sequence[Planned], made: Sequence[tuple],
             keys: Sequence) -> Page:
    """A page of instruments to try: a cell for each, a keyboard, a list to copy."""
    heard = [_heard(audio) for _, _, audio, _ in made]
    widest = max(map(len, heard))
    drawn = [spectrogram(np.pad(audio, (0, widest - len(audio))), SAMPLE_RATE, 512)
             for audio in heard]
    seconds = 2.0 if len(made) <= 12 else 0.8  # of each note of the keyboard
    size = CELL if len(made) <= 24 else SMALL_CELL
    clips = []
    for number, ((item, _, _, _), audio, spectrum) in enumerate(zip(made, heard, drawn), 1):
        sound = np.pad(audio, (0, widest - len(audio)))
        own = [(int(pitch), encoded(_faded(note, seconds), "FLAC"))
               for pitch, note in (keys[number - 1] if number <= len(keys) else ())]
        clips.append(Clip(f"instrument {number}", encoded(sound, "FLAC"),
                          f"{item.path.stem}.flac", sound, webp(scaled(spectrum, *size)), size,
                          f"{widest / SAMPLE_RATE:.1f} s", caption=str(number), keys=own,
                          media="audio/flac"))
    sheet = strips([[Cell(spectrum, str(number))] for number, spectrum in enumerate(drawn, 1)],
                   "the phrase on each instrument, under its number")
    audio_utils.save_picture(sheet, "overview.png", record.output_dir)
    board = Board("The instruments", [list(range(len(clips)))], "The same phrase on each. "
                  "Tick those that you like: the list plays a score with them, in that order.",
                  "cells", ticks=True)
    return Page("GANSynth: instruments that never existed",
                "Each instrument was drawn at random from all those that a network can imagine."
                + _unfinished(record, planned, [item for item, *_ in made]), clips, [board],
                _settings(record), record.command, _SPECTROGRAM, _octaves(drawn[0]),
                _hints(record, _GANSYNTH_HISS), record.seed)


def _heard(audio: np.ndarray) -> np.ndarray:
    """The sound without the silence at its end."""
    loud = np.flatnonzero(np.abs(audio) > 1e-3)
    return audio[:int(loud[-1]) + SAMPLE_RATE // 10] if len(loud) else audio[:SAMPLE_RATE // 10]


def _faded(audio: np.ndarray, seconds: float) -> np.ndarray:
    """The beginning of a note, faded out."""
    note = np.array(_heard(audio)[:round(seconds * SAMPLE_RATE)], np.float32)
    note /= max(2 * float(np.abs(note).max(initial=0.0)), 1e-6)
    ramp = min(len(note), SAMPLE_RATE // 10)
    note[len(note) - ramp:] *= np.linspace(1, 0, ramp, dtype=np.float32)
    return note


def _apart(times: Sequence[float], names: Sequence[str]) -> str:
    """How far the instruments of a clip are apart, if there are several, all equally far."""
    gaps = np.diff(times)
    several = len(gaps) and len(set(names)) > 1
    return f", {gaps[0]:.1f} s apart" if several and np.ptp(gaps) < 0.05 else ""


def _scores(record: Record, planned: Sequence[Planned], made: Sequence[tuple]) -> Page:
    """A page of scores: the notes in the colours of their instruments, above the sound."""
    clips, sheets = [], []
    progress = bar(record, f"drawing {_counted(len(made), 'score')}")
    for done, (item, notes, audio, (numbers, times)) in enumerate(made, 1):
        names = [str(number) for number in numbers or range(1, len(times) + 1)]
        names *= len(times) if len(names) == 1 else 1  # one alone stands at both ends
        end = float(np.max(notes["end_times"]))
        score = Score(notes, audio, np.clip(times, 0, end), names,
                      "" if len(made) == 1 else item.title)
        sheets.append(score)
        seconds = len(audio) / SAMPLE_RATE
        width = int(np.clip(40 * seconds, 480, 1200))
        clips.append(Clip(
            item.title, item.path, item.path.name, audio,
            webp(scaled(score.spectrum, width, 320)), (width, 320),
            f"{_counted(len(notes['pitches']), 'note')} · "
            f"{_counted(len(set(names)), 'instrument')}{_apart(times, names)} · {seconds:.1f} s",
            score=piano_roll(notes, times, names, seconds),
            marks=instrument_marks(np.clip(times, 0, end), names, seconds)))
        progress(done, len(made))
    audio_utils.save_picture(score_sheet(sheets), "overview.png", record.output_dir)
    board = Board("The score" if len(clips) == 1 else "The scores",
                  [[place] for place in range(len(clips))],
                  "Above, the notes in the colours of the instruments, between two of them in "
                  "colours between; below, what became of them. Click to hear it from there.",
                  "score")
    return Page("GANSynth: instruments that never existed",
                "Every note was generated by a network, on an instrument drawn at random from all "
                "those it can imagine."
                + _unfinished(record, planned, [item for item, *_ in made]), clips, [board],
                _settings(record), record.command, _SPECTROGRAM, _octaves(sheets[0].spectrum),
                _hints(record, _GANSYNTH_HISS))
