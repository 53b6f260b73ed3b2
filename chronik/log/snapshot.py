"""The `.snapshot` file: the producers of a partition as of one offset, and the aborted transactions of the segment before it.

It is written when a segment is sealed and when the log is closed. Layout, big-endian, a CRC-32C at the end::

    magic and version 6 | offset 8 | count of producers 4
    producer: id 8 | epoch 2 | coordinator epoch 4 | first offset of the open transaction 8 | timestamp 8
              last sequence 4 | count of batches 1 | batches: sequences 4 4 | offsets 8 8 | timestamp 8
    count of aborted transactions 4 | each: producer id 8 | first offset 8 | marker's offset 8 | last stable offset 8

Both parts in one file, so that one which is missing can be told from one with nothing in it: the segment is then read
again. Version 1, of a release without transactions, ends after the producers: nothing was ever aborted there.
"""

from __future__ import annotations

from struct import Struct, error
from typing import NamedTuple

from crc32c import crc32c

from chronik.errors import CorruptLogError
from chronik.log.aborted import ENTRY_BYTES, AbortedTransactions
from chronik.log.producers import ProducerEntry, Producers

_MAGIC = b"CHPS\x00\x02"
_WITHOUT_ABORTED = b"CHPS\x00\x01"
_preamble = Struct(">6sqi")
_entry = Struct(">qhiqqib")
_batch = Struct(">iiqqq")
_count = Struct(">i")
_crc = Struct(">I")


class Snapshot(NamedTuple):
    """What a file says. `aborted` is of the segment that ends at its offset, or goes on beyond."""

    producers: list[ProducerEntry]
    aborted: AbortedTransactions


def encode_snapshot(producers: Producers, aborted: AbortedTransactions, offset: int) -> bytes:
    """The content of the file for the state after all batches below `offset`."""
    entries = producers.entries()
    out = bytearray(_preamble.pack(_MAGIC, offset, len(entries)))
    for entry in entries:
        out += _entry.pack(
            entry.producer_id,
            entry.epoch,
            entry.coordinator_epoch,
            entry.transaction_first_offset,
            entry.last_timestamp,
            entry.last_sequence,
            len(entry.batches),
        )
        for batch in entry.batches:
            out += _batch.pack(*batch)
    out += _count.pack(len(aborted))
    out += aborted.data
    out += _crc.pack(crc32c(out))
    return bytes(out)


def decode_snapshot(content: bytes, offset: int, path: str) -> Snapshot:
    """What the file at `path` says, a snapshot at `offset`. Raises CorruptLogError."""
    body = memoryview(content)[: -_crc.size]
    if len(content) < _preamble.size + _crc.size or crc32c(body) != _crc.unpack_from(content, len(body))[0]:
        raise _corrupt(path, "its checksum differs")
    magic, stored_offset, count = _preamble.unpack_from(body)
    if magic not in (_MAGIC, _WITHOUT_ABORTED) or stored_offset != offset:
        raise _corrupt(path, f"it says {magic!r} and offset {stored_offset}")
    entries: list[ProducerEntry] = []
    position = _preamble.size
    try:
        for _ in range(count):
            entry, position = _read_entry(body, position)
            entries.append(entry)
        aborted = b""
        if magic == _MAGIC:
            position += _count.size
            aborted = bytes(body[position:])
            if len(aborted) != ENTRY_BYTES * _count.unpack_from(body, position - _count.size)[0]:
                raise _corrupt(path, "the count of aborted transactions differs")
    except error as fault:
        raise _corrupt(path, str(fault)) from None
    still_open = [entry.transaction_first_offset for entry in entries if entry.transaction_first_offset >= 0]
    return Snapshot(entries, AbortedTransactions(aborted, min([offset, *still_open])))


def _read_entry(body: memoryview, position: int) -> tuple[ProducerEntry, int]:
    fields = _entry.unpack_from(body, position)
    position += _entry.size
    entry = ProducerEntry(fields[0], fields[1])
    _, _, entry.coordinator_epoch, entry.transaction_first_offset, entry.last_timestamp, last, batches = fields
    entry.last_sequence = last
    for _ in range(batches):
        entry.batches.append(_batch.unpack_from(body, position))
        position += _batch.size
    return entry, position


def _corrupt(path: str, fault: str) -> CorruptLogError:
    return CorruptLogError(
        f"{path} cannot be used: {fault}; delete it and start again, what it says is then rebuilt from the log"
    )
