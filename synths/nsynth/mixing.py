"""Mixing weights, and the crossfade from one sound to another over time."""

from __future__ import annotations

import numpy as np

# Weights of the first and the second encoding in a mix.  "book" is the chapter's line,
# `encoding1 + encoding2 / 2.0`; "lean" is the same divided by 1.5.
WEIGHTS = {"book": (1.0, 1 / 2), "lean": (2 / 3, 1 / 3)}


def crossfade(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return an encoding that begins as the first and ends as the second.

    Parameters
    ----------
    first, second : float32 [frames, 16]

    Returns
    -------
    float32 [frames, 16]
        Mix with the halves of a Hann window as weights, as in the NSynth notebook; they sum to 1.
    """
    weight = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, len(first), dtype=np.float32))[:, None]
    return (1 - weight) * first + weight * second
