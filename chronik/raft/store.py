"""The numbered log of entries and its snapshots, on a key-value store.

Keys: `e` and the index (8 bytes, big-endian) for an entry; `s` and the index for a snapshot's head, and `t`, the index and a
number for its parts. An entry repeats its own index and carries the term in which it was proposed (0 until there are
elections). Indexes start at 1 and have no gaps: a gap, or an entry that says another index than its key, is corruption, and
so is a log whose first entry lies beyond what the snapshot covers. A snapshot, the removal of the one before and of old entries
happen in one atomic write; some entries before a snapshot are kept, for followers that lag a little.

A store that lost entries at its very end, after they were synced, cannot be told from one that never had them; that is what
replicas are for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
from crc32c import crc32c

from chronik.errors import CorruptLogError
from chronik.interfaces import IKeyValueStore

_INDEX = struct.Struct(">Q")
_ENTRY = struct.Struct(">QQ")
_PART = struct.Struct(">QI")
_HEAD = struct.Struct(">QQQII")
"""A snapshot's head: index, term, length in bytes, number of parts, CRC-32C of the whole."""

_PART_SIZE = 1 << 20
_LAST = b"\xff" * 8

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[bytes])


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log: the records of one proposal."""

    index: int
    term: int
    records: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after all entries up to `index`."""

    index: int
    term: int
    data: bytes


class LogStore:
    """Entries and snapshots on `store`. Blocking, like the store itself.

    `first_index` is the oldest entry kept, `last_index` the newest; with none kept, `first_index == last_index + 1`.
    """

    def __init__(self, store: IKeyValueStore) -> None:
        self._store = store
        self.first_index = 1
        self.last_index = 0
        self.snapshot_index = 0

    def load(self) -> tuple[Snapshot | None, list[Entry]]:
        """The newest snapshot, and the entries after it. Raises CorruptLogError when the log doesn't hold together."""
        snapshot = self._load_snapshot()
        self.snapshot_index = snapshot.index if snapshot else 0
        self.first_index, self.last_index = self.snapshot_index + 1, self.snapshot_index
        entries, expected = [], None
        for entry in self._entries():
            if expected is None:
                if entry.index > self.snapshot_index + 1:
                    raise CorruptLogError(
                        f"the metadata log begins with entry {entry.index}, but its snapshot ends at {self.snapshot_index}"
                    )
                self.first_index = entry.index
            elif entry.index != expected:
                raise CorruptLogError(f"entry {expected} of the metadata log is missing; the next one is {entry.index}")
            expected = entry.index + 1
            if entry.index > self.snapshot_index:
                entries.append(entry)
        self._check_end(expected)
        self.last_index = max(self.snapshot_index, (expected or 1) - 1)
        return snapshot, entries

    def _check_end(self, expected: int | None) -> None:
        if expected is not None and expected <= self.snapshot_index:
            raise CorruptLogError(
                f"entry {expected} of the metadata log is missing; its snapshot was made at {self.snapshot_index}"
            )

    def append(self, entries: Sequence[Entry]) -> None:
        """Write and sync `entries`, which follow `last_index` without a gap."""
        for step, entry in enumerate(entries, 1):
            if entry.index != self.last_index + step:
                raise ValueError(f"entry {entry.index} does not follow entry {self.last_index + step - 1}")
        self._store.write([(_entry_key(entry.index), _encode_entry(entry)) for entry in entries])
        self.last_index += len(entries)

    def save_snapshot(self, snapshot: Snapshot, keep: int) -> None:
        """Write and sync a snapshot of the state after an entry that is here; drop all older entries but the last `keep`."""
        if not self.snapshot_index <= snapshot.index <= self.last_index:
            raise ValueError(
                f"a snapshot at {snapshot.index} is not between {self.snapshot_index} and {self.last_index}"
            )
        first_kept = max(self.first_index, snapshot.index - keep + 1)
        old_entries = [_entry_key(index) for index in range(self.first_index, first_kept)]
        old_snapshots = [key for prefix in (b"s", b"t") for key, _ in self._store.scan(prefix, prefix + _LAST)]
        puts = list(_encode_snapshot(snapshot))
        written = {key for key, _ in puts}
        self._store.write(puts, [key for key in (*old_entries, *old_snapshots) if key not in written])
        self.first_index, self.snapshot_index = first_kept, snapshot.index

    def close(self) -> None:
        """Release the store."""
        self._store.close()

    def _entries(self) -> Iterator[Entry]:
        for key, value in self._store.scan(b"e", b"e" + _LAST):
            if len(value) < _ENTRY.size or len(key) != 9:
                raise CorruptLogError(f"key {key.hex()} of the metadata log holds no entry")
            index, term = _ENTRY.unpack_from(value)
            if _entry_key(index) != key:
                raise CorruptLogError(f"key {key.hex()} of the metadata log holds entry {index}")
            try:
                records = _decoder.decode(memoryview(value)[_ENTRY.size :])
            except msgspec.DecodeError as fault:
                raise CorruptLogError(f"entry {index} of the metadata log does not decode: {fault}") from fault
            yield Entry(index, term, records)

    def _load_snapshot(self) -> Snapshot | None:
        heads = list(self._store.scan(b"s", b"s" + _LAST))
        if not heads:
            return None
        key, value = heads[-1]
        if len(value) != _HEAD.size or key[1:] != value[:8]:
            raise CorruptLogError(f"key {key.hex()} of the metadata log holds no snapshot")
        index, term, length, parts, crc = _HEAD.unpack(value)
        start, stop = b"t" + _INDEX.pack(index), b"t" + _INDEX.pack(index + 1)
        found = [part for _, part in self._store.scan(start, stop)]
        data = b"".join(found)
        if len(found) != parts or len(data) != length or crc32c(data) != crc:
            raise CorruptLogError(f"the snapshot at {index} of the metadata log is not whole")
        return Snapshot(index, term, data)


def _entry_key(index: int) -> bytes:
    return b"e" + _INDEX.pack(index)


def _encode_entry(entry: Entry) -> bytes:
    return _ENTRY.pack(entry.index, entry.term) + _encoder.encode(list(entry.records))


def _encode_snapshot(snapshot: Snapshot) -> Iterator[tuple[bytes, bytes]]:
    index, term, data = snapshot.index, snapshot.term, snapshot.data
    starts = range(0, len(data), _PART_SIZE)
    yield b"s" + _INDEX.pack(index), _HEAD.pack(index, term, len(data), len(starts), crc32c(data))
    for number, start in enumerate(starts):
        yield b"t" + _PART.pack(index, number), data[start : start + _PART_SIZE]
