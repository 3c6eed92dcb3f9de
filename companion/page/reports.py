"""What a run leaves beside its sounds: a picture of each, an overview, the page to listen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import audio_utils
from companion.page import Clip, Section, write_page
from companion.progress import bar
from companion.record import Planned, Record
from pictures.sheets import Cell, Score, score_sheet, square, strips
from pictures.spectra import Spectrum, rainbowgram, spectrogram
from synths.nsynth import partial_path

SAMPLE_RATE = 16000
_RAINBOWGRAM = ("Rainbowgram: time from left to right, pitch from bottom (C2) to top (C8), "
                "brightness is loudness, colour is how the phase turns.")
_SPECTROGRAM = ("Constant-Q spectrogram: time from left to right, pitch from bottom (C2) to top "
                "(C7), brightness is loudness.")
_STOPPED = " The run was stopped: this is what was finished."


def nsynth_page(record: Record, names: Sequence[str], audios: Sequence[np.ndarray | None],
                planned: Sequence[Planned]) -> Path | None:
    """Save the sources beside the decoded clips, draw them all, and write the page.

    Parameters
    ----------
    record : Record
    names : sequence of str
        Short names of the sources.
    audios : sequence of float32 [samples] or None
        The sources as they were encoded; None for one that was given as an encoding.
    planned : sequence of Planned
        The clips of the run.

    Returns
    -------
    Path or None
        The page; None if nothing was decoded before the run was stopped.
    """
    if record.stopped:  # what was not finished is heard as far as it got
        planned = [clip if clip.path.is_file() else replace(clip, path=partial_path(clip.path))
                   for clip in planned]
    made = {clip.path: clip for clip in planned if _is_made(record, clip.path)}
    if not made:
        return None
    folder = record.output_dir
    sources = [None if audio is None else folder / f"source_{name}.wav"
               for name, audio in zip(names, audios)]
    sounds = {}
    for wav, audio in zip(sources, audios):
        if wav:
            audio_utils.save_wav(audio, wav, SAMPLE_RATE)
            sounds[wav] = audio
    sounds.update((wav, audio_utils.load_audio(wav)) for wav in made)
    drawn = _draw(record, sounds)

    def card(wav: Path, title: str, kind: str, note: str = "") -> Clip:
        if record.stopped and wav not in sources:
            note = f"as far as it got: {len(sounds[wav]) / SAMPLE_RATE:.2f} s"
        return Clip(title, wav, wav.with_suffix(".png"), f"{title}. {_RAINBOWGRAM}", note, kind)

    decoded = {clip.sources[0]: wav for wav, clip in made.items() if clip.kind == "reconstruction"}
    mixes = [(wav, clip) for wav, clip in made.items() if clip.kind != "reconstruction"]
    reconstructions = [card(decoded[place], name, "reconstruction", "encoded and decoded again")
                       if place in decoded else None for place, name in enumerate(names)]
    sections = [Section("The sounds", [card(wav, name, "source", "the sound that was encoded")
                                       for wav, name in zip(sources, names) if wav], 4),
                Section("Reconstructed", [item for item in reconstructions if item], 4,
                        "Each sound through the network and back: what is lost here is lost in "
                        "every mix.")]
    grid = {clip.sources: wav for wav, clip in mixes if clip.kind == "mix"}
    square_of_mixes = _is_square(names, planned)
    if square_of_mixes and len(names) <= 6:
        cells = [reconstructions[row] if row == column else
                 card(grid[row, column], f"{names[row]} with {names[column]}", "mix")
                 if (row, column) in grid else None
                 for row in range(len(names)) for column in range(len(names))]
        sections[1:] = [Section(
            "The mixes", cells, len(names), "The row's sound leads, the column's colours it; on "
            "the diagonal each sound alone, encoded and decoded again.", names, names)]
    elif mixes:
        sections.append(Section("The mixes", [card(wav, clip.title, "mix") for wav, clip in mixes],
                                4))
    overview, alt = _nsynth_overview(record, names, sources, decoded, planned, drawn,
                                     square_of_mixes)
    return write_page(
        folder / "index.html", "NSynth: two sounds become one",
        f"{len(names)} sound{'s were' if len(names) > 1 else ' was'} encoded by a WaveNet "
        "autoencoder, their encodings mixed, and the mixes decoded sample by sample."
        + _STOPPED * record.stopped, [section for section in sections if section.clips],
        {"sounds": ", ".join(names), "weights": record.weights, "seed": record.seed,
         **record.settings}, record.command, overview, f"{alt} {_RAINBOWGRAM}")


def _is_made(record: Record, wav: Path) -> bool:
    """Whether the run has made the clip; two seconds allow for some file systems' clock."""
    return wav.is_file() and (not record.stopped or wav.stat().st_mtime > record.began - 2)


def _is_square(names: Sequence[str], planned: Sequence[Planned]) -> bool:
    """Whether every sound is mixed with every other."""
    mixes = [clip for clip in planned if clip.kind == "mix"]
    return len(names) > 1 and len(mixes) >= len(names) * (len(names) - 1) / 2


def _draw(record: Record, sounds: dict[Path, np.ndarray]) -> dict[Path, Spectrum]:
    """Save a rainbowgram beside each WAV, under its name; returns what was drawn."""
    drawn = {}
    progress = bar(record, f"drawing {len(sounds)} pictures")
    for done, (wav, audio) in enumerate(sounds.items(), 1):
        drawn[wav] = rainbowgram(audio, SAMPLE_RATE)
        audio_utils.save_picture(audio_utils.spectrum_image(drawn[wav], record.labels),
                                 wav.with_suffix(".png").name, wav.parent, 200)
        progress(done, len(sounds))
    return drawn


def _nsynth_overview(record: Record, names, sources, decoded: dict[int, Path],
                     planned: Sequence[Planned], drawn: dict[Path, Spectrum],
                     square_of_mixes: bool) -> tuple[Path, str]:
    """All rainbowgrams of a run on one sheet; returns it, and what it shows in words."""
    # An encoding has no sound of its own: what was decoded from it stands in its place.
    def cell(place: int) -> Cell | None:
        if sources[place]:
            return Cell(drawn[sources[place]], names[place], "source")
        if place in decoded:
            return Cell(drawn[decoded[place]], names[place], "reconstruction")
        return None

    notes = []
    if any(sources):
        notes.append("framed orange: the sounds" +
                     ", before they were stretched" * ("stretch" in record.settings))
    if not all(sources):
        notes.append("framed blue: the encodings given, decoded")
    mixes = [clip for clip in planned if clip.kind != "reconstruction"]
    if square_of_mixes:
        notes.append("elsewhere: the row's sound mixed with the column's")
        alt = "The sounds on the diagonal and their mixes around it."
        image = square([cell(place) for place in range(len(names))], names,
                       {clip.sources: drawn[clip.path] for clip in mixes if clip.path in drawn},
                       "; ".join(notes))
        return audio_utils.save_picture(image, _overview_name(record), record.output_dir), alt
    if mixes:
        what = {"step": "the steps from one to the other", "crossfade": "one becoming the other",
                "mix": "their mix, the first leads"}[mixes[0].kind]
        rows = []
        for pair in dict.fromkeys(clip.sources for clip in mixes):
            own = [clip for clip in mixes if clip.sources == pair]
            titles = [f"{place} of {len(own)}" if len(own) > 1 else
                      "to" if clip.kind == "crossfade" else "with"
                      for place, clip in enumerate(own, 1)]
            rows.append([cell(pair[0]), *[Cell(drawn[clip.path], title) if clip.path in drawn
                                          else None for clip, title in zip(own, titles)],
                         cell(pair[1])])
        notes.append(f"between two: {what}")
        alt = f"The two sounds of each pair, and between them {what}."
    else:
        rows = [[cell(place), Cell(drawn[decoded[place]], f"{name}, decoded")
                 if place in decoded and sources[place] else None]
                for place, name in enumerate(names)]
        alt = "Each sound, and beside it encoded and decoded again."
        if any(sources):
            notes.append("beside it: encoded and decoded again")
    rows = [[item for item in row if item] for row in rows]
    image = strips([row for row in rows if row], "; ".join(notes))
    return audio_utils.save_picture(image, _overview_name(record), record.output_dir), alt


def _overview_name(record: Record) -> str:
    return f"overview_seed{record.seed}.png"


def gansynth_page(record: Record, planned: Sequence[Planned], notes: Sequence[dict],
                  audios: Sequence[np.ndarray], instruments: Sequence[tuple],
                  keys: Sequence[list] | None = None) -> Path | None:
    """Draw the scores and write the page for the clips that `save_audio` has saved.

    Parameters
    ----------
    record : Record
    planned : sequence of Planned
    notes : sequence of dict
    audios : sequence of float32 [samples]
        Of the clips that are made; may be fewer than planned.
    instruments : sequence of (tuple of int, list of float)
        Of each clip, their numbers, and when each is reached.
    keys : sequence of list of (int, float32 [samples]), optional
        Of a preview, each instrument's notes for a keyboard.

    Returns
    -------
    Path or None
        The page; None if there is no clip, because the run was stopped before.
    """
    clips = list(zip(planned, notes, audios, instruments))
    if not clips:
        return None
    preview = planned[0].kind == "preview"
    pictures, overview = _draw_scores(record, clips)
    cards = []
    for picture, (clip, score, _, _) in zip(pictures, clips):
        alt = f"{clip.title}. {_SPECTROGRAM}" if preview else (
            f"{clip.title}: the notes as a piano roll, coloured by instrument, above the sound. "
            f"{_SPECTROGRAM}")
        cards.append(Clip(clip.title, clip.path, picture, alt, f"{len(score['pitches'])} notes"))
    if preview:
        section = Section(
            "The instruments", cards, 4, "Numbers to play a score with: --instruments 3,7,1@8.0 "
            f"--seed {record.seed} moves from the third to the seventh to the first, which is "
            "reached at 8 seconds.")
        alt = f"A phrase on each of {len(clips)} instruments, numbered. {_SPECTROGRAM}"
    else:
        section = Section("The score" if len(clips) == 1 else "The scores", cards, 1,
                          "Above, the notes in the colours of the instruments; below, what "
                          "became of them.")
        alt = f"{len(clips)} scores, each as a piano roll above its sound. {_SPECTROGRAM}"
    return write_page(
        record.output_dir / "index.html", "GANSynth: instruments that never existed",
        "Every note was generated by a network, on an instrument drawn at random from all those "
        "it can imagine." + _STOPPED * record.stopped,
        [section], {"weights": record.weights, "seed": record.seed, **record.settings},
        record.command, overview, alt)


def _draw_scores(record: Record, clips) -> tuple[list[Path], Path | None]:
    """Draw the clips; returns the picture of each, and the overview where that is another one."""
    name, folder = _overview_name(record), record.output_dir
    if clips[0][0].kind == "preview":
        loud = [np.flatnonzero(np.abs(audio) > 1e-3) for _, _, audio, _ in clips]
        heard = max(int(place[-1]) if len(place) else 0 for place in loud) + SAMPLE_RATE // 10
        sheet = strips([[Cell(spectrogram(audio[:heard], SAMPLE_RATE, 512), str(number))]
                        for number, (_, _, audio, _) in enumerate(clips, 1)],
                       "the phrase on each instrument, under its number")
        return ([clip.path.with_suffix(".png") for clip, _, _, _ in clips],
                audio_utils.save_picture(sheet, name, folder))
    alone = len(clips) == 1
    scores = []
    for clip, notes, audio, (numbers, times) in clips:
        scores.append(Score(notes, audio, np.clip(times, 0, max(notes["end_times"])),
                            [str(number) for number in numbers] or None,
                            "" if alone else clip.title))
    pictures = []
    progress = bar(record, f"drawing {len(clips)} scores")
    for done, (item, (clip, _, _, _)) in enumerate(zip(scores, clips), 1):
        pictures.append(audio_utils.save_picture(
            score_sheet([item]), name if alone else f"{clip.path.stem}_score.png", folder))
        progress(done, len(clips))
    return pictures, None if alone else audio_utils.save_picture(score_sheet(scores), name, folder)
