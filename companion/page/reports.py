"""What a run leaves beside its sounds: a picture of each, an overview, the page to listen on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import audio_utils
from companion.page import Clip, Section, write_page
from companion.script import command_line, progress
from pictures.sheets import Cell, Score, score_sheet, square, strips
from pictures.spectra import Spectrum, rainbowgram, spectrogram
from synths.gansynth import score

SAMPLE_RATE = 16000
_RAINBOWGRAM = ("Rainbowgram: time from left to right, pitch from bottom (C2) to top (C8), "
                "brightness is loudness, colour is how the phase turns.")
_SPECTROGRAM = ("Constant-Q spectrogram: time from left to right, pitch from bottom (C2) to top "
                "(C7), brightness is loudness.")
_STOPPED = " The run was stopped: this is what was finished."


def nsynth_page(options, output_dir: Path, names: Sequence[str],
                audios: Sequence[np.ndarray | None], pairs: Sequence[tuple[int, int]],
                clips_name: Sequence[str]) -> Path | None:
    """Save the sources beside the decoded clips, draw them all, and write the page.

    Parameters
    ----------
    options
        The script's options.
    output_dir : Path
    names : sequence of str
        Short names of the sources.
    audios : sequence of float32 [samples] or None
        The sources as they were encoded; None for one that was given as an encoding.
    pairs : sequence of (int, int)
        What was mixed, by place.
    clips_name : sequence of str
        The decoded clips in `output_dir`: first each source reconstructed, then the mixes, pair
        by pair.

    Returns
    -------
    Path or None
        The page; None if nothing was decoded before the run was stopped.
    """
    wavs = [output_dir / f"{name}.wav" for name in clips_name]
    if options.stopped:
        # two seconds: the clock of some file systems
        wavs = [wav if wav.is_file() and wav.stat().st_mtime > options.began - 2 else None
                for wav in wavs]
    made = [wav for wav in wavs if wav]
    if not made:
        return None
    sources = [None if audio is None else output_dir / f"source_{name}.wav"
               for name, audio in zip(names, audios)]
    sounds = {}
    for wav, audio in zip(sources, audios):
        if wav:
            audio_utils.save_wav(audio, wav, SAMPLE_RATE)
            sounds[wav] = audio
    sounds.update((wav, audio_utils.load_audio(wav)) for wav in made)
    drawn = _draw(options, sounds)

    def clip(wav: Path, title: str, kind: str, note: str = "") -> Clip:
        if options.stopped and wav not in sources:
            note = f"as far as it got: {len(sounds[wav]) / SAMPLE_RATE:.2f} s"
        return Clip(title, wav, wav.with_suffix(".png"), f"{title}. {_RAINBOWGRAM}", note, kind)

    decoded, mixes = wavs[:len(names)], wavs[len(names):]
    reconstructions = [clip(wav, name, "reconstruction", "encoded and decoded again") if wav
                       else None for wav, name in zip(decoded, names)]
    sections = [Section("The sounds", [clip(wav, name, "source", "the sound that was encoded")
                                       for wav, name in zip(sources, names) if wav], 4),
                Section("Reconstructed", [card for card in reconstructions if card], 4,
                        "Each sound through the network and back: what is lost here is lost in "
                        "every mix.")]
    grid = None
    if 2 <= len(names) <= 6 and not (options.steps or options.crossfade or options.pairs):
        grid = dict(zip(pairs, mixes))
        cells = [reconstructions[row] if row == column else
                 clip(grid[row, column], f"{names[row]} with {names[column]}", "mix")
                 if grid.get((row, column)) else None
                 for row in range(len(names)) for column in range(len(names))]
        sections[1:] = [Section(
            "The mixes", cells, len(names), "The row's sound leads, the column's colours it; on "
            "the diagonal each sound alone, encoded and decoded again.", names, names)]
    elif mixes:
        per_row = options.steps if options.steps and options.steps <= 8 else 4
        seed = f"_seed{options.seed}"
        sections.append(Section("The mixes", [
            clip(wav, _in_words(wav.stem.removesuffix(seed)), "mix") for wav in mixes if wav],
            per_row))
    overview, alt = _nsynth_overview(options, output_dir, names, sources, decoded, pairs, mixes,
                                     drawn)
    return write_page(
        output_dir / "index.html", "NSynth: two sounds become one",
        f"{len(names)} sound{'s were' if len(names) > 1 else ' was'} encoded by a WaveNet "
        "autoencoder, their encodings mixed, and the mixes decoded sample by sample."
        + _STOPPED * options.stopped,
        [section for section in sections if section.clips],
        _settings(options, sounds=", ".join(names)), command_line(options), overview,
        f"{alt} {_RAINBOWGRAM}")


def _draw(options, sounds: dict[Path, np.ndarray]) -> dict[Path, Spectrum]:
    """Save a rainbowgram beside each WAV, under its name; returns what was drawn."""
    drawn = {}
    with progress(options, f"drawing {len(sounds)} pictures", unit="") as bar:
        for done, (wav, audio) in enumerate(sounds.items(), 1):
            drawn[wav] = rainbowgram(audio, SAMPLE_RATE)
            audio_utils.save_picture(audio_utils.spectrum_image(drawn[wav], options.labels),
                                     wav.with_suffix(".png").name, wav.parent, 200)
            bar(done, len(sounds))
    return drawn


def _nsynth_overview(options, output_dir: Path, names, sources, decoded, pairs, mixes,
                     drawn: dict[Path, Spectrum]) -> tuple[Path, str]:
    """All rainbowgrams of a run on one sheet; returns it, and what it shows in words."""
    # An encoding has no sound of its own: what was decoded from it stands in its place.
    def cell(place: int) -> Cell | None:
        if sources[place]:
            return Cell(drawn[sources[place]], names[place], "source")
        if decoded[place]:
            return Cell(drawn[decoded[place]], names[place], "reconstruction")
        return None

    notes = []
    if any(sources):
        notes.append("framed orange: the sounds" +
                     ", before they were stretched" * (options.stretch != 1))
    if not all(sources):
        notes.append("framed blue: the encodings given, decoded")
    steps = options.steps or 1
    if not pairs:
        rows = [[cell(place), Cell(drawn[wav], f"{names[place]}, decoded") if wav and sources[place]
                 else None] for place, wav in enumerate(decoded)]
        alt = "Each sound, and beside it encoded and decoded again."
        if any(sources):
            notes.append("beside it: encoded and decoded again")
    elif options.steps or options.crossfade or options.pairs:
        rows = []
        for place, (first, second) in enumerate(pairs):
            own = mixes[place * steps:(place + 1) * steps]
            titles = ([f"{step} of {steps}" for step in range(1, steps + 1)] if options.steps else
                      ["to" if options.crossfade else "with"])
            rows.append([cell(first), *[Cell(drawn[wav], title) if wav else None
                                        for wav, title in zip(own, titles)], cell(second)])
        what = ("the steps from one to the other" if options.steps else
                "one becoming the other" if options.crossfade else "their mix, the first leads")
        notes.append(f"between two: {what}")
        alt = f"The two sounds of each pair, and between them {what}."
    else:
        rows = None
        notes.append("elsewhere: the row's sound mixed with the column's")
        alt = "The sounds on the diagonal and their mixes around it."
    if rows is None:
        image = square([cell(place) for place in range(len(names))], names,
                       {pair: drawn[wav] for pair, wav in zip(pairs, mixes) if wav},
                       "; ".join(notes))
    else:
        rows = [[item for item in row if item] for row in rows]
        image = strips([row for row in rows if row], "; ".join(notes))
    return audio_utils.save_picture(image, _overview_name(options), output_dir), alt


def _overview_name(options) -> str:
    return f"overview_seed{options.seed}.png"


def _in_words(name: str) -> str:
    """ "bass_flute_step2of5" as "bass flute, step 2 of 5"."""
    return re.sub(r"_step0*(\d+)of(\d+)$", r", step \1 of \2", name).replace("_", " ")


def _settings(options, **first) -> dict[str, object]:
    """The run's settings for the page, those worth reading first."""
    hidden = {"checkpoint", "output", "overwrite", "quiet", "download", "threads", "labels",
              "sounds", "midi", "began", "stopped"}
    rest = {name.replace("_", " "): "yes" if value is True else
            ", ".join(value) if isinstance(value, list) else value
            for name, value in vars(options).items()
            if name not in hidden and value not in (None, False)}
    return {**first, **rest}


def gansynth_page(options, output_dir: Path,
                  clips: Sequence[tuple[str, dict, np.ndarray]]) -> Path | None:
    """Draw the scores and write the page for the clips that `save_audio` has saved.

    Parameters
    ----------
    options
        The script's options.
    output_dir : Path
    clips : sequence of (str, dict, float32 [samples])
        Name of the clip's files without ending, its notes, its audio.

    Returns
    -------
    Path or None
        The page; None if there is no clip, because the run was stopped before.
    """
    if not clips:
        return None
    titles = [stem.removesuffix(f"_seed{options.seed}") for stem, _, _ in clips]
    pictures, overview = _draw_scores(options, output_dir, clips, titles)
    cards = []
    for title, picture, (stem, notes, _) in zip(titles, pictures, clips):
        alt = f"{title}. {_SPECTROGRAM}" if options.preview else (
            f"{title}: the notes as a piano roll, coloured by instrument, above the sound. "
            f"{_SPECTROGRAM}")
        cards.append(Clip(title, output_dir / f"{stem}.wav", picture, alt,
                          f"{len(notes['pitches'])} notes"))
    if options.preview:
        section = Section(
            "The instruments", cards, 4, "Numbers to play a score with: --instruments 3,7,1@8.0 "
            f"--seed {options.seed} moves from the third to the seventh to the first, which is "
            "reached at 8 seconds.")
        alt = f"A phrase on each of {len(clips)} instruments, numbered. {_SPECTROGRAM}"
    else:
        section = Section("The score" if len(clips) == 1 else "The scores", cards, 1,
                          "Above, the notes in the colours of the instruments; below, what "
                          "became of them.")
        alt = f"{len(clips)} scores, each as a piano roll above its sound. {_SPECTROGRAM}"
    return write_page(
        output_dir / "index.html", "GANSynth: instruments that never existed",
        "Every note was generated by a network, on an instrument drawn at random from all those "
        "it can imagine." + _STOPPED * options.stopped,
        [section], _settings(options), command_line(options), overview, alt)


def _draw_scores(options, output_dir: Path, clips, titles: Sequence[str]
                 ) -> tuple[list[Path], Path | None]:
    """Draw the clips; returns the picture of each, and the overview where that is another one."""
    name = _overview_name(options)
    if options.preview:
        loud = [np.flatnonzero(np.abs(audio) > 1e-3) for _, _, audio in clips]
        heard = max(int(place[-1]) if len(place) else 0 for place in loud) + SAMPLE_RATE // 10
        sheet = strips([[Cell(spectrogram(audio[:heard], SAMPLE_RATE, 512), str(number))]
                        for number, (_, _, audio) in enumerate(clips, 1)],
                       "the phrase on each instrument, under its number")
        return ([output_dir / f"{stem}.png" for stem, _, _ in clips],
                audio_utils.save_picture(sheet, name, output_dir))
    alone = len(clips) == 1
    scores = [_score(options, output_dir, stem, notes, audio, "" if alone else title)
              for title, (stem, notes, audio) in zip(titles, clips)]
    pictures = []
    with progress(options, f"drawing {len(clips)} scores") as bar:
        for done, (item, (stem, _, _)) in enumerate(zip(scores, clips), 1):
            pictures.append(audio_utils.save_picture(
                score_sheet([item]), name if alone else f"{stem}_score.png", output_dir))
            bar(done, len(clips))
    return pictures, None if alone else audio_utils.save_picture(score_sheet(scores), name,
                                                                 output_dir)


def _score(options, output_dir: Path, stem: str, notes: dict, audio: np.ndarray, title: str):
    """What is drawn of a score, with the instruments where the run has placed them."""
    _, times = score.load_instruments(output_dir / f"{stem}_instruments.npz")
    names = None
    if options.instruments and not Path(options.instruments).suffix:
        words = [word.split("@")[0].strip() for word in options.instruments.split(",")]
        names = words * 2 if len(words) == 1 else words  # one alone stands at both ends
    return Score(notes, audio, np.clip(times, 0, max(notes["end_times"])), names, title)
