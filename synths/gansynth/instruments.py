"""Instruments that a user chooses: by number or from a file, and placed along a score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synths import InputError
from synths.files import shortened, writing
from synths.gansynth.generate_util import instrument_times


def choose_instruments(model, chosen: str, total_time: float, rng: np.random.Generator
                       ) -> tuple[np.ndarray, np.ndarray]:
    """Return instruments as a user names them, placed in time.

    Parameters
    ----------
    model
        Anything with ``generate_z(n, rng)``.
    chosen : str
        Numbers of the generator's instruments, counted from 1 in the order in which
        `generate_util.get_random_instruments` draws them, each with its time in seconds if wanted:
        "3,7,1@8.0"; or the name of a file from `save_instruments`, whose times are kept.
    total_time : float
        Seconds from the start to the end of the last note to end.
    rng : numpy.random.Generator
        Freshly seeded.

    Returns
    -------
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]

    Raises
    ------
    InputError
        If `chosen` is neither, or the times do not ascend.
    """
    if Path(chosen).suffix.lower() in (".npz", ".npy"):
        z, saved_times = load_instruments(chosen)
        width = model.generate_z(1).shape[1]
        if z.shape[1] != width:
            raise InputError(f"This model's instruments are {width} numbers each, and those in "
                             f"{chosen} are {z.shape[1]}: use the checkpoint they were made with.")
        return place_instruments(z, saved_times, total_time)
    numbers: list[int] = []
    times: list[float | None] = []
    for word in chosen.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:@\s*(\d+(?:\.\d*)?|\.\d+)\s*)?", word)
        if not match or int(match[1]) < 1:
            raise InputError("Instruments are numbers from 1, with optional times in seconds "
                             f"(3,7,1@8.0), or a .npz file, not {word.strip()!r}.")
        numbers.append(int(match[1]))
        times.append(None if match[2] is None else float(match[2]))
    z = np.asarray(model.generate_z(max(numbers), rng))[np.array(numbers) - 1]
    return place_instruments(z, times, total_time)


def place_instruments(z: np.ndarray, times: Sequence[float | None] | np.ndarray | None,
                      total_time: float) -> tuple[np.ndarray, np.ndarray]:
    """Place chosen instruments at chosen times.

    Between two instruments the timbre moves from one to the other; before the first and after the
    last it stays.  One instrument alone is held for the whole piece.

    Parameters
    ----------
    z : ndarray [k, d]
        The instruments, in playing order.
    times : sequence of k floats or None, or None
        Seconds, not decreasing.  Where a time is None the instrument is spaced evenly between its
        timed neighbours; the first then starts the piece and the last ends it.
    total_time : float
        Seconds from the start to the end of the last note to end.

    Returns
    -------
    z_instruments : ndarray [max(2, k), d]
    t_instruments : ndarray [max(2, k)]

    Raises
    ------
    InputError
        If the times do not ascend.
    """
    count = len(z)
    placed: list[float | None] = [None] * count if times is None else list(times)
    begin, end = instrument_times(total_time, total_time)
    if placed[0] is None:
        placed[0] = begin
    if placed[-1] is None:
        placed[-1] = max(end, *(time for time in placed if time is not None))
    known = {index: time for index, time in enumerate(placed) if time is not None}
    t_instruments = np.interp(np.arange(count), list(known), list(known.values()))
    if not (np.diff(t_instruments) >= 0).all():
        raise InputError("The times of the instruments must ascend, in seconds, not be"
                         f" {', '.join(f'{time:g}' for time in t_instruments)}.")
    if count == 1:
        return np.repeat(z, 2, axis=0), np.array([t_instruments[0], max(end, t_instruments[0])])
    return z, t_instruments


def save_instruments(path: str | Path, z_instruments: np.ndarray,
                     t_instruments: np.ndarray) -> None:
    """Save instruments as ``.npz``, so that they can be played again.

    Parameters
    ----------
    path : str or Path
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]
        Seconds.
    """
    with writing(Path(path)) as file:
        np.savez(file, allow_pickle=False, z=z_instruments,
                 t=np.asarray(t_instruments, np.float64))


def load_instruments(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Load instruments saved by `save_instruments`, or any ``.npy`` of latent vectors.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    z_instruments : float64 ndarray [k, d]
    t_instruments : float64 ndarray [k] or None
        Seconds, if they were saved.

    Raises
    ------
    InputError
        If the file does not hold instruments.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"z": loaded}
            z, times = np.atleast_2d(arrays["z"]).astype(np.float64), arrays.get("t")
            if times is not None:
                times = times.astype(np.float64)
                if times.shape != z.shape[:1] or not np.isfinite(times).all():
                    raise ValueError("not one time for each instrument")
            if z.ndim != 2 or not z.size or not np.isfinite(z).all():
                raise ValueError("not rows of finite numbers")
        except Exception as error:  # zipfile and zlib have errors of their own
            raise InputError(f"{shortened(path)} holds no instruments ({shortened(error)}): give a"
                             " .npz file that a run has saved.") from error
    return z, times


def preview_phrase() -> dict:
    """Return a short phrase to know an instrument by: two octaves of a chord, the last note held.

    Returns
    -------
    dict
        Notes as from `generate_util.load_midi`; 4 seconds.
    """
    pitches = np.array([48, 55, 60, 64, 67, 72])
    starts = 0.4 * np.arange(len(pitches))
    return {"pitches": pitches, "velocities": np.full(len(pitches), 100),
            "start_times": starts, "end_times": np.append(starts[1:], 4.0)}
