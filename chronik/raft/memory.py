"""A key-value store in memory: for tests, and for the embedded broker that keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sortedcontainers import SortedDict
from zope.interface import implementer

from chronik.interfaces import IKeyValueStore
from chronik.raft.checked import seal, unseal


@implementer(IKeyValueStore)
class MemoryStore:
    """Keeps sealed values like the other providers, so that a test can flip a bit in `contents` and see it found.

    Give the `contents` of one store to the next one to act out a restart.
    """

    def __init__(self, contents: SortedDict | None = None) -> None:
        self.contents: SortedDict = SortedDict() if contents is None else contents

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`. Raises CorruptLogError when it doesn't verify."""
        stored = self.contents.get(key)
        return None if stored is None else unseal(key, stored, "memory")

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        """Apply all or nothing."""
        sealed = [(key, seal(key, value)) for key, value in puts]
        for key in deletes:
            self.contents.pop(key, None)
        self.contents.update(sealed)

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop in key order, each verified."""
        for key in list(self.contents.irange(start, stop, inclusive=(True, False))):
            yield key, unseal(key, self.contents[key], "memory")

    def close(self) -> None:
        """Nothing to release."""
