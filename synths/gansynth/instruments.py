"""Instruments that the user chooses, by number or from a file, and their times in a score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synths import InputError
from synths.files import writing
from synths.gansynth.generate_util import instrument_times


def choose_instruments(model, chosen: str, total_time: float, rng: np.random.Generator
                       ) -> tuple[np.ndarray, np.ndarray]:
    """Return the instruments that the user chooses, and their times.

    Parameters
    ----------
    model
        Object with a method ``generate_z(n, rng)``.
    chosen : str
        Instrument numbers such as "3,7,1@8.0", or the name of a file from `save_instruments`.  The
        @ gives a time in seconds.  Numbers count from 1, in the order in which
        `generate_util.get_random_instruments` draws instruments.  The times in a file are kept.
    total_time : float
        Length of the piece in seconds, up to the end of its last note.
    rng : numpy.random.Generator
        Freshly seeded random number generator.

    Returns
    -------
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]

    Raises
    ------
    InputError
        If `chosen` is neither of these, or the times are not in ascending order.
    """
    if Path(chosen).suffix.lower() in (".npz", ".npy"):
        z, saved_times = load_instruments(chosen)
        width = model.generate_z(1).shape[1]
        if z.shape[1] != width:
            raise InputError(f"This model needs {width} numbers for each instrument, but {chosen} "
                             f"has {z.shape[1]}: use the checkpoint of the run that saved it.")
        return place_instruments(z, saved_times, total_time)
    numbers: list[int] = []
    times: list[float | None] = []
    for word in chosen.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:@\s*(\d+(?:\.\d*)?|\.\d+)\s*)?", word)
        if not match or int(match[1]) < 1:
            raise InputError("Instruments must be numbers (1 or higher), with optional times in "
                             f"seconds (3,7,1@8.0), or a .npz file, not {word.strip()!r}.")
        numbers.append(int(match[1]))
        times.append(None if match[2] is None else float(match[2]))
    z = np.asarray(model.generate_z(max(numbers), rng))[np.array(numbers) - 1]
    return place_instruments(z, times, total_time)


def place_instruments(z: np.ndarray, times: Sequence[float | None] | np.ndarray | None,
                      total_time: float) -> tuple[np.ndarray, np.ndarray]:
    """Assign times to the chosen instruments.

    Between two instruments, the timbre changes from one to the other.  Before the first and after
    the last one, it does not change.  A single instrument plays the whole piece.

    Parameters
    ----------
    z : ndarray [k, d]
        The instruments, in playing order.
    times : sequence of k floats or None, or None
        Times in seconds, not decreasing.  Instruments whose time is None are spaced evenly between
        their timed neighbours.  By default, the first is at the start of the piece and the last at
        its end.
    total_time : float
        Length of the piece in seconds, up to the end of its last note.

    Returns
    -------
    z_instruments : ndarray [max(2, k), d]
    t_instruments : ndarray [max(2, k)]

    Raises
    ------
    InputError
        If the times are not in ascending order.
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
        raise InputError("The times of the instruments (in seconds) must be in ascending order, not"
                         f" {', '.join(f'{time:g}' for time in t_instruments)}.")
    if count == 1:
        return np.repeat(z, 2, axis=0), np.array([t_instruments[0], max(end, t_instruments[0])])
    return z, t_instruments


def save_instruments(path: str | Path, z_instruments: np.ndarray,
                     t_instruments: np.ndarray) -> None:
    """Save instruments as an ``.npz`` file, to play them again later.

    Parameters
    ----------
    path : str or Path
    z_instruments : ndarray [k, d]
    t_instruments : ndarray [k]
        Times of the instruments in seconds.
    """
    with writing(Path(path)) as file:
        np.savez(file, allow_pickle=False, z=z_instruments,
                 t=np.asarray(t_instruments, np.float64))


def load_instruments(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Load instruments saved by `save_instruments`, or any ``.npy`` file of latent vectors.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    z_instruments : float64 ndarray [k, d]
    t_instruments : float64 ndarray [k] or None
        Times in seconds, or None if none were saved.

    Raises
    ------
    InputError
        If the file does not contain instruments.
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"z": loaded}
            z, times = np.atleast_2d(arrays["z"]).astype(np.float64), arrays.get("t")
            if times is not None:
                times = times.astype(np.float64)
                if times.shape != z.shape[:1] or not np.isfinite(times).all():
                    raise ValueError("it does not have one time for each instrument")
            if z.ndim != 2 or not z.size or not np.isfinite(z).all():
                raise ValueError("it does not have rows of finite numbers")
        except Exception as error:  # zipfile and zlib have errors of their own
            raise InputError(f"{path} contains no instruments ({error}): give a .npz file that a "
                             "run has saved.") from error
    return z, times


def preview_phrase() -> dict:
    """Return a short phrase for previews: an arpeggio over two octaves, with a long last note.

    Returns
    -------
    dict
        Notes in the format of `generate_util.load_midi`, 4 seconds in total.
    """
    pitches = np.array([48, 55, 60, 64, 67, 72])
    starts = 0.4 * np.arange(len(pitches))
    return {"pitches": pitches, "velocities": np.full(len(pitches), 100),
            "start_times": starts, "end_times": np.append(starts[1:], 4.0)}
