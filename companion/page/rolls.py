"""Draw a score for the page as SVG, with notes in the colours of their instruments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from companion.page import note_name

# Okabe and Ito's colours for colour-blind people, without black and yellow
PALETTE = np.array([(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233),
                    (230, 159, 0)], float)
_WIDTH = 10000  # units across


def instrument_colours(names: Sequence[str]) -> np.ndarray:
    """Return a colour [names, 3] in 0 to 255 for each name; equal names have equal colours."""
    known = list(dict.fromkeys(names))
    return np.array([PALETTE[known.index(name) % len(PALETTE)] for name in names]).reshape(-1, 3)


def note_colours(starts: np.ndarray, times: Sequence[float], names: Sequence[str]) -> np.ndarray:
    """Return a colour [notes, 3] for each note, blended in eighths between two instruments."""
    at = np.round(8 * np.interp(starts, times, np.arange(len(times)))) / 8
    colours, first = instrument_colours(names), at.astype(int)
    second = np.minimum(first + 1, len(times) - 1)
    blend = (at - first)[:, None]
    return (1 - blend) * colours[first] + blend * colours[second]


def css_colour(colour: np.ndarray) -> str:
    """Return a colour in CSS notation."""
    return "#" + np.rint(colour).astype(np.uint8).tobytes().hex()


def instrument_marks(times: Sequence[float], names: Sequence[str], seconds: float,
                     ) -> tuple[tuple[float, str, str, str], ...]:
    """Return the start of each instrument: seconds, name, colour and how much of it to show."""
    kept = [index for index in range(len(names)) if not index or names[index] != names[index - 1]]
    colours = instrument_colours(names)
    ends = [times[index] for index in kept[1:]] + [seconds]
    shares = [(end - times[index]) / seconds for index, end in zip(kept, ends)]
    return tuple((float(times[index]), names[index], css_colour(colours[index]),
                  "" if share > 0.09 else "number" if share > 0.03 else "tight")
                 for index, share in zip(kept, shares))


def piano_roll(notes: Mapping, times: Sequence[float], names: Sequence[str], seconds: float,
               ) -> Markup:
    """Draw the notes of a score as SVG, by the start of each instrument; softer notes are paler."""
    pitches = np.asarray(notes["pitches"], int)
    low, high = int(pitches.min()) - 1, int(pitches.max()) + 1
    rows = high - low + 1
    starts, ends = (np.asarray(notes[key], float) for key in ("start_times", "end_times"))
    paths: dict[tuple[str, float], list[str]] = {}
    for pitch, velocity, start, end, colour in zip(
            pitches, notes["velocities"], starts, ends, note_colours(starts, times, names)):
        left, right = (int(_WIDTH * moment / seconds) for moment in (start, end))
        opacity = (0.4, 0.6, 0.8, 1.0)[min(int(velocity) // 32, 3)]
        paths.setdefault((css_colour(colour), opacity), []).append(
            f"M{left} {(high - pitch) * 10 + 1}h{max(right - left - 8, 12)}v8H{left}z")
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    lines = "".join(f"M0 {(high - pitch) * 10 + 10}h{_WIDTH}" for pitch in octaves)
    drawn = "".join(f'<path fill="{colour}" fill-opacity="{opacity}" d="{"".join(parts)}"/>'
                    for (colour, opacity), parts in paths.items())
    labels = "".join(f'<span style="top: {100 * (high - pitch + 0.5) / rows:.2f}%">'
                     f'{note_name(pitch)}</span>' for pitch in octaves)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {rows * 10}" preserveAspectRatio="none" role="img" '
        f'aria-label="The notes, from {note_name(pitches.min())} to {note_name(pitches.max())}">'
        f'<path d="{lines}" stroke="#8884" stroke-width="0.6" vector-effect="non-scaling-stroke" '
        f'fill="none"/>{drawn}</svg><span class="pitches" aria-hidden="true">{labels}</span>')
