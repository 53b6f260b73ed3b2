"""A disk in memory that forgets, tears and refuses, for tests and simulations. Deterministic: randomness is handed in.

It keeps two images. The volatile one is what a running process sees: every write, every new name at once. The durable
one is what a power loss leaves: contents as of their last sync, names as of the last sync of their directory. `crash`
makes the durable image the new truth, after letting chance decide what of the unsynced got there anyway: any 512-byte
sectors of unsynced contents, any subset of unsynced names. That is harsher than a journalling file system, and what
POSIX allows.

Every change is a numbered operation. With `crash_at = n` the n-th raises `SimulatedCrash` in place of taking effect,
so a test can cut a workload at each of them in turn.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random

from zope.interface import implementer

from chronik.errors import StorageError
from chronik.interfaces import Buffer, IDisk, IFile

SECTOR_BYTES = 512
_UNLIMITED = 1 << 62


class SimulatedCrash(BaseException):
    """The power went at this operation. Not an Exception: nothing may handle it."""


class _Content:
    """What is in one file: as seen now, and as of its last sync."""

    __slots__ = ("durable", "volatile")

    def __init__(self) -> None:
        self.volatile = bytearray()
        self.durable = b""


Names = list[str]
_Node = _Content | None
"""A file's content; None is a directory."""


@implementer(IFile)
class SimulatedFile:
    """A handle on a path of a `SimulatedDisk`. Made by its `open`; one from before a crash is dead."""

    __slots__ = ("_content", "_disk", "_life", "path")

    def __init__(self, disk: SimulatedDisk, path: str) -> None:
        self._disk = disk
        self._life = disk.lives
        self._content: _Content | None = None
        self.path = path

    def _open(self, create: bool) -> _Content:
        if self._life != self._disk.lives:
            raise SimulatedCrash(f"{self.path} was opened before the crash")
        if self._content is None:
            self._content = self._disk._file(self.path, create)
        return self._content

    def append(self, buffer: Buffer) -> None:
        """See `IFile`. On a full disk, as much as fits is written before the error."""
        content = self._open(create=True)
        self._disk._operation("append", self.path)
        room = self._disk.volume(self.path)[1]
        content.volatile += memoryview(buffer)[:room]
        if len(buffer) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)

    def pread(self, size: int, position: int) -> bytes:
        """See `IFile`."""
        content = self._open(create=False)
        self._disk._refuse("pread", self.path)
        return bytes(memoryview(content.volatile)[position : position + size])

    def size(self) -> int:
        """See `IFile`."""
        return self._disk.size(self.path) if self._disk.exists(self.path) else 0

    def truncate(self, size: int) -> None:
        """See `IFile`."""
        content = self._open(create=False)
        self._disk._operation("truncate", self.path)
        del content.volatile[size:]
        content.volatile += bytes(size - len(content.volatile))

    def datasync(self) -> None:
        """See `IFile`."""
        content = self._open(create=False)
        self._disk._sync("datasync", self.path)
        content.durable = bytes(content.volatile)

    def close(self) -> None:
        """See `IFile`."""
        self._content = None


@implementer(IDisk)
class SimulatedDisk:
    """A file tree in memory. `capacity` bounds the bytes of all files together.

    `operations` counts changes so far, `crash_at` is the number of the one that crashes, `lives` counts crashes and
    restarts.
    """

    def __init__(self, capacity: int = _UNLIMITED) -> None:
        self.capacity = capacity
        self.operations = 0
        self.crash_at = 0
        self.lives = 0
        self._names: dict[str, _Node] = {"/": None}
        self._durable_names: dict[str, _Node] = {"/": None}
        self._unsynced_names: list[tuple[str, Callable[[dict[str, _Node]], None]]] = []
        self._failures: dict[tuple[str, str], OSError] = {}

    # -- IDisk --------------------------------------------------------------------------------------------------------

    def open(self, path: str) -> SimulatedFile:
        """See `IDisk`."""
        return SimulatedFile(self, path)

    def read(self, path: str) -> bytes:
        """See `IDisk`."""
        self._refuse("read", path)
        return bytes(self._file(path, create=False).volatile)

    def replace(self, path: str, content: Buffer, durable: bool = True) -> None:
        """See `IDisk`."""
        temporary = path + ".tmp"
        file = self.open(temporary)
        if temporary in self._names:
            file.truncate(0)
        file.append(content)
        file.datasync()
        self.rename(temporary, path)
        if durable:
            self.sync_directory(_parent(path))

    def exists(self, path: str) -> bool:
        """See `IDisk`."""
        return path in self._names

    def size(self, path: str) -> int:
        """See `IDisk`."""
        return len(self._file(path, create=False).volatile)

    def list(self, path: str) -> Names:
        """See `IDisk`."""
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return sorted(name.rpartition("/")[2] for name in self._names if name != "/" and _parent(name) == path)

    def make_directory(self, path: str, durable: bool = True) -> None:
        """See `IDisk`."""
        if path in self._names:
            if self._names[path] is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            return
        self.make_directory(_parent(path), durable)
        self._operation("make_directory", path)

        def apply(names: dict[str, _Node]) -> None:
            names[path] = None

        self._change(_parent(path), apply)
        if durable:
            self.sync_directory(_parent(path))

    def rename(self, source: str, target: str) -> None:
        """See `IDisk`."""
        if source not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        self._operation("rename", source)
        moved = {name: node for name, node in self._names.items() if name == source or name.startswith(source + "/")}

        def apply(names: dict[str, _Node]) -> None:
            for name, node in moved.items():
                names.pop(name, None)
                names[target + name[len(source) :]] = node

        self._change(_parent(target), apply)

    def remove(self, path: str) -> None:
        """See `IDisk`."""
        if path not in self._names:
            return
        self._operation("remove", path)

        def apply(names: dict[str, _Node]) -> None:
            for name in [name for name in names if name == path or name.startswith(path + "/")]:
                del names[name]

        self._change(_parent(path), apply)

    def sync_directory(self, path: str) -> None:
        """See `IDisk`."""
        self._sync("sync_directory", path)
        waiting = []
        for directory, apply in self._unsynced_names:
            if directory == path:
                apply(self._durable_names)
            else:
                waiting.append((directory, apply))
        self._unsynced_names = waiting

    def volume(self, path: str) -> tuple[int, int]:
        """See `IDisk`."""
        used = sum(len(node.volatile) for node in self._names.values() if node is not None)
        return self.capacity, max(0, self.capacity - used)

    # -- faults -------------------------------------------------------------------------------------------------------

    def crash(self, random: Random) -> None:
        """Lose power: what wasn't synced is there, gone or torn as `random` has it. Goes on as the disk after the restart."""
        for _, apply in self._unsynced_names:
            if random.random() < 0.5:
                apply(self._durable_names)
        for content in {id(node): node for node in self._durable_names.values() if node is not None}.values():
            content.durable = _torn(content, random)
            content.volatile = bytearray(content.durable)
        # A file whose directory was lost has no name any more.
        names = self._durable_names
        for name in sorted(names):
            if name != "/" and _parent(name) not in names:
                del names[name]
        self._names = dict(names)
        self._unsynced_names = []
        self._begin_life()

    def kill(self) -> None:
        """Lose the process only: what was written stays, as the page cache does after a kill -9."""
        self._begin_life()

    def fail(self, operation: str, suffix: str, error: OSError) -> None:
        """Let every `operation` (append, pread, read, truncate, datasync, sync_directory, rename, ...) on such paths fail."""
        self._failures[operation, suffix] = error

    def heal(self) -> None:
        """Take all failures back."""
        self._failures.clear()

    def damage(self, path: str, position: int) -> None:
        """Flip the bits of one byte, durably: rot."""
        content = self._file(path, create=False)
        content.volatile[position] ^= 0xFF
        content.durable = bytes(content.volatile)

    def _begin_life(self) -> None:
        self.lives += 1
        self.crash_at = 0
        self._failures.clear()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _operation(self, kind: str, path: str) -> None:
        self.operations += 1
        if self.operations == self.crash_at:
            raise SimulatedCrash(f"at operation {self.operations}, {kind} of {path}")
        self._refuse(kind, path)

    def _refuse(self, kind: str, path: str) -> None:
        for (operation, suffix), error in self._failures.items():
            if operation == kind and path.endswith(suffix):
                raise error

    def _sync(self, kind: str, path: str) -> None:
        try:
            self._operation(kind, path)
        except OSError as error:
            raise StorageError(f"cannot sync {path}: {error.strerror or error}; the node stops") from error

    def _file(self, path: str, create: bool) -> _Content:
        node = self._names.get(path)
        if node is not None:
            return node
        if path in self._names:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not create or _parent(path) not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._operation("create", path)
        content = _Content()

        def apply(names: dict[str, _Node]) -> None:
            names[path] = content

        self._change(_parent(path), apply)
        return content

    def _change(self, directory: str, apply: Callable[[dict[str, _Node]], None]) -> None:
        apply(self._names)
        self._unsynced_names.append((directory, apply))


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _torn(content: _Content, random: Random) -> bytes:
    """What a power loss leaves of a file: all, nothing or any sectors of what wasn't synced."""
    old, new = content.durable, bytes(content.volatile)
    fate = random.random()
    if old == new or fate < 0.25:
        return old
    if fate < 0.5:
        return new
    length = random.randint(min(len(old), len(new)), max(len(old), len(new)))
    out = bytearray()
    for at in range(0, length, SECTOR_BYTES):
        source = new if random.random() < 0.5 else old
        out += source[at : at + SECTOR_BYTES].ljust(min(SECTOR_BYTES, length - at), b"\0")
    return bytes(out[:length])
