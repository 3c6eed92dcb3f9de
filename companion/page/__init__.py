"""The results page: one HTML file with every sound and plot of a run.

It needs no server and no other files, so it can be opened from disk or sent to others.
`page.html.j2` is its template, `page.css` its style and `page.js` its behaviour.

The file contains each sound and each plot once.  Each sound is inside a `noscript` element.
Without JavaScript, the browser shows a player.  With JavaScript, the page reads the data when the
sound is first played.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from companion.clips import Clip
from synths import files

_HERE = Path(__file__).parent
_NAMES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")


@dataclass(frozen=True)
class Sound:
    """A sound of the page, with its cell, its list entry and its notes on the keyboard."""

    clip: Clip  # every sound has a different name and title
    flac: bytes
    seconds: float
    gain: float = 1.0  # in loudness-matched playback
    note: str = ""  # line under the title
    caption: str = ""  # one or two words on the cell
    sources: tuple[int, ...] = ()  # indices of the sounds to compare with, at most two
    picture: bytes = b""  # plot as a WebP file, as wide as the sound is long; empty: no plot
    size: tuple[int, int] = (0, 0)  # of the plot, in pixels
    # MIDI pitch (None: no steady pitch) and FLAC file (empty: the sound itself) of each note
    keys: tuple[tuple[float | None, bytes], ...] = ()
    colour: str = ""  # of a cell without a plot, in CSS notation
    sfz: str = ""  # name of the SFZ file
    roll: Markup = Markup()  # score as SVG
    # Start of each instrument: seconds, name, CSS colour and CSS class
    marks: tuple[tuple[float, str, str, str], ...] = ()


@dataclass(frozen=True)
class Panel:
    """A panel of playable cells, in rows of indices into `Page.sounds`, headings and gaps.

    Layouts: "matrix" (the first row and column are headings), "grid", "strip", "time" (one time
    axis for all cells), "cells" (as many per line as fit) and "score".
    """

    title: str
    rows: Sequence[Sequence[int | str | None]]
    text: str = ""
    layout: str = "strip"
    slider: bool = False  # whether each row has a slider that selects one of its inner cells
    choose: bool = False  # whether each cell has a check box


@dataclass(frozen=True)
class Page:
    """The contents of a results page."""

    title: str
    text: str = ""
    sounds: Sequence[Sound] = ()
    panels: Sequence[Panel] = ()
    settings: Mapping[str, object] | None = None  # in the order in which they are shown
    command: str = ""  # repeats the run, or continues it if it was stopped
    notes: Sequence[str] = ()  # sentences for the top, with `code` in backticks
    hints: Sequence[str] = ()  # sentences for the bottom, too
    commands: Sequence[tuple[str, str]] = ()  # descriptions and commands; {}: the selection
    octaves: Sequence[str] = ()  # names of the octaves in the plots, from the lowest
    stopped: bool = False
    runs: Sequence[Mapping[str, object]] = ()  # entries of the list of runs


def write_page(folder: Path, page: Page) -> Path:
    """Write the page as `index.html`, atomically; return its path."""
    path = folder / "index.html"
    with files.writing(path) as file:
        for part in render(page):
            file.write(part)
    return path


def write_index(output_root: Path) -> Path | None:
    """Write `index.html`, the list of the runs under a folder, newest first; return its path."""
    runs = [(json.loads(file.read_bytes()), file.parent) for file in output_root.rglob("run.json")
            if (file.parent / "index.html").is_file()]
    runs.sort(key=lambda run: _moment(run[0].get("started")), reverse=True)
    if not runs:
        return None
    entries = [{
        "link": quote(folder.relative_to(output_root).as_posix()) + "/index.html",
        "title": run_title(clips_of(run)) or folder.name, "folder": folder.name,
        "when": _moment(run.get("started"))[:16], "stopped": run.get("stopped") is True,
        "options": ", ".join(f"{name.replace('_', ' ')} {_words(value)}"
                             for name, value in run.get("options", {}).items()
                             if name not in ("sounds", "midi"))}  # they are in the title
        for run, folder in runs]
    return write_page(output_root, Page("Results", f"{counted(len(runs), 'run')}, newest first.",
                                        runs=entries))


def clips_of(run: Mapping[str, Any]) -> list[Clip]:
    """Return the clips that a `run.json` lists."""
    return [Clip(**{**clip, "sources": tuple(clip["sources"]), "weights": tuple(clip["weights"])})
            for clip in run.get("clips", [])]


def run_title(clips: Sequence[Clip]) -> str:
    """Describe the clips of a run: "bass, flute: 5 steps"; "" if there are none."""
    kinds = [clip.kind for clip in clips]
    kind = next((kind for kind in ("step", "crossfade", "mix", "score", "preview", "bank",
                                   "reconstruction") if kind in kinds), None)
    if kind is None:
        return ""
    made = [clip for clip in clips if clip.kind == kind]
    names = list(dict.fromkeys(name for clip in made for name in clip.sources or [
        "preview" if kind == "preview" else clip.title]))
    if len(names) > 5:
        names[4:] = [f"{len(names) - 4} more"]
    word = "instrument" if kind == "preview" else kind
    what = word if len(made) == 1 else (
        f"bank of {len(made)} clips" if kind == "bank" else counted(len(made), word))
    return f"{', '.join(names)}: {what}"


def counted(number: int, what: str) -> str:
    """Return "1 mix" or "2 mixes"."""
    ending = "" if number == 1 else "es" if what.endswith("x") else "s"
    return f"{number} {what}{ending}"


def clock(seconds: float) -> str:
    """Format a time as "4.4 s", or as "27:54" if it is a minute or longer."""
    return (f"{seconds:.1f} s" if seconds < 59.95 else
            f"{round(seconds) // 60}:{round(seconds) % 60:02d}")


def note_name(pitch: float) -> str:
    """Return the name of the nearest note: 60 is "C4"."""
    return f"{_NAMES[round(pitch) % 12].replace(' sharp', '#')}{round(pitch) // 12 - 1}"


def webp(image: Any, size: tuple[int, int]) -> bytes:
    """Return a Pillow image as a WebP file of the given size."""
    content = io.BytesIO()
    image.resize(size).save(content, "WEBP", quality=80, method=4)
    return content.getvalue()


def render(page: Page) -> Iterator[bytes]:
    """Yield the HTML file in parts."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(clock=clock, code=_code, words=_words, data=lambda content, kind:
                               f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}")
    data = [{"name": sound.clip.name, "title": sound.clip.title, "note": sound.note,
             "kind": sound.clip.kind, "gain": round(sound.gain, 6), "sfz": sound.sfz,
             "seconds": round(sound.seconds, 4), "compare": sound.sources,
             "sources": sound.clip.sources, "weights": sound.clip.weights} for sound in page.sounds]
    text = environment.get_template("page.html.j2").generate(
        page=page, data=data, drawn=set(), piano=_piano() if any(
            sound.keys for sound in page.sounds) else [],
        css=Markup((_HERE / "page.css").read_text("utf-8")),
        script=Markup((_HERE / "page.js").read_text("utf-8")))
    return (part.encode("utf-8", "replace") for part in text)  # a file name may not be UTF-8


def _code(text: str) -> Markup:
    """Return a sentence as HTML with its `code` marked up and no line breaks in --options."""
    marked = re.sub("`(.*?)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"--[\w-]+", r"<span>\g<0></span>", marked))


def _words(value: object) -> str:
    """Return the value of an option as the user would type it."""
    return "yes" if value is True else ", ".join(map(str, value)) if isinstance(
        value, (list, tuple)) else str(value)


def _moment(started: float | str | None) -> str:
    """Format the start time of a run, given in seconds since the epoch or as text."""
    if isinstance(started, (int, float)):
        started = datetime.fromtimestamp(started).isoformat()
    return (started or "").replace("T", " ")


def _piano() -> list[dict[str, object]]:
    """Return the keys of the keyboard, C3 to C5."""
    letters = dict(zip(range(60, 73), "awsedftgyhujk"))
    return [{"pitch": pitch, "name": f"{_NAMES[pitch % 12]}{pitch // 12 - 1}",
             "black": "sharp" in _NAMES[pitch % 12], "letter": letters.get(pitch, "")}
            for pitch in range(48, 73)]
