"""The key-value store on LevelDB, through plyvel.

LevelDB left to itself forgives too much: it drops what follows a flipped bit in its write-ahead log without a word, opens
without that log when the file is gone, and makes an empty database when its CURRENT file is lost. So paranoid checks and
checksum verification are always on, every value has a CRC-32C of its own, the log's file must be there, and a database is made
only by `format_leveldb`, once, never by opening. A database that fails is never repaired in place: the process stops, and
the operator restores it or lets the node rejoin.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import plyvel
from zope.interface import implementer

from chronik.errors import CorruptLogError, StorageError
from chronik.interfaces import IKeyValueStore
from chronik.raft.checked import seal, unseal


def format_leveldb(path: str) -> None:
    """Make an empty database at `path`. Raises StorageError when there is one, or when the disk refuses."""
    try:
        plyvel.DB(path, create_if_missing=True, error_if_exists=True).close()
    except (plyvel.Error, OSError) as fault:
        raise StorageError(f"cannot make the metadata store at {path}: {fault}") from fault
    _sync_directory(path)
    _sync_directory(os.path.dirname(path))


def _sync_directory(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@implementer(IKeyValueStore)
class LevelDBStore:
    """The database at `path`, which `format_leveldb` made. Open it once at a time; use it from one thread.

    Raises StorageError when it can't be opened (another process has it, or it is gone), CorruptLogError when it is damaged.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        if os.path.isdir(path) and not any(name.endswith(".log") for name in os.listdir(path)):
            raise CorruptLogError(f"the metadata store at {path} has lost its write-ahead log; restore the directory")
        try:
            self._db = plyvel.DB(path, create_if_missing=False, paranoid_checks=True)
        except plyvel.CorruptionError as fault:
            raise CorruptLogError(f"the metadata store at {path} is damaged: {fault}") from fault
        except (plyvel.Error, OSError) as fault:
            raise StorageError(f"cannot open the metadata store at {path}: {fault}") from fault

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`. Raises CorruptLogError when it doesn't verify."""
        try:
            stored = self._db.get(key, verify_checksums=True)
        except plyvel.CorruptionError as fault:
            raise CorruptLogError(f"the metadata store at {self._path} is damaged: {fault}") from fault
        except plyvel.Error as fault:
            raise StorageError(f"cannot read the metadata store at {self._path}: {fault}") from fault
        return None if stored is None else unseal(key, stored, self._path)

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        """Apply all or nothing, and sync. Raises StorageError: the process must stop."""
        try:
            with self._db.write_batch(sync=True) as batch:
                for key in deletes:
                    batch.delete(key)
                for key, value in puts:
                    batch.put(key, seal(key, value))
        except (plyvel.Error, OSError) as fault:
            raise StorageError(f"cannot write the metadata store at {self._path}: {fault}") from fault

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop in key order, each verified."""
        try:
            with self._db.iterator(start=start, stop=stop, verify_checksums=True) as pairs:
                for key, stored in pairs:
                    yield key, unseal(key, stored, self._path)
        except plyvel.CorruptionError as fault:
            raise CorruptLogError(f"the metadata store at {self._path} is damaged: {fault}") from fault
        except plyvel.Error as fault:
            raise StorageError(f"cannot read the metadata store at {self._path}: {fault}") from fault

    def close(self) -> None:
        """Release the database."""
        self._db.close()
