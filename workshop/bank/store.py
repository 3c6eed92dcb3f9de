"""Store a bank in a folder, or at any address that fsspec supports (s3://, gs://, memory://)."""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from pathlib import Path

from synths import InputError, files


class StoreError(InputError):
    """An error in reading or writing the bank, after which more work would be lost."""


class Store:
    """A store of complete files, by name, below a folder or an fsspec address."""

    def __init__(self, address: str) -> None:
        self.address = str(address)
        self.remote = "://" in self.address
        if self.remote:
            try:
                import fsspec
                self._system, self._root = fsspec.core.url_to_fs(self.address)
            except (ImportError, ValueError) as error:
                raise InputError(f"The address {self.address} cannot be used ({error}): install "
                                 "the package that it needs, or choose a folder.") from error

    def path(self, name: str) -> str:
        """Return the address of a file."""
        return (posixpath.join(self._root, name) if self.remote
                else str(Path(self.address, *name.split("/"))))

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file, or None if there is no such file."""
        try:
            if self.remote:
                return self._system.cat_file(self.path(name))
            return Path(self.path(name)).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path(name)} cannot be read ({error.strerror or error}): check "
                             "its permissions, or choose another --output.") from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically."""
        path = self.path(name)
        try:
            if not self.remote:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                with files.writing(path) as file:
                    file.write(data)
                return
            part = f"{path}.{secrets.token_hex(8)}.part"
            self._system.makedirs(posixpath.dirname(path), exist_ok=True)
            self._system.pipe_file(part, data)
            self._system.mv(part, path)
        except OSError as error:
            raise StoreError(f"{path} cannot be written ({error.strerror or error}): free some "
                             "disk space, or choose another --output.") from error

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder; an empty list if the folder is missing."""
        try:
            if self.remote:
                self._system.invalidate_cache()  # others write there too
                found = self._system.ls(self.path(folder), detail=False)
            else:
                found = Path(self.path(folder)).iterdir()
            names = [posixpath.basename(str(entry).replace("\\", "/")) for entry in found]
        except FileNotFoundError:
            return []
        return sorted(f"{folder}/{name}" for name in names if not name.endswith(".part"))

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        if self.remote:
            if self._system.exists(self.path(name)):
                self._system.rm_file(self.path(name))
        else:
            Path(self.path(name)).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the half-written files of killed runs, and empty folders, if no run is writing."""
        if not self.remote:
            for folder in ("", "clips", "encodings", "sources", "finished"):
                files.sweep(Path(self.address, folder))
            for folder in ("sources", "finished"):
                with contextlib.suppress(OSError):  # it is not there, or not empty
                    Path(self.address, folder).rmdir()
