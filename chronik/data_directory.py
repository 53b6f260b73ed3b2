"""The data directory: whose it is, what format it has, whether it was left in order, and who holds it now.

`<data>/format` is a small JSON file: format version, cluster id, node id, and the id of this very directory. It is
written before anything else is, so a directory with data but without it is nobody's; while it says `formatting`, the
metadata store is being made, and a node that finds it so makes it afresh. A newer version is refused; an older one is
migrated step by step, each step ending with the rewritten `format` file: a crash in between repeats that step only,
and so every step must be able to run twice. `<data>/clean-shutdown` is written last of all by a node that stopped in order,
and removed, durably, before the next one writes anything: its absence means that the tails of logs must be verified.

`<data>/lock` is locked with flock while a node runs, and names its process.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from chronik.errors import DataDirectoryError
from chronik.interfaces import IDisk
from chronik.model import uuid_from_text, uuid_to_text

FORMAT_VERSION = 1

Contents = dict[str, Any]
"""What the `format` file says, by name."""


def _new_id() -> str:
    """A random id as text. As in Kafka none begins with "-", which command lines would take for a flag."""
    while (text := uuid_to_text(secrets.token_bytes(16))).startswith("-"):
        pass
    return text


def _identify_directory(disk: IDisk, path: str, contents: Contents) -> Contents:
    """0 -> 1: the directory gets an id, so that a replaced disk is not taken for the old one (KIP-858), and says what
    keeps its metadata, which was LevelDB always."""
    return {**contents, "directory_id": _new_id(), "metadata_store": "leveldb"}


MIGRATIONS: Mapping[int, Callable[[IDisk, str, Contents], Contents]] = {0: _identify_directory}
"""By the version that it starts from: changes the files under the path, and returns the new contents."""


def hold(path: str) -> Callable[[], None]:
    """Lock `<path>/lock` for this process; returns what releases it. Raises DataDirectoryError when another one holds it."""
    file = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "another process"
        os.close(file)
        raise DataDirectoryError(
            f"data directory {path} is held by process {holder}; stop that node, or give this one a directory of its own"
        ) from error
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode("ascii"), 0)
    return lambda: os.close(file)


class DataDirectory:
    """A data directory that this node holds, from `take` to `release`."""

    def __init__(
        self, path: str, disk: IDisk, contents: Contents, was_clean: bool, unlock: Callable[[], None] | None
    ) -> None:
        self.path = path
        self.cluster_id: str = contents["cluster_id"]
        self.directory_id: str = contents["directory_id"]
        self.node_id: int = contents["node_id"]
        self.metadata_store: str = contents["metadata_store"]
        """The name of the key-value store that keeps the metadata."""
        self.was_clean = was_clean
        """Whether the node before stopped in order; otherwise the tails of all logs must be verified."""
        self._disk = disk
        self._unlock = unlock

    @classmethod
    def take(
        cls,
        path: str,
        disk: IDisk,
        node_id: int,
        metadata_store: str,
        format_store: Callable[[str, str], None],
        lock: Callable[[str], Callable[[], None]] | None = hold,
    ) -> DataDirectory:
        """Lock the directory at `path`, made where missing, migrate it and read it. `lock` is None for a disk in memory.

        In a new directory, `format_store(metadata_store, meta)` makes the metadata store. Raises DataDirectoryError: it is
        held, of a newer format, of another node, damaged, or cannot be written.
        """
        unlock = None
        try:
            disk.make_directory(path)
            unlock = lock(path) if lock is not None else None
            contents = _migrated(disk, path, _read(disk, path) or _begin(disk, path, node_id, metadata_store))
            if contents["node_id"] != node_id:
                raise DataDirectoryError(
                    f"data directory {path} belongs to node {contents['node_id']}, this node's id is {node_id}; "
                    "set node_id, or use another directory"
                )
            if contents.pop("formatting", False):
                _format(disk, path, contents, format_store)
            marker = os.path.join(path, "clean-shutdown")
            was_clean = disk.exists(marker)
            if was_clean:
                disk.remove(marker)
                disk.sync_directory(path)
            disk.make_directory(os.path.join(path, "topics"))
        except BaseException as error:
            if unlock is not None:
                unlock()
            if isinstance(error, OSError):
                raise DataDirectoryError(
                    f"data directory {path} cannot be used: {error.strerror or error}; check that it exists, "
                    "is writable and has space"
                ) from error
            raise
        return cls(path, disk, contents, was_clean, unlock)

    @property
    def meta(self) -> str:
        """Where the metadata log lives."""
        return os.path.join(self.path, "meta")

    @property
    def topics(self) -> str:
        """Where the partitions live."""
        return os.path.join(self.path, "topics")

    @property
    def search(self) -> str:
        """Where the indexes of search are."""
        return os.path.join(self.path, "search")

    def mark_clean(self) -> None:
        """Write the mark of a stop in order. Only when every file is synced and closed: nothing may be written after it."""
        self._disk.replace(os.path.join(self.path, "clean-shutdown"), b"")

    def release(self) -> None:
        """Let go of the lock. Harmless when repeated."""
        if self._unlock is not None:
            self._unlock()
            self._unlock = None


def _read(disk: IDisk, path: str) -> Contents | None:
    """The checked contents of the `format` file; None for a directory that nothing was ever stored in."""
    name = os.path.join(path, "format")
    if not disk.exists(name):
        strays = [entry for entry in ("meta", "topics") if disk.exists(os.path.join(path, entry))]
        if strays:
            raise DataDirectoryError(
                f"data directory {path} holds {' and '.join(strays)} but no format file; restore the file from a backup "
                "of this directory, or use an empty one"
            )
        return None
    try:
        contents: Contents = json.loads(disk.read(name))
        version = contents["format_version"]
        if version > FORMAT_VERSION:
            raise DataDirectoryError(
                f"data directory {path} has format {version}, written by a newer release; this one reads up to "
                f"{FORMAT_VERSION}: run the newer release"
            )
        _check_contents(contents)
    except (ValueError, KeyError, TypeError) as error:
        raise DataDirectoryError(
            f"{name} is damaged ({error!r}); restore it from a backup of this directory"
        ) from error
    return contents


def _check_contents(contents: Contents) -> None:
    """Raises ValueError, KeyError or TypeError for contents that no release has written."""
    version, node_id = contents["format_version"], contents["node_id"]
    if not (isinstance(version, int) and version >= 0 and isinstance(node_id, int) and node_id >= 0):
        raise ValueError("format_version and node_id must be whole numbers")
    for name in ("cluster_id", "directory_id") if version >= 1 else ("cluster_id",):
        uuid_from_text(contents[name])
    if version >= 1 and not isinstance(contents["metadata_store"], str):
        raise ValueError("metadata_store must be text")


def _begin(disk: IDisk, path: str, node_id: int, metadata_store: str) -> Contents:
    contents = {
        "format_version": FORMAT_VERSION,
        "cluster_id": _new_id(),
        "node_id": node_id,
        "directory_id": _new_id(),
        "metadata_store": metadata_store,
        "formatting": True,
    }
    _write(disk, path, contents)
    return contents


def _format(disk: IDisk, path: str, contents: Contents, format_store: Callable[[str, str], None]) -> None:
    meta = os.path.join(path, "meta")
    disk.remove(meta)  # what a crash left of an earlier try; no node has run on it
    disk.sync_directory(path)
    format_store(contents["metadata_store"], meta)
    _write(disk, path, contents)


def _migrated(disk: IDisk, path: str, contents: Contents) -> Contents:
    while (version := contents["format_version"]) < FORMAT_VERSION:
        contents = {**MIGRATIONS[version](disk, path, contents), "format_version": version + 1}
        _write(disk, path, contents)
    return contents


def _write(disk: IDisk, path: str, contents: Contents) -> None:
    disk.replace(os.path.join(path, "format"), (json.dumps(contents, indent=2) + "\n").encode("ascii"))
