"""Sheets: one spectrum with its axes, all those of a run, a score above its sound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pictures.sheet import (BLUE, EMPTY, ORANGE, SOFT, Box, Sheet, hertz_marks, octave_marks,
                            second_marks, wrapped)
from pictures.spectra import SPECTROGRAM, Spectrum, checked, spectrogram
from synths import InputError

NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Okabe and Ito's colours, told apart by all eyes, but for black and yellow (pale on white)
INSTRUMENT_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233),
                      (230, 159, 0))
FRAMES = {"source": ORANGE, "reconstruction": BLUE}
_CELL = (172.8, 144.0)  # the largest cell
_ACROSS = 792.0  # what the cells of a sheet share where there are many


@dataclass(frozen=True)
class Cell:
    """A spectrum on a sheet.

    Parameters
    ----------
    spectrum : Spectrum
    title : str
        Above it.
    kind : str
        A key of `FRAMES`, or anything else for no frame.
    """

    spectrum: Spectrum
    title: str = ""
    kind: str = "mix"


def labelled(spectrum: Spectrum, title: str | None = None, size: tuple[float, float] = (6.4, 4.8),
             dpi: int = 200) -> Image.Image:
    """One spectrum with axes (note names, Hz, seconds) and the scale of its colours.

    Parameters
    ----------
    size : (float, float)
        Of the sheet, in inches.
    """
    width, height = size[0] * 72, size[1] * 72
    sheet = Sheet(width, height, dpi)
    box = (30, 26 if title else 22, width - 102, height - 34)
    sheet.spectrum(box, spectrum, spectrum.seconds)
    sheet.frame(box)
    sheet.ticks_below(box, second_marks(spectrum.seconds))
    sheet.text((box[0] + box[2]) / 2, height - 10, "seconds")
    sheet.ticks_beside(box, octave_marks(spectrum.transform))
    sheet.ticks_beside(box, hertz_marks(spectrum.transform), right_side=True)
    sheet.text(box[2] + 5, box[1] - 4, "Hz", 8, "lb")
    sheet.scale_of((width - 60, box[1], width - 48, box[3]), spectrum.transform)
    if title:
        sheet.text(box[0], 12, sheet.fitted(title, box[2] - box[0], 11), 11, "lm")
    return sheet.image


def square(sources: Sequence[Cell | None], names: Sequence[str],
           mixes: Mapping[tuple[int, int], Spectrum], note: str = "", title: str = "",
           dpi: int = 150) -> Image.Image:
    """All sources and all mixes in a square.

    The sources stand on the diagonal, framed; the mix of sources i and j in row i and column j.

    Parameters
    ----------
    sources : sequence of n cells or None
    names : sequence of n str
    mixes : mapping of (i, j), counted from 0, to spectra
        A mix that is missing leaves its place empty.
    note : str
        Below.

    Raises
    ------
    InputError
        If there is no source, there are not as many names as sources, or a mix is of a source that
        is not there.
    """
    count = len(sources)
    if not count or len(names) != count:
        raise InputError("Each sound of an overview needs one name: there are "
                         f"{count} sounds and {len(names)} names.")
    if any(not (0 <= i < count and 0 <= j < count and i != j) for i, j in mixes):
        raise InputError(f"A mix is of two of the {count} sounds, counted from 0; "
                         f"there are mixes of {sorted(mixes)}.")
    cells = [[sources[i] if i == j else Cell(mixes[i, j]) if (i, j) in mixes else None
              for j in range(count)] for i in range(count)]
    return _table(cells, names, title, note, dpi)


def strips(rows: Sequence[Sequence[Cell]], note: str = "", title: str = "",
           dpi: int = 150) -> Image.Image:
    """Rows of cells that belong together, each cell under its title.

    Short rows stand side by side and long ones go on in the next line, so that the sheet is about
    as high as it is wide.

    Parameters
    ----------
    rows : sequence of sequences of cells
        At least one cell in all.
    note : str
        Below: what the rows are.
    """
    longest = max(map(len, rows))
    # The number side by side whose sheet is nearest to 4 by 3, as far as its cells stay readable
    fits = [across for across in range(1, len(rows) + 1) if across == 1 or across * longest <= 16]
    across = min(fits, key=lambda across: abs(math.log(
        across * longest * 1.2 / math.ceil(len(rows) / across) / (4 / 3))))
    lines: list[list[Cell | None]] = []
    if longest > 8:
        even = {math.ceil(longest / parts) for parts in range(1, longest)}
        columns = min((n for n in even if 4 <= n <= 12), key=lambda columns: abs(math.log(
            columns * 1.2 / (len(rows) * math.ceil(longest / columns)) / (4 / 3))))
        for row in rows:
            lines += [list(row[i:i + columns]) for i in range(0, len(row), columns)]
    else:
        for start in range(0, len(rows), across):
            lines.append([cell for row in rows[start:start + across]
                          for cell in [*row, *[None] * (longest - len(row))]])
    return _table(lines, None, title, note, dpi, group=longest if across > 1 < longest else 0)


def _table(lines: Sequence[Sequence[Cell | None]], names: Sequence[str] | None, title: str,
           note: str, dpi: int, group: int = 0) -> Image.Image:
    """Cells in lines: named by row and column, or each under its title.

    After each `group` cells of a line is a gap.
    """
    columns = max(map(len, lines))
    share = min(1.0, max(_ACROSS / (columns * _CELL[0]), 0.21))
    width, height = _CELL[0] * share, _CELL[1] * share
    present = [cell for line in lines for cell in line if cell]
    seconds = max(cell.spectrum.seconds for cell in present)
    transform = present[0].spectrum.transform
    size = 11 if share > 0.5 else 8

    # Names that do not fit their cells are numbers, explained below.
    measure, legend = Sheet(1, 1, dpi), []
    titles = names if names is not None else [cell.title for cell in present]
    shown = dict(zip(titles, titles))
    room = width if names is None else min(width, height)
    if any(measure.width_of(words, size) > room for words in titles):
        shown = {words: str(i) for i, words in enumerate(dict.fromkeys(titles), 1)}
        legend = [f"{number} {words}" for words, number in shown.items()]

    gap, between = max(4, 0.08 * width), 16 if group else 0
    above = size + 5 if names is None else max(4, 0.08 * height)
    left = 30 + (16 if names is not None else 0)
    lefts = [left + i * (width + gap) + (i // group if group else 0) * between
             for i in range(columns)]
    sheet_width = lefts[-1] + width + 66
    legend = wrapped(measure, legend, sheet_width - left - 8, 8)
    notes = wrapped(measure, note.split(), sheet_width - 16, 9, " ")
    top = 8 + (20 if title else 0) + size + 5
    tops = [top + i * (height + above) for i in range(len(lines))]
    bottom = tops[-1] + height
    sheet = Sheet(sheet_width, bottom + 34 + 13 * len(notes) + 11 * len(legend), dpi)
    if title:
        sheet.text(left, 14, title, 12, "lm", bold=True)
    for y, line in zip(tops, lines):
        for x, cell in zip(lefts, line):
            box = (x, y, x + width, y + height)
            if cell is None:
                if names is not None:
                    sheet.box(box, EMPTY)
                continue
            sheet.spectrum(box, cell.spectrum, seconds)
            if cell.kind in FRAMES:
                sheet.frame(box, FRAMES[cell.kind], 2.2 if share > 0.5 else 1.4)
            if names is None:
                sheet.text(x, y - 3, shown[cell.title], size, "ls")
    if names is not None:
        for x, y, words in zip(lefts, tops, names):
            sheet.text(x + width / 2, top - 4, shown[words], size, "ms")
            sheet.text(9, y + height / 2, shown[words], size, turned=True)
    roomy = share > 0.4
    for y in tops:
        sheet.ticks_beside((left, y, left, y + height),
                           octave_marks(transform, 1 if height > 130 and transform is SPECTROGRAM
                                        else 2 if height > 50 else 4), 8 if roomy else 7)
    for i, x in enumerate(lefts):
        column = [y for y, line in zip(tops, lines) if len(line) > i
                  and (names is not None or line[i])]
        if column and (roomy or i == 0):
            marks = second_marks(seconds, 3 if roomy else 1)
            if gap < 14 and i + 1 < columns:  # the end of one would run into the next one's 0
                marks = {place: words for place, words in marks.items() if place < 0.95} or marks
            sheet.ticks_below((x, 0, x + width, column[-1] + height), marks, 8 if roomy else 7)
    sheet.text((left + lefts[-1] + width) / 2, bottom + 24, "seconds")
    for i, words in enumerate(notes):
        sheet.text(sheet_width / 2, bottom + 38 + 13 * i, words)
    for i, words in enumerate(legend):
        sheet.text(left, bottom + 37 + 13 * len(notes) + 11 * i, words, 8, "lm")
    sheet.scale_of((lefts[-1] + width + 12, top, lefts[-1] + width + 22, min(bottom, top + 600)),
                   transform)
    return sheet.image


@dataclass(frozen=True)
class Score:
    """A score and what became of it.

    Parameters
    ----------
    notes : mapping
        "pitches" and "velocities" (MIDI), "start_times" and "end_times" (seconds), one entry per
        note each.
    audio : array [samples], float in [-1, 1], 16 kHz
    t_instruments : sequence of k floats
        Seconds at which each instrument sounds unmixed, ascending.
    instrument_names : sequence of k str, optional
        The same name has the same colour; 1, 2, 3 ... if None.
    title : str
        Above it.

    Raises
    ------
    InputError
        If there are not as many names as instruments.
    """

    notes: Mapping[str, Any]
    audio: Any
    t_instruments: Sequence[float] = ()
    instrument_names: Sequence[str] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        if self.instrument_names is not None and len(self.instrument_names) != len(
                self.t_instruments):
            raise InputError("Each instrument needs one name: there are "
                             f"{len(self.t_instruments)} instruments and "
                             f"{len(self.instrument_names)} names.")


def score_sheet(scores: Sequence[Score], sample_rate: int = 16000, dpi: int = 150) -> Image.Image:
    """Scores as piano rolls, each above the constant-Q spectrogram of its sound.

    A note has the colour of its instrument; between two instruments the colour moves from one to
    the other as the timbre does.  A softer note is paler.  One score fills 12 by 7.5 inches;
    several stand in one or more columns, smaller.
    """
    columns = 1 if len(scores) < 3 else math.ceil(math.sqrt(len(scores) / 1.5))
    rows = math.ceil(len(scores) / columns)
    width, height = (864, 540) if len(scores) == 1 else (
        (864, 330) if columns == 1 else (max(864 / columns, 240), 220))
    sheet = Sheet(width * columns, height * rows, dpi)
    for place, score in enumerate(scores):
        y, x = divmod(place, columns)
        _draw_score(sheet, (x * width, y * height, (x + 1) * width, (y + 1) * height), score,
                    sample_rate)
    return sheet.image


def _draw_score(sheet: Sheet, place: Box, score: Score, sample_rate: int) -> None:
    """A score within a box of the sheet."""
    audio = checked(score.audio)
    times = np.asarray(score.t_instruments, float)
    names = ([str(i + 1) for i in range(len(times))] if score.instrument_names is None
             else list(score.instrument_names))
    starts, ends, pitches, velocities = (
        np.asarray(score.notes[key], float)
        for key in ("start_times", "end_times", "pitches", "velocities"))
    seconds = max(len(audio) / sample_rate, ends.max(initial=0))

    # Where what stands: the roll, the strip of instruments, the spectrogram
    small = place[2] - place[0] < 500
    left, right = place[0] + (62 if not small else 30), place[2] - (66 if not small else 8)
    top = place[1] + (20 if score.title else 6)
    room = place[3] - 34 - top
    roll = (left, top, right, top + 0.4 * room)
    strip = (left, roll[3] + 8, right, roll[3] + 8 + max(8, 0.03 * room))
    sound = (left, strip[3] + 8, right, top + room)

    def across(second: float) -> float:
        return left + (right - left) * second / seconds

    low, high = (pitches.min(), pitches.max()) if len(pitches) else (60, 60)

    def share(pitch: float) -> float:
        return (pitch - low + 1.5) / (high - low + 3)

    def down(pitch: float) -> float:
        return roll[3] - (roll[3] - roll[1]) * share(pitch)

    classes = "C" if high - low > 36 else "CG" if high - low > 12 else "CDEFGAB"
    if small:
        classes = "C" if high - low > 5 else "CDEFGAB"
    marks = {p: f"{NOTE_NAMES[p % 12]}{p // 12 - 1}" for p in range(int(low) - 1, int(high) + 2)
             if NOTE_NAMES[p % 12] in classes}
    for pitch in marks:
        sheet.box((left, down(pitch) - 0.3, right, down(pitch) + 0.3), (229, 229, 229))
    strength = (0.35 + 0.65 * np.clip(velocities, 0, 127) / 127)[:, None]
    colours = 255 - strength * (255 - _instrument_colours(starts, times, names))
    for start, end, pitch, colour in zip(starts, ends, pitches, np.rint(colours).astype(int)):
        sheet.box((across(start), down(pitch + 0.45), across(end), down(pitch - 0.45)),
                  tuple(colour.tolist()))

    x = (np.arange(1000) + 0.5) / 1000 * seconds
    sheet.pixels(strip, np.rint(_instrument_colours(x, times, names)).astype(np.uint8)[None])
    hop = 512
    while len(audio) > 2000 * hop:
        hop *= 2
    sheet.spectrum(sound, spectrogram(audio, sample_rate, hop), seconds)

    last = -math.inf
    for time, name in zip(np.clip(times, 0, seconds), names):
        sheet.upright(across(time), roll[1], roll[3], SOFT)
        sheet.upright(across(time), sound[1], sound[3], (200, 200, 200))
        at_end = time > seconds * 0.99
        width = sheet.width_of(name, 8, bold=True)
        if across(time) - last >= (2 * width if at_end else width) + 4:  # else they would overlap
            sheet.text(across(time) + (-3 if at_end else 3), (strip[1] + strip[3]) / 2, name, 8,
                       "rm" if at_end else "lm", (255, 255, 255), bold=True)
            last = across(time)

    for box in (roll, strip, sound):
        sheet.frame(box)
    sheet.ticks_beside(roll, {share(pitch): words for pitch, words in marks.items()})
    sheet.ticks_beside(sound, octave_marks(SPECTROGRAM, 2 if small else 1))
    sheet.ticks_below(sound, second_marks(seconds))
    sheet.text((left + right) / 2, sound[3] + 25, "seconds")
    if score.title:
        sheet.text(left, place[1] + 11, sheet.fitted(score.title, right - left, 11), 11, "lm")
    if small:
        return
    sheet.text(place[0] + 16, (roll[1] + roll[3]) / 2, "score", turned=True)
    sheet.text(left - 5, (strip[1] + strip[3]) / 2, "instrument", anchor="rm")
    sheet.text(place[0] + 16, (sound[1] + sound[3]) / 2, "sound", turned=True)
    sheet.scale_of((right + 10, sound[1], right + 20, sound[3]), SPECTROGRAM)


def _instrument_colours(seconds: np.ndarray, times: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """RGB [n, 3], to 255, at each time, between the colours of the instruments around it."""
    if not len(times):
        return np.full((len(seconds), 3), 77.0)
    kinds = list(dict.fromkeys(names))
    palette = np.array([INSTRUMENT_COLOURS[kinds.index(name) % len(INSTRUMENT_COLOURS)]
                        for name in names], float)
    return np.column_stack([np.interp(seconds, times, channel) for channel in palette.T])
