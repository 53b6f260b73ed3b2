"""The key-value store on the standard library's sqlite3, for Pythons that LevelDB's package has no wheel for.

One table, `WITHOUT ROWID`, ordered by key. The journal is a rollback journal, not sqlite's write-ahead log: that forgets
all that follows a damaged frame, committed or not, as if it had never been, while here what is committed lies in the one
database file, where a flipped bit is found by the CRC-32C of its value or by sqlite's own check of the tree at opening. The
price, two more syncs a write, is paid by metadata only, whose writes are few and share a sync. `PERSIST` zeroes the journal's
head to commit and `synchronous=FULL` syncs that too, so no directory entry is in play; `fullfsync` asks for a real flush
on macOS.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator

from zope.interface import implementer

from chronik.errors import CorruptLogError, StorageError
from chronik.interfaces import IKeyValueStore
from chronik.raft.checked import seal, unseal

_FILE = "metadata.sqlite3"
_APPLICATION_ID = 0x43484D53
"""Marks the file as ours; a file without it was not made by `format_sqlite`."""


def format_sqlite(path: str) -> None:
    """Make an empty database in the directory `path`, which is created. Raises StorageError when there is one."""
    file = os.path.join(path, _FILE)
    if os.path.exists(file):
        raise StorageError(f"cannot make the metadata store at {path}: there is one already")
    try:
        os.makedirs(path, exist_ok=True)
        connection = sqlite3.connect(file)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute("CREATE TABLE pairs (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            connection.commit()
        finally:
            connection.close()
        for directory in (path, os.path.dirname(path)):
            handle = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except (sqlite3.Error, OSError) as fault:
        raise StorageError(f"cannot make the metadata store at {path}: {fault}") from fault


@implementer(IKeyValueStore)
class SqliteStore:
    """The database in the directory `path`, which `format_sqlite` made. One process at a time, one call at a time.

    Raises StorageError when it can't be opened (another process has it, or it is gone), CorruptLogError when it is damaged.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        file = os.path.join(path, _FILE)
        try:
            self._connection = sqlite3.connect(
                f"file:{_quoted(file)}?mode=rw", uri=True, timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as fault:
            raise StorageError(f"cannot open the metadata store at {path}: {fault}") from fault
        try:
            self._set_up()
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self) -> None:
        try:
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode=PERSIST")
            self._connection.execute("PRAGMA journal_size_limit=1048576")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA fullfsync=1")
            self._connection.execute("PRAGMA cell_size_check=1")
            if self._connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise CorruptLogError(f"the file {_FILE} in {self._path} is no metadata store")
            self._connection.execute("BEGIN EXCLUSIVE")
            self._connection.execute("COMMIT")
            if self._connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise CorruptLogError(f"the metadata store at {self._path} is damaged")
        except sqlite3.OperationalError as fault:
            raise StorageError(f"cannot open the metadata store at {self._path}: {fault}") from fault
        except sqlite3.DatabaseError as fault:
            raise CorruptLogError(f"the metadata store at {self._path} is damaged: {fault}") from fault

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`. Raises CorruptLogError when it doesn't verify."""
        rows = self._select("SELECT key, value FROM pairs WHERE key = ?", (key,))
        return next((unseal(found, stored, self._path) for found, stored in rows), None)

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        """Apply all or nothing, and sync. Raises StorageError: the process must stop."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("DELETE FROM pairs WHERE key = ?", ((key,) for key in deletes))
            self._connection.executemany(
                "INSERT OR REPLACE INTO pairs (key, value) VALUES (?, ?)",
                ((key, seal(key, value)) for key, value in puts),
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as fault:
            raise StorageError(f"cannot write the metadata store at {self._path}: {fault}") from fault

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop in key order, each verified."""
        rows = self._select("SELECT key, value FROM pairs WHERE key >= ? AND key < ? ORDER BY key", (start, stop))
        for key, stored in rows:
            yield key, unseal(key, stored, self._path)

    def _select(self, statement: str, values: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from self._connection.execute(statement, values)
        except sqlite3.DatabaseError as fault:
            raise CorruptLogError(f"the metadata store at {self._path} is damaged: {fault}") from fault

    def close(self) -> None:
        """Release the database."""
        self._connection.close()


def _quoted(file: str) -> str:
    return file.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
