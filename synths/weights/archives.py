"""Unpacks archives: all of an archive or nothing, and never outside its folder."""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from synths import InputError
from synths.files import quoted, shortened

_MOST_BYTES = 8 << 30       # in an archive; the largest official one holds 1 GB
_MOST_FILES = 10_000
_MOST_AT_ONCE = 1 << 20     # bytes that tarfile reads in one go: more is a header made to harm
# Python's own guard against paths and modes that do harm; the oldest 3.10 and 3.11 lack it.
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
# What the system may refuse although the archive is good.
_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE,
           errno.ENFILE, errno.EIO, errno.EFBIG}


class ArchiveError(InputError):
    """An archive is damaged, or holds what must not be unpacked; no other folder will help."""


def unpack(archive: str | Path, target_dir: str | Path, *,
           check: Callable[[Path], object] | None = None) -> Path:
    """Unpack a tar, tar.gz or zip archive, all of it or nothing.

    Everything goes to `<target_dir>.unpacking`, which is renamed at the end.  An existing
    `target_dir` is replaced.  Where the archive holds one folder and nothing else, that folder's
    content is what lands in `target_dir`.

    Two runs must not unpack to one folder at once: hold `downloads.lock(target_dir)`.

    Parameters
    ----------
    archive : str or Path
        The archive, of the type that its name ends in.
    target_dir : str or Path
        The folder to make.
    check : callable, optional
        Called with the folder before it gets its name; what it raises ends the unpacking.

    Raises
    ------
    ArchiveError
        The archive is damaged, of another type than its name says, or too large; or it holds
        something other than files and folders, a path that leads outside or one that no file can
        have.
    InputError
        No space or no permission.
    """
    archive, target_dir = Path(archive), Path(target_dir)
    fresh = target_dir.with_name(target_dir.name + ".unpacking")
    stale = target_dir.with_name(target_dir.name + ".replaced")
    with storing(target_dir):
        try:
            sweep(target_dir)
            fresh.mkdir()
            _extract(archive, fresh)
            root = _root(fresh)
            if check:
                check(root)
            _sync(root)
            if target_dir.exists():
                os.replace(target_dir, stale)
            try:
                os.replace(root, target_dir)
            except OSError:
                if stale.exists():
                    os.replace(stale, target_dir)
                raise
        finally:
            sweep(target_dir)
    return target_dir


def sweep(target_dir: Path) -> None:
    """Remove what an unpacking to a folder has left beside it."""
    for end in (".unpacking", ".replaced"):
        shutil.rmtree(target_dir.with_name(target_dir.name + end), ignore_errors=True)


@contextlib.contextmanager
def storing(target: Path) -> Iterator[None]:
    """Make the folder of a target, and put what the system refuses there into words.

    Raises
    ------
    InputError
        If the folder cannot be made, or what is done there is refused.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        remedy = "make space" if error.errno == errno.ENOSPC else "make this one writable"
        raise InputError(f"{shortened(target)} cannot be written ({error.strerror or error}): "
                         f"{remedy}, or give another folder.") from error


def ensure_space(path: Path, size: int) -> None:
    """Make sure that a disk has room for a file.

    Raises
    ------
    InputError
        It has not.
    """
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise InputError(f"{shortened(path.parent)} has {free / 1e6:,.0f} MB free, and "
                         f"{shortened(path.name)} needs {size / 1e6:,.0f} MB: make space, or give "
                         "another folder.")


def _extract(archive: Path, folder: Path) -> None:
    """Write an archive's files below a folder; the fault is the archive's unless the system's."""
    try:
        bytes_left, files_left = _MOST_BYTES, _MOST_FILES
        for name, size, write in _members(archive):
            bytes_left -= size
            files_left -= 1
            if bytes_left < 0 or files_left < 0:
                raise ArchiveError(
                    f"The archive {shortened(archive)} was not unpacked: it holds more than "
                    f"{_MOST_BYTES >> 30} GB or {_MOST_FILES:,} files.")
            parts = name.replace("\\", "/").split("/")
            if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", name) or "\0" in name:
                raise ArchiveError(
                    f"The archive {shortened(archive)} was not unpacked: it holds a path that "
                    f"leads outside, {quoted(name)}.")
            ensure_space(folder, size)
            write(folder)
        if files_left == _MOST_FILES:
            raise EOFError
    except InputError:
        raise
    except Exception as error:  # tarfile, zipfile and the decompressors raise what they like
        if isinstance(error, OSError) and error.errno in _SYSTEM:
            raise
        raise ArchiveError(
            f"The archive {shortened(archive)} is damaged or not an archive "
            f"({shortened(error) or 'it is cut short'}): fetch it anew.") from error


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[Path], object]]]:
    """Name, size and extractor of each member, in order."""
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _foreign(archive, info.filename)
                yield info.filename, info.file_size, functools.partial(zipped.extract, info)
        return
    packed: Any = gzip.open if archive.name.endswith(".gz") else open
    careful: Any = _Careful
    with packed(archive, "rb") as file, tarfile.open(fileobj=careful(file), mode="r:") as tar:
        for member in tar:
            if not (member.isreg() or member.isdir()):
                raise _foreign(archive, member.name)
            yield (member.name, member.size,
                   functools.partial(tar.extract, member, set_attrs=False, **_FILTER))


class _Careful:
    """A file that gives no more at once than a well-meant tar archive needs."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise tarfile.ReadError("it has a header of more than 1 MB")
        return self._file.read(size)


def _foreign(archive: Path, name: str) -> ArchiveError:
    return ArchiveError(f"The archive {shortened(archive)} was not unpacked: {quoted(name)} in it "
                        "is neither a file nor a folder.")


def _root(folder: Path) -> Path:
    """The innermost folder that holds all that a folder holds."""
    while True:
        content = [entry for entry in folder.iterdir() if entry.name != "__MACOSX"]
        if len(content) != 1 or not content[0].is_dir():
            return folder
        folder = content[0]


def _sync(folder: Path) -> None:
    """See to it that the files reach the disk before the folder gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
