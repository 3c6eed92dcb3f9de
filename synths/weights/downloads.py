"""Download files and models.

A file gets its final name only when it is complete and verified.  To download everything from a
mirror, set the environment variable `SYNTHS_MIRROR` to its base address, such as
`http://127.0.0.1:8000`.  The path of each URL stays the same.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
from tqdm import tqdm

from synths import CheckpointError, InputError
from synths.weights import names, schema
from synths.weights.paths import checked

# The book's four sounds in its public repository, and their SHA-256 digests.
BOOK_URL = ("https://raw.githubusercontent.com/PacktPublishing/"
            "hands-on-music-generation-with-magenta/master/Chapter05/sounds/")
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
_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each retry
_TRY_AGAIN = (408, 416, 429)  # client errors (RFC 9110) after which a retry can succeed


def fetch(url: str, target: str | Path, sha256: str | None = None, timeout: float = 30) -> Path:
    """Download one file, or resume an interrupted download; a complete file is kept.

    The bytes are written to `<target>.part`.  The complete file is verified against `sha256`, or
    against the `x-goog-hash` header of Google Cloud Storage, and then renamed to `target`.  After
    `timeout` seconds without an answer, the connection is considered lost.
    """
    target, part = Path(target), Path(f"{target}.part")
    if target.is_file() and not _mismatch(target, sha256, []):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    pauses, before = iter(_PAUSES), 0
    while True:
        try:
            hashes = _receive(_mirrored(url), part, timeout)
            break
        except (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError,
                http.client.HTTPException) as error:
            code = getattr(error, "code", 500)
            if code == 416:  # the part is longer than the file
                part.unlink(missing_ok=True)
            if part.exists() and part.stat().st_size > before:  # progress: restart the pauses
                pauses, before = iter(_PAUSES), part.stat().st_size
            pause = next(pauses, None)
            if pause is None or 400 <= code < 500 and code not in _TRY_AGAIN:
                reason = getattr(error, "reason", None) or error
                raise InputError(f"{url} cannot be downloaded ({reason}): check your network, "
                                 "and run the same command again to resume.") from None
            time.sleep(pause)
    wrong = _mismatch(part, sha256, hashes)
    if wrong:
        part.unlink()
        raise InputError(f"The file from {url} is damaged or has changed ({wrong}): try again.")
    os.replace(part, target)
    return target


def _receive(url: str, part: Path, timeout: float) -> list[str]:
    """Append the missing bytes to the partial file; return the `x-goog-hash` headers."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout, context=_certificates()) as answer:
        have = have if answer.status == 206 else 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        with open(part, "ab" if have else "wb") as file, tqdm(
                desc=f"downloading {part.stem}", initial=have, total=total or None, unit="B",
                unit_scale=True, disable=None, leave=False) as bar:
            while block := answer.read1(1 << 20):
                file.write(block)
                bar.update(len(block))
    if part.stat().st_size < total:
        raise ConnectionError("the connection was lost")
    compressed = answer.headers.get("x-goog-stored-content-encoding", "identity") != "identity"
    return [] if compressed else answer.headers.get_all("x-goog-hash", [])


def _mismatch(path: Path, sha256: str | None, hashes: list[str]) -> str:
    """Return the digest of a file if it differs from the expected one; otherwise ""."""
    if sha256 is not None:
        found = _digest(path, hashlib.sha256())
        return "" if found == sha256.lower() else f"SHA-256 {found}"
    sent = dict(pair.strip().split("=", 1) for pair in ",".join(hashes).split(",") if "=" in pair)
    for name, digest in (("md5", hashlib.md5(usedforsecurity=False)),
                         ("crc32c", google_crc32c.Checksum())):
        if name in sent:
            found = _digest(path, digest)
            return "" if found == base64.b64decode(sent[name]).hex() else f"{name} {found}"
    return ""


def _digest(path: Path, digest) -> str:
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest().hex()


def _certificates() -> ssl.SSLContext:
    """Return the certificates of the system and of certifi, since some Pythons have none."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        import certifi
        context.load_verify_locations(certifi.where())
    return context


def _mirrored(url: str) -> str:
    mirror = os.environ.get("SYNTHS_MIRROR", "").rstrip("/")
    return mirror + urllib.parse.urlsplit(url).path if mirror else url


def fetch_weights(name: str, target_dir: str | Path | None = None) -> Path:
    """Download and unpack an official model if it is missing; return its prefix.

    The folder `target_dir` (None: `checkpoints`) gets a subfolder with the model's name.
    """
    known = names.CHECKPOINTS.get(name)
    if known is None or known.url is None:
        listed = ", ".join(other.name for other in names.CHECKPOINTS.values() if other.url)
        raise CheckpointError(f"{name} cannot be downloaded: choose one of {listed}.")
    folder = Path(target_dir or names.CHECKPOINTS_DIR) / known.name
    archive = folder.parent / known.url.rsplit("/", 1)[-1]
    with contextlib.suppress(CheckpointError):
        return _complete(folder, known.model)
    fetch(known.url, archive)
    try:
        unpack(archive, folder, lambda root: _complete(root, known.model))
    except CheckpointError:
        archive.unlink()
        raise
    archive.unlink()
    return _complete(folder, known.model)


def _complete(folder: Path, model: str) -> Path:
    """Return the prefix of the model in a folder; raise CheckpointError unless it is complete."""
    prefix = checked(folder, model)
    if model == "gansynth":
        schema.experiment(prefix)
    return prefix


def unpack(archive: Path, folder: Path, check: Callable[[Path], object]) -> None:
    """Unpack a tar, tar.gz or zip archive into a folder, which is replaced if it exists.

    Paths outside the folder, and contents that `check` refuses, raise a CheckpointError.
    """
    fresh = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    # Python's filter refuses links and paths outside the folder; zipfile never follows them.
    tar = archive.name.endswith((".tar", ".tar.gz")) and hasattr(tarfile, "data_filter")
    options: dict[str, Any] = {"filter": "data"} if tar else {}
    try:
        shutil.unpack_archive(archive, fresh, **options)
        root = fresh
        while len(inside := [entry for entry in root.iterdir() if entry.name != "__MACOSX"]) == 1:
            if not inside[0].is_dir():
                break
            root = inside[0]
        check(root)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(root, folder)
    except (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error,
            NotImplementedError, RuntimeError, UnicodeError) as error:
        raise CheckpointError(f"The archive {archive.name} is damaged ({error}): download it "
                              "again.") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def fetch_book_sounds(target_dir: str | Path, sounds: Mapping[str, str] = BOOK_SOUNDS,
                      base_url: str = BOOK_URL) -> list[Path]:
    """Download any of the book's four sounds that are missing; return the paths of all four."""
    return [fetch(base_url + name, Path(target_dir) / name, sha256)
            for name, sha256 in sounds.items()]
