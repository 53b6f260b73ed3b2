"""Reads one partition of a coordinator's topic into its shard: all of it when it is loaded, and what is missing later.

Memory is the log read up to `applied`, always. An append that is committed there is replayed from memory; one that is
committed further on makes the gap be read from the log first. Markers are written by others, and always read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from chronik.coordinator.hosting import HostedShard, LogEntry
from chronik.interfaces import ICommittedReader
from chronik.model import TopicPartition
from chronik.wire.markers import decode_marker
from chronik.wire.records import NO_PRODUCER_ID, decode_records, split_batches

_READ_BYTES = 64 * 1024
_MAX_DECOMPRESSED = 64 * 1024 * 1024

_E = TypeVar("_E", bound=LogEntry)


class Replay(Generic[_E]):
    """Brings `shard` up to the log of partition `name`. Everything raises KafkaError where the log cannot be read.

    `decode` makes an entry of a record's key and value; None for a record to be skipped.
    """

    def __init__(
        self,
        name: TopicPartition,
        reader: ICommittedReader,
        shard: HostedShard[_E],
        decode: Callable[[bytes | None, bytes | None], _E | None],
    ) -> None:
        self.applied, _, _ = reader.bounds(name)
        self.records = 0
        self._name = name
        self._reader = reader
        self._shard = shard
        self._decode = decode

    def steps(self, stop: int | None = None) -> Iterator[None]:
        """Replay what is committed before offset `stop` and not in memory yet, a step a record."""
        while (stop is None or self.applied < stop) and (
            data := self._reader.read(self._name, self.applied, _READ_BYTES)
        ):
            before = self.applied
            yield from self._batches(data, stop)
            if self.applied == before:
                return

    def _batches(self, data: bytes, stop: int | None) -> Iterator[None]:
        view = memoryview(data)
        for position, header in split_batches(data):
            if stop is not None and header.base_offset >= stop:
                return
            if header.last_offset < self.applied:
                continue
            batch = view[position : position + header.size]
            if header.control:
                marker = decode_marker(batch)
                if marker is not None:
                    self._shard.end_transaction(marker.producer_id, marker.committed)
                yield
            else:
                producer_id = header.producer_id if header.transactional else NO_PRODUCER_ID
                for record in decode_records(batch, _MAX_DECOMPRESSED):
                    if record.offset >= self.applied:
                        entry = self._decode(record.key, record.value)
                        if entry is not None:
                            self._shard.replay(entry, record.offset, producer_id)
                        self.applied = record.offset + 1
                        self.records += 1
                    yield
            self.applied = header.next_offset

    def catch_up(self, stop: int | None = None) -> None:
        """All of `steps` at once: for the few batches before a marker, and those of failed appends that reached the log."""
        for _ in self.steps(stop):
            pass

    def appended(self, base_offset: int, entries: Sequence[_E], producer_id: int = NO_PRODUCER_ID) -> None:
        """`entries` are committed from `base_offset` on, as a part of a producer's transaction where there is one."""
        self.catch_up(base_offset)
        if base_offset >= self.applied:
            for place, entry in enumerate(entries):
                self._shard.replay(entry, base_offset + place, producer_id)
            self.applied = base_offset + len(entries)
