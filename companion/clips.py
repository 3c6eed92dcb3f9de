"""A clip: one sound that a run reads or makes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Clip:
    """One sound of a run.

    Parameters
    ----------
    name : str
        File name without extension: "bass_flute".
    title : str
        The same in words: "bass, flute".
    kind : str
        "source", "reconstruction", "mix", "step", "crossfade", "score", "preview" or "bank".
    sources : tuple of str
        Names of the source sounds.
    weights : tuple of float
        Mixing weight of each source.
    stream : str
        Random-stream key.
    pitch : float, optional
        MIDI pitch, if it is known.
    """

    name: str
    title: str
    kind: str
    sources: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    stream: str = ""
    pitch: float | None = None
