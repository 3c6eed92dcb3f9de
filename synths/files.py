"""Write files atomically: a file appears under its final name only when it is complete."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

_BLOCK = 1 << 20  # samples written at a time


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing, and give it its final name if the block ends without an error.

    The new file replaces an earlier file or link with that name.  The folder must exist.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.txt")) as file:
    ...         _ = file.write(b"text")
    ...     print([entry.name for entry in Path(folder).iterdir()])
    ['a.txt']
    """
    part = Path(path).with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(part):  # as for a full disk
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def sweep(folder: str | Path) -> None:
    """Remove the half-written files of killed runs from a folder that no other run is using."""
    for left in Path(folder).glob(".*.part"):
        if re.fullmatch(r"\.[0-9a-f]{16}\.part", left.name):
            left.unlink()


def append(path: str | Path, data: bytes) -> None:
    """Append to an existing file, but not through a link.

    If the process is killed, only part of `data` may be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with open(path, "ab", opener=lambda name, _: os.open(name, flags)) as file:
        file.write(data)


def write_wav(path: str | Path, audio: np.ndarray, sample_rate: int = 16000) -> None:
    """Write float samples as a 16-bit WAV file, and scale them down if they exceed full scale.

    The folder must exist.
    """
    scale = 32767 / max(1.0, float(np.abs(audio).max(initial=0.0)))
    # libsndfile would hide the system's own error, such as a full disk
    with writing(path) as file, wave.open(file, "wb") as wav:
        wav.setparams((1, 2, sample_rate, len(audio), "NONE", ""))
        for first in range(0, len(audio), _BLOCK):
            samples = np.rint(audio[first:first + _BLOCK] * scale)
            wav.writeframesraw(samples.astype("<i2").tobytes())
