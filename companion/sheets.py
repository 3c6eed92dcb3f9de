"""Draw the overview of a run: all plots on one sheet, or piano rolls above spectrograms."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont, ImageOps

from companion.clips import Clip
from companion.page import note_name
from companion.page.rolls import instrument_colours, note_colours
from synths.files import writing

warnings.filterwarnings("ignore", "Glyph .* missing")  # missing characters are drawn as boxes
FRAMES = {"source": "#ff7f0e", "reconstruction": "#56b4e9"}
_CELL, _CAPTION, _GAP = (240, 180), 18, 8  # pixels


def overview(path: Path, made: Sequence[Clip], images: Mapping[str, Image.Image]) -> None:
    """Save all plots of a run on one sheet: mixes in a square, other clips in rows."""
    rows = _square(made) or _rows(made)
    columns = max(map(len, rows))
    scale = min(1, max(8 / columns, 0.3))
    cell = int(_CELL[0] * scale), int(_CELL[1] * scale)
    step = cell[0] + _GAP, cell[1] + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * step[0] + _GAP, len(rows) * step[1] + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(findfont("DejaVu Sans"), 12)
    for top, row in enumerate(rows):
        for left, clip in enumerate(row):
            if clip is None:
                continue
            x, y = _GAP + left * step[0], _GAP + top * step[1]
            image = images[clip.name].resize(cell)
            if clip.kind in FRAMES:
                image = ImageOps.expand(image.crop((3, 3, cell[0] - 3, cell[1] - 3)), 3,
                                        FRAMES[clip.kind])
            draw.text((x, y), _fitted(clip.title.replace("instrument ", ""), font, cell[0]),
                      "black", font)
            sheet.paste(image, (x, y + _CAPTION))
    with writing(path) as file:
        sheet.save(file, "PNG", compress_level=1)


def _fitted(words: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while font.getlength(words) > width:
        words = f"{words[:-2]}\N{HORIZONTAL ELLIPSIS}"
    return words


def _square(made: Sequence[Clip]) -> list[list[Clip | None]]:
    """Return a square of all mixes with the sources on the diagonal, or [] if a mix is missing."""
    mixes = {clip.sources: clip for clip in made if clip.kind == "mix"}
    names = list(dict.fromkeys(name for pair in mixes for name in pair))
    alone = {clip.sources[0]: clip for kind in ("reconstruction", "source") for clip in made
             if clip.kind == kind}
    if len(mixes) < len(names) * (len(names) - 1) or len(names) < 2:
        return []
    return [[alone.get(row) if row == column else mixes[row, column] for column in names]
            for row in names]


def _rows(made: Sequence[Clip]) -> list[list[Clip | None]]:
    """Return one row of clips for each pair, or rows of single clips if there are no pairs."""
    pairs: dict[tuple[str, ...], list[Clip]] = {}
    for clip in made:
        if clip.kind in ("mix", "step", "crossfade"):
            pairs.setdefault(clip.sources, []).append(clip)
    sources = {clip.sources[0]: clip for clip in made if clip.kind == "source"}
    if pairs:
        return [[sources.get(pair[0]), *group, sources.get(pair[1])]
                for pair, group in pairs.items()]
    across = max(2, math.ceil(math.sqrt(len(made))))
    return [list(made[start:start + across]) for start in range(0, len(made), across)]


def scores(path: Path, made: Sequence[Clip], images: Mapping[str, Image.Image],
           scores: Mapping) -> None:
    """Save scores as piano rolls in the colours of the instruments, above their spectrograms."""
    figure = Figure((12, 7.5 if len(made) == 1 else 5 * len(made)), dpi=100, layout="constrained")
    axes = figure.subplots(2 * len(made), 1, squeeze=False)[:, 0]
    for index, clip in enumerate(made):
        roll, sound = axes[2 * index:2 * index + 2]
        _draw_roll(roll, scores[clip.name])
        roll.set_title(clip.title, loc="left")
        show(sound, images[clip.name], _seconds(path.with_name(f"{clip.name}.wav")), 5)
        roll.set_xlim(sound.get_xlim())
    with writing(path) as file:
        figure.savefig(file, format="png")


def _draw_roll(axes, score) -> None:
    notes, times = score.notes, np.asarray(score.times, float)
    names = list(score.names)
    starts, pitches = np.asarray(notes["start_times"]), np.asarray(notes["pitches"])
    strength = 0.35 + 0.65 * np.asarray(notes["velocities"])[:, None] / 127
    colours = 1 + strength * (note_colours(starts, times.tolist(), names) / 255 - 1)
    axes.barh(pitches, np.asarray(notes["end_times"]) - starts, 0.9, starts, color=colours)
    low, high = int(pitches.min()), int(pitches.max())
    marked = [pitch for pitch in range(low - 1, high + 2) if pitch % 12 == 0] or [low]
    axes.set_yticks(marked, [note_name(pitch) for pitch in marked])
    axes.set_ylabel("score")
    previous = ""
    for time, name, colour in zip(times, names, instrument_colours(names) / 255):
        if name != previous:
            axes.text(max(0, time), high + 1.2, name, color=colour, weight="bold", clip_on=True)
        previous = name
    axes.set_ylim(low - 1.5, high + 3)


def show(axes, image: Image.Image, seconds: float, octaves: int) -> None:
    """Show a plot on Matplotlib axes that are labelled with seconds and notes from C2."""
    axes.imshow(np.asarray(image), aspect="auto", extent=(0, seconds, 0, octaves))
    axes.set_yticks(range(octaves), [f"C{octave + 2}" for octave in range(octaves)])
    axes.set_xlabel("seconds")


def label(path: Path, image: Image.Image, octaves: int) -> None:
    """Save a plot again with axes in seconds, notes and hertz."""
    figure = Figure((6.4, 4.8), dpi=200, layout="constrained")
    axes = figure.subplots()
    show(axes, image, _seconds(path.with_suffix(".wav")), octaves)
    hertz = axes.secondary_yaxis("right")
    hertz.set_yticks(range(octaves), [f"{65.4 * 2 ** octave:.0f} Hz" for octave in range(octaves)])
    with writing(path) as file:
        figure.savefig(file, format="png")


def _seconds(path: Path) -> float:
    import soundfile

    return soundfile.info(path).duration
