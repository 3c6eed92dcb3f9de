"""Fetches files and weights so that whatever ends up under its name is whole.

Set the environment variable `SYNTHS_MIRROR` to the base address of a mirror, for example
`http://127.0.0.1:8000`, to fetch everything from there instead: the path of an address stays, and
scheme and host are replaced.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import google_crc32c

from synths import CheckpointError, InputError, files
from synths.files import shortened
from synths.weights import names, schema
from synths.weights.archives import ArchiveError, ensure_space, storing, sweep, unpack
from synths.weights.paths import resolve
from synths.weights.tensor_bundle import check

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
_SLOWEST = 1000             # bytes a second that a server must send
_PATIENCE = 30.0            # seconds over which that is measured
_MOST_BYTES = 4 << 30       # of a file; the largest official archive has 1 GB
_MOST_OF_BOOK = 64 << 20    # of the book's files, which have 0.3 MB at most
_LONGEST_NUMBER = 15        # digits of a length
_HASHES = {"md5": 16, "crc32c": 4}      # bytes


class _ServerError(Exception):
    """What a server sends makes no sense; asking again will not help."""


def fetch(url: str, target: str | Path, *, sha256: str | None = None,
          progress: Progress | None = None, timeout: float = 30,
          most: int = _MOST_BYTES) -> Path:
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
    most : int
        Bytes at which the download is given up.

    Raises
    ------
    InputError
        No connection, one slower than 1 kB/s, no such file, a server that contradicts itself or
        sends on an unsafe address, a wrong digest, too large a file, no space, no permission, or
        another run is fetching the same file.
    """
    target = Path(target)
    url = _mirrored(url)

    def present() -> bool:
        return target.is_file() and (sha256 is None or _mismatch(target, sha256, {}) is None)

    part = target.with_name(target.name + ".part")
    state_file = target.with_name(target.name + ".part.json")
    if present():
        # a killed download leaves its lock as well, which goes as it is given back
        held = target.with_name(target.name + ".lock")
        if any(left.exists() for left in (part, state_file, held)):
            with contextlib.suppress(InputError), lock(target):
                _remove(part, state_file)
        return target
    with storing(target), lock(target):
        if present():             # another run may have brought it between the two looks
            return target
        for path in (part, state_file):
            if path.is_symlink():
                path.unlink()
        files.sweep(target.parent)
        while True:
            resumed = _size(part) > 0
            _receive(url, part, state_file, progress, timeout, most)
            wrong = _mismatch(part, sha256, _load_state(state_file, url).get("hashes", {}))
            if wrong is None:
                break
            _remove(part, state_file)
            if not resumed:       # else what an earlier run left may be at fault: once more
                raise InputError(
                    f"The download of {shortened(url)} is not the file it should be ({wrong}) "
                    "and was removed: try again; if that does not help, the file there has "
                    "changed.")
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
        _remove(state_file)
    return target


def fetch_weights(name: str, target_dir: str | Path | None = None,
                  progress: Progress | None = None) -> Path:
    """Fetch official weights, unless they are there and whole, and return their prefix.

    The archive is fetched beside the folder, checked, unpacked and removed; an interrupted
    download goes on where it stopped when called again; a broken folder is replaced.  The SHA-256
    of the first archive that held the weights is kept beside them, and another one is refused.

    Parameters
    ----------
    name : str
        One of `CHECKPOINTS` that has an address.
    target_dir : str or Path, optional
        The weights land in a folder of their name in it.  None: the folder `checkpoints` of this
        project.
    progress : callable, optional
        Called with bytes done and bytes in total.

    Raises
    ------
    CheckpointError
        There are no official weights of that name, or the archive does not hold them.
    InputError
        The download failed, or the archive is not the one that was fetched before.
    """
    known = names.CHECKPOINTS.get(name)
    if known is None or known.url is None:
        listed = ", ".join(other.name for other in names.CHECKPOINTS.values() if other.url)
        raise CheckpointError(f"{files.quoted(name)} cannot be downloaded: there are {listed}.")
    target_dir = Path(target_dir or names.CHECKPOINTS_DIR)
    folder = target_dir / known.name
    archive = target_dir / known.url.rsplit("/", 1)[-1]
    if _present(folder, known.model):
        _sweep_weights(folder, archive)
    else:
        with lock(folder):
            if not _present(folder, known.model):   # else another run has brought it meanwhile
                _unpacked(known, archive, folder, progress)
    return _whole(folder, known.model)


def _whole(folder: Path, model: str) -> Path:
    """The prefix of the weights in a folder, checked."""
    prefix = resolve(folder)
    check(prefix)
    if schema.kind(prefix) != model:
        raise CheckpointError(f"{shortened(prefix)} is no checkpoint of {names.TITLES[model]}.")
    schema.check_variables(prefix, model)
    if model == "gansynth":
        schema.experiment(prefix)
    return prefix


def _present(folder: Path, model: str) -> bool:
    try:
        _whole(folder, model)
    except CheckpointError:
        return False
    return True


def _unpacked(known: names.Checkpoint, archive: Path, folder: Path,
              progress: Progress | None) -> None:
    """Fetch the archive, unpack it and remove it, also if no folder can do with it."""
    fetch(known.url or "", archive, progress=progress)  # only weights with an address come here
    record = _record_of(archive)
    digest = _digest(archive, "sha256").hex()
    first = _first_digest(record)
    if first not in (None, digest):
        archive.unlink()
        raise InputError(
            f"{shortened(known.url)} is not the file that was fetched here before (SHA-256 "
            f"{digest} instead of {first}): if you trust the new one, remove {shortened(record)} "
            "and try again.")
    try:
        unpack(archive, folder, check=lambda fresh: _whole(fresh, known.model))
    except ArchiveError:
        archive.unlink()
        raise
    except CheckpointError as error:
        archive.unlink()
        raise CheckpointError(
            f"The archive {shortened(known.url)} no longer holds the weights '{known.name}', and "
            f"was removed ({error})") from error
    if first is None:
        _keep_digest(archive, digest)
    archive.unlink()


def _record_of(archive: Path) -> Path:
    return archive.with_name(archive.name + ".sha256")


def _keep_digest(archive: Path, digest: str) -> None:
    with files.writing(_record_of(archive)) as file:
        file.write(f"{digest}  {archive.name}\n".encode())


def _first_digest(record: Path) -> str | None:
    """The SHA-256 that is kept, in the format of `sha256sum`."""
    try:
        with open(record, "rb") as file:
            found = re.match(rb"[0-9a-f]{64}", file.read(64))
    except FileNotFoundError:
        return None
    return found[0].decode() if found else None


def _sweep_weights(folder: Path, archive: Path) -> None:
    """Remove what a killed download has left beside weights that are whole."""
    left = [archive.with_name(archive.name + end)
            for end in ("", ".part", ".part.json", ".lock")]
    left += [folder.with_name(folder.name + end) for end in (".unpacking", ".replaced", ".lock")]
    if any(path.exists() for path in left):
        with contextlib.suppress(InputError), lock(folder), lock(archive):
            sweep(folder)
            files.sweep(archive.parent)
            if archive.is_file() and not _record_of(archive).exists():  # killed between the two
                _keep_digest(archive, _digest(archive, "sha256").hex())
            _remove(*left[:3])


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
        if progress:
            progress(before + done, before + total)
    for name, sha256 in files.items():
        path = fetch(base_url + urllib.parse.quote(name), Path(target_dir) / name, sha256=sha256,
                     progress=add, most=_MOST_OF_BOOK)
        before += path.stat().st_size
        paths.append(path)
    return paths


def fetch_book_score(target_dir: str | Path, progress: Progress | None = None) -> Path:
    """Fetch the MIDI file of the book's example; otherwise as `fetch_book_sounds`.

    The score that ships has the same name: give another folder than its own, or it is replaced.
    """
    return fetch_book_sounds(target_dir, progress, files=BOOK_SCORE, base_url=_BOOK + "midi/")[0]


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
        with storing(path):
            try:
                stack.enter_context(files.lock(path.with_name(path.name + ".lock")))
            except BlockingIOError:
                raise InputError(f"Another run is fetching {shortened(path)} at this moment: wait "
                                 "until it is done, then start again.") from None
        yield


# Download


def _receive(url: str, part: Path, state_file: Path, progress: Progress | None,
             timeout: float, most_bytes: int) -> None:
    """Bring `part` to its full length, over as many connections as that takes."""
    most, failures, gained = _size(part), 0, False
    while True:
        try:
            _connect(url, part, state_file, progress, timeout, most_bytes)
            return
        except _ServerError as error:
            _remove(part, state_file)
            raise InputError(f"{shortened(url)} cannot be downloaded, its server {error}: try "
                             "again later, or from another network.") from error
        except urllib.error.HTTPError as error:
            problem, lasting = error, error.code < 500 and error.code not in (408, 416, 429)
            if error.code == 416:        # the part does not fit the file
                part.unlink(missing_ok=True)
        except urllib.error.URLError as error:
            # Who never got through has no network or the wrong address: no use in waiting.
            problem, lasting = error, not gained
        except _SlowError as error:
            problem, lasting = error, True
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            problem, lasting = error, False
        if _size(part) > most:
            most, failures, gained = _size(part), 0, True
        failures += 1
        if lasting or failures == _TRIES:
            raise InputError(_sentence(url, problem, part)) from problem
        time.sleep(_PAUSE * 2 ** (failures - 1))


def _connect(url: str, part: Path, state_file: Path, progress: Progress | None,
             timeout: float, most: int) -> None:
    """Receive what one connection brings; raises if that is not all."""
    state = _load_state(state_file, url)
    have = _size(part) if state.get("validator") else 0
    if have and have == state["total"]:
        return
    headers = {"User-Agent": "magenta-chapter-05", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["validator"]}
    request = urllib.request.Request(url, headers=headers)
    with _opener().open(request, timeout=timeout) as response:
        if response.status == 206:
            if not have:
                raise _ServerError("sent a part where all of the file was asked for")
            expected = f"bytes {have}-{state['total'] - 1}/{state['total']}"
            if response.headers.get("Content-Range") != expected:
                part.unlink(missing_ok=True)
                raise http.client.HTTPException("the server sent another part than asked for")
        else:
            # From the start: the server has no ranges, or its file has changed.  The old bytes
            # go before the new state comes, so that a kill in between cannot join the two.
            part.unlink(missing_ok=True)
            have, state = 0, _state_of(response, url)
            with files.writing(state_file) as file:
                file.write(json.dumps(state).encode())
        if state["total"] > most:
            raise _ServerError(f"has a file of {state['total'] / 1e6:,.0f} MB, where "
                               f"{most / 1e6:,.0f} MB are the most that it can be")
        ensure_space(part, state["total"] - have)
        have = _copy(response, part, have, state["total"], progress, most)
    if state["total"] and have != state["total"]:
        if have > state["total"]:
            part.unlink()
        raise ConnectionError(f"the connection ended at byte {have:,} of {state['total']:,}")


def _copy(response: http.client.HTTPResponse, part: Path, have: int, total: int,
          progress: Progress | None, most: int) -> int:
    """Add what a connection brings to the part; the bytes that it has then."""
    since, before = time.monotonic(), have
    with part.open("ab") as file:
        while chunk := response.read1(_CHUNK):
            file.write(chunk)
            have += len(chunk)
            if have > most:
                raise _ServerError(f"sends more than {most / 1e6:,.0f} MB, which the file cannot "
                                   "have")
            if progress:
                progress(have, total)
            passed = time.monotonic() - since
            if passed >= _PATIENCE:
                if have - before < _SLOWEST * passed:
                    raise _SlowError(f"it came at {(have - before) / passed:.0f} bytes a second")
                since, before = time.monotonic(), have
    return have


class _SlowError(ConnectionError):
    """Too slow to go on with; what came is kept."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a server's redirects, but not from https to anything else."""

    def redirect_request(self, request, response, code, message, headers, new_url):
        old, new = (urllib.parse.urlsplit(url).scheme for url in (request.full_url, new_url))
        if new != "https" and (old == "https" or new != "http"):
            raise _ServerError(f"sends on to an address that is not safe, {shortened(new_url)}")
        return super().redirect_request(request, response, code, message, headers, new_url)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=_certificates()), _SafeRedirects())


def _state_of(response: http.client.HTTPResponse, url: str) -> dict:
    """What must be remembered of a file to continue and to verify it in a later run."""
    headers = response.headers
    etag = headers.get("ETag", "")
    hashes = {}
    # What the bucket stores compressed but sends unpacked has other bytes than the digest's.
    if headers.get("x-goog-stored-content-encoding", "identity") == "identity":
        for pair in ",".join(headers.get_all("x-goog-hash", [])).split(","):
            name, _, value = pair.strip().partition("=")
            if name in _HASHES:
                hashes[name] = _decoded(name, value)
    length = (headers.get("Content-Length") or "0").strip()
    if not (length.isascii() and length.isdigit() and len(length) <= _LONGEST_NUMBER):
        raise _ServerError(f"says that the file has {shortened(length, 40)} bytes")
    return {"url": url, "hashes": hashes, "total": int(length),
            # A weak ETag promises the same meaning, not the same bytes (RFC 9110, 13.1.5).
            "validator": etag if etag.startswith('"') else headers.get("Last-Modified", "")}


def _decoded(name: str, value: str) -> str:
    """A digest in hexadecimal, from base64."""
    try:
        digest = base64.b64decode(value, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != _HASHES[name]:
        raise _ServerError(f"sends a {name} that is none, {shortened(value, 40)}")
    return digest.hex()


def _load_state(state_file: Path, url: str) -> dict:
    try:
        state = json.loads(state_file.read_text("utf-8"))
        right = (state["url"] == url and type(state["total"]) is int
                 and isinstance(state["validator"], str) and isinstance(state["hashes"], dict)
                 and all(name in _HASHES and isinstance(value, str)
                         for name, value in state["hashes"].items()))
        return state if right else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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
                crc = google_crc32c.extend(crc, chunk)
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
        return (f"{shortened(url)} cannot be downloaded, the server answers {error.code} "
                f"({shortened(error.reason)}): "
                f"{'try again later.' if error.code >= 500 else 'it may have moved.'}{kept}")
    reason = getattr(error, "reason", None) or error
    reason = getattr(reason, "strerror", None) or reason
    reason = shortened(reason) or type(reason).__name__
    return (f"{shortened(url)} cannot be downloaded ({reason}): check the "
            f"network and try again.{kept}")


def _mirrored(url: str) -> str:
    mirror = os.environ.get("SYNTHS_MIRROR", "").rstrip("/")
    return mirror + urllib.parse.urlsplit(url).path if mirror else url


# Files


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
