"""A disk that forgets: files as byte arrays, for nodes that live as long as a test."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterable

from zope.interface import implementer

from chronik.interfaces import Buffer, IDisk, IFile

_VOLUME_BYTES = 2**40


@implementer(IFile)
class MemoryFile:
    """A file of a `MemoryDisk`."""

    __slots__ = ("_files", "_path")

    def __init__(self, files: dict[str, bytearray], path: str) -> None:
        self._files = files
        self._path = path

    def append(self, buffer: Buffer) -> None:
        """See `IFile`."""
        self._files.setdefault(self._path, bytearray()).extend(buffer)

    def pread(self, size: int, position: int) -> bytes:
        """See `IFile`."""
        content = self._files.get(self._path)
        if content is None:
            raise _missing(self._path)
        # Cut out in one step: a view, in another thread than the one that appends, would keep the content from growing.
        return bytes(content[position : position + size])

    def size(self) -> int:
        """See `IFile`."""
        return len(self._files.get(self._path, b""))

    def truncate(self, size: int) -> None:
        """See `IFile`."""
        del self._files[self._path][size:]

    def datasync(self) -> None:
        """Nothing is more durable than memory here."""

    def close(self) -> None:
        """There is no handle."""


@implementer(IDisk)
class MemoryDisk:
    """A directory tree in memory."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}
        self._directories: set[str] = {"/"}

    def open(self, path: str) -> MemoryFile:
        """See `IDisk`."""
        return MemoryFile(self._files, path)

    def read(self, path: str) -> bytes:
        """See `IDisk`."""
        try:
            return bytes(self._files[path])
        except KeyError:
            raise _missing(path) from None

    def replace(self, path: str, content: Buffer, durable: bool = True) -> None:
        """See `IDisk`."""
        self._files[path] = bytearray(content)

    def exists(self, path: str) -> bool:
        """See `IDisk`."""
        return path in self._files or path in self._directories

    def size(self, path: str) -> int:
        """See `IDisk`."""
        return len(self.read(path))

    def list(self, path: str) -> list[str]:
        """See `IDisk`."""
        if path not in self._directories:
            raise _missing(path)
        start = len(path.rstrip("/")) + 1
        return sorted(
            {inner[start:] for inner in _below(path, (*self._files, *self._directories)) if "/" not in inner[start:]}
        )

    def make_directory(self, path: str, durable: bool = True) -> None:
        """See `IDisk`."""
        while path not in self._directories:
            self._directories.add(path)
            path = posixpath.dirname(path)

    def rename(self, source: str, target: str) -> None:
        """See `IDisk`."""
        if not self.exists(source):
            raise _missing(source)
        for path in [source, *_below(source, (*self._files, *self._directories))]:
            moved = target + path[len(source) :]
            if path in self._files:
                self._files[moved] = self._files.pop(path)
            else:
                self._directories.remove(path)
                self._directories.add(moved)

    def remove(self, path: str) -> None:
        """See `IDisk`."""
        for gone in [path, *_below(path, (*self._files, *self._directories))]:
            self._files.pop(gone, None)
            self._directories.discard(gone)

    def sync_directory(self, path: str) -> None:
        """Nothing is more durable than memory here."""

    def volume(self, path: str) -> tuple[int, int]:
        """See `IDisk`."""
        return _VOLUME_BYTES, _VOLUME_BYTES - sum(map(len, self._files.values()))


def _below(directory: str, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that lie inside `directory`, at any depth."""
    inside = directory.rstrip("/") + "/"
    return [path for path in paths if path.startswith(inside) and path != "/"]


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
