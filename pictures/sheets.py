"""Sheets: one spectrum with its axes, all those of a run, a score above its sound.

Drawn with Matplotlib, which is imported by the first of them.  Places and sizes are in points (1/72
inch) from the upper left corner; every axes has its place, for a layout engine would take seconds.
Each function that draws a sheet also takes `dark=True`: light words on a dark sheet.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pictures.spectra import (
    RAINBOWGRAM,
    SPECTROGRAM,
    SPECTROGRAM_RANGE,
    Spectrum,
    checked,
    import_matplotlib,
    lowest,
    note_name,
    octave_name,
    rainbow,
    spectrogram,
)
from synths import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from PIL.Image import Image

# Okabe and Ito's colours, told apart by all eyes, but for black and yellow (pale on white)
INSTRUMENT_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233),
                      (230, 159, 0))
FRAMES = {"source": "#ff7f0e", "reconstruction": "#56b4e9"}
STYLE = {"font.size": 9, "axes.labelsize": 9, "axes.titlesize": 11, "axes.titlelocation": "left",
         "axes.titley": 1.0, "axes.titlepad": 4, "axes.linewidth": 0.5, "xtick.labelsize": 8,
         "ytick.labelsize": 8, "xtick.major.size": 3, "ytick.major.size": 3,
         "xtick.major.pad": 2, "ytick.major.pad": 2, "text.parse_math": False}
PAPER = {"figure.facecolor": "white", "axes.facecolor": "#f0f0f0", "grid.color": "0.9"}
# The colours of the page in the dark
_INK = "#ececf0"
DARK = {"figure.facecolor": "#131315", "axes.facecolor": "#1d1d21", "grid.color": "#38383e",
        "text.color": _INK, "axes.labelcolor": _INK, "axes.titlecolor": _INK,
        "axes.edgecolor": "#8a8a92", "xtick.color": _INK, "ytick.color": _INK}
# Fonts for what Matplotlib's own lacks, the first that are installed: Chinese, Japanese, Korean
OTHER_FONTS = ("Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans", "Hiragino Sans",
               "Yu Gothic", "Meiryo", "Microsoft YaHei", "PingFang SC", "Malgun Gothic",
               "Apple SD Gothic Neo", "WenQuanYi Zen Hei", "IPAGothic", "Arial Unicode MS")
_CELL = (172.8, 144.0)  # the largest cell
_MOST_CELLS = 280  # of one sheet
_ACROSS = 792.0  # what the cells of a sheet share where there are many


@functools.lru_cache(maxsize=1)
def fonts() -> list[str]:
    """Matplotlib's own font, and those installed that have what it lacks."""
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_FONTS if name in installed)]


@contextlib.contextmanager
def styled(dark: bool = False) -> Iterator[None]:
    """Matplotlib's settings for a sheet; a letter that no font has is an empty box, no warning."""
    matplotlib = import_matplotlib()
    style = STYLE | (DARK if dark else PAPER) | {"font.family": fonts()}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _drawn(draw: Callable[..., Figure]) -> Callable[..., Image]:
    """Decorator: turn the Figure that a function returns into a Pillow image, light or dark."""
    @functools.wraps(draw)
    def image(*arguments: Any, dark: bool = False, **options: Any) -> Image:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        with styled(dark):
            canvas = FigureCanvasAgg(draw(*arguments, **options))
            canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    return image


def _figure(width: float, height: float, dpi: int) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width / 72, height / 72), dpi=dpi)
    FigureCanvasAgg(figure)  # of its own, outside pyplot's global state
    return figure


def _share(figure: Figure, left: float, top: float, width: float = 0, height: float = 0
           ) -> tuple[float, float, float, float]:
    """A box as Matplotlib places it: left, bottom, width and height as shares of the figure."""
    across, down = figure.get_size_inches() * 72
    return left / across, 1 - (top + height) / down, width / across, height / down


def _width(words: str, size: float, weight: str = "normal") -> float:
    """How wide the words are."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(words or " ", font, ismath=False)[0]


def _wrapped(words: Sequence[str], width: float, size: float, joint: str = " ") -> list[str]:
    """The words joined to lines about that wide; one that is wider is broken."""
    if not words:
        return []
    widest = max(_width(word, size) / max(len(word), 1) for word in words)
    whole = joint.join(word.replace(" ", "\N{NO-BREAK SPACE}") for word in words)
    return textwrap.wrap(whole, max(1, int(width / widest)), break_on_hyphens=False)


def _fitted(words: str, width: float, size: float) -> str:
    """The words, cut where they are wider than that."""
    length = int(len(words) * width / _width(words, size))
    return words if len(words) <= length else f"{words[:length - 1]}\N{HORIZONTAL ELLIPSIS}"


def show(axes: Axes, spectrum: Spectrum, seconds: float | None = None) -> None:
    """Show a spectrum on Matplotlib's axes: seconds, and octaves above C2.

    Parameters
    ----------
    seconds : float, optional
        What the axes show, black after the sound.  None: the sound.
    """
    column = spectrum.seconds / spectrum.length
    row = 1 / spectrum.transform["bins_per_octave"]
    # not in print: The axes know the lowest pitch, the bins and the hop; the book's bare picture
    # hid that its axes did not.
    fewer = axes.bbox.width < spectrum.length or axes.bbox.height < len(spectrum.pixels)
    opaque = np.full((*spectrum.pixels.shape[:2], 1), 255, np.uint8)  # is drawn twice as fast
    axes.imshow(np.dstack([spectrum.pixels, opaque]), origin="lower", aspect="auto",
                interpolation="auto" if fewer else "nearest",
                extent=(-column / 2, (spectrum.pixels.shape[1] - 0.5) * column,
                        -row / 2, spectrum.transform["octaves"] - row / 2))
    axes.set_xlim(0, seconds or spectrum.seconds)
    axes.set_facecolor("black")


def _mark_seconds(axes: Axes, seconds: float, most: int = 7, last: float = 1.0) -> None:
    """Round numbers of seconds below the axes, up to that share of them."""
    from matplotlib.ticker import MaxNLocator

    marks = np.asarray(MaxNLocator(most, steps=(1, 2, 5, 10)).tick_values(0, seconds))
    marks = np.minimum(marks[marks <= seconds * last * (1 + 1e-9)], seconds)
    axes.set_xticks(marks, [f"{mark:.6g}" for mark in marks])


def _mark_octaves(axes: Axes, transform: Mapping[str, Any], step: int = 1) -> None:
    octaves = range(0, transform["octaves"], step)
    axes.set_yticks(octaves, [octave_name(transform, octave) for octave in octaves])


def _colour_bar(axes: Axes, transform: Mapping[str, Any]) -> None:
    """Make of the axes the scale of a rainbowgram's or a spectrogram's colours."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    if transform is RAINBOWGRAM:
        # How fast the phase advances is the exact pitch: as it glides, the colour goes round the
        # circle, once in RAINBOWGRAM_HOP-th parts of the sample rate (62.5 Hz at 16 kHz).
        bar = axes.figure.colorbar(
            ScalarMappable(Normalize(-1, 1), ListedColormap(rainbow() / 255)), axes,
            label="same colour: steady pitch\nchanging: gliding")
        bar.set_ticks([])
    else:
        axes.figure.colorbar(ScalarMappable(Normalize(-SPECTROGRAM_RANGE, 0), "magma"), axes,
                             label="dB below the loudest", ticks=range(-SPECTROGRAM_RANGE, 1, 20))


@_drawn
def labelled(spectrum: Spectrum, title: str | None = None, size: tuple[float, float] = (6.4, 4.8),
             dpi: int = 200, scale: bool = True) -> Figure:
    """One spectrum with axes: note names, Hz, seconds.

    Parameters
    ----------
    spectrum : Spectrum
    title : str, optional
        Above it.
    size : (float, float)
        Of the sheet, in inches.
    dpi : int
        Pixels per inch.
    scale : bool
        Whether the scale of the colours stands beside it; many pictures that stand together need
        it once.
    """
    width, height = size[0] * 72, size[1] * 72
    figure = _figure(width, height, dpi)
    left, top, right, bottom = 44, 32, width - (124 if scale else 56), height - 46
    axes = figure.add_axes(_share(figure, left, top, right - left, bottom - top))
    show(axes, spectrum)
    _mark_seconds(axes, spectrum.seconds, 5)
    _mark_octaves(axes, spectrum.transform)
    axes.set_xlabel("seconds", fontsize=14)
    axes.set_title(_fitted(title or "", right - left - 40, 15), fontsize=15)
    hertz = axes.secondary_yaxis("right")
    octaves = range(spectrum.transform["octaves"])
    hertz.set_yticks(octaves, [f"{lowest(spectrum.transform) * 2 ** octave:.0f}"
                               for octave in octaves])
    axes.annotate("Hz", (1, 1), (5, 7), "axes fraction", "offset points", fontsize=13)
    for side in (axes, hertz):  # read in a picture a third as wide
        side.tick_params(labelsize=13)
    if scale:
        _colour_bar(figure.add_axes(_share(figure, width - 68, top, 12, bottom - top)),
                    spectrum.transform)
    return figure


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


@_drawn
def square(sources: Sequence[Cell | None], names: Sequence[str],
           mixes: Mapping[tuple[int, int], Spectrum], note: str = "", dpi: int = 150) -> Figure:
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
    return _table(cells, names, note, dpi)


def strips(rows: Sequence[Sequence[Cell]], note: str = "", dpi: int = 150, dark: bool = False,
           most: int = _MOST_CELLS) -> Image:
    """Rows of cells that belong together, each cell under its title.

    Short rows stand side by side and long ones go on in the next line, so that the sheet is about
    as high as it is wide.  More than `most` cells are several sheets below each other: Matplotlib
    takes half a megabyte for each cell of a sheet, and gives it back after it.

    Parameters
    ----------
    rows : sequence of sequences of cells
        At least one cell in all.
    note : str
        Below: what the rows are.
    dpi : int
        Pixels per inch.
    dark : bool
        On a dark ground.
    most : int
    """
    from PIL import Image

    lines = max(1, most // max(map(len, rows)))
    images = []
    for first in range(0, len(rows), lines):
        last = first + lines >= len(rows)
        images.append(_strips(rows[first:first + lines], note if last else "", dpi, dark=dark))
        if not last:
            gc.collect()  # a figure and its parts hold each other
    if len(images) == 1:
        return images[0]
    whole = Image.new("RGB", (max(image.width for image in images),
                              sum(image.height for image in images)), images[0].getpixel((0, 0)))
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    return whole


@_drawn
def _strips(rows: Sequence[Sequence[Cell]], note: str = "", dpi: int = 150) -> Figure:
    """One sheet of `strips`."""
    longest = max(map(len, rows))
    if longest > 8:
        even = {math.ceil(longest / parts) for parts in range(1, longest)}
        columns = min((n for n in even if 4 <= n <= 12), key=lambda n: _from_four_to_three(
            n, len(rows) * math.ceil(longest / n)))
        return _table([row[i:i + columns] for row in rows for i in range(0, len(row), columns)],
                      None, note, dpi)
    # as many side by side as stay readable
    across = min((n for n in range(1, len(rows) + 1) if n == 1 or n * longest <= 16),
                 key=lambda n: _from_four_to_three(n * longest, math.ceil(len(rows) / n)))
    padded = [[*row, *[None] * (longest - len(row))] for row in rows]
    return _table([sum(padded[i:i + across], []) for i in range(0, len(rows), across)],
                  None, note, dpi, group=longest if across > 1 < longest else 0)


def _from_four_to_three(columns: int, lines: int) -> float:
    """How far a sheet of cells is from that shape."""
    return abs(math.log(columns * _CELL[0] / (lines * _CELL[1]) / (4 / 3)))


@dataclass(frozen=True)
class _Plan:
    """Where the cells of a sheet stand, in points, and what is written at them."""

    lefts: list[float]
    tops: list[float]
    width: float
    height: float
    gap: float  # between two columns
    size: int  # of the names
    shown: dict[str, str]  # what stands for a title: itself, or its number
    legend: list[str]  # lines that explain the numbers

    @property
    def right(self) -> float:
        return self.lefts[-1] + self.width

    @property
    def bottom(self) -> float:
        return self.tops[-1] + self.height


def _plan(lines: Sequence[Sequence[Cell | None]], names: Sequence[str] | None,
          group: int) -> _Plan:
    """Places for cells in lines, the smaller the more there are."""
    columns = max(map(len, lines))
    share = min(1.0, max(_ACROSS / (columns * _CELL[0]), 0.21))
    width, height = _CELL[0] * share, _CELL[1] * share
    size = 11 if share > 0.5 else 8

    # Names that do not fit their cells are numbers, explained below.
    titles = names if names is not None else [cell.title for line in lines for cell in line if cell]
    shown, legend = dict(zip(titles, titles)), []
    if any(_width(words, size) > (width if names is None else height) for words in shown):
        shown = {words: str(i) for i, words in enumerate(shown, 1)}
        legend = [f"{number} {words}" for words, number in shown.items()]

    gap = max(4, 0.08 * width)
    above = size + 5 if names is None else max(4, 0.08 * height)
    left = 30 + (16 if names is not None else 0)
    lefts = [left + i * (width + gap) + (i // group * 16 if group else 0) for i in range(columns)]
    tops = [8 + size + 5 + i * (height + above) for i in range(len(lines))]
    return _Plan(lefts, tops, width, height, gap, size, shown,
                 _wrapped(legend, lefts[-1] + width - left, 8, "   "))


def _table(lines: Sequence[Sequence[Cell | None]], names: Sequence[str] | None, note: str,
           dpi: int, group: int = 0) -> Figure:
    """Cells in lines: named by row and column, or each under its title.

    After each `group` cells of a line is a gap.
    """
    plan = _plan(lines, names, group)
    present = [cell for line in lines for cell in line if cell]
    seconds = max(cell.spectrum.seconds for cell in present)
    transform = present[0].spectrum.transform
    left, right, bottom = plan.lefts[0], plan.right, plan.bottom
    notes = _wrapped(note.split(), right - left, 9)
    figure = _figure(right + 74, bottom + 34 + 13 * len(notes) + 11 * len(plan.legend), dpi)

    for row, line in enumerate(lines):
        for column, cell in enumerate(line):
            if cell is None and names is None:
                continue
            axes = figure.add_axes(_share(figure, plan.lefts[column], plan.tops[row],
                                          plan.width, plan.height))
            axes.set(xlim=(0, seconds), ylim=(0, transform["octaves"]))
            _draw_cell(axes, cell, seconds, 2.2 if plan.size > 8 else 1.4)
            if names is None and cell is not None:
                axes.set_title(plan.shown[cell.title], fontsize=plan.size)
            elif names is not None and row == 0:
                axes.set_title(plan.shown[names[column]], fontsize=plan.size, loc="center")
            if column == 0 and names is not None:
                figure.text(*_share(figure, 9, plan.tops[row] + plan.height / 2)[:2],
                            plan.shown[names[row]], size=plan.size, rotation=90, ha="center",
                            va="center")
            below = [other[column] for other in lines[row + 1:] if len(other) > column]
            lowest_one = not any(below) if names is None else not below
            _mark_cell(axes, transform, seconds, plan, column, lowest_one)

    for x, y, words, options in (
            ((left + right) / 2, bottom + 24, "seconds", {"ha": "center", "va": "center"}),
            ((left + right) / 2, bottom + 32, "\n".join(notes), {"ha": "center", "va": "top"}),
            (left, bottom + 32 + 13 * len(notes), "\n".join(plan.legend),
             {"va": "top", "size": 8})):
        figure.text(*_share(figure, x, y)[:2], words, **options)
    high = min(bottom - plan.tops[0], 150)
    _colour_bar(figure.add_axes(_share(figure, right + 12, plan.tops[0], 10, high)), transform)
    return figure


def _draw_cell(axes: Axes, cell: Cell | None, seconds: float, frame: float) -> None:
    """A spectrum in its place, framed if it is a source; the bare ground if there is none."""
    if cell:
        show(axes, cell.spectrum, seconds)
    if cell and cell.kind in FRAMES:
        axes.spines[:].set(color=FRAMES[cell.kind], linewidth=frame)
    else:
        axes.spines[:].set_visible(False)


def _mark_cell(axes: Axes, transform: Mapping[str, Any], seconds: float, plan: _Plan, column: int,
               lowest_one: bool) -> None:
    """Octaves at the first column, seconds under the lowest cell of each."""
    if column == 0:
        _mark_octaves(axes, transform, 1 if plan.height > 130 and transform is SPECTROGRAM else
                      2 if plan.height > 50 else 4)
    else:
        axes.yaxis.set_visible(False)
    roomy = plan.width > 0.4 * _CELL[0]
    if lowest_one and (roomy or column == 0):
        # the end of one would run into the next one's 0
        tight = roomy and plan.gap < 14 and column + 1 < len(plan.lefts)
        _mark_seconds(axes, seconds, 3 if roomy else 1, 0.95 if tight else 1)
    else:
        axes.xaxis.set_visible(False)


def encodings(batch: np.ndarray, frame: float | None, title: str | None,
              size: tuple[float, float]) -> Figure:
    """Encodings as lines, one encoding below the other, to be drawn within `styled`.

    Parameters
    ----------
    batch : array [n, frames, channels]
    frame : float or None
        Seconds of a frame, for axes that are named; None: numbers of frames.
    title : str or None
        Above, if the axes are named.
    size : (float, float)
        Inches of one or two; more have half that height each.
    """
    from matplotlib import colormaps

    named, seconds = frame is not None, frame or 1.0
    figure = _figure(size[0] * 72, size[1] * 72 * max(1, len(batch) / 2), 100)
    figure.set_layout_engine("constrained")
    # not in print: An encoding's 16 channels have 16 colours; the book's ten came round again.
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, batch.shape[2]))
    every = figure.subplots(len(batch), sharex=True, squeeze=False)[:, 0]
    for axes, encoding in zip(every, batch):
        axes.set_facecolor(figure.get_facecolor())
        for channel, colour in enumerate(colours):
            axes.plot((np.arange(len(encoding)) + 0.5 * named) * seconds, encoding[:, channel],
                      color=colour, linewidth=1.5, label=str(channel + 1))
        axes.margins(x=0)
        if named:
            axes.set_ylabel("encoding")
    if named:
        every[-1].set_xlabel("seconds")
        figure.legend(*every[0].get_legend_handles_labels(), title="channel", fontsize=8,
                      loc="outside right upper", frameon=False)
        every[0].set_title(title or "")
    return figure


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

    @functools.cached_property
    def spectrum(self) -> Spectrum:
        """Of the sound, computed once for all the sheets it stands on."""
        audio, hop = checked(self.audio), 512
        while len(audio) > 2000 * hop:
            hop *= 2
        return spectrogram(audio, hop_length=hop)


@_drawn
def score_sheet(scores: Sequence[Score], dpi: int = 150) -> Figure:
    """Scores as piano rolls, each above the constant-Q spectrogram of its sound.

    A note has the colour of its instrument; between two instruments the colour moves from one to
    the other as the timbre does.  A softer note is paler.  One score fills 12 by 7.5 inches;
    several stand in one or more columns, smaller.
    """
    columns = 1 if len(scores) < 3 else math.ceil(math.sqrt(len(scores) / 1.5))
    rows = math.ceil(len(scores) / columns)
    width, height = (864, 540) if len(scores) == 1 else (
        (864, 330) if columns == 1 else (max(864 / columns, 240), 220))
    figure = _figure(width * columns, height * rows, dpi)
    for part, score in zip(figure.subfigures(rows, columns, squeeze=False).flat, scores):
        _draw_score(part, width, height, score)
    return figure


def _draw_score(part: SubFigure, width: float, height: float, score: Score) -> None:
    """A score on a part of that size of a figure."""
    times = np.asarray(score.t_instruments, float)
    names = ([str(i + 1) for i in range(len(times))] if score.instrument_names is None
             else list(score.instrument_names))
    seconds = max(score.spectrum.seconds,
                  np.asarray(score.notes["end_times"], float).max(initial=0))

    small = width < 500
    left, right, top, bottom = 30 if small else 62, 8 if small else 66, 20 if score.title else 8, 34
    roll, strip, sound = part.subplots(3, height_ratios=(40, 6 if small else 4, 56), gridspec_kw={
        "left": left / width, "right": 1 - right / width, "top": 1 - top / height,
        "bottom": bottom / height, "hspace": 28 / (height - bottom - top)})
    width = float(roll.bbox.width) * 72 / part.dpi

    roll.set(xticks=(), xlim=(0, seconds))
    _draw_roll(roll, score.notes, times, names)
    moments = (np.arange(1000) + 0.5) / 1000 * seconds
    strip.imshow(_instrument_colours(moments, times, names)[None], aspect="auto",
                 extent=(0, seconds, 0, 1), interpolation="nearest")
    strip.set(xticks=(), yticks=())
    _name_instruments(strip, width, np.clip(times, 0, seconds) / seconds, names)
    show(sound, score.spectrum, seconds)
    _mark_seconds(sound, seconds)
    _mark_octaves(sound, SPECTROGRAM, 2 if small else 1)
    sound.set_xlabel("seconds")
    for axes, colour in ((roll, "0.5"), (sound, "0.8")):
        axes.vlines(times, 0, 1, colour, ":", linewidth=0.8,
                    transform=axes.get_xaxis_transform())
    if score.title:
        roll.set_title(_fitted(score.title, width, 11))
    if small:
        return
    for axes, words in ((roll, "score"), (sound, "sound")):
        axes.set_ylabel(words)
        axes.yaxis.set_label_coords(-38 / width, 0.5)
    strip.set_ylabel("instrument", rotation=0, ha="right", va="center")
    _colour_bar(sound.inset_axes((1 + 10 / width, 0, 10 / width, 1)), SPECTROGRAM)


def _draw_roll(roll: Axes, notes: Mapping[str, Any], times: np.ndarray,
               names: Sequence[str]) -> None:
    """Notes as boxes in the colours of their instruments, the softer the nearer to the ground."""
    import matplotlib
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    starts, ends, pitches, velocities = (
        np.asarray(notes[key], float)
        for key in ("start_times", "end_times", "pitches", "velocities"))
    low, high = (pitches.min(), pitches.max()) if len(pitches) else (60, 60)
    semitone = float(roll.bbox.height) * 72 / roll.figure.dpi / (high - low + 3)
    classes = "CDEFGAB" if semitone > 10.5 else "CG" if semitone > 2.5 else "C"
    marks = {pitch: note_name(pitch) for pitch in range(int(low) - 1, int(high) + 2)}
    marks = {pitch: name for pitch, name in marks.items()
             if "#" not in name and name[0] in classes}
    roll.set_yticks(list(marks), list(marks.values()))
    roll.grid(axis="y", linewidth=0.6)
    ground = matplotlib.rcParams["figure.facecolor"]
    roll.set(ylim=(low - 1.5, high + 1.5), axisbelow=True, facecolor=ground)
    ground = np.array(to_rgb(ground))
    strength = (0.35 + 0.65 * np.clip(velocities, 0, 127) / 127)[:, None]
    boxes = [[(a, p - 0.45), (a, p + 0.45), (b, p + 0.45), (b, p - 0.45)]
             for a, b, p in zip(starts, ends, pitches)]
    roll.add_collection(PolyCollection(  # the edges: the shortest is seen, too
        boxes, facecolors=ground + strength * (_instrument_colours(starts, times, names) - ground),
        edgecolors="face", linewidths=0.3), autolim=False)


def _name_instruments(strip: Axes, width: float, places: np.ndarray, names: Sequence[str]) -> None:
    """The instruments' names where each stands, from 0 to 1, but for those that find no room."""
    free = 0.0
    for place, name in zip(places, names):
        wide = _width(name, 8, "bold")
        x = place * width + 3
        if x + wide > width:
            x -= wide + 6
        if x > free:  # else it would run into the one before
            strip.text(x / width, 0.5, name, va="center_baseline", color="white", weight="bold",
                       size=8, transform=strip.transAxes)
            free = x + wide + 3


def _instrument_colours(seconds: np.ndarray, times: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """RGB [n, 3], to 1, at each time, between the colours of the instruments around it."""
    if not len(times):
        return np.full((len(seconds), 3), 0.3)
    kinds = list(dict.fromkeys(names))
    palette = np.array([INSTRUMENT_COLOURS[kinds.index(name) % len(INSTRUMENT_COLOURS)]
                        for name in names]) / 255
    return np.column_stack([np.interp(seconds, times, channel) for channel in palette.T])
