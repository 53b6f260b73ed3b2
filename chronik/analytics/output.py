"""What a continuous query writes, as record batches that need only be appended.

A result's key is a JSON object: the values of the GROUP BY and the window's start; so a compacted topic keeps one record of
each window, and whoever reads it knows which window a later one replaces. Its value is a JSON object: the columns of the
SELECT, and `window_start` and `window_end` (ms since 1970); nothing for a session that became part of another one. Its
timestamp is the last ms of the window.

A late record goes out as it was, with headers that say where it was and why it is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from chronik.analytics.plan import Plan
from chronik.analytics.query_messages import Producer
from chronik.analytics.task import Result
from chronik.client.partitioner import partition_for_key
from chronik.wire.compression import Codec
from chronik.wire.records import Record, encode_batch

BATCH_BYTES = 256 << 10
"""Of keys and values in one batch, unless a single record has more."""
LATE_HEADER = "chronik.late."
"""What the names of the headers of late records begin with."""
Headers = tuple[tuple[str, bytes | None], ...]
_Outgoing = tuple[bytes | None, int, bytes | None, Headers]
_json = msgspec.json.Encoder(decimal_format="number")


class Outgoing:
    """Records on their way to the partitions of one topic, all of one transaction; of none where there is no producer."""

    def __init__(self, producer: Producer | None, partitions: int) -> None:
        self._producer = producer
        self._count = partitions
        self._records: dict[int, list[_Outgoing]] = {}

    def add(
        self,
        partition: int,
        key: bytes | None,
        timestamp: int,
        value: bytes | None,
        headers: Headers = (),
    ) -> None:
        """Another record."""
        self._records.setdefault(partition, []).append((key, timestamp, value, headers))

    def by_key(
        self,
        key: bytes | None,
        timestamp: int,
        value: bytes | None,
        headers: Headers = (),
        instead: int = 0,
    ) -> None:
        """Another record, to the partition of its key, as all clients choose it; without a key to that of number `instead`."""
        partition = instead % self._count if key is None else partition_for_key(key, self._count)
        self.add(partition, key, timestamp, value, headers)

    def batches(self) -> Iterator[tuple[int, bytes]]:
        """All of it, by partition; with the sequence numbers of a producer that writes to each for the first time."""
        for partition, records in sorted(self._records.items()):
            for batch in self._encoded(records):
                yield partition, batch

    def _encoded(self, records: Sequence[_Outgoing]) -> Iterator[bytes]:
        sequence, size = 0, 0
        some: list[Record] = []
        for key, timestamp, value, headers in records:
            some.append(Record(len(some), timestamp, key, value, headers))
            size += len(key or b"") + len(value or b"")
            if size >= BATCH_BYTES:
                yield self._batch(some, sequence)
                sequence, some, size = sequence + len(some), [], 0
        if some:
            yield self._batch(some, sequence)

    def _batch(self, records: list[Record], sequence: int) -> bytes:
        codec = Codec.LZ4 if len(records) > 1 else Codec.NONE
        if self._producer is None:
            return bytes(encode_batch(records, codec=codec))
        return bytes(
            encode_batch(
                records,
                codec=codec,
                producer_id=self._producer.producer_id,
                producer_epoch=self._producer.epoch,
                base_sequence=sequence,
                transactional=True,
            )
        )


def result_records(plan: Plan, results: Iterable[Result]) -> Iterator[tuple[bytes, int, bytes | None]]:
    """Key, timestamp and value of each result."""
    for result in results:
        yield result_key(plan, result), result.end - 1, None if result.values is None else result_value(result)


def result_key(plan: Plan, result: Result) -> bytes:
    """The JSON that names a window of a key."""
    group = dict(zip(plan.key_labels, result.key, strict=True))
    return _json.encode(group | {"window_start": result.start})


def result_value(result: Result) -> bytes:
    """The JSON of what a window comes to."""
    return _json.encode((result.values or {}) | {"window_start": result.start, "window_end": result.end})


def row_value(values: dict[str, object]) -> bytes:
    """The JSON of a result without a window."""
    return _json.encode(values)
