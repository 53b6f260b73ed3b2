"""What compaction keeps of a log: the last record of every key, and what must stay beside it.

Pure. Two passes over batches in the order of their offsets. The first notes the last offset of every key in the dirty
section (`KeyOffsets`); the second (`Cleaner`) goes through everything from the log's start and keeps a record if no later
one has its key. The rules are Apache Kafka's:

- A delete marker (a record without value) stays until the batch's *delete horizon*. The first pass that finds a batch
  with markers puts the time of that pass plus delete.retention.ms into the field of its base timestamp, with a bit that
  says so (KIP-534); the records' own timestamps stay what they were.
- Records of aborted transactions go at once. The marker that ended a transaction, committed or aborted, gets its horizon in the
  first pass that sees nothing of the transaction any more, and goes after it.
- Offsets never change: a batch keeps its base offset and last offset delta, whatever went from inside of it.
- A batch without a record left goes as a whole, but for two that stay, emptied: the last one of a producer, whose
  sequence number must survive, and the last one of every rewritten segment. That one is this project's own rule: so a file
  says itself where it ends, and recovery can tell what compaction took from what a disk lost.
- A record without a key goes. It can only come from before the topic was compacted.

**Keys and hashes.** A key of up to 15 bytes stands for itself. Of a longer one, 16 bytes of a BLAKE2b that is keyed with
random bytes of its own for every pass: a collision, which would lose a record, has the chance 2**-128 per pair of keys in
one pass, nobody can construct one, and the next pass would not repeat it. Kafka's MD5 has neither of the last two.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import NamedTuple

from chronik.interfaces import Buffer
from chronik.wire.batches import (
    CODEC_BITS,
    DELETE_HORIZON_BIT,
    HEADER_BYTES,
    NO_TIMESTAMP,
    BatchHeader,
    assemble,
    corrupt_batch,
)
from chronik.wire.compression import Codec, compress, decompress
from chronik.wire.record_scan import ScannedRecord, scan_records, write_varint

BYTES_PER_KEY = 200
"""What a key costs in `KeyOffsets`, measured at the worst moment, when its table grows: key object, offset, table."""
MAX_DECODED_BYTES = 128 << 20
"""What one batch may have uncompressed. A larger one is not cleaned."""

_WHOLE_KEY = 15
_DIGEST = 16
_MAX_RELATIVE_OFFSET = 0x7FFFFFFF


class AbortedRange(NamedTuple):
    """An aborted transaction: what its producer wrote from `first_offset` to `last_offset`, where its marker is."""

    producer_id: int
    first_offset: int
    last_offset: int


class LastOfProducer(NamedTuple):
    """The last batch with data of an active producer, by its last offset; -1 where only a marker of `epoch` is known."""

    last_offset: int
    epoch: int


class Aborted:
    """Which batches belong to aborted transactions."""

    def __init__(self, ranges: Iterable[AbortedRange]) -> None:
        self._by_producer: dict[int, list[tuple[int, int]]] = {}
        for producer_id, first, last in sorted(ranges):
            self._by_producer.setdefault(producer_id, []).append((first, last))

    def has(self, header: BatchHeader) -> bool:
        """Whether this batch of records was aborted."""
        if not header.transactional or header.control:
            return False
        ranges, offset = self._by_producer.get(header.producer_id, ()), header.base_offset
        index = bisect_right(ranges, offset, key=itemgetter(0))
        return index > 0 and offset <= ranges[index - 1][1]


class KeyOffsets:
    """The last offset of every key in a section of a log, within `buffer_bytes`.

    `end_offset` is the first offset that is not looked at: what lies there or after is kept, and is the next pass's.
    """

    def __init__(self, buffer_bytes: int, aborted: Aborted, start: int, secret: bytes) -> None:
        self.capacity = max(1, buffer_bytes // BYTES_PER_KEY)
        self.start_offset = self.end_offset = start
        self._aborted = aborted
        self._secret = secret
        self._offsets: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, header: BatchHeader, batch: Buffer) -> bool:
        """Note the keys of the next batch. False where it would not fit: then it is not noted, and this pass ends before it.

        The first batch is taken in any case, or nothing would ever go on. Raises KafkaError for a batch that cannot be decoded.
        """
        if header.record_count and not header.control and not self._aborted.has(header):
            offsets, secret, base = self._offsets, self._secret, header.base_offset
            if offsets and len(offsets) + header.record_count > self.capacity:
                return False
            for record in scan_records(records_section(header, batch), header.record_count):
                key = record.key
                if key is not None and base + record.offset_delta >= self.start_offset:
                    if len(key) > _WHOLE_KEY:
                        key = blake2b(key, digest_size=_DIGEST, key=secret).digest()
                    offsets[key] = base + record.offset_delta
        self.end_offset = header.next_offset
        return True

    def last_offset(self, key: bytes) -> int:
        """The last offset that has `key`, -1 where none in the section has it."""
        if len(key) > _WHOLE_KEY:
            key = blake2b(key, digest_size=_DIGEST, key=self._secret).digest()
        return self._offsets.get(key, -1)


class Cleaner:
    """The second pass. `clean` takes all batches from the log's start on, in order, and gives what stays of each."""

    def __init__(
        self,
        keys: KeyOffsets,
        aborted: Aborted,
        producers: Mapping[int, LastOfProducer],
        now_ms: int,
        delete_retention_ms: int,
    ) -> None:
        self._keys = keys
        self._aborted = aborted
        self._producers = producers
        self._now_ms = now_ms
        self._horizon_ms = now_ms + delete_retention_ms
        self._in_transaction: set[int] = set()  # producers with batches since their last marker
        self.records_read = 0
        self.records_kept = 0
        self.keyless = 0

    def clean(self, header: BatchHeader, batch: Buffer, ends_segment: bool) -> Buffer | None:
        """What stays of a batch: itself, a smaller one, or None. Raises KafkaError for a batch that cannot be decoded."""
        self.records_read += header.record_count
        if header.control:
            left = self._control(header, batch)
        else:
            if header.transactional:
                self._in_transaction.add(header.producer_id)
            left = None if self._aborted.has(header) else self._data(header, batch)
        if left is None and (ends_segment or self._is_last_of_producer(header)):
            return emptied(header) if header.record_count else batch
        return left

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        last = self._producers.get(header.producer_id) if header.idempotent else None
        if last is None:
            return False
        if last.last_offset >= 0:
            return header.last_offset == last.last_offset
        return header.control and header.producer_epoch == last.epoch

    def _control(self, header: BatchHeader, batch: Buffer) -> Buffer | None:
        """A marker stays while anything of its transaction does, and until its horizon afterwards."""
        if not header.record_count:
            return None
        empty = header.producer_id not in self._in_transaction
        self._in_transaction.discard(header.producer_id)
        if empty and header.has_delete_horizon and header.base_timestamp <= self._now_ms:
            return None
        self.records_kept += header.record_count
        if not empty or header.has_delete_horizon:
            return batch
        section = records_section(header, batch)
        return self._rebuilt(header, section, scan_records(section, header.record_count), horizon=True)

    def _data(self, header: BatchHeader, batch: Buffer) -> Buffer | None:
        if not header.record_count:
            return None
        keys, base, count = self._keys, header.base_offset, header.record_count
        if base >= keys.end_offset:
            self.records_kept += count
            return batch
        marked = header.has_delete_horizon
        expired = marked and header.base_timestamp <= self._now_ms
        markers = False
        kept: list[ScannedRecord] = []
        section = records_section(header, batch)
        for record in scan_records(section, count):
            key = record.key
            if key is None:
                self.keyless += 1
                continue
            if base + record.offset_delta < keys.last_offset(key):
                continue
            if not record.has_value:
                if expired:
                    continue
                markers = True
            kept.append(record)
        self.records_kept += len(kept)
        if not kept:
            return None
        horizon = markers and not marked
        if len(kept) == count and not horizon:
            return batch
        return self._rebuilt(header, section, kept, horizon)

    def _rebuilt(self, header: BatchHeader, section: bytes, kept: Sequence[ScannedRecord], horizon: bool) -> bytearray:
        """The batch with these of its records only, and with the delete horizon where it gets one now."""
        base = header.base_timestamp
        if not header.log_append_time:
            header = header._replace(max_timestamp=base + max(record.timestamp_delta for record in kept))
        header = header._replace(record_count=len(kept))
        if horizon:
            header = header._replace(attributes=header.attributes | DELETE_HORIZON_BIT, base_timestamp=self._horizon_ms)
            body = b"".join(_rebased(section, record, base - self._horizon_ms) for record in kept)
        else:
            body = b"".join([section[record.start : record.stop] for record in kept])
        return assemble(header, compress(header.codec, body))


def records_section(header: BatchHeader, batch: Buffer) -> bytes:
    """The decompressed records section of a batch. Raises KafkaError."""
    section = decompress(header.codec, memoryview(batch)[HEADER_BYTES : header.size], MAX_DECODED_BYTES)
    return section if isinstance(section, bytes) else bytes(section)


def emptied(header: BatchHeader) -> bytearray:
    """The batch without its records. Offsets, producer, sequence and largest timestamp stay."""
    attributes = header.attributes & ~(CODEC_BITS | DELETE_HORIZON_BIT) | Codec.NONE
    return assemble(header._replace(attributes=attributes, base_timestamp=NO_TIMESTAMP, record_count=0), b"")


def _rebased(section: bytes, record: ScannedRecord, shift: int) -> bytes:
    """A record whose timestamp is told from another base: `shift` is the old one less the new one."""
    start = record.start
    while section[start] & 0x80:  # its length
        start += 1
    start += 1
    body = (
        section[start : start + 1] + write_varint(record.timestamp_delta + shift) + section[record.tail : record.stop]
    )
    return write_varint(len(body)) + body


class Source(NamedTuple):
    """A segment that is to be cleaned. Sizes in bytes; it ends before `next_offset`."""

    base_offset: int
    next_offset: int
    size: int
    index_entries: int


def group(sources: Iterable[Source], max_bytes: int, max_index_entries: int, max_segments: int) -> list[list[Source]]:
    """Runs of segments that become one each: within `max_bytes` (segment.bytes), what an index takes, and `max_segments`.

    By their sizes before cleaning, as in Kafka: what a later pass finds small, it joins.
    """
    groups: list[list[Source]] = []
    size = entries = 0
    for source in sources:
        if (
            not groups
            or size + source.size > max_bytes
            or entries + source.index_entries > max_index_entries
            or source.next_offset - groups[-1][0].base_offset > _MAX_RELATIVE_OFFSET
            or len(groups[-1]) >= max_segments
        ):
            groups.append([])
            size = entries = 0
        groups[-1].append(source)
        size += source.size
        entries += source.index_entries
    return groups


def check_follows(header: BatchHeader, expected: int) -> None:
    """Refuse a batch whose offsets don't come after those before it. Raises KafkaError(CORRUPT_MESSAGE)."""
    if header.base_offset < expected or header.last_offset_delta < 0 or header.record_count < 0:
        raise corrupt_batch(
            f"a batch with offsets {header.base_offset} to {header.last_offset} follows offset {expected - 1}"
        )
