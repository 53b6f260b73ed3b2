"""The real disk: append-only files behind lazy handles, and files that are replaced in one step.

A node has several files a partition and may run at `ulimit -n 1024`, so a `RealFile` is a path that has a descriptor
only while it is used. At most `max_open` are open at a time; which one gives way is found as in a clock: every use
sets a mark, the hand clears marks and closes the first file it meets without one. An append on an open file is one
attribute read and one `os.write`. Files are opened for append, so a reopened one goes on at its end.

A sync may come from another thread (see `chronik.log.flusher`). It works on a duplicate of the descriptor, so a file
that gives way meanwhile harms nothing, and a file that was closed with unsynced bytes is opened for it again: the
pages belong to the file, not to the descriptor, and so does the error of a failed write-back (Linux 4.16 and later).
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from threading import Lock

from zope.interface import implementer

from chronik.errors import StorageError
from chronik.interfaces import Buffer, IDisk, IFile

_CLOSED = -1
_TEMPORARY = ".tmp"


@implementer(IFile)
class RealFile:
    """A file by its path, opened when used. Made by `RealDisk.open`."""

    __slots__ = ("_disk", "_fd", "_used", "path")

    def __init__(self, disk: RealDisk, path: str) -> None:
        self._disk = disk
        self._fd = _CLOSED
        self._used = False
        self.path = path

    def append(self, buffer: Buffer) -> None:
        """See `IFile`."""
        fd = self._fd
        if fd < 0:
            fd = self._disk._acquire(self, os.O_CREAT)
        self._used = True
        written = os.write(fd, buffer)
        if written != len(buffer):
            rest = memoryview(buffer)[written:]
            while rest:  # a nearly full disk takes a part; the next write says why
                rest = rest[os.write(fd, rest) :]

    def pread(self, size: int, position: int) -> bytes:
        """See `IFile`."""
        fd = self._fd
        if fd < 0:
            fd = self._disk._acquire(self, 0)
        self._used = True
        data = os.pread(fd, size, position)
        if len(data) == size or not data:
            return data
        return self._pread_rest(fd, data, size, position)

    def _pread_rest(self, fd: int, data: bytes, size: int, position: int) -> bytes:
        """A read may be cut at 2 GiB or by a signal: only an empty one means the end."""
        while len(data) < size:
            more = os.pread(fd, size - len(data), position + len(data))
            if not more:
                break
            data += more
        return data

    def size(self) -> int:
        """See `IFile`."""
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def truncate(self, size: int) -> None:
        """See `IFile`."""
        os.ftruncate(self._fd if self._fd >= 0 else self._disk._acquire(self, 0), size)

    def datasync(self) -> None:
        """See `IFile`."""
        try:
            fd = self._disk._duplicate(self)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise _sync_failed(self.path, error) from error

    def close(self) -> None:
        """See `IFile`."""
        if self._fd >= 0:
            self._disk._release(self)


@implementer(IDisk)
class RealDisk:
    """The file system. Holds at most `max_open` files open; by default half of what the process may have, up to 512."""

    def __init__(self, max_open: int | None = None) -> None:
        if max_open is None:
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            max_open = 512 if soft == resource.RLIM_INFINITY else max(8, min(512, soft // 2))
        self._max_open = max_open
        self._open: list[RealFile] = []
        self._hand = 0
        self._lock = Lock()  # held while descriptors come and go, never while they are used

    @property
    def open_files(self) -> int:
        """How many descriptors are held."""
        return len(self._open)

    def open(self, path: str) -> RealFile:
        """See `IDisk`."""
        return RealFile(self, path)

    def read(self, path: str) -> bytes:
        """See `IDisk`."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            content = os.read(fd, size + 1)
            while more := os.read(fd, 1 << 20):
                content += more
            return content
        finally:
            os.close(fd)

    def replace(self, path: str, content: Buffer, durable: bool = True) -> None:
        """See `IDisk`."""
        temporary = path + _TEMPORARY
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(fd, rest) :]
            try:
                os.fsync(fd)
            except OSError as error:
                raise _sync_failed(temporary, error) from error
        finally:
            os.close(fd)
        os.rename(temporary, path)
        if durable:
            self.sync_directory(os.path.dirname(path))

    def exists(self, path: str) -> bool:
        """See `IDisk`."""
        return os.path.lexists(path)

    def size(self, path: str) -> int:
        """See `IDisk`."""
        return os.stat(path).st_size

    def list(self, path: str) -> list[str]:
        """See `IDisk`."""
        return sorted(os.listdir(path))

    def make_directory(self, path: str, durable: bool = True) -> None:
        """See `IDisk`."""
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return
        except FileNotFoundError:
            self.make_directory(os.path.dirname(path), durable)
            os.mkdir(path)
        if durable:
            self.sync_directory(os.path.dirname(path))

    def rename(self, source: str, target: str) -> None:
        """See `IDisk`."""
        os.rename(source, target)

    def remove(self, path: str) -> None:
        """See `IDisk`."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            if not os.path.isdir(path) or os.path.islink(path):
                raise
            shutil.rmtree(path)

    def sync_directory(self, path: str) -> None:
        """See `IDisk`."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            raise _sync_failed(path, error) from error
        finally:
            os.close(fd)

    def volume(self, path: str) -> tuple[int, int]:
        """See `IDisk`."""
        volume = os.statvfs(path)
        return volume.f_blocks * volume.f_frsize, volume.f_bavail * volume.f_frsize

    # -- descriptors --------------------------------------------------------------------------------------------------

    def _acquire(self, file: RealFile, flags: int) -> int:
        """Open `file`, closing another one where too many are open."""
        with self._lock:
            if len(self._open) >= self._max_open:
                self._evict()
            try:
                fd = _open_file(file.path, flags)
            except OSError as error:
                if error.errno != errno.EMFILE or not self._open:
                    raise
                self._max_open = max(8, len(self._open) - 1)  # others in this process hold more than was allowed for
                self._evict()
                fd = _open_file(file.path, flags)
            file._fd = fd
            self._open.insert(self._hand, file)  # behind the hand, which then comes to it last
            self._hand += 1
            return fd

    def _evict(self) -> None:
        """Close the first file from the hand on that wasn't used since the hand last passed."""
        files = self._open
        while True:
            if self._hand >= len(files):
                self._hand = 0
            file = files[self._hand]
            if not file._used:
                break
            file._used = False
            self._hand += 1
        del files[self._hand]
        os.close(file._fd)
        file._fd = _CLOSED

    def _release(self, file: RealFile) -> None:
        with self._lock:
            index = self._open.index(file)
            del self._open[index]
            self._hand -= index < self._hand
            os.close(file._fd)
            file._fd = _CLOSED

    def _duplicate(self, file: RealFile) -> int:
        """A descriptor of its own for the thread that syncs."""
        with self._lock:
            return os.dup(file._fd) if file._fd >= 0 else _open_file(file.path, 0)


def _open_file(path: str, flags: int) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o644)


def _sync_failed(path: str, error: OSError) -> StorageError:
    return StorageError(
        f"cannot sync {path}: {error.strerror or error}; what was written since the last sync may be lost, "
        "so the node stops: check the disk, then start it again"
    )
