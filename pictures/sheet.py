"""A white sheet to draw on: words, boxes, lines, spectra and their axes, measured in points."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pictures.spectra import (RAINBOWGRAM, RAINBOWGRAM_HOP, SPECTROGRAM_RANGE, Spectrum, magma,
                              octave_name, rainbow)

INK = (38, 38, 38)
SOFT = (120, 120, 120)
ORANGE = (255, 127, 14)
BLUE = (86, 180, 233)
EMPTY = (240, 240, 240)
Box = tuple[float, float, float, float]  # left, top, right, bottom


def scaled(spectrum: Spectrum, width: int, height: int) -> Image.Image:
    """The spectrum as an image of that many pixels, from the sound's beginning to its end.

    Each pixel shows its bin as it is; where there are fewer pixels than bins, their mean.
    """
    image = Image.fromarray(np.ascontiguousarray(spectrum.pixels[::-1]))
    fewer = width < spectrum.length or height < image.height
    return image.resize((width, height), Image.Resampling.BOX if fewer else
                        Image.Resampling.NEAREST, (0.5, 0, 0.5 + spectrum.length, image.height))


class Sheet:
    """A white sheet; places and sizes are in points (1/72 inch) from its upper left corner.

    Parameters
    ----------
    width, height : float
    dpi : int
        Pixels per inch.

    Attributes
    ----------
    image : PIL.Image.Image
    """

    def __init__(self, width: float, height: float, dpi: int) -> None:
        self.unit = dpi / 72
        self.image = Image.new("RGB", (self._pixels(width), self._pixels(height)), "white")
        self._draw = ImageDraw.Draw(self.image)

    def _pixels(self, points: float) -> int:
        return math.floor(points * self.unit + 0.5)

    def text(self, x: float, y: float, words: str, size: float = 9, anchor: str = "mm",
             colour: tuple[int, int, int] = INK, bold: bool = False, turned: bool = False) -> None:
        """Write words at a place; `anchor` as Pillow's, `turned` reads from below to above."""
        font = _font(size * self.unit, bold)
        if not turned:
            self._draw.text((x * self.unit, y * self.unit), words, colour, font, anchor)
            return
        left, top, right, bottom = font.getbbox(words, anchor="lm")
        mask = Image.new("L", (max(1, math.ceil(right)), 2 * math.ceil(max(-top, bottom, 1))))
        ImageDraw.Draw(mask).text((0, mask.height / 2), words, 255, font, "lm")
        mask = mask.rotate(90, expand=True)
        self.image.paste(colour, (self._pixels(x) - mask.width // 2,
                                  self._pixels(y) - mask.height // 2), mask)

    def width_of(self, words: str, size: float = 9, bold: bool = False) -> float:
        """How wide the words are."""
        return _font(size * self.unit, bold).getlength(words) / self.unit

    def fitted(self, words: str, width: float, size: float = 9) -> str:
        """The words, cut where they are wider than that."""
        if self.width_of(words, size) <= width:
            return words
        while words and self.width_of(f"{words}\N{HORIZONTAL ELLIPSIS}", size) > width:
            words = words[:-1]
        return f"{words}\N{HORIZONTAL ELLIPSIS}"

    def box(self, box: Box, colour: tuple[int, int, int]) -> None:
        """Fill a box, at least a pixel of it."""
        left, top, right, bottom = map(self._pixels, box)
        self._draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), colour)

    def frame(self, box: Box, colour: tuple[int, int, int] = INK, weight: float = 0.5) -> None:
        """Draw the edges of a box, inwards."""
        left, top, right, bottom = map(self._pixels, box)
        self._draw.rectangle((left, top, right - 1, bottom - 1), outline=colour,
                             width=max(1, self._pixels(weight)))

    def upright(self, x: float, top: float, bottom: float, colour: tuple[int, int, int]) -> None:
        """A dotted line from above to below."""
        for y in np.arange(top, bottom - 0.7, 2.4):
            self.box((x - 0.4, y, x + 0.4, y + 0.8), colour)

    def pixels(self, box: Box, pixels: np.ndarray) -> None:
        """Fill a box with an image [rows, columns, 3], the upper row first."""
        left, top, right, bottom = map(self._pixels, box)
        self.image.paste(Image.fromarray(np.ascontiguousarray(pixels)).resize(
            (right - left, bottom - top), Image.Resampling.NEAREST), (left, top))

    def spectrum(self, box: Box, spectrum: Spectrum, seconds: float) -> None:
        """Draw a spectrum in a box that is `seconds` wide; after the sound it is black."""
        self.box(box, (0, 0, 0))
        left, top, right, bottom = map(self._pixels, box)
        width = max(1, round((right - left) * spectrum.seconds / seconds))
        self.image.paste(scaled(spectrum, width, bottom - top), (left, top))

    def ticks_below(self, box: Box, marks: Mapping[float, str], size: float = 8) -> None:
        """Marks below a box, at shares of its width."""
        left, _, right, bottom = box
        for share, words in marks.items():
            x = min(left + share * (right - left), right - 0.4)
            self.box((x - 0.4, bottom, x + 0.4, bottom + 3), INK)
            self.text(x, bottom + 5, words, size, "mt")

    def ticks_beside(self, box: Box, marks: Mapping[float, str], size: float = 8,
                     right_side: bool = False) -> None:
        """Marks beside a box, at shares of its height from below."""
        left, top, right, bottom = box
        x, way = (right, 1) if right_side else (left, -1)
        for share, words in marks.items():
            y = max(top + 0.4, bottom - max(share * (bottom - top), 0.4))
            self.box((min(x, x + 3 * way), y - 0.4, max(x, x + 3 * way), y + 0.4), INK)
            self.text(x + 5 * way, y, words, size, "lm" if right_side else "rm")

    def colour_bar(self, box: Box, colours: np.ndarray, words: str,
                   marks: Mapping[float, str]) -> None:
        """A scale of colours with its marks and what they mean, to the right of it."""
        self.pixels(box, np.rint(colours[::-1, None]).astype(np.uint8))
        self.frame(box)
        self.ticks_beside(box, marks, right_side=True)
        width = max(self.width_of(mark, 8) for mark in marks.values())
        size = 9 * min(1.0, max(0.65, (box[3] - box[1]) / self.width_of(words, 9)))
        self.text(box[2] + width + 14, (box[1] + box[3]) / 2, words, size, turned=True)

    def scale_of(self, box: Box, transform: Mapping[str, float]) -> None:
        """The colour bar of rainbowgrams or of spectrograms."""
        if transform is RAINBOWGRAM:
            pi = "\N{GREEK SMALL LETTER PI}"
            self.colour_bar(box, rainbow(), f"phase advance over {RAINBOWGRAM_HOP} samples",
                            {0: f"\N{MINUS SIGN}{pi}", 0.5: "0", 1: pi})
            return
        levels = range(0, SPECTROGRAM_RANGE + 1, 20)
        self.colour_bar(box, magma(), "dB below the loudest",
                        {1 - level / SPECTROGRAM_RANGE: f"\N{MINUS SIGN}{level}" if level else "0"
                         for level in levels})


def octave_marks(transform: Mapping[str, float], step: int = 1) -> dict[float, str]:
    """The Cs of a transform, at shares of its height."""
    octaves, half = transform["octaves"], 0.5 / transform["bins_per_octave"]
    return {(octave + half) / octaves: octave_name(transform, octave)
            for octave in range(0, octaves, step)}


def hertz_marks(transform: Mapping[str, float]) -> dict[float, str]:
    """The frequencies of a transform's Cs, at shares of its height."""
    return {share: f"{transform['fmin'] * 2 ** octave:.0f}"
            for octave, share in enumerate(octave_marks(transform))}


def second_marks(seconds: float, most: int = 7) -> dict[float, str]:
    """Round numbers of seconds from 0 on, at shares of the whole."""
    step = 10.0 ** math.floor(math.log10(seconds / most))
    step *= next(factor for factor in (1, 2, 5, 10) if seconds / (step * factor) <= most)
    return {i * step / seconds: f"{i * step:.6g}"
            for i in range(math.floor(seconds / step * (1 + 1e-9)) + 1)}


def wrapped(sheet: Sheet, words: Sequence[str], width: float, size: float,
            joint: str = "   ") -> list[str]:
    """The words joined to lines that are no wider than that."""
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]}{joint}{word}" if lines else word
        if lines and sheet.width_of(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.append(sheet.fitted(word, width, size))
    return lines


@functools.lru_cache(maxsize=32)
def _font(pixels: float, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with Matplotlib (whose import would take longer than a picture)."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    package = importlib.util.find_spec("matplotlib").submodule_search_locations[0]
    path = Path(package, "mpl-data", "fonts", "ttf", name)
    if not path.is_file():  # a Matplotlib that keeps its data elsewhere
        import matplotlib

        path = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
    return ImageFont.truetype(str(path), pixels)
