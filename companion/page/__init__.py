"""The page to listen on: one HTML file with every sound and picture of a run inside it.

It needs no server, no network and no file beside it, so it can be opened from disk or sent to
somebody; each sound also links to its WAV in the same folder.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Clip:
    """One sound on the page.

    Parameters
    ----------
    title : str
        What it is, in a few words; also names the player for screen readers.
    wav : Path
        The sound.
    picture : Path or None
        PNG shown above the player.
    alt : str
        What the picture shows, for those who do not see it.
    note : str
        A line under the title: of what it is made.
    kind : str
        "source", "reconstruction", "mix", "clip": only the colour of the card's edge.
    """

    title: str
    wav: Path
    picture: Path | None = None
    alt: str = ""
    note: str = ""
    kind: str = "clip"


@dataclass(frozen=True)
class Section:
    """A heading and its clips in a grid of `columns`; None leaves a cell of the grid empty."""

    title: str
    clips: Sequence[Clip | None]
    columns: int = 4
    text: str = ""
    row_labels: Sequence[str] = field(default_factory=tuple)
    column_labels: Sequence[str] = field(default_factory=tuple)


def data_uri(path: Path, kind: str) -> str:
    """The file's bytes as a data: address of the given media type."""
    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode('ascii')}"


def write_page(path: Path, title: str, introduction: str, sections: Sequence[Section],
               settings: Mapping[str, object], command: str,
               overview: Path | None = None, overview_alt: str = "") -> Path:
    """Write the page beside its target and rename it, so that it is whole or not there.

    Parameters
    ----------
    path : Path
        The HTML file; its folder holds the WAVs that the page links to.
    title, introduction : str
        Heading and first paragraph.
    sections : sequence of Section
    settings : mapping
        What the run was made with, shown as a table in the mapping's order.
    command : str
        The command that repeats the run.
    overview : Path or None
        PNG of the whole run, shown at the top.

    Returns
    -------
    Path
        `path`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(data_uri=data_uri)
    text = environment.get_template("index.html.j2").render(
        title=title, introduction=introduction, sections=sections, settings=settings,
        command=command, overview=overview, overview_alt=overview_alt)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    return path
