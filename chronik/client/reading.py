"""One partition being read: the position, and the batches that are already here.

Batches are kept as they were fetched. Records are decoded when they are taken, one batch at a time, with bounded
decompression; control records and those of aborted transactions are passed over. No I/O.

Sources: KIP-98 (aborted transactions, control batches).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chronik.errors import ErrorCode, KafkaError
from chronik.model import TopicPartition
from chronik.wire.codec import Buffer
from chronik.wire.records import BatchHeader, Record, decode_records, split_batches, verify


class Chunk(NamedTuple):
    """Some neighbouring records of one batch. `append_time` when their timestamps are the broker's."""

    partition: TopicPartition
    records: list[Record]
    append_time: bool


class _Aborted:
    """The aborted transactions that one response told of, and those that are open at the batch being read."""

    def __init__(self, transactions: Iterable[tuple[int, int]]) -> None:
        self._to_come = deque(sorted(transactions))
        self._open: set[int] = set()

    def covers(self, header: BatchHeader) -> bool:
        """Whether the batch belongs to one of them. Ask for every batch of the response, in order."""
        while self._to_come and self._to_come[0][0] <= header.base_offset:
            self._open.add(self._to_come.popleft()[1])
        if header.control:
            self._open.discard(header.producer_id)
            return False
        return header.transactional and header.producer_id in self._open


class PartitionReading:
    """A partition read from `offset` on. `position` is the next offset to hand out, `fetch_offset` the next to fetch."""

    def __init__(self, partition: TopicPartition, offset: int) -> None:
        self.partition = partition
        self.position = offset
        self.fetch_offset = offset
        self.readable_end: int | None = None
        """Where the readable part ended at the last response, None before the first."""
        self.buffered_bytes = 0
        self._batches: deque[tuple[BatchHeader, Buffer, _Aborted]] = deque()
        self._records: Iterator[Record] | None = None
        self._header: BatchHeader | None = None

    @property
    def buffered(self) -> bool:
        """Whether something can be taken without a fetch (which may turn out to lie before the position)."""
        return bool(self._batches) or self._records is not None

    @property
    def at_end(self) -> bool:
        """Whether everything that was readable at the last response has been handed out."""
        return self.readable_end is not None and not self.buffered and self.position >= self.readable_end

    def fill(self, data: Buffer, readable_end: int, aborted: Iterable[tuple[int, int]] = ()) -> None:
        """Take in a response for `fetch_offset`: its batches (one cut off at the end is dropped), where the readable part ends,
        and the aborted transactions in it as (first offset, producer id).

        Raises KafkaError(CORRUPT_MESSAGE) for bytes that are no batches.
        """
        self.readable_end = readable_end
        transactions = _Aborted(aborted)
        view = memoryview(data)
        for position, header in split_batches(view):
            self._batches.append((header, view[position : position + header.size], transactions))
            self.buffered_bytes += header.size
            self.fetch_offset = max(self.fetch_offset, header.next_offset)
        if len(view) and not self.buffered:
            text = f"{self.partition}: {len(view)} bytes fetched at offset {self.fetch_offset} hold no whole batch"
            raise KafkaError(ErrorCode.CORRUPT_MESSAGE, text)

    def take(self, limit: int, max_batch_bytes: int) -> Chunk | None:
        """At most `limit` records of one batch, from the position on, which moves behind them. None when all is taken.

        A batch may decompress to `max_batch_bytes`. Raises KafkaError(CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, INVALID_RECORD).
        """
        while True:
            if self._records is None and not self._open_next(max_batch_bytes):
                return None
            records, header = self._records, self._header
            assert records is not None and header is not None
            taken: list[Record] = []
            for record in records:
                if record.offset < self.position:
                    continue  # a fetch begins with the batch that holds its offset
                taken.append(record)
                if len(taken) >= limit:
                    break
            else:
                self._records = None
            if self._records is None:
                self.position = max(self.position, header.next_offset)
            elif taken:
                self.position = taken[-1].offset + 1
            if taken:
                return Chunk(self.partition, taken, header.log_append_time)

    def _open_next(self, max_batch_bytes: int) -> bool:
        while self._batches:
            header, batch, aborted = self._batches.popleft()
            self.buffered_bytes -= header.size
            if aborted.covers(header) or header.control:
                self.position = max(self.position, header.next_offset)
                continue
            verify(batch)
            self._header = header
            self._records = decode_records(batch, max_batch_bytes)
            return True
        return False
