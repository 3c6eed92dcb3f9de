"""A score as the page shows it: notes in the colours of their instruments, and where these begin.

Drawn as SVG, so that it is sharp at every size and stands on dark pages as on light ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pictures.sheets import INSTRUMENT_COLOURS
from pictures.spectra import note_name

_WIDTH = 10000  # units across


@dataclass(frozen=True)
class Mark:
    """Where an instrument is reached.

    Parameters
    ----------
    name : str
        Its number.
    colour : str
        As CSS writes it.
    room : str
        What fits before the next one: "" for number and seconds, "number", or "tight" for neither.
    """

    name: str
    colour: str
    room: str


def _palette(names: Sequence[str]) -> np.ndarray:
    """A colour for each name, the same for the same one; [names, 3], 0 to 255."""
    known = list(dict.fromkeys(names))
    return np.array([INSTRUMENT_COLOURS[known.index(name) % len(INSTRUMENT_COLOURS)]
                     for name in names], float).reshape(-1, 3)


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in np.rint(colour))


def instrument_marks(times: Sequence[float], names: Sequence[str], seconds: float
                     ) -> list[tuple[float, Mark]]:
    """Where each instrument of a clip is reached; one that follows itself is marked once.

    Parameters
    ----------
    times : sequence of float
        Seconds, ascending.
    names : sequence of str
    seconds : float
        The clip's length.
    """
    colours = _palette(names)
    kept = [place for place in range(len(names)) if not place or names[place] != names[place - 1]]
    after = [times[place] for place in kept[1:]] + [seconds]
    shares = [(end - times[place]) / seconds for place, end in zip(kept, after)]
    return [(float(times[place]), Mark(names[place], _hex(colours[place]),
                                       "" if share > 0.09 else
                                       "number" if share > 0.03 else "tight"))
            for place, share in zip(kept, shares)]


def piano_roll(notes: Mapping, times: Sequence[float], names: Sequence[str], seconds: float
               ) -> Markup:
    """The notes of a score as SVG, from the clip's beginning to its end.

    A note has the colour of its instrument; between two instruments the colour moves from one to
    the other, in eight steps.  A softer note is paler, in four.

    Parameters
    ----------
    notes : mapping
        "pitches" and "velocities" (MIDI), "start_times" and "end_times" (seconds).
    times : sequence of k floats
        Seconds at which each instrument is reached, ascending.
    names : sequence of k str
    seconds : float
        The clip's length.
    """
    pitches = np.asarray(notes["pitches"], int)
    low, high = int(pitches.min()) - 1, int(pitches.max()) + 1
    rows = high - low + 1
    colours = _palette(names)
    paths: dict[tuple[str, float], list[str]] = {}
    for pitch, velocity, start, end in zip(pitches, notes["velocities"], notes["start_times"],
                                           notes["end_times"]):
        colour = (127, 127, 127)
        if len(times):
            at = np.interp(start, times, np.arange(len(times)))
            at = np.round(at * 8) / 8
            first = min(int(at), len(times) - 1)
            second = min(first + 1, len(times) - 1)
            colour = (1 - at + first) * colours[first] + (at - first) * colours[second]
        left, right = (int(_WIDTH * moment / seconds) for moment in (start, end))
        opacity = (0.4, 0.6, 0.8, 1.0)[min(int(velocity) // 32, 3)]
        paths.setdefault((_hex(np.asarray(colour)), opacity), []).append(
            f"M{left} {(high - pitch) * 10 + 1}h{max(right - left - 8, 12)}v8H{left}z")
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    lines = "".join(f"M0 {(high - pitch) * 10 + 10}h{_WIDTH}" for pitch in octaves)
    drawn = "".join(f'<path fill="{colour}" fill-opacity="{opacity}" d="{"".join(parts)}"/>'
                    for (colour, opacity), parts in paths.items())
    labels = "".join(f'<span style="top: {100 * (high - pitch + 0.5) / rows:.2f}%">'
                     f'{note_name(pitch)}</span>' for pitch in octaves)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {rows * 10}" preserveAspectRatio="none" role="img" '
        f'aria-label="The notes, from {note_name(int(pitches.min()))} to '
        f'{note_name(int(pitches.max()))}"><path d="{lines}" stroke="#8884" stroke-width="0.6" '
        f'vector-effect="non-scaling-stroke" fill="none"/>{drawn}</svg>'
        f'<span class="pitches" aria-hidden="true">{labels}</span>')
