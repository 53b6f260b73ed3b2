"""Looks for records without a key in a produced batch: they have no place in a compacted topic (KIP-467).

It is the one thing that looks into records between a producer and the log, at 0.4 microseconds a record: into few of them on
the reactor, into more on a thread (`chronik.broker.preparation`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.batches import HEADER_BYTES, BatchHeader, Buffer, read_header
from chronik.wire.compression import decompress
from chronik.wire.record_scan import keyless_records

MAX_CHECKED_BYTES = 128 << 20
"""What a batch may decompress to while its keys are checked, unless max.message.bytes is larger."""
INLINE_RECORDS = 5000
"""Records of a batch that are looked at in the append itself: two milliseconds."""
INLINE_BYTES = 1 << 20
"""What such a batch may have uncompressed: one more."""
MAX_NAMED = 1000
"""Records that a refusal names. Kafka names all, in answers that have no bound."""


class KeylessRecords(KafkaError):
    """Records of a batch have no key; `indexes` are the first of them, counted from 0."""

    def __init__(self, name: TopicPartition, indexes: list[int], count: int) -> None:
        super().__init__(
            ErrorCode.INVALID_RECORD,
            f"{name} is compacted, and {count} record(s) have no key: first record {indexes[0]}",
        )
        self.indexes = indexes


def check_keys(name: TopicPartition, batch: Buffer, max_bytes: int) -> Iterator[None]:
    """Check a batch whose header is known to be right; yields every few hundred records.

    Raises KeylessRecords, and KafkaError for what doesn't decompress, to `max_bytes` at most, or is no row of records.
    """
    header = read_header(batch)
    section = decompress(header.codec, memoryview(batch)[HEADER_BYTES : header.size], max_bytes)
    indexes: list[int] = []
    count = 0
    for missing in keyless_records(section if isinstance(section, bytes) else bytes(section), header.record_count):
        if missing:
            count += len(missing)
            indexes += missing[: MAX_NAMED - len(indexes)]
        yield
    if count:
        raise KeylessRecords(name, indexes, count)


def check_keys_at_once(name: TopicPartition, batch: Buffer, header: BatchHeader) -> bool:
    """As `check_keys`, here and now, where that is little work; whether it was."""
    if header.record_count > INLINE_RECORDS or header.size > INLINE_BYTES:
        return False
    try:
        for _ in check_keys(name, batch, INLINE_BYTES):
            pass
    except KafkaError as error:
        if error.code == ErrorCode.MESSAGE_TOO_LARGE:
            return False
        raise
    return True
