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


@contextlib.contextmanager
def lock(file: str | Path) -> Iterator[None]:
    """Hold a lock file; the system lifts the lock if this process is killed.

    Parameters
    ----------
    file : str or Path
        Made if it is missing, and removed at the end.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    OSError
        If the file cannot be made.
    """
    file = Path(file)
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock_handle(handle)
            # Its last holder may have removed the file between the two calls: then it locks nobody.
            if os.name == "nt" or os.path.samestat(os.fstat(handle), os.stat(file)):
                break
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    try:
        yield
    finally:
        if os.name != "nt":  # which cannot remove an open file
            file.unlink(missing_ok=True)
        os.close(handle)
        if os.name == "nt":
            with contextlib.suppress(OSError):
                file.unlink()


def _lock_handle(handle: int) -> None:
    if os.name == "nt":
        import msvcrt
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            raise BlockingIOError from None
    else:
        import fcntl
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass


def sweep(folder: str | Path) -> None:
    """Remove what killed runs have left half-written in a folder that no other run is using."""
    for left in Path(folder).glob(f".*{_MARK}"):
        if left.is_file() and len(left.suffixes) > 1 and len(left.suffixes[-2]) == 17:
            with contextlib.suppress(OSError):
                left.unlink()
