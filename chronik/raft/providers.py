"""Which key-value stores there are, by the name that is kept in a data directory's format: LevelDB, or sqlite3.

A node in memory has one in memory: it is new with every start.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from chronik.errors import DataDirectoryError
from chronik.interfaces import IKeyValueStore

LEVELDB = "leveldb"
SQLITE = "sqlite3"
MEMORY = "memory"


def preferred_provider() -> str:
    """The provider for a new data directory: LevelDB where its package is installed, else sqlite3."""
    return LEVELDB if find_spec("plyvel") is not None else SQLITE


def format_store(provider: str, path: str) -> None:
    """Make an empty store at `path`, once, when the data directory is formatted. Raises StorageError, DataDirectoryError."""
    _provider(provider, path)[0](path)


def open_store(provider: str, path: str) -> IKeyValueStore:
    """Open the store that `format_store` made; never makes one. Raises StorageError, CorruptLogError, DataDirectoryError."""
    return _provider(provider, path)[1](path)


def _provider(name: str, path: str) -> tuple[Callable[[str], None], Callable[[str], IKeyValueStore]]:
    if name == LEVELDB:
        if find_spec("plyvel") is None:
            raise DataDirectoryError(
                f"the metadata at {path} is in LevelDB, and this Python has no plyvel package; use a Python that has it"
            )
        from chronik.raft.leveldb import LevelDBStore, format_leveldb

        return format_leveldb, LevelDBStore
    if name == SQLITE:
        from chronik.raft.sqlite import SqliteStore, format_sqlite

        return format_sqlite, SqliteStore
    if name == MEMORY:
        from chronik.raft.memory import MemoryStore

        return lambda path: None, lambda path: MemoryStore()
    raise DataDirectoryError(f"the metadata at {path} is in a store called {name!r}, which this release does not know")
