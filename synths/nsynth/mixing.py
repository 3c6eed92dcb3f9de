"""The crossfade from one sound to another over time."""

from __future__ import annotations

import numpy as np


def crossfade(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return an encoding [frames, channels] that begins as the first and ends as the second.

    The weights are the halves of a Hann window, as in the NSynth notebook; they sum to 1.
    """
    weight = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, len(first), dtype=np.float32))[:, None]
    return (1 - weight) * first + weight * second
