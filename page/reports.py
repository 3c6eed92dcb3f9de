"""What a run leaves beside its sounds: a picture of each, an overview, and the page to listen on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import audio_utils
from page import Clip, Section, write_page
from script_utils import command_line, progress
from synths import score

SAMPLE_RATE = 16000
_RAINBOWGRAM = ("Rainbowgram: time from left to right, pitch from bottom (C2) to top (C8), "
                "brightness is loudness, colour is how the phase turns.")
_SPECTROGRAM = ("Constant-Q spectrogram: time from left to right, pitch from bottom (C2) to top "
                "(C7), brightness is loudness.")


def nsynth_page(options, output_dir: Path, names: Sequence[str], audios: Sequence[np.ndarray],
                wavs: Sequence[Path]) -> Path:
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
    wavs : sequence of Path
        The decoded clips: first each source reconstructed, then the mixes.

    Returns
    -------
    Path
        The page.
    """
    count = len(names)
    source_wavs = [output_dir / f"source_{name}.wav" for name in names]
    sounds = {}
    for wav, audio in zip(source_wavs, audios):
        if audio is not None:
            audio_utils.save_wav(audio, wav, SAMPLE_RATE)
            sounds[wav] = audio
    sounds.update((wav, audio_utils.load_audio(wav)) for wav in wavs)
    pictures = _pictures(options, sounds, audio_utils.save_rainbowgram_plot)

    def clip(wav: Path, title: str, kind: str, note: str = "") -> Clip:
        return Clip(title, wav, pictures[wav], f"{title}. {_RAINBOWGRAM}", note, kind)

    sources = [clip(wav, name, "source", "the sound that was encoded")
               for wav, name in zip(source_wavs, names) if wav in sounds]
    seed = f"_seed{options.seed}"
    reconstructions = [clip(wav, name, "reconstruction", "encoded and decoded again")
                       for wav, name in zip(wavs, names)]
    mixes = {wav.stem.removesuffix(seed): wav for wav in wavs[count:]}
    sections = [Section("The sounds", sources, 4),
                Section("Reconstructed", reconstructions, 4,
                        "Each sound through the network and back: what is lost here is lost in "
                        "every mix.")]
    grid = [[mixes.get(f"{first}_{second}") for second in names] for first in names]
    overview = None
    if 2 <= count <= 6 and sum(wav is not None for row in grid for wav in row) == len(mixes) > 0:
        originals = [sounds[wavs[place] if audio is None else source_wavs[place]]
                     for place, audio in enumerate(audios)]
        overview = audio_utils.save_overview_plot(
            originals, names, {(row, column): sounds[wav] for row, line in enumerate(grid)
                               for column, wav in enumerate(line) if wav},
            f"overview{seed}.png", output_dir)
        cells = [clip(wav, f"{names[row]} with {names[column]}", "mix") if wav else
                 (reconstructions[row] if row == column else None)
                 for row, line in enumerate(grid) for column, wav in enumerate(line)]
        sections[1:] = [Section(
            "The mixes", cells, count, "The row's sound leads, the column's colours it; on the "
            "diagonal each sound alone, encoded and decoded again.", names, names)]
    elif mixes:
        per_row = options.steps if options.steps and options.steps <= 8 else 4
        sections.append(Section("The mixes", [clip(wav, _in_words(name), "mix")
                                              for name, wav in mixes.items()], per_row))
    return write_page(
        output_dir / "index.html", "NSynth: two sounds become one",
        f"{count} sounds were encoded by a WaveNet autoencoder, their encodings mixed, and the "
        "mixes decoded sample by sample.",
        sections, _settings(options, sounds=", ".join(names)), command_line(options), overview,
        f"The sounds on the diagonal and their mixes around it. {_RAINBOWGRAM}")


def _in_words(name: str) -> str:
    """ "bass_flute_step2of5" as "bass flute, step 2 of 5"."""
    return re.sub(r"_step0*(\d+)of(\d+)$", r", step \1 of \2", name).replace("_", " ")


def _pictures(options, sounds: dict, draw) -> dict[Path, Path]:
    """A picture beside each WAV, under its name."""
    pictures = {}
    with progress(options, f"drawing {len(sounds)} pictures", unit="") as bar:
        for done, (wav, audio) in enumerate(sounds.items(), 1):
            pictures[wav] = draw(audio, SAMPLE_RATE, wav.with_suffix(".png").name, wav.parent,
                                 labelled=options.labels)
            bar(done, len(sounds))
    return pictures


def _settings(options, **first) -> dict[str, object]:
    """The run's settings for the page, those worth reading first."""
    hidden = {"checkpoint", "output", "overwrite", "quiet", "download", "threads", "labels", "sounds", "midi"}
    rest = {name.replace("_", " "): "yes" if value is True else value
            for name, value in vars(options).items()
            if name not in hidden and value not in (None, False)}
    return {**first, **rest}


def gansynth_page(options, output_dir: Path, clips: Sequence[tuple[str, dict, np.ndarray]]) -> Path:
    """Write the page for the clips that `save_audio` has saved.

    Parameters
    ----------
    options
        The script's options.
    output_dir : Path
    clips : sequence of (str, dict, float32 [samples])
        Name of the clip's files without ending, its notes, its audio.

    Returns
    -------
    Path
        The page.
    """
    cards = []
    with progress(options, f"drawing {len(clips)} pictures") as bar:
        for done, (stem, notes, audio) in enumerate(clips, 1):
            title = stem.removesuffix(f"_seed{options.seed}")
            picture, alt = output_dir / f"{stem}.png", f"{title}. {_SPECTROGRAM}"
            if not options.preview:  # a phrase of six notes explains itself
                picture = _score_picture(options, output_dir, stem, notes, audio)
                alt = (f"{title}: the notes as a piano roll, coloured by instrument, above the "
                       f"sound. {_SPECTROGRAM}")
            cards.append(Clip(title, output_dir / f"{stem}.wav", picture, alt,
                              f"{len(notes['pitches'])} notes"))
            bar(done, len(clips))
    if options.preview:
        section = Section(
            "The instruments", cards, 4, "Numbers to play a score with: --instruments 3,7,1@8.0 "
            f"--seed {options.seed} moves from the third to the seventh to the first, which is "
            "reached at 8 seconds.")
    else:
        section = Section("The score" if len(clips) == 1 else "The scores", cards, 1,
                          "Above, the notes in the colours of the instruments; below, what "
                          "became of them.")
    return write_page(
        output_dir / "index.html", "GANSynth: instruments that never existed",
        "Every note was generated by a network, on an instrument drawn at random from all those "
        "it can imagine.",
        [section], _settings(options), command_line(options))


def _score_picture(options, output_dir: Path, stem: str, notes: dict, audio: np.ndarray) -> Path:
    """Piano roll and spectrogram, with the instruments where the run has placed them."""
    _, times = score.load_instruments(output_dir / f"{stem}_instruments.npz")
    names = None
    if options.instruments and not Path(options.instruments).suffix:
        words = [word.split("@")[0].strip() for word in options.instruments.split(",")]
        names = words * 2 if len(words) == 1 else words  # one alone stands at both ends
    end = max(notes["end_times"])
    return audio_utils.save_score_plot(notes, audio, np.clip(times, 0, end), names,
                                       f"{stem}_score.png", output_dir)
