"""Sparse indexes of a segment, in Kafka's layout: offset to position, and timestamp to offset.

An entry is added about every `index.interval.bytes`, so a lookup ends at most that far, and one batch, before its
goal; batch headers lead from there on. Offsets are relative to the segment's base. Both are plain runs of big-endian
entries in one buffer, in memory as on disk. Only a sealed or closed segment has them on disk, written as a whole;
they can be rebuilt from the log at any time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from struct import Struct

from chronik.errors import ErrorCode, KafkaError

_offset_entry = Struct(">ii")
_time_entry = Struct(">qi")
_int = Struct(">i").unpack_from
_long = Struct(">q").unpack_from


class RottenIndexError(KafkaError):
    """An entry of an index leads to what isn't the batch that it names. The indexes can be made anew."""

    def __init__(self, path: str) -> None:
        super().__init__(
            ErrorCode.CORRUPT_MESSAGE, f"{path} has batches other than its indexes say; restore the partition"
        )


class MendingError(KafkaError):
    """The indexes of a large segment are being made anew. Retriable: `mend(soon)` has it go on, a slice a call of `soon`."""

    def __init__(self, path: str, mend: Callable[[Callable[[Callable[[], None]], object]], None]) -> None:
        text = f"the indexes of {path} are lost or have rotted, and are being made anew"
        super().__init__(ErrorCode.KAFKA_STORAGE_ERROR, text)
        self.mend = mend


class OffsetIndex:
    """Entries of relative offset (4 bytes) and position (4 bytes) of a batch, both ascending."""

    ENTRY_BYTES = 8
    __slots__ = ("data",)

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def __len__(self) -> int:
        return len(self.data) // 8

    def add(self, relative_offset: int, position: int) -> None:
        """Note the batch that begins with this offset, at this position."""
        self.data += _offset_entry.pack(relative_offset, position)

    def fits(self, log_size: int) -> bool:
        """Whether this can be the index of a segment of so many bytes."""
        data = self.data
        return len(data) % 8 == 0 and (not data or 0 <= _int(data, len(data) - 4)[0] < log_size)

    def floor(self, relative_offset: int) -> tuple[int, int]:
        """(relative offset, position) of the last entry at or before an offset; (0, 0) when there is none."""
        data = self.data
        index = bisect_right(range(len(data) // 8), relative_offset, key=lambda i: _int(data, i * 8)[0])
        return _offset_entry.unpack_from(data, index * 8 - 8) if index else (0, 0)

    def floor_position(self, position: int) -> tuple[int, int]:
        """(relative offset, position) of the last entry at or before `position`; (0, 0) when there is none."""
        data = self.data
        index = bisect_right(range(len(data) // 8), position, key=lambda i: _int(data, i * 8 + 4)[0])
        return _offset_entry.unpack_from(data, index * 8 - 8) if index else (0, 0)

    def truncate(self, position: int) -> None:
        """Drop entries at `position` or later."""
        data = self.data
        del data[bisect_right(range(len(data) // 8), position - 1, key=lambda i: _int(data, i * 8 + 4)[0]) * 8 :]


class TimeIndex:
    """Entries of timestamp (8 bytes, ms) and the relative offset (4 bytes) of the first batch that reaches it.

    Timestamps ascend: each is the largest in the segment so far. The last entry of a sealed segment is its largest of
    all.
    """

    ENTRY_BYTES = 12
    __slots__ = ("data",)

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def __len__(self) -> int:
        return len(self.data) // 12

    def add(self, timestamp: int, relative_offset: int) -> None:
        """Note the largest timestamp so far; one that isn't larger than the last entry's is passed over."""
        if timestamp > self.last()[0]:
            self.data += _time_entry.pack(timestamp, relative_offset)

    def fits(self, log_size: int) -> bool:
        """Whether this can be the index of a segment of so many bytes: one that isn't empty has an entry at least."""
        return len(self.data) % 12 == 0 and bool(self.data) == bool(log_size)

    def last(self) -> tuple[int, int]:
        """The last entry; (-1, 0) when there is none."""
        return _time_entry.unpack_from(self.data, len(self.data) - 12) if self.data else (-1, 0)

    def floor(self, timestamp: int) -> tuple[int, int]:
        """The last entry at or before `timestamp`, (-1, 0) when there is none: no batch before has a later one."""
        data = self.data
        index = bisect_right(range(len(data) // 12), timestamp, key=lambda i: _long(data, i * 12)[0])
        return _time_entry.unpack_from(data, index * 12 - 12) if index else (-1, 0)

    def truncate(self, relative_offset: int) -> None:
        """Drop entries for `relative_offset` or later."""
        data = self.data
        del data[
            bisect_right(range(len(data) // 12), relative_offset - 1, key=lambda i: _int(data, i * 12 + 8)[0]) * 12 :
        ]
