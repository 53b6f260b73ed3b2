"""Topics in which everything has happened to their logs, the engines that index them, and what a consumer would find there.

A world is made from a seed: a topic of several partitions, segments of 64 KB, blocks of 4 KB. Batches of every codec, with
the producer's time or the broker's, transactions that are committed, aborted or still open; DeleteRecords, retention or
compaction; indexes that lag behind, that lost their tails, that were saved or killed and made anew.

What counts is kept here as it was written, transaction by transaction. Only what compaction took is read back, by the log as
consumers read it, and what it may take at all is checked.

`Engines` are ways to search the same logs (`TIERS`): an engine that never indexes, whose world is all tail, and one with
signatures. Another tier takes its place beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from chronik.log.log import Log, LogConfig
from chronik.log.memory import MemoryDisk
from chronik.model import PartitionId
from chronik.native.scanner import make_scanner
from chronik.search.document import Document
from chronik.search.engine import Engine
from chronik.search.mapping import NO_MAPPING, Mapping
from chronik.search.messages import Follow, Rebuild
from chronik.search.partition_index import PartitionIndex
from chronik.wire.batches import HEADER_BYTES, LOG_APPEND_TIME_BIT, assemble
from chronik.wire.records import Codec, Record, check_produced, encode_batch
from tests.log.batches import end
from tests.log.compacting import compact
from tests.log.test_committed import by_the_log, told
from tests.search.records import NOW

TOPIC, TOPIC_ID = "events", bytes(16)
SEGMENT_BYTES, BLOCK_BYTES = 64 << 10, 4 << 10
TIERS = ("tail", "signatures")
"""The ways to search a world: as one tail that no index covers; by signatures."""

Written = tuple[int, bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]
"""A record to write: timestamp, key, value, headers."""

_SCANNER = make_scanner()
_CODECS = list(Codec)


class _Now:
    """What is to be written elsewhere, written here and now."""

    def __init__(self, job: Callable[[], None]) -> None:
        job()

    def done(self) -> bool:
        return True

    def result(self) -> None:
        return None


class Partition:
    """A log, and what was written to it."""

    def __init__(self, disk: MemoryDisk, number: int, config: LogConfig) -> None:
        self.number = number
        self.log = Log.open(disk, f"/logs/{number}", config, NOW)
        self._disk = disk
        self._written: dict[int, Document] = {}
        self._open: dict[int, list[int]] = {}
        self._producers = 0

    def append(self, records: Sequence[Written], codec: Codec = Codec.NONE, broker_time: int | None = None) -> None:
        """A batch outside of transactions. With `broker_time` that is the time of all of its records."""
        self._append(records, codec, broker_time, -1)

    def transact(self, batches: Iterable[Sequence[Written]], codec: Codec = Codec.NONE) -> int:
        """A transaction that is left open; its producer."""
        self._producers += 1
        producer = self._producers
        self._open[producer] = []
        for records in batches:
            self._append(records, codec, None, producer)
        return producer

    def end(self, producer: int, commit: bool) -> None:
        """End a transaction."""
        end(self.log, producer, commit=commit)
        self.log.producers.committed(self.log.end_offset)
        offsets = self._open.pop(producer)
        if not commit:
            for offset in offsets:
                del self._written[offset]

    @property
    def open(self) -> list[int]:
        """Producers with a transaction."""
        return list(self._open)

    @property
    def stable(self) -> int:
        """The first offset of which it isn't decided whether it counts."""
        return min((offsets[0] for offsets in self._open.values() if offsets), default=self.log.end_offset)

    def counting(self) -> dict[int, Document]:
        """The records that count now, by offset."""
        start, stable = self.log.start_offset, self.stable
        return {offset: record for offset, record in self._written.items() if start <= offset < stable}

    def delete_records(self, offset: int) -> None:
        """Give up what is below."""
        self.log.advance_start(offset)
        self._sweep()

    def expire(self) -> None:
        """Retention: give up the oldest segments that are too much."""
        self.log.delete_oldest(self.log.expired_segments(NOW, self.stable), NOW)
        self._sweep()

    def compact(self, whole: bool) -> None:
        """Compact what can be, the active segment too if `whole`, and note what is left."""
        before = self.counting()
        if whole and self.log.segments[-1].size:
            self.log.roll(NOW)
        self.log.flush()
        compact(self.log, self._disk, NOW, upper=self.stable)
        left = {offset for offset, _ in by_the_log(self.log, 0, self.stable)}
        assert left <= before.keys(), "compaction has brought something back"
        newest = {record.key: offset for offset, record in sorted(before.items())}
        lost = {offset for offset in newest.values() if before[offset].value is not None} - left
        assert not lost, f"compaction took the newest of a key: {lost}"
        for offset in before.keys() - left:
            del self._written[offset]
        self._sweep()

    def _append(self, records: Sequence[Written], codec: Codec, broker_time: int | None, producer: int) -> None:
        records = [(max(timestamp, -1), *rest) for timestamp, *rest in records]  # brokers take no others
        transactional = producer >= 0
        sequence = len(self._open[producer]) if transactional else -1
        batch = encode_batch(
            [Record(delta, *record) for delta, record in enumerate(records)],
            codec=codec,
            producer_id=producer,
            producer_epoch=0 if transactional else -1,
            base_sequence=sequence,
            transactional=transactional,
        )
        header = check_produced(batch)
        if broker_time is not None:
            header = header._replace(attributes=header.attributes | LOG_APPEND_TIME_BIT, max_timestamp=broker_time)
            batch = assemble(header, bytes(batch[HEADER_BYTES:]))
        base = self.log.append(memoryview(batch), check_produced(batch), 0, NOW)
        for delta, (timestamp, key, value, headers) in enumerate(records):
            time = timestamp if broker_time is None else broker_time
            self._written[base + delta] = Document(base + delta, time, key, value, list(headers))
        if transactional:
            self._open[producer] += range(base, base + len(records))

    def _sweep(self) -> None:
        self.log.flush()
        for path in self.log.take_deleted():
            self._disk.remove(path)


class World:
    """A topic, and an engine for each of `TIERS` that follows it."""

    def __init__(self, partitions: int, mapping: Mapping = NO_MAPPING, **config: Any) -> None:
        self.disk = MemoryDisk()
        self.mapping = mapping
        options: dict[str, Any] = {
            "segment_bytes": SEGMENT_BYTES,
            "retention_ms": -1,
            "delete_retention_ms": 0,
            **config,
        }
        self.partitions = [Partition(self.disk, number, LogConfig(**options)) for number in range(partitions)]
        self.engines = {tier: self._engine() for tier in TIERS}
        self._since = {tier: [0] * partitions for tier in TIERS}
        self._truth: list[tuple[int, Document]] | None = None

    def _engine(self) -> Engine:
        return Engine(self.disk, _SCANNER, _Now, _fail, block_bytes=BLOCK_BYTES)

    def follow(self) -> None:
        """Tell the engines how far the logs go."""
        self._truth = None
        for tier, engine in self.engines.items():
            since = self._since[tier]
            for partition in self.partitions:
                number = partition.number
                bounds, aborted = told(partition.log, since[number])
                assert bounds.stable == partition.stable
                since[number] = bounds.stable
                engine.follow(Follow(TOPIC_ID, number, f"/logs/{number}", f"/{tier}/{number}", *bounds, tuple(aborted)))

    def index(self, steps: int) -> None:
        """Let the index go on."""
        for _ in range(steps):
            if not self.engines["signatures"].step():
                return

    def restart(self, saved: bool) -> None:
        """The process that searches ends, in order or not, and another begins."""
        if saved:
            self.engines["signatures"].save()
        self.engines = {tier: self._engine() for tier in TIERS}
        self._since = {tier: [0] * len(self.partitions) for tier in TIERS}
        self.follow()

    def rebuild(self) -> None:
        """Throw the index away."""
        partitions = tuple((TOPIC_ID, each.number) for each in self.partitions)
        self.engines["signatures"].rebuild(Rebuild(partitions))

    def indexes(self) -> list[PartitionIndex]:
        """The indexes of all partitions."""
        engine = self.engines["signatures"]
        found = [engine.index_of(PartitionId(TOPIC_ID, each.number)) for each in self.partitions]
        return [index for index in found if index is not None]

    def truth(self) -> list[tuple[int, Document]]:
        """The records that count, each with its partition, as they were when the engines were told last."""
        if self._truth is None:
            self._truth = [
                (each.number, record) for each in self.partitions for _, record in sorted(each.counting().items())
            ]
        return self._truth


def _fail(line: str) -> None:
    assert "this was asked for" in line, line


def random_world(
    seed: int, values: Callable[[Random], Written], mapping: Mapping = NO_MAPPING, acts: int = 90
) -> World:
    """A world in which so much has happened, with records from `values`."""
    chance = Random(seed)
    config: dict[str, Any] = chance.choice([{}, {"retention_bytes": 100_000}, {"compacted": True}])
    world = World(chance.randrange(1, 4), mapping, **config)

    def records() -> list[Written]:
        several = [values(chance) for _ in range(chance.choice([1, 2, 10, 15, 30]))]
        if "compacted" in config:
            several = [(when, b"k%d" % chance.randrange(40), value, headers) for when, _, value, headers in several]
        return several

    for _ in range(acts):
        act, partition = chance.random(), chance.choice(world.partitions)
        log = partition.log
        if act < 0.60:
            broker_time = NOW - chance.randrange(10**8) if chance.random() < 0.1 else None
            partition.append(records(), chance.choice(_CODECS), broker_time)
        elif act < 0.72:
            producer = partition.transact([records() for _ in range(chance.randrange(1, 3))], chance.choice(_CODECS))
            if chance.random() < 0.7:
                partition.end(producer, chance.random() < 0.5)
        elif act < 0.80:
            if partition.open:
                partition.end(chance.choice(partition.open), chance.random() < 0.5)
        elif act < 0.85:
            if "compacted" in config:
                partition.compact(chance.random() < 0.5)
            else:
                partition.expire()
        elif act < 0.88:
            if chance.random() < 0.5:
                reach = (partition.stable - log.start_offset) // 3
                partition.delete_records(log.start_offset + chance.randrange(reach + 1))
        elif act < 0.90:
            world.restart(saved=chance.random() < 0.5)
        elif act < 0.905:
            world.rebuild()
        elif act < 0.92:
            for index in world.indexes():
                index.drop_tail()
        else:
            world.follow()
            world.index(chance.randrange(40))
    world.follow()
    world.index(chance.randrange(60, 200))
    if "compacted" in config and chance.random() < 0.7:  # of what the index has in its tails, something goes
        for partition in world.partitions:
            partition.compact(whole=True)
        world.follow()
        world.index(chance.randrange(3))
    return world
