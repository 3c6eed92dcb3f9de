"""The page to listen on: one HTML file with every sound and picture of a run inside it.

It needs no server, no network and no file beside it, so it can be opened from disk or sent to
somebody.  A board of cells stands at the top; a click on a cell plays it.  `index.html.j2` is the
page's skeleton, `page.css` its looks and `page.js` what it does; all three become one file.

Each sound and each picture is in the file once.  A sound stands in a `noscript` element: a browser
without JavaScript finds a player there, and one with it reads the same text only when the sound is
first played, so that a page of hundreds of clips opens as fast as one of a few.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from synths import files

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLE_RATE = 16000  # Hz
LEVEL = 0.1  # root mean square to which playback is levelled, of full scale
FULL_SCALE = 0.98  # what no sample exceeds after that
_SILENT = 1e-4  # root mean square below which nothing is levelled
_BLOCK = 1 << 20  # samples that are measured at a time
_MARK = "\0"  # stands in no name and no text
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Heard:
    """What playback must know of a sound: a page of many holds no samples.

    Parameters
    ----------
    samples : int
        Its length, which `len` gives, too.
    level, peak : float
        Root mean square and largest absolute value.
    """

    samples: int
    level: float
    peak: float

    def __len__(self) -> int:
        return self.samples

    @classmethod
    def of(cls, audio: np.ndarray | Heard) -> Heard:
        """Measure a sound, float32 [samples]."""
        if isinstance(audio, Heard):
            return audio
        power = sum(float(np.square(audio[first:first + _BLOCK], dtype=np.float64).sum())
                    for first in range(0, len(audio), _BLOCK))
        peak = max(float(audio.max(initial=0.0)), -float(audio.min(initial=0.0)))
        return cls(len(audio), (power / max(1, len(audio))) ** 0.5, peak)


@dataclass(frozen=True)
class Clip:
    """One sound of a page.

    Parameters
    ----------
    title : str
        What it is, in a few words; the name that is spoken, too: no two clips share one.
    sound : bytes or Path
        The whole WAV or FLAC file, or where it is.
    name : str
        Its file's name, for those who download it.
    audio : Heard
        What is known of it; float32 [samples] is measured.
    picture : bytes
        WebP, all sound from its left edge to its right edge; empty: none.
    size : (int, int)
        The picture's width and height in pixels.
    note : str
        A line under the title: of what it is made.
    kind : str
        "source", "reconstruction", "mix" or "clip": the colour of its frame.
    sources : sequence of int
        Places of the clips that it is compared with, at most two.
    caption : str
        A word or two on its cell; empty: none.
    keys : sequence of (int, bytes)
        Notes of its instrument to play on the page's keyboard: MIDI pitch, FLAC file.
    score : Markup
        A drawing of the score that it plays, in SVG; empty: none.
    marks : sequence of (float, rolls.Mark)
        Where each instrument is reached: seconds, and what to show there.
    media : str
        What `sound` is, "audio/wav" or "audio/flac".
    partial : bool
        Whether it was not finished: a dashed frame.
    """

    title: str
    sound: bytes | Path
    name: str
    audio: Any
    picture: bytes = b""
    size: tuple[int, int] = (0, 0)
    note: str = ""
    kind: str = "clip"
    sources: Sequence[int] = ()
    caption: str = ""
    keys: Sequence[tuple[int, bytes]] = ()
    score: Any = ""
    marks: Sequence[tuple[float, Any]] = ()
    media: str = "audio/wav"
    partial: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "audio", Heard.of(self.audio))


@dataclass(frozen=True)
class Board:
    """Cells to play, in rows.

    Parameters
    ----------
    title : str
    rows : sequence of sequences of int, str or None
        A place of `Page.clips`, or words that name a row or a column, or an empty cell.
    text : str
        How to read it.
    layout : str
        "matrix" (the first row and the first column are headings), "strip" (each row is a path
        or a pair), "time" (the clips of a row stand above each other, on one time axis), "cells"
        (as many to a line as fit), "score" (one to a line, with what it plays above it).
    slider : bool
        Whether each row has a slider that walks along it.
    ends : int
        How many cells at each end of a row the slider leaves out.
    ticks : bool
        Whether each cell has a box to tick.
    """

    title: str
    rows: Sequence[Sequence[int | str | None]]
    text: str = ""
    layout: str = "matrix"
    slider: bool = False
    ends: int = 0
    ticks: bool = False


@dataclass(frozen=True)
class Page:
    """All that a page shows.

    Parameters
    ----------
    title, introduction : str
    clips : sequence of Clip
    boards : sequence of Board
    settings : mapping
        What the run was made with, in the order to show it.
    command : str
        What repeats it.
    picture_words : str
        How to read the pictures.
    octaves : sequence of str
        Names of the octaves that the pictures show, from below; each is equally high.
    hints : sequence of str
        Sentences on what is heard.
    seed : int or None
        For the list of ticked instruments.
    goes_on : bool
        Whether the command goes on with a run that was stopped, instead of repeating it.
    """

    title: str
    introduction: str
    clips: Sequence[Clip]
    boards: Sequence[Board]
    settings: Mapping[str, object]
    command: str
    picture_words: str = ""
    octaves: Sequence[str] = field(default_factory=tuple)
    hints: Sequence[str] = ()
    seed: int | None = None
    goes_on: bool = False


def data_uri(content: bytes, kind: str) -> str:
    """The bytes as a data: address of the given media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def webp(image: Image, quality: int = 80) -> bytes:
    """The image as a WebP file; about a tenth of a PNG's size."""
    content = io.BytesIO()
    image.save(content, "WEBP", quality=quality, method=4)
    return content.getvalue()


def encoded(audio: np.ndarray, kind: str = "WAV") -> bytes:
    """A sound as a file of 16 bits, "WAV" or "FLAC".

    Parameters
    ----------
    audio : float32 [samples] in [-1, 1]
    """
    import soundfile

    content = io.BytesIO()
    samples = np.rint(np.clip(audio, -1, 1) * 32767).astype(np.int16)
    soundfile.write(content, samples, SAMPLE_RATE, subtype="PCM_16", format=kind)
    return content.getvalue()


def playback_gains(audios: Sequence[np.ndarray | Heard]) -> list[float]:
    """What each sound is multiplied by in playback, so that all are equally loud.

    All reach one root mean square over their length: `LEVEL`, or as much less as keeps every
    sample of every one below full scale.  The files themselves keep their levels.

    Parameters
    ----------
    audios : sequence of float32 [samples] or Heard

    Returns
    -------
    list of float
        1 for silence.
    """
    heard = [Heard.of(audio) for audio in audios]
    target = min([LEVEL, *(FULL_SCALE * one.level / one.peak for one in heard
                           if one.level > _SILENT)])
    return [target / one.level if one.level > _SILENT else 1.0 for one in heard]


def write_page(path: Path, page: Page) -> Path:
    """Write the page, whole or not at all.

    Parameters
    ----------
    path : Path
        The HTML file.
    page : Page

    Returns
    -------
    Path
        `path`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    sounds: list[Path] = []
    environment.globals.update(data_uri=functools.partial(_address, sounds),
                               longest_of=functools.partial(_longest, page))
    gains = playback_gains([clip.audio for clip in page.clips])
    data = [{"title": clip.title, "note": clip.note, "kind": clip.kind, "gain": round(gain, 6),
             "seconds": round(len(clip.audio) / SAMPLE_RATE, 4), "sources": list(clip.sources),
             "name": clip.name, "media": clip.media} for clip, gain in zip(page.clips, gains)]
    text = environment.get_template("index.html.j2").generate(
        page=page, data=data, first=_first_places(page), piano=_piano(page),
        css=Markup((_HERE / "page.css").read_text("utf-8")),
        script=Markup((_HERE / "page.js").read_text("utf-8")))
    with files.writing(path) as file:
        for piece in text:
            for place, part in enumerate(piece.split(_MARK)):
                if place % 2:
                    kind, _, number = part.partition(";")
                    _write_file(file, sounds[int(number)], kind)
                else:
                    file.write(part.encode("utf-8", "replace"))  # names of files that are not
    return Path(path)


def _address(sounds: list[Path], content: bytes | Path, kind: str) -> str:
    """The data: address of some bytes; of a file, a mark that becomes it as the page is written."""
    if isinstance(content, bytes):
        return data_uri(content, kind)
    sounds.append(content)
    return f"{_MARK}{kind};{len(sounds) - 1}{_MARK}"


def _write_file(page: BinaryIO, sound: Path, kind: str) -> None:
    """Write the data: address of a file, some of it at a time."""
    page.write(data_uri(b"", kind).encode("ascii"))
    with open(sound, "rb") as file:
        while block := file.read(3 << 18):      # of three bytes become four letters
            page.write(base64.b64encode(block))


def _first_places(page: Page) -> dict[int, tuple[int, int, int]]:
    """Board, row and column where each clip stands first: its picture is there."""
    first: dict[int, tuple[int, int, int]] = {}
    for number, board in enumerate(page.boards):
        for row, cells in enumerate(board.rows):
            for column, cell in enumerate(cells):
                if isinstance(cell, int):
                    first.setdefault(cell, (number, row, column))
    return first


def _longest(page: Page, board: Board) -> float:
    """Seconds of the longest clip on a board."""
    return max((len(page.clips[cell].audio) / SAMPLE_RATE for cells in board.rows for cell in cells
                if isinstance(cell, int)), default=1.0)


def _piano(page: Page) -> list[dict[str, object]]:
    """The keys of the page's keyboard, C3 to C5 at first; none where no clip has notes for it."""
    if not any(clip.keys for clip in page.clips):
        return []
    letters = dict(zip(range(60, 73), "awsedftgyhujk"))
    names = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp",
             "B")
    return [{"pitch": pitch, "name": f"{names[pitch % 12]}{pitch // 12 - 1}",
             "black": "sharp" in names[pitch % 12], "letter": letters.get(pitch, "")}
            for pitch in range(48, 73)]
