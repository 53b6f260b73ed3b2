"""Reads a partition for a share group: gives out records, and hands on the batches that have them, as bytes.

Only headers of batches are read, but for nothing: which offsets they have, and whose transaction they belong to. With
read_committed the batches of aborted transactions are passed over, as consumers do it by themselves elsewhere.

Pure. Source: KIP-932.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chronik.broker.interfaces import IReadablePartition
from chronik.broker.outcomes import Fetched
from chronik.broker.share_partition import SharePartition
from chronik.broker.share_tiles import Acquired, Span
from chronik.errors import ErrorCode, KafkaError
from chronik.log.aborted import AbortedTransaction
from chronik.wire.batches import BatchHeader, split_batches
from chronik.wire.codec import Buffer

_FIRST_READ = 128 * 1024
"""What is read at first of a partition, in bytes; as long as there is room for more records, twice as much each time."""
_READS = 5
"""How often one request reads one partition: all of it takes the reactor a few ms."""


class Wanted(NamedTuple):
    """What a member asks for. `records` and `size` are what it has room for."""

    member: str
    records: int
    batch_size: int
    size: int
    committed_only: bool
    lock_ms: int
    now: int


class Taken(NamedTuple):
    """What a member gets of one partition: batches, in `buffers`, and what of their records. `passed`: anything was read."""

    buffers: list[Buffer]
    acquired: list[Acquired]
    passed: bool

    @property
    def size(self) -> int:
        """The bytes of it."""
        return sum(map(len, self.buffers))

    @property
    def records(self) -> int:
        """How many offsets were given."""
        return sum(each.last - each.first + 1 for each in self.acquired)


def take(share: SharePartition, partition: IReadablePartition, wanted: Wanted, at_least_one: bool) -> Taken:
    """Give out of `partition` what `wanted` asks for. With `at_least_one`, one batch whatever its size.

    Raises KafkaError: KAFKA_STORAGE_ERROR and the like.
    """
    taken = Taken([], [], False)
    room, size, step, passed = wanted.records, wanted.size, _FIRST_READ, False
    for _ in range(_READS):
        fetched = _read(share, partition, min(size, step), wanted.committed_only, at_least_one and not taken.buffers)
        if fetched is None:
            break
        if not fetched.records and fetched.limited and step < size:
            step *= 4  # it begins with a long batch
            continue
        if not fetched.records:
            break
        buffer, acquired = _acquire(share, fetched, wanted._replace(records=room))
        passed = True
        if acquired:
            taken.buffers.append(buffer)
            taken.acquired.extend(acquired)
            room -= sum(each.last - each.first + 1 for each in acquired)
            size -= len(buffer)
        if not fetched.limited or size <= 0 or room <= 0:
            break
        step = 2 * max(step, len(fetched.records))
    return taken._replace(passed=passed)


def readable(share: SharePartition, partition: IReadablePartition, limit: int, committed_only: bool) -> int:
    """How many bytes `take` would find, up to about `limit`."""
    fetched = _read(share, partition, limit, committed_only, True)
    return 0 if fetched is None else len(fetched.records)


def _read(
    share: SharePartition, partition: IReadablePartition, limit: int, committed_only: bool, at_least_one: bool
) -> Fetched | None:
    """Batches from the next offset on; None where the log has nothing there yet. The log may have lost its beginning."""
    share.log_starts_at(partition.log_start_offset)
    try:
        return partition.read(share.next_fetch_offset(), limit, committed_only, at_least_one)
    except KafkaError as error:
        if error.code is ErrorCode.OFFSET_OUT_OF_RANGE:  # it was set to where the log does not reach yet
            return None
        raise


def _acquire(share: SharePartition, fetched: Fetched, wanted: Wanted) -> tuple[Buffer, list[Acquired]]:
    """Give out records of what was read; the batches that have them."""
    buffer = fetched.records
    first = share.next_fetch_offset()
    # Behind this there is nothing to give: not all in between need be free.
    enough = first + (share.next_offset - first) + wanted.records - 1
    positions: list[int] = []
    headers: list[BatchHeader] = []
    stop = 0
    for position, header in split_batches(buffer):
        positions.append(position)
        headers.append(header)
        stop = position + header.size
        if header.last_offset >= enough:
            break
    spans = [Span(header.base_offset, header.last_offset) for header in headers]
    aborted = list(_aborted(headers, fetched.aborted)) if fetched.aborted else ()
    acquired = share.acquire(
        wanted.member, spans, wanted.records, wanted.batch_size, wanted.now, wanted.lock_ms, aborted
    )
    if not acquired:
        return b"", []
    low, high = acquired[0].first, acquired[-1].last
    begin = next(position for position, span in zip(positions, spans, strict=True) if span.last >= low)
    for position, span in zip(positions, spans, strict=True):
        if span.first > high:
            stop = position
            break
    return (buffer if begin == 0 and stop == len(buffer) else memoryview(buffer)[begin:stop]), acquired


def _aborted(headers: Sequence[BatchHeader], transactions: Sequence[AbortedTransaction]) -> Iterator[Span]:
    """The batches of aborted transactions. A transaction ends with the next control batch of its producer."""
    waiting = sorted(transactions, key=lambda each: each.first_offset, reverse=True)
    open_producers: set[int] = set()
    for header in headers:
        while waiting and waiting[-1].first_offset <= header.last_offset:
            open_producers.add(waiting.pop().producer_id)
        if header.control:
            open_producers.discard(header.producer_id)
        elif header.transactional and header.producer_id in open_producers:
            yield Span(header.base_offset, header.last_offset)
