"""The one way to write a file: complete under its name, or not there at all.

Every file that a run leaves goes through `writing`, or through `write_wav` for a sound.  Readers
never see half of a file, an earlier one stays until its successor is whole, and a name that
somebody has made a link of is replaced, never followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import unicodedata
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from synths import InputError

# A temporary of ours: `.page.html.0123456789abcdef.part` becomes `page.html`.
_MARK = ".part"
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}" + re.escape(_MARK), re.DOTALL)
_MOST = 255     # bytes of a name, on every usual disk
_KEPT = 200     # bytes of the name that the temporary keeps
_BLOCK = 1 << 20    # samples of a sound that are written at a time

# What Windows does not take in a name, and the names that are devices there, with any ending:
# "Naming Files, Paths, and Namespaces" in Microsoft's documentation.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\xb9\xb2\xb3])\s*(\..*)?",
                      re.IGNORECASE | re.DOTALL)


def check_name(name: str, system: str = os.name) -> None:
    """Make sure, before long work, that a file of that name can be made.

    Parameters
    ----------
    name : str
        One part of a path, with its ending.
    system : str
        Whose rules count, as in `os.name`: "nt" for Windows, all others are as strict as Linux.

    Raises
    ------
    InputError
        It is empty, too long, a device of Windows, or has characters that no name may have.

    Examples
    --------
    >>> check_name("nul.wav", "posix")
    >>> check_name("nul.wav", "nt")
    Traceback (most recent call last):
    ...
    synths.InputError: The file name 'nul.wav' stands for a device on Windows: choose another one.
    """
    def refuse(reason: str) -> InputError:
        return InputError(f"The file name {quoted(name)} {reason}: choose another one.")

    size = len(name.encode("utf-8", "surrogatepass"))
    if size > _MOST:
        raise InputError(f"The file name {quoted(name)} is {size} bytes long, and disks take "
                         f"{_MOST}: choose a shorter one.")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise refuse("is none")
    if system == "nt":
        if found := _FORBIDDEN.search(name):
            raise refuse(f"has {found[0]!r} in it, which Windows does not take")
        if name[-1] in ". ":
            raise refuse("ends in a full stop or a space, which Windows leaves out")
        if _DEVICES.fullmatch(name):
            raise refuse("stands for a device on Windows")


def name_key(name: str) -> str:
    """What two names have in common if some disk takes them for one.

    Disks of macOS and Windows compare without regard to case, macOS also without regard to how
    accents are written, and Windows leaves out full stops and spaces at the end.

    Examples
    --------
    >>> name_key("Kick.WAV") == name_key("kick.wav")
    True
    """
    folded = unicodedata.normalize("NFC", name).casefold()
    return unicodedata.normalize("NFC", folded).rstrip(". ")


def quoted(text: object, most: int = 200) -> str:
    r"""Foreign text for a message: quoted, control characters escaped, cut as by `shortened`.

    Examples
    --------
    >>> print(quoted("a\x1b[2J"))
    'a\x1b[2J'
    """
    return shortened(repr(str(text)), most)


def shortened(text: object, most: int = 200) -> str:
    """Foreign text on one line of at most `most` characters: the middle is left out."""
    line = "".join(char if char.isprintable() else " " for char in str(text))
    if len(line) <= most:
        return line
    return f"{line[:most // 2 - 2]} ... {line[len(line) - (most - most // 2 - 3):]}"


def one_line(sentence: object, most: int = 200) -> str:
    """A sentence that repeats foreign text: on one line, and long words cut as by `shortened`."""
    line = "".join(char if char.isprintable() else " " for char in str(sentence))
    return re.sub(rf"\S{{{most + 1},}}", lambda word: shortened(word[0], most), line)


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
        If the system refuses: no room, no rights, a name too long; on Windows also if another
        program has an earlier file of that name open.

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
    kept = path.name.encode("utf-8", "ignore")[:_KEPT].decode("utf-8", "ignore")
    part = path.parent / f".{kept}.{secrets.token_hex(8)}{_MARK}"
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(part, path)
        except PermissionError as error:
            if not path.exists():
                raise
            raise InputError(f"{shortened(path)} cannot be replaced ({error.strerror or error}): "
                             "close the program that has it open, or name another place."
                             ) from error
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # the name is taken away already if all went well
            part.unlink(missing_ok=True)


def append(path: str | Path, data: bytes) -> None:
    """Add to a file of one's own that is there already, never through a link.

    Unlike `writing`, a kill or a full disk can leave a part of `data`: the reader must tell.

    Raises
    ------
    InputError
        If the system refuses.
    """
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
        try:
            while data:
                data = data[os.write(handle, data):]
        finally:
            os.close(handle)
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: str | Path, error: OSError) -> InputError:
    return InputError(f"{shortened(path)} cannot be written ({error.strerror or error}): make "
                      "room, or name another place.")


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
    if not 1 <= sample_rate < 1 << 31:  # what libsndfile says of others depends on its version
        raise InputError(f"{shortened(path)} cannot be written with a sample rate of "
                         f"{sample_rate}: give one in Hz.")
    loudest = max(float(audio.max(initial=0.0)), -float(audio.min(initial=0.0)))
    gain = 1 / max(1.0, loudest)
    # libsndfile would hide the system's own error, such as a full disk
    with writing(path) as file, wave.open(file, "wb") as wav:
        wav.setparams((1, 2, sample_rate, len(audio), "NONE", ""))
        for first in range(0, len(audio), _BLOCK):
            samples = np.rint(audio[first:first + _BLOCK] * (gain * 32767))
            wav.writeframesraw(samples.astype("<i2").tobytes())
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


@contextlib.contextmanager
def scratch(folder: str | Path, name: str) -> Iterator[Path]:
    """Make a hidden folder within a folder; it is gone when the block ends.

    Parameters
    ----------
    folder : str or Path
        On the disk of the results.
    name : str
        What it is for; `sweep` finds it should this process be killed.

    Yields
    ------
    Path

    Raises
    ------
    InputError
        If the system refuses.
    """
    path = Path(folder) / f".{name}.{secrets.token_hex(8)}{_MARK}"
    try:
        path.mkdir(0o700)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(folder: str | Path) -> None:
    """Remove what killed runs have left half-written in a folder that no other run is using."""
    for left in Path(folder).glob(f".*{_MARK}"):
        if not _TEMPORARY.fullmatch(left.name):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()
