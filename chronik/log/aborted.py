"""The aborted transactions of one segment: what a read_committed reader is told to leave out (KIP-98).

An entry says where an aborted transaction begins, where its marker is, and which offset was the last stable one once the marker
was written. It belongs to the segment of its marker, and entries come in the order of the markers. So a read of some offsets
looks for the first entry whose marker isn't before them, and is done when what follows can only begin behind them: after
an entry whose last stable offset is not below the end of the read, or at the end of a segment that has settled all before
the end of the read.

The list is derived from the log. It is kept with the snapshot of producers at the segment's end (`chronik.log.snapshot`).
"""

from __future__ import annotations

from bisect import bisect_left
from struct import Struct
from typing import NamedTuple

NEVER = 2**63 - 1
"""No offset: where no transaction is open."""

_entry = Struct(">qqqq")
ENTRY_BYTES = _entry.size
_long = Struct(">q").unpack_from


class AbortedTransaction(NamedTuple):
    """One aborted transaction: offsets of its first batch and of its marker, and the last stable offset after that."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class AbortedTransactions:
    """Entries as bytes, 32 each. Transactions whose markers are in later segments begin at offset `settled_to` or later."""

    __slots__ = ("data", "settled_to")

    def __init__(self, data: bytes = b"", settled_to: int = NEVER) -> None:
        self.data = bytearray(data)
        self.settled_to = settled_to

    def __len__(self) -> int:
        return len(self.data) // ENTRY_BYTES

    def add(self, transaction: AbortedTransaction) -> None:
        """Note a transaction whose marker was written just now."""
        self.data += _entry.pack(*transaction)

    def entries(self) -> list[AbortedTransaction]:
        """All of them, in the order of their markers."""
        return [AbortedTransaction(*fields) for fields in _entry.iter_unpack(self.data)]

    def overlapping(self, offset: int, upper: int) -> tuple[list[AbortedTransaction], bool]:
        """Those with anything from `offset` on and below `upper`, and whether later segments can have no more of them."""
        data = self.data
        found = []
        first = bisect_left(range(len(self)), offset, key=lambda index: _long(data, index * ENTRY_BYTES + 16)[0])
        for position in range(first * ENTRY_BYTES, len(data), ENTRY_BYTES):
            transaction = AbortedTransaction(*_entry.unpack_from(data, position))
            if transaction.first_offset < upper:
                found.append(transaction)
            if transaction.last_stable_offset >= upper:
                return found, True
        return found, self.settled_to >= upper
