"""The crossfade from one sound to another over time."""

from __future__ import annotations

import numpy as np


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
