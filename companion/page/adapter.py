"""Pages of the scripts' own records: draws the pictures, and translates `Planned` into `Clip`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import audio_utils
from companion.clips import Clip
from companion.page import write_index, write_page
from companion.page.reports import Extra, Run, Score, page_of
from companion.progress import bar
from companion.record import Planned, Record
from companion.start import HERE
from pictures import sheets
from pictures.spectra import Spectrum, rainbowgram, scaled, spectrogram


def nsynth_page(record: Record, names: Sequence[str], audios: Sequence[np.ndarray | None],
                planned: Sequence[Planned]) -> Path | None:
    """Save the sources next to the clips, draw them all, and write the page."""
    clips = [Clip(f"source_{name}", name, "source", (name,), (1.0,))
             for name, audio in zip(names, audios) if audio is not None]
    for clip, audio in zip(clips, (audio for audio in audios if audio is not None)):
        audio_utils.save_wav(audio, record.output_dir / f"{clip.name}.wav")
    clips += [Clip(item.path.stem, item.title, item.kind,
                   tuple(names[place] for place in item.sources), item.shares, item.identity)
              for item in planned]
    made = [clip for clip in clips if (record.output_dir / f"{clip.name}.wav").is_file()]
    drawn: dict[str, Spectrum] = {}
    progress = bar(record, f"drawing {len(made)} pictures")
    for clip in made:
        drawn[clip.name] = rainbowgram(audio_utils.load_audio(
            record.output_dir / f"{clip.name}.wav"))
        audio_utils.save_picture(audio_utils.spectrum_image(drawn[clip.name], record.labels),
                                 f"{clip.name}.png", record.output_dir, 200)
        progress(len(drawn), len(made))
    if not any(clip.kind != "source" for clip in made):
        return None
    _save_overview(record, names, made, drawn)
    return _write(record, clips, {name: Extra(scaled(spectrum, 480, 320))
                                  for name, spectrum in drawn.items()},
                  {"sounds": ", ".join(names)})


def _save_overview(record: Record, names: Sequence[str], made: Sequence[Clip],
                   drawn: Mapping[str, Spectrum]) -> None:
    alone: dict[str, sheets.Cell] = {}
    for kind in ("reconstruction", "source"):
        alone.update({clip.sources[0]: sheets.Cell(drawn[clip.name], clip.sources[0], kind)
                      for clip in made if clip.kind == kind})
    pairs: dict[tuple[str, ...], list[Clip]] = {}
    for clip in made:
        if clip.kind not in ("source", "reconstruction"):
            pairs.setdefault(clip.sources, []).append(clip)
    note = "framed orange: the sounds"
    if 0 < len(names) * (len(names) - 1) // 2 <= len(pairs) and len(names) <= 24 and all(
            clips[0].kind == "mix" for clips in pairs.values()):
        image = sheets.square([alone.get(name) for name in names], names,
                              {tuple(map(list(names).index, pair)): drawn[clips[0].name]
                               for pair, clips in pairs.items()},
                              f"{note}; elsewhere: the row's sound mixed with the column's")
    else:
        rows = [[alone.get(first), *[sheets.Cell(drawn[clip.name], clip.title) for clip in clips],
                 alone.get(last)] for (first, last), clips in pairs.items()] or [
            [cell] for cell in alone.values()]
        image = sheets.strips([[cell for cell in row if cell] for row in rows], note)
    audio_utils.save_picture(image, "overview.png", record.output_dir)


def gansynth_page(record: Record, planned: Sequence[Planned], notes: Sequence[Mapping],
                  audios: Sequence[np.ndarray],
                  instruments: Sequence[tuple[Sequence[int], Sequence[float]]],
                  keys: Sequence[Sequence[tuple[int, np.ndarray]]]) -> Path | None:
    """Draw the scores, or the instruments of a preview, and write the page."""
    clips = [Clip(item.path.stem, f"instrument {number}" if item.kind == "preview" else item.title,
                  item.kind) for number, item in enumerate(planned, 1)]
    extras, drawn = {}, []
    for clip, scored, audio, (numbers, times), own in zip(clips, notes, audios, instruments, keys):
        if clip.kind == "preview":
            drawn.append(spectrogram(audio, hop_length=512))
            extras[clip.name] = Extra(scaled(drawn[-1], 480, 320), keys=own)
            continue
        names = [str(number) for number in numbers or range(1, len(times) + 1)]
        names *= len(times) if len(names) == 1 else 1
        sheet = sheets.Score(scored, audio, np.clip(times, 0, np.max(scored["end_times"])), names,
                             "" if len(planned) == 1 else clip.title)
        drawn.append(sheet)
        extras[clip.name] = Extra(scaled(sheet.spectrum, 1200, 320),
                                  score=Score(scored, names, times))
    if not drawn:
        return None
    audio_utils.save_picture(
        sheets.strips([[sheets.Cell(spectrum, str(number))] for number, spectrum in
                       enumerate(drawn, 1)], "the phrase on each instrument, under its number")
        if clips[0].kind == "preview" else sheets.score_sheet(drawn), "overview.png",
        record.output_dir)
    return _write(record, clips, extras, {})


def _write(record: Record, clips: Sequence[Clip], extras: Mapping[str, Extra],
           first: Mapping[str, object]) -> Path | None:
    page = page_of(record.output_dir, clips, Run(
        record.command, {**first, **record.settings, "weights": record.weights}, record.seed,
        record.starter, resume=record.resume), extras)
    if page is None:
        return None
    path = write_page(record.output_dir, page)
    if HERE / "output" in path.parents:  # a folder elsewhere is the user's own
        write_index(HERE / "output")
    return path
