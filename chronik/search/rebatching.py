"""Record batches of what a saved search selects: the same records, at the same offsets, in batches of their own.

A batch of the source becomes one batch with those of its records that match. Where it can it keeps base offset and base
timestamp, so the records are the very same bytes. It has no producer, belongs to no transaction, and isn't compressed: a client
that can read the source may lack the codec that we would choose. It ends with its last record: some clients take what lies
between that and the end of a batch for something they haven't read yet. A batch that grows beyond `BATCH_BYTES` is divided; its
later parts have base offsets of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from chronik.search.selection import Matched
from chronik.wire.batches import LOG_APPEND_TIME_BIT, NO_PRODUCER_ID, BatchHeader, assemble
from chronik.wire.record_scan import ScannedRecord, read_varint, scan_records, write_varint

BATCH_BYTES = 1 << 20
"""What the records of one batch may have, unless it is a single one."""


class Rebatching:
    """Makes the batches, until they have `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.size = 0
        self.records = 0
        self.batches: list[bytearray] = []
        """Those that were made since they were last taken away (`clear`)."""
        self.ends: list[tuple[int, int]] = []
        """Of all: the offset behind the batch, and its size in bytes."""

    def take(self, matched: Matched) -> int:
        """Take what matches of a batch; returns the offset up to which that was."""
        header, section = matched.batch
        if len(matched.rows) == section.count and len(section.records) <= BATCH_BYTES:
            self._add(header, bytes(section.records), matched, matched.rows, header.base_offset)
            return header.next_offset
        records = scan_records(bytes(section.records), section.count)
        offsets: list[int] = matched.offsets.tolist()
        rows = sorted(matched.rows, key=lambda row: offsets[row])
        at = header.base_offset
        for part in _parts(rows, records, offsets):
            body = b"".join(_moved(bytes(section.records), records[row], header.base_offset - at) for row in part)
            self._add(header, body, matched, part, at)
            at = offsets[part[-1]] + 1
            if self.size >= self._max_bytes and part[-1] != rows[-1]:
                return at
        return header.next_offset

    def clear(self) -> bytes:
        """The bytes of the batches so far, which are forgotten here."""
        data = b"".join(self.batches)
        self.batches = []
        return data

    def _add(self, header: BatchHeader, body: bytes, matched: Matched, rows: Sequence[int], base: int) -> None:
        following = int(matched.offsets[rows].max()) + 1
        attributes = header.attributes & LOG_APPEND_TIME_BIT
        batch = assemble(
            header._replace(
                base_offset=base,
                attributes=attributes,
                last_offset_delta=following - 1 - base,
                max_timestamp=header.max_timestamp if attributes else int(matched.timestamps[rows].max()),
                producer_id=NO_PRODUCER_ID,
                producer_epoch=-1,
                base_sequence=-1,
                record_count=len(rows),
            ),
            body,
        )
        self.batches.append(batch)
        self.ends.append((following, len(batch)))
        self.size += len(batch)
        self.records += len(rows)


def _parts(rows: list[int], records: Sequence[ScannedRecord], offsets: Sequence[int]) -> list[list[int]]:
    """The rows, which are in the order of their offsets, in runs of at most `BATCH_BYTES`, or of one offset."""
    parts: list[list[int]] = []
    size = 0
    for row in rows:
        own = records[row].stop - records[row].start
        if not parts or (size + own > BATCH_BYTES and offsets[row] > offsets[parts[-1][-1]]):
            parts.append([])
            size = 0
        parts[-1].append(row)
        size += own
    return parts


def _moved(section: bytes, record: ScannedRecord, shift: int) -> bytes:
    """A record in a batch whose base offset is `-shift` more than that of its own."""
    if not shift:
        return section[record.start : record.stop]
    behind_length = read_varint(section, record.start)[1]
    _, behind_offset = read_varint(section, record.tail)
    body = (
        section[behind_length : record.tail]
        + write_varint(record.offset_delta + shift)
        + section[behind_offset : record.stop]
    )
    return write_varint(len(body)) + body
