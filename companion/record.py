"""What a run is: its record, made once at the start and handed on, and the clips it plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from companion.progress import say


@dataclass(frozen=True)
class Planned:
    """A clip that a run will make, settled before any work starts.

    Parameters
    ----------
    path : Path
        The WAV.
    title : str
        What it is in words: "bass with flute", "75 % bass, 25 % flute".
    kind : str
        "reconstruction", "mix", "step", "crossfade", "score" or "preview".
    sources : tuple of int
        Places of the sounds that go into it, the leading one first; empty for GANSynth.
    shares : tuple of float
        Weight of each source's encoding.
    identity : str
        What its random numbers come from, beside the seed: the sources' names and shares, never
        its place among the clips.
    """

    path: Path
    title: str
    kind: str
    sources: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    identity: str = ""


@dataclass
class Record:
    """A run of one of the scripts.

    Parameters
    ----------
    seed : int
    output_dir : Path
        The folder that belongs to this run.
    weights : str
        The checkpoint in words.
    starter : bool
        Whether the small starter that ships plays.
    command : str
        What repeats the run.
    settings : mapping
        What was asked for, in words, in the order to show it; nothing that played no part.
    labels : bool
        Whether pictures have axes.
    quiet : bool
    began : float
        Seconds since the epoch.
    stopped : bool
        Whether the run was stopped before its end.
    resume : str
        What goes on with it then; empty where nothing can.
    files : list of str
        What it makes, by names within its folder, once its clips are planned: a later run that
        replaces it removes these, and nothing else.
    """

    seed: int
    output_dir: Path
    weights: str
    starter: bool
    command: str
    settings: Mapping[str, object]
    labels: bool = False
    quiet: bool = False
    began: float = 0.0
    stopped: bool = False
    resume: str = ""
    files: list[str] = field(default_factory=list)

    def say(self, message: str) -> None:
        """Print a line, unless the run is quiet."""
        say(self, message)
