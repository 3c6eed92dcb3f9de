"""The one way to write a file: complete under its name, or not there at all.

Every file that a run leaves goes through `writing`, or through `write_wav` for a sound.  Readers
never see half of a file, an earlier one stays until its successor is whole, and a name that
somebody has made a link of is replaced, never followed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from synths import InputError

# A temporary of ours: `.page.html.0123456789abcdef.part` becomes `page.html`.
_MARK = ".part"
_LONGEST = 100  # characters of the name that the temporary keeps: names have a limit on every disk


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to write; it takes its name when the block ends well, and is gone otherwise.

    Parameters
    ----------
    path : str or Path
        An earlier file of that name is replaced.  Its folder must exist.

    Yields
    ------
    binary file
        A temporary beside `path`, created exclusively under a random name, with the rights that
        any new file gets.

    Raises
    ------
    InputError
        If the system refuses: no room, no rights, a name too long.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.txt")) as file:
    ...         _ = file.write(b"whole")
    ...     print([entry.name for entry in Path(folder).iterdir()])
    ['a.txt']
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:_LONGEST]}.{secrets.token_hex(8)}{_MARK}")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}): make room, or "
                         "name another place.") from error
    finally:
        with contextlib.suppress(OSError):  # the name is taken away already if all went well
            part.unlink(missing_ok=True)


def write_wav(path: str | Path, audio: np.ndarray, sample_rate: int = 16000) -> float:
    """Write a sound as 16-bit PCM WAV.

    Parameters
    ----------
    path : str or Path
        Its folder must exist.
    audio : float [samples]
        Full scale is -1..1; louder, it is scaled down to that, never clipped.
    sample_rate : int
        In Hz.

    Returns
    -------
    float
        What the sound was multiplied by: 1.0 unless it had to be scaled down.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import soundfile  # 20 ms that only a run with sounds needs

    gain = 1 / max(1.0, float(np.abs(audio).max(initial=0.0)))
    samples = np.rint(audio * (gain * 32767)).astype(np.int16)
    with writing(path) as file:
        try:
            soundfile.write(file, samples, sample_rate, subtype="PCM_16", format="WAV")
        except soundfile.SoundFileError as error:  # libsndfile hides the system's own error
            raise InputError(f"{path} cannot be written ({error}): make room, or name another "
                             "place.") from error
    return gain


def sweep(folder: str | Path) -> None:
    """Remove what killed runs have left half-written in a folder that no other run is using."""
    for left in Path(folder).glob(f".*{_MARK}"):
        if left.is_file() and len(left.suffixes) > 1 and len(left.suffixes[-2]) == 17:
            with contextlib.suppress(OSError):
                left.unlink()
