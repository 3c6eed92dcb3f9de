"""Fetches files and unpacks archives so that whatever ends up under its name is whole.

Set the environment variable `SYNTHS_MIRROR` to the base address of a mirror, for example
`http://127.0.0.1:8000`, to fetch everything from there instead: the path of an address stays, and
scheme and host are replaced.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import stat
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from synths import InputError, files
from synths.weights.crc32c import crc32c

Progress = Callable[[int, int], None]

# The four clips and the score of the book, from its public repository, with their SHA-256.
_BOOK = ("https://raw.githubusercontent.com/PacktPublishing/"
         "hands-on-music-generation-with-magenta/master/Chapter05/")
BOOK_SOUNDS = {
    "83249__zgump__bass-0205__crop.wav":
        "42f27445df6d1554628bf9967a7a549628b8ae13021d9b3b0908ba869552fa22",
    "160045__jorickhoofd__metal-hit-with-metal-bar-resonance__crop.wav":
        "0b6cc3c5dca02beab1bcaf140046bccf332a11c8fdcfe199bb0c6965df6317ad",
    "412017__skymary__cat-meow-short__crop.wav":
        "af4980ef820864bda13081775b5705f395217722f022095102621306154d9f73",
    "427567__maria-mannone__flute__crop.wav":
        "c87f0759b8593abc7ed2d1c0829d4be61e4cf45951529ba7831561cb012f3955",
}
BOOK_SCORE = {
    "cs1-1pre-short.mid": "2f95d2b22e2b363ce1928d02dac4c15aaca60e63c14035b8c9dc1fcb5a3164bc",
}

_CHUNK = 1 << 20            # bytes
_TRIES = 5                  # connections in a row that bring nothing new
_PAUSE = 1.0                # seconds before the second try; doubled for each one after it
_MOST_BYTES = 8 << 30       # in an archive; the largest official one holds 1 GB
_MOST_FILES = 10_000
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError,
            RuntimeError)   # the last: zip archives that are encrypted, or packed in unknown ways


class ArchiveError(InputError):
    """An archive is damaged, or holds what must not be unpacked; no other folder will help."""


def fetch(url: str, target: str | Path, *, sha256: str | None = None,
          progress: Progress | None = None, timeout: float = 30) -> Path:
    """Download one file.

    The bytes go to `<target>.part`, which is renamed once it is whole and verified: by `sha256`
    where given, else by what Google Cloud Storage sends in `x-goog-hash`, and by its length in
    every case.  A part that an earlier call left is continued if the file on the server is still
    the same.  A target that is there already is kept if it has the digest asked for, or if none
    is asked for.

    Parameters
    ----------
    url : str
        The address.
    target : str or Path
        The file to make; its folder is made, too.
    sha256 : str, optional
        The digest it must have, in hexadecimal.
    progress : callable, optional
        Called with bytes done and bytes in total (0: unknown).
    timeout : float
        Seconds without a sign of life after which a connection counts as lost.

    Raises
    ------
    InputError
        No connection, no such file, a wrong digest, no space, no permission, or another run is
        fetching the same file.
    """
    target = Path(target)
    url = _mirrored(url)

    def present() -> bool:
        return target.is_file() and (sha256 is None or _mismatch(target, sha256, {}) is None)

    if present():
        return target
    with _writing(target), lock(target):
        if present():             # another run may have brought it between the two looks
            return target
        part = target.with_name(target.name + ".part")
        state_file = target.with_name(target.name + ".part.json")
        while True:
            resumed = _size(part) > 0
            _receive(url, part, state_file, progress, timeout)
            wrong = _mismatch(part, sha256, _load_state(state_file, url).get("hashes", {}))
            if wrong is None:
                break
            part.unlink()
            state_file.unlink(missing_ok=True)
            if not resumed:       # else what an earlier run left may be at fault: once more
                raise InputError(
                    f"The download of {url} is not the file it should be ({wrong}) and was "
                    "removed: try again, and if that does not help the file there has changed.")
        os.replace(part, target)
        state_file.unlink(missing_ok=True)
    return target


def fetch_book_sounds(target_dir: str | Path, progress: Progress | None = None, *,
                      files: Mapping[str, str] = BOOK_SOUNDS,
                      base_url: str = _BOOK + "sounds/") -> list[Path]:
    """Fetch the four sounds of the book's example, those that are not there yet.

    Parameters
    ----------
    target_dir : str or Path
        Where they land.
    progress : callable, optional
        Called with bytes done and bytes in total, as far as known: the total grows with each file.
    files : mapping of str to str
        File names and their SHA-256.
    base_url : str
        The address of the folder that holds them.

    Returns
    -------
    list of Path
        The files, in the book's order.

    Raises
    ------
    InputError
        As `fetch`.
    """
    paths = []
    before = 0

    def add(done: int, total: int) -> None:
        progress(before + done, before + total)
    for name, sha256 in files.items():
        path = fetch(base_url + urllib.parse.quote(name), Path(target_dir) / name, sha256=sha256,
                     progress=add if progress else None)
        before += path.stat().st_size
        paths.append(path)
    return paths


def fetch_book_score(target_dir: str | Path, progress: Progress | None = None) -> Path:
    """Fetch the MIDI file of the book's example; otherwise as `fetch_book_sounds`.

    The score that ships has the same name: give another folder than its own, or it is replaced.
    """
    return fetch_book_sounds(target_dir, progress, files=BOOK_SCORE, base_url=_BOOK + "midi/")[0]


def unpack(archive: str | Path, target_dir: str | Path, *,
           check: Callable[[Path], object] | None = None) -> Path:
    """Unpack a tar (also compressed) or zip archive, all of it or nothing.

    Everything goes to `<target_dir>.unpacking`, which is renamed at the end.  An existing
    `target_dir` is replaced.  Where the archive holds one folder and nothing else, that folder's
    content is what lands in `target_dir`.

    Two runs must not unpack to one folder at once: hold `lock(target_dir)`.

    Parameters
    ----------
    archive : str or Path
        The archive.
    target_dir : str or Path
        The folder to make.
    check : callable, optional
        Called with the folder before it gets its name; what it raises ends the unpacking.

    Raises
    ------
    ArchiveError
        The archive is damaged, not an archive or too large; or it holds something other than
        files and folders, or a path that leads outside.
    InputError
        No space or no permission.
    """
    archive, target_dir = Path(archive), Path(target_dir)
    fresh = target_dir.with_name(target_dir.name + ".unpacking")
    stale = target_dir.with_name(target_dir.name + ".replaced")
    with _writing(target_dir):
        try:
            for folder in (fresh, stale):
                if folder.exists():
                    shutil.rmtree(folder)
            fresh.mkdir()
            _extract(archive, fresh)
            root = fresh
            while True:
                content = [entry for entry in root.iterdir() if entry.name != "__MACOSX"]
                if len(content) != 1 or not content[0].is_dir():
                    break
                root = content[0]
            if check:
                check(root)
            if target_dir.exists():
                os.replace(target_dir, stale)
            try:
                os.replace(root, target_dir)
            except OSError:
                if stale.exists():
                    os.replace(stale, target_dir)
                raise
        finally:
            for folder in (fresh, stale):
                shutil.rmtree(folder, ignore_errors=True)
    return target_dir


@contextlib.contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Keep other runs off a file or folder; the system lifts the lock if this one is killed.

    Raises
    ------
    InputError
        Another run holds it.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        with _writing(path):
            try:
                stack.enter_context(files.lock(path.with_name(path.name + ".lock")))
            except BlockingIOError:
                raise InputError(
                    f"Another run is fetching {path} at this moment: wait until it is done, then "
                    "start again.") from None
        yield


# Download


def _receive(url: str, part: Path, state_file: Path, progress: Progress | None,
             timeout: float) -> None:
    """Bring `part` to its full length, over as many connections as that takes."""
    most, failures, gained = _size(part), 0, False
    while True:
        try:
            _connect(url, part, state_file, progress, timeout)
            return
        except urllib.error.HTTPError as error:
            problem, lasting = error, error.code < 500 and error.code not in (408, 416, 429)
            if error.code == 416:        # the part does not fit the file
                part.unlink(missing_ok=True)
        except urllib.error.URLError as error:
            # Who never got through has no network or the wrong address: no use in waiting.
            problem, lasting = error, not gained
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            problem, lasting = error, False
        if _size(part) > most:
            most, failures, gained = _size(part), 0, True
        failures += 1
        if lasting or failures == _TRIES:
            raise InputError(_sentence(url, problem, part)) from problem
        time.sleep(_PAUSE * 2 ** (failures - 1))


def _connect(url: str, part: Path, state_file: Path, progress: Progress | None,
             timeout: float) -> None:
    """Receive what one connection brings; raises if that is not all."""
    state = _load_state(state_file, url)
    have = _size(part) if state.get("validator") else 0
    if have and have == state["total"]:
        return
    headers = {"User-Agent": "magenta-chapter-05", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["validator"]}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout, context=_certificates()) as response:
        if response.status == 206:
            expected = f"bytes {have}-{state['total'] - 1}/{state['total']}"
            if response.headers.get("Content-Range") != expected:
                part.unlink(missing_ok=True)
                raise http.client.HTTPException("the server sent another part than asked for")
        else:
            # From the start: the server has no ranges, or its file has changed.  The old bytes
            # go before the new state comes, so that a kill in between cannot join the two.
            part.unlink(missing_ok=True)
            have, state = 0, _state_of(response, url)
            _write_whole(state_file, json.dumps(state))
        _ensure_space(part, state["total"] - have)
        with part.open("ab") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(have, state["total"])
    if state["total"] and have != state["total"]:
        if have > state["total"]:
            part.unlink()
        raise ConnectionError(f"the connection ended at byte {have:,} of {state['total']:,}")


def _state_of(response: http.client.HTTPResponse, url: str) -> dict:
    """What must be remembered of a file to continue and to verify it in a later run."""
    headers = response.headers
    etag = headers.get("ETag", "")
    hashes = {}
    # What the bucket stores compressed but sends unpacked has other bytes than the digest's.
    if headers.get("x-goog-stored-content-encoding", "identity") == "identity":
        for pair in ",".join(headers.get_all("x-goog-hash", [])).split(","):
            name, _, value = pair.strip().partition("=")
            if name in ("md5", "crc32c"):
                hashes[name] = base64.b64decode(value).hex()
    return {"url": url, "hashes": hashes, "total": int(headers.get("Content-Length") or 0),
            # A weak ETag promises the same meaning, not the same bytes (RFC 9110, 13.1.5).
            "validator": etag if etag.startswith('"') else headers.get("Last-Modified", "")}


def _load_state(state_file: Path, url: str) -> dict:
    try:
        state = json.loads(state_file.read_text("utf-8"))
        return state if state["url"] == url else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _mismatch(path: Path, sha256: str | None, hashes: Mapping[str, str]) -> str | None:
    """In what digest a file differs from the one it should be, in words."""
    if sha256 is not None:
        expected = ("sha256", sha256.lower())
    elif hashes:
        name = "md5" if "md5" in hashes else "crc32c"       # md5 is the faster one here
        expected = (name, hashes[name])
    else:
        return None
    found = _digest(path, expected[0]).hex()
    return None if found == expected[1] else f"{expected[0]} {found} instead of {expected[1]}"


def _digest(path: Path, name: str) -> bytes:
    summed = hashlib.new(name, usedforsecurity=False) if name != "crc32c" else None
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if summed:
                summed.update(chunk)
            else:
                crc = crc32c(chunk, crc)
    return summed.digest() if summed else crc.to_bytes(4, "big")


def _certificates() -> ssl.SSLContext:
    """The system's authorities, and certifi's where it is installed: some Pythons know none."""
    context = ssl.create_default_context()
    try:
        import certifi
        context.load_verify_locations(certifi.where())
    except (ImportError, OSError):
        pass
    return context


def _sentence(url: str, error: Exception, part: Path) -> str:
    kept = f" What came so far ({_size(part):,} bytes) is kept: the same command goes on there."
    kept = kept if _size(part) else ""
    if isinstance(error, urllib.error.HTTPError):
        return (f"{url} cannot be downloaded, the server answers {error.code} ({error.reason}): "
                f"{'try again later.' if error.code >= 500 else 'it may have moved.'}{kept}")
    reason = getattr(error, "reason", None) or error
    reason = getattr(reason, "strerror", None) or reason
    return (f"{url} cannot be downloaded ({str(reason) or type(reason).__name__}): check the "
            f"network and try again.{kept}")


def _mirrored(url: str) -> str:
    mirror = os.environ.get("SYNTHS_MIRROR", "").rstrip("/")
    return mirror + urllib.parse.urlsplit(url).path if mirror else url


# Archives


def _extract(archive: Path, folder: Path) -> None:
    """Write an archive's files below a folder, by our own hand: no links, owners or modes."""
    try:
        bytes_left, files_left = _MOST_BYTES, _MOST_FILES
        for name, is_folder, size, source in _members(archive):
            bytes_left -= size
            files_left -= 1
            if bytes_left < 0 or files_left < 0:
                raise ArchiveError(
                    f"The archive {archive} was not unpacked: it holds more than "
                    f"{_MOST_BYTES >> 30} GB or {_MOST_FILES:,} files.")
            parts = name.replace("\\", "/").split("/")
            if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", name) or "\0" in name:
                raise ArchiveError(
                    f"The archive {archive} was not unpacked: it holds a path that leads outside, "
                    f"{name!r}.")
            path = folder.joinpath(*parts)
            if is_folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            _ensure_space(path, size)
            with source() as opened, path.open("wb") as file:
                shutil.copyfileobj(opened, file, _CHUNK)
            if path.stat().st_size != size:
                raise EOFError
    except _DAMAGED as error:
        raise ArchiveError(f"The archive {archive} is damaged or not an archive "
                         f"({str(error) or 'it is cut short'}): fetch it anew.") from error


def _members(archive: Path) -> Iterator[tuple[str, bool, int, Callable[[], BinaryIO]]]:
    """Name, whether it is a folder, size and opener of each member, in order."""
    def refuse(name: str) -> ArchiveError:
        return ArchiveError(f"The archive {archive} was not unpacked: {name!r} in it is neither a "
                          "file nor a folder.")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise refuse(info.filename)
                yield (info.filename, info.is_dir(), info.file_size,
                       lambda info=info: zipped.open(info))
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise refuse(member.name)
                yield (member.name, member.isdir(), member.size,
                       lambda member=member: tar.extractfile(member))


# Files


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Make the folder of a target, and put what goes wrong while writing there into words."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        remedy = "make space" if error.errno == errno.ENOSPC else "make this one writable"
        raise InputError(f"{target} cannot be written ({error.strerror or error}): {remedy}, or "
                         "give another folder.") from error


def _ensure_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise InputError(f"{path.parent} has {free / 1e6:,.0f} MB free, and {path.name} needs "
                         f"{size / 1e6:,.0f} MB: make space, or give another folder.")


def _write_whole(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, "utf-8")
    os.replace(beside, path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
